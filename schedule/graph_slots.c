/*
 * Slots of the compute stream's pools.
 *
 * The stream is in order, so a buffer's life is an interval of the rank's program: from the op that
 * writes it to the op that last reads it. Walking the program and always taking the lowest free
 * slot uses as many slots as buffers are ever alive at once, and no edge is needed to keep them
 * apart.
 */
#include "schedule/graph_impl.h"
#include "schedule/heap.h"

typedef struct slots {
    heap_t released;
    int32_t used; /* slots ever taken: the pool's size so far */
} slots_t;

typedef struct walk {
    dpr_graph_t *graph;
    slots_t slots[DPR_POOL_KINDS];
} walk_t;

static void acquire(walk_t *walk, int32_t rank, dpr_pool_kind_t kind, dpr_buffer_t *buffer)
{
    slots_t *slots = &walk->slots[kind];
    buffer->pool = DPR_POOL_KINDS * rank + (int32_t)kind;
    buffer->slot = slots->released.count > 0 ? (int32_t)heap_pop(&slots->released) : slots->used++;
}

/* A buffer of another stream's pool, or one that an op still to come will write (the program has
 * them the wrong way round, and verify will say so), is left alone. */
static dpr_status_t release(walk_t *walk, dpr_pool_kind_t kind, dpr_buffer_t buffer)
{
    if (buffer.slot < 0 || walk->graph->pools[buffer.pool].channel >= 0) {
        return DPR_OK;
    }
    return heap_push(&walk->slots[kind].released, buffer.slot);
}

/* Where `cell` hands `out` over to `next` on the same rank, both name one buffer. */
static void acquire_hand_over(walk_t *walk, dpr_pool_kind_t kind, dpr_cell_t *cell,
                              dpr_buffer_kind_t out, dpr_cell_t *next, dpr_buffer_kind_t in)
{
    if (next->rank == cell->rank) {
        acquire(walk, cell->rank, kind, &cell->buffer[out]);
        next->buffer[in] = cell->buffer[out];
    }
}

static void acquire_part(walk_t *walk, const node_part_t *part)
{
    dpr_graph_t *graph = walk->graph;
    dpr_cell_t *cell = graph_cell(graph, part->stage, part->micro_batch);
    if (part->kind == DPR_NODE_F) {
        acquire(walk, cell->rank, DPR_POOL_SAVED, &cell->buffer[DPR_BUFFER_SAVED]);
        if (part->stage + 1 < graph->stages) {
            acquire_hand_over(walk, DPR_POOL_ACT, cell, DPR_BUFFER_ACT_OUT,
                              graph_cell(graph, part->stage + 1, part->micro_batch),
                              DPR_BUFFER_ACT_IN);
        }
    } else if (part->kind != DPR_NODE_W) {
        acquire(walk, cell->rank, DPR_POOL_WSTATE, &cell->buffer[DPR_BUFFER_WSTATE]);
        if (part->stage > 0) {
            acquire_hand_over(walk, DPR_POOL_GRAD, cell, DPR_BUFFER_GRAD_OUT,
                              graph_cell(graph, part->stage - 1, part->micro_batch),
                              DPR_BUFFER_GRAD_IN);
        }
    }
}

static dpr_status_t release_part(walk_t *walk, int32_t node, const node_part_t *part)
{
    const dpr_cell_t *cell = graph_cell(walk->graph, part->stage, part->micro_batch);
    if (cell_last_reader(cell) != node) {
        return DPR_OK;
    }
    DPR_TRY(release(walk, DPR_POOL_SAVED, cell->buffer[DPR_BUFFER_SAVED]));
    DPR_TRY(release(walk, DPR_POOL_WSTATE, cell->buffer[DPR_BUFFER_WSTATE]));
    DPR_TRY(release(walk, DPR_POOL_ACT, cell->buffer[DPR_BUFFER_ACT_IN]));
    return release(walk, DPR_POOL_GRAD, cell->buffer[DPR_BUFFER_GRAD_IN]);
}

static dpr_status_t walk_rank(walk_t *walk, int32_t rank)
{
    dpr_graph_t *graph = walk->graph;
    for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
        node_part_t parts[2];
        const int count = node_parts(&graph->nodes[n], parts);
        for (int i = 0; i < count; i++) {
            acquire_part(walk, &parts[i]);
        }
        for (int i = 0; i < count; i++) {
            DPR_TRY(release_part(walk, n, &parts[i]));
        }
    }
    for (int kind = 0; kind < DPR_POOL_KINDS; kind++) {
        graph->pools[DPR_POOL_KINDS * rank + kind].slots = walk->slots[kind].used;
        walk->slots[kind].used = 0;
        walk->slots[kind].released.count = 0;
    }
    return DPR_OK;
}

dpr_status_t dpr_graph_assign_slots(dpr_graph_t *graph)
{
    walk_t walk = {.graph = graph};
    dpr_status_t status = DPR_OK;
    for (int32_t rank = 0; rank < graph->ranks && status == DPR_OK; rank++) {
        status = walk_rank(&walk, rank);
    }
    for (int kind = 0; kind < DPR_POOL_KINDS; kind++) {
        heap_free(&walk.slots[kind].released);
    }
    return status;
}
