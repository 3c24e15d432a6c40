/*
 * How wrong a prediction was, and why: the same graph simulated with one more kind of measured
 * times at each step.
 *
 *     predicted --cost--> compute as measured --wire--> transfers as measured too --rest-->
 * measured
 *
 * The rest is what no cost explains: the host, the order in which messages really moved, and the
 * clocks. Parts are signed; they add up to the error, measured minus predicted.
 */
#ifndef DPR_MODELS_PREDICTION_ERROR_H
#define DPR_MODELS_PREDICTION_ERROR_H

#include "schedule/timeline.h"

/* A number as predicted and as measured; measured - predicted = cost + wire + rest. */
typedef struct dpr_error_parts {
    double predicted;
    double measured;
    double cost;
    double wire;
    double rest;
} dpr_error_parts_t;

typedef struct dpr_prediction_error {
    int32_t ranks;
    dpr_error_parts_t span_sec;
    dpr_error_parts_t bubble_ratio;       /* mean over the ranks; a difference of 0.01 is a point */
    dpr_error_parts_t *rank_bubble_sec;   /* per rank */
    dpr_error_parts_t *rank_bubble_ratio; /* per rank */
    double mean_absolute_bubble_error;    /* mean over the ranks of |measured - predicted| ratio */
} dpr_prediction_error_t;

/*
 * `predicted` is what dpr_simulate made of cost[node], `measured` a timeline of the same graph,
 * which dpr_graph_verify has accepted. A node took cost + (measured - predicted duration), so that
 * all parts are exactly 0 where both timelines are the same; a measured duration below 0 counts as
 * 0. Release with dpr_prediction_error_free. Errors: DPR_ERR_INVALID where the timelines are of
 * different graphs or a time is not finite; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_prediction_error_init(const dpr_timeline_t *predicted, const double *cost,
                                       const dpr_timeline_t *measured,
                                       dpr_prediction_error_t *error);
void dpr_prediction_error_free(dpr_prediction_error_t *error);

#endif
