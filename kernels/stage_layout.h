/*
 * Where everything of an MLP stage lies: parameters, SAVED and WSTATE. Private to the stage, its
 * tests and its benchmark.
 *
 * Boundaries. A stage of n blocks has n + 1 boundaries: block i turns activation x_i into x_(i+1),
 * and the gradient g_(i+1) into g_i.
 *
 *     input --projection--> x_0 --block 0--> x_1 --block 1--> ... --> x_n --classifier--> logits
 *                           g_0              g_1                      g_n
 *
 * Only a first stage has the projection and only a last one the classifier. At its ends any other
 * stage has x_0 in ACT_IN, g_0 in GRAD_OUT, x_n in ACT_OUT and g_n in GRAD_IN, so nothing is
 * copied; all other boundaries lie in SAVED (x) and WSTATE (g).
 *
 * SAVED, what the backward needs of the forward:
 *
 *     | x of the boundaries inside | n pre h mean rstd | ... block by block ... | dlogits | input |
 *                                                               last stage only ^         ^
 *                                                                  first stage, bf16 only |
 *     x    block input: layernorm's backward; x_n, last stage: the classifier's weight gradient
 *     n    layernorm(x): W1's weight gradient
 *     pre  W1 n + b1: the GELU's slope
 *     h    gelu(pre): W2's weight gradient
 *     input   the samples in bf16: the projection and its weight gradient (fp32 and tf32 read them
 *             where they are)
 *
 * WSTATE, what backward_weight needs of backward_input:
 *
 *     | g of the boundaries inside | da dn | ... block by block ...
 *
 *     g    the gradient of W2's output (and, first stage, of the projection's)
 *     da   the gradient of pre: W1's weight gradient
 *     dn   the gradient of n: gamma's and beta's
 *
 * Everything is in the model's dtype but mean and rstd, which are floats. Each buffer starts at a
 * multiple of DPR_STAGE_ALIGN_BYTES from the start of its set.
 *
 * Parameters (and, likewise, gradients and the working copy) are dense, matrices first, because
 * weight decay applies to a leading range:
 *
 *     | Wp | W1 W2 | W1 W2 | ... | Wc | bp | gamma beta b1 b2 | gamma beta b1 b2 | ... | bc |
 *      first                      last first                                           last
 */
#ifndef DPR_KERNELS_STAGE_LAYOUT_H
#define DPR_KERNELS_STAGE_LAYOUT_H

#include "kernels/stage.h"

enum { DPR_STAGE_ALIGN_BYTES = 64 };

typedef enum dpr_tensor {
    DPR_TENSOR_PROJECTION_WEIGHT,
    DPR_TENSOR_W1,
    DPR_TENSOR_W2,
    DPR_TENSOR_CLASSIFIER_WEIGHT,
    DPR_TENSOR_PROJECTION_BIAS,
    DPR_TENSOR_GAMMA,
    DPR_TENSOR_BETA,
    DPR_TENSOR_B1,
    DPR_TENSOR_B2,
    DPR_TENSOR_CLASSIFIER_BIAS,
} dpr_tensor_t;

enum { DPR_TENSORS = 10 };

/* One parameter tensor: of every block of the stage, or of the stage's projection or classifier. */
typedef struct dpr_tensor_place {
    size_t offset; /* numbers from the start of the parameters, in block 0 */
    size_t count;  /* numbers in one */
    size_t stride; /* numbers from one block's to the next block's */
    int copies;    /* one a block; 0 where the stage has none */
} dpr_tensor_place_t;

/* In bytes from the start of SAVED or WSTATE. */
typedef struct dpr_saved_place {
    size_t boundaries;
    size_t boundary_stride;
    size_t blocks;
    size_t block_stride;
    size_t n, pre, h, mean, rstd; /* within a block */
    size_t dlogits;
    size_t input;
} dpr_saved_place_t;

typedef struct dpr_wstate_place {
    size_t boundaries;
    size_t boundary_stride;
    size_t blocks;
    size_t block_stride;
    size_t da, dn; /* within a block */
} dpr_wstate_place_t;

typedef struct dpr_stage_layout {
    dpr_stage_shape_t shape;
    dpr_tensor_place_t tensor[DPR_TENSORS];
    dpr_saved_place_t saved;
    dpr_wstate_place_t wstate;
} dpr_stage_layout_t;

/* Errors: those of dpr_stage_shape. */
dpr_status_t dpr_stage_layout(const dpr_model_config_t *config, int stages, int stage,
                              dpr_stage_layout_t *layout);

/* "W1", "gamma" and so on. */
const char *dpr_tensor_name(dpr_tensor_t tensor);
/* Whether every block has one; the projection's and the classifier's exist once in a model. */
bool dpr_tensor_is_of_block(dpr_tensor_t tensor);

/* Fills `parameters` [layout->shape.parameters], host memory, with the initial values. */
void dpr_stage_initial_parameters(const dpr_model_config_t *config,
                                  const dpr_stage_layout_t *layout, float *parameters);

#endif
