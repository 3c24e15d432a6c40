/*
 * Numbers in memory and in registers: loads and stores of several elements at once, as floats
 * whatever the element.
 */
#ifndef DPR_KERNELS_CUDA_VECTOR_CUH
#define DPR_KERNELS_CUDA_VECTOR_CUH

#include "kernels/cuda/launch.cuh"

/* Elements in 16 bytes: what a thread moves with one instruction. */
template <typename T> constexpr int dpr_width = 16 / (int)sizeof(T);

__device__ inline float dpr_to_float(float x)
{
    return x;
}

__device__ inline float dpr_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

__device__ inline void dpr_from_float(float x, float *to)
{
    *to = x;
}

/* To nearest, ties to even. */
__device__ inline void dpr_from_float(float x, __nv_bfloat16 *to)
{
    *to = __float2bfloat16_rn(x);
}

/* N elements in memory, accessed in pieces of at most 16 bytes. */
template <typename T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) dpr_packed {
    T element[N];
};

template <int N> struct dpr_floats {
    float at[N];
};

template <int N, typename T> __device__ inline dpr_floats<N> dpr_load(const T *from)
{
    const dpr_packed<T, N> packed = *reinterpret_cast<const dpr_packed<T, N> *>(from);
    dpr_floats<N> floats;
#pragma unroll
    for (int i = 0; i < N; i++) {
        floats.at[i] = dpr_to_float(packed.element[i]);
    }
    return floats;
}

template <int N, typename T> __device__ inline void dpr_store(T *to, const dpr_floats<N> &floats)
{
    dpr_packed<T, N> packed;
#pragma unroll
    for (int i = 0; i < N; i++) {
        dpr_from_float(floats.at[i], &packed.element[i]);
    }
    *reinterpret_cast<dpr_packed<T, N> *>(to) = packed;
}

#endif
