/* Where the scheduler's search starts: the best orders of list scheduling and of the fixed
 * schedules, which are also what its result is held against. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "models/auto_scheduler.h"
#include "schedule/generators.h"

/* Keeps the order where it is among the shortest, and no order as long is there. */
static dpr_status_t add_start(auto_scheduler_t *scheduler, const int32_t *order,
                              double makespan_sec)
{
    const size_t size = (size_t)scheduler->problem.op_count * sizeof *order;
    auto_start_t *starts = scheduler->starts;
    int at = scheduler->start_count;
    while (at > 0 && starts[at - 1].makespan_sec > makespan_sec) {
        at--;
    }
    if (at == AUTO_STARTS ||
        (at > 0 && starts[at - 1].makespan_sec >= makespan_sec * (1 - 1e-12))) {
        return DPR_OK;
    }
    auto_start_t added = {.makespan_sec = makespan_sec};
    if (scheduler->start_count < AUTO_STARTS) {
        DPR_TRY(dpr_calloc(size, 1, &added.order));
        scheduler->start_count++;
    } else {
        added.order = starts[AUTO_STARTS - 1].order;
    }
    memmove(&starts[at + 1], &starts[at],
            (size_t)(scheduler->start_count - 1 - at) * sizeof *starts);
    memcpy(added.order, order, size);
    starts[at] = added;
    return DPR_OK;
}

/* ---- List scheduling ---- */

/* Every rule, or, where the problem is large, every so many of them: a turn looks at all ranks. */
static int rule_step(const auto_problem_t *problem)
{
    const double most = 4e9;
    const double all = (double)auto_list_rules(problem) * problem->op_count * problem->ranks;
    return 1 + (int)(all / most);
}

dpr_status_t auto_start_from_lists(auto_scheduler_t *scheduler, auto_clock_t *clock,
                                   double until_sec)
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

static bool is_allowed(const auto_scheduler_t *scheduler, dpr_auto_placement_t placement)
{
    return (scheduler->allowed >> placement & 1u) != 0;
}

/* The best fixed schedule seeds the search, split into F, I and W, where there is one (a clock). */
static dpr_status_t offer_rival(auto_scheduler_t *scheduler, dpr_program_t *program,
                                const auto_verdict_t *verdict, auto_clock_t *clock)
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
    auto_offer(scheduler, program, verdict, rival->name);
    return clock != NULL && auto_clock_run(clock, problem, scheduler->order, INFINITY)
               ? add_start(scheduler, scheduler->order, clock->makespan_sec)
               : DPR_OK;
}

static dpr_status_t play_rival(auto_scheduler_t *scheduler, const dpr_schedule_t *schedule,
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
    rival->placement = auto_placement_text(placement);
    rival->same_placement = is_allowed(scheduler, placement);
    if (!rival->same_placement && !scheduler->play_others) {
        dpr_program_free(&program);
        return DPR_OK;
    }
    auto_verdict_t verdict;
    const dpr_status_t status = auto_judge_program(scheduler, &program, &verdict);
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

dpr_status_t auto_start_from_fixed(auto_scheduler_t *scheduler, auto_clock_t *clock)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count && i < DPR_AUTO_MAX_RIVALS; i++) {
        DPR_TRY(play_rival(scheduler, &schedules[i], clock));
        scheduler->report.rival_count++;
    }
    return DPR_OK;
}
