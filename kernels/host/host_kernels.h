/*
 * The entries of the host's table of kernels. Each packs its arguments and puts the function that
 * computes on the stream; the contracts are those of kernels/kernels.h.
 */
#ifndef DPR_KERNELS_HOST_HOST_KERNELS_H
#define DPR_KERNELS_HOST_HOST_KERNELS_H

#include "device/host/host_stream.h"
#include "kernels/kernels.h"

/* Puts `kernel` on the stream with a copy of the struct `arguments`, whose size is checked here. */
#define DPR_HOST_LAUNCH(stream, kernel, arguments)                                                 \
    do {                                                                                           \
        _Static_assert(sizeof(arguments) <= DPR_HOST_KERNEL_ARGUMENT_BYTES,                        \
                       "too many bytes of kernel arguments");                                      \
        return dpr_host_stream_launch((stream), (kernel), &(arguments), sizeof(arguments));        \
    } while (0)

dpr_status_t dpr_host_layernorm_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                        int columns, const void *x, const float *gamma,
                                        const float *beta, void *y, float *mean, float *rstd);
dpr_status_t dpr_host_layernorm_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                               int rows, int columns, const void *dy, const void *x,
                                               const float *gamma, const float *mean,
                                               const float *rstd, const void *residual, void *dx);
dpr_status_t dpr_host_layernorm_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                                int rows, int columns, const void *dy,
                                                const void *x, const float *mean, const float *rstd,
                                                float *dgamma, float *dbeta);

dpr_status_t dpr_host_linear_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows, int in,
                                     int out, const void *x, const void *w, const void *b,
                                     dpr_epilogue_t epilogue, void *other, void *y);
dpr_status_t dpr_host_linear_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int in, int out, const void *dy, const void *w,
                                            const void *pre, void *dx);
dpr_status_t dpr_host_linear_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                             int in, int out, const void *x, const void *dy,
                                             float *dw, float *db);

dpr_status_t dpr_host_softmax_cross_entropy(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int classes, const void *logits, const int32_t *labels,
                                            float scale, void *dlogits, double *result);

dpr_status_t dpr_host_sum_squares(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                  const float *x, double *result);
dpr_status_t dpr_host_clip_factor(dpr_kernels_t *kernels, dpr_stream_t *stream, int count,
                                  const double *squares, float max_norm, float *factor);
dpr_status_t dpr_host_adamw(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                            size_t decayed, const dpr_adamw_t *settings, const float *factor,
                            const float *gradient, float *m, float *v, float *parameter,
                            void *working);
dpr_status_t dpr_host_sgd(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                          size_t decayed, float learning_rate, float momentum, float weight_decay,
                          const float *factor, const float *gradient, float *v, float *parameter,
                          void *working);

#endif
