/*
 * Comparison: one model, one number of ranks and of micro-batches, every schedule side by side.
 *
 * The model is the same for all. Its costs are given as those of one stage when it is cut into P
 * stages, one a rank; a schedule that cuts it into S stages has P / S of them in each. So every
 * rank has the same work to do under every schedule, and only the order differs. A message is an
 * activation whatever the cut, and costs the same wire time.
 */
#ifndef DPR_MODELS_COMPARE_H
#define DPR_MODELS_COMPARE_H

#include "models/bubbles.h"
#include "models/communication.h"
#include "models/memory.h"

/* Largest S * M that is played out here. */
#define DPR_COMPARE_MAX_CELLS (1 << 20)

/* Fills stage[0 .. stages-1] for the model cut into `stages`; any status but DPR_OK is logged. */
typedef dpr_status_t (*dpr_stage_memory_fn_t)(void *user, int stages, dpr_stage_memory_t *stage);

typedef struct dpr_compare_config {
    int ranks;
    int micro_batches;
    dpr_uniform_costs_t costs; /* of one of P stages */
    bool costs_of_own_stages;  /* take the costs as those of each schedule's own stages instead */
    int64_t message_bytes;
    dpr_stage_memory_fn_t stage_memory; /* NULL: memory is not compared */
    void *stage_memory_user;
    dpr_memory_format_t memory_format; /* where stage_memory is set */
} dpr_compare_config_t;

typedef struct dpr_comparison {
    char schedule[32];
    bool runs;        /* the schedule allows (P, M); else only `reason` is set */
    char reason[256]; /* why not: what it needs, and the nearest allowed values */
    int32_t stages;
    double step_sec;     /* simulated span */
    double bubble_sec;   /* simulated, mean over the ranks */
    double bubble_ratio; /* of the same */
    bool has_closed_form;
    dpr_bubble_t closed_form;
    int32_t peak_activations;  /* saved sets at once, on the rank that holds most */
    double activation_shares;  /* the same in shares of 1 / P of the model: sets * P / S */
    double parameter_copies;   /* parameters of the rank that holds most, in shares of 1 / P */
    int32_t stages_per_rank;   /* of that rank */
    dpr_traffic_t traffic;     /* all ranks */
    int64_t most_sent_bytes;   /* by one rank */
    uint64_t memory_bytes;     /* of the rank that holds most; 0 where not compared */
    uint64_t activation_bytes; /* SAVED of that rank; 0 where not compared */
} dpr_comparison_t;

/* The costs of one of S stages of a model whose costs are of one of P: all but wire times P / S. */
dpr_uniform_costs_t dpr_costs_of_cut(const dpr_uniform_costs_t *costs, int ranks, int stages);

/*
 * Plays one schedule of the table. A schedule that does not allow (P, M) is not an error: `runs` is
 * false and `reason` says why.
 * Errors: DPR_ERR_INVALID where the name is unknown, P or M is beyond what any program may have, a
 * cost is negative or not finite, or S * M is above DPR_COMPARE_MAX_CELLS; those of the models
 * compared; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_compare_schedule(const dpr_compare_config_t *config, const char *schedule,
                                  dpr_comparison_t *comparison);

/* The same for any program, which brings its own P, S and M. Errors: also those of
 * dpr_graph_create. */
dpr_status_t dpr_compare_program(const dpr_compare_config_t *config, const dpr_program_t *program,
                                 dpr_comparison_t *comparison);

#endif
