/* Options of costs that differ, and what they do to cost[node]. */
#include "apps/plan_perturb.h"

#include <stdlib.h>

#include "apps/plan.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/perturb.h"
#include "runtime/cost_file.h"

/* Ops of all draws together: some seconds. */
enum { MAX_DRAWN_OPS = 1 << 27 };

static dpr_status_t take_straggler(const option_row_t *row, char *text, void *into)
{
    plan_perturb_t *perturb = into;
    if (perturb->straggler_count == PLAN_MAX_STRAGGLERS) {
        return dpr_fail(DPR_ERR_INVALID, "--%s: expected at most %d of them", row->name,
                        (int)PLAN_MAX_STRAGGLERS);
    }
    perturb->stragglers[perturb->straggler_count++] = text;
    return DPR_OK;
}

const option_row_t plan_perturb_options[] = {
    {"cost-file", "JSON",
     "Costs a stage, or a rank and stage, and a link, instead of --cost: the forms of "
     "dualpipe_train --cost-model",
     OPTION_FIELD(plan_perturb_t, cost_file)},
    {"message-bytes", "N",
     "Bytes of a transfer, for the links of --cost-file (default 0: latency alone)",
     OPTION_FIELD(plan_perturb_t, message_bytes), 0, 0x1p50},
    {"straggler", "RANK=FACTOR",
     "Compute on this rank takes FACTOR (0.001 to 1000) times as long; may be repeated",
     .take = take_straggler},
    {"jitter", "X",
     "Random costs, log-normal: standard deviation over mean, 0 to 2; mean and 95th percentile "
     "over --draws steps",
     OPTION_FIELD(plan_perturb_t, jitter), 0.0, DPR_JITTER_MAX},
    {"draws", "N", "Of --jitter (default 1000)", OPTION_FIELD(plan_perturb_t, draws), 1,
     DPR_MAX_DRAWS},
    {"seed", "N", "Of --jitter (default 1)", OPTION_BY(option_take_seed, plan_perturb_t, seed)},
    {0},
};

bool plan_perturb_is_uniform(const plan_perturb_t *perturb)
{
    return perturb->cost_file == NULL && perturb->straggler_count == 0;
}

static dpr_status_t fill_from_file(const plan_perturb_t *perturb, const dpr_graph_t *graph,
                                   dpr_uniform_costs_t *uniform, double *cost)
{
    dpr_cost_model_t model = {0};
    DPR_TRY(dpr_cost_model_read(perturb->cost_file, &model));
    const dpr_status_t status =
        dpr_cost_model_fill(&model, graph, (size_t)perturb->message_bytes, cost);
    dpr_cost_model_free(&model);
    DPR_TRY(status);
    dpr_uniform_costs_mean(graph, cost, uniform);
    return DPR_OK;
}

static dpr_status_t slow_down(const plan_perturb_t *perturb, const dpr_graph_t *graph, double *cost)
{
    double *factor;
    DPR_TRY(dpr_calloc((size_t)graph->ranks, sizeof *factor, &factor));
    dpr_status_t status = DPR_OK;
    for (int i = 0; i < perturb->straggler_count && status == DPR_OK; i++) {
        status = dpr_straggler_parse(perturb->stragglers[i], graph->ranks, factor);
    }
    for (int32_t r = 0; r < graph->ranks; r++) {
        factor[r] = factor[r] > 0.0 ? factor[r] : 1.0;
    }
    if (status == DPR_OK) {
        dpr_perturb_stragglers(graph, factor, cost);
    }
    free(factor);
    return status;
}

dpr_status_t plan_perturb_fill(const plan_perturb_t *perturb, const dpr_graph_t *graph,
                               dpr_uniform_costs_t *uniform, double *cost)
{
    if (perturb->cost_file != NULL) {
        DPR_TRY(fill_from_file(perturb, graph, uniform, cost));
    } else {
        dpr_uniform_costs_fill(uniform, graph, cost);
    }
    return perturb->straggler_count > 0 ? slow_down(perturb, graph, cost) : DPR_OK;
}

dpr_status_t plan_perturb_draw(const plan_perturb_t *perturb, const dpr_graph_t *graph,
                               const double *cost, dpr_montecarlo_t *drawn)
{
    const double ops = (double)perturb->draws * graph->node_count;
    if (ops > MAX_DRAWN_OPS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--draws %d: %d ops each are too much to play out: expected at most %d "
                        "draws of this program",
                        perturb->draws, graph->node_count, MAX_DRAWN_OPS / graph->node_count);
    }
    const dpr_montecarlo_options_t options = {
        .draws = perturb->draws, .variation = perturb->jitter, .seed = perturb->seed};
    return dpr_montecarlo_run(graph, cost, &options, drawn);
}
