/*
 * How wrong a prediction was, and why: the same graph simulated with one more kind of measured
 * times at each step.
 *
 *     predicted --cost--> compute as measured --wire--> transfers as measured too
 *               --host--> nothing before the host enqueued it --order--> measured
 *
 * The order is what is left: an op or message was enqueued and all its edges let it, but the
 * machine did something else first (another stream's work; on the host device, another thread) for
 * longer than predicted, or the ranks' clocks disagree. Parts are signed and add up to the error,
 * predicted minus measured: positive where too much was predicted.
 */
#ifndef DPR_MODELS_PREDICTION_ERROR_H
#define DPR_MODELS_PREDICTION_ERROR_H

#include "schedule/timeline.h"

/* A number as predicted and as measured; predicted - measured = cost + wire + host +
 * order. */
typedef struct dpr_error_parts {
    double predicted;
    double measured;
    double cost;
    double wire;
    double host;
    double order;
} dpr_error_parts_t;

/* The part that is largest, by absolute value, and its name: "cost", "wire", "host" or "order". */
double dpr_error_largest_part(const dpr_error_parts_t *parts, const char **name);

typedef struct dpr_prediction_error {
    int32_t ranks;
    dpr_error_parts_t span_sec;
    dpr_error_parts_t bubble_ratio;       /* mean over the ranks; a difference of 0.01 is a point */
    dpr_error_parts_t *rank_bubble_sec;   /* per rank */
    dpr_error_parts_t *rank_bubble_ratio; /* per rank */
    double mean_absolute_bubble_error;    /* mean over the ranks of |measured - predicted| ratio */
} dpr_prediction_error_t;

/* A prediction: what dpr_simulate_delayed made of costs and start delays. All borrowed. */
typedef struct dpr_prediction {
    const dpr_timeline_t *timeline;
    const double *cost;      /* [node_count] */
    const double *delay_sec; /* [node_count], or NULL where nothing starts late */
} dpr_prediction_t;

/*
 * `measured` is a timeline of the prediction's graph, which dpr_graph_verify has accepted. A node
 * took cost + (measured - predicted duration), so that all parts are exactly 0 where both timelines
 * are the same; a measured duration below 0 counts as 0. enqueued_sec[node], by the measured
 * timeline's clock, is when the host enqueued it (the later end of a transfer); NULL where the host
 * took no time, which is then in no part. Release with dpr_prediction_error_free. Errors:
 * DPR_ERR_INVALID where the timelines are of different graphs or a time is not finite;
 * DPR_ERR_MEMORY.
 */
dpr_status_t dpr_prediction_error_init(const dpr_prediction_t *prediction,
                                       const dpr_timeline_t *measured, const double *enqueued_sec,
                                       dpr_prediction_error_t *error);
void dpr_prediction_error_free(dpr_prediction_error_t *error);

#endif
