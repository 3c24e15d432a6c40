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

/* interleaved.c: stage s on rank s mod P; of 2 stages a rank, or of as many as asked for */
enum { DPR_INTERLEAVED_STAGES_PER_RANK = 2 };
dpr_status_t dpr_generate_interleaved_1f1b(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_interleaved_1f1b_of(int ranks, int micro_batches, int stages_per_rank,
                                              dpr_program_t *program);

/* zero_bubble.c: no rank waits between its first and its last action; zbv has the V placement */
dpr_status_t dpr_generate_zb2p(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_zbv(int ranks, int micro_batches, dpr_program_t *program);

/* controllable.c: the V placement with half and a third of 1f1b's activations */
dpr_status_t dpr_generate_v_half(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_v_min(int ranks, int micro_batches, dpr_program_t *program);

/* chimera.c: two one-way pipelines in opposite directions over the same ranks */
dpr_status_t dpr_generate_chimera(int ranks, int micro_batches, dpr_program_t *program);

/* dualpipe.c: two stages on a rank, micro-batches enter at both */
dpr_status_t dpr_generate_dualpipe(int ranks, int micro_batches, dpr_program_t *program);
dpr_status_t dpr_generate_dualpipev(int ranks, int micro_batches, dpr_program_t *program);

#endif
