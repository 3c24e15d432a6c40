/* Draws costs and simulates. */
#include "runtime/predict.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "models/simulate.h"

void dpr_durations_free(dpr_durations_t *durations)
{
    free(durations->sec);
    *durations = (dpr_durations_t){0};
}

/*
 * One draw. Each rank takes its ops and transfers as they were in one calibration step, drawn for
 * it alone, all of them in their places: what disturbs an op (another process, a cold cache)
 * disturbs its neighbours too, and what an op finds in the caches depends on where it stands in the
 * step, so costs that were shuffled among ops of a kind would average both away.
 */
static void draw_costs(const dpr_durations_t *durations, uint64_t seed, uint64_t draw, double *cost)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    for (size_t n = 0; n < nodes; n++) {
        const uint64_t rank = (uint64_t)graph->nodes[n].rank;
        const size_t step = (size_t)(dpr_random_uniform(seed, draw, rank) * durations->steps);
        cost[n] = durations->sec[step * nodes + n];
    }
}

/* The ranks' samples of a simulated step: samples[rank * draws + draw]. */
static void take_samples(const dpr_graph_t *graph, const double *cost, const double *end, int draws,
                         int draw, dpr_step_sample_t *samples)
{
    for (int r = 0; r < graph->ranks; r++) {
        dpr_step_sample_t sample = {.first_start_sec = INFINITY, .last_end_sec = -INFINITY};
        for (int32_t n = graph->rank_begin[r]; n < graph->rank_begin[r + 1]; n++) {
            sample.busy_sec += cost[n];
            sample.first_start_sec = fmin(sample.first_start_sec, end[n] - cost[n]);
            sample.last_end_sec = fmax(sample.last_end_sec, end[n]);
        }
        samples[(size_t)r * (size_t)draws + (size_t)draw] = sample;
    }
}

dpr_status_t dpr_predict(const dpr_durations_t *durations, int draws, uint64_t seed,
                         dpr_measurement_t *prediction)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    double *cost = NULL;
    double *end = NULL;
    dpr_step_sample_t *samples = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *cost, &cost), free_draws);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *end, &end), free_draws);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks * (size_t)draws, sizeof *samples, &samples),
                 free_draws);
    for (int draw = 0; draw < draws; draw++) {
        draw_costs(durations, seed, (uint64_t)draw, cost);
        (void)dpr_simulate_makespan(graph, cost, end);
        take_samples(graph, cost, end, draws, draw, samples);
    }
    status = dpr_measure_summarize(samples, graph->ranks, draws, prediction);

free_draws:
    free(cost);
    free(end);
    free(samples);
    return status;
}
