/* Numbers of micro-batches, by simulation. */
#include "models/analysis.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/bubbles.h"
#include "models/simulate.h"

/* ---- One point ---- */

static dpr_status_t check_costs(const dpr_uniform_costs_t *costs)
{
    const double all[] = {
        costs->f, costs->i, costs->w, dpr_uniform_b(costs), dpr_uniform_fb(costs), costs->wire};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!isfinite(all[i]) || all[i] < 0.0) {
            return dpr_fail(DPR_ERR_INVALID, "a cost of %g: expected a finite number, 0 or more",
                            all[i]);
        }
    }
    return DPR_OK;
}

static dpr_status_t measure(const dpr_graph_t *graph, const dpr_uniform_costs_t *costs,
                            dpr_micro_batch_point_t *point)
{
    const size_t nodes = (size_t)graph->node_count;
    double *cost;
    DPR_TRY(dpr_calloc(2 * nodes, sizeof *cost, &cost));
    dpr_uniform_costs_fill(costs, graph, cost);
    const double span = dpr_simulate_makespan(graph, cost, cost + nodes);
    double busy = 0.0;
    for (int32_t n = 0; n < graph->compute_count; n++) {
        busy += cost[n];
    }
    free(cost);
    if (!isfinite(span) || !isfinite(busy)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "the costs of %d micro-batches sum to more than a number "
                        "can hold: expected smaller costs",
                        graph->micro_batches);
    }
    *point = (dpr_micro_batch_point_t){
        .micro_batches = graph->micro_batches,
        .span_sec = span,
        /* rounding may leave -1e-17 */
        .bubble_ratio = span > 0.0 ? fmax(0.0, 1.0 - busy / graph->ranks / span) : 0.0,
    };
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        const int32_t peak = dpr_graph_peak_activations(graph, rank);
        point->peak_activations = peak > point->peak_activations ? peak : point->peak_activations;
    }
    return DPR_OK;
}

/* Out of any schedule's range; what is within it is the schedule's to judge. */
static dpr_status_t check_schedule(const char *name, int ranks, int micro_batches)
{
    if (ranks < 1 || ranks > DPR_MAX_RANKS) {
        return dpr_fail(DPR_ERR_INVALID, "ranks is %d: expected 1 to %d", ranks, DPR_MAX_RANKS);
    }
    if (micro_batches < 1 || micro_batches > DPR_MAX_MICRO_BATCHES) {
        return dpr_fail(DPR_ERR_INVALID, "micro-batches is %d: expected 1 to %d", micro_batches,
                        DPR_MAX_MICRO_BATCHES);
    }
    return dpr_schedule_check(name, ranks, micro_batches);
}

/* That some number of micro-batches is allowed. */
static dpr_status_t check_ranks(const char *name, int ranks)
{
    const dpr_schedule_t *schedule = dpr_schedule_find(name);
    const bool in_range = ranks >= 1 && ranks <= DPR_MAX_RANKS;
    const int least = schedule != NULL && in_range ? schedule->min_micro_batches(ranks) : 0;
    return check_schedule(name, ranks, least > 0 ? least : 1);
}

static int stages_of(const char *schedule, int ranks)
{
    return dpr_schedule_stages_per_rank(schedule) * ranks; /* both are at most 8192 */
}

static bool is_playable(const char *schedule, int ranks, int64_t micro_batches)
{
    return micro_batches <= DPR_MAX_MICRO_BATCHES &&
           stages_of(schedule, ranks) * micro_batches <= DPR_ANALYSIS_MAX_CELLS &&
           dpr_schedule_allows(schedule, ranks, (int)micro_batches);
}

static dpr_status_t play(const char *schedule, int ranks, int micro_batches,
                         const dpr_uniform_costs_t *costs, dpr_micro_batch_point_t *point)
{
    dpr_program_t program = {0};
    dpr_graph_t *graph = NULL;
    DPR_TRY(dpr_schedule_generate(schedule, ranks, micro_batches, &program));
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_graph_create(&program, NULL, &graph), free_program);
    status = measure(graph, costs, point);
    dpr_graph_destroy(graph);
free_program:
    dpr_program_free(&program);
    return status;
}

static dpr_status_t fail_too_large(const char *schedule, int ranks, int micro_batches)
{
    return dpr_fail(DPR_ERR_INVALID,
                    "schedule %s: %d stages of %d micro-batches are too many to play out: expected "
                    "at most %d of both multiplied",
                    schedule, stages_of(schedule, ranks), micro_batches, DPR_ANALYSIS_MAX_CELLS);
}

dpr_status_t dpr_micro_batches_play(const char *name, int ranks, int micro_batches,
                                    const dpr_uniform_costs_t *costs,
                                    dpr_micro_batch_point_t *point)
{
    DPR_TRY(check_schedule(name, ranks, micro_batches));
    DPR_TRY(check_costs(costs));
    if (!is_playable(name, ranks, micro_batches)) {
        return fail_too_large(name, ranks, micro_batches);
    }
    return play(name, ranks, micro_batches, costs, point);
}

/* ---- A wanted bubble ratio ---- */

typedef struct hunt {
    const char *schedule;
    int ranks;
    const dpr_uniform_costs_t *costs;
    double target;
    int64_t cells; /* played so far */
} hunt_t;

/* The nearest playable number from `micro_batches` on, upwards or downwards; 0 for none. */
static int next_allowed(const hunt_t *hunt, int64_t micro_batches, int step)
{
    while (micro_batches >= 1 && micro_batches <= DPR_MAX_MICRO_BATCHES) {
        if (is_playable(hunt->schedule, hunt->ranks, micro_batches)) {
            return (int)micro_batches;
        }
        micro_batches += step;
    }
    return 0;
}

/* The bubble ratio where a closed form is exact, NAN else. */
static double exact_ratio(const hunt_t *hunt, int micro_batches)
{
    char text[256];
    dpr_log_capture_t capture;
    dpr_bubble_t form;
    dpr_log_capture_begin(&capture, text, sizeof text);
    const dpr_status_t status =
        dpr_bubble_closed_form(hunt->schedule, hunt->ranks, micro_batches, hunt->costs, &form);
    dpr_log_capture_end(&capture);
    return status == DPR_OK && form.exactness == DPR_EXACT ? form.bubble_ratio : NAN;
}

/* Fills .micro_batches and .bubble_ratio. Played out where no closed form decides: none is exact,
 * or it is so near the target that rounding would. */
static dpr_status_t try_number(hunt_t *hunt, int micro_batches, bool *reached,
                               dpr_micro_batch_point_t *point)
{
    const double ratio = exact_ratio(hunt, micro_batches);
    if (fabs(ratio - hunt->target) > 1e-6 * hunt->target) {
        *point = (dpr_micro_batch_point_t){.micro_batches = micro_batches, .bubble_ratio = ratio};
        *reached = ratio < hunt->target;
        return DPR_OK;
    }
    hunt->cells += (int64_t)stages_of(hunt->schedule, hunt->ranks) * micro_batches;
    if (hunt->cells > DPR_ANALYSIS_MAX_HUNT) {
        return dpr_fail(DPR_ERR_INVALID,
                        "schedule %s on %d ranks: a bubble ratio of %g takes more than %d stages x "
                        "micro-batches to look for: expected a larger ratio or fewer ranks",
                        hunt->schedule, hunt->ranks, hunt->target, DPR_ANALYSIS_MAX_HUNT);
    }
    DPR_TRY(play(hunt->schedule, hunt->ranks, micro_batches, hunt->costs, point));
    *reached = point->bubble_ratio <= hunt->target;
    return DPR_OK;
}

/* Doubles from the least number until the target is reached: *low is the last that did not, 0 for
 * none. */
static dpr_status_t double_up(hunt_t *hunt, int *low, dpr_micro_batch_point_t *high)
{
    *low = 0;
    int at = next_allowed(hunt, 1, 1);
    if (at == 0) {
        return fail_too_large(hunt->schedule, hunt->ranks,
                              dpr_schedule_find(hunt->schedule)->min_micro_batches(hunt->ranks));
    }
    for (;;) {
        bool reached = false;
        DPR_TRY(try_number(hunt, at, &reached, high));
        if (reached) {
            return DPR_OK;
        }
        *low = at;
        int next = next_allowed(hunt, 2 * (int64_t)at, 1);
        next = next > 0 ? next : next_allowed(hunt, DPR_MAX_MICRO_BATCHES, -1);
        if (next <= at) {
            return dpr_fail(DPR_ERR_INVALID,
                            "schedule %s on %d ranks does not reach a bubble ratio of %g: with %d "
                            "micro-batches, the most that are tried, it is %.6g",
                            hunt->schedule, hunt->ranks, hunt->target, at, high->bubble_ratio);
        }
        at = next;
    }
}

/* Narrows to neighbours: `low` does not reach the target (or is 0), `high` does. */
static dpr_status_t halve(hunt_t *hunt, int low, dpr_micro_batch_point_t *high)
{
    for (;;) {
        int middle = next_allowed(hunt, low + (high->micro_batches - low) / 2, 1);
        if (middle == high->micro_batches) {
            middle = next_allowed(hunt, high->micro_batches - 1, -1);
        }
        if (middle <= low) {
            return DPR_OK;
        }
        bool reached = false;
        dpr_micro_batch_point_t point;
        DPR_TRY(try_number(hunt, middle, &reached, &point));
        if (reached) {
            *high = point;
        } else {
            low = middle;
        }
    }
}

/* Schedules with a period (a multiple of P, pairs) may dip: looks at the 2P numbers below. */
static dpr_status_t look_below(hunt_t *hunt, dpr_micro_batch_point_t *high)
{
    int at = high->micro_batches;
    for (int looked = 0; looked < 2 * hunt->ranks; looked++) {
        at = next_allowed(hunt, at - 1, -1);
        if (at == 0) {
            return DPR_OK;
        }
        bool reached = false;
        dpr_micro_batch_point_t point;
        DPR_TRY(try_number(hunt, at, &reached, &point));
        if (reached) {
            *high = point;
            looked = -1;
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_micro_batches_for_ratio(const char *name, int ranks,
                                         const dpr_uniform_costs_t *costs, double target_ratio,
                                         dpr_micro_batch_point_t *point)
{
    if (!(target_ratio > 0.0 && target_ratio < 1.0)) {
        return dpr_fail(DPR_ERR_INVALID, "bubble ratio %g: expected more than 0 and less than 1",
                        target_ratio);
    }
    DPR_TRY(check_ranks(name, ranks));
    DPR_TRY(check_costs(costs));
    hunt_t hunt = {name, ranks, costs, target_ratio, 0};
    int low;
    dpr_micro_batch_point_t found;
    DPR_TRY(double_up(&hunt, &low, &found));
    DPR_TRY(halve(&hunt, low, &found));
    DPR_TRY(look_below(&hunt, &found));
    return play(name, ranks, found.micro_batches, costs, point);
}

/* ---- A fixed batch ---- */

void dpr_batch_costs_cut(const dpr_batch_costs_t *costs, int micro_batches,
                         dpr_uniform_costs_t *cut)
{
    const dpr_uniform_costs_t *whole = &costs->whole;
    const double part = 1.0 / micro_batches;
    *cut = (dpr_uniform_costs_t){
        .f = whole->f * part + costs->overhead_sec,
        .i = whole->i * part + costs->overhead_sec,
        .w = whole->w * part + costs->overhead_sec,
        .b = dpr_uniform_b(whole) * part + costs->overhead_sec,
        .fb = dpr_uniform_fb(whole) * part + costs->overhead_sec,
        .wire = whole->wire * part + costs->latency_sec,
    };
}

static dpr_status_t check_batch(const dpr_batch_costs_t *costs)
{
    if (costs->batch < 1 || costs->batch > DPR_MAX_MICRO_BATCHES) {
        return dpr_fail(DPR_ERR_INVALID, "batch %d: expected 1 to %d samples", costs->batch,
                        DPR_MAX_MICRO_BATCHES);
    }
    if (!isfinite(costs->overhead_sec) || costs->overhead_sec < 0.0 ||
        !isfinite(costs->latency_sec) || costs->latency_sec < 0.0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "overhead %g and latency %g: expected finite numbers, 0 or more",
                        costs->overhead_sec, costs->latency_sec);
    }
    return check_costs(&costs->whole);
}

dpr_status_t dpr_micro_batches_for_batch(const char *name, int ranks,
                                         const dpr_batch_costs_t *costs,
                                         dpr_micro_batch_choice_t *choice)
{
    DPR_TRY(check_ranks(name, ranks));
    DPR_TRY(check_batch(costs));
    choice->count = 0;
    choice->best = 0;
    for (int n = 1; n <= costs->batch && choice->count < DPR_MAX_CUTS; n++) {
        if (costs->batch % n != 0 || !is_playable(name, ranks, n)) {
            continue;
        }
        dpr_micro_batch_point_t *point = &choice->points[choice->count];
        dpr_uniform_costs_t cut;
        dpr_batch_costs_cut(costs, n, &cut);
        DPR_TRY(check_costs(&cut));
        DPR_TRY(play(name, ranks, n, &cut, point));
        point->micro_batch_size = costs->batch / n;
        point->samples_per_sec = point->span_sec > 0.0 ? costs->batch / point->span_sec : 0.0;
        if (point->span_sec < choice->points[choice->best].span_sec) {
            choice->best = choice->count;
        }
        choice->count++;
    }
    if (choice->count == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "schedule %s on %d ranks: no divisor of batch %d is an allowed number of "
                        "micro-batches: it needs %s",
                        name, ranks, costs->batch, dpr_schedule_find(name)->needs);
    }
    return DPR_OK;
}
