/*
 * Reductions over a block, in an order that depends on its number of threads only. What is reduced
 * is a struct with an exchange between lanes, a combination and a room in shared memory.
 */
#ifndef DPR_KERNELS_CUDA_REDUCE_CUH
#define DPR_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/launch.cuh"

struct dpr_pair {
    double first;
    double second;
};

/* The pair that the lane `offset` away holds. */
__device__ inline dpr_pair dpr_exchange(const dpr_pair &mine, int offset)
{
    return {__shfl_xor_sync(0xffffffffU, mine.first, offset),
            __shfl_xor_sync(0xffffffffU, mine.second, offset)};
}

__device__ inline dpr_pair dpr_combine(const dpr_pair &a, const dpr_pair &b)
{
    return {a.first + b.first, a.second + b.second};
}

/* The largest value of a row and the first place where it is; place < 0: one was no number. */
struct dpr_peak {
    float value;
    int place;
};

__device__ inline dpr_peak dpr_exchange(const dpr_peak &mine, int offset)
{
    return {__shfl_xor_sync(0xffffffffU, mine.value, offset),
            __shfl_xor_sync(0xffffffffU, mine.place, offset)};
}

__device__ inline dpr_peak dpr_combine(const dpr_peak &a, const dpr_peak &b)
{
    if (a.place < 0 || b.place < 0) {
        return a.place < 0 ? a : b;
    }
    if (a.value == b.value) {
        return a.place < b.place ? a : b;
    }
    return a.value > b.value ? a : b;
}

enum { DPR_MAX_WARPS = 32 };

namespace
{

/* Shared memory for one value a warp. Shared variables are not in templates, so that the emulation
 * on the CPU knows all of them (tests/cuda_standin/emulation.hpp). */
__device__ inline dpr_pair *dpr_room(const dpr_pair *)
{
    __shared__ dpr_pair room[DPR_MAX_WARPS];
    return room;
}

__device__ inline dpr_peak *dpr_room(const dpr_peak *)
{
    __shared__ dpr_peak room[DPR_MAX_WARPS];
    return room;
}

/*
 * Every thread's `mine` combined; every thread gets the result. The block has one dimension, a
 * multiple of 32 and at most 1024 threads, all of which take part.
 */
template <typename R> __device__ inline R dpr_block_reduce(R mine)
{
    for (int offset = DPR_WARP / 2; offset > 0; offset /= 2) {
        mine = dpr_combine(mine, dpr_exchange(mine, offset));
    }
    const unsigned warps = blockDim.x / DPR_WARP;
    if (warps == 1) {
        return mine;
    }
    R *room = dpr_room(&mine);
    __syncthreads(); /* the last use of the room is over */
    if (threadIdx.x % DPR_WARP == 0) {
        room[threadIdx.x / DPR_WARP] = mine;
    }
    __syncthreads();
    R all = room[0];
    for (unsigned warp = 1; warp < warps; warp++) {
        all = dpr_combine(all, room[warp]);
    }
    return all;
}

} // namespace

#endif
