/* Draws costs by class and simulates. */
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
 * Classes: members[begin[c]] .. members[begin[c + 1] - 1] are the nodes of class c.
 */
typedef struct classes {
    size_t count;
    int32_t *class_of; /* [node_count] */
    int32_t *position; /* [node_count]: within its class, in program order */
    int32_t *begin;    /* [count + 1] */
    int32_t *members;  /* [node_count] */
} classes_t;

/* Compute: rank, stage, and kind or, for FB, the backward's stage. Transfers: the channel. */
static size_t class_key(const dpr_graph_t *graph, const dpr_node_t *node)
{
    const size_t stages = (size_t)graph->stages;
    const size_t kinds = DPR_ACTION_FB + stages; /* F, B, I, W, then FB by backward stage */
    if (dpr_node_is_transfer(node)) {
        return (size_t)graph->ranks * stages * kinds + (size_t)node->channel;
    }
    const size_t kind =
        node->kind == DPR_NODE_FB ? DPR_ACTION_FB + (size_t)node->b_stage : (size_t)node->kind;
    return ((size_t)node->rank * stages + (size_t)node->stage) * kinds + kind;
}

static void classes_free(classes_t *classes)
{
    free(classes->class_of);
    free(classes->position);
    free(classes->begin);
    free(classes->members);
}

/* A counting sort of the nodes by class. */
static dpr_status_t classes_init(const dpr_graph_t *graph, classes_t *classes)
{
    const size_t nodes = (size_t)graph->node_count;
    const size_t stages = (size_t)graph->stages;
    *classes = (classes_t){.count = (size_t)graph->ranks * stages * (DPR_ACTION_FB + stages) +
                                    (size_t)graph->channel_count};
    DPR_TRY(dpr_calloc(nodes, sizeof(int32_t), &classes->class_of));
    DPR_TRY(dpr_calloc(nodes, sizeof(int32_t), &classes->position));
    DPR_TRY(dpr_calloc(classes->count + 2, sizeof(int32_t), &classes->begin));
    DPR_TRY(dpr_calloc(nodes, sizeof(int32_t), &classes->members));
    for (size_t n = 0; n < nodes; n++) {
        const size_t key = class_key(graph, &graph->nodes[n]);
        classes->class_of[n] = (int32_t)key;
        classes->position[n] = classes->begin[key + 2]++;
    }
    for (size_t c = 2; c < classes->count + 2; c++) {
        classes->begin[c] += classes->begin[c - 1];
    }
    for (size_t n = 0; n < nodes; n++) { /* begin[c + 1] moves from class c's start to its end */
        classes->members[classes->begin[classes->class_of[n] + 1]++] = (int32_t)n;
    }
    return DPR_OK;
}

/*
 * One draw. What disturbs an op (another process, a cold cache) disturbs its neighbours too, so
 * costs are not drawn one by one, which would average the disturbances away: each rank takes the
 * sequence of one calibration step, every class of ops rotated by the same random fraction of its
 * length.
 */
static void draw_costs(const dpr_durations_t *durations, const classes_t *classes, uint64_t seed,
                       uint64_t draw, double *cost)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    for (size_t n = 0; n < nodes; n++) {
        const uint64_t rank = (uint64_t)graph->nodes[n].rank;
        const double which = dpr_random_uniform(seed, draw, 2 * rank);
        const double turn = dpr_random_uniform(seed, draw, 2 * rank + 1);
        const size_t step = (size_t)(which * durations->steps);
        const int32_t begin = classes->begin[classes->class_of[n]];
        const int32_t count = classes->begin[classes->class_of[n] + 1] - begin;
        const int32_t at = (classes->position[n] + (int32_t)(turn * count)) % count;
        cost[n] = durations->sec[step * nodes + (size_t)classes->members[begin + at]];
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
    classes_t classes = {0};
    double *cost = NULL;
    double *end = NULL;
    dpr_step_sample_t *samples = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(classes_init(graph, &classes), free_draws);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *cost, &cost), free_draws);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof *end, &end), free_draws);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks * (size_t)draws, sizeof *samples, &samples),
                 free_draws);
    for (int draw = 0; draw < draws; draw++) {
        draw_costs(durations, &classes, seed, (uint64_t)draw, cost);
        (void)dpr_simulate_makespan(graph, cost, end);
        take_samples(graph, cost, end, draws, draw, samples);
    }
    status = dpr_measure_summarize(samples, graph->ranks, draws, prediction);

free_draws:
    classes_free(&classes);
    free(cost);
    free(end);
    free(samples);
    return status;
}
