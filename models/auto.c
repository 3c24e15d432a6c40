/* The scheduler: the fixed schedules, the best orders of list scheduling, the search from both, the
 * choice of a placement, and the report. */
#include "models/auto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "models/auto_impl.h"
#include "models/compare.h"
#include "models/simulate.h"
#include "schedule/generators.h"

enum { STARTS = 4 }; /* orders from which the search begins */

typedef struct start {
    int32_t *order;
    double makespan_sec;
} start_t;

/* As bits of a set of placements; that of DPR_AUTO_ANY stands for all others. */
enum { EVERY_PLACEMENT = (1 << (DPR_AUTO_PLACEMENTS + 1)) - 1 };

typedef struct scheduler {
    const dpr_auto_request_t *request;
    unsigned allowed; /* placements that the result may have */
    bool play_others; /* fixed schedules of other placements, to compare; never with a table */
    auto_problem_t problem;
    dpr_auto_report_t report;
    dpr_program_t best; /* judged; none: zeroed */
    double best_sec;
    start_t starts[STARTS]; /* shortest first */
    int start_count;
    int32_t *order; /* scratch */
} scheduler_t;

/* ---- Placements ---- */

static const char *placement_text(dpr_auto_placement_t placement)
{
    return placement == DPR_AUTO_ANY ? "other" : dpr_auto_placement_name(placement);
}

static bool is_allowed(const scheduler_t *scheduler, dpr_auto_placement_t placement)
{
    return (scheduler->allowed >> placement & 1u) != 0;
}

/* Rank 0's limit in saved sets of one of `stages`. */
static int32_t limit_in_stages(const auto_problem_t *problem, int32_t stages)
{
    const int64_t limit = (int64_t)problem->limit[0] * stages / problem->stages;
    return limit < INT32_MAX ? (int32_t)limit : INT32_MAX;
}

/* ---- The judge ---- */

static dpr_status_t fill_costs(const scheduler_t *scheduler, const dpr_graph_t *graph, double *cost)
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

typedef struct verdict {
    double makespan_sec;
    double bubble_sec;
    int32_t peak;
    bool fits; /* with the request's limits, scaled to the program's stages */
} verdict_t;

static void weigh(const scheduler_t *scheduler, const dpr_graph_t *graph, const double *cost,
                  verdict_t *verdict)
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

/* Lowers the program with the default slots, proves it and plays it. */
static dpr_status_t judge_program(const scheduler_t *scheduler, const dpr_program_t *program,
                                  verdict_t *verdict)
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

/* Makes `program` the best where it is shorter; takes it over or frees it. */
static void offer(scheduler_t *scheduler, dpr_program_t *program, const verdict_t *verdict,
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
    scheduler->report.placement = placement_text(auto_placement_of(program));
    scheduler->report.stages = program->stages;
    scheduler->report.activations = limit_in_stages(&scheduler->problem, program->stages);
    scheduler->report.fixed = fixed;
}

static dpr_status_t judge_order_to(scheduler_t *scheduler, const int32_t *order, verdict_t *verdict)
{
    dpr_program_t program;
    DPR_TRY(auto_order_to_program(&scheduler->problem, order, &program));
    const dpr_status_t status = judge_program(scheduler, &program, verdict);
    if (status != DPR_OK) {
        dpr_program_free(&program);
        return status;
    }
    offer(scheduler, &program, verdict, NULL);
    return DPR_OK;
}

static dpr_status_t judge_order(void *user, const int32_t *order)
{
    verdict_t verdict;
    return judge_order_to(user, order, &verdict);
}

/* ---- Where the search starts ---- */

/* Keeps the order where it is among the shortest, and no order as long is there. */
static dpr_status_t add_start(scheduler_t *scheduler, const int32_t *order, double makespan_sec)
{
    const size_t size = (size_t)scheduler->problem.op_count * sizeof *order;
    start_t *starts = scheduler->starts;
    int at = scheduler->start_count;
    while (at > 0 && starts[at - 1].makespan_sec > makespan_sec) {
        at--;
    }
    if (at == STARTS || (at > 0 && starts[at - 1].makespan_sec >= makespan_sec * (1 - 1e-12))) {
        return DPR_OK;
    }
    start_t added = {.makespan_sec = makespan_sec};
    if (scheduler->start_count < STARTS) {
        DPR_TRY(dpr_calloc(size, 1, &added.order));
        scheduler->start_count++;
    } else {
        added.order = starts[STARTS - 1].order;
    }
    memmove(&starts[at + 1], &starts[at],
            (size_t)(scheduler->start_count - 1 - at) * sizeof *starts);
    memcpy(added.order, order, size);
    starts[at] = added;
    return DPR_OK;
}

/* Every rule, or, where the problem is large, every so many of them: a turn looks at all ranks. */
static int rule_step(const auto_problem_t *problem)
{
    const double most = 4e9;
    const double all = (double)auto_list_rules(problem) * problem->op_count * problem->ranks;
    return 1 + (int)(all / most);
}

static dpr_status_t list_all(scheduler_t *scheduler, auto_clock_t *clock, double until_sec)
{
    const auto_problem_t *problem = &scheduler->problem;
    const int rules = auto_list_rules(problem);
    const int step = rule_step(problem);
    for (int rule = 0; rule < rules; rule += step) {
        /* the first one always: so there is a program within any limit, whatever the time */
        if (rule > 0 && until_sec > 0.0 && auto_now_sec() >= until_sec) {
            break;
        }
        DPR_TRY(auto_list_schedule(problem, rule, scheduler->order));
        if (auto_clock_run(clock, problem, scheduler->order, INFINITY)) {
            DPR_TRY(add_start(scheduler, scheduler->order, clock->makespan_sec));
        }
    }
    return DPR_OK;
}

/* ---- The fixed schedules ---- */

/* The best fixed schedule seeds the search, split into F, I and W, where there is one (a clock). */
static dpr_status_t offer_rival(scheduler_t *scheduler, dpr_program_t *program,
                                const verdict_t *verdict, auto_clock_t *clock)
{
    dpr_auto_report_t *report = &scheduler->report;
    const dpr_auto_rival_t *rival = &report->rivals[report->rival_count];
    const auto_problem_t *problem = &scheduler->problem;
    if (!rival->same_placement || !rival->fits) {
        dpr_program_free(program);
        return DPR_OK;
    }
    if (report->best_fixed < 0 ||
        rival->makespan_sec < report->rivals[report->best_fixed].makespan_sec) {
        report->best_fixed = report->rival_count;
    }
    if (clock != NULL) {
        auto_order_of_program(problem, program, scheduler->order);
    }
    offer(scheduler, program, verdict, rival->name);
    return clock != NULL && auto_clock_run(clock, problem, scheduler->order, INFINITY)
               ? add_start(scheduler, scheduler->order, clock->makespan_sec)
               : DPR_OK;
}

static dpr_status_t play_rival(scheduler_t *scheduler, const dpr_schedule_t *schedule,
                               auto_clock_t *clock)
{
    const auto_problem_t *problem = &scheduler->problem;
    dpr_auto_rival_t *rival = &scheduler->report.rivals[scheduler->report.rival_count];
    *rival = (dpr_auto_rival_t){.name = schedule->name};
    if (!schedule->allows(problem->ranks, problem->micro_batches)) {
        return DPR_OK;
    }
    dpr_program_t program;
    DPR_TRY(schedule->generate(problem->ranks, problem->micro_batches, &program));
    const dpr_auto_placement_t placement = auto_placement_of(&program);
    rival->placement = placement_text(placement);
    rival->same_placement = is_allowed(scheduler, placement);
    if (!rival->same_placement && !scheduler->play_others) {
        dpr_program_free(&program);
        return DPR_OK;
    }
    verdict_t verdict;
    const dpr_status_t status = judge_program(scheduler, &program, &verdict);
    if (status != DPR_OK) {
        dpr_program_free(&program);
        return status;
    }
    rival->runs = true;
    rival->fits = verdict.fits;
    rival->peak_shares = (double)verdict.peak * program.ranks / program.stages;
    rival->makespan_sec = verdict.makespan_sec;
    rival->bubble_sec = verdict.bubble_sec;
    return offer_rival(scheduler, &program, &verdict, clock);
}

static dpr_status_t play_rivals(scheduler_t *scheduler, auto_clock_t *clock)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count && i < DPR_AUTO_MAX_RIVALS; i++) {
        DPR_TRY(play_rival(scheduler, &schedules[i], clock));
        scheduler->report.rival_count++;
    }
    return DPR_OK;
}

/* ---- The search ---- */

/* Temperatures of the runs from the best so far, that follow one run from every start. */
static const double heats[] = {0.1, 0.03};
static const double start_heat = 0.03;

enum { LATER_RUNS = sizeof heats / sizeof heats[0] };

/* What one run gets of what is left of the budget; false where nothing is. */
static bool share_budget(const scheduler_t *scheduler, double until_sec, int parts,
                         auto_budget_t *budget)
{
    const dpr_auto_request_t *request = scheduler->request;
    const int64_t left = request->iterations - scheduler->report.iterations;
    const double now = auto_now_sec();
    if ((request->iterations > 0 && left <= 0) || (until_sec > 0.0 && now >= until_sec)) {
        return false;
    }
    budget->iterations = request->iterations > 0 ? (left + parts - 1) / parts : 0;
    budget->until_sec = until_sec > 0.0 ? now + (until_sec - now) / (double)parts : 0.0;
    return true;
}

/* From every start, then, several times, from the best so far: every run with an equal share. */
static dpr_status_t search(scheduler_t *scheduler, double until_sec)
{
    const auto_problem_t *problem = &scheduler->problem;
    const int runs = scheduler->start_count + LATER_RUNS;
    const double bound = scheduler->report.lower_bound_sec;
    for (int i = 0; i < runs && scheduler->best_sec > bound; i++) {
        auto_budget_t budget = {.seed = dpr_random_bits(scheduler->request->seed, 2, (uint64_t)i),
                                .heat = start_heat};
        if (!share_budget(scheduler, until_sec, runs - i, &budget)) {
            break;
        }
        if (i < scheduler->start_count) {
            memcpy(scheduler->order, scheduler->starts[i].order,
                   (size_t)problem->op_count * sizeof *scheduler->order);
        } else {
            budget.heat = heats[i - scheduler->start_count];
            auto_order_of_program(problem, &scheduler->best, scheduler->order);
        }
        DPR_TRY(auto_improve(problem, budget, bound, judge_order, scheduler, scheduler->order,
                             &scheduler->report.iterations));
    }
    return DPR_OK;
}

static dpr_status_t schedule_with(scheduler_t *scheduler, auto_clock_t *clock, double began)
{
    dpr_auto_report_t *report = &scheduler->report;
    const double budget = scheduler->request->budget_sec;
    const double until = budget > 0.0 ? began + budget : 0.0;
    DPR_TRY(auto_bound(&scheduler->problem, &report->lower_bound_sec));
    DPR_TRY(list_all(scheduler, clock, until > 0.0 ? began + 0.5 * budget : 0.0));
    for (int i = 0; i < scheduler->start_count; i++) {
        verdict_t verdict;
        DPR_TRY(judge_order_to(scheduler, scheduler->starts[i].order, &verdict));
        report->list_sec = fmin(report->list_sec, verdict.makespan_sec);
    }
    DPR_TRY(play_rivals(scheduler, clock));
    if (scheduler->request->iterations > 0 || budget > 0.0) {
        DPR_TRY(search(scheduler, until));
    }
    return DPR_OK;
}

static void release(scheduler_t *scheduler)
{
    for (int i = 0; i < scheduler->start_count; i++) {
        free(scheduler->starts[i].order);
    }
    free(scheduler->order);
    dpr_program_free(&scheduler->best);
    auto_problem_free(&scheduler->problem);
}

/* Hands out the program and the report, NULL: not wanted. */
static void hand_out(scheduler_t *scheduler, double began, dpr_program_t *program,
                     dpr_auto_report_t *report)
{
    *program = scheduler->best;
    scheduler->best = (dpr_program_t){0};
    scheduler->report.seconds = auto_now_sec() - began;
    if (report != NULL) {
        *report = scheduler->report;
    }
}

static dpr_status_t scheduler_init(scheduler_t *scheduler, const dpr_auto_request_t *request,
                                   dpr_auto_placement_t placement)
{
    *scheduler = (scheduler_t){.request = request, .best_sec = INFINITY};
    scheduler->report.best_fixed = -1;
    scheduler->report.list_sec = INFINITY;
    return auto_problem_init(&scheduler->problem, request, placement);
}

/* With one placement, the request's or, where that is DPR_AUTO_ANY, any. */
static dpr_status_t schedule_one(const dpr_auto_request_t *request, dpr_auto_placement_t placement,
                                 dpr_program_t *program, dpr_auto_report_t *report)
{
    const double began = auto_now_sec();
    scheduler_t scheduler;
    DPR_TRY(scheduler_init(&scheduler, request, placement));
    scheduler.allowed = 1u << placement;
    scheduler.play_others = request->table == NULL && request->placement != DPR_AUTO_ANY;
    auto_clock_t clock = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(
        dpr_calloc((size_t)scheduler.problem.op_count, sizeof *scheduler.order, &scheduler.order),
        release_all);
    DPR_TRY_GOTO(auto_clock_init(&clock, &scheduler.problem), release_all);
    DPR_TRY_GOTO(schedule_with(&scheduler, &clock, began), release_all);
    hand_out(&scheduler, began, program, report);
release_all:
    auto_clock_free(&clock);
    release(&scheduler);
    return status;
}

/* ---- Any placement ---- */

typedef struct candidate {
    dpr_auto_placement_t placement;
    double bound_sec;
} candidate_t;

/* The placements that can run, that with the least bound first; *count may be 0. */
static dpr_status_t find_candidates(const dpr_auto_request_t *request, candidate_t *candidates,
                                    int *count)
{
    *count = 0;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        candidate_t found = {.placement = (dpr_auto_placement_t)p};
        if (!auto_can_run(request, found.placement)) {
            continue;
        }
        auto_problem_t problem;
        DPR_TRY(auto_problem_init(&problem, request, found.placement));
        const dpr_status_t status = auto_bound(&problem, &found.bound_sec);
        auto_problem_free(&problem);
        DPR_TRY(status);
        int at = (*count)++;
        for (; at > 0 && candidates[at - 1].bound_sec > found.bound_sec; at--) {
            candidates[at] = candidates[at - 1];
        }
        candidates[at] = found;
    }
    return DPR_OK;
}

/* The request of one of `parts` placements that are still to be searched: its share of what is left
 * of the budget. */
static dpr_auto_request_t share_request(const scheduler_t *scheduler, double until_sec, int parts)
{
    dpr_auto_request_t one = *scheduler->request;
    auto_budget_t budget = {0};
    const bool any_left = share_budget(scheduler, until_sec, parts, &budget);
    one.iterations = any_left ? budget.iterations : 0;
    if (until_sec > 0.0) { /* where nothing is left, not 0, which were no limit */
        one.budget_sec = any_left ? fmax(budget.until_sec - auto_now_sec(), 1e-9) : 1e-9;
    }
    return one;
}

/* Takes the placement's program where it is shorter than all before. */
static dpr_status_t try_placement(scheduler_t *all, const dpr_auto_request_t *one,
                                  dpr_auto_placement_t placement)
{
    dpr_program_t program;
    dpr_auto_report_t report;
    DPR_TRY(schedule_one(one, placement, &program, &report));
    const verdict_t verdict = {.makespan_sec = report.makespan_sec,
                               .bubble_sec = report.bubble_sec,
                               .peak = report.peak_activations,
                               .fits = true};
    offer(all, &program, &verdict, report.fixed);
    all->report.list_sec = fmin(all->report.list_sec, report.list_sec);
    all->report.iterations += report.iterations;
    return DPR_OK;
}

static dpr_status_t try_all(scheduler_t *all, const candidate_t *candidates, int count,
                            double began)
{
    const double budget = all->request->budget_sec;
    dpr_auto_report_t *report = &all->report;
    all->allowed = all->request->table == NULL ? EVERY_PLACEMENT : 0;
    for (int i = 0; i < count; i++) {
        all->allowed |= 1u << candidates[i].placement;
    }
    DPR_TRY(play_rivals(all, NULL));
    report->lower_bound_sec = fmin(candidates[0].bound_sec, all->best_sec);
    for (int i = 0; i < count; i++) {
        /* the first one always: that there is a program within the limit */
        if (i > 0 && candidates[i].bound_sec >= all->best_sec) {
            break;
        }
        const dpr_auto_request_t one =
            share_request(all, budget > 0.0 ? began + budget : 0.0, count - i);
        DPR_TRY(try_placement(all, &one, candidates[i].placement));
    }
    return DPR_OK;
}

/* Where none can run, this one's errors say why. */
static dpr_auto_placement_t least_demanding(const dpr_auto_request_t *request)
{
    return request->table != NULL && request->table->stages == 2 * (int64_t)request->ranks
               ? DPR_AUTO_V
               : DPR_AUTO_ONE_TO_ONE;
}

dpr_status_t dpr_auto_schedule(const dpr_auto_request_t *request, dpr_program_t *program,
                               dpr_auto_report_t *report)
{
    const double began = auto_now_sec();
    candidate_t candidates[DPR_AUTO_PLACEMENTS];
    int count = 0;
    if (request->placement != DPR_AUTO_ANY) {
        return schedule_one(request, request->placement, program, report);
    }
    DPR_TRY(find_candidates(request, candidates, &count));
    if (count == 0) {
        return schedule_one(request, least_demanding(request), program, report);
    }
    scheduler_t all;
    DPR_TRY(scheduler_init(&all, request, candidates[0].placement));
    const dpr_status_t status = try_all(&all, candidates, count, began);
    if (status == DPR_OK) {
        hand_out(&all, began, program, report);
    }
    release(&all);
    return status;
}
