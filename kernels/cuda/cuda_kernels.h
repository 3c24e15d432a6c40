/*
 * The cuda table of kernels, inside: what an entry finds about its stream, and the entries. Their
 * contracts are those of kernels/kernels.h.
 *
 * A lane is what `prepare` makes for one stream: memory for products and for partial sums, and the
 * plans of the products that ran there. Nothing in it is shared, so that streams may be enqueued on
 * from different threads.
 *
 *     lane -> [ product workspace | scratch ] in device memory
 *             [ plans ]               on the host
 */
#ifndef DPR_KERNELS_CUDA_CUDA_KERNELS_H
#define DPR_KERNELS_CUDA_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

/* Partial sums and bias gradients of one operation. */
enum { DPR_CUDA_SCRATCH_BYTES = 1 << 20 };

struct dpr_cuda_plans;

typedef struct dpr_cuda_lane {
    const dpr_stream_t *stream;
    void *workspace; /* workspace_bytes, the products'; the scratch behind it */
    void *scratch;
    struct dpr_cuda_plans *plans;
    struct dpr_cuda_lane *next;
} dpr_cuda_lane_t;

/* What every entry begins with. */
typedef struct dpr_cuda_site {
    dpr_cuda_lane_t *lane;
    cudaStream_t stream;
    dpr_dtype_t dtype;
} dpr_cuda_site_t;

/*
 * The lane of a stream, its handle, and the device made current for this thread. Errors:
 * DPR_ERR_INVALID where the stream was not prepared, DPR_ERR_DEVICE.
 */
dpr_status_t dpr_cuda_site_of(const dpr_kernels_t *kernels, dpr_stream_t *stream,
                              dpr_cuda_site_t *site);

/* Logs "cuda kernels: <call> for <what> failed: <name of the error> (<its text>)". */
dpr_status_t dpr_cuda_kernels_fail(cudaError_t error, const char *call, const char *what);

dpr_status_t dpr_cuda_convert(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                              const float *x, void *y);
dpr_status_t dpr_cuda_layernorm_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                        int columns, const void *x, const float *gamma,
                                        const float *beta, void *y, float *mean, float *rstd);
dpr_status_t dpr_cuda_layernorm_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                               int rows, int columns, const void *dy, const void *x,
                                               const float *gamma, const float *mean,
                                               const float *rstd, const void *residual, void *dx);
dpr_status_t dpr_cuda_layernorm_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                                int rows, int columns, const void *dy,
                                                const void *x, const float *mean, const float *rstd,
                                                float *dgamma, float *dbeta);
dpr_status_t dpr_cuda_linear_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows, int in,
                                     int out, const void *x, const void *w, const void *b,
                                     dpr_epilogue_t epilogue, void *other, void *y);
dpr_status_t dpr_cuda_linear_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int in, int out, const void *dy, const void *w,
                                            const void *pre, void *dx);
dpr_status_t dpr_cuda_linear_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                             int in, int out, const void *x, const void *dy,
                                             float *dw, float *db);
dpr_status_t dpr_cuda_softmax_cross_entropy(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int classes, const void *logits, const int32_t *labels,
                                            float scale, void *dlogits, double *result);
dpr_status_t dpr_cuda_sum_squares(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                  const float *x, double *result);
dpr_status_t dpr_cuda_clip_factor(dpr_kernels_t *kernels, dpr_stream_t *stream, int count,
                                  const double *squares, float max_norm, float *factor);
dpr_status_t dpr_cuda_adamw(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                            size_t decayed, const dpr_adamw_t *settings, const float *factor,
                            const float *gradient, float *m, float *v, float *parameter,
                            void *working);
dpr_status_t dpr_cuda_sgd(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                          size_t decayed, float learning_rate, float momentum, float weight_decay,
                          const float *factor, const float *gradient, float *v, float *parameter,
                          void *working);

/*
 * What stands in for cuBLASLt's epilogues where it has none for a shape or an alignment. Matrices
 * are of the site's dtype, [rows][columns].
 */

/* y = b in every row, plus `residual` where it is not NULL: what a product is then added to. */
dpr_status_t dpr_cuda_start_rows(const dpr_cuda_site_t *site, int rows, int columns, const void *b,
                                 const void *residual, void *y);
/* y = gelu(pre). */
dpr_status_t dpr_cuda_gelu(const dpr_cuda_site_t *site, size_t count, const void *pre, void *y);
/* dx *= gelu'(pre). */
dpr_status_t dpr_cuda_gelu_slope(const dpr_cuda_site_t *site, size_t count, const void *pre,
                                 void *dx);
/* sums[c] += the sum of column c of dy, in an order that depends on the shape only. Uses the lane's
 * scratch. */
dpr_status_t dpr_cuda_column_sums(const dpr_cuda_site_t *site, int rows, int columns,
                                  const void *dy, float *sums);
/* to += x, [count] floats. */
dpr_status_t dpr_cuda_add(const dpr_cuda_site_t *site, size_t count, const float *x, float *to);

#endif
