/*
 * Explanation: what a training run says of its bubbles beyond their size: why ranks were idle, how
 * wrong the prediction was and which part is to blame, whether renewed predictions were better, and
 * how far the ranks' clocks can be trusted. Filled on rank 0 by the trainer, of the step
 * nearest to the medians of the last ones.
 */
#ifndef DPR_RUNTIME_EXPLANATION_H
#define DPR_RUNTIME_EXPLANATION_H

#include <stdio.h>

#include "runtime/clock_fit.h"
#include "runtime/run.h"

/* A prediction, and what the steps it was made for then took. The first is calibration's, the
 * others come from costs re-estimated from measured steps. Medians over the steps. */
typedef struct dpr_promise {
    long first_step; /* of those it was made for */
    long end_step;   /* behind their last */
    double span_predicted_sec;
    double span_measured_sec;
    double bubble_predicted; /* ratio, mean over the ranks */
    double bubble_measured;
    double mean_rank_error; /* of |measured - predicted| bubble ratio, over the ranks */
} dpr_promise_t;

typedef struct dpr_explanation {
    const dpr_run_t *run; /* everything here is the trainer's, and lives as long */
    const dpr_run_analysis_t *analysis;
    long step;      /* the step that is explained, from 0 */
    int steps_kept; /* that were looked at, the last of steps_seen */
    long steps_seen;
    size_t history_bytes; /* of the ring that kept them, on rank 0 */
    double fused_sec;     /* sum over the kinds of F&B of their mean; 0 where there is none */
    double separate_sec;  /* what their F and B alone took; NAN where no op ran alone */
    const dpr_promise_t *promises; /* [promise_count] */
    int promise_count;
    const dpr_clock_fit_t *clocks; /* [ranks], against rank 0's; NULL under a virtual clock */
} dpr_explanation_t;

/* What the ops of a kind were calibrated to take, and took in the steps looked at: means. */
typedef struct dpr_kind_error {
    const char *name; /* "F", "B", "I", "W", "F&B", "wire" */
    double predicted_sec;
    double measured_sec;
} dpr_kind_error_t;
enum { DPR_EXPLAINED_KINDS = 6 };
/* Of the kinds that the program has; returns how many. */
int dpr_explanation_kinds(const dpr_explanation_t *explanation,
                          dpr_kind_error_t kinds[DPR_EXPLAINED_KINDS]);

/* How much of the time of F and B apart F&B saves, as a ratio; NAN where it cannot be said. */
double dpr_explanation_overlap(const dpr_explanation_t *explanation);

/* A few lines; with `details` also the ledger and the error rank by rank, every promise and every
 * clock. Errors: DPR_ERR_IO. */
dpr_status_t dpr_explanation_print(const dpr_explanation_t *explanation, bool details, FILE *out);

/* The report's member "explanation" (docs/report-schema.md); the caller releases it. NULL where
 * memory is out. */
struct json_t;
struct json_t *dpr_explanation_json(const dpr_explanation_t *explanation);

#endif
