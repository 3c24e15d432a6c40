/* Lays out a rank's buffer pools in one block. */
#include "runtime/arena.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

/* The largest saved or I-to-W set among the stages that `rank` holds. */
static size_t largest_set(const dpr_graph_t *graph, int rank, const dpr_stage_shape_t *shapes,
                          dpr_pool_kind_t kind)
{
    size_t largest = 0;
    for (int32_t node = graph->rank_begin[rank]; node < graph->rank_begin[rank + 1]; node++) {
        const dpr_stage_shape_t *shape = &shapes[graph->nodes[node].stage];
        const size_t bytes = kind == DPR_POOL_SAVED ? shape->saved_bytes : shape->wstate_bytes;
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static size_t bytes_of_slot(const dpr_graph_t *graph, const dpr_pool_t *pool,
                            const dpr_stage_shape_t *shapes)
{
    switch ((dpr_pool_kind_t)pool->kind) {
    case DPR_POOL_ACT:
    case DPR_POOL_GRAD:
        return shapes[0].activation_bytes;
    case DPR_POOL_SAVED:
    case DPR_POOL_WSTATE:
        break;
    }
    return largest_set(graph, pool->rank, shapes, (dpr_pool_kind_t)pool->kind);
}

dpr_status_t dpr_arena_init(dpr_arena_t *arena, const dpr_graph_t *graph, int rank,
                            const dpr_stage_shape_t *shapes)
{
    dpr_status_t status;
    *arena = (dpr_arena_t){0};
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->pool_count, sizeof(size_t), &arena->pool_offset),
                 free_arena);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->pool_count, sizeof(size_t), &arena->slot_bytes),
                 free_arena);
    for (int32_t i = 0; i < graph->pool_count; i++) {
        const dpr_pool_t *pool = &graph->pools[i];
        if (pool->rank != rank) {
            continue;
        }
        const size_t exact = bytes_of_slot(graph, pool, shapes);
        const size_t slot =
            (exact + DPR_ARENA_ALIGNMENT - 1) / DPR_ARENA_ALIGNMENT * DPR_ARENA_ALIGNMENT;
        size_t pool_bytes;
        arena->pool_offset[i] = arena->bytes;
        arena->slot_bytes[i] = slot;
        if (__builtin_mul_overflow(slot, (size_t)pool->slots, &pool_bytes) ||
            __builtin_add_overflow(arena->bytes, pool_bytes, &arena->bytes)) {
            status = dpr_fail(DPR_ERR_MEMORY,
                              "rank %d: %d buffers of %zu bytes exceed the address space", rank,
                              pool->slots, slot);
            goto free_arena;
        }
    }
    return DPR_OK;

free_arena:
    dpr_arena_free(arena);
    return status;
}

void dpr_arena_free(dpr_arena_t *arena)
{
    free(arena->pool_offset);
    free(arena->slot_bytes);
    *arena = (dpr_arena_t){0};
}

void *dpr_arena_address(const dpr_arena_t *arena, void *base, dpr_buffer_t buffer)
{
    if (buffer.pool < 0) {
        return NULL;
    }
    return (char *)base + arena->pool_offset[buffer.pool] +
           (size_t)buffer.slot * arena->slot_bytes[buffer.pool];
}
