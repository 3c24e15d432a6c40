/* See naive_simulator.h. Slow on purpose: nothing is remembered that can be looked up. */
#include "tests/models/naive_simulator.h"

#include <math.h>
#include <stdlib.h>

typedef struct inputs {
    bool activation;
    bool gradient;
} inputs_t;

typedef struct naive {
    const dpr_program_t *program;
    const dpr_graph_t *graph;
    const double *cost;
    double *start;
    double *end;
    double now;

    size_t *next_action;   /* [rank]: position in its list */
    int32_t *rank_runs;    /* [rank]: node that runs, or -1 */
    int32_t *next_message; /* [channel] */
    int32_t *channel_runs; /* [channel]: node under way, or -1 */
    bool *produced;        /* [node]: of a transfer, its message lies in the send buffer */
    inputs_t *has;         /* [cell]: what has arrived */
    bool **taken;          /* [pool][slot], of the channels' pools */
} naive_t;

static int cell_index(const naive_t *naive, int stage, int micro_batch)
{
    return stage * naive->program->micro_batches + micro_batch;
}

static bool *slot_of(const naive_t *naive, const dpr_cell_t *cell, dpr_buffer_kind_t kind)
{
    const dpr_buffer_t buffer = cell->buffer[kind];
    return buffer.pool >= 0 && naive->graph->pools[buffer.pool].channel >= 0
               ? &naive->taken[buffer.pool][buffer.slot]
               : NULL;
}

static bool is_free(const bool *slot)
{
    return slot == NULL || !*slot;
}

static void set_taken(bool *slot, bool taken)
{
    if (slot != NULL) {
        *slot = taken;
    }
}

static dpr_buffer_kind_t output_kind(dpr_action_t half)
{
    return half.kind == DPR_ACTION_F ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT;
}

static bool half_can_start(const naive_t *naive, dpr_action_t half)
{
    if (half.kind == DPR_ACTION_W) {
        return true; /* its I was checked to stand before it */
    }
    const int index = cell_index(naive, half.stage, half.micro_batch);
    const bool has_input =
        half.kind == DPR_ACTION_F
            ? half.stage == 0 || naive->has[index].activation
            : half.stage == naive->program->stages - 1 || naive->has[index].gradient;
    return has_input && is_free(slot_of(naive, &naive->graph->cells[index], output_kind(half)));
}

static bool start_action(naive_t *naive, int rank)
{
    const dpr_program_t *program = naive->program;
    const size_t at = program->begin[rank] + naive->next_action[rank];
    if (naive->rank_runs[rank] >= 0 || at == program->begin[rank + 1]) {
        return false;
    }
    dpr_action_t halves[2];
    const int count = dpr_action_halves(program->actions[at], halves);
    for (int i = 0; i < count; i++) {
        if (!half_can_start(naive, halves[i])) {
            return false;
        }
    }
    for (int i = 0; i < count; i++) {
        if (halves[i].kind != DPR_ACTION_W) {
            const int index = cell_index(naive, halves[i].stage, halves[i].micro_batch);
            set_taken(slot_of(naive, &naive->graph->cells[index], output_kind(halves[i])), true);
        }
    }
    naive->next_action[rank]++;
    naive->rank_runs[rank] = (int32_t)at; /* compute nodes are numbered as the actions */
    naive->start[at] = naive->now;
    naive->end[at] = naive->now + naive->cost[at];
    return true;
}

static const dpr_cell_t *consumer_of(const naive_t *naive, const dpr_node_t *node)
{
    const int stage = node->kind == DPR_NODE_SEND_ACT ? node->stage + 1 : node->stage - 1;
    return &naive->graph->cells[cell_index(naive, stage, node->micro_batch)];
}

static bool start_transfer(naive_t *naive, int c)
{
    const dpr_graph_t *graph = naive->graph;
    const dpr_channel_t *channel = &graph->channels[c];
    if (naive->channel_runs[c] >= 0 || naive->next_message[c] == channel->count) {
        return false;
    }
    const int32_t at = channel->first + naive->next_message[c];
    const int32_t node = graph->send_messages[at];
    bool *slot =
        slot_of(naive, consumer_of(naive, &graph->nodes[node]),
                channel->kind == DPR_NODE_SEND_ACT ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN);
    if (graph->recv_messages[at] != node || !naive->produced[node] || !is_free(slot)) {
        return false;
    }
    set_taken(slot, true);
    naive->next_message[c]++;
    naive->channel_runs[c] = node;
    naive->start[node] = naive->now;
    naive->end[node] = naive->now + naive->cost[node];
    return true;
}

static void deliver(naive_t *naive, int stage, int micro_batch, bool is_activation)
{
    inputs_t *has = &naive->has[cell_index(naive, stage, micro_batch)];
    *(is_activation ? &has->activation : &has->gradient) = true;
}

/* Hands a half's output to the next stage, on this rank or through its send buffer. */
static void finish_half(naive_t *naive, dpr_action_t half, bool forward_only)
{
    const dpr_cell_t *cells = naive->graph->cells;
    const dpr_cell_t *cell = &cells[cell_index(naive, half.stage, half.micro_batch)];
    if (half.kind != DPR_ACTION_W) {
        const bool is_forward = half.kind == DPR_ACTION_F;
        const int next = is_forward ? half.stage + 1 : half.stage - 1;
        if (next >= 0 && next < naive->program->stages) {
            if (cells[cell_index(naive, next, half.micro_batch)].rank == cell->rank) {
                deliver(naive, next, half.micro_batch, is_forward);
            } else {
                naive->produced[is_forward ? cell->send_act : cell->send_grad] = true;
            }
        }
    }
    if (forward_only || half.kind == DPR_ACTION_W || half.kind == DPR_ACTION_B) {
        set_taken(slot_of(naive, cell, DPR_BUFFER_ACT_IN), false);
        set_taken(slot_of(naive, cell, DPR_BUFFER_GRAD_IN), false);
    }
}

static void finish_due(naive_t *naive, bool forward_only)
{
    const dpr_graph_t *graph = naive->graph;
    for (int r = 0; r < graph->ranks; r++) {
        const int32_t node = naive->rank_runs[r];
        if (node >= 0 && naive->end[node] <= naive->now) {
            dpr_action_t halves[2];
            const int count = dpr_action_halves(naive->program->actions[node], halves);
            for (int i = 0; i < count; i++) {
                finish_half(naive, halves[i], forward_only);
            }
            naive->rank_runs[r] = -1;
        }
    }
    for (int c = 0; c < graph->channel_count; c++) {
        const int32_t index = naive->channel_runs[c];
        if (index >= 0 && naive->end[index] <= naive->now) {
            const dpr_node_t *node = &graph->nodes[index];
            const bool is_activation = node->kind == DPR_NODE_SEND_ACT;
            deliver(naive, is_activation ? node->stage + 1 : node->stage - 1, node->micro_batch,
                    is_activation);
            set_taken(slot_of(naive,
                              &graph->cells[cell_index(naive, node->stage, node->micro_batch)],
                              is_activation ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT),
                      false);
            naive->channel_runs[c] = -1;
        }
    }
}

static bool start_all(naive_t *naive)
{
    bool started = false;
    for (int r = 0; r < naive->graph->ranks; r++) {
        started = start_action(naive, r) || started;
    }
    for (int c = 0; c < naive->graph->channel_count; c++) {
        started = start_transfer(naive, c) || started;
    }
    return started;
}

/* The next time at which something ends, or INFINITY. */
static double next_end(const naive_t *naive)
{
    double next = INFINITY;
    for (int r = 0; r < naive->graph->ranks; r++) {
        if (naive->rank_runs[r] >= 0) {
            next = fmin(next, naive->end[naive->rank_runs[r]]);
        }
    }
    for (int c = 0; c < naive->graph->channel_count; c++) {
        if (naive->channel_runs[c] >= 0) {
            next = fmin(next, naive->end[naive->channel_runs[c]]);
        }
    }
    return next;
}

static void play(naive_t *naive)
{
    const bool forward_only = dpr_program_is_forward_only(naive->program);
    for (;;) {
        while (start_all(naive)) {
        }
        const double next = next_end(naive);
        if (isinf(next)) {
            return;
        }
        naive->now = next;
        finish_due(naive, forward_only);
    }
}

bool naive_simulate(const dpr_program_t *program, const dpr_graph_t *graph, const double *cost,
                    double *start, double *end)
{
    const size_t ranks = (size_t)graph->ranks;
    const size_t channels = (size_t)graph->channel_count;
    naive_t naive = {.program = program, .graph = graph, .cost = cost, .start = start, .end = end};
    naive.next_action = calloc(ranks, sizeof *naive.next_action);
    naive.rank_runs = calloc(ranks, sizeof *naive.rank_runs);
    naive.next_message = calloc(channels + 1, sizeof *naive.next_message);
    naive.channel_runs = calloc(channels + 1, sizeof *naive.channel_runs);
    naive.produced = calloc((size_t)graph->node_count, sizeof *naive.produced);
    naive.has = calloc((size_t)(graph->stages * graph->micro_batches), sizeof *naive.has);
    naive.taken = calloc((size_t)graph->pool_count + 1, sizeof *naive.taken);
    for (int p = 0; p < graph->pool_count; p++) {
        naive.taken[p] = calloc((size_t)graph->pools[p].slots + 1, sizeof(bool));
    }
    for (size_t r = 0; r < ranks; r++) {
        naive.rank_runs[r] = -1;
    }
    for (size_t c = 0; c < channels; c++) {
        naive.channel_runs[c] = -1;
    }
    for (int n = 0; n < graph->node_count; n++) {
        start[n] = end[n] = NAN;
    }
    play(&naive);
    bool all = true;
    for (int n = 0; n < graph->node_count; n++) {
        all = all && !isnan(end[n]);
    }
    free(naive.next_action);
    free(naive.rank_runs);
    free(naive.next_message);
    free(naive.channel_runs);
    free(naive.produced);
    free(naive.has);
    for (int p = 0; p < graph->pool_count; p++) {
        free(naive.taken[p]);
    }
    free(naive.taken);
    return all;
}
