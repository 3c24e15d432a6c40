/*
 * Costs other than the same for all, as options of simulate: a cost file with costs a stage and a
 * link, stragglers, and jitter over many draws.
 */
#ifndef DPR_APPS_PLAN_PERTURB_H
#define DPR_APPS_PLAN_PERTURB_H

#include "apps/option_table.h"
#include "models/costs.h"
#include "models/montecarlo.h"

enum { PLAN_MAX_STRAGGLERS = 64 };

typedef struct plan_perturb {
    const char *cost_file;
    uint64_t message_bytes; /* of a transfer, for a cost file's links */
    const char *stragglers[PLAN_MAX_STRAGGLERS];
    int straggler_count;
    double jitter;
    int draws;
    uint64_t seed;
} plan_perturb_t;

#define PLAN_PERTURB_DEFAULT                                                                       \
    {                                                                                              \
        .draws = 1000, .seed = 1                                                                   \
    }

/* --cost-file, --message-bytes, --straggler, --jitter, --draws, --seed. Of a plan_perturb_t. */
extern const option_row_t plan_perturb_options[];

/* Whether costs are the same on all ranks, so that a closed form may be asked. */
bool plan_perturb_is_uniform(const plan_perturb_t *perturb);

/*
 * Fills cost[node]: `uniform`, or the cost file's, slowed by the stragglers. Where there is a cost
 * file, *uniform becomes the mean costs. Errors: those of dpr_cost_model_read and
 * dpr_straggler_parse; DPR_ERR_MEMORY.
 */
dpr_status_t plan_perturb_fill(const plan_perturb_t *perturb, const dpr_graph_t *graph,
                               dpr_uniform_costs_t *uniform, double *cost);

/* Plays the draws. Errors: those of dpr_montecarlo_run. */
dpr_status_t plan_perturb_draw(const plan_perturb_t *perturb, const dpr_graph_t *graph,
                               const double *cost, dpr_montecarlo_t *drawn);

#endif
