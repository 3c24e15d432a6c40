/*
 * What a .cu file sees when it is compiled as C++ for the CPU: included before everything else
 * (-include), it gives CUDA's words their meaning in the emulation (emulation.h). Shared
 * variables go into a section of their own, to be poisoned; they must be in functions of internal
 * linkage that are no templates, where compilers ignore the section.
 */
#ifndef DPR_TESTS_CUDA_STANDIN_EMULATION_HPP
#define DPR_TESTS_CUDA_STANDIN_EMULATION_HPP

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "emulation.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __shared__ static __attribute__((section("dpr_emulation_shared")))
#define __launch_bounds__(...)

#define threadIdx emulation_thread
#define blockIdx  emulation_block
#define blockDim  emulation_block_dim
#define gridDim   emulation_grid_dim

#define EMULATION_HERE (emulation_place_t{__FILE__, __LINE__})

#define __syncthreads()      emulation_barrier(EMULATION_HERE)
#define __shfl_xor_sync(...) emulation_shfl_xor(EMULATION_HERE, __VA_ARGS__)

template <typename T>
T emulation_exchange(emulation_place_t place, unsigned mask, T value, unsigned source)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = emulation_shuffle(place, mask, bits, source);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T>
T emulation_shfl_xor(emulation_place_t place, unsigned mask, T value, int lanes)
{
    return emulation_exchange(place, mask, value, emulation_lane() ^ (unsigned)lanes);
}

template <typename A> void emulation_call(void (*kernel)(void), const void *argument)
{
    reinterpret_cast<void (*)(A)>(kernel)(*static_cast<const A *>(argument));
}

/* In the place of the template that cuda_runtime.h has for nvcc. */
template <typename A>
cudaError_t cudaLaunchKernel(void (*kernel)(A), dim3 grid, dim3 block, void **arguments,
                             size_t shared_bytes, cudaStream_t stream)
{
    static_assert(alignof(A) <= 16, "arguments are copied to multiples of 16 bytes");
    return emulation_launch(reinterpret_cast<void (*)(void)>(kernel), emulation_call<A>, grid,
                            block, arguments[0], sizeof(A), shared_bytes, stream);
}

#endif
