/*
 * Copies and fills. Ranges are checked when they are enqueued and again when they run, since memory
 * may have been freed in between. What CUDA leaves open about pageable host memory is picked by the
 * seed: a source is read during the call or when the copy runs, and a destination is written before
 * the call returns or later.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { PAGEABLE = -1 };

typedef struct copy {
    void *to;
    const void *from; /* NULL: the bytes follow */
    size_t bytes;
    int to_device; /* whose memory it was at the call, or PAGEABLE */
    int from_device;
    const char *what;
} copy_t;

typedef struct fill {
    void *to;
    size_t bytes;
    int value;
    const char *what;
} fill_t;

static memory_kind_t kind_of(const void *pointer, int *device)
{
    size_t left;
    standin_lock();
    const memory_kind_t kind = memory_find(pointer, device, &left);
    standin_unlock();
    return kind;
}

/* Whether the range lies in one piece of memory of the device (or is the host's own). */
static bool check_side(const void *pointer, size_t bytes, int device, const char *what)
{
    return device == PAGEABLE || standin_check_range(device, pointer, bytes, what);
}

static void run_copy(void *argument)
{
    const copy_t *copy = argument;
    const void *from = copy->from != NULL ? copy->from : (const void *)(copy + 1);
    const int from_device = copy->from != NULL ? copy->from_device : PAGEABLE;
    if (check_side(copy->to, copy->bytes, copy->to_device, copy->what) &&
        check_side(from, copy->bytes, from_device, copy->what)) {
        memcpy(copy->to, from, copy->bytes);
    }
}

/* The direction must be what the pointers are. */
static bool check_direction(memory_kind_t to, memory_kind_t from, enum cudaMemcpyKind kind)
{
    switch (kind) {
    case cudaMemcpyHostToHost:
        return to != MEMORY_DEVICE && from != MEMORY_DEVICE;
    case cudaMemcpyHostToDevice:
        return to == MEMORY_DEVICE && from != MEMORY_DEVICE;
    case cudaMemcpyDeviceToHost:
        return to != MEMORY_DEVICE && from == MEMORY_DEVICE;
    case cudaMemcpyDeviceToDevice:
        return to == MEMORY_DEVICE && from == MEMORY_DEVICE;
    default:
        return kind == cudaMemcpyDefault;
    }
}

/* Fills in whose memory it is. */
static cudaError_t check_copy(copy_t *copy, enum cudaMemcpyKind kind)
{
    copy->to_device = PAGEABLE;
    copy->from_device = PAGEABLE;
    const memory_kind_t to_kind = kind_of(copy->to, &copy->to_device);
    const memory_kind_t from_kind = kind_of(copy->from, &copy->from_device);
    if (!check_direction(to_kind, from_kind, kind)) {
        standin_misuse("%s: the pointers (%p, from %p) are not of direction %d", copy->what,
                       copy->to, copy->from, (int)kind);
        return cudaErrorInvalidMemcpyDirection;
    }
    const uintptr_t a = (uintptr_t)copy->to;
    const uintptr_t b = (uintptr_t)copy->from;
    if (a < b + copy->bytes && b < a + copy->bytes) {
        standin_misuse("%s: the ranges overlap", copy->what);
        return cudaErrorInvalidValue;
    }
    return check_side(copy->to, copy->bytes, copy->to_device, copy->what) &&
                   check_side(copy->from, copy->bytes, copy->from_device, copy->what)
               ? cudaSuccess
               : cudaErrorInvalidValue;
}

/* The operation's argument with the bytes behind it, read now. */
static void *stage(const copy_t *copy)
{
    unsigned char *staged = aligned_alloc(16, (sizeof(*copy) + copy->bytes + 15) / 16 * 16);
    if (staged != NULL) {
        copy_t header = *copy;
        header.from = NULL;
        memcpy(staged, &header, sizeof(header));
        memcpy(staged + sizeof(header), copy->from, copy->bytes);
    }
    return staged;
}

/* `staged` (NULL: the source is read when the copy runs) is taken over. */
static cudaError_t enqueue_copy(cudaStream_t handle, const copy_t *copy, void *staged)
{
    struct CUstream_st *stream;
    standin_lock();
    cudaError_t error = stream_get_for_work(handle, copy->what, &stream);
    op_t *op = error == cudaSuccess ? op_create(OP_RUN, copy->what, stream) : NULL;
    if (op == NULL) {
        error = error == cudaSuccess ? cudaErrorMemoryAllocation : error;
        free(staged);
    } else {
        op->run = run_copy;
        op->large = staged;
        op->bytes = sizeof(*copy) + copy->bytes; /* of a staged one */
        if (staged == NULL) {
            op_set_argument(op, copy, sizeof(*copy));
        }
        error = op_enqueue(op);
    }
    standin_unlock();
    return error;
}

static cudaError_t settle(cudaStream_t handle, const char *function)
{
    struct CUstream_st *stream;
    standin_lock();
    cudaError_t error = stream_get(handle, function, &stream);
    if (error == cudaSuccess && stream->capture == NULL) {
        error = stream_settle(stream);
    }
    standin_unlock();
    return error;
}

static uint64_t choose(uint64_t below)
{
    standin_lock();
    const uint64_t choice = scheduler_random(below);
    standin_unlock();
    return choice;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    copy_t copy = {.to = to, .from = from, .bytes = bytes, .what = "cudaMemcpyAsync"};
    ENTER(copy.what);
    if (bytes == 0) {
        return cudaSuccess;
    }
    cudaError_t error = check_copy(&copy, kind);
    if (error != cudaSuccess) {
        return standin_return(error);
    }
    const bool pageable_from = copy.from_device == PAGEABLE;
    const bool pageable_to = copy.to_device == PAGEABLE;
    const uint64_t choice = choose(3); /* without a seed, as most drivers do */
    void *staged = NULL;
    if (pageable_from && choice == 0) {
        staged = stage(&copy);
        if (staged == NULL) {
            return standin_return(cudaErrorMemoryAllocation);
        }
    }
    error = enqueue_copy(stream, &copy, staged);
    if (error == cudaSuccess && ((pageable_to && choice == 0) || (pageable_from && choice == 1))) {
        error = settle(stream, copy.what);
    }
    return standin_return(error);
}

static cudaError_t check_call(const char *function)
{
    standin_lock();
    const cudaError_t error = capture_check_call(function);
    standin_unlock();
    return error;
}

/* The synchronous calls go through the default stream. CUDA waits for a copy that touches the host,
 * and need not for one within the device, nor for a fill. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    copy_t copy = {.to = to, .from = from, .bytes = bytes, .what = "cudaMemcpy"};
    int device;
    ENTER(copy.what);
    if (bytes == 0) {
        return cudaSuccess;
    }
    cudaError_t error = check_call(copy.what);
    if (error == cudaSuccess) {
        error = check_copy(&copy, kind);
    }
    if (error == cudaSuccess) {
        error = enqueue_copy(NULL, &copy, NULL);
    }
    const bool on_device =
        kind_of(from, &device) == MEMORY_DEVICE && kind_of(to, &device) == MEMORY_DEVICE;
    if (error == cudaSuccess && (!on_device || choose(2) == 0)) {
        error = settle(NULL, copy.what);
    }
    return standin_return(error);
}

static void run_fill(void *argument)
{
    const fill_t *fill = argument;
    if (standin_check_range(-1, fill->to, fill->bytes, fill->what)) {
        memset(fill->to, fill->value, fill->bytes);
    }
}

static cudaError_t enqueue_fill(cudaStream_t stream, const fill_t *fill)
{
    if (!standin_check_range(-1, fill->to, fill->bytes, fill->what)) {
        return cudaErrorInvalidValue;
    }
    return standin_enqueue(stream, fill->what, run_fill, fill, sizeof(*fill));
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const fill_t fill = {.to = to, .bytes = bytes, .value = value, .what = "cudaMemsetAsync"};
    ENTER(fill.what);
    return bytes == 0 ? cudaSuccess : standin_return(enqueue_fill(stream, &fill));
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    const fill_t fill = {.to = to, .bytes = bytes, .value = value, .what = "cudaMemset"};
    ENTER(fill.what);
    cudaError_t error = check_call(fill.what);
    if (error == cudaSuccess && bytes > 0) {
        error = enqueue_fill(NULL, &fill);
    }
    if (error == cudaSuccess && bytes > 0 && choose(2) == 0) {
        error = settle(NULL, fill.what);
    }
    return standin_return(error);
}
