/* The critical path, walked back from the last end. */
#include "models/critical_path.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

const char *dpr_path_reason_text(int32_t reason)
{
    switch (reason) {
    case DPR_PATH_BEGINS:
        return "begins the step";
    case DPR_EDGE_ORDER:
        return "after the op before it on its rank";
    case DPR_EDGE_DATA:
        return "needs the result before it";
    case DPR_EDGE_SEND_BUFFER:
        return "needs its send buffer";
    case DPR_EDGE_SEND_ORDER:
    case DPR_EDGE_RECV_ORDER:
        return "after the message before it in the channel";
    case DPR_EDGE_RECV_BUFFER:
        return "needs its receive buffer";
    default:
        return "unknown";
    }
}

static int32_t last_node(const dpr_timeline_t *timeline)
{
    int32_t last = -1;
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        if (last < 0 || timeline->end[n] > timeline->end[last]) {
            last = n;
        }
    }
    return last;
}

static const dpr_edge_t *last_edge(const dpr_timeline_t *timeline, int32_t node)
{
    const dpr_graph_t *graph = timeline->graph;
    const dpr_edge_t *last = NULL;
    for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
        const dpr_edge_t *edge = &graph->edges[e];
        if (last == NULL || timeline->end[edge->from] > timeline->end[last->from]) {
            last = edge;
        }
    }
    return last;
}

static void reverse(dpr_critical_path_t *path)
{
    for (size_t i = 0, j = path->count; i + 1 < j; i++) {
        const dpr_path_link_t link = path->links[i];
        path->links[i] = path->links[--j];
        path->links[j] = link;
    }
}

static void add_up(const dpr_timeline_t *timeline, dpr_critical_path_t *path)
{
    for (size_t i = 0; i < path->count; i++) {
        const dpr_path_link_t *link = &path->links[i];
        const bool is_transfer = dpr_node_is_transfer(&timeline->graph->nodes[link->node]);
        *(is_transfer ? &path->wire_sec : &path->compute_sec) += link->spent_sec;
        path->wait_sec += link->wait_sec;
    }
}

dpr_status_t dpr_critical_path_init(const dpr_timeline_t *timeline, dpr_critical_path_t *path)
{
    dpr_critical_path_t found = {0};
    size_t capacity = 0;
    double first = INFINITY;
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        first = fmin(first, timeline->start[n]);
    }
    for (int32_t node = last_node(timeline); node >= 0;) {
        const dpr_edge_t *edge = last_edge(timeline, node);
        const dpr_status_t status =
            dpr_reserve(&found.links, &capacity, found.count + 1, sizeof *found.links);
        if (status != DPR_OK) {
            dpr_critical_path_free(&found);
            return status;
        }
        found.links[found.count++] = (dpr_path_link_t){
            .node = node,
            .reason = edge != NULL ? edge->kind : DPR_PATH_BEGINS,
            .wait_sec = timeline->start[node] - (edge != NULL ? timeline->end[edge->from] : first),
            .spent_sec = timeline->end[node] - timeline->start[node],
        };
        node = edge != NULL ? edge->from : -1;
    }
    reverse(&found);
    add_up(timeline, &found);
    *path = found;
    return DPR_OK;
}

void dpr_critical_path_free(dpr_critical_path_t *path)
{
    free(path->links);
    *path = (dpr_critical_path_t){0};
}
