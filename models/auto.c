/* The scheduler: the search from the best starts for one placement, the choice of a placement, and
 * the report. */
#include "models/auto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "models/auto_scheduler.h"

/* As bits of a set of placements; that of DPR_AUTO_ANY stands for all others. */
enum { EVERY_PLACEMENT = (1 << (DPR_AUTO_PLACEMENTS + 1)) - 1 };

/* ---- The search ---- */

/* Temperatures of the runs from the best so far, that follow one run from every start. */
static const double heats[] = {0.1, 0.03};
static const double start_heat = 0.03;

enum { LATER_RUNS = sizeof heats / sizeof heats[0] };

/* What one run gets of what is left of the budget; false where nothing is. */
static bool share_budget(const auto_scheduler_t *scheduler, double until_sec, int parts,
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

/* An auto_judge_fn_t. */
static dpr_status_t judge(void *user, const int32_t *order)
{
    auto_verdict_t verdict;
    return auto_judge_order(user, order, &verdict);
}

/* From every start, then, several times, from the best so far: every run with an equal share. */
static dpr_status_t search(auto_scheduler_t *scheduler, double until_sec)
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
        DPR_TRY(auto_improve(problem, budget, bound, judge, scheduler, scheduler->order,
                             &scheduler->report.iterations));
    }
    return DPR_OK;
}

static dpr_status_t schedule_with(auto_scheduler_t *scheduler, auto_clock_t *clock, double began)
{
    dpr_auto_report_t *report = &scheduler->report;
    const double budget = scheduler->request->budget_sec;
    const double until = budget > 0.0 ? began + budget : 0.0;
    DPR_TRY(auto_bound(&scheduler->problem, &report->lower_bound_sec));
    DPR_TRY(auto_start_from_lists(scheduler, clock, until > 0.0 ? began + 0.5 * budget : 0.0));
    for (int i = 0; i < scheduler->start_count; i++) {
        auto_verdict_t verdict;
        DPR_TRY(auto_judge_order(scheduler, scheduler->starts[i].order, &verdict));
        report->list_sec = fmin(report->list_sec, verdict.makespan_sec);
    }
    DPR_TRY(auto_start_from_fixed(scheduler, clock));
    if (scheduler->request->iterations > 0 || budget > 0.0) {
        DPR_TRY(search(scheduler, until));
    }
    return DPR_OK;
}

static void release(auto_scheduler_t *scheduler)
{
    for (int i = 0; i < scheduler->start_count; i++) {
        free(scheduler->starts[i].order);
    }
    free(scheduler->order);
    dpr_program_free(&scheduler->best);
    auto_problem_free(&scheduler->problem);
}

/* Hands out the program and the report, NULL: not wanted. */
static void hand_out(auto_scheduler_t *scheduler, double began, dpr_program_t *program,
                     dpr_auto_report_t *report)
{
    *program = scheduler->best;
    scheduler->best = (dpr_program_t){0};
    scheduler->report.seconds = auto_now_sec() - began;
    if (report != NULL) {
        *report = scheduler->report;
    }
}

static dpr_status_t scheduler_init(auto_scheduler_t *scheduler, const dpr_auto_request_t *request,
                                   dpr_auto_placement_t placement)
{
    *scheduler = (auto_scheduler_t){.request = request, .best_sec = INFINITY};
    scheduler->report.best_fixed = -1;
    scheduler->report.list_sec = INFINITY;
    return auto_problem_init(&scheduler->problem, request, placement);
}

/* With one placement, the request's or, where that is DPR_AUTO_ANY, any. */
static dpr_status_t schedule_one(const dpr_auto_request_t *request, dpr_auto_placement_t placement,
                                 dpr_program_t *program, dpr_auto_report_t *report)
{
    const double began = auto_now_sec();
    auto_scheduler_t scheduler;
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
static dpr_auto_request_t share_request(const auto_scheduler_t *scheduler, double until_sec,
                                        int parts)
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
static dpr_status_t try_placement(auto_scheduler_t *all, const dpr_auto_request_t *one,
                                  dpr_auto_placement_t placement)
{
    dpr_program_t program;
    dpr_auto_report_t report;
    DPR_TRY(schedule_one(one, placement, &program, &report));
    const auto_verdict_t verdict = {.makespan_sec = report.makespan_sec,
                                    .bubble_sec = report.bubble_sec,
                                    .peak = report.peak_activations,
                                    .fits = true};
    auto_offer(all, &program, &verdict, report.fixed);
    all->report.list_sec = fmin(all->report.list_sec, report.list_sec);
    all->report.iterations += report.iterations;
    return DPR_OK;
}

static dpr_status_t try_all(auto_scheduler_t *all, const candidate_t *candidates, int count,
                            double began)
{
    const double budget = all->request->budget_sec;
    dpr_auto_report_t *report = &all->report;
    all->allowed = all->request->table == NULL ? EVERY_PLACEMENT : 0;
    for (int i = 0; i < count; i++) {
        all->allowed |= 1u << candidates[i].placement;
    }
    DPR_TRY(auto_start_from_fixed(all, NULL));
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
    auto_scheduler_t all;
    DPR_TRY(scheduler_init(&all, request, candidates[0].placement));
    const dpr_status_t status = try_all(&all, candidates, count, began);
    if (status == DPR_OK) {
        hand_out(&all, began, program, report);
    }
    release(&all);
    return status;
}
