/*
 * The generators of each schedule family, for the table in generators.c. Each fills an
 * uninitialised program, or fails with DPR_ERR_MEMORY; the caller has made sure that (P, M) is
 * allowed.
 */
#ifndef DPR_SCHEDULE_FAMILIES_H
#define DPR_SCHEDULE_FAMILIES_H

#include "schedule/program.h"

/* one_way.c: stage s on rank s, micro-batches enter at rank 0 */
dpr_status_t dpr_generate_gpipe(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_1f1b(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_zb1p(int ranks, int micro_batches, dpr_program_t *program);

/* dualpipe.c: two stages on a rank, micro-batches enter at both */
dpr_status_t dpr_generate_dualpipe(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_dualpipev(int ranks, int micro_batches, dpr_program_t *program);

#endif
