/*
 * Memory: ordinary memory between guard zones, in a table sorted by address.
 *
 *      block ──> [ guard | payload, aligned to 512 bytes | guard ]
 *
 * Fresh payload is poison. Freed payload becomes poison and stays in the table, out of use, until
 * much has been freed or the reset, so a late read sees NaN and a late write is found. Under the
 * address sanitizer, guards and freed payload are forbidden to it as well, so whoever touches them
 * is named on the spot.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes)   ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

enum { GUARD_BYTES = 512, GUARD = 0xA5 };
static const size_t FREED_LIMIT = (size_t)256 << 20;

typedef struct area {
    unsigned char *payload;
    size_t bytes;
    size_t padded; /* up to the guard behind it */
    memory_kind_t kind;
    int device;
    bool freed;
    unsigned long number;
} area_t;

static area_t *areas; /* sorted by payload */
static size_t areas_count;
static size_t areas_capacity;
static size_t freed_bytes;
static unsigned long numbers;
static int alive[MEMORY_PINNED + 1];

/* The first area whose payload is above `pointer`. */
static size_t above(const void *pointer)
{
    size_t low = 0;
    size_t high = areas_count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if ((uintptr_t)areas[middle].payload <= (uintptr_t)pointer) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The area that `pointer` points into, freed ones too. */
static area_t *find(const void *pointer)
{
    const size_t next = above(pointer);
    if (next == 0) {
        return NULL;
    }
    area_t *area = &areas[next - 1];
    return (uintptr_t)pointer - (uintptr_t)area->payload < area->bytes ? area : NULL;
}

memory_kind_t memory_find(const void *pointer, int *device, size_t *left)
{
    const area_t *area = find(pointer);
    if (area == NULL || area->freed) {
        return MEMORY_NONE;
    }
    *device = area->device;
    *left = area->bytes - ((uintptr_t)pointer - (uintptr_t)area->payload);
    return area->kind;
}

static bool all_are(const unsigned char *from, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++) {
        if (from[i] != value) {
            return false;
        }
    }
    return true;
}

static void forbid(area_t *area)
{
    ASAN_POISON_MEMORY_REGION(area->payload - GUARD_BYTES, GUARD_BYTES);
    ASAN_POISON_MEMORY_REGION(area->payload + area->bytes,
                              area->padded - area->bytes + GUARD_BYTES);
}

static void allow(area_t *area)
{
    ASAN_UNPOISON_MEMORY_REGION(area->payload - GUARD_BYTES, area->padded + 2 * GUARD_BYTES);
}

static void check_guards(area_t *area, const char *function)
{
    if (!all_are(area->payload - GUARD_BYTES, GUARD_BYTES, GUARD)) {
        standin_misuse("%s: something wrote before the start of allocation %lu (%zu bytes)",
                       function, area->number, area->bytes);
    }
    if (!all_are(area->payload + area->bytes, area->padded - area->bytes + GUARD_BYTES, GUARD)) {
        standin_misuse("%s: something wrote behind the end of allocation %lu (%zu bytes)", function,
                       area->number, area->bytes);
    }
}

/* Gives a freed area back for good. */
static void release(size_t index)
{
    area_t *area = &areas[index];
    allow(area);
    if (!all_are(area->payload, area->bytes, POISON)) {
        standin_misuse("something wrote into allocation %lu (%zu bytes) after it was freed",
                       area->number, area->bytes);
    }
    freed_bytes -= area->bytes;
    free(area->payload - GUARD_BYTES);
    memmove(area, area + 1, (areas_count - index - 1) * sizeof(*area));
    areas_count--;
}

static void release_freed(void)
{
    for (size_t i = areas_count; i-- > 0;) {
        if (areas[i].freed) {
            release(i);
        }
    }
}

static bool table_grow(void)
{
    if (areas_count < areas_capacity) {
        return true;
    }
    const size_t capacity = areas_capacity > 0 ? 2 * areas_capacity : 256;
    area_t *grown = realloc(areas, capacity * sizeof(*areas));
    if (grown == NULL) {
        return false;
    }
    areas = grown;
    areas_capacity = capacity;
    return true;
}

/* Locked. */
static cudaError_t allocate(memory_kind_t kind, void **pointer, size_t bytes)
{
    const int device = device_current();
    size_t *used = &standin_devices[device].used_bytes;
    if (kind == MEMORY_DEVICE && bytes > device_memory_bytes() - *used) {
        return cudaErrorMemoryAllocation;
    }
    const size_t padded = (bytes + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
    if (padded < bytes || !table_grow()) {
        return cudaErrorMemoryAllocation;
    }
    unsigned char *block = aligned_alloc(GUARD_BYTES, padded + 2 * GUARD_BYTES);
    if (block == NULL) {
        return cudaErrorMemoryAllocation;
    }
    memset(block, GUARD, padded + 2 * GUARD_BYTES);
    memset(block + GUARD_BYTES, POISON, bytes);
    const size_t at = above(block);
    memmove(&areas[at + 1], &areas[at], (areas_count - at) * sizeof(*areas));
    areas_count++;
    areas[at] = (area_t){.payload = block + GUARD_BYTES,
                         .bytes = bytes,
                         .padded = padded,
                         .kind = kind,
                         .device = device,
                         .number = ++numbers};
    forbid(&areas[at]);
    *used += kind == MEMORY_DEVICE ? bytes : 0;
    alive[kind]++;
    *pointer = block + GUARD_BYTES;
    return cudaSuccess;
}

static cudaError_t allocate_entry(memory_kind_t kind, void **pointer, size_t bytes,
                                  const char *function)
{
    if (pointer == NULL) {
        standin_misuse("%s: nowhere to put the pointer", function);
        return standin_return(cudaErrorInvalidValue);
    }
    standin_lock();
    cudaError_t error = capture_check_call(function);
    if (error == cudaSuccess && bytes == 0) {
        *pointer = NULL;
    } else if (error == cudaSuccess) {
        error = allocate(kind, pointer, bytes);
    }
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    ENTER("cudaMalloc");
    return allocate_entry(MEMORY_DEVICE, pointer, bytes, "cudaMalloc");
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    ENTER("cudaMallocHost");
    return allocate_entry(MEMORY_PINNED, pointer, bytes, "cudaMallocHost");
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    ENTER("cudaHostAlloc");
    if (flags > (cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined)) {
        standin_misuse("cudaHostAlloc: flags 0x%x", flags);
        return standin_return(cudaErrorInvalidValue);
    }
    return allocate_entry(MEMORY_PINNED, pointer, bytes, "cudaHostAlloc");
}

/* Locked. */
static cudaError_t free_memory(memory_kind_t kind, void *pointer, const char *function)
{
    area_t *area = find(pointer);
    if (area == NULL || area->payload != pointer || area->kind != kind) {
        standin_misuse("%s: %p was not allocated for this", function, pointer);
        return cudaErrorInvalidValue;
    }
    if (area->freed) {
        standin_misuse("%s: allocation %lu (%zu bytes) was freed before", function, area->number,
                       area->bytes);
        return cudaErrorInvalidValue;
    }
    op_values_in(area->payload, area->bytes);
    allow(area);
    check_guards(area, function);
    memset(area->payload, POISON, area->bytes);
    ASAN_POISON_MEMORY_REGION(area->payload - GUARD_BYTES, area->padded + 2 * GUARD_BYTES);
    area->freed = true;
    alive[kind]--;
    standin_devices[area->device].used_bytes -= kind == MEMORY_DEVICE ? area->bytes : 0;
    freed_bytes += area->bytes;
    if (freed_bytes > FREED_LIMIT) {
        release_freed();
    }
    return cudaSuccess;
}

static cudaError_t free_entry(memory_kind_t kind, void *pointer, const char *function)
{
    const cudaError_t verdict = standin_enter(function);
    cudaError_t error = cudaSuccess;
    standin_lock();
    if (verdict == cudaSuccess) {
        error = capture_check_call(function);
    }
    if (error == cudaSuccess && pointer != NULL) {
        error = free_memory(kind, pointer, function);
    }
    standin_unlock();
    return standin_return(verdict != cudaSuccess ? verdict : error);
}

cudaError_t cudaFree(void *pointer)
{
    return free_entry(MEMORY_DEVICE, pointer, "cudaFree");
}

cudaError_t cudaFreeHost(void *pointer)
{
    return free_entry(MEMORY_PINNED, pointer, "cudaFreeHost");
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    ENTER("cudaMemGetInfo");
    standin_lock();
    *total = device_memory_bytes();
    *free_bytes = device_memory_bytes() - standin_devices[device_current()].used_bytes;
    standin_unlock();
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device_pointer, void *host_pointer, unsigned flags)
{
    int device;
    size_t left;
    ENTER("cudaHostGetDevicePointer");
    standin_lock();
    const memory_kind_t kind = memory_find(host_pointer, &device, &left);
    standin_unlock();
    if (kind != MEMORY_PINNED || flags != 0) {
        standin_misuse("cudaHostGetDevicePointer: %p is not pinned host memory", host_pointer);
        return standin_return(cudaErrorInvalidValue);
    }
    *device_pointer = host_pointer; /* one address space, as on any 64-bit system */
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer)
{
    int device = -1;
    size_t left = 0;
    ENTER("cudaPointerGetAttributes");
    standin_lock();
    const memory_kind_t kind = memory_find(pointer, &device, &left);
    standin_unlock();
    memset(attributes, 0, sizeof(*attributes));
    attributes->type = kind == MEMORY_DEVICE   ? cudaMemoryTypeDevice
                       : kind == MEMORY_PINNED ? cudaMemoryTypeHost
                                               : cudaMemoryTypeUnregistered;
    attributes->device = kind == MEMORY_NONE ? -2 : device; /* cudaInvalidDeviceId */
    attributes->devicePointer = kind == MEMORY_NONE ? NULL : (void *)(uintptr_t)pointer;
    attributes->hostPointer = kind == MEMORY_PINNED ? (void *)(uintptr_t)pointer : NULL;
    return cudaSuccess;
}

static bool check(int device, const void *pointer, size_t bytes, bool pinned, const char *what)
{
    if (bytes == 0) {
        return true;
    }
    device = device >= 0 ? device : device_current();
    standin_lock();
    const area_t *found = find(pointer);
    const area_t area = found != NULL ? *found : (area_t){.kind = MEMORY_NONE};
    standin_unlock();
    if (area.kind == MEMORY_NONE || (area.kind == MEMORY_PINNED && !pinned && !area.freed)) {
        standin_misuse("%s: %p is %s memory, not device %d's", what, pointer,
                       area.kind == MEMORY_NONE ? "no CUDA" : "pinned host", device);
        return false;
    }
    if (area.freed) {
        standin_misuse("%s: allocation %lu (%zu bytes) was freed before its use", what, area.number,
                       area.bytes);
        return false;
    }
    if (area.kind == MEMORY_DEVICE && area.device != device) {
        standin_misuse("%s: allocation %lu is device %d's, not device %d's", what, area.number,
                       area.device, device);
        return false;
    }
    const size_t offset = (uintptr_t)pointer - (uintptr_t)area.payload;
    if (bytes > area.bytes - offset) {
        standin_misuse("%s: bytes %zu to %zu of allocation %lu, which has %zu", what, offset,
                       offset + bytes, area.number, area.bytes);
        return false;
    }
    return true;
}

bool standin_check_device_range(int device, const void *pointer, size_t bytes, const char *what)
{
    return check(device, pointer, bytes, false, what);
}

bool standin_check_range(int device, const void *pointer, size_t bytes, const char *what)
{
    return check(device, pointer, bytes, true, what);
}

int memory_count(memory_kind_t kind)
{
    return alive[kind];
}

void memory_reset(void)
{
    release_freed();
    for (size_t i = 0; i < areas_count; i++) { /* what the test leaked: its guards still hold */
        allow(&areas[i]);
        check_guards(&areas[i], "standin_reset");
        free(areas[i].payload - GUARD_BYTES);
    }
    areas_count = 0;
    alive[MEMORY_DEVICE] = 0;
    alive[MEMORY_PINNED] = 0;
    for (int device = 0; device < MAX_DEVICES; device++) {
        standin_devices[device].used_bytes = 0;
    }
}
