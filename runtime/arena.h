/*
 * The arena: where every buffer of a graph lies in one block of device memory.
 *
 *     | pool 0: slot 0 | slot 1 | ... | pool 1: slot 0 | ...        one rank's pools, back to back
 *
 * The graph says how many slots each pool has (exact liveness, schedule/graph.h), the stages how
 * large a slot is; so the peak is known before anything is allocated, and nothing is allocated
 * afterwards.
 */
#ifndef DPR_RUNTIME_ARENA_H
#define DPR_RUNTIME_ARENA_H

#include "kernels/stage.h"
#include "schedule/graph.h"

/* Slots start at multiples of this many bytes. */
#define DPR_ARENA_ALIGNMENT 256

typedef struct dpr_arena {
    size_t bytes;        /* of the whole block */
    size_t *pool_offset; /* [pool_count]: of slot 0; meaningful for this rank's pools */
    size_t *slot_bytes;  /* [pool_count]: from one slot to the next */
} dpr_arena_t;

/*
 * Lays out `rank`'s pools of `graph`; shapes[s] is stage s. Release with dpr_arena_free.
 * Errors: DPR_ERR_MEMORY, also where the sum overflows.
 */
dpr_status_t dpr_arena_init(dpr_arena_t *arena, const dpr_graph_t *graph, int rank,
                            const dpr_stage_shape_t *shapes);
void dpr_arena_free(dpr_arena_t *arena);

/* The buffer's address in the block at `base`; NULL where the cell has no such buffer. */
void *dpr_arena_address(const dpr_arena_t *arena, void *base, dpr_buffer_t buffer);

#endif
