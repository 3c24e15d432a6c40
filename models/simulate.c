/* The simulator: the longest path through the op graph, in topological order. */
#include "models/simulate.h"

#include <assert.h>

static double later(double a, double b)
{
    return a > b ? a : b;
}

/* Inlined into both callers, so that the one without delays pays nothing for them. */
static inline void simulate(const dpr_graph_t *graph, const double *cost, const double *delay_sec,
                            const double *release_sec, dpr_timeline_t *timeline)
{
    assert(graph->order != NULL);
    double *const end = timeline->end;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const int32_t node = graph->order[i];
        /* the sides of a transfer; a compute op has but one, the latest of both */
        double sender = 0.0;
        double receiver = 0.0;
        for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
            const double ready = end[graph->edges[e].from];
            if (graph->edges[e].kind >= DPR_EDGE_RECV_ORDER) {
                receiver = later(receiver, ready);
            } else {
                sender = later(sender, ready);
            }
        }
        if (delay_sec != NULL) {
            sender += delay_sec[node];
            receiver += delay_sec[node];
        }
        if (release_sec != NULL) {
            sender = later(sender, release_sec[node]);
            receiver = later(receiver, release_sec[node]);
        }
        const double start = later(sender, receiver);
        const bool is_transfer = node >= graph->compute_count;
        timeline->sender_ready[node] = is_transfer ? sender : start;
        timeline->receiver_ready[node] = is_transfer ? receiver : start;
        timeline->start[node] = start;
        end[node] = start + cost[node];
    }
}

void dpr_simulate(const dpr_graph_t *graph, const double *cost, dpr_timeline_t *timeline)
{
    simulate(graph, cost, NULL, NULL, timeline);
}

void dpr_simulate_delayed(const dpr_graph_t *graph, const double *cost, const double *delay_sec,
                          const double *release_sec, dpr_timeline_t *timeline)
{
    simulate(graph, cost, delay_sec, release_sec, timeline);
}

double dpr_simulate_makespan(const dpr_graph_t *graph, const double *cost, double *end)
{
    assert(graph->order != NULL);
    double makespan = 0.0;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const int32_t node = graph->order[i];
        double start = 0.0;
        for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
            start = later(start, end[graph->edges[e].from]);
        }
        end[node] = start + cost[node];
        makespan = later(makespan, end[node]);
    }
    return makespan;
}
