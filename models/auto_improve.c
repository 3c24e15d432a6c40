/*
 * Local search on the order: simulated annealing.
 *
 * A move takes one op of one rank some places earlier or later:
 *
 *     HURRY   an op of the critical path, before the ops that it waits for on its rank
 *     YIELD   the op that a critical op waits for on its rank, behind it
 *     FILL    a W into a pause of its rank, from behind it
 *     DRIFT   any op, anywhere near
 *
 * Micro-batches of a lane are equal, so that no op overtakes one of its lane and kind, nor of its
 * cell. Where a move saves more than the limit allows, the W next due are run before. What is
 * minimised is the makespan and, a little, the mean of the ranks' ends: it tells apart the many
 * orders that end at the same time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/random.h"
#include "models/auto_impl.h"

double auto_now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef enum move { HURRY, HURRY_TOO, YIELD, FILL, DRIFT, MOVES } move_t;

enum { MOST_REPAIRS = 4, LOOK_AT_CLOCK = 16 };

/* Mean idle time weighs this much beside the makespan. */
static const double mean_weight = 0.1;

/* The temperature falls to this share of what it was at the begin. */
static const double coldest = 0.03;

typedef struct search {
    const auto_problem_t *problem;
    auto_clock_t clock;
    int32_t *order;  /* as it is now */
    int32_t *best;   /* the shortest seen */
    int32_t *kept;   /* one rank's list before the move */
    int32_t *place;  /* [op]: position in the order */
    int32_t *path;   /* critical ops that waited for one of their own rank */
    int32_t *pauses; /* ops before which their rank paused */
    int32_t path_count;
    int32_t pause_count;
    double value; /* of order */
    double best_sec;
    double op_cost;   /* mean */
    double mean_work; /* of a rank */
    uint64_t seed;
    uint64_t draws;
} search_t;

static int32_t roll(search_t *search, int32_t sides)
{
    return (int32_t)(dpr_random_uniform(search->seed, 0, search->draws++) * sides);
}

static dpr_status_t allocate(search_t *search)
{
    const size_t ops = (size_t)search->problem->op_count;
    DPR_TRY(auto_clock_init(&search->clock, search->problem));
    DPR_TRY(dpr_calloc(ops, sizeof(int32_t), &search->best));
    DPR_TRY(dpr_calloc(ops, sizeof(int32_t), &search->kept));
    DPR_TRY(dpr_calloc(ops, sizeof(int32_t), &search->place));
    DPR_TRY(dpr_calloc(ops, sizeof(int32_t), &search->path));
    return dpr_calloc(ops, sizeof(int32_t), &search->pauses);
}

static void release(search_t *search)
{
    auto_clock_free(&search->clock);
    free(search->best);
    free(search->kept);
    free(search->place);
    free(search->path);
    free(search->pauses);
}

static double value_of(const search_t *search)
{
    const auto_clock_t *clock = &search->clock;
    return clock->makespan_sec + mean_weight * clock->sum_sec / search->problem->ranks;
}

/* Notes, from the clock's last run, what the moves start from. */
static void note_path(search_t *search)
{
    const auto_problem_t *problem = search->problem;
    const auto_clock_t *clock = &search->clock;
    search->path_count = 0;
    for (int32_t op = clock->last; op >= 0; op = clock->cause[op]) {
        const int32_t at = search->place[op];
        if (at > problem->begin[auto_op_rank(problem, op)] &&
            clock->cause[op] == search->order[at - 1]) {
            search->path[search->path_count++] = op;
        }
    }
    search->pause_count = 0;
    for (int32_t r = 0; r < problem->ranks; r++) {
        double end = 0.0;
        for (int32_t i = problem->begin[r]; i < problem->begin[r + 1]; i++) {
            const int32_t op = search->order[i];
            if (clock->end[op] - problem->ops[op].cost > end + 1e-9 * search->op_cost) {
                search->pauses[search->pause_count++] = op;
            }
            end = clock->end[op];
        }
    }
}

static void note_places(search_t *search, int32_t rank)
{
    for (int32_t i = search->problem->begin[rank]; i < search->problem->begin[rank + 1]; i++) {
        search->place[search->order[i]] = i;
    }
}

static bool may_swap(const auto_problem_t *problem, int32_t a, int32_t b)
{
    return auto_op_cell(a) != auto_op_cell(b) &&
           (auto_op_kind(a) != auto_op_kind(b) ||
            auto_op_lane(problem, a) != auto_op_lane(problem, b));
}

/* Moves the op at `from` towards `to` as far as it may go, within its rank; returns where it is. */
static int32_t carry(search_t *search, int32_t from, int32_t to)
{
    int32_t *order = search->order;
    const int32_t step = to < from ? -1 : 1;
    const int32_t op = order[from];
    int32_t at = from;
    while (at != to && may_swap(search->problem, order[at + step], op)) {
        order[at] = order[at + step];
        at += step;
    }
    order[at] = op;
    return at;
}

/* The first position of a rank's list at which more is saved than the limit allows, -1: none. */
static int32_t over_limit(const search_t *search, int32_t rank)
{
    const auto_problem_t *problem = search->problem;
    int32_t saved = 0;
    for (int32_t i = problem->begin[rank]; i < problem->begin[rank + 1]; i++) {
        const int32_t kind = auto_op_kind(search->order[i]);
        saved += kind == AUTO_F ? 1 : kind == AUTO_W ? -1 : 0;
        if (saved > problem->limit[rank]) {
            return i;
        }
    }
    return -1;
}

/* Runs the W that come next before what saves too much. */
static bool repair(search_t *search, int32_t rank)
{
    const int32_t end = search->problem->begin[rank + 1];
    for (int round = 0; round < MOST_REPAIRS; round++) {
        const int32_t over = over_limit(search, rank);
        if (over < 0) {
            return true;
        }
        int32_t weight = over + 1;
        while (weight < end && auto_op_kind(search->order[weight]) != AUTO_W) {
            weight++;
        }
        if (weight == end || carry(search, weight, over) != over) {
            return false;
        }
    }
    return over_limit(search, rank) < 0;
}

static int32_t within(const auto_problem_t *problem, int32_t rank, int32_t at)
{
    const int32_t first = problem->begin[rank];
    const int32_t last = problem->begin[rank + 1] - 1;
    return at < first ? first : at > last ? last : at;
}

/* 1 .. 16, short ones more often. */
static int32_t distance(search_t *search)
{
    return 1 + roll(search, 1 << roll(search, 5));
}

/* Picks a move: the op at *from goes to *to. Returns its rank, -1 where there is nothing to move.
 */
static int32_t pick(search_t *search, int32_t *from, int32_t *to)
{
    const auto_problem_t *problem = search->problem;
    move_t move = (move_t)roll(search, MOVES);
    if (move < FILL && search->path_count > 0) {
        const int32_t op = search->path[roll(search, search->path_count)];
        const int32_t rank = auto_op_rank(problem, op);
        const int32_t at = search->place[op];
        *from = move == YIELD ? at - 1 : at;
        *to =
            within(problem, rank, move == YIELD ? *from + distance(search) : at - distance(search));
        return rank;
    }
    if (move == FILL && search->pause_count > 0) {
        const int32_t op = search->pauses[roll(search, search->pause_count)];
        const int32_t rank = auto_op_rank(problem, op);
        *to = search->place[op];
        *from = *to + 1;
        for (int32_t skip = roll(search, 4); *from < problem->begin[rank + 1]; ++*from) {
            if (auto_op_kind(search->order[*from]) == AUTO_W && skip-- == 0) {
                return rank;
            }
        }
        return -1;
    }
    const int32_t op = roll(search, problem->op_count);
    const int32_t rank = auto_op_rank(problem, op);
    const int32_t far = distance(search);
    *from = search->place[op];
    *to = within(problem, rank, roll(search, 2) == 0 ? *from - far : *from + far);
    return rank;
}

/* Makes a move on the order; false where it changed nothing, breaks something, or makes the value
 * more than `most`. The mean of the ranks' ends is at least what it is without a pause. */
static bool make(search_t *search, int32_t rank, int32_t from, int32_t to, double most)
{
    return carry(search, from, to) != from && repair(search, rank) &&
           auto_clock_run(&search->clock, search->problem, search->order,
                          most - mean_weight * search->mean_work) &&
           value_of(search) <= most;
}

/* One move, kept or taken back. */
static bool step(search_t *search, double temperature)
{
    const auto_problem_t *problem = search->problem;
    int32_t from = 0;
    int32_t to = 0;
    const int32_t rank = pick(search, &from, &to);
    if (rank < 0) {
        return false;
    }
    int32_t *list = &search->order[problem->begin[rank]];
    const size_t size = (size_t)(problem->begin[rank + 1] - problem->begin[rank]) * sizeof *list;
    memcpy(search->kept, list, size);
    const double luck = dpr_random_uniform(search->seed, 1, search->draws++);
    if (!make(search, rank, from, to, search->value - temperature * log1p(-luck))) {
        memcpy(list, search->kept, size);
        return false;
    }
    search->value = value_of(search);
    note_places(search, rank);
    note_path(search);
    return true;
}

static dpr_status_t keep_best(search_t *search, auto_judge_fn_t judge, void *user)
{
    if (search->clock.makespan_sec >= search->best_sec - 1e-9 * search->op_cost) {
        return DPR_OK;
    }
    search->best_sec = search->clock.makespan_sec;
    memcpy(search->best, search->order, (size_t)search->problem->op_count * sizeof *search->best);
    return judge(user, search->order);
}

/* How much of the budget is used up, 1: all. */
static double spent(const auto_budget_t *budget, double began, int64_t done)
{
    double share = 0.0;
    if (budget->iterations > 0) {
        share = (double)done / (double)budget->iterations;
    }
    if (budget->until_sec > 0.0) {
        const double now = auto_now_sec();
        const double of_time =
            now >= budget->until_sec ? 1.0 : (now - began) / (budget->until_sec - began);
        share = of_time > share ? of_time : share;
    }
    return share;
}

static dpr_status_t anneal(search_t *search, const auto_budget_t *budget, double bound_sec,
                           auto_judge_fn_t judge, void *user, int64_t *iterations)
{
    const double began = auto_now_sec();
    double temperature = budget->heat * search->op_cost;
    int64_t done = 0;
    dpr_status_t status = DPR_OK;
    for (; status == DPR_OK; done++) {
        if (search->best_sec <= bound_sec + 1e-9 * search->op_cost ||
            (budget->iterations > 0 && done >= budget->iterations)) {
            break;
        }
        if (done % LOOK_AT_CLOCK == 0) {
            const double share = spent(budget, began, done);
            if (share >= 1.0) {
                break;
            }
            temperature = search->op_cost * budget->heat * pow(coldest, share);
        }
        if (step(search, temperature)) {
            status = keep_best(search, judge, user);
        }
    }
    *iterations += done;
    return status;
}

static void begin_from(search_t *search)
{
    const auto_problem_t *problem = search->problem;
    for (int32_t r = 0; r < problem->ranks; r++) {
        note_places(search, r);
    }
    for (int32_t op = 0; op < problem->op_count; op++) {
        search->op_cost += problem->ops[op].cost / problem->op_count;
        search->mean_work += problem->ops[op].cost / problem->ranks;
    }
    note_path(search);
    search->value = value_of(search);
    search->best_sec = search->clock.makespan_sec;
    memcpy(search->best, search->order, (size_t)problem->op_count * sizeof *search->best);
}

dpr_status_t auto_improve(const auto_problem_t *problem, auto_budget_t budget, double bound_sec,
                          auto_judge_fn_t judge, void *user, int32_t *order, int64_t *iterations)
{
    search_t search = {.problem = problem, .order = order, .seed = budget.seed};
    dpr_status_t status = allocate(&search);
    if (status == DPR_OK && (budget.iterations > 0 || budget.until_sec > 0.0) &&
        auto_clock_run(&search.clock, problem, order, INFINITY)) {
        begin_from(&search);
        status = anneal(&search, &budget, bound_sec, judge, user, iterations);
        memcpy(order, search.best, (size_t)problem->op_count * sizeof *order);
    }
    release(&search);
    return status;
}
