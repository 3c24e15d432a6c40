/*
 * Launching: the one way from a launcher to its kernel. A kernel takes one struct by value, and
 * nothing here is special to nvcc, so that the same source also compiles as C++ for the CPU.
 */
#ifndef DPR_KERNELS_CUDA_LAUNCH_CUH
#define DPR_KERNELS_CUDA_LAUNCH_CUH

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

/* In C a struct and a function may have one name; C++ only warns that one hides the other. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "base/log.h"
#include "kernels/cuda/cuda_kernels.h"
}
#pragma GCC diagnostic pop

enum { DPR_WARP = 32, DPR_BLOCK = 256 };

/* `shape` is for the message: what the kernel was to work on. */
template <typename A>
dpr_status_t dpr_cuda_launch(const dpr_cuda_site_t *site, const char *shape, void (*kernel)(A),
                             dim3 blocks, dim3 threads, A arguments)
{
    void *pointers[] = {&arguments};
    const cudaError_t error = cudaLaunchKernel(kernel, blocks, threads, pointers, 0, site->stream);
    return error == cudaSuccess ? DPR_OK : dpr_cuda_kernels_fail(error, "cudaLaunchKernel", shape);
}

/* "<kernel> [rows][columns]" for messages. */
struct dpr_shape_text {
    char text[80];

    dpr_shape_text(const char *kernel, size_t rows, size_t columns)
    {
        snprintf(text, sizeof text, "%s [%zu][%zu]", kernel, rows, columns);
    }
};

inline size_t dpr_quotient_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

inline size_t dpr_smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether 16-byte loads of this address are possible. */
inline bool dpr_is_aligned(const void *pointer)
{
    return (uintptr_t)pointer % 16 == 0;
}

#endif
