/* Memory of each rank: what its stages and the pools of the graph add up to. */
#include "models/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/checked.h"

static const char *const state_names[] = {[DPR_STATE_ADAMW] = "adamw", [DPR_STATE_SGD] = "sgd"};

const char *dpr_state_kind_name(dpr_state_kind_t state)
{
    return state_names[state];
}

static int find_name(const char *const *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            return (int)i;
        }
    }
    return -1;
}

dpr_status_t dpr_state_kind_parse(const char *text, dpr_state_kind_t *state)
{
    const int found = find_name(state_names, 2, text);
    if (found < 0) {
        return dpr_fail(DPR_ERR_INVALID, "optimizer '%s': expected adamw or sgd", text);
    }
    *state = (dpr_state_kind_t)found;
    return DPR_OK;
}

dpr_memory_format_t dpr_memory_format(dpr_dtype_t dtype, dpr_state_kind_t state)
{
    const uint32_t master = dtype == DPR_DTYPE_BF16 ? 4 : 0;
    const uint32_t words = state == DPR_STATE_ADAMW ? 2 : 1;
    return (dpr_memory_format_t){.parameter_bytes = dpr_dtype_bytes(dtype),
                                 .gradient_bytes = dpr_dtype_bytes(dtype),
                                 .optimizer_bytes = 4 * words + master,
                                 .slot_alignment = DPR_MEMORY_SLOT_ALIGNMENT};
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The stages that a rank holds: their parameters, and the slots of its pools. */
typedef struct holding {
    uint64_t saved_slot;
    uint64_t wstate_slot;
    uint64_t parameters;
    int32_t stages;
} holding_t;

static void take_stage(checked_t *checked, const dpr_stage_memory_t *stage, holding_t *holding)
{
    holding->stages++;
    holding->saved_slot = larger(holding->saved_slot, stage->saved_bytes);
    holding->wstate_slot = larger(holding->wstate_slot, stage->wstate_bytes);
    holding->parameters = checked_add(checked, holding->parameters, stage->parameters);
}

/* `seen` [stages] holds, for each stage, the last rank that took it. */
static holding_t find_holding(checked_t *checked, const dpr_graph_t *graph, int32_t rank,
                              const dpr_stage_memory_t *stages, int32_t *seen)
{
    holding_t holding = {0};
    for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        const int32_t both[2] = {node->stage, node->b_stage};
        for (int i = 0; i < 2; i++) {
            if (both[i] >= 0 && seen[both[i]] != rank) {
                seen[both[i]] = rank;
                take_stage(checked, &stages[both[i]], &holding);
            }
        }
    }
    return holding;
}

static void count_pool(checked_t *checked, const dpr_graph_t *graph, const dpr_pool_t *pool,
                       uint64_t slot, dpr_rank_memory_t *memory)
{
    const uint64_t bytes = checked_multiply(checked, slot, (uint64_t)pool->slots);
    uint64_t *sum = &memory->handover_bytes;
    if (pool->kind == DPR_POOL_SAVED) {
        sum = &memory->saved_bytes;
    } else if (pool->kind == DPR_POOL_WSTATE) {
        sum = &memory->wstate_bytes;
    } else if (pool->channel >= 0) {
        const bool sends = graph->channels[pool->channel].source == pool->rank;
        sum = sends ? &memory->send_bytes : &memory->receive_bytes;
    }
    *sum = checked_add(checked, *sum, bytes);
}

static void count_state(checked_t *checked, const holding_t *holding,
                        const dpr_memory_format_t *format, dpr_rank_memory_t *memory)
{
    memory->stages = holding->stages;
    memory->parameters = holding->parameters;
    memory->parameter_bytes =
        checked_multiply(checked, holding->parameters, format->parameter_bytes);
    memory->gradient_bytes = checked_multiply(checked, holding->parameters, format->gradient_bytes);
    memory->optimizer_bytes =
        checked_multiply(checked, holding->parameters, format->optimizer_bytes);
}

static void sum_up(checked_t *checked, dpr_rank_memory_t *memory)
{
    const uint64_t parts[] = {memory->parameter_bytes, memory->gradient_bytes,
                              memory->optimizer_bytes, memory->saved_bytes,
                              memory->wstate_bytes,    memory->handover_bytes,
                              memory->receive_bytes,   memory->send_bytes};
    memory->total_bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        memory->total_bytes = checked_add(checked, memory->total_bytes, parts[i]);
    }
}

/* Largest activation of all stages: a message may come from any of them. */
static uint64_t message_slot(const dpr_graph_t *graph, const dpr_stage_memory_t *stages)
{
    uint64_t largest = 0;
    for (int32_t s = 0; s < graph->stages; s++) {
        largest = larger(largest, stages[s].activation_bytes);
    }
    return largest;
}

/* The bytes of one slot, by kind of pool. */
static void size_slots(checked_t *checked, const holding_t *holding, uint64_t message,
                       uint64_t alignment, uint64_t slot[DPR_POOL_KINDS])
{
    slot[DPR_POOL_ACT] = checked_align(checked, message, alignment);
    slot[DPR_POOL_GRAD] = slot[DPR_POOL_ACT];
    slot[DPR_POOL_SAVED] = checked_align(checked, holding->saved_slot, alignment);
    slot[DPR_POOL_WSTATE] = checked_align(checked, holding->wstate_slot, alignment);
}

dpr_status_t dpr_memory_count(const dpr_graph_t *graph, const dpr_stage_memory_t *stages,
                              const dpr_memory_format_t *format, dpr_rank_memory_t *ranks)
{
    int32_t *seen;
    uint64_t(*slots)[DPR_POOL_KINDS];
    DPR_TRY(dpr_calloc((size_t)graph->stages, sizeof *seen, &seen));
    dpr_status_t status = dpr_calloc((size_t)graph->ranks, sizeof *slots, &slots);
    if (status != DPR_OK) {
        free(seen);
        return status;
    }
    memset(seen, -1, (size_t)graph->stages * sizeof *seen);
    const uint64_t message = message_slot(graph, stages);
    checked_t checked = {false};
    for (int32_t r = 0; r < graph->ranks; r++) {
        ranks[r] = (dpr_rank_memory_t){.peak_activations = dpr_graph_peak_activations(graph, r)};
        const holding_t holding = find_holding(&checked, graph, r, stages, seen);
        count_state(&checked, &holding, format, &ranks[r]);
        size_slots(&checked, &holding, message, format->slot_alignment, slots[r]);
    }
    for (int32_t i = 0; i < graph->pool_count; i++) {
        const dpr_pool_t *pool = &graph->pools[i];
        count_pool(&checked, graph, pool, slots[pool->rank][pool->kind], &ranks[pool->rank]);
    }
    for (int32_t r = 0; r < graph->ranks && !checked.overflow; r++) {
        sum_up(&checked, &ranks[r]);
    }
    free(slots);
    free(seen);
    return checked.overflow
               ? dpr_fail(DPR_ERR_INVALID, "memory: a rank's sum exceeds 2^63 - 1 bytes; the sizes "
                                           "of the model are too large")
               : DPR_OK;
}

int dpr_memory_largest(const dpr_rank_memory_t *ranks, int count)
{
    int largest = 0;
    for (int r = 1; r < count; r++) {
        largest = ranks[r].total_bytes > ranks[largest].total_bytes ? r : largest;
    }
    return largest;
}
