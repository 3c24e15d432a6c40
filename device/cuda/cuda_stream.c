/*
 * Streams of the CUDA device: a CUDA stream each, that does not wait for the default stream, with a
 * status of its own beside CUDA's (cuda_device.c, Errors).
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

cudaStream_t dpr_cuda_stream_handle(dpr_stream_t *stream)
{
    dpr_cuda_ignore(dpr_cuda_device_enter(stream->device)); /* the operation then fails as well */
    dpr_cuda_stream(stream)->enqueued++;
    return dpr_cuda_stream(stream)->handle;
}

bool dpr_cuda_stream_ok(const dpr_stream_t *stream)
{
    return atomic_load_explicit(&dpr_cuda_stream(stream)->error, memory_order_relaxed) == DPR_OK;
}

uint64_t dpr_cuda_stream_number(const dpr_stream_t *stream)
{
    return dpr_cuda_stream(stream)->number;
}

void dpr_cuda_stream_fail(dpr_cuda_stream_t *stream, dpr_status_t status)
{
    int none = DPR_OK;
    (void)atomic_compare_exchange_strong(&stream->error, &none, (int)status);
}

void dpr_cuda_device_fail_stream(dpr_device_t *device, uint64_t number, dpr_status_t status)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    dpr_cuda_ignore(dpr_cuda_device_enter(device));
    pthread_mutex_lock(&self->lock);
    for (dpr_cuda_stream_t *stream = self->streams; stream != NULL; stream = stream->next) {
        if (stream->number == number && cudaStreamQuery(stream->handle) == cudaErrorNotReady) {
            dpr_cuda_stream_fail(stream, status);
        }
    }
    (void)cudaGetLastError(); /* "not ready" is no error */
    pthread_mutex_unlock(&self->lock);
}

/*
 * Streams that share one of the device's work queues wait for each other although nothing orders
 * them (CUDA Programming Guide, environment variables: 8 queues unless told otherwise). Streams
 * that a library has of its own (NCCL, for each communicator) are not known here.
 */
static void warn_of_queues(dpr_cuda_device_t *device)
{
    const char *text = getenv("CUDA_DEVICE_MAX_CONNECTIONS");
    const long queues = text != NULL ? strtol(text, NULL, 10) : 8;
    if (device->stream_count > queues && !device->queues_warned) {
        device->queues_warned = true;
        dpr_log(DPR_LOG_WARNING,
                "cuda device %d: more streams than its %ld work queues, those of libraries not "
                "counted, so transfers may wait for unrelated work; set "
                "CUDA_DEVICE_MAX_CONNECTIONS=32",
                device->ordinal, queues);
    }
}

static void enter_list(dpr_cuda_device_t *device, dpr_cuda_stream_t *stream)
{
    pthread_mutex_lock(&device->lock);
    stream->number = ++device->stream_number;
    stream->next = device->streams;
    device->streams = stream;
    device->stream_count++;
    warn_of_queues(device);
    pthread_mutex_unlock(&device->lock);
}

static void leave_list(dpr_cuda_device_t *device, const dpr_cuda_stream_t *stream)
{
    pthread_mutex_lock(&device->lock);
    dpr_cuda_stream_t **link = &device->streams;
    while (*link != stream) {
        link = &(*link)->next;
    }
    *link = stream->next;
    device->stream_count--;
    pthread_mutex_unlock(&device->lock);
}

/* Ours counts up from 0, CUDA's down from the least: 0 becomes that, and the rest as far as CUDA
 * goes. */
static dpr_status_t map_priority(int priority, int *mapped)
{
    int least;
    int greatest;
    DPR_TRY(DPR_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest)));
    const int levels = least - greatest;
    *mapped = priority <= 0 ? least : least - (priority < levels ? priority : levels);
    return DPR_OK;
}

static dpr_status_t open_stream(dpr_cuda_stream_t *stream, int priority)
{
    dpr_status_t status;
    int mapped;
    DPR_TRY(dpr_cuda_device_enter(stream->base.device));
    DPR_TRY(map_priority(priority, &mapped));
    DPR_TRY(DPR_CUDA(cudaStreamCreateWithPriority(&stream->handle, cudaStreamNonBlocking, mapped)));
    DPR_TRY_GOTO(dpr_cuda_host_ops_open(stream), destroy_handle);
    return DPR_OK;

destroy_handle:
    dpr_cuda_ignore(DPR_CUDA(cudaStreamDestroy(stream->handle)));
    return status;
}

dpr_status_t dpr_cuda_stream_create(dpr_device_t *device, const char *name, int priority,
                                    dpr_stream_t **stream)
{
    dpr_status_t status;
    dpr_cuda_stream_t *created;
    if (strlen(name) >= DPR_CUDA_NAME_BYTES) {
        return dpr_fail(DPR_ERR_INVALID, "stream name \"%s\" is longer than %d characters", name,
                        DPR_CUDA_NAME_BYTES - 1);
    }
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base.device = device;
    strcpy(created->name, name);
    DPR_TRY_GOTO(open_stream(created, priority), free_stream);
    enter_list(dpr_cuda_device(device), created);
    *stream = &created->base;
    return DPR_OK;

free_stream:
    free(created);
    return status;
}

void dpr_cuda_stream_destroy(dpr_stream_t *stream)
{
    dpr_cuda_stream_t *self = dpr_cuda_stream(stream);
    dpr_cuda_ignore(dpr_cuda_device_enter(stream->device));
    (void)cudaStreamSynchronize(self->handle);
    (void)cudaGetLastError(); /* who wanted to know has synchronized */
    leave_list(dpr_cuda_device(stream->device), self);
    dpr_cuda_host_ops_close(self);
    dpr_cuda_ignore(DPR_CUDA(cudaStreamDestroy(self->handle)));
    free(self);
}

dpr_status_t dpr_cuda_stream_synchronize(dpr_stream_t *stream)
{
    dpr_cuda_stream_t *self = dpr_cuda_stream(stream);
    DPR_TRY(dpr_cuda_device_enter(stream->device));
    const cudaError_t error = cudaStreamSynchronize(self->handle);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        dpr_cuda_stream_fail(self,
                             dpr_fail(DPR_ERR_DEVICE, "cuda device %d: stream %s failed: %s (%s)",
                                      dpr_cuda_device_ordinal(stream->device), self->name,
                                      cudaGetErrorString(error), cudaGetErrorName(error)));
    } else {
        dpr_cuda_ignore(dpr_cuda_clock_keep(dpr_cuda_device(stream->device)));
    }
    return (dpr_status_t)atomic_load(&self->error);
}

dpr_status_t dpr_cuda_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes)
{
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (bytes == 0 || !dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    return dpr_cuda_recorded(dpr_cuda_stream(stream),
                             DPR_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, handle)));
}

dpr_status_t dpr_cuda_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes)
{
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (bytes == 0 || !dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    return dpr_cuda_recorded(dpr_cuda_stream(stream),
                             DPR_CUDA(cudaMemsetAsync(memory, byte, bytes, handle)));
}

/* A cost is of the model clock, and this device has the wall clock. */
dpr_status_t dpr_cuda_stream_charge(dpr_stream_t *stream, double cost_sec)
{
    (void)cost_sec;
    dpr_cuda_stream(stream)->enqueued++;
    return DPR_OK;
}

uint64_t dpr_cuda_stream_enqueued(const dpr_stream_t *stream)
{
    return dpr_cuda_stream(stream)->enqueued;
}
