/*
 * Prediction with the spread that calibration saw: the op graph simulated many times, each rank
 * with what its ops took in one of the calibration's steps, drawn for each rank alone.
 *
 * Costs that vary make bubbles: every op waits for the latest of its inputs, and the latest of
 * several is later than their mean. A simulation at mean costs cannot see that, so it promises too
 * much. What is drawn here is summarised exactly as measured steps are, so both are one kind of
 * number.
 */
#ifndef DPR_RUNTIME_PREDICT_H
#define DPR_RUNTIME_PREDICT_H

#include "runtime/measure.h"

/* What every node of a graph took in each calibration step. */
typedef struct dpr_durations {
    const dpr_graph_t *graph; /* not owned */
    int steps;
    double *sec; /* [steps][node_count], owned */
} dpr_durations_t;

void dpr_durations_free(dpr_durations_t *durations);

/*
 * Simulates `draws` steps, draw d with the seed (seed, d). The result is the same for the same
 * arguments. Release with dpr_measurement_free. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_predict(const dpr_durations_t *durations, int draws, uint64_t seed,
                         dpr_measurement_t *prediction);

#endif
