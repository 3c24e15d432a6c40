/*
 * Monte Carlo: the same graph played out many times under jitter, on all cores. Says how far the
 * ideal step time can be believed: jitter never averages out in a pipeline, because a step waits
 * for the latest of each pair, so its mean is above the step time of the mean costs.
 */
#ifndef DPR_MODELS_MONTECARLO_H
#define DPR_MODELS_MONTECARLO_H

#include "schedule/graph.h"

enum { DPR_MAX_DRAWS = 1000000 };

typedef struct dpr_montecarlo_options {
    int draws;        /* 1 .. DPR_MAX_DRAWS */
    double variation; /* of every op, as dpr_perturb_jitter has it: 0 .. DPR_JITTER_MAX */
    uint64_t seed;
    int threads; /* 0: all cores */
} dpr_montecarlo_options_t;

/* Of one quantity over the draws. Percentiles are by nearest rank: p95 is the smallest value that
 * at least 95% of the draws do not exceed. */
typedef struct dpr_distribution {
    double mean;
    double deviation; /* standard deviation, of the sample (n - 1); 0 for one draw */
    double min;
    double median;
    double p95;
    double max;
} dpr_distribution_t;

typedef struct dpr_montecarlo {
    dpr_distribution_t span_sec;
    dpr_distribution_t bubble_ratio; /* mean over the ranks */
} dpr_montecarlo_t;

/*
 * Plays `options->draws` draws; draw d has the jitter at (seed, d). The same seed gives the same
 * bits whatever the number of threads. The graph must be verified, cost[] finite and at least 0.
 * Errors: DPR_ERR_INVALID where an option is out of range, a cost is negative or not finite, or
 * the span overflows, logged; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_montecarlo_run(const dpr_graph_t *graph, const double *cost,
                                const dpr_montecarlo_options_t *options, dpr_montecarlo_t *result);

/* Of `count` >= 1 values, which are sorted in place. */
void dpr_distribution_of(double *values, int count, dpr_distribution_t *distribution);

#endif
