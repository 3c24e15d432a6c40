/*
 * dualpipe_bench referee: what is found out of one row of its grid.
 *
 *     calibrate --> predict (closed form, simulation) --> play --> measure --> compare
 *
 * A row is calibrated, predicted and measured with the functions that dualpipe_train uses, in the
 * same order: the prediction is fixed before the steps that it is held against.
 */
#ifndef DPR_APPS_BENCH_REFEREE_H
#define DPR_APPS_BENCH_REFEREE_H

#include "apps/bench_rig.h"
#include "models/bubbles.h"
#include "models/prediction_error.h"
#include "runtime/cost_file.h"

/* How near a prediction has to be: the step's time, and each rank's bubble on average. */
#define REFEREE_STEP_LIMIT   0.03 /* of the measured step */
#define REFEREE_BUBBLE_LIMIT 0.01 /* of the span: one point */

/* The model's size: a stage's chunk is blocks / stages of these. */
typedef struct referee_shape {
    int hidden;
    int ffn;
    int blocks; /* 0: the default of dualpipe_train */
    int micro_batch_size;
} referee_shape_t;

enum { REFEREE_MAX_SHAPES = 16 };

typedef struct referee_options {
    bench_common_t common; /* repeats: runs of the whole grid */
    bench_load_t load;
    referee_shape_t shapes[REFEREE_MAX_SHAPES]; /* count 0: that of the load */
    int shape_count;
    int steps;
    int calibrate_steps;
    const char *cost_model; /* model clock */
    const char *plot_path;
} referee_options_t;

/* What one run of a row gave, on every rank. Seconds and ratios; medians over the steps. */
typedef struct referee_outcome {
    double closed_step_sec; /* NAN where the schedule has no closed form */
    double closed_bubble;
    double means_step_sec; /* one simulation at mean costs */
    double means_bubble;
    double predicted_step_sec; /* simulations with the costs' spread: what is promised */
    double predicted_bubble;
    double measured_step_sec;
    double measured_p10_sec;
    double measured_p90_sec;
    double measured_bubble;
    double bubble_error; /* mean over the ranks of |measured - predicted| bubble ratio */
    /* Why the step nearest to the medians was not as the draw nearest to the prediction. */
    dpr_error_parts_t step_parts;   /* seconds */
    dpr_error_parts_t bubble_parts; /* of the mean bubble ratio */
} referee_outcome_t;

typedef struct referee_row {
    char schedule[32];
    int micro_batches;
    int stages;
    dpr_model_config_t model;
    dpr_exactness_t exactness; /* of the closed form */
    bool has_closed_form;
    referee_outcome_t *outcomes; /* [runs], owned */
} referee_row_t;

/*
 * Runs a row once and fills *outcome and the row's facts. Collective; `self->live` is set while
 * ranks may be apart. Errors: those of the rig, calibration and prediction.
 */
dpr_status_t referee_run_row(const referee_options_t *options, bench_rank_t *self,
                             bench_machine_t *machine, const dpr_cost_model_t *costs,
                             const dpr_train_config_t *config, referee_row_t *row,
                             referee_outcome_t *outcome);

/* Runs the whole grid and reports it: the command (bench_command_t). */
dpr_status_t referee_run(const void *options, bench_rank_t *self);

/* Errors as fractions: predicted over measured, less 1. */
static inline double referee_step_error(const referee_outcome_t *outcome)
{
    return outcome->predicted_step_sec / outcome->measured_step_sec - 1.0;
}

/* The part that is to blame where the outcome misses a limit; "-" where it misses none. */
const char *referee_blame(const referee_outcome_t *outcome);

#endif
