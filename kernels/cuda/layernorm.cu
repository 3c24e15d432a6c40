/*
 * Layer normalisation along rows: one block a row. A row is read once and kept in registers where
 * it fits (K vectors a thread), again from the caches where it does not. Sums are in double, so
 * that a row's constant part, however large beside its spread, does not leak into the normalised
 * values; on the GPUs that this is built for, double units outpace memory even so
 * (docs/kernels.md).
 */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

namespace
{

typedef __nv_bfloat16 bf16;

/* Vectors of a row that a thread keeps in registers. */
enum { KEPT = 4, LARGEST_BLOCK = 512 };

constexpr double epsilon = 1e-5;

/* body(k, at) for this thread's vectors of N: the k-th begins at element `at`. With K = 0 their
 * number is not bounded, and k is 0. */
template <int K, int N, typename BODY>
__device__ inline void for_vectors(size_t n, const BODY &body)
{
    if constexpr (K > 0) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            const size_t at = ((size_t)k * blockDim.x + threadIdx.x) * N;
            if (at < n) {
                body(k, at);
            }
        }
    } else {
        for (size_t at = (size_t)threadIdx.x * N; at < n; at += (size_t)blockDim.x * N) {
            body(0, at);
        }
    }
}

/* A row, kept as it came from memory. */
template <typename T, int N, int K> struct row {
    const T *from;
    dpr_packed<T, N> kept[K > 0 ? K : 1];

    __device__ void keep(int k, size_t at)
    {
        if constexpr (K > 0) {
            kept[k] = *reinterpret_cast<const dpr_packed<T, N> *>(from + at);
        }
    }

    __device__ dpr_floats<N> get(int k, size_t at) const
    {
        if constexpr (K > 0) {
            dpr_floats<N> floats;
#pragma unroll
            for (int i = 0; i < N; i++) {
                floats.at[i] = dpr_to_float(kept[k].element[i]);
            }
            return floats;
        }
        return dpr_load<N>(from + at);
    }
};

template <typename T> struct forward_args {
    int rows;
    int columns;
    const T *x;
    const float *gamma;
    const float *beta;
    T *y;
    float *mean;
    float *rstd;
};

template <typename T, int N, int K> __device__ double row_mean(row<T, N, K> &x, size_t n)
{
    dpr_pair sum = {0.0, 0.0};
    for_vectors<K, N>(n, [&](int k, size_t at) {
        x.keep(k, at);
        const dpr_floats<N> values = x.get(k, at);
        for (int i = 0; i < N; i++) {
            sum.first += (double)values.at[i];
        }
    });
    return dpr_block_reduce(sum).first / (double)n;
}

template <typename T, int N, int K>
__device__ double row_variance(const row<T, N, K> &x, size_t n, double mean)
{
    dpr_pair sum = {0.0, 0.0};
    for_vectors<K, N>(n, [&](int k, size_t at) {
        const dpr_floats<N> values = x.get(k, at);
        for (int i = 0; i < N; i++) {
            const double centred = (double)values.at[i] - mean;
            sum.first += centred * centred;
        }
    });
    return dpr_block_reduce(sum).first / (double)n;
}

template <typename T, int N, int K>
__global__ void __launch_bounds__(LARGEST_BLOCK) forward(const forward_args<T> a)
{
    const size_t n = (size_t)a.columns;
    for (size_t r = blockIdx.x; r < (size_t)a.rows; r += gridDim.x) {
        row<T, N, K> x = {a.x + r * n, {}};
        const double exact_mean = row_mean(x, n);
        const double variance = row_variance(x, n, exact_mean);
        const float mean = (float)exact_mean;
        const float rstd = (float)(1.0 / sqrt(variance + epsilon));
        if (threadIdx.x == 0) {
            a.mean[r] = mean;
            a.rstd[r] = rstd;
        }
        for_vectors<K, N>(n, [&](int k, size_t at) {
            dpr_floats<N> values = x.get(k, at);
            const dpr_floats<N> gamma = dpr_load<N>(a.gamma + at);
            const dpr_floats<N> beta = dpr_load<N>(a.beta + at);
            for (int i = 0; i < N; i++) {
                values.at[i] = (values.at[i] - mean) * rstd * gamma.at[i] + beta.at[i];
            }
            dpr_store(a.y + r * n + at, values);
        });
    }
}

template <typename T> struct backward_args {
    int rows;
    int columns;
    const T *dy;
    const T *x;
    const float *gamma;
    const float *mean;
    const float *rstd;
    const T *residual;
    T *dx;
};

/* With n = (x - mean) rstd and g = dy gamma, the gradient through the normalisation is
 * rstd (g - the row's mean of g - n times the row's mean of g n); this sums g and g n. */
template <typename T, int N, int K>
__device__ dpr_pair gradient_sums(row<T, N, K> &dy, row<T, N, K> &x, const backward_args<T> &a,
                                  float mean, float rstd)
{
    dpr_pair sum = {0.0, 0.0};
    for_vectors<K, N>((size_t)a.columns, [&](int k, size_t at) {
        dy.keep(k, at);
        x.keep(k, at);
        const dpr_floats<N> gradient = dy.get(k, at);
        const dpr_floats<N> values = x.get(k, at);
        const dpr_floats<N> gamma = dpr_load<N>(a.gamma + at);
        for (int i = 0; i < N; i++) {
            const float g = gradient.at[i] * gamma.at[i];
            sum.first += (double)g;
            sum.second += (double)(g * ((values.at[i] - mean) * rstd));
        }
    });
    return dpr_block_reduce(sum);
}

template <typename T, int N, int K>
__global__ void __launch_bounds__(LARGEST_BLOCK) backward_input(const backward_args<T> a)
{
    const size_t n = (size_t)a.columns;
    for (size_t r = blockIdx.x; r < (size_t)a.rows; r += gridDim.x) {
        row<T, N, K> dy = {a.dy + r * n, {}};
        row<T, N, K> x = {a.x + r * n, {}};
        const float mean = a.mean[r];
        const float rstd = a.rstd[r];
        const dpr_pair sums = gradient_sums(dy, x, a, mean, rstd);
        const float mean_g = (float)(sums.first / (double)n);
        const float mean_gn = (float)(sums.second / (double)n);
        for_vectors<K, N>(n, [&](int k, size_t at) {
            const dpr_floats<N> gradient = dy.get(k, at);
            const dpr_floats<N> values = x.get(k, at);
            const dpr_floats<N> gamma = dpr_load<N>(a.gamma + at);
            dpr_floats<N> dx = dpr_load<N>(a.residual + r * n + at);
            for (int i = 0; i < N; i++) {
                const float normalised = (values.at[i] - mean) * rstd;
                const float centred = gradient.at[i] * gamma.at[i] - mean_g - normalised * mean_gn;
                dx.at[i] += rstd * centred;
            }
            dpr_store(a.dx + r * n + at, dx);
        });
    }
}

/* A block for a row: threads enough for KEPT vectors each, within limits. */
inline unsigned row_threads(size_t vectors)
{
    const size_t warps = dpr_quotient_up(vectors, DPR_WARP * KEPT);
    return (unsigned)(DPR_WARP * (warps < 1 ? 1 : dpr_smaller(warps, LARGEST_BLOCK / DPR_WARP)));
}

inline unsigned row_blocks(int rows)
{
    return (unsigned)dpr_smaller((size_t)rows, 65535);
}

/* Vectors where every row and parameter begins at 16 bytes, registers where a row fits. */
template <typename T>
dpr_status_t run_forward(const dpr_cuda_site_t *site, const forward_args<T> &a)
{
    constexpr int N = dpr_width<T>;
    const dpr_shape_text shape("layernorm_forward", (size_t)a.rows, (size_t)a.columns);
    const size_t columns = (size_t)a.columns;
    const unsigned blocks = row_blocks(a.rows);
    if (columns % N != 0 || !dpr_is_aligned(a.x) || !dpr_is_aligned(a.y) ||
        !dpr_is_aligned(a.gamma) || !dpr_is_aligned(a.beta)) {
        return dpr_cuda_launch(site, shape.text, forward<T, 1, 0>, blocks, row_threads(columns), a);
    }
    const unsigned threads = row_threads(columns / N);
    if (columns > (size_t)threads * N * KEPT) {
        return dpr_cuda_launch(site, shape.text, forward<T, N, 0>, blocks, threads, a);
    }
    return dpr_cuda_launch(site, shape.text, forward<T, N, KEPT>, blocks, threads, a);
}

template <typename T>
dpr_status_t run_backward_input(const dpr_cuda_site_t *site, const backward_args<T> &a)
{
    constexpr int N = dpr_width<T>;
    const dpr_shape_text shape("layernorm_backward_input", (size_t)a.rows, (size_t)a.columns);
    const size_t columns = (size_t)a.columns;
    const unsigned blocks = row_blocks(a.rows);
    if (columns % N != 0 || !dpr_is_aligned(a.dy) || !dpr_is_aligned(a.x) ||
        !dpr_is_aligned(a.gamma) || !dpr_is_aligned(a.residual) || !dpr_is_aligned(a.dx)) {
        return dpr_cuda_launch(site, shape.text, backward_input<T, 1, 0>, blocks,
                               row_threads(columns), a);
    }
    const unsigned threads = row_threads(columns / N);
    if (columns > (size_t)threads * N * KEPT) {
        return dpr_cuda_launch(site, shape.text, backward_input<T, N, 0>, blocks, threads, a);
    }
    return dpr_cuda_launch(site, shape.text, backward_input<T, N, KEPT>, blocks, threads, a);
}

} // namespace

extern "C" dpr_status_t dpr_cuda_layernorm_forward(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                                   int rows, int columns, const void *x,
                                                   const float *gamma, const float *beta, void *y,
                                                   float *mean, float *rstd)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    if (site.dtype == DPR_DTYPE_BF16) {
        return run_forward<bf16>(
            &site, {rows, columns, (const bf16 *)x, gamma, beta, (bf16 *)y, mean, rstd});
    }
    return run_forward<float>(
        &site, {rows, columns, (const float *)x, gamma, beta, (float *)y, mean, rstd});
}

extern "C" dpr_status_t dpr_cuda_layernorm_backward_input(dpr_kernels_t *kernels,
                                                          dpr_stream_t *stream, int rows,
                                                          int columns, const void *dy,
                                                          const void *x, const float *gamma,
                                                          const float *mean, const float *rstd,
                                                          const void *residual, void *dx)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    if (site.dtype == DPR_DTYPE_BF16) {
        return run_backward_input<bf16>(&site,
                                        {rows, columns, (const bf16 *)dy, (const bf16 *)x, gamma,
                                         mean, rstd, (const bf16 *)residual, (bf16 *)dx});
    }
    return run_backward_input<float>(&site,
                                     {rows, columns, (const float *)dy, (const float *)x, gamma,
                                      mean, rstd, (const float *)residual, (float *)dx});
}
