/* The parts of a prediction's error, each the difference of two simulations. */
#include "models/prediction_error.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/simulate.h"

/* What is compared, from the prediction to the measurement. */
enum { PREDICTED, WITH_COMPUTE, WITH_TRANSFERS, WITH_HOST, MEASURED, STAGES };

static dpr_error_parts_t parts_of(const double value[STAGES])
{
    return (dpr_error_parts_t){
        .predicted = value[PREDICTED],
        .measured = value[MEASURED],
        .cost = value[PREDICTED] - value[WITH_COMPUTE],
        .wire = value[WITH_COMPUTE] - value[WITH_TRANSFERS],
        .host = value[WITH_TRANSFERS] - value[WITH_HOST],
        .order = value[WITH_HOST] - value[MEASURED],
    };
}

double dpr_error_largest_part(const dpr_error_parts_t *parts, const char **name)
{
    const struct {
        const char *name;
        double value;
    } all[] = {{"cost", parts->cost},
               {"wire", parts->wire},
               {"host", parts->host},
               {"order", parts->order}};
    size_t largest = 0;
    for (size_t i = 1; i < sizeof all / sizeof all[0]; i++) {
        largest = fabs(all[i].value) > fabs(all[largest].value) ? i : largest;
    }
    *name = all[largest].name;
    return all[largest].value;
}

static dpr_status_t check_times(const dpr_timeline_t *timeline, const char *which)
{
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        if (!isfinite(timeline->start[n]) || !isfinite(timeline->end[n])) {
            char text[96];
            return dpr_fail(DPR_ERR_INVALID,
                            "the %s timeline has %s from %g to %g: expected finite "
                            "times",
                            which, dpr_node_format(timeline->graph, n, text, sizeof text),
                            timeline->start[n], timeline->end[n]);
        }
    }
    return DPR_OK;
}

/* cost[from .. to - 1] becomes what the nodes took. */
static void take_measured(const dpr_timeline_t *predicted, const dpr_timeline_t *measured,
                          int32_t from, int32_t to, double *cost)
{
    for (int32_t n = from; n < to; n++) {
        const double expected = predicted->end[n] - predicted->start[n];
        const double taken = measured->end[n] - measured->start[n];
        cost[n] = fmax(0.0, cost[n] + (taken - expected));
    }
}

/* release[node]: when it was enqueued, from the step's first start on, where a simulation begins.
 */
static void find_releases(const dpr_timeline_t *measured, const double *enqueued_sec,
                          double *release)
{
    const int32_t nodes = measured->graph->node_count;
    double first = INFINITY;
    for (int32_t n = 0; n < nodes; n++) {
        first = fmin(first, measured->start[n]);
    }
    for (int32_t n = 0; n < nodes; n++) {
        release[n] = enqueued_sec[n] - first;
    }
}

/* `summary` becomes that of the costs so far. */
static dpr_status_t summarize_costs(const double *cost, const double *delay, const double *release,
                                    dpr_timeline_t *scratch, dpr_timeline_summary_t *summary)
{
    dpr_simulate_delayed(scratch->graph, cost, delay, release, scratch);
    return dpr_timeline_summarize(scratch, summary);
}

/* The summaries of all; those made before a failure are the caller's to free. */
static dpr_status_t summarize(const dpr_prediction_t *prediction, const dpr_timeline_t *measured,
                              double *cost, const double *release, dpr_timeline_t *scratch,
                              dpr_timeline_summary_t summary[STAGES])
{
    const dpr_timeline_t *predicted = prediction->timeline;
    const double *delay = prediction->delay_sec;
    const dpr_graph_t *graph = predicted->graph;
    DPR_TRY(dpr_timeline_summarize(predicted, &summary[PREDICTED]));
    DPR_TRY(dpr_timeline_summarize(measured, &summary[MEASURED]));
    take_measured(predicted, measured, 0, graph->compute_count, cost);
    DPR_TRY(summarize_costs(cost, delay, NULL, scratch, &summary[WITH_COMPUTE]));
    take_measured(predicted, measured, graph->compute_count, graph->node_count, cost);
    DPR_TRY(summarize_costs(cost, delay, NULL, scratch, &summary[WITH_TRANSFERS]));
    return summarize_costs(cost, delay, release, scratch, &summary[WITH_HOST]);
}

static void compare(const dpr_timeline_summary_t summary[STAGES], dpr_prediction_error_t *error)
{
    double value[STAGES];
    for (int s = 0; s < STAGES; s++) {
        value[s] = summary[s].span_sec;
    }
    error->span_sec = parts_of(value);
    for (int s = 0; s < STAGES; s++) {
        value[s] = summary[s].bubble_ratio;
    }
    error->bubble_ratio = parts_of(value);
    for (int r = 0; r < error->ranks; r++) {
        for (int s = 0; s < STAGES; s++) {
            value[s] = summary[s].bubble_sec[r];
        }
        error->rank_bubble_sec[r] = parts_of(value);
        for (int s = 0; s < STAGES; s++) {
            value[s] = summary[s].rank_bubble_ratio[r];
        }
        error->rank_bubble_ratio[r] = parts_of(value);
        error->mean_absolute_bubble_error +=
            fabs(value[MEASURED] - value[PREDICTED]) / error->ranks;
    }
}

dpr_status_t dpr_prediction_error_init(const dpr_prediction_t *prediction,
                                       const dpr_timeline_t *measured, const double *enqueued_sec,
                                       dpr_prediction_error_t *error)
{
    const dpr_graph_t *graph = prediction->timeline->graph;
    const size_t ranks = (size_t)graph->ranks;
    dpr_timeline_t scratch = {0};
    dpr_timeline_summary_t summary[STAGES] = {0};
    dpr_prediction_error_t found = {.ranks = graph->ranks};
    double *taken = NULL;
    double *release = NULL;
    dpr_status_t status;
    if (measured->graph != graph) {
        return dpr_fail(DPR_ERR_INVALID, "the predicted and the measured timeline are of different "
                                         "graphs: expected the same one");
    }
    DPR_TRY(check_times(prediction->timeline, "predicted"));
    DPR_TRY(check_times(measured, "measured"));
    DPR_TRY_GOTO(dpr_calloc(2 * ranks, sizeof *found.rank_bubble_sec, &found.rank_bubble_sec),
                 free_scratch);
    found.rank_bubble_ratio = found.rank_bubble_sec + ranks;
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->node_count, sizeof *taken, &taken), free_scratch);
    for (int32_t n = 0; n < graph->node_count; n++) {
        taken[n] = prediction->cost[n];
    }
    if (enqueued_sec != NULL) {
        DPR_TRY_GOTO(dpr_calloc((size_t)graph->node_count, sizeof *release, &release),
                     free_scratch);
        find_releases(measured, enqueued_sec, release);
    }
    DPR_TRY_GOTO(dpr_timeline_init(&scratch, graph), free_scratch);
    DPR_TRY_GOTO(summarize(prediction, measured, taken, release, &scratch, summary), free_scratch);
    compare(summary, &found);
    *error = found;
    found.rank_bubble_sec = NULL;
free_scratch:
    for (int s = 0; s < STAGES; s++) {
        dpr_timeline_summary_free(&summary[s]);
    }
    dpr_timeline_free(&scratch);
    free(taken);
    free(release);
    free(found.rank_bubble_sec);
    return status;
}

void dpr_prediction_error_free(dpr_prediction_error_t *error)
{
    free(error->rank_bubble_sec); /* one block holds both */
    *error = (dpr_prediction_error_t){0};
}
