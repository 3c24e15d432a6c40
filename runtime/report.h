/*
 * The report of a training run: plain data, filled on rank 0, and its two forms: a table for a
 * person and JSON by the schema in docs/report-schema.md.
 */
#ifndef DPR_RUNTIME_REPORT_H
#define DPR_RUNTIME_REPORT_H

#include <stdio.h>

#include "models/bubbles.h"
#include "models/costs.h"
#include "runtime/explanation.h"

/* What one rank did. Ratios are of the span (DESIGN: bubble = span - busy). */
typedef struct dpr_rank_report {
    double bubble_closed_form; /* NAN where the schedule has no closed form */
    double bubble_simulated;
    double bubble_measured;
    double busy_predicted_sec;
    double busy_measured_sec;
    int peak_activations;
    double arena_bytes;
    double predicted_memory_bytes; /* before anything was allocated */
    double workspace_bytes;        /* of it, the kernels' workspaces */
    double memory_bytes;           /* all device memory at its peak */
    char device[128];              /* its name, driver and PCI id as of device.h */
    char driver[64];
    char pci[32];
    int numa_node; /* -1: unknown */
} dpr_rank_report_t;

typedef struct dpr_verify_report {
    bool done;
    long steps;
    double loss_difference;     /* largest relative difference of a step's loss */
    double gradient_difference; /* largest relative difference of a stage's gradients */
    double tolerance;
} dpr_verify_report_t;

typedef struct dpr_train_report {
    char schedule[32];
    char data[256];
    char device[128];        /* rank 0's */
    char device_reason[256]; /* why this kind of device */
    char dtype[8];
    char comm[256]; /* what carries the messages */
    bool cuda_graph;
    char clock[8];
    char clock_reason[160];
    char optimizer[16];
    int ranks, stages, micro_batches, micro_batch_size;
    int input, hidden, ffn, blocks, classes;
    double parameters;
    unsigned long long seed;

    int epochs;
    long steps;
    double *loss; /* [steps], owned */
    double test_accuracy;
    double test_loss;
    long test_samples;
    double train_sec;       /* by the wall clock, training steps only */
    double samples_per_sec; /* likewise */

    dpr_uniform_costs_t costs; /* the predicted costs' means, seconds */
    dpr_bubble_t closed_form;
    bool has_closed_form;
    double step_predicted_sec; /* median of simulations with costs as spread as calibration saw */
    double step_at_means_sec;  /* one simulation at mean costs */
    double step_measured_sec;
    double step_p10_sec;
    double step_p90_sec;
    double reduction_sec; /* replicas' gradients; beside the step */
    double update_sec;    /* norm, clipping and optimizer; beside the step */
    double bubble_simulated;
    double bubble_at_means;
    double bubble_measured;
    double timeline_difference; /* of the last step from the simulation, over the span */
    double clock_uncertainty_sec;
    dpr_rank_report_t *rank; /* [ranks], owned */

    double gemm_flops_per_step; /* of all ranks */
    double scheduler_ns_per_op; /* CPU time of the scheduler thread over the ops enqueued */
    double scheduler_ops_per_step;
    unsigned long long loader_stalls;
    double loader_stall_sec;
    char parameters_hash[17]; /* XXH3 of all parameters, stage by stage */
    dpr_verify_report_t verify;
    const dpr_explanation_t *explanation; /* the trainer's; NULL where there was no step */
} dpr_train_report_t;

void dpr_train_report_free(dpr_train_report_t *report);

/* The table; `details` as of dpr_explanation_print. Errors: DPR_ERR_IO. */
dpr_status_t dpr_train_report_print(const dpr_train_report_t *report, bool details, FILE *out);

/* Errors: DPR_ERR_IO, logged with the path and the reason; DPR_ERR_MEMORY. */
dpr_status_t dpr_train_report_write_json(const dpr_train_report_t *report, const char *path);

#endif
