/*
 * CUDA kernels on the CPU: grids, blocks, shared memory, barriers and warp shuffles. This is the
 * side that runs them; emulation.hpp is what a .cu file sees.
 *
 * A launch is one operation of its stream. Its blocks run one after another, in an order that the
 * seed picks, and a block's threads are fibers of one thread: they change only at barriers and
 * shuffles, again in the seed's order, so that a missing barrier shows as a wrong number. Shared
 * memory is full of 0xFF bytes when a block begins.
 *
 * Misuse (standin.h) is: a barrier that some threads of the block do not reach, or reach at another
 * place; a shuffle that lanes named in its mask do not reach together, or by a lane that its mask
 * does not name, or from a lane that it does not name; a launch that no GPU would take.
 *
 * Not emulated: threads of a warp running in step without a barrier (they do not on GPUs since
 * Volta either), several blocks at once, dynamic shared memory, atomics.
 */
#ifndef DPR_TESTS_CUDA_STANDIN_EMULATION_H
#define DPR_TESTS_CUDA_STANDIN_EMULATION_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The running thread's place. */
extern uint3 emulation_thread;
extern uint3 emulation_block;
extern dim3 emulation_block_dim;
extern dim3 emulation_grid_dim;

/* Where in the source a barrier or a shuffle is. */
typedef struct emulation_place {
    const char *file;
    int line;
} emulation_place_t;

void emulation_barrier(emulation_place_t place);

/* Hands `bits` to the other lanes of the warp and returns those of `source`. */
uint64_t emulation_shuffle(emulation_place_t place, unsigned mask, uint64_t bits, unsigned source);

/* The running thread's number in its warp. */
unsigned emulation_lane(void);

/* Calls kernel(argument), whose type only the caller knew. */
typedef void (*emulation_call_fn_t)(void (*kernel)(void), const void *argument);

/* cudaLaunchKernel for a kernel of one argument of `bytes`. */
cudaError_t emulation_launch(void (*kernel)(void), emulation_call_fn_t call, dim3 grid, dim3 block,
                             const void *argument, size_t bytes, size_t shared_bytes,
                             cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
