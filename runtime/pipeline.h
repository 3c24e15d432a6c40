/*
 * A pipeline: everything one rank needs to play a program on its stages.
 *
 *     program -> graph (train)  -> executor -+
 *            \-> graph (eval)   -> executor -+-> compute stream, channel streams, one arena
 *
 * The two graphs share the arena, the channels and the streams: an evaluation is the program's
 * forwards alone. Every call that enqueues returns at once; dpr_pipeline_synchronize waits.
 * Creating and destroying are collective over the communicator's ranks.
 */
#ifndef DPR_RUNTIME_PIPELINE_H
#define DPR_RUNTIME_PIPELINE_H

#include "runtime/executor.h"
#include "runtime/memory_plan.h"
#include "runtime/optimizer.h"

typedef struct dpr_pipeline dpr_pipeline_t;

/* Whether F&B's backward runs on a second compute stream beside its forward; the bits are the same
 * either way. */
typedef enum dpr_overlap {
    DPR_OVERLAP_AUTO, /* where the device's memory is not the host's (a GPU) */
    DPR_OVERLAP_ON,
    DPR_OVERLAP_OFF,
} dpr_overlap_t;

/* Borrowed and outliving the pipeline, but for `program`, which is only read at creation. */
typedef struct dpr_pipeline_options {
    const dpr_program_t *program; /* ranks equals the communicator's size */
    dpr_graph_options_t graph;
    dpr_model_config_t model;
    dpr_comm_t *comm;
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    const dpr_optimizer_config_t *optimizer; /* NULL: gradients only, no update */
    long total_steps;                        /* for the learning rate */
    bool poison;                             /* executor.h */
    size_t memory_limit_bytes; /* of device memory, the most a rank may hold; 0: what it has */
    dpr_overlap_t overlap;
    bool record;       /* forward_backward is recorded once for each slot and then played again */
    int32_t drop_wait; /* executor.h; of the training program */
} dpr_pipeline_options_t;

/*
 * Errors: DPR_ERR_PROGRAM and DPR_ERR_DEADLOCK (the program; logged), DPR_ERR_INVALID (the model
 * does not fit the program, or the program not the memory limit: with the bytes needed and the
 * schedules that would fit), DPR_ERR_UNSUPPORTED (`record` where the device or the communicator has
 * no way to; the message says which), DPR_ERR_MEMORY with the bytes needed. Memory is judged before
 * anything is allocated on any rank's device. A rank that fails leaves the others in a collective
 * call; agree on dpr_pipeline_check first for what all ranks can judge.
 */
dpr_status_t dpr_pipeline_create(const dpr_pipeline_options_t *options, dpr_pipeline_t **pipeline);
void dpr_pipeline_destroy(dpr_pipeline_t *pipeline); /* NULL is allowed */

/* The part of creation that needs no other rank and allocates nothing on the device. */
dpr_status_t dpr_pipeline_check(const dpr_pipeline_options_t *options);

/* What the pipeline holds; borrowed. The shapes are of all S stages. */
const dpr_graph_t *dpr_pipeline_graph(const dpr_pipeline_t *pipeline);
const dpr_graph_t *dpr_pipeline_eval_graph(const dpr_pipeline_t *pipeline);
const dpr_stage_shape_t *dpr_pipeline_shapes(const dpr_pipeline_t *pipeline);
size_t dpr_pipeline_message_bytes(const dpr_pipeline_t *pipeline);
/* Stage s if this rank holds it, else NULL. */
dpr_stage_t *dpr_pipeline_stage(const dpr_pipeline_t *pipeline, int stage);
/* The lowest rank that holds stage s: the one that speaks for it in reports. */
int dpr_pipeline_owner(const dpr_pipeline_t *pipeline, int stage);
const dpr_executor_t *dpr_pipeline_executor(const dpr_pipeline_t *pipeline);

/* What was predicted of this rank's device memory before anything was allocated. */
void dpr_pipeline_memory(const dpr_pipeline_t *pipeline, dpr_pipeline_memory_t *memory);
/* What the communicator takes of this rank's device beside it. */
void dpr_pipeline_comm_needs(const dpr_pipeline_t *pipeline, dpr_comm_needs_t *needs);

/* Whether this rank needs micro-batch m's inputs (it runs stage 0 on it) or labels (the last). */
bool dpr_pipeline_needs_inputs(const dpr_pipeline_t *pipeline, int micro_batch);
bool dpr_pipeline_needs_labels(const dpr_pipeline_t *pipeline, int micro_batch);

/*
 * The costs that virtual clocks charge: cost[node] of either graph, written by the caller between
 * steps. All zero at first.
 */
double *dpr_pipeline_cost(dpr_pipeline_t *pipeline);
double *dpr_pipeline_eval_cost(dpr_pipeline_t *pipeline);
/* What one all-reduce of `bytes` costs under a virtual clock; 0 at first. */
void dpr_pipeline_set_reduction_cost(dpr_pipeline_t *pipeline, double latency_sec,
                                     double sec_per_byte);

/*
 * Enqueues the copy of one global batch into batch buffer `slot` (0 or 1) on a stream of its own:
 * inputs [M][micro_batch_size][input], labels [M][micro_batch_size], in pinned memory that stays
 * valid until the next synchronize. Either is NULL where no micro-batch here needs it. The slot
 * must not be in use by an enqueued step, and is ready after the next synchronize.
 */
dpr_status_t dpr_pipeline_load(dpr_pipeline_t *pipeline, int slot, const float *inputs,
                               const int32_t *labels);

/*
 * Enqueues: gradients to zero, the program on batch buffer `slot`, and the sum of replicas'
 * gradients. With `record`, the first call for a slot, and the first after loss_scale has changed,
 * records this and plays it; all others play it.
 */
dpr_status_t dpr_pipeline_forward_backward(dpr_pipeline_t *pipeline, int slot, float loss_scale);

/* Enqueues: the global norm, clipping, and the optimizer's step number `step` (from 0); also brings
 * the losses to every rank. Without an optimizer, only the latter. */
dpr_status_t dpr_pipeline_update(dpr_pipeline_t *pipeline, long step);

/* Enqueues an update that costs what one costs and changes nothing but results (optimizer.h:
 * rehearse): for calibration, before the first. */
dpr_status_t dpr_pipeline_rehearse_update(dpr_pipeline_t *pipeline);

/* Enqueues a forward-only pass on batch buffer `slot`, and brings the losses to every rank. */
dpr_status_t dpr_pipeline_evaluate(dpr_pipeline_t *pipeline, int slot, float loss_scale);

/* Waits for everything enqueued; returns the first error of any stream. */
dpr_status_t dpr_pipeline_synchronize(dpr_pipeline_t *pipeline);

/*
 * For whoever watches (watchdog.h), from any thread, as long as the pipeline lives. The count is
 * odd from the moment a step or an evaluation begins to be enqueued until it has been synchronized,
 * and even otherwise; it never takes a value twice.
 */
uint64_t dpr_pipeline_activity(const dpr_pipeline_t *pipeline);
/* What the step or evaluation under way waits for, as dpr_executor_describe_waits says it; never
 * empty. */
void dpr_pipeline_describe_waits(const dpr_pipeline_t *pipeline, char *text, size_t size);
/* The command that its scheduler is enqueuing, or NULL; asks the device nothing. */
const char *dpr_pipeline_enqueuing(const dpr_pipeline_t *pipeline);

/* Of the last step or evaluation, after synchronize, the same on every rank. */
typedef struct dpr_pipeline_result {
    double loss;          /* sum of the micro-batches' scaled losses, in micro-batch order */
    double correct;       /* rows classified correctly */
    double gradient_norm; /* before clipping; 0 after an evaluation */
    double reduction_sec; /* by the device's clock: from the schedule's end on this rank */
    double update_sec;
} dpr_pipeline_result_t;
void dpr_pipeline_result(const dpr_pipeline_t *pipeline, dpr_pipeline_result_t *result);

#endif
