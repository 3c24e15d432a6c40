/* Is the graph free of cycles? Kahn's algorithm; the order it finds is what the simulator walks. */
#include <stdlib.h>

#include "base/memory.h"
#include "schedule/graph_impl.h"

/* The edges out of every node: those into node i are graph->edges, those out of it lead to
 * to[begin[i]] .. to[begin[i + 1] - 1]. */
static void reverse_edges(const dpr_graph_t *graph, int32_t *begin, int32_t *to)
{
    for (int32_t e = 0; e < graph->edge_count; e++) {
        begin[graph->edges[e].from]++;
    }
    int32_t sum = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        sum += begin[n];
        begin[n] = sum; /* the end of its range; filling backwards leaves its begin */
    }
    begin[graph->node_count] = sum;
    for (int32_t n = graph->node_count - 1; n >= 0; n--) {
        for (int32_t e = graph->edge_begin[n + 1] - 1; e >= graph->edge_begin[n]; e--) {
            to[--begin[graph->edges[e].from]] = n;
        }
    }
}

static int32_t kahn(const dpr_graph_t *graph, const int32_t *begin, const int32_t *to,
                    int32_t *waiting, int32_t *order)
{
    int32_t tail = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        waiting[n] = graph->edge_begin[n + 1] - graph->edge_begin[n];
        if (waiting[n] == 0) {
            order[tail++] = n;
        }
    }
    for (int32_t head = 0; head < tail; head++) {
        const int32_t n = order[head];
        for (int32_t e = begin[n]; e < begin[n + 1]; e++) {
            if (--waiting[to[e]] == 0) {
                order[tail++] = to[e];
            }
        }
    }
    return tail;
}

dpr_status_t dpr_graph_sort(const dpr_graph_t *graph, int32_t *order, int32_t *placed)
{
    const size_t nodes = (size_t)graph->node_count;
    int32_t *begin = NULL;
    int32_t *to = NULL;
    int32_t *waiting = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(nodes + 1, sizeof *begin, &begin), free_arrays);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->edge_count, sizeof *to, &to), free_arrays);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *waiting, &waiting), free_arrays);
    reverse_edges(graph, begin, to);
    *placed = kahn(graph, begin, to, waiting, order);
free_arrays:
    free(waiting);
    free(to);
    free(begin);
    return status;
}

dpr_status_t dpr_graph_verify(dpr_graph_t *graph)
{
    int32_t *order;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *order, &order));
    int32_t placed = 0;
    dpr_status_t status = dpr_graph_sort(graph, order, &placed);
    if (status == DPR_OK && placed < graph->node_count) {
        status = dpr_graph_explain(graph, order, placed);
    }
    if (status != DPR_OK) {
        free(order);
        return status;
    }
    free(graph->order);
    graph->order = order;
    return DPR_OK;
}

dpr_status_t dpr_graph_create(const dpr_program_t *program, const dpr_graph_options_t *options,
                              dpr_graph_t **graph)
{
    dpr_graph_t *created;
    int32_t *order;
    DPR_TRY(dpr_graph_lower(program, options, &created, &order));
    created->order = order;
    if (order == NULL) {
        const dpr_status_t status = dpr_graph_verify(created);
        if (status != DPR_OK) {
            dpr_graph_destroy(created);
            return status;
        }
    }
    *graph = created;
    return DPR_OK;
}
