/* What the search and the sensitivity analysis share: all candidates, played under variants. */
#ifndef DPR_MODELS_SEARCH_IMPL_H
#define DPR_MODELS_SEARCH_IMPL_H

#include "models/search.h"

/* The most that a number up to 2^20 has is 240. */
enum { DPR_MAX_DIVISORS = 256 };

/* All candidates of one (schedule, ranks, micro-batches). */
typedef struct search_group {
    const char *schedule; /* name, with the v that was asked for */
    int ranks;
    int micro_batches;
    int first; /* candidates[first .. first + count - 1] */
    int count;
} search_group_t;

typedef struct search_task {
    const dpr_workload_t *workload;
    const dpr_hardware_t *hardware;
    const dpr_search_options_t *options;
    double memory_bytes; /* the limit */

    const dpr_cost_factors_t *variants;
    int variant_count;

    search_group_t *groups;
    size_t group_capacity;
    int group_count;
    dpr_candidate_t *candidates; /* in the order tried; .step is of variant 0 */
    size_t candidate_capacity;
    int candidate_count;
    int skipped;
    double work;                    /* cells to lower, and a sixteenth of those to play */
    int divisors[DPR_MAX_DIVISORS]; /* of the global batch, ascending */
    int divisor_count;
    bool *fits;        /* [candidate] */
    dpr_step_t *steps; /* [candidate][variant] */

    dpr_stepper_t *steppers; /* [worker] */
    int threads;
} search_task_t;

/* Checks, enumerates and plays every candidate under every variant. On failure, too, release with
 * search_task_free. Errors: those of dpr_search_run. At least one candidate fits on success. */
dpr_status_t search_task_run(search_task_t *task);
void search_task_free(search_task_t *task);

/* Below 0 where candidate a is better than b: step time, memory, devices, order tried. */
int search_compare(const search_task_t *task, int variant, int a, int b);

#endif
