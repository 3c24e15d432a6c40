/*
 * What the files of the scheduler share: the problem in the form in which they search.
 *
 *     lane    one stage for the micro-batches of one direction: where it is and what it costs. With
 *             one direction there are S, bidirectional 2S; a rank holds one or two
 *     op      (lane, micro-batch of the lane, F or I or W), a number:
 *             (lane * per_lane + index) * 3 + kind
 *     order   every rank's ops one after the other: rank r's are order[begin[r] .. begin[r+1]-1]
 *
 * In these placements no two lanes share a channel, so a channel is (lane, activation or gradient).
 */
#ifndef DPR_MODELS_AUTO_IMPL_H
#define DPR_MODELS_AUTO_IMPL_H

#include "models/auto.h"

enum { AUTO_F, AUTO_I, AUTO_W, AUTO_KINDS };
enum { AUTO_MAX_LANES = 2 }; /* of a rank */

typedef struct auto_lane {
    int32_t rank;
    int32_t stage;
    int32_t first_micro_batch;
    int32_t after;  /* lane that takes its activations, -1 for the last stage */
    int32_t before; /* lane that takes its gradients, -1 for the first stage */
    double cost[AUTO_KINDS];
    double fused;    /* what B costs over I + W, at most 1 */
    double act_wire; /* to `after`, 0 on the same rank */
    double grad_wire;
} auto_lane_t;

/* What the clock needs of an op, in one place. */
typedef struct auto_op {
    double cost;
    double wire;
    int32_t consumer; /* op that its output goes to, -1 for none */
    int32_t peer;     /* rank of that op */
    int32_t producer; /* op that brings its input, -1: none does, or the rank's own F or I */
    int32_t channel;  /* 2 * lane + (I: 1), -1 where the output stays on the rank */
} auto_op_t;

typedef struct auto_problem {
    int32_t ranks;
    int32_t stages;
    int32_t micro_batches;
    int32_t lane_count;
    int32_t per_lane; /* micro-batches of each */
    int32_t op_count;
    auto_lane_t *lanes;
    auto_op_t *ops;
    int32_t *begin;                  /* [ranks + 1] */
    int32_t (*held)[AUTO_MAX_LANES]; /* [rank]: its lanes, the earlier stage first; -1 for none */
    int32_t *limit;                  /* [rank]: saved sets */
    double fused_pair;               /* the least of FB over F + I + W, at most 1 */
} auto_problem_t;

static inline int32_t auto_op_kind(int32_t op)
{
    return op % AUTO_KINDS;
}

static inline int32_t auto_op_cell(int32_t op)
{
    return op / AUTO_KINDS;
}

static inline int32_t auto_op_lane(const auto_problem_t *problem, int32_t op)
{
    return op / (AUTO_KINDS * problem->per_lane);
}

static inline int32_t auto_op_rank(const auto_problem_t *problem, int32_t op)
{
    return problem->lanes[auto_op_lane(problem, op)].rank;
}

static inline int32_t auto_op_of(const auto_problem_t *problem, int32_t lane, int32_t index,
                                 int32_t kind)
{
    return (lane * problem->per_lane + index) * AUTO_KINDS + kind;
}

/* ---- auto_problem.c ---- */

/* Checks the request and lays it out for one placement, the request's own or, where that is
 * DPR_AUTO_ANY, any. Errors: those of dpr_auto_schedule. */
dpr_status_t auto_problem_init(auto_problem_t *problem, const dpr_auto_request_t *request,
                               dpr_auto_placement_t placement);

/* The rank that runs a stage for the micro-batches that go down or up (bidirectional alone). */
int32_t auto_home(dpr_auto_placement_t placement, int32_t ranks, int32_t stage, bool goes_up);

/* The request's limit for a rank, in saved sets of the placement's stages; not checked. */
int32_t auto_limit(const dpr_auto_request_t *request, int rank, dpr_auto_placement_t placement);

void auto_problem_free(auto_problem_t *problem);

/* Whether P, M, the limit and the table are such as the placement needs. */
bool auto_can_run(const dpr_auto_request_t *request, dpr_auto_placement_t placement);

/* The placement of a program; DPR_AUTO_ANY stands for every other one. */
dpr_auto_placement_t auto_placement_of(const dpr_program_t *program);

/* The order as a program named "auto". Errors: DPR_ERR_MEMORY. */
dpr_status_t auto_order_to_program(const auto_problem_t *problem, const int32_t *order,
                                   dpr_program_t *program);

/* The order of a program of this placement, B as I W and FB as F I W. */
void auto_order_of_program(const auto_problem_t *problem, const dpr_program_t *program,
                           int32_t *order);

/* ---- auto_bound.c ---- */

/* Seconds below which no program stays; the derivation is at the head of the file. */
dpr_status_t auto_bound(const auto_problem_t *problem, double *bound_sec);

/* ---- auto_clock.c ---- */

/*
 * Plays an order: the longest path with unlimited buffers, which is what the lowered graph has, or
 * less. Allocated once, then reused.
 */
typedef struct auto_clock {
    double *end;      /* [op] */
    int32_t *cause;   /* [op]: the op whose end it started at, -1: none */
    double *ready;    /* [op]: when its input is there, negative: not known */
    double *channel;  /* [2 * lane]: end of the last transfer */
    double *rank_end; /* [rank] */
    double *work;     /* [rank]: of all its ops */
    double *idle;     /* [rank]: so far */
    int32_t *at;      /* [rank]: position in the order */
    int32_t *stack;   /* [rank]: those that can go on */
    double makespan_sec;
    double sum_sec; /* of the ranks' ends */
    int32_t last;   /* op that ends last */
} auto_clock_t;

dpr_status_t auto_clock_init(auto_clock_t *clock, const auto_problem_t *problem);
void auto_clock_free(auto_clock_t *clock);

/*
 * False where the order deadlocks, or where some rank ends after cutoff_sec for sure (then nothing
 * else is known). On every rank F, I, W of one cell stand in this order.
 */
bool auto_clock_run(auto_clock_t *clock, const auto_problem_t *problem, const int32_t *order,
                    double cutoff_sec);

/* ---- auto_list.c ---- */

/* Number of rules, and the order that one of them gives; always one that keeps to the limit. */
int auto_list_rules(const auto_problem_t *problem);
dpr_status_t auto_list_schedule(const auto_problem_t *problem, int rule, int32_t *order);

/* ---- auto_improve.c ---- */

/* Judges an order that looks shorter than all before; any status but DPR_OK ends the search. */
typedef dpr_status_t (*auto_judge_fn_t)(void *user, const int32_t *order);

/* How far a search may go. */
typedef struct auto_budget {
    int64_t iterations; /* 0: no limit */
    double until_sec;   /* on auto_now_sec's clock; 0: no limit */
    uint64_t seed;
    double heat; /* temperature at the begin, in mean costs of an op */
} auto_budget_t;

double auto_now_sec(void);

/*
 * Anneals from `order`, which keeps to the limit and does not deadlock, and leaves the best that it
 * saw there. Stops early at bound_sec. Adds the moves that it judged to *iterations.
 */
dpr_status_t auto_improve(const auto_problem_t *problem, auto_budget_t budget, double bound_sec,
                          auto_judge_fn_t judge, void *user, int32_t *order, int64_t *iterations);

#endif
