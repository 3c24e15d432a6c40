/*
 * Whether every rank can have a GPU of its own, and which: ranks may see all GPUs of their node,
 * only one, or any of them (device_choice.h says how GPUs are told apart). Pure functions of what
 * all ranks found, so every rank comes to the same result.
 */
#ifndef DPR_RUNTIME_GPU_SHARES_H
#define DPR_RUNTIME_GPU_SHARES_H

#include "runtime/device_choice.h"

/*
 * Gives every rank a GPU of its own, in the order of ranks: ordinal[count], of the GPUs that each
 * sees. *without is the first rank that has to be left without one, or -1; the ordinals are
 * complete only then. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_gpus_share_out(const dpr_rank_gpus_t *ranks, int count, int *ordinal,
                                int *without);

/* How many different GPUs the ranks on this rank's node see together. */
int dpr_gpus_on_node(const dpr_rank_gpus_t *ranks, int count, int rank);

/* Why this rank is left without a GPU, as part of a sentence. */
void dpr_gpus_describe_shortage(const dpr_rank_gpus_t *ranks, int count, int rank, char *text,
                                size_t size);

#endif
