/* The host's table of kernels. */
#include "kernels/host/host_kernels.h"

#include <stdlib.h>

#include "base/memory.h"
#include "kernels/host/host_blas.h"

static void destroy(dpr_kernels_t *kernels)
{
    free(kernels);
}

static dpr_status_t prepare(dpr_kernels_t *kernels, dpr_stream_t *stream)
{
    (void)kernels;
    (void)stream;
    return DPR_OK;
}

static dpr_status_t convert(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                            const float *x, void *y)
{
    (void)kernels;
    return dpr_stream_copy(stream, y, x, count * sizeof *x);
}

dpr_status_t dpr_host_kernels_create(dpr_kernels_t **kernels)
{
    DPR_TRY(dpr_host_blas_setup());
    dpr_kernels_t *table;
    DPR_TRY(dpr_calloc(1, sizeof *table, &table));
    *table = (dpr_kernels_t){
        .kind = "host",
        .dtype = DPR_DTYPE_FP32,
        .destroy = destroy,
        .prepare = prepare,
        .convert = convert,
        .layernorm_forward = dpr_host_layernorm_forward,
        .layernorm_backward_input = dpr_host_layernorm_backward_input,
        .layernorm_backward_weight = dpr_host_layernorm_backward_weight,
        .linear_forward = dpr_host_linear_forward,
        .linear_backward_input = dpr_host_linear_backward_input,
        .linear_backward_weight = dpr_host_linear_backward_weight,
        .softmax_cross_entropy = dpr_host_softmax_cross_entropy,
        .sum_squares = dpr_host_sum_squares,
        .clip_factor = dpr_host_clip_factor,
        .adamw = dpr_host_adamw,
        .sgd = dpr_host_sgd,
    };
    *kernels = table;
    return DPR_OK;
}
