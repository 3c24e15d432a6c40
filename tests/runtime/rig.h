/*
 * A rig for the runtime's tests: plays a program on all its ranks inside one process (a thread a
 * rank) on random data, and keeps what every test asks about. The ranks run on the host device or,
 * under the software stand-in, on a cuda device each (ordinal = rank), over the local communicator
 * or over NCCL's on top of it.
 */
#ifndef DPR_TESTS_RUNTIME_RIG_H
#define DPR_TESTS_RUNTIME_RIG_H

#include "models/costs.h"
#include "runtime/forecast.h"
#include "runtime/pipeline.h"

enum { RIG_MAX_RANKS = 16, RIG_MAX_STEPS = 8 };

typedef enum rig_device { RIG_HOST, RIG_CUDA } rig_device_t;
typedef enum rig_comm { RIG_LOCAL, RIG_NCCL } rig_comm_t;

typedef struct rig_config {
    const dpr_program_t *program;
    dpr_graph_options_t graph;
    dpr_model_config_t model;
    int steps;
    bool update;  /* with AdamW and clipping; else gradients only */
    bool no_eval; /* leaves out the evaluation after the last step */
    rig_device_t device;
    rig_comm_t comm;
    dpr_clock_t clock;
    dpr_overlap_t overlap;
    bool record;
    bool one_slot;       /* all steps in batch buffer 0; else in turn */
    bool doubling_scale; /* of the loss, from step to step */
    int drop_rank;       /* the rank that leaves out the event wait of this number (executor.h) */
    int32_t drop_wait;
    uint64_t chaos_seed;
    bool poison;
    size_t memory_limit_bytes; /* 0: none */
    dpr_uniform_costs_t costs; /* charged under the model clock */
    size_t (*count)(void);     /* read before and after each step, on no rank within it; or NULL */
    /* Called on every rank's thread when its pipeline has been made; or NULL. */
    void (*inspect)(void *user, int rank, const dpr_pipeline_t *pipeline);
    /* Called on every rank's thread before the steps, with the first batch loaded; or NULL. */
    dpr_status_t (*forecast)(void *user, int rank, const dpr_forecast_options_t *options);
    double skew_sec; /* rank r's wall clock is ahead of rank 0's by r times this */
    double drift;    /* and gains r times this, seconds a second */
    /* Called on every rank's thread before it enqueues a step; or NULL. */
    void (*hold)(void *user, int rank, int step);
    double timeout_sec;     /* of each rank's watchdog; 0: there is none */
    int watchdog_exit_code; /* where on_trip is NULL */
    void (*on_trip)(void *user);
    /* In the place of dpr_pipeline_describe_waits, for the watchdogs; or NULL. */
    void (*describe)(const dpr_pipeline_t *pipeline, char *text, size_t size);
    void *user; /* of the four */
} rig_config_t;

/* A small model with one block a stage, 3 steps, model clock, updates. */
void rig_config_default(rig_config_t *config, const dpr_program_t *program);

typedef struct rig_result {
    dpr_status_t status; /* the lowest rank's that failed */
    char messages[4096]; /* what the lowest failing rank that logged anything logged */
    double loss[RIG_MAX_STEPS];
    double evaluated_loss; /* of the first step's batch, forward only, after the last step */
    double evaluated_correct;
    size_t counted[RIG_MAX_STEPS]; /* what config.count grew by in each step */
    float **gradients;             /* [step * S + stage], of the stage's owner; owned */
    bool replicas_equal;           /* gradients and parameters of both holders have the same bits */
    uint64_t parameters_hash;      /* of all stages after the last step */
    dpr_graph_t *graph;            /* owned */
    double *cost;                  /* [node_count], what the model clock charged; owned */
    dpr_timeline_t *timelines;     /* [steps], owned */
    size_t *held_bytes;            /* [ranks]: device memory at its peak */
    int stages;
    int steps;
    int ranks;
} rig_result_t;

void rig_run(const rig_config_t *config, rig_result_t *result);
void rig_result_free(rig_result_t *result);

/* The same steps by runtime/reference, in fp32 on the host: losses, and gradients
 * [step * S + stage]. */
void rig_run_reference(const rig_config_t *config, rig_result_t *result);

/* The largest relative difference between two results' gradients, and losses. */
double rig_gradient_difference(const rig_config_t *config, const rig_result_t *a,
                               const rig_result_t *b);
double rig_loss_difference(const rig_result_t *a, const rig_result_t *b);

#endif
