/*
 * The scheduler at work on one request: what auto.c (the search and the choice of a placement),
 * auto_starts.c (where the search starts) and auto_judge.c (what a program is worth) share.
 *
 *     lists, fixed schedules --> starts --> search --> judge --> the best program
 */
#ifndef DPR_MODELS_AUTO_SCHEDULER_H
#define DPR_MODELS_AUTO_SCHEDULER_H

#include "models/auto_impl.h"

enum { AUTO_STARTS = 4 }; /* orders from which the search begins */

typedef struct auto_start {
    int32_t *order;
    double makespan_sec;
} auto_start_t;

typedef struct auto_scheduler {
    const dpr_auto_request_t *request;
    unsigned allowed; /* placements that the result may have: 1 << placement, and DPR_AUTO_ANY's for
                         all others */
    bool play_others; /* fixed schedules of other placements, to compare; never with a table */
    auto_problem_t problem;
    dpr_auto_report_t report;
    dpr_program_t best; /* judged; none: zeroed */
    double best_sec;
    auto_start_t starts[AUTO_STARTS]; /* shortest first */
    int start_count;
    int32_t *order; /* scratch */
} auto_scheduler_t;

/* ---- auto_judge.c ---- */

typedef struct auto_verdict {
    double makespan_sec;
    double bubble_sec;
    int32_t peak; /* saved sets on the rank that holds most */
    bool fits;    /* with the request's limits, scaled to the program's stages */
} auto_verdict_t;

/* The placement's name; "other" for DPR_AUTO_ANY, as auto_placement_of has it. */
const char *auto_placement_text(dpr_auto_placement_t placement);

/* Lowers the program with the default slots, proves it and plays it. Errors: those of
 * dpr_graph_create and dpr_cost_table_fill. */
dpr_status_t auto_judge_program(const auto_scheduler_t *scheduler, const dpr_program_t *program,
                                auto_verdict_t *verdict);

/* Makes `program` the best where it is shorter and fits; takes it over or frees it. `fixed`: the
 * schedule's name, NULL where it was searched. */
void auto_offer(auto_scheduler_t *scheduler, dpr_program_t *program, const auto_verdict_t *verdict,
                const char *fixed);

/* Judges an order as a program and offers it. Errors: those of auto_judge_program. */
dpr_status_t auto_judge_order(auto_scheduler_t *scheduler, const int32_t *order,
                              auto_verdict_t *verdict);

/* ---- auto_starts.c ---- */

/* Fills the starts with the best orders of list scheduling: at least one, within any limit; else
 * until until_sec on auto_now_sec's clock, 0: no limit. */
dpr_status_t auto_start_from_lists(auto_scheduler_t *scheduler, auto_clock_t *clock,
                                   double until_sec);

/* Plays the fixed schedules for the report and offers those of the placements allowed; where there
 * is a clock they are starts, too. */
dpr_status_t auto_start_from_fixed(auto_scheduler_t *scheduler, auto_clock_t *clock);

#endif
