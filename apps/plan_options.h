/* Options that several commands have, and what follows from them. */
#ifndef DPR_APPS_PLAN_OPTIONS_H
#define DPR_APPS_PLAN_OPTIONS_H

#include "apps/option_table.h"
#include "apps/plan_table.h"
#include "models/costs.h"
#include "models/memory.h"

/* --json and --csv, of a plan_format_t. */
extern const option_row_t plan_output_options[];

/* --cost, of a dpr_uniform_costs_t. */
extern const option_row_t plan_cost_options[];

/* What a report says of such costs. */
#define PLAN_COST_COLUMNS                                                                          \
    {"cost_f", "F", PLAN_REAL}, {"cost_i", "I", PLAN_REAL}, {"cost_w", "W", PLAN_REAL},            \
        {"cost_b", "B", PLAN_REAL}, {"cost_fb", "F&B", PLAN_REAL},                                 \
    {                                                                                              \
        "cost_wire", "wire", PLAN_REAL                                                             \
    }
void plan_table_costs(plan_table_t *table, const dpr_uniform_costs_t *costs);

/* --schedule LIST, --ranks and --micro-batches, where a command takes several schedules. */
enum { PLAN_MAX_SCHEDULES = 64 };

typedef struct plan_schedules {
    const char *names[PLAN_MAX_SCHEDULES];
    int count; /* 0 until plan_schedules_complete: all */
    int ranks; /* 0: not given */
    int micro_batches;
    char text[1024]; /* what the names point into */
} plan_schedules_t;

extern const option_row_t plan_schedules_options[];

/*
 * All schedules where none was named. Errors: DPR_ERR_INVALID where --ranks (unless `ranks_needed`
 * is false) or --micro-batches is missing.
 */
dpr_status_t plan_schedules_complete(plan_schedules_t *schedules, bool ranks_needed);

/* With --schedule-file instead. Errors: DPR_ERR_INVALID where any of the others was given, too. */
dpr_status_t plan_schedules_expect_none(const plan_schedules_t *schedules);

/* Stages x micro-batches that all schedules of a command may have together: some seconds. */
enum { PLAN_MAX_CELLS = 1 << 22 };

/*
 * Whether all schedules together can be played out in some seconds, on the ranks given, or where
 * `stages` is above 0 on as many as hold these. Errors: DPR_ERR_INVALID; the message says what to
 * lower.
 */
dpr_status_t plan_schedules_check_work(const plan_schedules_t *schedules, int stages);

/* DPR_ERR_INVALID where `found` is 0: of all schedules asked for, none can run. */
dpr_status_t plan_expect_some(int found, const plan_schedules_t *schedules);

/* "--x is missing: expected a whole number from ..." where value is 0. */
dpr_status_t plan_expect_int(const char *option, int value, int least, int most);

/* ---- Schedules that cannot run, and why: a table of a report ---- */

extern const plan_shape_t plan_reason_shape;

/* A row of it; `reason` up to the end of its first line. */
void plan_reason_add(plan_table_t *reasons, const char *schedule, const char *reason);

/* Whether the schedule runs on these ranks and micro-batches; else says why in `reasons`. */
bool plan_schedules_allow(const plan_schedules_t *schedules, const char *schedule,
                          plan_table_t *reasons);

#endif
