/*
 * Forecast: what the steps of a pipeline are expected to take, made before they are played.
 *
 *     links, then steps --calibrate--> cost table, durations --+--> at means: one simulation
 *     (under the model clock: the cost model)                  +--> promised: medians over many
 *                                                              |      draws of the durations
 *                                                              +--> typical: the one draw that is
 *                                                                     nearest to what is promised
 *
 * "At means" has every op take its mean and start as soon as it may. What is promised is what runs
 * are held against. It is no single timeline; where one is needed, to draw it or to say why a
 * measured step was different, `typical` is that.
 */
#ifndef DPR_RUNTIME_FORECAST_H
#define DPR_RUNTIME_FORECAST_H

#include "models/costs.h"
#include "runtime/clock_fit.h"
#include "runtime/cost_file.h"
#include "runtime/measure.h"
#include "runtime/pipeline.h"
#include "runtime/predict.h"

enum { DPR_FORECAST_DRAWS = 400 };

/* Everything is borrowed for the call. */
typedef struct dpr_forecast_options {
    dpr_pipeline_t *pipeline; /* whose batch buffer 0 is loaded */
    dpr_comm_t *comm;
    dpr_device_t *device;
    const dpr_cost_model_t *cost_model; /* of the model clock; not read under another */
    float loss_scale;
    int calibrate_steps;
    uint64_t seed; /* of the draws */
} dpr_forecast_options_t;

typedef struct dpr_forecast {
    const dpr_graph_t *graph;        /* the pipeline's */
    dpr_cost_table_t table;          /* calibrated; zeroed under the model clock */
    dpr_durations_t durations;       /* of the steps of calibration; one under the model clock */
    dpr_clock_sample_t exchanges[2]; /* before and after calibration; zeros under a virtual clock */
    double *mean_cost;               /* [node_count] */
    dpr_timeline_t at_means;
    double *typical_cost;      /* [node_count] */
    double *typical_delay_sec; /* [node_count]: of the starts */
    dpr_timeline_t typical;
    dpr_measurement_t promised;
} dpr_forecast_t;

/*
 * Under the model clock: whether the cost model has a cost for every op of the pipeline, on this
 * rank alone. Errors: those of dpr_cost_model_fill.
 */
dpr_status_t dpr_forecast_check(const dpr_forecast_options_t *options);

/*
 * Calibrates (plays steps, whose gradients are thrown away), sets the costs that the pipeline's
 * virtual clocks charge, and predicts; collective, the same on all ranks but for the exchanges.
 * Release with dpr_forecast_free, also after a failure. Errors: those of calibration,
 * DPR_ERR_MEMORY.
 */
dpr_status_t dpr_forecast_make(const dpr_forecast_options_t *options, dpr_forecast_t *forecast);
void dpr_forecast_free(dpr_forecast_t *forecast);

#endif
