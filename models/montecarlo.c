/* Draws over threads, each into its own place; then the statistics, in order. */
#include "models/montecarlo.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/parallel.h"
#include "models/perturb.h"
#include "models/simulate.h"

typedef struct run {
    const dpr_graph_t *graph;
    const double *cost;
    const dpr_montecarlo_options_t *options;
    double *scratch; /* [worker][perturbed cost, end][node] */
    double *span;    /* [draw] */
    double *ratio;   /* [draw] */
} run_t;

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest of the sorted values that at least `percent` of them do not exceed. */
static double percentile(const double *sorted, int count, int percent)
{
    const int64_t rank = ((int64_t)count * percent + 99) / 100;
    return sorted[rank - 1];
}

void dpr_distribution_of(double *values, int count, dpr_distribution_t *distribution)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    /* over the largest, so that neither a sum nor a square overflows */
    const double scale = fmax(fabs(values[0]), fabs(values[count - 1]));
    double sum = 0.0;
    for (int i = 0; i < count && scale > 0.0; i++) {
        sum += values[i] / scale;
    }
    const double mean = sum / count;
    double squares = 0.0;
    for (int i = 0; i < count && scale > 0.0; i++) {
        squares += (values[i] / scale - mean) * (values[i] / scale - mean);
    }
    *distribution = (dpr_distribution_t){
        .mean = mean * scale,
        .deviation = count > 1 ? sqrt(squares / (count - 1)) * scale : 0.0,
        .min = values[0],
        .median = percentile(values, count, 50),
        .p95 = percentile(values, count, 95),
        .max = values[count - 1],
    };
}

static dpr_status_t play_draw(void *context, int worker, int64_t draw)
{
    const run_t *run = context;
    const dpr_graph_t *graph = run->graph;
    const size_t nodes = (size_t)graph->node_count;
    double *cost = run->scratch + 2 * nodes * (size_t)worker;
    double *end = cost + nodes;
    dpr_perturb_jitter(graph, run->options->variation, run->options->seed, (uint64_t)draw,
                       run->cost, cost);
    const double span = dpr_simulate_makespan(graph, cost, end);
    double busy = 0.0;
    for (int32_t n = 0; n < graph->compute_count; n++) {
        busy += cost[n];
    }
    if (!isfinite(span) || !isfinite(busy)) {
        return dpr_fail(DPR_ERR_INVALID, "draw %lld: the costs sum to more than a number can hold",
                        (long long)draw);
    }
    run->span[draw] = span;
    run->ratio[draw] = span > 0.0 ? 1.0 - busy / graph->ranks / span : 0.0;
    return DPR_OK;
}

static dpr_status_t check(const dpr_graph_t *graph, const double *cost,
                          const dpr_montecarlo_options_t *options)
{
    if (options->draws < 1 || options->draws > DPR_MAX_DRAWS) {
        return dpr_fail(DPR_ERR_INVALID, "%d draws: expected 1 to %d", options->draws,
                        (int)DPR_MAX_DRAWS);
    }
    if (!(options->variation >= 0.0 && options->variation <= DPR_JITTER_MAX)) {
        return dpr_fail(DPR_ERR_INVALID, "jitter %g: expected 0 to %g", options->variation,
                        DPR_JITTER_MAX);
    }
    if (options->threads < 0 || options->threads > DPR_MAX_THREADS) {
        return dpr_fail(DPR_ERR_INVALID, "%d threads: expected 0 (all cores) to %d",
                        options->threads, (int)DPR_MAX_THREADS);
    }
    for (int32_t n = 0; n < graph->node_count; n++) {
        if (!isfinite(cost[n]) || cost[n] < 0.0) {
            return dpr_fail(DPR_ERR_INVALID, "op %d costs %g: expected a finite number, 0 or more",
                            n, cost[n]);
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_montecarlo_run(const dpr_graph_t *graph, const double *cost,
                                const dpr_montecarlo_options_t *options, dpr_montecarlo_t *result)
{
    DPR_TRY(check(graph, cost, options));
    const size_t draws = (size_t)options->draws;
    const int threads = dpr_parallel_threads(options->threads, options->draws);
    run_t run = {.graph = graph, .cost = cost, .options = options};
    dpr_status_t status;
    DPR_TRY_GOTO(
        dpr_calloc(2 * (size_t)threads * (size_t)graph->node_count, sizeof(double), &run.scratch),
        free_arrays);
    DPR_TRY_GOTO(dpr_calloc(draws, sizeof(double), &run.span), free_arrays);
    DPR_TRY_GOTO(dpr_calloc(draws, sizeof(double), &run.ratio), free_arrays);
    DPR_TRY_GOTO(dpr_parallel_for(threads, options->draws, play_draw, &run), free_arrays);
    dpr_distribution_of(run.span, options->draws, &result->span_sec);
    dpr_distribution_of(run.ratio, options->draws, &result->bubble_ratio);
free_arrays:
    free(run.scratch);
    free(run.span);
    free(run.ratio);
    return status;
}
