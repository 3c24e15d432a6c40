/* dualpipe_plan report: saved runs as tables, one alone or two compared. */
#ifndef DPR_APPS_PLAN_REPORT_H
#define DPR_APPS_PLAN_REPORT_H

#include "apps/plan_table.h"
#include "runtime/run.h"

/* A run that was read, and what the models say of it. */
typedef struct plan_reported {
    const char *path;
    const dpr_run_t *run;
    dpr_run_analysis_t analysis;
} plan_reported_t;

/* The timeline that counts: the measured one where there is one. */
const dpr_run_side_t *plan_reported_side(const plan_reported_t *reported);

/* Writes the tables of one run. Errors: those of plan_report_write; DPR_ERR_MEMORY. */
dpr_status_t plan_report_one(const plan_reported_t *reported, plan_format_t format);

/* Writes two runs side by side, with what `b` has more than `a`. Errors: the same. */
dpr_status_t plan_report_two(const plan_reported_t *a, const plan_reported_t *b,
                             plan_format_t format);

#endif
