/*
 * What no program of a placement can beat.
 *
 * With l a lane of rank r and L the rank's limit of saved sets, let
 *
 * - to_f(l) be the soonest that F of l can start: F and wires of the stages before it
 * - to_i(l) the soonest that I of l can start: F down to the last stage, I back to the one after
 * - from_i(l) the least from the end of I of l to the end of the step: I of the stages before, and
 *   the W of the first one
 * - work F, I and W of all of the rank's cells
 * - forward the longest that L saved sets' F can take: before its first I a rank can run no more
 * - weight the longest that L saved sets' W can take: after its last I it can run no more
 *
 * A wire is only between two ranks: at V's turn there is none.
 *
 * Then the step takes, for every rank, at least
 *
 *     max(min to_f, min to_i - forward) + work + max(0, min from_i - weight)
 *
 * since the work that is not before the first I stands behind it, and what is not after the last I
 * stands before it. And a saved set of l lives at least to_i(l) - to_f(l) + I + W, of which at most
 * L at once: from the first F on, the sum over the rank's cells / L. And one micro-batch must pass.
 *
 * B or FB that cost less than their parts: all of this holds with F, I and W times the smallest
 * ratio, for a program with B and FB is then no shorter than the same with their parts.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "models/auto_impl.h"

typedef struct path {
    double to_f;
    double to_i;
    double from_i;
} path_t;

typedef struct bound {
    const auto_problem_t *problem;
    double scale; /* of F, I and W */
    path_t *paths;
} bound_t;

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

static double greater(double a, double b)
{
    return a > b ? a : b;
}

static double cost_of(const bound_t *bound, int32_t lane, int kind)
{
    return bound->scale * bound->problem->lanes[lane].cost[kind];
}

/* Lanes of one direction are numbered from its first stage to its last. */
static void find_paths(bound_t *bound)
{
    const auto_problem_t *problem = bound->problem;
    path_t *paths = bound->paths;
    for (int32_t l = 0; l < problem->lane_count; l++) {
        const int32_t before = problem->lanes[l].before;
        paths[l].to_f = 0.0;
        paths[l].from_i = cost_of(bound, l, AUTO_W);
        if (before >= 0) {
            paths[l].to_f = paths[before].to_f + cost_of(bound, before, AUTO_F) +
                            problem->lanes[before].act_wire;
            paths[l].from_i =
                greater(paths[l].from_i, problem->lanes[l].grad_wire +
                                             cost_of(bound, before, AUTO_I) + paths[before].from_i);
        }
    }
    for (int32_t l = problem->lane_count - 1; l >= 0; l--) {
        const int32_t after = problem->lanes[l].after;
        paths[l].to_i = after < 0 ? paths[l].to_f + cost_of(bound, l, AUTO_F)
                                  : paths[after].to_i + cost_of(bound, after, AUTO_I) +
                                        problem->lanes[after].grad_wire;
    }
}

/* The longest that one kind of op of `sets` cells of the rank can take. */
static double longest_of(const bound_t *bound, int32_t rank, int kind, int32_t sets)
{
    const auto_problem_t *problem = bound->problem;
    int32_t first = problem->held[rank][0];
    int32_t second = problem->held[rank][1];
    if (second >= 0 && cost_of(bound, second, kind) > cost_of(bound, first, kind)) {
        const int32_t swapped = first;
        first = second;
        second = swapped;
    }
    const int32_t of_first = sets < problem->per_lane ? sets : problem->per_lane;
    double time = of_first * cost_of(bound, first, kind);
    if (second >= 0) {
        const int32_t left = sets - of_first;
        time +=
            (left < problem->per_lane ? left : problem->per_lane) * cost_of(bound, second, kind);
    }
    return time;
}

static double bound_rank(const bound_t *bound, int32_t rank)
{
    const auto_problem_t *problem = bound->problem;
    const int32_t limit = problem->limit[rank];
    path_t soonest = bound->paths[problem->held[rank][0]];
    double work = 0.0;
    double lives = 0.0;
    for (int i = 0; i < AUTO_MAX_LANES && problem->held[rank][i] >= 0; i++) {
        const int32_t l = problem->held[rank][i];
        const path_t *path = &bound->paths[l];
        soonest.to_f = lesser(soonest.to_f, path->to_f);
        soonest.to_i = lesser(soonest.to_i, path->to_i);
        soonest.from_i = lesser(soonest.from_i, path->from_i);
        const double back = cost_of(bound, l, AUTO_I) + cost_of(bound, l, AUTO_W);
        work += problem->per_lane * (cost_of(bound, l, AUTO_F) + back);
        lives += problem->per_lane * (path->to_i - path->to_f + back);
    }
    const double start =
        greater(soonest.to_f, soonest.to_i - longest_of(bound, rank, AUTO_F, limit));
    const double end = greater(0.0, soonest.from_i - longest_of(bound, rank, AUTO_W, limit));
    return greater(start + work + end, soonest.to_f + lives / limit);
}

dpr_status_t auto_bound(const auto_problem_t *problem, double *bound_sec)
{
    bound_t bound = {.problem = problem, .scale = problem->fused_pair};
    DPR_TRY(dpr_calloc((size_t)problem->lane_count, sizeof *bound.paths, &bound.paths));
    for (int32_t l = 0; l < problem->lane_count; l++) {
        bound.scale = lesser(bound.scale, problem->lanes[l].fused);
    }
    find_paths(&bound);
    double longest = 0.0;
    for (int32_t l = 0; l < problem->lane_count; l++) {
        const double pass =
            bound.paths[l].to_i + cost_of(&bound, l, AUTO_I) + bound.paths[l].from_i;
        longest = greater(longest, pass);
    }
    for (int32_t r = 0; r < problem->ranks; r++) {
        longest = greater(longest, bound_rank(&bound, r));
    }
    free(bound.paths);
    *bound_sec = longest;
    return DPR_OK;
}
