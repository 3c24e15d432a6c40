/* The scheduler's problem: checks a request, lays out its lanes and ops, and turns orders into
 * programs and back. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/auto_impl.h"
#include "models/compare.h"

static const char *const placement_names[DPR_AUTO_PLACEMENTS + 1] = {
    [DPR_AUTO_V] = "v",
    [DPR_AUTO_ONE_TO_ONE] = "one-to-one",
    [DPR_AUTO_BIDIRECTIONAL] = "bidirectional",
    [DPR_AUTO_ANY] = "any",
};

const char *dpr_auto_placement_name(dpr_auto_placement_t placement)
{
    return placement_names[placement];
}

int dpr_auto_least_activations(dpr_auto_placement_t placement)
{
    return placement == DPR_AUTO_ONE_TO_ONE || placement == DPR_AUTO_ANY ? 1 : 2;
}

int dpr_auto_default_activations(dpr_auto_placement_t placement, int ranks)
{
    return (placement == DPR_AUTO_V ? 2 : 1) * (ranks + 1);
}

/* ---- The request ---- */

static dpr_status_t check_range(const char *what, int value, int most)
{
    if (value < 1 || value > most) {
        return dpr_fail(DPR_ERR_INVALID, "auto: %d %s: expected 1 to %d", value, what, most);
    }
    return DPR_OK;
}

static dpr_status_t check_sizes(const dpr_auto_request_t *request, dpr_auto_placement_t placement)
{
    if ((unsigned)placement >= DPR_AUTO_PLACEMENTS) {
        return dpr_fail(DPR_ERR_INVALID, "auto: unknown placement %d", (int)placement);
    }
    DPR_TRY(check_range("ranks", request->ranks, DPR_AUTO_MAX_RANKS));
    DPR_TRY(check_range("micro-batches", request->micro_batches, DPR_MAX_MICRO_BATCHES));
    const int64_t stages = (placement == DPR_AUTO_V ? 2 : 1) * (int64_t)request->ranks;
    if (stages * request->micro_batches > DPR_AUTO_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "auto: %d ranks with %d micro-batches: at most %lld micro-batches are "
                        "searched on that many ranks",
                        request->ranks, request->micro_batches,
                        (long long)(DPR_AUTO_MAX_CELLS / stages));
    }
    if (placement == DPR_AUTO_BIDIRECTIONAL &&
        (request->ranks % 2 != 0 || request->micro_batches % 2 != 0)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "auto: placement bidirectional with %d ranks and %d micro-batches: both "
                        "must be even",
                        request->ranks, request->micro_batches);
    }
    return DPR_OK;
}

static dpr_status_t check_budget(const dpr_auto_request_t *request)
{
    if (!(request->budget_sec >= 0.0 && request->budget_sec <= 1e6)) {
        return dpr_fail(DPR_ERR_INVALID, "auto: a budget of %g seconds: expected 0 to 1e6",
                        request->budget_sec);
    }
    if (request->iterations < 0) {
        return dpr_fail(DPR_ERR_INVALID, "auto: %lld iterations: expected 0 or more",
                        (long long)request->iterations);
    }
    return DPR_OK;
}

static dpr_status_t check_costs(const dpr_uniform_costs_t *costs)
{
    const double all[] = {costs->f, costs->i, costs->w, costs->wire};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!(all[i] >= 0.0) || isinf(all[i])) {
            return dpr_fail(DPR_ERR_INVALID,
                            "auto: a cost is %g: expected a finite number, 0 or "
                            "more",
                            all[i]);
        }
    }
    if (!isfinite(costs->b) || !isfinite(costs->fb)) {
        return dpr_fail(DPR_ERR_INVALID, "auto: the cost of B or FB is not finite");
    }
    return DPR_OK;
}

int32_t auto_limit(const dpr_auto_request_t *request, int rank, dpr_auto_placement_t placement)
{
    if (request->rank_activations == NULL && request->activations == 0) {
        return dpr_auto_default_activations(placement, request->ranks);
    }
    const int64_t asked =
        request->rank_activations != NULL ? request->rank_activations[rank] : request->activations;
    const int64_t sets =
        request->placement == DPR_AUTO_ANY && placement == DPR_AUTO_V ? 2 * asked : asked;
    return (int32_t)(sets < INT32_MAX ? (sets > INT32_MIN ? sets : INT32_MIN) : INT32_MAX);
}

static dpr_status_t set_limits(auto_problem_t *problem, const dpr_auto_request_t *request,
                               dpr_auto_placement_t placement)
{
    const int32_t least = dpr_auto_least_activations(placement);
    for (int32_t r = 0; r < problem->ranks; r++) {
        const int32_t limit = auto_limit(request, r, placement);
        if (limit < least) {
            return dpr_fail(DPR_ERR_INVALID,
                            "auto: rank %d: a limit of %d activations is too low: placement %s "
                            "needs at least %d",
                            r, limit, dpr_auto_placement_name(placement), least);
        }
        problem->limit[r] = limit;
    }
    return DPR_OK;
}

/* ---- Lanes ---- */

int32_t auto_home(dpr_auto_placement_t placement, int32_t ranks, int32_t stage, bool goes_up)
{
    const int32_t stages = placement == DPR_AUTO_V ? 2 * ranks : ranks;
    return goes_up || stage >= ranks ? stages - 1 - stage : stage;
}

static void place_lanes(auto_problem_t *problem, dpr_auto_placement_t placement)
{
    const int32_t S = problem->stages;
    const int32_t P = problem->ranks;
    for (int32_t r = 0; r < P; r++) {
        problem->held[r][0] = problem->held[r][1] = -1;
    }
    for (int32_t l = 0; l < problem->lane_count; l++) {
        auto_lane_t *lane = &problem->lanes[l];
        const bool goes_up = l >= S;
        lane->stage = l % S;
        lane->rank = auto_home(placement, P, lane->stage, goes_up);
        lane->first_micro_batch = goes_up ? problem->per_lane : 0;
        lane->before = lane->stage > 0 ? l - 1 : -1;
        lane->after = lane->stage + 1 < S ? l + 1 : -1;
        int32_t *held = problem->held[lane->rank];
        held[held[0] < 0 ? 0 : 1] = l;
    }
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* Whether what goes from a lane to lane `to` (-1: to none) goes to another rank. */
static bool leaves_rank(const auto_problem_t *problem, const auto_lane_t *lane, int32_t to)
{
    return to >= 0 && problem->lanes[to].rank != lane->rank;
}

static double ratio_of(double fused, double parts)
{
    return fused < parts ? fused / parts : 1.0;
}

static void cost_uniform(auto_problem_t *problem, const dpr_uniform_costs_t *of_rank)
{
    const dpr_uniform_costs_t costs = dpr_costs_of_cut(of_rank, problem->ranks, problem->stages);
    for (int32_t l = 0; l < problem->lane_count; l++) {
        auto_lane_t *lane = &problem->lanes[l];
        lane->cost[AUTO_F] = costs.f;
        lane->cost[AUTO_I] = costs.i;
        lane->cost[AUTO_W] = costs.w;
        lane->fused = ratio_of(dpr_uniform_b(&costs), costs.i + costs.w);
        lane->act_wire = leaves_rank(problem, lane, lane->after) ? costs.wire : 0.0;
        lane->grad_wire = leaves_rank(problem, lane, lane->before) ? costs.wire : 0.0;
    }
    problem->fused_pair = ratio_of(dpr_uniform_fb(&costs), costs.f + costs.i + costs.w);
}

static double table_wire(const dpr_auto_request_t *request, int32_t from, int32_t to)
{
    const dpr_cost_table_t *table = request->table;
    const size_t link = (size_t)from * (size_t)table->ranks + (size_t)to;
    return table->latency_sec[link] +
           (double)request->message_bytes / table->bandwidth_bytes_per_sec[link];
}

/* The place of F, B, I and W in a table's row (models/costs.h). */
enum { TABLE_F, TABLE_B, TABLE_I, TABLE_W, TABLE_KINDS };

static dpr_status_t cost_lane(auto_problem_t *problem, const dpr_auto_request_t *request,
                              auto_lane_t *lane)
{
    const dpr_cost_table_t *table = request->table;
    const double *row =
        &table->compute[((size_t)lane->rank * (size_t)table->stages + (size_t)lane->stage) *
                        TABLE_KINDS];
    lane->cost[AUTO_F] = row[TABLE_F];
    lane->cost[AUTO_I] = row[TABLE_I];
    lane->cost[AUTO_W] = row[TABLE_W];
    lane->fused = ratio_of(row[TABLE_B], row[TABLE_I] + row[TABLE_W]);
    lane->act_wire = lane->grad_wire = 0.0;
    if (leaves_rank(problem, lane, lane->after)) {
        lane->act_wire = table_wire(request, lane->rank, problem->lanes[lane->after].rank);
    }
    if (leaves_rank(problem, lane, lane->before)) {
        lane->grad_wire = table_wire(request, lane->rank, problem->lanes[lane->before].rank);
    }
    const double all[] = {row[TABLE_F], row[TABLE_I], row[TABLE_W], lane->act_wire,
                          lane->grad_wire};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!(all[i] >= 0.0) || isinf(all[i])) {
            return dpr_fail(DPR_ERR_INVALID,
                            "auto: rank %d, stage %d: the cost table holds %g for %s: expected a "
                            "finite number, 0 or more",
                            lane->rank, lane->stage, all[i],
                            i < AUTO_KINDS ? (i == 0   ? "F"
                                              : i == 1 ? "I"
                                                       : "W")
                                           : "a link");
        }
    }
    return DPR_OK;
}

static void fuse_pairs(auto_problem_t *problem, const dpr_cost_table_t *table)
{
    problem->fused_pair = 1.0;
    const size_t S = (size_t)table->stages;
    for (int32_t f = 0; f < problem->lane_count && table->fb != NULL; f++) {
        for (int i = 0; i < AUTO_MAX_LANES; i++) {
            const auto_lane_t *lane = &problem->lanes[f];
            const int32_t b = problem->held[lane->rank][i];
            if (b < 0) {
                continue;
            }
            const auto_lane_t *back = &problem->lanes[b];
            const double fb =
                table->fb[((size_t)lane->rank * S + (size_t)lane->stage) * S + (size_t)back->stage];
            problem->fused_pair =
                least(problem->fused_pair,
                      ratio_of(fb, lane->cost[AUTO_F] + back->cost[AUTO_I] + back->cost[AUTO_W]));
        }
    }
}

static dpr_status_t cost_lanes(auto_problem_t *problem, const dpr_auto_request_t *request)
{
    if (request->table == NULL) {
        DPR_TRY(check_costs(&request->costs));
        cost_uniform(problem, &request->costs);
        return DPR_OK;
    }
    if (request->table->ranks != problem->ranks || request->table->stages != problem->stages) {
        return dpr_fail(DPR_ERR_INVALID,
                        "auto: the cost table is of %d ranks and %d stages, the placement of %d "
                        "and %d",
                        request->table->ranks, request->table->stages, problem->ranks,
                        problem->stages);
    }
    for (int32_t l = 0; l < problem->lane_count; l++) {
        DPR_TRY(cost_lane(problem, request, &problem->lanes[l]));
    }
    fuse_pairs(problem, request->table);
    return DPR_OK;
}

/* ---- Which placements can run ---- */

static bool table_knows(const dpr_cost_table_t *table, dpr_auto_placement_t placement, int ranks)
{
    if (table->ranks != ranks || table->stages != (placement == DPR_AUTO_V ? 2 : 1) * ranks) {
        return false;
    }
    for (int up = 0; up <= (placement == DPR_AUTO_BIDIRECTIONAL); up++) {
        for (int s = 0; s < table->stages; s++) {
            const size_t rank = (size_t)auto_home(placement, ranks, s, up == 1);
            const double *row =
                &table->compute[TABLE_KINDS * (rank * (size_t)table->stages + (size_t)s)];
            if (isnan(row[TABLE_F]) || isnan(row[TABLE_I]) || isnan(row[TABLE_W])) {
                return false;
            }
        }
    }
    return true;
}

bool auto_can_run(const dpr_auto_request_t *request, dpr_auto_placement_t placement)
{
    const int P = request->ranks;
    const int M = request->micro_batches;
    const int64_t stages = (placement == DPR_AUTO_V ? 2 : 1) * (int64_t)P;
    if (P < 1 || P > DPR_AUTO_MAX_RANKS || M < 1 || stages * M > DPR_AUTO_MAX_CELLS ||
        (placement == DPR_AUTO_BIDIRECTIONAL && (P % 2 != 0 || M % 2 != 0)) ||
        (request->table != NULL && !table_knows(request->table, placement, P))) {
        return false;
    }
    for (int r = 0; r < P; r++) {
        if (auto_limit(request, r, placement) < dpr_auto_least_activations(placement)) {
            return false;
        }
    }
    return true;
}

/* ---- Ops ---- */

static void set_ops(auto_problem_t *problem)
{
    const int32_t step = AUTO_KINDS * problem->per_lane; /* from a lane to the next */
    for (int32_t op = 0; op < problem->op_count; op++) {
        const int32_t kind = auto_op_kind(op);
        const int32_t l = auto_op_lane(problem, op);
        const auto_lane_t *lane = &problem->lanes[l];
        auto_op_t *info = &problem->ops[op];
        *info =
            (auto_op_t){.cost = lane->cost[kind], .consumer = -1, .producer = -1, .channel = -1};
        const int32_t to = kind == AUTO_F ? lane->after : kind == AUTO_I ? lane->before : -1;
        if (to >= 0) {
            info->consumer = op + (to - l) * step;
            info->peer = problem->lanes[to].rank;
            if (leaves_rank(problem, lane, to)) {
                info->channel = 2 * l + (kind == AUTO_I ? 1 : 0);
                info->wire = kind == AUTO_F ? lane->act_wire : lane->grad_wire;
            }
        }
    }
    for (int32_t op = 0; op < problem->op_count; op++) {
        if (problem->ops[op].consumer >= 0) {
            problem->ops[problem->ops[op].consumer].producer = op;
        }
    }
    for (int32_t r = 0; r < problem->ranks; r++) {
        const int32_t lanes = problem->held[r][1] < 0 ? 1 : 2;
        problem->begin[r + 1] = problem->begin[r] + lanes * step;
    }
}

/* No sum of a step's times may be infinite. */
static dpr_status_t check_sum(const auto_problem_t *problem)
{
    double sum = 0.0;
    for (int32_t op = 0; op < problem->op_count; op++) {
        sum += problem->ops[op].cost + problem->ops[op].wire;
    }
    if (!(sum <= 1e300)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "auto: the costs of the step's ops and transfers sum to "
                        "%g: expected at most 1e300",
                        sum);
    }
    return DPR_OK;
}

static dpr_status_t allocate(auto_problem_t *problem)
{
    const size_t ranks = (size_t)problem->ranks;
    DPR_TRY(dpr_calloc((size_t)problem->lane_count, sizeof *problem->lanes, &problem->lanes));
    DPR_TRY(dpr_calloc((size_t)problem->op_count, sizeof *problem->ops, &problem->ops));
    DPR_TRY(dpr_calloc(ranks + 1, sizeof *problem->begin, &problem->begin));
    DPR_TRY(dpr_calloc(ranks, sizeof *problem->held, &problem->held));
    return dpr_calloc(ranks, sizeof *problem->limit, &problem->limit);
}

dpr_status_t auto_problem_init(auto_problem_t *problem, const dpr_auto_request_t *request,
                               dpr_auto_placement_t placement)
{
    DPR_TRY(check_sizes(request, placement));
    DPR_TRY(check_budget(request));
    const int32_t directions = placement == DPR_AUTO_BIDIRECTIONAL ? 2 : 1;
    auto_problem_t made = {.ranks = request->ranks,
                           .stages = (placement == DPR_AUTO_V ? 2 : 1) * request->ranks,
                           .micro_batches = request->micro_batches,
                           .per_lane = request->micro_batches / directions};
    made.lane_count = directions * made.stages;
    made.op_count = AUTO_KINDS * made.lane_count * made.per_lane;
    dpr_status_t status;
    DPR_TRY_GOTO(allocate(&made), free_problem);
    DPR_TRY_GOTO(set_limits(&made, request, placement), free_problem);
    place_lanes(&made, placement);
    DPR_TRY_GOTO(cost_lanes(&made, request), free_problem);
    set_ops(&made);
    DPR_TRY_GOTO(check_sum(&made), free_problem);
    *problem = made;
    return DPR_OK;
free_problem:
    auto_problem_free(&made);
    return status;
}

void auto_problem_free(auto_problem_t *problem)
{
    free(problem->lanes);
    free(problem->ops);
    free(problem->begin);
    free(problem->held);
    free(problem->limit);
    *problem = (auto_problem_t){0};
}
