/* Draws costs and simulates. */
#include "runtime/predict.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "models/simulate.h"

dpr_status_t dpr_durations_init(const dpr_graph_t *graph, int steps, dpr_durations_t *durations)
{
    const size_t count = (size_t)steps * (size_t)graph->node_count;
    *durations = (dpr_durations_t){.graph = graph, .steps = steps};
    DPR_TRY(dpr_calloc(count, sizeof *durations->sec, &durations->sec));
    const dpr_status_t status =
        dpr_calloc(count, sizeof *durations->delay_sec, &durations->delay_sec);
    if (status != DPR_OK) {
        dpr_durations_free(durations);
    }
    return status;
}

void dpr_durations_take(dpr_durations_t *durations, int step, const dpr_timeline_t *timeline)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t row = (size_t)step * (size_t)graph->node_count;
    for (int32_t n = 0; n < graph->node_count; n++) {
        double ready = 0.0; /* the step's first start */
        for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
            ready = fmax(ready, timeline->end[graph->edges[e].from]);
        }
        durations->sec[row + (size_t)n] = fmax(timeline->end[n] - timeline->start[n], 0.0);
        durations->delay_sec[row + (size_t)n] = fmax(timeline->start[n] - ready, 0.0);
    }
}

void dpr_durations_free(dpr_durations_t *durations)
{
    free(durations->sec);
    free(durations->delay_sec);
    *durations = (dpr_durations_t){0};
}

/*
 * One draw. Each rank takes its ops and transfers as they were in one calibration step, drawn for
 * it alone, all of them in their places: what disturbs an op (another process, a cold cache)
 * disturbs its neighbours too, and what an op finds in the caches depends on where it stands in the
 * step, so costs that were shuffled among ops of a kind would average both away.
 */
static void draw_costs(const dpr_durations_t *durations, uint64_t seed, uint64_t draw, double *cost,
                       double *delay_sec)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    for (size_t n = 0; n < nodes; n++) {
        const uint64_t rank = (uint64_t)graph->nodes[n].rank;
        const size_t step = (size_t)(dpr_random_uniform(seed, draw, rank) * durations->steps);
        cost[n] = durations->sec[step * nodes + n];
        delay_sec[n] = durations->delay_sec[step * nodes + n];
    }
}

dpr_status_t dpr_predict(const dpr_durations_t *durations, int draws, uint64_t seed,
                         dpr_measurement_t *prediction, double *typical_cost,
                         double *typical_delay_sec)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    double *cost = NULL;
    double *delay_sec = NULL;
    dpr_timeline_t timeline = {0};
    dpr_step_sample_t *samples = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *cost, &cost), free_draws);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *delay_sec, &delay_sec), free_draws);
    DPR_TRY_GOTO(dpr_timeline_init(&timeline, graph), free_draws);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks * (size_t)draws, sizeof *samples, &samples),
                 free_draws);
    for (int draw = 0; draw < draws; draw++) {
        draw_costs(durations, seed, (uint64_t)draw, cost, delay_sec);
        dpr_simulate_delayed(graph, cost, delay_sec, NULL, &timeline);
        dpr_step_samples_of(&timeline, draws, draw, samples);
    }
    DPR_TRY_GOTO(dpr_measure_summarize(samples, graph->ranks, draws, prediction), free_draws);
    if (typical_cost != NULL) {
        draw_costs(durations, seed, (uint64_t)dpr_measure_nearest(samples, prediction),
                   typical_cost, typical_delay_sec);
    }

free_draws:
    free(cost);
    free(delay_sec);
    dpr_timeline_free(&timeline);
    free(samples);
    return status;
}
