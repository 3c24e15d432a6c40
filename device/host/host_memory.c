/*
 * Memory of the host device. Every block stands behind a header of its own that keeps its size:
 *
 *     | header, 256 bytes | block, at a multiple of 256 ... |
 *
 * A fresh block is filled with 0xFF bytes, which are NaNs as floats and doubles: whoever reads what
 * nobody wrote gets caught. It costs set-up time only, and maps the pages before the first step.
 */
#include "device/host/host_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { ALIGNMENT_BYTES = 256 };

typedef struct header {
    alignas(ALIGNMENT_BYTES) size_t bytes;
    dpr_memory_kind_t kind;
} header_t;

static const char *const kind_names[] = {
    [DPR_MEMORY_DEVICE] = "device",
    [DPR_MEMORY_PINNED] = "pinned",
};

static void usage_add(dpr_host_device_t *device, size_t bytes)
{
    const size_t now = atomic_fetch_add(&device->memory_now, bytes) + bytes;
    size_t peak = atomic_load(&device->memory_peak);
    while (now > peak && !atomic_compare_exchange_weak(&device->memory_peak, &peak, now)) {
    }
}

dpr_status_t dpr_host_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                            void **memory)
{
    header_t *header = NULL;
    if (bytes <= SIZE_MAX - sizeof *header - ALIGNMENT_BYTES) {
        const size_t rounded = (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        header = aligned_alloc(ALIGNMENT_BYTES, sizeof *header + rounded);
    }
    if (header == NULL) {
        return dpr_fail(DPR_ERR_MEMORY,
                        "host device: cannot allocate %zu bytes of %s memory; %zu are in use",
                        bytes, kind_names[kind], atomic_load(&dpr_host_device(device)->memory_now));
    }
    header->bytes = bytes;
    header->kind = kind;
    memset(header + 1, 0xFF, bytes);
    if (kind == DPR_MEMORY_DEVICE) {
        usage_add(dpr_host_device(device), bytes);
    }
    *memory = header + 1;
    return DPR_OK;
}

void dpr_host_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory)
{
    header_t *header = (header_t *)memory - 1;
    assert(header->kind == kind);
    if (kind == DPR_MEMORY_DEVICE) {
        atomic_fetch_sub(&dpr_host_device(device)->memory_now, header->bytes);
    }
    free(header);
}

void dpr_host_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes)
{
    *now_bytes = atomic_load(&dpr_host_device(device)->memory_now);
    *peak_bytes = atomic_load(&dpr_host_device(device)->memory_peak);
}
