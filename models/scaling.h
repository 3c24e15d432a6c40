/*
 * Scaling: how the throughput grows with the number of devices, and where it stops paying.
 *
 *     axis       strong                               weak
 *     ranks      the same model and batch over more   the model grows with the ranks, the batch of
 *                pipeline ranks                       a replica stays: N and L times P / P0
 *     replicas   the same batch, divided over more    the batch grows with the replicas: a replica
 *                copies of the pipeline               keeps its micro-batches
 *
 * The micro-batch size stays. Efficiency is the floating-point rate per device over that of the
 * first point that fits in memory, which for strong scaling is speed-up over growth in devices.
 * What does not fit is predicted, but is neither compared nor recommended.
 */
#ifndef DPR_MODELS_SCALING_H
#define DPR_MODELS_SCALING_H

#include "models/throughput.h"

typedef enum dpr_scaling_axis {
    DPR_SCALE_RANKS,
    DPR_SCALE_REPLICAS,
} dpr_scaling_axis_t;

enum { DPR_MAX_SCALING_POINTS = 64 };

typedef struct dpr_scaling_options {
    dpr_scaling_axis_t axis;
    bool weak;
    double threshold;                   /* least efficiency that still pays: 0 < .. <= 1 */
    int value_count;                    /* 1 .. DPR_MAX_SCALING_POINTS */
    int values[DPR_MAX_SCALING_POINTS]; /* ranks or replicas, strictly ascending */
} dpr_scaling_options_t;

typedef enum dpr_scaling_outcome {
    DPR_SCALING_RUNS,
    DPR_SCALING_NO_SCHEDULE, /* the schedule does not allow these ranks and micro-batches */
    DPR_SCALING_NO_BATCH,    /* the batch does not divide among the replicas */
} dpr_scaling_outcome_t;

typedef struct dpr_scaling_point {
    dpr_scaling_outcome_t outcome;
    dpr_layout_t layout;
    dpr_throughput_t throughput; /* where it runs; also where it does not fit in memory */
    double speedup;              /* samples per second over the first fitting point's; weak scaling
                                    of ranks: floating-point rate over it; 0 where it does not fit */
    double efficiency;           /* 1 at the first point that fits; 0 where it does not fit */
} dpr_scaling_point_t;

typedef struct dpr_scaling {
    int count;
    dpr_scaling_point_t points[DPR_MAX_SCALING_POINTS];
    int pays_up_to; /* index of the last that fits before one falls below the threshold; -1: none */
    int stops_at;   /* index of that first fitting point below, -1 where none is */
} dpr_scaling_t;

/*
 * `base` is the layout that the values replace the ranks or the replicas of; its micro-batches are
 * those of its replicas: the global batch of strong scaling is M * size * replicas of `base`, and
 * weak scaling of ranks takes `workload` as the model of base->ranks.
 * Errors: those of dpr_throughput_predict where a point is bad for another reason than
 * dpr_scaling_outcome_t has; DPR_ERR_INVALID where an option is out of range or no point can run.
 */
dpr_status_t dpr_scaling_predict(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                 const dpr_layout_t *base, const dpr_scaling_options_t *options,
                                 dpr_scaling_t *scaling);

#endif
