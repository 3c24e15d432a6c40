/* Options that several commands have, each a child parser of argp. */
#ifndef DPR_APPS_PLAN_OPTIONS_H
#define DPR_APPS_PLAN_OPTIONS_H

#include <argp.h>

#include "apps/plan_table.h"
#include "models/costs.h"
#include "models/memory.h"

/* --json and --csv; input: plan_format_t, which the caller has set to PLAN_FORMAT_TEXT. */
extern const struct argp plan_output_argp;

/* --cost; input: dpr_uniform_costs_t, which the caller has set to its defaults. */
extern const struct argp plan_cost_argp;

/* --schedule LIST, --ranks and --micro-batches, where a command takes several schedules. */
enum { PLAN_MAX_SCHEDULES = 64 };

typedef struct plan_schedules {
    const char *names[PLAN_MAX_SCHEDULES];
    int count; /* 0 until plan_schedules_complete: all */
    int ranks; /* 0: not given */
    int micro_batches;
    char text[1024]; /* what the names point into */
} plan_schedules_t;

/* Input: plan_schedules_t, zeroed. */
extern const struct argp plan_schedules_argp;

/*
 * All schedules where none was named. Errors: DPR_ERR_INVALID where --ranks (unless `ranks_needed`
 * is false) or --micro-batches is missing.
 */
dpr_status_t plan_schedules_complete(plan_schedules_t *schedules, bool ranks_needed);

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

/*
 * Numbers; messages name the option, the text and the range. plan_parse_real refuses NaN.
 * plan_parse_count takes a whole number with an optional factor: K or k, M, G, T (powers of 1000)
 * or Ki, Mi, Gi, Ti (of 1024).
 */
dpr_status_t plan_parse_real(const char *option, const char *text, double least, double most,
                             double *value);
dpr_status_t plan_parse_count(const char *option, const char *text, uint64_t least, uint64_t most,
                              uint64_t *value);

/* "--x is missing: expected a whole number from ..." where value is 0. */
dpr_status_t plan_expect_int(const char *option, int value, int least, int most);

#endif
