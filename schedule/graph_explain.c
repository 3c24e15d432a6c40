/*
 * The counterexample: a short cycle of the op graph, in words.
 *
 * Following edges backwards from any node that could not be ordered ends in a cycle. From a node on
 * it the cycle with the fewest LINES is searched: a run of ORDER edges is one line ("5 actions
 * before it"), however long, and so is a run along a channel. So states are (node, the kind of run
 * it was reached in), an edge that goes on with the run costs 0, any other 1, and the search goes
 * cost by cost. It is repeated from the nodes of the cycle found, since a shorter one may touch it.
 */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/graph_impl.h"

enum { RUNS = 3, LINES_MAX = 24, SEARCHES_MAX = 16 };

/* One step: `node` waits for `from`, by an edge of that kind, or a run of `length` such edges. */
typedef struct step {
    int32_t node;
    int32_t from;
    int32_t kind;
    int32_t length;
} step_t;

typedef struct cycle {
    step_t steps[LINES_MAX];
    int32_t count; /* of all steps; those from LINES_MAX on are not kept */
} cycle_t;

typedef struct search {
    const dpr_graph_t *graph;
    uint8_t *left;      /* [node]: could not be ordered */
    int32_t *cost;      /* [node * RUNS + run] */
    int32_t *parent;    /* the state it was reached from */
    uint8_t *by;        /* the kind of edge it was reached by */
    int32_t *stacks[2]; /* states of the cost at hand, and of the next */
} search_t;

/* The run that an edge belongs to: 1 ORDER or SEND_ORDER, 2 RECV_ORDER, 0 none. */
static int run_of(int32_t kind)
{
    switch (kind) {
    case DPR_EDGE_ORDER:
    case DPR_EDGE_SEND_ORDER:
        return 1;
    case DPR_EDGE_RECV_ORDER:
        return 2;
    default:
        return 0;
    }
}

static void search_free(search_t *search)
{
    free(search->left);
    free(search->cost);
    free(search->parent);
    free(search->by);
    free(search->stacks[0]);
    free(search->stacks[1]);
}

static dpr_status_t search_init(search_t *search, const dpr_graph_t *graph, const int32_t *order,
                                int32_t placed)
{
    const size_t nodes = (size_t)graph->node_count;
    const size_t states = RUNS * nodes;
    *search = (search_t){.graph = graph};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *search->left, &search->left), free_search);
    DPR_TRY_GOTO(dpr_calloc(states, sizeof *search->cost, &search->cost), free_search);
    DPR_TRY_GOTO(dpr_calloc(states, sizeof *search->parent, &search->parent), free_search);
    DPR_TRY_GOTO(dpr_calloc(states, sizeof *search->by, &search->by), free_search);
    DPR_TRY_GOTO(dpr_calloc(states, sizeof(int32_t), &search->stacks[0]), free_search);
    DPR_TRY_GOTO(dpr_calloc(states, sizeof(int32_t), &search->stacks[1]), free_search);
    memset(search->left, 1, nodes);
    for (int32_t i = 0; i < placed; i++) {
        search->left[order[i]] = 0;
    }
    return DPR_OK;
free_search:
    search_free(search);
    return status;
}

/* A node on a cycle: every node left over has an edge from another one left over. */
static int32_t find_node_on_cycle(search_t *search)
{
    const dpr_graph_t *graph = search->graph;
    uint8_t *seen = search->by; /* not yet in use */
    int32_t node = 0;
    while (!search->left[node]) {
        node++;
    }
    while (!seen[node]) {
        seen[node] = 1;
        int32_t e = graph->edge_begin[node];
        while (!search->left[graph->edges[e].from]) {
            e++;
            assert(e < graph->edge_begin[node + 1]);
        }
        node = graph->edges[e].from;
    }
    return node;
}

/* Where a search stands. `closing` is the last state of the best cycle so far. */
typedef struct frontier {
    int32_t *now;
    int32_t *next;
    int32_t now_count;
    int32_t next_count;
    int32_t best;
    int32_t closing;
    uint8_t closing_by;
} frontier_t;

static void relax(search_t *search, frontier_t *frontier, int32_t start, int32_t state,
                  const dpr_edge_t *edge)
{
    const int run = run_of(edge->kind);
    const int32_t step = run != 0 && run == state % RUNS ? 0 : 1;
    const int32_t cost = search->cost[state] + step;
    if (edge->from == start) {
        if (cost < frontier->best) {
            frontier->best = cost;
            frontier->closing = state;
            frontier->closing_by = (uint8_t)edge->kind;
        }
        return;
    }
    const int32_t to = edge->from * RUNS + run;
    if (cost < search->cost[to]) {
        search->cost[to] = cost;
        search->parent[to] = state;
        search->by[to] = (uint8_t)edge->kind;
        if (step == 0) {
            frontier->now[frontier->now_count++] = to;
        } else {
            frontier->next[frontier->next_count++] = to;
        }
    }
}

/* Finds the cheapest cycle through `start` of a cost below `bound`; false where there is none. */
static bool find_cycle(search_t *search, int32_t start, int32_t bound, frontier_t *frontier)
{
    const dpr_graph_t *graph = search->graph;
    for (int32_t i = 0; i < RUNS * graph->node_count; i++) {
        search->cost[i] = INT32_MAX;
    }
    *frontier = (frontier_t){
        .now = search->stacks[0], .next = search->stacks[1], .best = bound, .closing = -1};
    const int32_t first = start * RUNS;
    search->cost[first] = 0;
    search->parent[first] = -1;
    frontier->now[frontier->now_count++] = first;
    for (int32_t cost = 0; cost < frontier->best && frontier->now_count > 0; cost++) {
        while (frontier->now_count > 0) {
            const int32_t state = frontier->now[--frontier->now_count];
            if (search->cost[state] < cost) {
                continue; /* reached more cheaply since */
            }
            const int32_t node = state / RUNS;
            for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
                if (search->left[graph->edges[e].from]) {
                    relax(search, frontier, start, state, &graph->edges[e]);
                }
            }
        }
        int32_t *const done = frontier->now;
        frontier->now = frontier->next;
        frontier->now_count = frontier->next_count;
        frontier->next = done;
        frontier->next_count = 0;
    }
    return frontier->closing >= 0;
}

static void push_edge(cycle_t *cycle, int32_t node, int32_t from, int32_t kind)
{
    step_t *last =
        cycle->count > 0 && cycle->count <= LINES_MAX ? &cycle->steps[cycle->count - 1] : NULL;
    if (last != NULL && last->kind == kind && run_of(kind) != 0) {
        last->node = node;
        last->length++;
        return;
    }
    if (cycle->count < LINES_MAX) {
        cycle->steps[cycle->count] = (step_t){node, from, kind, 1};
    }
    cycle->count++;
}

/* Reads the cycle off the parents, last edge first. */
static void read_cycle(const search_t *search, int32_t start, const frontier_t *frontier,
                       cycle_t *cycle)
{
    cycle->count = 0;
    int32_t from = start;
    int32_t kind = frontier->closing_by;
    for (int32_t state = frontier->closing; state >= 0; state = search->parent[state]) {
        push_edge(cycle, state / RUNS, from, kind);
        from = state / RUNS;
        kind = search->by[state];
    }
    if (cycle->count > 1 && cycle->count <= LINES_MAX) {
        step_t *first = &cycle->steps[cycle->count - 1];
        step_t *last = &cycle->steps[0];
        if (first->kind == last->kind && run_of(first->kind) != 0) {
            last->from = first->from; /* one run, in the middle of which the search began */
            last->length += first->length;
            cycle->count--;
        }
    }
}

static void find_shortest(search_t *search, cycle_t *cycle)
{
    int32_t tried[SEARCHES_MAX];
    int32_t tries = 0;
    int32_t bound = INT32_MAX;
    int32_t start = find_node_on_cycle(search);
    while (start >= 0) {
        frontier_t frontier;
        if (find_cycle(search, start, bound, &frontier)) {
            bound = frontier.best;
            read_cycle(search, start, &frontier, cycle);
        }
        tried[tries++] = start;
        start = -1;
        for (int32_t i = 0; i < cycle->count && i < LINES_MAX && tries < SEARCHES_MAX; i++) {
            bool is_new = true;
            for (int32_t j = 0; j < tries; j++) {
                is_new = is_new && tried[j] != cycle->steps[i].node;
            }
            if (is_new) {
                start = cycle->steps[i].node;
                break;
            }
        }
    }
}

/* "1W0", "1F3": what a compute op does to one cell. */
static void format_part(const node_part_t *part, char *text, size_t size)
{
    dpr_action_format(dpr_action((dpr_action_kind_t)part->kind, part->stage, part->micro_batch),
                      text, size);
}

char *dpr_node_format(const dpr_graph_t *graph, int32_t index, char *text, size_t size)
{
    const dpr_node_t *node = &graph->nodes[index];
    char action[48];
    if (!dpr_node_is_transfer(node)) {
        const dpr_action_t whole = {(dpr_action_kind_t)node->kind, node->stage, node->micro_batch,
                                    node->b_stage, node->b_micro_batch};
        dpr_action_format(whole, action, sizeof action);
        snprintf(text, size, "rank %d: %s", node->rank, action);
        return text;
    }
    const bool is_act = node->kind == DPR_NODE_SEND_ACT;
    node_part_t producer = {DPR_NODE_F, node->stage, node->micro_batch};
    if (!is_act) {
        const dpr_cell_t *cell = graph_cell(graph, node->stage, node->micro_batch);
        producer.kind = graph->nodes[cell->backward].kind == DPR_NODE_I ? DPR_NODE_I : DPR_NODE_B;
    }
    format_part(&producer, action, sizeof action);
    snprintf(text, size, "rank %d -> %d: %s of %s", node->rank, node->peer,
             is_act ? "activation" : "gradient", action);
    return text;
}

static void format_data(const dpr_graph_t *graph, const step_t *step, char *text, size_t size)
{
    if (dpr_node_is_transfer(&graph->nodes[step->node])) {
        snprintf(text, size, "which produces it");
    } else if (dpr_node_is_transfer(&graph->nodes[step->from])) {
        snprintf(text, size, "its input");
    } else {
        snprintf(text, size, "its input, which the rank's own list has only later");
    }
}

static void format_order(const step_t *step, const char *what, char *text, size_t size)
{
    if (step->length == 1) {
        snprintf(text, size, "the %s before it", what);
    } else {
        snprintf(text, size, "%d %ss before it", step->length, what);
    }
}

/* "rank 0 sends it after that one": a run of messages of a channel. */
static void format_posted(const step_t *step, int32_t rank, const char *posts, char *text,
                          size_t size)
{
    if (step->length == 1) {
        snprintf(text, size, "rank %d %s it after that one", rank, posts);
    } else {
        snprintf(text, size, "rank %d %s it %d messages after that one", rank, posts, step->length);
    }
}

static void format_recv_buffer(const dpr_graph_t *graph, const step_t *step, char *text,
                               size_t size)
{
    const dpr_node_t *node = &graph->nodes[step->node];
    const dpr_node_t *reader = &graph->nodes[step->from];
    const dpr_buffer_kind_t kind =
        node->kind == DPR_NODE_SEND_ACT ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN;
    char action[96];
    dpr_node_format(graph, step->from, action, sizeof action);
    snprintf(text, size, "receive buffer: rank %d must first run %s, which frees slot %d of %d",
             reader->rank, strchr(action, ':') + 2, graph_consumer(graph, node)->buffer[kind].slot,
             graph->channels[node->channel].recv_slots);
}

static void format_send_buffer(const dpr_graph_t *graph, const step_t *step, char *text,
                               size_t size)
{
    const dpr_node_t *transfer = &graph->nodes[step->from];
    const dpr_buffer_kind_t kind =
        transfer->kind == DPR_NODE_SEND_ACT ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT;
    snprintf(text, size, "send buffer: its output needs slot %d of %d, which that transfer frees",
             graph_cell(graph, transfer->stage, transfer->micro_batch)->buffer[kind].slot,
             graph->channels[transfer->channel].send_slots);
}

static void format_reason(const dpr_graph_t *graph, const step_t *step, char *text, size_t size)
{
    const dpr_node_t *node = &graph->nodes[step->node];
    switch ((dpr_edge_kind_t)step->kind) {
    case DPR_EDGE_ORDER:
        format_order(step, "action", text, size);
        break;
    case DPR_EDGE_DATA:
        format_data(graph, step, text, size);
        break;
    case DPR_EDGE_SEND_BUFFER:
        format_send_buffer(graph, step, text, size);
        break;
    case DPR_EDGE_SEND_ORDER:
        format_posted(step, node->rank, "sends", text, size);
        break;
    case DPR_EDGE_RECV_ORDER:
        format_posted(step, node->peer, "receives", text, size);
        break;
    case DPR_EDGE_RECV_BUFFER:
        format_recv_buffer(graph, step, text, size);
        break;
    }
}

/* What to change, by the kinds of waits in the circle. */
static const char *advice(const cycle_t *cycle)
{
    bool kinds[DPR_EDGE_RECV_BUFFER + 1] = {false};
    for (int32_t i = 0; i < cycle->count && i < LINES_MAX; i++) {
        kinds[cycle->steps[i].kind] = true;
    }
    if (kinds[DPR_EDGE_SEND_ORDER] && kinds[DPR_EDGE_RECV_ORDER]) {
        return "post the messages of a channel in the same order at both ends";
    }
    if (kinds[DPR_EDGE_RECV_BUFFER] || kinds[DPR_EDGE_SEND_BUFFER]) {
        return "give the channels more slots, or let the schedule decide (recv_slots and "
               "send_slots "
               "0)";
    }
    return "change the order of the actions of one of these ranks";
}

/* Steps were found last edge first; starting at the op whose wait is plainest reads best. */
static int32_t first_line(const dpr_graph_t *graph, const cycle_t *cycle)
{
    for (int32_t i = 0; i < cycle->count && i < LINES_MAX; i++) {
        if (cycle->steps[i].kind == DPR_EDGE_DATA &&
            !dpr_node_is_transfer(&graph->nodes[cycle->steps[i].node])) {
            return i;
        }
    }
    return 0;
}

static void log_cycle(const dpr_graph_t *graph, const cycle_t *cycle)
{
    char message[LINES_MAX * 256];
    size_t used = (size_t)snprintf(message, sizeof message,
                                   "the program would deadlock; these wait for each other:");
    const int32_t kept = cycle->count < LINES_MAX ? cycle->count : LINES_MAX;
    const int32_t first = first_line(graph, cycle);
    for (int32_t i = 0; i < kept; i++) {
        const step_t *step = &cycle->steps[(first - i + kept) % kept];
        char node[96];
        char from[96];
        char reason[128];
        dpr_node_format(graph, step->node, node, sizeof node);
        dpr_node_format(graph, step->from, from, sizeof from);
        format_reason(graph, step, reason, sizeof reason);
        if (used < sizeof message) {
            used += (size_t)snprintf(message + used, sizeof message - used,
                                     "\n  %s waits for %s (%s)", node, from, reason);
        }
    }
    if (cycle->count > kept && used < sizeof message) {
        snprintf(message + used, sizeof message - used, "\n  ... and %d more steps",
                 cycle->count - kept);
    }
    dpr_fail(DPR_ERR_DEADLOCK, "%s\nto break the circle, %s", message, advice(cycle));
}

dpr_status_t dpr_graph_explain(const dpr_graph_t *graph, const int32_t *order, int32_t placed)
{
    search_t search;
    DPR_TRY(search_init(&search, graph, order, placed));
    cycle_t cycle;
    find_shortest(&search, &cycle);
    log_cycle(graph, &cycle);
    search_free(&search);
    return DPR_ERR_DEADLOCK;
}
