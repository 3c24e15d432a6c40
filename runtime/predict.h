/*
 * Prediction with the spread that calibration saw: the op graph simulated many times, each rank
 * with what its ops took in one of the calibration's steps, drawn for each rank alone.
 *
 * Costs that vary make bubbles: every op waits for the latest of its inputs, and the latest of
 * several is later than their mean. A simulation at mean costs cannot see that, so it promises too
 * much. What is drawn here is summarised exactly as measured steps are, so both are one kind of
 * number.
 *
 * So it is with starts: a machine does not begin the moment that it may (threads wake up, kernels
 * are launched), and a chain of ops has that delay at each of its links.
 */
#ifndef DPR_RUNTIME_PREDICT_H
#define DPR_RUNTIME_PREDICT_H

#include "runtime/measure.h"

/* What every node of a graph took in each calibration step. */
typedef struct dpr_durations {
    const dpr_graph_t *graph; /* not owned */
    int steps;
    double *sec;       /* [steps][node_count], owned */
    double *delay_sec; /* likewise: from the last of its edges to its start, at least 0 */
} dpr_durations_t;

/* All 0. Release with dpr_durations_free. Errors: DPR_ERR_MEMORY. */
dpr_status_t dpr_durations_init(const dpr_graph_t *graph, int steps, dpr_durations_t *durations);
/* Row `step` becomes what the timeline, of the same graph, says. Clocks of different ranks may put
 * a transfer's end before its start; it took no less than nothing. */
void dpr_durations_take(dpr_durations_t *durations, int step, const dpr_timeline_t *timeline);
void dpr_durations_free(dpr_durations_t *durations);

/*
 * Simulates `draws` steps, draw d with the seed (seed, d). The result is the same for the same
 * arguments. typical_cost[node_count] and typical_delay_sec[node_count], which may both be NULL,
 * get the draw that is nearest to the prediction, as dpr_measure_nearest has it. Release with
 * dpr_measurement_free. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_predict(const dpr_durations_t *durations, int draws, uint64_t seed,
                         dpr_measurement_t *prediction, double *typical_cost,
                         double *typical_delay_sec);

#endif
