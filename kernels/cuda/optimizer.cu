/*
 * Gradient norm and parameter updates. Updates are one pass over the optimizer's state, which is
 * float whatever the dtype; under bf16 the same pass writes the copy that products read.
 */
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace
{

typedef __nv_bfloat16 bf16;

/* Each thread sums vectors of 4 elements, so far apart that a block's loads are whole lines. */
enum { SUM_WIDTH = 4, SUM_PER_BLOCK = DPR_BLOCK * SUM_WIDTH * 4, SUM_BLOCKS = 1024 };

struct squares_args {
    size_t count;
    const float *x;
    double *partial;
};

/* Which element a thread adds, and when, does not depend on how it is loaded. */
template <bool VECTORS> __device__ inline double four_squares(const float *x)
{
    double sum = 0.0;
    dpr_floats<SUM_WIDTH> values;
    if constexpr (VECTORS) {
        values = dpr_load<SUM_WIDTH>(x);
    } else {
        for (int i = 0; i < SUM_WIDTH; i++) {
            values.at[i] = x[i];
        }
    }
#pragma unroll
    for (int i = 0; i < SUM_WIDTH; i++) {
        sum += (double)values.at[i] * (double)values.at[i];
    }
    return sum;
}

template <bool VECTORS> __global__ void __launch_bounds__(DPR_BLOCK) squares(const squares_args a)
{
    const size_t first = (size_t)blockIdx.x * DPR_BLOCK + threadIdx.x;
    const size_t stride = (size_t)gridDim.x * DPR_BLOCK;
    const size_t groups = a.count / SUM_WIDTH;
    dpr_pair sum = {0.0, 0.0};
    for (size_t group = first; group < groups; group += stride) {
        sum.first += four_squares<VECTORS>(a.x + group * SUM_WIDTH);
    }
    for (size_t at = groups * SUM_WIDTH + first; at < a.count; at += stride) {
        sum.first += (double)a.x[at] * (double)a.x[at];
    }
    sum = dpr_block_reduce(sum);
    if (threadIdx.x == 0) {
        a.partial[blockIdx.x] = sum.first;
    }
}

struct total_args {
    int count;
    const double *partial;
    double *result;
};

__global__ void __launch_bounds__(DPR_BLOCK) total_squares(const total_args a)
{
    dpr_pair sum = {0.0, 0.0};
    for (int i = (int)threadIdx.x; i < a.count; i += DPR_BLOCK) {
        sum.first += a.partial[i];
    }
    sum = dpr_block_reduce(sum);
    if (threadIdx.x == 0) {
        a.result[0] = sum.first;
    }
}

struct clip_args {
    int count;
    float max_norm;
    const double *squares;
    float *factor;
};

/* One thread: the count is a handful. */
__global__ void clip(const clip_args a)
{
    double sum = 0.0;
    for (int i = 0; i < a.count; i++) {
        sum += a.squares[i];
    }
    const float factor = (float)((double)a.max_norm / sqrt(sum));
    /* Written so that a norm that is not a number stays one and is seen. */
    a.factor[0] = a.max_norm <= 0.0F || factor >= 1.0F ? 1.0F : factor;
}

/* What both updates have. `working` is NULL where products read the parameters themselves. */
struct update {
    size_t decayed;
    float weight_decay;
    const float *factor;
    const float *gradient;
    float *parameter;
    bf16 *working;

    __device__ float decay(size_t at) const
    {
        return at < decayed ? weight_decay : 0.0F;
    }

    template <int N> __device__ void store(size_t at, const dpr_floats<N> &parameters) const
    {
        dpr_store(parameter + at, parameters);
        if (working != nullptr) {
            dpr_store(working + at, parameters);
        }
    }
};

struct adamw {
    update common;
    dpr_adamw_t settings;
    float *m;
    float *v;

    template <int N> __device__ void apply(size_t at) const
    {
        const dpr_adamw_t s = settings;
        const float factor = common.factor[0];
        const dpr_floats<N> gradient = dpr_load<N>(common.gradient + at);
        dpr_floats<N> mean = dpr_load<N>(m + at);
        dpr_floats<N> square = dpr_load<N>(v + at);
        dpr_floats<N> parameter = dpr_load<N>(common.parameter + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float g = factor * gradient.at[i];
            mean.at[i] = s.beta1 * mean.at[i] + (1.0F - s.beta1) * g;
            square.at[i] = s.beta2 * square.at[i] + (1.0F - s.beta2) * g * g;
            const float step =
                (mean.at[i] / s.correction1) / (sqrtf(square.at[i] / s.correction2) + s.epsilon);
            const float decay = common.decay(at + (size_t)i) * parameter.at[i];
            parameter.at[i] -= s.learning_rate * (step + decay);
        }
        dpr_store(m + at, mean);
        dpr_store(v + at, square);
        common.store(at, parameter);
    }
};

struct sgd {
    update common;
    float learning_rate;
    float momentum;
    float *v;

    template <int N> __device__ void apply(size_t at) const
    {
        const float factor = common.factor[0];
        const dpr_floats<N> gradient = dpr_load<N>(common.gradient + at);
        dpr_floats<N> velocity = dpr_load<N>(v + at);
        dpr_floats<N> parameter = dpr_load<N>(common.parameter + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float decay = common.decay(at + (size_t)i) * parameter.at[i];
            velocity.at[i] = momentum * velocity.at[i] + factor * gradient.at[i] + decay;
            parameter.at[i] -= learning_rate * velocity.at[i];
        }
        dpr_store(v + at, velocity);
        common.store(at, parameter);
    }
};

/* 16-byte accesses of the float arrays; the copy in bf16, a fraction of the bytes, goes in 8. */
enum { UPDATE_WIDTH = dpr_width<float> };

/* The copy that the update itself writes; one in float, which no product needs, is made apart. */
inline bf16 *fused_copy(const dpr_cuda_site_t *site, void *working)
{
    return site->dtype == DPR_DTYPE_BF16 ? (bf16 *)working : nullptr;
}

dpr_status_t copy_apart(dpr_kernels_t *kernels, dpr_stream_t *stream, const dpr_cuda_site_t *site,
                        size_t count, const float *parameter, void *working)
{
    return site->dtype == DPR_DTYPE_BF16 || working == nullptr
               ? DPR_OK
               : dpr_cuda_convert(kernels, stream, count, parameter, working);
}

} // namespace

extern "C" dpr_status_t dpr_cuda_sum_squares(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                             size_t count, const float *x, double *result)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    const dpr_shape_text shape("sum_squares", 1, count);
    const unsigned blocks =
        (unsigned)dpr_smaller(dpr_quotient_up(count, SUM_PER_BLOCK), SUM_BLOCKS);
    const squares_args args = {count, x, (double *)site.lane->scratch};
    DPR_TRY(dpr_cuda_launch(&site, shape.text, dpr_is_aligned(x) ? squares<true> : squares<false>,
                            blocks, DPR_BLOCK, args));
    const total_args total = {(int)blocks, args.partial, result};
    return dpr_cuda_launch(&site, shape.text, total_squares, 1, DPR_BLOCK, total);
}

extern "C" dpr_status_t dpr_cuda_clip_factor(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                             int count, const double *squares, float max_norm,
                                             float *factor)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    const clip_args args = {count, max_norm, squares, factor};
    return dpr_cuda_launch(&site, dpr_shape_text("clip_factor", 1, (size_t)count).text, clip, 1, 1,
                           args);
}

extern "C" dpr_status_t dpr_cuda_adamw(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                       size_t decayed, const dpr_adamw_t *settings,
                                       const float *factor, const float *gradient, float *m,
                                       float *v, float *parameter, void *working)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    bf16 *copy = fused_copy(&site, working);
    const adamw function = {
        {decayed, settings->weight_decay, factor, gradient, parameter, copy}, *settings, m, v};
    const dpr_operand operands[] = {{gradient, sizeof(float)},
                                    {m, sizeof(float)},
                                    {v, sizeof(float)},
                                    {parameter, sizeof(float)},
                                    {copy, sizeof(bf16)}};
    DPR_TRY(dpr_elementwise_launch<UPDATE_WIDTH>(&site, "adamw", count, function, operands));
    return copy_apart(kernels, stream, &site, count, parameter, working);
}

extern "C" dpr_status_t dpr_cuda_sgd(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                     size_t decayed, float learning_rate, float momentum,
                                     float weight_decay, const float *factor, const float *gradient,
                                     float *v, float *parameter, void *working)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    bf16 *copy = fused_copy(&site, working);
    const sgd function = {
        {decayed, weight_decay, factor, gradient, parameter, copy}, learning_rate, momentum, v};
    const dpr_operand operands[] = {{gradient, sizeof(float)},
                                    {v, sizeof(float)},
                                    {parameter, sizeof(float)},
                                    {copy, sizeof(bf16)}};
    DPR_TRY(dpr_elementwise_launch<UPDATE_WIDTH>(&site, "sgd", count, function, operands));
    return copy_apart(kernels, stream, &site, count, parameter, working);
}
