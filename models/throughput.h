/*
 * Throughput: from a model, a machine and a layout to the time of a step.
 *
 *     workload, hardware ---> seconds of F, I, W, B, F&B and of a transfer --+
 *                                                                            +--> simulate:
 * pipeline layout: schedule, ranks, micro-batches -----------> op graph ----------+
 *
 *     step = pipeline + reduction of the gradients + optimizer update, one after the other
 *
 * The model is a transformer of equal stages without embeddings. Floating-point operations of one
 * token, N parameters, L layers, h hidden, s sequence (Qi et al. 2024, "Zero bubble pipeline
 * parallelism", table 1; their sum 6N + 12Lhs is Chowdhery et al. 2022, PaLM, appendix B):
 *
 *     F  2N + 4Lhs        I  2N + 8Lhs        W  2N
 *
 * Attention is fused: its inner part is neither written to memory nor kept. Memory traffic of one
 * op on a stage: its parameters (F, I) or its gradients twice (W), what it saves and reads of SAVED
 * and WSTATE, and its input and output.
 *
 * Placement: replica k of the pipeline has devices kP .. kP + P - 1, and every replica's links are
 * taken to be the first one's. Gradients of a stage are reduced by one ring among all ranks that
 * hold it: on the node's links where all devices are on one node, else over the network.
 */
#ifndef DPR_MODELS_THROUGHPUT_H
#define DPR_MODELS_THROUGHPUT_H

#include "models/costs.h"
#include "models/hardware.h"
#include "models/memory.h"

typedef struct dpr_workload {
    uint64_t parameters; /* of the whole model, one copy: 1 .. 1e15 */
    double layers;       /* 0: as many as `parameters` and `hidden` make (dpr_transformer_layers) */
    int hidden;          /* 1 .. 2^20 */
    int sequence;        /* tokens of a sample: 1 .. 2^24 */
    dpr_precision_t precision;
    dpr_state_kind_t state;
    double fb_factor; /* F&B over F + B: 0.5 .. 1; 1 is no gain from overlapping */
} dpr_workload_t;

typedef struct dpr_layout {
    const char *schedule; /* name, of dpr_schedule_list */
    int ranks;
    int micro_batches;
    int micro_batch_size; /* samples: 1 .. 2^20 */
    int replicas;         /* data-parallel copies of the pipeline: 1 .. 2^20 */
} dpr_layout_t;

/* Checks the ranges above. Errors: DPR_ERR_INVALID, logged with the field and its range. */
dpr_status_t dpr_workload_check(const dpr_workload_t *workload);

/* Floating-point operations of one sample, forward and backward: (6N + 12Lhs) s. */
double dpr_workload_sample_flops(const dpr_workload_t *workload);

/* What a cost is multiplied by, to ask "what if": F and I and W also within B and F&B. */
typedef struct dpr_cost_factors {
    double f;
    double i;
    double w;
    double fb; /* of F&B alone, after the others */
    double wire;
    double reduce;
    double update;
} dpr_cost_factors_t;

#define DPR_COST_FACTORS_DEFAULT                                                                   \
    {                                                                                              \
        .f = 1.0, .i = 1.0, .w = 1.0, .fb = 1.0, .wire = 1.0, .reduce = 1.0, .update = 1.0         \
    }

/* ---- One graph, many questions: what a search calls ---- */

/*
 * A graph made ready: which ranks hold which stage, and room for costs. Reused from graph to graph,
 * it allocates only where one is larger than all before; release with dpr_stepper_free.
 */
typedef struct dpr_stepper {
    const dpr_graph_t *graph; /* not owned */
    double *cost;             /* [node]: what dpr_step_play filled last */
    double *end;              /* [node] */
    int32_t *holders;         /* [stage][2]: ascending, -1 for none */
    double *per_rank;         /* [rank] */
    dpr_stage_memory_t *stages;
    dpr_rank_memory_t *memory; /* [rank]: what dpr_step_size counted last */
    size_t node_capacity[2];
    size_t stage_capacity[2];
    size_t rank_capacity[2];
} dpr_stepper_t;

/* `stepper` is zeroed or was used before; `graph` is verified and outlives its use. Errors:
 * DPR_ERR_MEMORY; DPR_ERR_PROGRAM where a stage is on more than two ranks. */
dpr_status_t dpr_stepper_set(dpr_stepper_t *stepper, const dpr_graph_t *graph);
void dpr_stepper_free(dpr_stepper_t *stepper);

typedef struct dpr_step {
    double step_sec; /* pipeline + reduce + update */
    double pipeline_sec;
    double reduce_sec; /* of the rank that takes longest */
    double update_sec; /* likewise */
    double bubble_ratio;
} dpr_step_t;

/*
 * Plays a step. workload, hardware and sizes have been checked (dpr_workload_check,
 * dpr_hardware_check, dpr_hardware_has), and dpr_step_size has been called for these sizes. Errors:
 * DPR_ERR_INVALID where a time is more than a number can hold.
 */
dpr_status_t dpr_step_play(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                           const dpr_hardware_t *hardware, int micro_batch_size, int replicas,
                           const dpr_cost_factors_t *factors, dpr_step_t *step);

/* Sizes the stages and counts each rank's memory, in stepper->memory; *peak_bytes is that of the
 * largest rank. Errors: those of dpr_transformer_memory and dpr_memory_count. */
dpr_status_t dpr_step_size(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                           int micro_batch_size, uint64_t *peak_bytes);

/* Largest S * M that a prediction plays out: some seconds, some hundred MiB. */
#define DPR_THROUGHPUT_MAX_CELLS (1 << 21)

/* ---- One layout ---- */

typedef struct dpr_throughput {
    dpr_step_t step;
    dpr_uniform_costs_t costs; /* means over the graph, seconds */
    int devices;               /* ranks x replicas */
    double global_batch;       /* samples */
    double samples_per_sec;
    double tokens_per_sec;
    double flops_per_step;           /* of the model, all devices */
    double flops_per_sec_per_device; /* achieved */
    double utilization;              /* of the peak: model FLOPs utilization (PaLM, appendix B) */
    uint64_t peak_bytes;             /* of the rank that holds most */
    bool fits;                       /* in the device's memory */
} dpr_throughput_t;

/*
 * Errors: those of dpr_workload_check, dpr_hardware_check, dpr_hardware_has and dpr_schedule_check;
 * DPR_ERR_INVALID where a size of the layout is out of range, S * M is above
 * DPR_THROUGHPUT_MAX_CELLS, or a result is more than a number can
 * hold; DPR_ERR_MEMORY. Not fitting is no error.
 */
dpr_status_t dpr_throughput_predict(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                    const dpr_layout_t *layout, dpr_throughput_t *throughput);

#endif
