/*
 * The trainer's own data, shared by trainer_setup.c (creation), trainer_data.c (data sets and
 * loaders), trainer_run.c (the step loop), trainer_verify.c (--verify) and trainer_report.c (what
 * is measured and predicted).
 */
#ifndef DPR_RUNTIME_TRAINER_IMPL_H
#define DPR_RUNTIME_TRAINER_IMPL_H

#include <stdatomic.h>

#include "runtime/dataset.h"
#include "runtime/forecast.h"
#include "runtime/loader.h"
#include "runtime/pipeline.h"
#include "runtime/reference.h"
#include "runtime/trainer.h"
#include "runtime/trainer_explain.h"

/* Where the run stands, written by the scheduler thread and read by the caller's. */
typedef struct live_progress {
    _Atomic(const char *) phase;
    atomic_long step;
    atomic_int epoch;
    atomic_int evaluations;
    _Atomic double loss;
    _Atomic double samples_per_sec;
    _Atomic double left_sec;
    _Atomic double test_accuracy;
    _Atomic double test_loss;
} live_progress_t;

/* A loader and the pinned buffers that it fills; all NULL where no samples are needed. */
typedef struct feed {
    dpr_loader_t *loader;
    float *inputs[2];
    int32_t *labels[2];
} feed_t;

/* The parts of --verify; on ranks other than 0 only what it sends is used. */
typedef struct verifier {
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_reference_t *reference;
    float *inputs; /* one global batch */
    int32_t *labels;
    uint32_t *order;      /* of the epoch's samples */
    dpr_stream_t *stream; /* for fetching gradients */
    float *mine;          /* this rank's gradients, in the order of stages that it speaks for */
    float *all;           /* rank 0: everybody's */
    float *expected;      /* rank 0: the reference's gradients of one stage */
    size_t *bytes;        /* [P] */
    dpr_verify_report_t result;
} verifier_t;

struct dpr_trainer {
    const dpr_train_config_t *config;
    dpr_device_choice_t choice;
    dpr_comm_t *comm;
    int rank;
    int ranks;

    dpr_program_t program;
    dpr_model_config_t model;
    long steps_per_epoch;
    long total_steps;
    size_t global_batch;

    dpr_clock_t clock;
    char clock_reason[160];
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_pipeline_t *pipeline;

    dpr_dataset_t train; /* empty on ranks that need no samples */
    dpr_dataset_t test;
    long test_samples; /* known to all */
    feed_t train_feed;
    feed_t test_feed;

    dpr_cost_model_t cost_model; /* model clock: from --cost-model */
    dpr_forecast_t forecast;

    dpr_step_sample_t *samples; /* [total_steps] */
    double *loss;               /* [total_steps] */
    double *reduction_sec;      /* [total_steps] */
    double *update_sec;         /* [total_steps] */
    double train_sec;
    double test_accuracy;
    double test_loss;
    bool tested;

    verifier_t verifier;
    explainer_t explainer;
    live_progress_t live;
};

/* trainer_data.c: collective. Opens what this rank needs, checks it on all, and plans the steps. */
dpr_status_t trainer_open_data(dpr_trainer_t *trainer);
/* The loaders and their buffers; needs the pipeline. */
dpr_status_t trainer_create_feeds(dpr_trainer_t *trainer);
void trainer_destroy_feeds(dpr_trainer_t *trainer);

/* trainer_verify.c: set up and taken down with the trainer; collective in the step. */
dpr_status_t trainer_verify_create(dpr_trainer_t *trainer);
void trainer_verify_destroy(dpr_trainer_t *trainer);
/* After step `step` is complete: holds its loss and gradients against the reference's. */
dpr_status_t trainer_verify_step(dpr_trainer_t *trainer, long step);

/* trainer_report.c: the first step that is measured; those before it warm up. */
long trainer_first_measured(const dpr_trainer_t *trainer);
/* The closed form at the calibrated mean costs; false where the program has none. */
bool trainer_closed_form(const dpr_trainer_t *trainer, dpr_bubble_t *form);
/* Collective; fills the report on rank 0. DPR_ERR_MISMATCH as dpr_trainer_run. */
dpr_status_t trainer_report(dpr_trainer_t *trainer, dpr_train_report_t *report);

/* trainer_auto.c: collective; calibrates on a probe of its own and builds the program. */
dpr_status_t trainer_schedule_auto(const dpr_train_config_t *config,
                                   const dpr_device_choice_t *choice, dpr_comm_t *comm,
                                   dpr_program_t *program);

/* trainer_run.c: collective; loads the first batch, calibrates and predicts. */
dpr_status_t trainer_prepare(dpr_trainer_t *trainer);

/* trainer_setup.c: what the forecast is made of. */
dpr_forecast_options_t trainer_forecast_options(dpr_trainer_t *trainer);

/* Whether the clock is virtual. */
static inline bool trainer_is_virtual(const dpr_trainer_t *trainer)
{
    return trainer->clock != DPR_CLOCK_WALL;
}

#endif
