/*
 * What a product is added to where cuBLASLt has no epilogue for a bias: every row begins as the
 * bias, plus the residual's row. As many bytes as adding it afterwards, and, in bf16, one rounding
 * less.
 */
#include "kernels/cuda/vector.cuh"

namespace
{

typedef __nv_bfloat16 bf16;

template <typename T> struct start_args {
    int rows;
    int columns;
    const T *b;
    const T *residual; /* or NULL */
    T *y;
};

template <typename T, int N>
__global__ void __launch_bounds__(DPR_BLOCK) start_rows(const start_args<T> a)
{
    const size_t columns = (size_t)a.columns;
    const size_t at = ((size_t)blockIdx.x * DPR_BLOCK + threadIdx.x) * N;
    if (at >= columns) {
        return;
    }
    const dpr_floats<N> b = dpr_load<N>(a.b + at);
    for (size_t r = blockIdx.y; r < (size_t)a.rows; r += gridDim.y) {
        dpr_floats<N> start = b;
        if (a.residual != nullptr) {
            const dpr_floats<N> residual = dpr_load<N>(a.residual + r * columns + at);
#pragma unroll
            for (int i = 0; i < N; i++) {
                start.at[i] += residual.at[i];
            }
        }
        dpr_store(a.y + r * columns + at, start);
    }
}

template <typename T> dpr_status_t run(const dpr_cuda_site_t *site, const start_args<T> &a)
{
    constexpr int N = dpr_width<T>;
    const dpr_shape_text shape("start_rows", (size_t)a.rows, (size_t)a.columns);
    const size_t columns = (size_t)a.columns;
    const unsigned rows = (unsigned)dpr_smaller((size_t)a.rows, 65535);
    if (columns % N == 0 && dpr_is_aligned(a.b) && dpr_is_aligned(a.residual) &&
        dpr_is_aligned(a.y)) {
        const dim3 blocks((unsigned)dpr_quotient_up(columns / N, DPR_BLOCK), rows, 1);
        return dpr_cuda_launch(site, shape.text, start_rows<T, N>, blocks, DPR_BLOCK, a);
    }
    const dim3 blocks((unsigned)dpr_quotient_up(columns, DPR_BLOCK), rows, 1);
    return dpr_cuda_launch(site, shape.text, start_rows<T, 1>, blocks, DPR_BLOCK, a);
}

} // namespace

extern "C" dpr_status_t dpr_cuda_start_rows(const dpr_cuda_site_t *site, int rows, int columns,
                                            const void *b, const void *residual, void *y)
{
    if (site->dtype == DPR_DTYPE_BF16) {
        return run<bf16>(site, {rows, columns, (const bf16 *)b, (const bf16 *)residual, (bf16 *)y});
    }
    return run<float>(site, {rows, columns, (const float *)b, (const float *)residual, (float *)y});
}
