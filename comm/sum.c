/*
 * The sum of rows in row order. Block by block, so that the partial sums stay in the first-level
 * cache and `out` may alias a row that comes late in the order.
 */
#include "comm/sum.h"

#include <string.h>

enum { BLOCK = 512 };

size_t dpr_element_bytes(dpr_element_t element)
{
    return element == DPR_ELEMENT_FLOAT ? sizeof(float) : sizeof(double);
}

static void sum_float(const void *const *rows, int row_count, size_t from, size_t count, float *out)
{
    float sum[BLOCK];
    memcpy(sum, (const float *)rows[0] + from, count * sizeof *sum);
    for (int r = 1; r < row_count; r++) {
        const float *row = (const float *)rows[r] + from;
        for (size_t i = 0; i < count; i++) {
            sum[i] += row[i];
        }
    }
    memcpy(out + from, sum, count * sizeof *sum);
}

static void sum_double(const void *const *rows, int row_count, size_t from, size_t count,
                       double *out)
{
    double sum[BLOCK];
    memcpy(sum, (const double *)rows[0] + from, count * sizeof *sum);
    for (int r = 1; r < row_count; r++) {
        const double *row = (const double *)rows[r] + from;
        for (size_t i = 0; i < count; i++) {
            sum[i] += row[i];
        }
    }
    memcpy(out + from, sum, count * sizeof *sum);
}

void dpr_comm_sum_rows(dpr_element_t element, const void *const *rows, int row_count, size_t count,
                       void *out)
{
    for (size_t from = 0; from < count; from += BLOCK) {
        const size_t block = count - from < BLOCK ? count - from : BLOCK;
        if (element == DPR_ELEMENT_FLOAT) {
            sum_float(rows, row_count, from, block, out);
        } else {
            sum_double(rows, row_count, from, block, out);
        }
    }
}
