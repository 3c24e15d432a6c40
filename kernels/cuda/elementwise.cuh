/*
 * Kernels in which element i of every array goes with element i of the others.
 *
 *     index:  0 .. head-1 | head .. head + groups*N - 1 | .. count-1
 *               scalar    |   N at a time, 16-byte access  | scalar
 *
 * `F` holds the pointers and has `template <int N> __device__ void apply(size_t at) const`, which
 * works on elements at .. at + N - 1.
 */
#ifndef DPR_KERNELS_CUDA_ELEMENTWISE_CUH
#define DPR_KERNELS_CUDA_ELEMENTWISE_CUH

#include "kernels/cuda/vector.cuh"

template <typename F> struct dpr_elementwise_args {
    size_t count;
    size_t head;
    size_t groups;
    F function;
};

template <int N, typename F>
__global__ void __launch_bounds__(DPR_BLOCK) dpr_elementwise(const dpr_elementwise_args<F> a)
{
    const size_t first = (size_t)blockIdx.x * DPR_BLOCK + threadIdx.x;
    const size_t stride = (size_t)gridDim.x * DPR_BLOCK;
    for (size_t group = first; group < a.groups; group += stride) {
        a.function.template apply<N>(a.head + group * N);
    }
    for (size_t at = first; at < a.head; at += stride) {
        a.function.template apply<1>(at);
    }
    for (size_t at = a.head + a.groups * N + first; at < a.count; at += stride) {
        a.function.template apply<1>(at);
    }
}

/* One array that an elementwise kernel works on. */
struct dpr_operand {
    const void *pointer; /* NULL: there is none */
    size_t element_bytes;
};

/* How many elements come before the first at which every operand has 16 bytes' alignment (or that
 * of N elements, where these are fewer bytes); `count` where there is none. */
inline size_t dpr_elementwise_head(const dpr_operand *operands, int n, int width, size_t count)
{
    for (size_t head = 0; head < (size_t)width && head < count; head++) {
        bool aligned = true;
        for (int i = 0; i < n; i++) {
            const size_t bytes = (size_t)width * operands[i].element_bytes;
            const uintptr_t at = (uintptr_t)operands[i].pointer + head * operands[i].element_bytes;
            const bool here = at % (bytes < 16 ? bytes : 16) == 0;
            aligned = aligned && (here || operands[i].pointer == nullptr);
        }
        if (aligned) {
            return head;
        }
    }
    return count;
}

/* Blocks enough to fill any GPU several times over; each thread goes on from there. */
inline unsigned dpr_elementwise_blocks(size_t work)
{
    const size_t blocks = dpr_quotient_up(work, DPR_BLOCK);
    return (unsigned)(blocks < 1 ? 1 : dpr_smaller(blocks, 16384));
}

template <int N, typename F, int OPERANDS>
dpr_status_t dpr_elementwise_launch(const dpr_cuda_site_t *site, const char *name, size_t count,
                                    const F &function, const dpr_operand (&operands)[OPERANDS])
{
    const size_t head = dpr_elementwise_head(operands, OPERANDS, N, count);
    const size_t groups = (count - head) / N;
    const dpr_elementwise_args<F> args = {count, head, groups, function};
    return dpr_cuda_launch(site, dpr_shape_text(name, 1, count).text, dpr_elementwise<N, F>,
                           dpr_elementwise_blocks(groups > 0 ? groups : count), DPR_BLOCK, args);
}

#endif
