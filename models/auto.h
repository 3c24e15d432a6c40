/*
 * The scheduler: builds the best program that it can find for given costs, a placement and a limit
 * on activations.
 *
 *     fixed schedules of the placement ──┐
 *                                        ├─> the best few ──> local search ──> program, report
 *     list scheduling, by many rules ────┘
 *
 *     auto_list.c     event by event, each rank takes what its rule says of what is ready
 *     auto_improve.c  moves ops along the critical path, judged by the longest path
 *     auto_bound.c    what no program can beat
 *
 * Whatever the search believes, a program is kept only where its op graph, lowered with the default
 * slots, has a shorter longest path than the best so far; the first best is the best fixed
 * schedule. So the result is never worse than that, and it has passed dpr_graph_verify.
 */
#ifndef DPR_MODELS_AUTO_H
#define DPR_MODELS_AUTO_H

#include "models/costs.h"

typedef enum dpr_auto_placement {
    DPR_AUTO_V,             /* rank r holds stages r and 2P-1-r; S = 2P */
    DPR_AUTO_ONE_TO_ONE,    /* stage s on rank s; S = P */
    DPR_AUTO_BIDIRECTIONAL, /* rank r holds stages r and P-1-r, every stage on two ranks, the first
                               M/2 micro-batches go down and the others up; S = P, P and M even.
                               Every rank has the parameters of two stages */
    DPR_AUTO_ANY,           /* of these, whichever gives the shortest program */
} dpr_auto_placement_t;

enum { DPR_AUTO_PLACEMENTS = 3 }; /* without DPR_AUTO_ANY */

/* "v", "one-to-one", "bidirectional" or "any". */
const char *dpr_auto_placement_name(dpr_auto_placement_t placement);

/* The least limit with which a placement can run, in the unit of dpr_auto_request_t's: 1 for
 * one-to-one and any, else 2. */
int dpr_auto_least_activations(dpr_auto_placement_t placement);

/* The limit that 0 stands for: what dualpipe needs, the saved sets of P+1 micro-batches. */
int dpr_auto_default_activations(dpr_auto_placement_t placement, int ranks);

/* Largest P and S * M that are searched. */
#define DPR_AUTO_MAX_RANKS 256
#define DPR_AUTO_MAX_CELLS (1 << 18)

typedef struct dpr_auto_request {
    int ranks;
    int micro_batches;
    dpr_auto_placement_t placement;

    /*
     * Costs as models/compare.h has them: of one of P stages, so that all placements do the same
     * work; a stage of V costs half. A table (not owned), where there is one, is taken instead: of
     * the placement's own stages on the ranks that hold them, with messages of message_bytes. What
     * list scheduling and search build has F, I and W of their own; B and FB, where they cost less
     * than their parts, help the fixed schedules alone.
     */
    dpr_uniform_costs_t costs;
    const dpr_cost_table_t *table;
    size_t message_bytes;

    /*
     * Most SAVED sets of one of the placement's stages that a rank may hold at once
     * (dpr_graph_peak_activations); with DPR_AUTO_ANY sets of 1/P of the model, of which V's stages
     * are halves. 0: what dualpipe needs, the saved sets of P+1 micro-batches: 2P+2 for V, else P+1
     * (dualpipev needs 2P+1). rank_activations (may be NULL, not owned): one limit for each rank
     * instead.
     */
    int activations;
    const int32_t *rank_activations;

    /*
     * How long the local search may go on: until either is used up, 0 being no limit of that kind;
     * with both 0 there is none. Where the time does not decide, the same request gives the same
     * program, bit by bit.
     */
    double budget_sec;
    int64_t iterations;
    uint64_t seed;
} dpr_auto_request_t;

#define DPR_AUTO_REQUEST_DEFAULT                                                                   \
    {                                                                                              \
        .placement = DPR_AUTO_ANY, .costs = DPR_UNIFORM_COSTS_DEFAULT, .budget_sec = 2.0,          \
        .seed = 1                                                                                  \
    }

/* A fixed schedule beside it. With a cost table only those of the placements searched are played.
 */
typedef struct dpr_auto_rival {
    const char *name;
    bool runs;             /* P and M are allowed, and it was played; else the rest is not set */
    const char *placement; /* dpr_auto_placement_name's, or "other" */
    bool same_placement;   /* the request's, or the request leaves it open; else it is there to
                              compare: auto may not return it */
    bool fits;             /* every rank keeps to the limit, counted in shares of the model */
    double peak_shares;    /* activations of the rank that holds most, in 1/P of the model */
    double makespan_sec;
    double bubble_sec; /* mean over the ranks */
} dpr_auto_rival_t;

enum { DPR_AUTO_MAX_RIVALS = 32 };

typedef struct dpr_auto_report {
    const char *placement; /* of the program: dpr_auto_placement_name's, or "other" */
    double makespan_sec;
    double bubble_sec;      /* mean over the ranks */
    double lower_bound_sec; /* no program of this placement and limit is shorter; with DPR_AUTO_ANY
                               none of the placements that can run, and no fixed schedule */
    double list_sec;        /* best of list scheduling; INFINITY where its graph was refused */
    int32_t
        peak_activations; /* saved sets of a stage of the program, of the rank that holds most */
    int32_t activations;  /* the limit that held, of rank 0, in the same unit */
    int32_t stages;       /* of the program */
    int64_t iterations;   /* moves that the search judged */
    double seconds;       /* wall time used, all in all */
    const char *fixed;    /* the fixed schedule that was returned, NULL: none is as short */
    int best_fixed;       /* index in rivals: shortest with same_placement that fits; -1: none */
    int rival_count;
    dpr_auto_rival_t rivals[DPR_AUTO_MAX_RIVALS]; /* in the order of dpr_schedule_list */
} dpr_auto_report_t;

/*
 * Builds a program named "auto", or, where no shorter one was found, the best fixed schedule under
 * its own name. On success the caller owns *program (dpr_program_free); `report` may be NULL.
 *
 * DPR_AUTO_ANY searches every placement that P, M and the limit allow, the one with the least bound
 * first, each with an equal share of what is left of the budget, but for those whose bound is no
 * less than the shortest program so far. With uniform costs the result is then no longer than any
 * fixed schedule within the limit, whatever its placement. A cost table knows only its own stages,
 * and so searches, and promises, only among the placements whose every F, I and W it holds.
 *
 * Errors: DPR_ERR_INVALID where P, M, the limit or the budget is out of range, a limit is below the
 * least that the placement can run with (the message says it: 2 for V and bidirectional, 1 for
 * one-to-one), a cost is negative, not finite or missing in the table, or the step's time is more
 * than a number can hold; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_auto_schedule(const dpr_auto_request_t *request, dpr_program_t *program,
                               dpr_auto_report_t *report);

#endif
