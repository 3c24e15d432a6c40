/*
 * Softmax cross-entropy: a block takes every BLOCKS-th row, and sums its rows' losses and hits in
 * order; a second kernel adds the blocks' sums. Everything but the loss itself, a double, is the
 * same arithmetic as the host's.
 */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

#include <limits.h>
#include <math.h>

namespace
{

typedef __nv_bfloat16 bf16;

enum { MOST_BLOCKS = 1024 };

template <typename T> struct loss_args {
    int rows;
    int classes;
    const T *logits;
    const int32_t *labels;
    float scale;
    T *dlogits; /* may be the logits */
    dpr_pair *partial;
};

/* body(at) for this thread's vectors of N. */
template <int N, typename BODY> __device__ inline void for_vectors(size_t n, const BODY &body)
{
    for (size_t at = (size_t)threadIdx.x * N; at < n; at += (size_t)blockDim.x * N) {
        body(at);
    }
}

template <typename T, int N> __device__ dpr_peak row_peak(const T *logits, size_t n)
{
    dpr_peak peak = {-INFINITY, INT_MAX};
    for_vectors<N>(n, [&](size_t at) {
        const dpr_floats<N> x = dpr_load<N>(logits + at);
        for (int i = 0; i < N; i++) {
            const dpr_peak here = {x.at[i], isnan(x.at[i]) ? -1 : (int)at + i};
            peak = dpr_combine(peak, here);
        }
    });
    return dpr_block_reduce(peak);
}

template <typename T, int N> __device__ double row_sum(const T *logits, size_t n, float largest)
{
    dpr_pair sum = {0.0, 0.0};
    for_vectors<N>(n, [&](size_t at) {
        const dpr_floats<N> x = dpr_load<N>(logits + at);
        for (int i = 0; i < N; i++) {
            sum.first += (double)expf(x.at[i] - largest);
        }
    });
    return dpr_block_reduce(sum).first;
}

/* The row's loss before scaling, and 1 for a hit. A label that is no class makes both the loss and
 * the gradient NaN. */
template <typename T, int N> __device__ dpr_pair row_loss(const loss_args<T> &a, size_t r)
{
    const size_t n = (size_t)a.classes;
    const T *logits = a.logits + r * n;
    T *dlogits = a.dlogits + r * n;
    const int32_t label = a.labels[r];
    if (label < 0) {
        for_vectors<N>(n, [&](size_t at) { dpr_store(dlogits + at, dpr_floats<N>{}); });
        return {0.0, 0.0};
    }
    const bool known = label < a.classes;
    const dpr_peak peak = row_peak<T, N>(logits, n);
    const float largest = peak.place < 0 ? NAN : peak.value;
    const double sum = row_sum<T, N>(logits, n, largest);
    const double of_label = known ? (double)dpr_to_float(logits[label]) : (double)NAN;
    const float factor = known ? (float)((double)a.scale / sum) : NAN;
    __syncthreads(); /* dlogits may be the logits, and all have read the label's */
    for_vectors<N>(n, [&](size_t at) {
        dpr_floats<N> x = dpr_load<N>(logits + at);
        for (int i = 0; i < N; i++) {
            const float hot = (int32_t)at + i == label ? a.scale : 0.0F;
            x.at[i] = expf(x.at[i] - largest) * factor - hot;
        }
        dpr_store(dlogits + at, x);
    });
    return {log(sum) - (of_label - (double)largest), peak.place == label ? 1.0 : 0.0};
}

template <typename T, int N> __global__ void __launch_bounds__(DPR_BLOCK) loss(const loss_args<T> a)
{
    dpr_pair total = {0.0, 0.0};
    for (size_t r = blockIdx.x; r < (size_t)a.rows; r += gridDim.x) {
        total = dpr_combine(total, row_loss<T, N>(a, r));
    }
    if (threadIdx.x == 0) {
        a.partial[blockIdx.x] = total;
    }
}

struct total_args {
    int count;
    float scale;
    const dpr_pair *partial;
    double *result;
};

__global__ void __launch_bounds__(DPR_BLOCK) total_loss(const total_args a)
{
    dpr_pair total = {0.0, 0.0};
    for (int i = (int)threadIdx.x; i < a.count; i += DPR_BLOCK) {
        total = dpr_combine(total, a.partial[i]);
    }
    total = dpr_block_reduce(total);
    if (threadIdx.x == 0) {
        a.result[0] = (double)a.scale * total.first;
        a.result[1] = total.second;
    }
}

template <typename T> dpr_status_t run(const dpr_cuda_site_t *site, loss_args<T> a, double *result)
{
    constexpr int N = dpr_width<T>;
    const dpr_shape_text shape("softmax_cross_entropy", (size_t)a.rows, (size_t)a.classes);
    const unsigned blocks = (unsigned)dpr_smaller((size_t)a.rows, MOST_BLOCKS);
    const bool vectors =
        (size_t)a.classes % N == 0 && dpr_is_aligned(a.logits) && dpr_is_aligned(a.dlogits);
    const size_t steps = dpr_quotient_up((size_t)a.classes, vectors ? N : 1);
    const size_t warps = dpr_smaller(dpr_quotient_up(steps, DPR_WARP), DPR_BLOCK / DPR_WARP);
    const unsigned threads = (unsigned)(warps * DPR_WARP);
    a.partial = (dpr_pair *)site->lane->scratch;
    DPR_TRY((vectors ? dpr_cuda_launch(site, shape.text, loss<T, N>, blocks, threads, a)
                     : dpr_cuda_launch(site, shape.text, loss<T, 1>, blocks, threads, a)));
    const total_args total = {(int)blocks, a.scale, a.partial, result};
    return dpr_cuda_launch(site, shape.text, total_loss, 1, DPR_BLOCK, total);
}

} // namespace

extern "C" dpr_status_t dpr_cuda_softmax_cross_entropy(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                                       int rows, int classes, const void *logits,
                                                       const int32_t *labels, float scale,
                                                       void *dlogits, double *result)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    if (site.dtype == DPR_DTYPE_BF16) {
        return run<bf16>(
            &site, {rows, classes, (const bf16 *)logits, labels, scale, (bf16 *)dlogits, nullptr},
            result);
    }
    return run<float>(
        &site, {rows, classes, (const float *)logits, labels, scale, (float *)dlogits, nullptr},
        result);
}
