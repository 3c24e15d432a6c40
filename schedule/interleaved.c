/*
 * interleaved-1f1b: each rank holds v stages, and a micro-batch goes v times round the ranks
 * (Narayanan et al. 2021, Megatron-LM, arXiv 2104.04473, 2.2).
 *
 *     stage s on rank s mod P, S = vP:    rank 0: 0 P 2P ..    rank 1: 1 P+1 2P+1 ..    ...
 *
 * Micro-batches go in groups of P: a rank runs the group through its first stage, then through its
 * second, and so on to its last, then the next group; backwards the same with the stages in reverse
 * order. So the k-th forward of every rank is of stage (k div P) mod v of the rank's own, and the
 * k-th forward of rank r can follow the k-th of rank r-1. Between the first forward of rank r and
 * its first backward it runs 2(P-1-r) + (v-1)P forwards, then one forward and one backward in turn.
 * With v = 1 there is no way round, and P-1-r are enough: that is 1f1b.
 *
 * With F and B the time of a whole rank, its v stages together, and no wire time:
 *
 *     bubble            (P-1)(F+B)/v, exact for all F and B
 *     peak activations  rank r: min(2(P-1-r) + (v-1)P + 1, vM) saved sets of one stage (v > 1); on
 *                       rank 0 that is P + (P-1)/v whole ranks, 1f1b has P
 *     messages          v times those of 1f1b: each of the vP - 1 hand-overs leaves its rank
 */
#include <stdio.h>

#include "schedule/families.h"

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* A rank's k-th forward, or backward: which of its v stages, and which micro-batch. */
static dpr_action_t pass(const dpr_program_t *program, int rank, int v, dpr_action_kind_t kind,
                         int k)
{
    const int P = program->ranks;
    const int chunk = k / P % v;
    const int stage = (kind == DPR_ACTION_F ? chunk : v - 1 - chunk) * P + rank;
    return dpr_action(kind, stage, k / (P * v) * P + k % P);
}

static dpr_status_t append_rank(dpr_program_t *program, int rank, int v)
{
    const int P = program->ranks;
    const int passes = v * program->micro_batches;
    const int ahead = v == 1 ? P - 1 - rank : 2 * (P - 1 - rank) + (v - 1) * P;
    const int warm = min_int(ahead, passes);
    for (int k = 0; k < warm; k++) {
        DPR_TRY(dpr_program_append(program, rank, pass(program, rank, v, DPR_ACTION_F, k)));
    }
    for (int k = 0; k < passes; k++) {
        if (warm + k < passes) {
            DPR_TRY(
                dpr_program_append(program, rank, pass(program, rank, v, DPR_ACTION_F, warm + k)));
        }
        DPR_TRY(dpr_program_append(program, rank, pass(program, rank, v, DPR_ACTION_B, k)));
    }
    return DPR_OK;
}

dpr_status_t dpr_generate_interleaved_1f1b_of(int ranks, int micro_batches, int stages_per_rank,
                                              dpr_program_t *program)
{
    char name[sizeof program->name] = "interleaved-1f1b";
    if (stages_per_rank != DPR_INTERLEAVED_STAGES_PER_RANK) {
        snprintf(name, sizeof name, "interleaved-1f1b:%d", stages_per_rank);
    }
    DPR_TRY(dpr_program_init(program, name, ranks, stages_per_rank * ranks, micro_batches));
    for (int rank = 0; rank < ranks; rank++) {
        const dpr_status_t status = append_rank(program, rank, stages_per_rank);
        if (status != DPR_OK) {
            dpr_program_free(program);
            return status;
        }
    }
    dpr_program_finish(program);
    return DPR_OK;
}

dpr_status_t dpr_generate_interleaved_1f1b(int ranks, int micro_batches, dpr_program_t *program)
{
    return dpr_generate_interleaved_1f1b_of(ranks, micro_batches, DPR_INTERLEAVED_STAGES_PER_RANK,
                                            program);
}
