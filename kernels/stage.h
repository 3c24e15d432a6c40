/*
 * An MLP stage: a run of residual blocks
 *
 *     y = x + W2 gelu(W1 layernorm(x) + b1) + b2
 *
 * with, on the first stage, a projection of the input before them and, on the last, a classifier
 * with softmax cross-entropy after them. Built on the kernels seam alone, so it is the same for
 * every device.
 *
 * The backward is split for real: backward_input needs only what lies on the way to the input and
 * leaves in WSTATE (and SAVED) what backward_weight will need.
 *
 * Shapes: activations and their gradients are [micro_batch_size][hidden] elements of the model's
 * dtype, which is the kernels' (kernels.h); parameters and their gradients are floats whatever the
 * dtype. Under bf16 products read a working copy of the parameters, and of the input, in bf16.
 */
#ifndef DPR_KERNELS_STAGE_H
#define DPR_KERNELS_STAGE_H

#include "kernels/kernels.h"

typedef struct dpr_model_config {
    int input; /* features of a sample */
    int hidden;
    int ffn;
    int classes;
    int blocks; /* in all stages together */
    int micro_batch_size;
    uint64_t seed; /* of the weights */
    dpr_dtype_t dtype;
} dpr_model_config_t;

/* What stage `stage` of `stages` consists of, and how much it needs. Blocks are divided as evenly
 * as they go: stage s has blocks s * blocks / stages up to (s + 1) * blocks / stages. */
typedef struct dpr_stage_shape {
    int stage;
    int stages;
    int first_block;
    int blocks;
    bool is_first;     /* projects the input */
    bool is_last;      /* classifies */
    size_t parameters; /* floats */
    size_t decayed;    /* of these, the leading ones that weight decay applies to (matrices) */
    size_t activation_bytes; /* of one ACT or GRAD buffer, exactly: what a message carries. Aligning
                                the buffers is up to whoever lays them out */
    size_t saved_bytes;      /* of one SAVED buffer */
    size_t wstate_bytes;     /* of one WSTATE buffer */
    size_t working_bytes;    /* of the parameters' copy in the dtype; 0 where products read them */
    /* Of one micro-batch, products alone. backward_input and backward_weight each cost as much as
     * the forward, but that the first stage has no gradient of the input to compute. */
    double forward_flops;
    double input_flops;  /* of backward_input */
    double weight_flops; /* of backward_weight */
} dpr_stage_shape_t;

/*
 * Errors: DPR_ERR_INVALID, logged: a size below 1, so large that a byte count overflows, or fewer
 * blocks than stages (the message says what would do).
 */
dpr_status_t dpr_stage_shape(const dpr_model_config_t *config, int stages, int stage,
                             dpr_stage_shape_t *shape);

typedef struct dpr_stage dpr_stage_t;

/*
 * Allocates parameters, gradients and, under bf16, the working copy on the device, initialises the
 * parameters (by block number and config->seed, so that every placement gets the same bits), copies
 * them and zeroes the gradients. `stream`, for which the kernels have been prepared, is used for
 * that and synchronized. Errors: those of dpr_stage_shape, DPR_ERR_INVALID where the kernels are of
 * another dtype than the model, DPR_ERR_MEMORY.
 */
dpr_status_t dpr_stage_create(const dpr_model_config_t *config, int stages, int stage,
                              dpr_device_t *device, dpr_kernels_t *kernels, dpr_stream_t *stream,
                              dpr_stage_t **out);
void dpr_stage_destroy(dpr_stage_t *stage); /* NULL is allowed */

const dpr_stage_shape_t *dpr_stage_get_shape(const dpr_stage_t *stage);
/* shape->parameters floats of device memory each; the stage keeps ownership. Weight matrices first,
 * then biases and layernorm parameters. */
float *dpr_stage_parameters(dpr_stage_t *stage);
float *dpr_stage_gradients(dpr_stage_t *stage);
/* The parameters in the kernels' dtype, which products read, and which whoever changes the
 * parameters must renew (kernels.h: adamw, sgd); NULL where products read the parameters
 * themselves. */
void *dpr_stage_working(dpr_stage_t *stage);

/*
 * The buffers of one micro-batch on one stage, all device memory. What a stage does not have is
 * NULL: `input` and `labels` are the samples [micro_batch_size][input] on the first stage and the
 * labels [micro_batch_size] on the last; act_in is NULL on the first stage, act_out, grad_in on the
 * last, grad_out on the first.
 *
 * The forward needs no wstate (NULL is allowed). Every backward needs it, also the fused one, which
 * uses it between its own kernels only. A forward that no backward follows leaves nothing of use in
 * saved. Any alignment that the elements have is correct; 64 bytes are fast.
 */
typedef struct dpr_stage_buffers {
    const float *input;
    const int32_t *labels;
    const void *act_in;
    void *act_out;
    const void *grad_in;
    void *grad_out;
    void *saved;
    void *wstate;
    double *result; /* last stage: [2], as of softmax_cross_entropy */
} dpr_stage_buffers_t;

/* loss_scale: each row's loss and gradient is multiplied by it (1 / global batch). */
dpr_status_t dpr_stage_forward(dpr_stage_t *stage, dpr_stream_t *stream,
                               const dpr_stage_buffers_t *buffers, float loss_scale);
dpr_status_t dpr_stage_backward_input(dpr_stage_t *stage, dpr_stream_t *stream,
                                      const dpr_stage_buffers_t *buffers);
/* Accumulates into the stage's gradients. */
dpr_status_t dpr_stage_backward_weight(dpr_stage_t *stage, dpr_stream_t *stream,
                                       const dpr_stage_buffers_t *buffers);
/* Both, fused: what the action B runs. */
dpr_status_t dpr_stage_backward(dpr_stage_t *stage, dpr_stream_t *stream,
                                const dpr_stage_buffers_t *buffers);
/*
 * F&B: a forward of one micro-batch and a backward of another. `second` NULL: their parts are
 * interleaved on `stream`. Else the forward runs on `stream` and the backward on `second`, in any
 * order between the two: the caller lets `second` wait for what the backward needs, and whoever
 * needs its results wait for `second`. The same bits either way.
 */
dpr_status_t dpr_stage_forward_backward(dpr_stage_t *f_stage, const dpr_stage_buffers_t *f_buffers,
                                        dpr_stage_t *b_stage, const dpr_stage_buffers_t *b_buffers,
                                        dpr_stream_t *stream, dpr_stream_t *second,
                                        float loss_scale);

#endif
