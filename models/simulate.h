/*
 * The simulator: with costs on the nodes, the predicted timeline is the longest path through the op
 * graph. One pass in topological order, O(nodes + edges).
 */
#ifndef DPR_MODELS_SIMULATE_H
#define DPR_MODELS_SIMULATE_H

#include "schedule/timeline.h"

/*
 * Fills `timeline` (initialised for `graph`, which dpr_graph_verify has accepted) from cost[node].
 * Every node starts as soon as the last of its edges allows. Allocates nothing.
 */
void dpr_simulate(const dpr_graph_t *graph, const double *cost, dpr_timeline_t *timeline);

/*
 * The same where a node, or an end of a transfer, is ready delay_sec[node] after the last of its
 * edges and not before release_sec[node]: machines that take
 * time to begin, and hosts that enqueue one op after another. Either may be NULL.
 */
void dpr_simulate_delayed(const dpr_graph_t *graph, const double *cost, const double *delay_sec,
                          const double *release_sec, dpr_timeline_t *timeline);

/*
 * The makespan alone, with the end times in `end` (room for node_count): the fast path of searches.
 */
double dpr_simulate_makespan(const dpr_graph_t *graph, const double *cost, double *end);

#endif
