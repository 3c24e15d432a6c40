/*
 * Shares GPUs out: a bipartite matching of ranks and GPUs (augmenting paths, Kuhn 1955), which
 * gives rank k of a node its k-th GPU where all ranks see all of them.
 */
#include "runtime/gpu_shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { NONE = -1 };

static int gpus_seen(const dpr_rank_gpus_t *rank)
{
    return rank->gpus < DPR_NODE_GPUS_MAX ? rank->gpus : DPR_NODE_GPUS_MAX;
}

static bool same_gpu(const dpr_rank_gpus_t *a, int i, const dpr_rank_gpus_t *b, int j)
{
    return a->node == b->node && strcmp(a->pci[i], b->pci[j]) == 0 &&
           (a->pci[i][0] != '\0' || i == j);
}

/* Who has the GPU that rank `rank` calls `gpu`, or NONE. */
static int owner_of(const dpr_rank_gpus_t *ranks, int count, const int *ordinal, int rank, int gpu)
{
    for (int r = 0; r < count; r++) {
        if (ordinal[r] != NONE && same_gpu(&ranks[rank], gpu, &ranks[r], ordinal[r])) {
            return r;
        }
    }
    return NONE;
}

/* Gives the rank a GPU: a free one, or one whose owner can have another. `asked` marks owners that
 * have been asked already. */
static bool give_gpu(const dpr_rank_gpus_t *ranks, int count, int *ordinal, bool *asked, int rank)
{
    const int gpus = gpus_seen(&ranks[rank]);
    for (int gpu = 0; gpu < gpus; gpu++) {
        if (owner_of(ranks, count, ordinal, rank, gpu) == NONE) {
            ordinal[rank] = gpu;
            return true;
        }
    }
    for (int gpu = 0; gpu < gpus; gpu++) {
        const int owner = owner_of(ranks, count, ordinal, rank, gpu);
        if (!asked[owner]) {
            asked[owner] = true;
            if (give_gpu(ranks, count, ordinal, asked, owner)) {
                ordinal[rank] = gpu;
                return true;
            }
        }
    }
    return false;
}

dpr_status_t dpr_gpus_share_out(const dpr_rank_gpus_t *ranks, int count, int *ordinal, int *without)
{
    bool *asked;
    *without = NONE;
    for (int r = 0; r < count; r++) {
        ordinal[r] = NONE;
    }
    DPR_TRY(dpr_calloc((size_t)count, sizeof *asked, &asked));
    for (int r = 0; r < count && *without == NONE; r++) {
        memset(asked, 0, (size_t)count * sizeof *asked);
        if (!give_gpu(ranks, count, ordinal, asked, r)) {
            *without = r;
        }
    }
    free(asked);
    return DPR_OK;
}

int dpr_gpus_on_node(const dpr_rank_gpus_t *ranks, int count, int rank)
{
    int gpus = 0;
    for (int r = 0; r < count; r++) {
        for (int i = 0; ranks[r].node == ranks[rank].node && i < gpus_seen(&ranks[r]); i++) {
            bool first = true;
            for (int s = 0; s <= r && first; s++) {
                const int end = s < r ? gpus_seen(&ranks[s]) : i;
                for (int j = 0; j < end && first; j++) {
                    first = !same_gpu(&ranks[r], i, &ranks[s], j);
                }
            }
            gpus += first ? 1 : 0;
        }
    }
    return gpus;
}

void dpr_gpus_describe_shortage(const dpr_rank_gpus_t *ranks, int count, int rank, char *text,
                                size_t size)
{
    const int gpus = dpr_gpus_on_node(ranks, count, rank);
    const int size_of_node = ranks[rank].node_size;
    if (gpus < size_of_node) {
        snprintf(text, size, "the %d ranks on the node of rank %d see %d GPU%s between them",
                 size_of_node, rank, gpus, gpus == 1 ? "" : "s");
    } else {
        snprintf(text, size,
                 "rank %d sees only GPUs that other ranks of its node need (%d of the %d there, "
                 "the first at %s)",
                 rank, ranks[rank].gpus, gpus, ranks[rank].pci[0]);
    }
}
