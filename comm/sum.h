/* The arithmetic of an all-reduce: the sum of equally long rows, in row order, so that it has the
 * same bits wherever and however often it is computed. */
#ifndef DPR_COMM_SUM_H
#define DPR_COMM_SUM_H

#include "comm/comm.h"

size_t dpr_element_bytes(dpr_element_t element);

/* out[i] = ((rows[0][i] + rows[1][i]) + rows[2][i]) + ...; `out` may be one of the rows. */
void dpr_comm_sum_rows(dpr_element_t element, const void *const *rows, int row_count, size_t count,
                       void *out);

#endif
