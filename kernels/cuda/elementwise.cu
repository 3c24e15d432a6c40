/* Conversion, GELU and its slope, and sums of arrays: one pass each, every element once. */
#include "kernels/cuda/elementwise.cuh"

namespace
{

typedef __nv_bfloat16 bf16;

template <typename T> struct convert {
    const float *x;
    T *y;

    template <int N> __device__ void apply(size_t at) const
    {
        dpr_store(y + at, dpr_load<N>(x + at));
    }
};

struct add {
    const float *x;
    float *to;

    template <int N> __device__ void apply(size_t at) const
    {
        dpr_floats<N> sum = dpr_load<N>(to + at);
        const dpr_floats<N> more = dpr_load<N>(x + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum.at[i] += more.at[i];
        }
        dpr_store(to + at, sum);
    }
};

/*
 * (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), which has no cancellation where tanh is near -1. Beyond |a|
 * = 8 the float tanh is +-1, so a is cut there and nothing overflows. The comparisons let a NaN
 * through.
 */
struct gelu_terms {
    float cut;
    float gate; /* (1 + tanh(u)) / 2 */
    float rest; /* e^-2u: 1 - gate is rest * gate */
};

constexpr float linear = 1.59576912F; /* 2 sqrt(2/pi) */
constexpr float cubic = 0.071354816F; /* 2 sqrt(2/pi) 0.044715 */

__device__ inline gelu_terms terms_of(float a)
{
    const float above = a < -8.0F ? -8.0F : a;
    const float cut = above > 8.0F ? 8.0F : above;
    const float rest = expf(-cut * (linear + cubic * cut * cut));
    const float gate = 1.0F / (1.0F + rest);
    return {cut, a < -8.0F ? 0.0F : gate, rest};
}

template <typename T> struct gelu {
    const T *pre;
    T *y;

    template <int N> __device__ void apply(size_t at) const
    {
        dpr_floats<N> values = dpr_load<N>(pre + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            values.at[i] *= terms_of(values.at[i]).gate;
        }
        dpr_store(y + at, values);
    }
};

/* The derivative: gate + a gate (1 - gate) 2 du/da. */
template <typename T> struct gelu_slope {
    const T *pre;
    T *dx;

    template <int N> __device__ void apply(size_t at) const
    {
        const dpr_floats<N> inputs = dpr_load<N>(pre + at);
        dpr_floats<N> gradient = dpr_load<N>(dx + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const gelu_terms t = terms_of(inputs.at[i]);
            const float slope = linear + 3.0F * cubic * t.cut * t.cut;
            gradient.at[i] *= t.gate + t.cut * slope * (t.gate * t.gate * t.rest);
        }
        dpr_store(dx + at, gradient);
    }
};

template <typename T>
dpr_status_t run_gelu(const dpr_cuda_site_t *site, size_t count, const void *pre, void *y)
{
    const gelu<T> function = {(const T *)pre, (T *)y};
    return dpr_elementwise_launch<dpr_width<T>>(site, "gelu", count, function,
                                                {{pre, sizeof(T)}, {y, sizeof(T)}});
}

template <typename T>
dpr_status_t run_gelu_slope(const dpr_cuda_site_t *site, size_t count, const void *pre, void *dx)
{
    const gelu_slope<T> function = {(const T *)pre, (T *)dx};
    return dpr_elementwise_launch<dpr_width<T>>(site, "gelu_slope", count, function,
                                                {{pre, sizeof(T)}, {dx, sizeof(T)}});
}

} // namespace

extern "C" dpr_status_t dpr_cuda_convert(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                         const float *x, void *y)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    if (site.dtype == DPR_DTYPE_BF16) {
        const convert<bf16> function = {x, (bf16 *)y};
        return dpr_elementwise_launch<dpr_width<bf16>>(&site, "convert", count, function,
                                                       {{x, sizeof(float)}, {y, sizeof(bf16)}});
    }
    const convert<float> function = {x, (float *)y};
    return dpr_elementwise_launch<dpr_width<float>>(&site, "convert", count, function,
                                                    {{x, sizeof(float)}, {y, sizeof(float)}});
}

extern "C" dpr_status_t dpr_cuda_add(const dpr_cuda_site_t *site, size_t count, const float *x,
                                     float *to)
{
    const add function = {x, to};
    return dpr_elementwise_launch<dpr_width<float>>(site, "add", count, function,
                                                    {{x, sizeof(float)}, {to, sizeof(float)}});
}

extern "C" dpr_status_t dpr_cuda_gelu(const dpr_cuda_site_t *site, size_t count, const void *pre,
                                      void *y)
{
    return site->dtype == DPR_DTYPE_BF16 ? run_gelu<bf16>(site, count, pre, y)
                                         : run_gelu<float>(site, count, pre, y);
}

extern "C" dpr_status_t dpr_cuda_gelu_slope(const dpr_cuda_site_t *site, size_t count,
                                            const void *pre, void *dx)
{
    return site->dtype == DPR_DTYPE_BF16 ? run_gelu_slope<bf16>(site, count, pre, dx)
                                         : run_gelu_slope<float>(site, count, pre, dx);
}
