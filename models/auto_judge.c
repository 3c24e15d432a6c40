/* The scheduler's judge: what a program takes and holds, and the best one so far. */
#include <stdlib.h>

#include "base/memory.h"
#include "models/auto_scheduler.h"
#include "models/compare.h"
#include "models/simulate.h"

const char *auto_placement_text(dpr_auto_placement_t placement)
{
    return placement == DPR_AUTO_ANY ? "other" : dpr_auto_placement_name(placement);
}

/* Rank 0's limit in saved sets of one of `stages`. */
static int32_t limit_in_stages(const auto_problem_t *problem, int32_t stages)
{
    const int64_t limit = (int64_t)problem->limit[0] * stages / problem->stages;
    return limit < INT32_MAX ? (int32_t)limit : INT32_MAX;
}

static dpr_status_t fill_costs(const auto_scheduler_t *scheduler, const dpr_graph_t *graph,
                               double *cost)
{
    const dpr_auto_request_t *request = scheduler->request;
    if (request->table != NULL) {
        return dpr_cost_table_fill(request->table, graph, request->message_bytes, cost);
    }
    const dpr_uniform_costs_t costs =
        dpr_costs_of_cut(&request->costs, graph->ranks, graph->stages);
    dpr_uniform_costs_fill(&costs, graph, cost);
    return DPR_OK;
}

static void weigh(const auto_scheduler_t *scheduler, const dpr_graph_t *graph, const double *cost,
                  auto_verdict_t *verdict)
{
    const auto_problem_t *problem = &scheduler->problem;
    double busy = 0.0;
    for (int32_t n = 0; n < graph->compute_count; n++) {
        busy += cost[n];
    }
    verdict->bubble_sec = verdict->makespan_sec - busy / graph->ranks;
    verdict->peak = 0;
    verdict->fits = true;
    for (int32_t r = 0; r < graph->ranks; r++) {
        const int32_t peak = dpr_graph_peak_activations(graph, r);
        verdict->peak = peak > verdict->peak ? peak : verdict->peak;
        verdict->fits = verdict->fits && (int64_t)peak * problem->stages <=
                                             (int64_t)problem->limit[r] * graph->stages;
    }
}

dpr_status_t auto_judge_program(const auto_scheduler_t *scheduler, const dpr_program_t *program,
                                auto_verdict_t *verdict)
{
    dpr_graph_t *graph;
    DPR_TRY(dpr_graph_create(program, NULL, &graph));
    double *cost = NULL;
    double *end = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->node_count, sizeof *cost, &cost), free_all);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->node_count, sizeof *end, &end), free_all);
    DPR_TRY_GOTO(fill_costs(scheduler, graph, cost), free_all);
    verdict->makespan_sec = dpr_simulate_makespan(graph, cost, end);
    weigh(scheduler, graph, cost, verdict);
free_all:
    free(end);
    free(cost);
    dpr_graph_destroy(graph);
    return status;
}

void auto_offer(auto_scheduler_t *scheduler, dpr_program_t *program, const auto_verdict_t *verdict,
                const char *fixed)
{
    if (!verdict->fits || verdict->makespan_sec >= scheduler->best_sec * (1.0 - 1e-12)) {
        dpr_program_free(program);
        return;
    }
    dpr_program_free(&scheduler->best);
    scheduler->best = *program;
    scheduler->best_sec = verdict->makespan_sec;
    scheduler->report.makespan_sec = verdict->makespan_sec;
    scheduler->report.bubble_sec = verdict->bubble_sec;
    scheduler->report.peak_activations = verdict->peak;
    scheduler->report.placement = auto_placement_text(auto_placement_of(program));
    scheduler->report.stages = program->stages;
    scheduler->report.activations = limit_in_stages(&scheduler->problem, program->stages);
    scheduler->report.fixed = fixed;
}

dpr_status_t auto_judge_order(auto_scheduler_t *scheduler, const int32_t *order,
                              auto_verdict_t *verdict)
{
    dpr_program_t program;
    DPR_TRY(auto_order_to_program(&scheduler->problem, order, &program));
    const dpr_status_t status = auto_judge_program(scheduler, &program, verdict);
    if (status != DPR_OK) {
        dpr_program_free(&program);
        return status;
    }
    auto_offer(scheduler, &program, verdict, NULL);
    return DPR_OK;
}
