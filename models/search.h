/*
 * Search: of all (schedule, ranks, micro-batches, micro-batch size, replicas) within the limits,
 * the fastest, and what they cost in memory.
 *
 *     groups: (schedule, ranks, micro-batches)       lowered once, by whatever core is free
 *       candidates: (replicas, micro-batch size)     simulated, one pass a variant of the costs
 *
 * Every candidate has the same global batch: micro-batches x size x replicas. What does not fit in
 * memory is counted and dropped. The result does not depend on the number of threads.
 */
#ifndef DPR_MODELS_SEARCH_H
#define DPR_MODELS_SEARCH_H

#include "models/throughput.h"
#include "schedule/generators.h"

enum { DPR_MAX_SEARCH_GROUPS = 1 << 16, DPR_MAX_SEARCH_CANDIDATES = 1 << 20 };

/* Largest S * M that a search lowers; more is counted as skipped. */
#define DPR_SEARCH_MAX_CELLS (1 << 18)

typedef struct dpr_search_options {
    int min_ranks;        /* pipeline ranks: 1 .. max_ranks */
    int max_ranks;        /* .. DPR_MAX_RANKS */
    int max_devices;      /* ranks x replicas: max_ranks .. 2^20 */
    int global_batch;     /* samples of a step, all replicas: 1 .. 2^20 */
    double memory_bytes;  /* limit of a device; 0: what the hardware has */
    const char *schedule; /* one name, or NULL: all of dpr_schedule_list, v = 2 */
    int threads;          /* 0: all cores */
} dpr_search_options_t;

typedef struct dpr_candidate {
    const char *schedule; /* name, as given where one was asked for ("interleaved-1f1b:4") */
    int ranks;
    int micro_batches;
    int micro_batch_size;
    int replicas;
    uint64_t peak_bytes; /* of the rank that holds most */
    dpr_step_t step;
} dpr_candidate_t;

/* Owned (dpr_search_free). */
typedef struct dpr_search {
    dpr_candidate_t *candidates; /* that fit, by step time, then by memory, devices, order tried */
    int count;
    int *front; /* Pareto front: indices into candidates, by step time ascending, memory falling */
    int front_count;
    int considered; /* candidates played out */
    int too_large;  /* of these, over the memory limit */
    int skipped;    /* groups above DPR_SEARCH_MAX_CELLS */
} dpr_search_t;

/*
 * Errors: those of dpr_workload_check, dpr_hardware_check and dpr_hardware_has; DPR_ERR_INVALID
 * where an option is out of range, the schedule is unknown, there are more groups or candidates
 * than the limits above, or more of both than some minutes of work, no schedule allows any
 * combination, or nothing fits (the message says how much the smallest needs); DPR_ERR_MEMORY.
 */
dpr_status_t dpr_search_run(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                            const dpr_search_options_t *options, dpr_search_t *search);
void dpr_search_free(dpr_search_t *search); /* a zeroed one is allowed */

/* ---- Sensitivity ---- */

/* The costs that are varied: each of dpr_cost_factors_t, in its order. */
enum { DPR_COST_FACTORS = 7 };

/* "F", "I", "W", "F&B", "wire", "reduction", "update". */
const char *dpr_cost_factor_name(int factor);

typedef struct dpr_sensitivity_entry {
    double change;          /* what the cost is multiplied by, minus one */
    double step_sec;        /* of the winner with unchanged costs */
    double step_change;     /* over its unchanged step time, minus one */
    bool overtaken;         /* another candidate is then faster */
    dpr_candidate_t winner; /* under the changed cost; .step is under it, too */
} dpr_sensitivity_entry_t;

typedef struct dpr_sensitivity {
    dpr_candidate_t winner;                               /* with unchanged costs */
    dpr_sensitivity_entry_t entries[DPR_COST_FACTORS][2]; /* [cost][less, more] */
} dpr_sensitivity_t;

/*
 * Searches once with every cost varied by `change` (0 < change < 1; 0.1 is 10 percent) downwards
 * and upwards, one at a time: each graph is lowered once for all of it. Errors: those of
 * dpr_search_run.
 */
dpr_status_t dpr_sensitivity_run(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                 const dpr_search_options_t *options, double change,
                                 dpr_sensitivity_t *sensitivity);

#endif
