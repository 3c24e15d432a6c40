/*
 * Sums along columns: a bias' gradient, and layernorm's parameters' gradients. Two passes, so that
 * the order depends on the shape only and no atomics are needed:
 *
 *     rows        columns ->
 *      |   +--------+--------+--      a block sums one chunk of rows of one tile of columns,
 *      v   | block  | block  |        8 rows at a time, its warps' sums then in shared memory
 *     chunk+--------+--------+--
 *          | block  |        |   ->   partial sums [chunk][column] in the lane's scratch,
 *          +--------+--------+--      which a second kernel adds to the destination, in order
 *
 * Where one chunk is enough, the first pass adds to the destination itself.
 */
#include "kernels/cuda/vector.cuh"

namespace
{

typedef __nv_bfloat16 bf16;

enum { ROW_GROUPS = DPR_BLOCK / DPR_WARP, CHUNK_ROWS = 64, MOST_CHUNKS = 128 };

template <typename T> struct columns_args {
    int rows;
    int columns;
    int chunk_rows;
    const T *dy;
    const T *x; /* of the normalisation, or NULL where only dy is summed */
    const float *mean;
    const float *rstd;
    float *weighted; /* sums of dy times the normalised x, [chunk][columns]; NULL where x is */
    float *plain;    /* sums of dy */
};

/* For each group of rows a tile of the widest columns; not in a template (reduce.cuh). */
enum { TILE = DPR_WARP * dpr_width<bf16> };

__device__ inline float (*plain_room())[TILE]
{
    __shared__ float room[ROW_GROUPS][TILE];
    return room;
}

__device__ inline float (*weighted_room())[TILE]
{
    __shared__ float room[ROW_GROUPS][TILE];
    return room;
}

template <int N> struct sums {
    float weighted[N];
    float plain[N];
};

template <typename T, int N, bool WEIGHTED>
__device__ inline sums<N> sum_rows(const columns_args<T> &a, size_t first, size_t end, size_t at)
{
    sums<N> s = {};
    for (size_t r = first; r < end; r += ROW_GROUPS) {
        const dpr_floats<N> dy = dpr_load<N>(a.dy + r * (size_t)a.columns + at);
        dpr_floats<N> x = {};
        float mean = 0.0F;
        float rstd = 0.0F;
        if constexpr (WEIGHTED) {
            x = dpr_load<N>(a.x + r * (size_t)a.columns + at);
            mean = a.mean[r];
            rstd = a.rstd[r];
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            s.plain[i] += dy.at[i];
            if constexpr (WEIGHTED) {
                s.weighted[i] += dy.at[i] * ((x.at[i] - mean) * rstd);
            }
        }
    }
    return s;
}

/* Adds the groups' sums up in their order and puts column `c` of the tile where it goes. */
template <int N>
__device__ inline void store_tile(const float (*room)[TILE], size_t first, size_t columns,
                                  bool accumulate, float *to)
{
    for (size_t c = threadIdx.x; c < DPR_WARP * N && first + c < columns; c += DPR_BLOCK) {
        float sum = accumulate ? to[first + c] : 0.0F;
        float groups = 0.0F;
        for (int g = 0; g < ROW_GROUPS; g++) {
            groups += room[g][c];
        }
        sum += groups;
        to[first + c] = sum;
    }
}

template <typename T, int N, bool WEIGHTED>
__global__ void __launch_bounds__(DPR_BLOCK) column_chunks(const columns_args<T> a)
{
    float(*plain)[TILE] = plain_room();
    const unsigned lane = threadIdx.x % DPR_WARP;
    const unsigned group = threadIdx.x / DPR_WARP;
    const size_t columns = (size_t)a.columns;
    const size_t tile = (size_t)blockIdx.x * DPR_WARP * N;
    const size_t at = tile + lane * N;
    const size_t first = (size_t)blockIdx.y * (size_t)a.chunk_rows;
    const size_t beyond = first + (size_t)a.chunk_rows;
    const size_t end = beyond < (size_t)a.rows ? beyond : (size_t)a.rows;
    sums<N> s = {};
    if (at < columns) {
        s = sum_rows<T, N, WEIGHTED>(a, first + group, end, at);
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        plain[group][lane * N + i] = s.plain[i];
        if constexpr (WEIGHTED) {
            weighted_room()[group][lane * N + i] = s.weighted[i];
        }
    }
    __syncthreads();
    const bool alone = gridDim.y == 1;
    const size_t chunk = alone ? 0 : (size_t)blockIdx.y * columns;
    store_tile<N>(plain, tile, columns, alone, a.plain + chunk);
    if constexpr (WEIGHTED) {
        store_tile<N>(weighted_room(), tile, columns, alone, a.weighted + chunk);
    }
}

struct chunks_args {
    int chunks;
    int columns;
    const float *partial; /* [chunks][columns], after it the same for the second destination */
    float *to[2];         /* the second may be NULL */
};

__global__ void __launch_bounds__(DPR_BLOCK) add_chunks(const chunks_args a)
{
    const size_t c = (size_t)blockIdx.x * DPR_BLOCK + threadIdx.x;
    const size_t columns = (size_t)a.columns;
    if (c >= columns) {
        return;
    }
    for (int d = 0; d < 2 && a.to[d] != nullptr; d++) {
        const float *partial = a.partial + (size_t)d * (size_t)a.chunks * columns;
        float sum = 0.0F;
        for (int chunk = 0; chunk < a.chunks; chunk++) {
            sum += partial[(size_t)chunk * columns + c];
        }
        a.to[d][c] += sum;
    }
}

/* As many chunks as the scratch has room for, none shorter than CHUNK_ROWS. */
inline size_t chunks_for(size_t rows, size_t columns, size_t destinations)
{
    const size_t room = DPR_CUDA_SCRATCH_BYTES / (columns * sizeof(float) * destinations);
    const size_t chunks =
        dpr_smaller(dpr_smaller(dpr_quotient_up(rows, CHUNK_ROWS), MOST_CHUNKS), room);
    return chunks < 1 ? 1 : chunks;
}

template <typename T, int N>
dpr_status_t run_chunks(const dpr_cuda_site_t *site, const char *shape, columns_args<T> a,
                        size_t chunks)
{
    const size_t tiles = dpr_quotient_up((size_t)a.columns, (size_t)DPR_WARP * N);
    const dim3 blocks((unsigned)tiles, (unsigned)chunks, 1);
    return a.x != nullptr
               ? dpr_cuda_launch(site, shape, column_chunks<T, N, true>, blocks, DPR_BLOCK, a)
               : dpr_cuda_launch(site, shape, column_chunks<T, N, false>, blocks, DPR_BLOCK, a);
}

template <typename T>
dpr_status_t run(const dpr_cuda_site_t *site, const char *name, columns_args<T> a)
{
    const dpr_shape_text shape(name, (size_t)a.rows, (size_t)a.columns);
    const size_t rows = (size_t)a.rows;
    const size_t columns = (size_t)a.columns;
    const size_t wanted = chunks_for(rows, columns, a.x != nullptr ? 2 : 1);
    a.chunk_rows = (int)dpr_quotient_up(rows, wanted);
    const size_t chunks = dpr_quotient_up(rows, (size_t)a.chunk_rows);
    const chunks_args add = {
        (int)chunks, a.columns, (const float *)site->lane->scratch, {a.plain, a.weighted}};
    if (chunks > 1) {
        a.plain = (float *)site->lane->scratch;
        a.weighted = a.x != nullptr ? a.plain + chunks * columns : nullptr;
    }
    const bool vectors = columns % dpr_width<T> == 0 && dpr_is_aligned(a.dy) && dpr_is_aligned(a.x);
    DPR_TRY((vectors ? run_chunks<T, dpr_width<T>>(site, shape.text, a, chunks)
                     : run_chunks<T, 1>(site, shape.text, a, chunks)));
    if (chunks == 1) {
        return DPR_OK;
    }
    return dpr_cuda_launch(site, shape.text, add_chunks,
                           (unsigned)dpr_quotient_up(columns, DPR_BLOCK), DPR_BLOCK, add);
}

} // namespace

extern "C" dpr_status_t
dpr_cuda_layernorm_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                   int columns, const void *dy, const void *x, const float *mean,
                                   const float *rstd, float *dgamma, float *dbeta)
{
    static const char name[] = "layernorm_backward_weight";
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    if (site.dtype == DPR_DTYPE_BF16) {
        return run<bf16>(
            &site, name,
            {rows, columns, 0, (const bf16 *)dy, (const bf16 *)x, mean, rstd, dgamma, dbeta});
    }
    return run<float>(
        &site, name,
        {rows, columns, 0, (const float *)dy, (const float *)x, mean, rstd, dgamma, dbeta});
}

extern "C" dpr_status_t dpr_cuda_column_sums(const dpr_cuda_site_t *site, int rows, int columns,
                                             const void *dy, float *to)
{
    static const char name[] = "column_sums";
    if (site->dtype == DPR_DTYPE_BF16) {
        return run<bf16>(
            site, name,
            {rows, columns, 0, (const bf16 *)dy, nullptr, nullptr, nullptr, nullptr, to});
    }
    return run<float>(
        site, name, {rows, columns, 0, (const float *)dy, nullptr, nullptr, nullptr, nullptr, to});
}
