/*
 * Memory of the CUDA device. CUDA aligns blocks to 256 bytes by itself (cudaMalloc, cudaHostAlloc
 * of whole pages), but does not tell how long a block is: a list remembers.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

static const char *const kind_names[] = {
    [DPR_MEMORY_DEVICE] = "device",
    [DPR_MEMORY_PINNED] = "pinned",
};

static void keep_block(dpr_cuda_device_t *device, dpr_cuda_block_t *block)
{
    pthread_mutex_lock(&device->lock);
    block->next = device->blocks;
    device->blocks = block;
    if (block->kind == DPR_MEMORY_DEVICE) {
        device->memory_now += block->bytes;
        if (device->memory_now > device->memory_peak) {
            device->memory_peak = device->memory_now;
        }
    }
    pthread_mutex_unlock(&device->lock);
}

static dpr_cuda_block_t *drop_block(dpr_cuda_device_t *device, const void *memory)
{
    pthread_mutex_lock(&device->lock);
    dpr_cuda_block_t **link = &device->blocks;
    while (*link != NULL && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    dpr_cuda_block_t *block = *link;
    if (block != NULL) {
        *link = block->next;
        if (block->kind == DPR_MEMORY_DEVICE) {
            device->memory_now -= block->bytes;
        }
    }
    pthread_mutex_unlock(&device->lock);
    return block;
}

static dpr_status_t refuse(dpr_cuda_device_t *device, dpr_memory_kind_t kind, size_t bytes)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    size_t now;
    size_t peak;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    dpr_cuda_memory_usage(&device->base, &now, &peak);
    return dpr_fail(DPR_ERR_MEMORY,
                    "cuda device %d: cannot allocate %zu bytes of %s memory; %zu are in use here, "
                    "%zu of the GPU's %zu are free",
                    device->ordinal, bytes, kind_names[kind], now, free_bytes, total_bytes);
}

dpr_status_t dpr_cuda_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                            void **memory)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    dpr_status_t status;
    dpr_cuda_block_t *block;
    DPR_TRY(dpr_cuda_device_enter(device));
    DPR_TRY(dpr_calloc(1, sizeof *block, &block));
    *block = (dpr_cuda_block_t){.bytes = bytes, .kind = kind};
    const size_t asked = bytes > 0 ? bytes : 1; /* CUDA has no block of no bytes */
    const cudaError_t error = kind == DPR_MEMORY_DEVICE
                                  ? cudaMalloc(&block->memory, asked)
                                  : cudaHostAlloc(&block->memory, asked, cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) {
        status = refuse(self, kind, bytes);
        goto free_block;
    }
    DPR_TRY_GOTO(dpr_cuda_check(error, kind == DPR_MEMORY_DEVICE ? "cudaMalloc" : "cudaHostAlloc"),
                 free_block);
    keep_block(self, block);
    *memory = block->memory;
    return DPR_OK;

free_block:
    free(block);
    return status;
}

void dpr_cuda_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory)
{
    dpr_cuda_block_t *block = drop_block(dpr_cuda_device(device), memory);
    assert(block != NULL && block->kind == kind);
    dpr_cuda_ignore(dpr_cuda_device_enter(device));
    dpr_cuda_ignore(kind == DPR_MEMORY_DEVICE ? DPR_CUDA(cudaFree(memory))
                                              : DPR_CUDA(cudaFreeHost(memory)));
    free(block);
}

void dpr_cuda_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    pthread_mutex_lock(&self->lock);
    *now_bytes = self->memory_now;
    *peak_bytes = self->memory_peak;
    pthread_mutex_unlock(&self->lock);
}
