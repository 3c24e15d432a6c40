/*
 * The search's clock: when every op of an order ends. One pass over the ranks' lists, each going on
 * as far as its inputs are there, O(ops); what an op waited for last is kept, so that the critical
 * path can be walked back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "models/auto_impl.h"

dpr_status_t auto_clock_init(auto_clock_t *clock, const auto_problem_t *problem)
{
    const size_t ops = (size_t)problem->op_count;
    const size_t ranks = (size_t)problem->ranks;
    auto_clock_t made = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(ops, sizeof *made.end, &made.end), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ops, sizeof *made.cause, &made.cause), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ops, sizeof *made.ready, &made.ready), free_clock);
    DPR_TRY_GOTO(dpr_calloc(2 * (size_t)problem->lane_count, sizeof *made.channel, &made.channel),
                 free_clock);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.rank_end, &made.rank_end), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.work, &made.work), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.idle, &made.idle), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.at, &made.at), free_clock);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.stack, &made.stack), free_clock);
    for (int32_t op = 0; op < problem->op_count; op++) {
        made.work[auto_op_rank(problem, op)] += problem->ops[op].cost;
    }
    *clock = made;
    return DPR_OK;
free_clock:
    auto_clock_free(&made);
    return status;
}

void auto_clock_free(auto_clock_t *clock)
{
    free(clock->end);
    free(clock->cause);
    free(clock->ready);
    free(clock->channel);
    free(clock->rank_end);
    free(clock->work);
    free(clock->idle);
    free(clock->at);
    free(clock->stack);
    *clock = (auto_clock_t){0};
}

/* Inputs that no op brings: of first stages' F, of last stages' I (their F is before them on the
 * rank), of every W. */
static void reset(auto_clock_t *clock, const auto_problem_t *problem)
{
    const int32_t ops_of_lane = AUTO_KINDS * problem->per_lane;
    for (int32_t l = 0; l < problem->lane_count; l++) {
        const double f = problem->lanes[l].before < 0 ? 0.0 : -1.0;
        const double i = problem->lanes[l].after < 0 ? 0.0 : -1.0;
        double *ready = &clock->ready[l * ops_of_lane];
        for (int32_t o = 0; o < ops_of_lane; o += AUTO_KINDS) {
            ready[o + AUTO_F] = f;
            ready[o + AUTO_I] = i;
            ready[o + AUTO_W] = 0.0;
        }
    }
    memset(clock->channel, 0, 2 * (size_t)problem->lane_count * sizeof *clock->channel);
    for (int32_t r = 0; r < problem->ranks; r++) {
        clock->at[r] = problem->begin[r];
        clock->rank_end[r] = 0.0;
        clock->idle[r] = 0.0;
    }
}

/* The ranks whose first op waits for no one. */
static int32_t stack_first(auto_clock_t *clock, const auto_problem_t *problem, const int32_t *order)
{
    int32_t height = 0;
    for (int32_t r = 0; r < problem->ranks; r++) {
        if (clock->ready[order[problem->begin[r]]] >= 0.0) {
            clock->stack[height++] = r;
        }
    }
    return height;
}

/* Notes when the consumer's input is there; returns whether it comes from another rank. */
static bool hand_over(auto_clock_t *clock, const auto_op_t *info, double end)
{
    if (info->channel < 0) {
        clock->ready[info->consumer] = end;
        return false;
    }
    double *channel = &clock->channel[info->channel];
    *channel = (end > *channel ? end : *channel) + info->wire;
    clock->ready[info->consumer] = *channel;
    return true;
}

/* Plays one rank as far as its inputs go; returns the stack's new height. */
static int32_t play_rank(auto_clock_t *clock, const auto_problem_t *problem, const int32_t *order,
                         int32_t rank, int32_t height)
{
    const int32_t stop = problem->begin[rank + 1];
    int32_t at = clock->at[rank];
    double now = clock->rank_end[rank];
    int32_t last = at > problem->begin[rank] ? order[at - 1] : -1;
    for (; at < stop; at++) {
        const int32_t op = order[at];
        const auto_op_t *info = &problem->ops[op];
        const double ready = clock->ready[op];
        if (ready < 0.0) {
            break;
        }
        clock->cause[op] = last;
        if (ready > now) {
            clock->idle[rank] += ready - now;
            now = ready;
            clock->cause[op] = info->producer;
        }
        now += info->cost;
        clock->end[op] = now;
        last = op;
        if (info->consumer >= 0 && hand_over(clock, info, now)) {
            const int32_t peer = info->peer;
            const int32_t waits = clock->at[peer];
            if (waits < problem->begin[peer + 1] && order[waits] == info->consumer) {
                clock->stack[height++] = peer;
            }
        }
    }
    clock->at[rank] = at;
    clock->rank_end[rank] = now;
    return height;
}

bool auto_clock_run(auto_clock_t *clock, const auto_problem_t *problem, const int32_t *order,
                    double cutoff_sec)
{
    reset(clock, problem);
    /* a rank is on the stack at most once: it stops at an op, and one op alone brings its input */
    for (int32_t height = stack_first(clock, problem, order); height > 0;) {
        const int32_t rank = clock->stack[height - 1];
        height = play_rank(clock, problem, order, rank, height - 1);
        if (clock->idle[rank] + clock->work[rank] > cutoff_sec) {
            return false;
        }
    }
    clock->makespan_sec = -1.0;
    clock->sum_sec = 0.0;
    for (int32_t r = 0; r < problem->ranks; r++) {
        if (clock->at[r] < problem->begin[r + 1]) {
            return false;
        }
        clock->sum_sec += clock->rank_end[r];
        if (clock->rank_end[r] > clock->makespan_sec) {
            clock->makespan_sec = clock->rank_end[r];
            clock->last = order[problem->begin[r + 1] - 1];
        }
    }
    return true;
}
