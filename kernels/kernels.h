/*
 * The kernels seam, user's side: the arithmetic that an MLP stage and its optimizer are made of.
 *
 * Contract
 *
 * Everything is enqueued on a stream of the device that the table was made for and runs in its
 * order; pointers are device memory and must stay valid until the stream has passed. Nothing
 * allocates. Matrices are row-major and dense: x is rows x columns. Ranges of different arguments
 * must not overlap except where an entry says "may be the same". Weights are W[in][out]: y = x W +
 * b. "accumulates" means += into the destination. Any size of at least 1 is allowed. Errors: what
 * enqueuing reports (device.h). Results are the same bits for the same inputs.
 *
 * Elements. Activations, their gradients, logits, and the weights and biases that linear_* read are
 * of the table's dtype (a void pointer below): float for fp32 and tf32, bfloat16, rounded to
 * nearest even, for bf16. All else is float or double: layernorm's parameters and statistics, the
 * gradients of parameters, the optimizer's state and its master parameters. Sums are taken in float
 * at least, whatever the dtype.
 *
 * Fused as CUDA's libraries fuse (bias and GELU into the product's epilogue, the GELU gradient into
 * the product of the gradient), so that a backend can use its library's epilogues and the host
 * loses nothing.
 *
 * GELU is the tanh form: 0.5 a (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))) (Hendrycks and Gimpel
 * 2016).
 */
#ifndef DPR_KERNELS_KERNELS_H
#define DPR_KERNELS_KERNELS_H

#include "base/dtype.h"
#include "device/device.h"

typedef struct dpr_kernels dpr_kernels_t;

/* What follows the product in linear_forward. */
typedef enum dpr_epilogue {
    DPR_EPILOGUE_NONE,     /* y = x W + b */
    DPR_EPILOGUE_GELU,     /* pre = x W + b is stored, y = gelu(pre) */
    DPR_EPILOGUE_RESIDUAL, /* y = residual + x W + b */
} dpr_epilogue_t;

typedef struct dpr_adamw {
    float learning_rate;
    float beta1;
    float beta2;
    float epsilon;
    float weight_decay;
    float correction1; /* 1 - beta1^t */
    float correction2; /* 1 - beta2^t */
} dpr_adamw_t;

struct dpr_kernels {
    const char *kind; /* "host" or "cuda" */
    dpr_dtype_t dtype;
    size_t workspace_bytes; /* that `prepare` allocates for each stream */
    void (*destroy)(dpr_kernels_t *kernels);

    /* Once for each stream that kernels will be enqueued on, outside steps: allocates the workspace
     * that its products use. The stream outlives the table's use of it. Errors: DPR_ERR_MEMORY. */
    dpr_status_t (*prepare)(dpr_kernels_t *kernels, dpr_stream_t *stream);

    /* Tells products that so many of the device's multiprocessors are taken while they run (by
     * transfers), so that they are cut for the rest; 0, the default: none. Changes their speed and
     * perhaps the order of their sums. Outside steps. NULL where it makes no difference (host).
     * Errors: DPR_ERR_DEVICE. */
    dpr_status_t (*leave)(dpr_kernels_t *kernels, int multiprocessors);

    /* y = x in the table's dtype, [count]. */
    dpr_status_t (*convert)(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                            const float *x, void *y);

    /* y = (x - mean) * rstd * gamma + beta, per row; rstd = 1 / sqrt(variance + 1e-5). Stores mean
     * and rstd [rows]. */
    dpr_status_t (*layernorm_forward)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                      int columns, const void *x, const float *gamma,
                                      const float *beta, void *y, float *mean, float *rstd);

    /* dx = residual + the gradient through the normalisation; dy is the gradient of y, residual
     * [rows][columns] is added (the skip connection's gradient). dx may be the same as residual. */
    dpr_status_t (*layernorm_backward_input)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                             int columns, const void *dy, const void *x,
                                             const float *gamma, const float *mean,
                                             const float *rstd, const void *residual, void *dx);

    /* Accumulates dgamma and dbeta [columns]. */
    dpr_status_t (*layernorm_backward_weight)(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                              int rows, int columns, const void *dy, const void *x,
                                              const float *mean, const float *rstd, float *dgamma,
                                              float *dbeta);

    /* x [rows][in], w [in][out], b [out], y [rows][out]. `other` [rows][out] is pre (written) for
     * GELU, residual (read) for RESIDUAL, NULL for NONE. */
    dpr_status_t (*linear_forward)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows, int in,
                                   int out, const void *x, const void *w, const void *b,
                                   dpr_epilogue_t epilogue, void *other, void *y);

    /* dx = dy w^T, and where `pre` [rows][in] is given (not NULL), times gelu'(pre). dy
     * [rows][out], w [in][out], dx [rows][in]. dx and pre are two buffers, as a library's epilogue
     * has them. */
    dpr_status_t (*linear_backward_input)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                          int in, int out, const void *dy, const void *w,
                                          const void *pre, void *dx);

    /* Accumulates dw += x^T dy and db += the column sums of dy. */
    dpr_status_t (*linear_backward_weight)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                           int in, int out, const void *x, const void *dy,
                                           float *dw, float *db);

    /*
     * Softmax cross-entropy over logits [rows][classes] with labels [rows]; a label below 0 leaves
     * its row out, one of `classes` or more makes the row's loss and gradient NaN. dlogits = scale
     * * (softmax - one-hot), 0 in rows left out; may be the same as logits. result[0] = scale * the
     * sum of the rows' losses, result[1] = the number of rows whose largest logit, the first of
     * several, is the label's (never one with a NaN). Stored, not accumulated.
     */
    dpr_status_t (*softmax_cross_entropy)(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                          int classes, const void *logits, const int32_t *labels,
                                          float scale, void *dlogits, double *result);

    /* result[0] = the sum of squares of x [count], in double, in an order that depends on count
     * only. */
    dpr_status_t (*sum_squares)(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                const float *x, double *result);

    /*
     * Gradient clipping by global norm, its factor left on the device: factor[0] = min(1, max_norm
     * / sqrt(sum of squares[0 .. count - 1])), 1 where max_norm <= 0, NaN where the sum is NaN. The
     * sum is in index order.
     */
    dpr_status_t (*clip_factor)(dpr_kernels_t *kernels, dpr_stream_t *stream, int count,
                                const double *squares, float max_norm, float *factor);

    /*
     * AdamW (Loshchilov and Hutter 2019, algorithm 2) on `count` parameters: gradients are first
     * multiplied by factor[0]; m and v are updated in place. Weight decay applies to the first
     * `decayed` parameters only and is scaled by the learning rate:
     * p -= learning_rate (m' / (sqrt(v') + epsilon) + weight_decay p), m' and v' bias-corrected.
     * `working` [count] gets the new parameters in the table's dtype: what products read under
     * bf16; NULL where they read the parameters themselves.
     */
    dpr_status_t (*adamw)(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                          size_t decayed, const dpr_adamw_t *settings, const float *factor,
                          const float *gradient, float *m, float *v, float *parameter,
                          void *working);

    /* SGD with momentum: v = momentum v + factor g + weight_decay p; p -= learning_rate v.
     * `decayed` and `working` as in adamw. */
    dpr_status_t (*sgd)(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count, size_t decayed,
                        float learning_rate, float momentum, float weight_decay,
                        const float *factor, const float *gradient, float *v, float *parameter,
                        void *working);
};

void dpr_kernels_destroy(dpr_kernels_t *kernels); /* NULL is allowed */

/*
 * Kernels on OpenBLAS for a host device, in fp32. Sets OpenBLAS to one thread a call. Errors:
 * DPR_ERR_UNSUPPORTED where the library is OpenBLAS's serial build, which several threads cannot
 * call at once (the message names the package to install instead).
 */
dpr_status_t dpr_host_kernels_create(dpr_kernels_t **kernels);

/* cuBLAS and CUDA kernels for a cuda device, which outlives them; DPR_ERR_UNSUPPORTED where this
 * build has none. */
dpr_status_t dpr_cuda_kernels_create(dpr_device_t *device, dpr_dtype_t dtype,
                                     dpr_kernels_t **kernels);

#endif
