/*
 * How many micro-batches? Answered by playing schedules out, so for any schedule of the table and
 * any costs, wire time included.
 *
 * Two questions. With a fixed micro-batch, the bubble is paid once a step: the more micro-batches,
 * the smaller its share, and there is a smallest number for a wanted bubble ratio. With a fixed
 * batch, more micro-batches are smaller ones, and what each op costs whatever its size (launches,
 * latency) is paid more often: there is a best number.
 */
#ifndef DPR_MODELS_ANALYSIS_H
#define DPR_MODELS_ANALYSIS_H

#include "models/costs.h"
#include "schedule/generators.h"

/* Largest S * M that is played out here: about a second of work in all. */
#define DPR_ANALYSIS_MAX_CELLS (1 << 19)

/* Largest sum of S * M that the search for a bubble ratio plays: about a second. Where a closed
 * form is exact nothing needs to be played. */
#define DPR_ANALYSIS_MAX_HUNT (1 << 20)

typedef struct dpr_micro_batch_point {
    int micro_batches;
    int micro_batch_size; /* samples; 0 where no batch is given */
    double span_sec;
    double bubble_ratio;      /* mean over the ranks */
    int32_t peak_activations; /* saved sets at once, on the rank that has most */
    double samples_per_sec;   /* 0 where no batch is given */
} dpr_micro_batch_point_t;

/*
 * Plays one schedule out. Costs are of one micro-batch, in seconds or any one unit of time.
 * Errors: those of dpr_schedule_check; DPR_ERR_INVALID where S * M is above DPR_ANALYSIS_MAX_CELLS
 * or the costs are negative, not finite, or sum to more than a number can hold; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_micro_batches_play(const char *schedule, int ranks, int micro_batches,
                                    const dpr_uniform_costs_t *costs,
                                    dpr_micro_batch_point_t *point);

/*
 * The smallest allowed number of micro-batches with a simulated bubble ratio of at most
 * `target_ratio` (0 < target < 1). Found by doubling, then halving the interval, so it relies on
 * the ratio not rising in between; what comes out reaches the target, and none of the 2P allowed
 * numbers below it does, which is checked.
 * Errors: those of dpr_micro_batches_play; DPR_ERR_INVALID where the target is out of range, or is
 * not reached within the limits (the message says which ratio is), or takes more work than
 * DPR_ANALYSIS_MAX_HUNT.
 */
dpr_status_t dpr_micro_batches_for_ratio(const char *schedule, int ranks,
                                         const dpr_uniform_costs_t *costs, double target_ratio,
                                         dpr_micro_batch_point_t *point);

/* A fixed batch, cut into micro-batches of n samples: an op costs its part of `whole` in
 * proportion, and `overhead_sec` on top, a transfer `latency_sec`. */
typedef struct dpr_batch_costs {
    int batch;                 /* samples of a step */
    dpr_uniform_costs_t whole; /* of all samples at once, on one stage */
    double overhead_sec;       /* of a compute op: launch, scheduling */
    double latency_sec;        /* of a transfer */
} dpr_batch_costs_t;

/* Costs of one micro-batch out of `micro_batches`. FB costs one overhead, a B that is I + W one. */
void dpr_batch_costs_cut(const dpr_batch_costs_t *costs, int micro_batches,
                         dpr_uniform_costs_t *cut);

enum { DPR_MAX_CUTS = 256 };

/* Every allowed way to cut the batch into equal micro-batches, by their number, ascending. */
typedef struct dpr_micro_batch_choice {
    dpr_micro_batch_point_t points[DPR_MAX_CUTS];
    int count;
    int best; /* index of the least span; of equal ones the fewest micro-batches */
} dpr_micro_batch_choice_t;

/*
 * Errors: those of dpr_micro_batches_play; DPR_ERR_INVALID where the batch is below 1 or above
 * DPR_MAX_MICRO_BATCHES, a cost is negative or not finite, or no divisor of the batch is a number
 * of micro-batches that the schedule allows.
 */
dpr_status_t dpr_micro_batches_for_batch(const char *schedule, int ranks,
                                         const dpr_batch_costs_t *costs,
                                         dpr_micro_batch_choice_t *choice);

#endif
