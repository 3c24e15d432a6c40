/* What a simulated timeline looks like, and why its ranks were idle: --trace, --ascii, --ledger. */
#ifndef DPR_APPS_PLAN_LEDGER_H
#define DPR_APPS_PLAN_LEDGER_H

#include <argp.h>
#include <jansson.h>

#include "schedule/timeline.h"

typedef struct plan_view {
    const char *trace; /* path, or NULL */
    bool ascii;
    int width; /* of the drawing; 0: the terminal's */
    bool ledger;
} plan_view_t;

/* --trace, --ascii, --ledger. Input: plan_view_t, which the caller has set to zero. */
extern const struct argp plan_view_argp;

/* Errors: DPR_ERR_INVALID where a drawing was asked for and the output is JSON. */
dpr_status_t plan_view_check(const plan_view_t *view, bool json);

/*
 * Writes the trace, and prints the drawing and the ledger to stdout, each where it was asked for.
 * cost[node] is what the ops should have taken, so that a slow rank shows as a straggler. Errors:
 * those of dpr_ledger_init, dpr_trace_write and dpr_drawing_print.
 */
dpr_status_t plan_view_print(const plan_view_t *view, const dpr_timeline_t *timeline,
                             const double *cost);

/* The trace as above, and the ledger as keys "ledger" and "critical_path" of `root`. */
dpr_status_t plan_view_json(const plan_view_t *view, const dpr_timeline_t *timeline,
                            const double *cost, json_t *root);

#endif
