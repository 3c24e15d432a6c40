/* Streams: creation, priorities, the default stream's rules, synchronisation, host functions. */
#include "internal.h"

enum { PRIORITY_LEAST = 0, PRIORITY_GREATEST = -5 };

static struct CUstream_st *stream_create(int device, unsigned flags, int priority)
{
    struct CUstream_st *stream = object_create(OBJECT_STREAM, sizeof(*stream));
    if (stream != NULL) {
        stream->device = device;
        stream->flags = flags;
        stream->priority = priority;
    }
    return stream;
}

static bool is_default(const struct CUstream_st *stream)
{
    return stream == standin_devices[stream->device].default_stream;
}

static bool blocks_with_default(const struct CUstream_st *stream)
{
    return (stream->flags & cudaStreamNonBlocking) == 0;
}

/* The default stream, made when it is first used; it belongs to no test, so it is no leak. */
static struct CUstream_st *default_stream(int device)
{
    struct CUstream_st **stream = &standin_devices[device].default_stream;
    if (*stream == NULL) {
        *stream = stream_create(device, cudaStreamDefault, PRIORITY_LEAST);
        if (*stream != NULL) {
            object_bury(&(*stream)->object);
        }
    }
    return *stream;
}

static bool capturing_with_default(int device)
{
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        const struct CUstream_st *stream = (const void *)object;
        if (object->kind == OBJECT_STREAM && stream->device == device && stream->capture != NULL &&
            blocks_with_default(stream)) {
            return true;
        }
    }
    return false;
}

cudaError_t stream_get(cudaStream_t handle, const char *function, struct CUstream_st **stream)
{
    if (handle == NULL || handle == cudaStreamLegacy) {
        const int device = device_current();
        if (capturing_with_default(device)) {
            standin_misuse("%s: the default stream, while a stream that blocks with it captures",
                           function);
            return cudaErrorStreamCaptureImplicit;
        }
        *stream = default_stream(device);
        return *stream != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
    }
    *stream = object_find(handle, OBJECT_STREAM, function);
    return *stream != NULL ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

/* `after` goes on only when what is in `before` now is complete. */
static cudaError_t order(struct CUstream_st *after, struct CUstream_st *before)
{
    if (before->head == NULL) {
        return cudaSuccess;
    }
    op_t *mark = op_create(OP_RECORD, "the default stream's order", before);
    op_t *wait = op_create(OP_WAIT, "the default stream's order", after);
    record_t *record = record_create();
    if (mark == NULL || wait == NULL || record == NULL) {
        return cudaErrorMemoryAllocation;
    }
    record->stream = before;
    mark->record = record;
    wait->record = record_hold(record);
    op_enqueue(mark);
    return op_enqueue(wait);
}

static cudaError_t order_with_default(struct CUstream_st *stream)
{
    struct CUstream_st *legacy = standin_devices[stream->device].default_stream;
    if (legacy == NULL || !blocks_with_default(stream) || stream->capture != NULL) {
        return cudaSuccess;
    }
    if (!is_default(stream)) {
        return order(stream, legacy);
    }
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        struct CUstream_st *other = (void *)object;
        if (object->kind == OBJECT_STREAM && other != stream && other->device == stream->device &&
            blocks_with_default(other) && other->capture == NULL) {
            const cudaError_t error = order(stream, other);
            if (error != cudaSuccess) {
                return error;
            }
        }
    }
    return cudaSuccess;
}

cudaError_t stream_get_for_work(cudaStream_t handle, const char *function,
                                struct CUstream_st **stream)
{
    cudaError_t error = stream_get(handle, function, stream);
    if (error == cudaSuccess) {
        error = nccl_check_stream(*stream, function);
    }
    return error == cudaSuccess ? order_with_default(*stream) : error;
}

static cudaError_t create(cudaStream_t *handle, unsigned flags, int priority)
{
    if (handle == NULL || (flags & ~(unsigned)cudaStreamNonBlocking) != 0) {
        standin_misuse("cudaStreamCreate: flags 0x%x", flags);
        return cudaErrorInvalidValue;
    }
    priority = priority < PRIORITY_GREATEST ? PRIORITY_GREATEST : priority;
    priority = priority > PRIORITY_LEAST ? PRIORITY_LEAST : priority;
    standin_lock();
    struct CUstream_st *stream = stream_create(device_current(), flags, priority);
    standin_unlock();
    if (stream == NULL) {
        return cudaErrorMemoryAllocation;
    }
    *handle = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *handle, unsigned flags, int priority)
{
    ENTER("cudaStreamCreateWithPriority");
    return standin_return(create(handle, flags, priority));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags)
{
    ENTER("cudaStreamCreateWithFlags");
    return standin_return(create(handle, flags, PRIORITY_LEAST));
}

cudaError_t cudaStreamCreate(cudaStream_t *handle)
{
    ENTER("cudaStreamCreate");
    return standin_return(create(handle, cudaStreamDefault, PRIORITY_LEAST));
}

/* What is still in the stream runs on; the stream itself is kept, to be recognised. */
cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    cudaError_t verdict = standin_enter("cudaStreamDestroy");
    standin_lock();
    struct CUstream_st *stream = object_find(handle, OBJECT_STREAM, "cudaStreamDestroy");
    if (stream == NULL) {
        verdict = cudaErrorInvalidResourceHandle;
    } else {
        if (stream->capture != NULL) {
            standin_misuse("cudaStreamDestroy: stream %lu is capturing", stream->object.number);
            capture_invalidate(stream);
        }
        object_bury(&stream->object);
    }
    standin_unlock();
    return standin_return(verdict);
}

cudaError_t stream_settle(struct CUstream_st *stream)
{
    if (stream->completed < stream->enqueued) {
        sleeper_t sleeper = {.target = stream->enqueued};
        scheduler_sleep(&sleeper, &stream->sleepers);
    }
    return standin_devices[stream->device].error;
}

/* Made to fail, the synchronising calls have waited: what they report is an earlier operation's
 * failure, and who cannot wait can never release anything. */
cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    struct CUstream_st *stream;
    const cudaError_t verdict = standin_enter("cudaStreamSynchronize");
    if (standin_inside_operation()) {
        return standin_return(verdict); /* it would wait for itself */
    }
    standin_lock();
    cudaError_t error = stream_get_for_work(handle, "cudaStreamSynchronize", &stream);
    if (error == cudaSuccess) {
        error = capture_check_stream(stream, "cudaStreamSynchronize");
    }
    if (error == cudaSuccess) {
        error = capture_check_call("cudaStreamSynchronize");
    }
    if (error == cudaSuccess) {
        error = stream_settle(stream);
    }
    standin_unlock();
    return standin_return(verdict != cudaSuccess ? verdict : error);
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    struct CUstream_st *stream;
    ENTER("cudaStreamQuery");
    standin_lock();
    cudaError_t error = stream_get_for_work(handle, "cudaStreamQuery", &stream);
    if (error == cudaSuccess) {
        error = capture_check_stream(stream, "cudaStreamQuery");
    }
    if (error == cudaSuccess) {
        error = capture_check_call("cudaStreamQuery");
    }
    if (error == cudaSuccess) {
        error = stream->completed < stream->enqueued ? cudaErrorNotReady
                                                     : standin_devices[stream->device].error;
    }
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    const cudaError_t verdict = standin_enter("cudaDeviceSynchronize");
    if (standin_inside_operation()) {
        return standin_return(verdict); /* it would wait for itself */
    }
    const int device = device_current();
    standin_lock();
    cudaError_t error = capture_check_call("cudaDeviceSynchronize");
    if (error == cudaSuccess && capture_any_on_device(device)) {
        standin_misuse("cudaDeviceSynchronize: a stream of device %d captures", device);
        error = cudaErrorStreamCaptureUnsupported;
    }
    for (object_t *object = object_first(); object != NULL && error == cudaSuccess;
         object = object->next) {
        struct CUstream_st *stream = (void *)object;
        if (object->kind == OBJECT_STREAM && stream->device == device) {
            error = stream_settle(stream);
        }
    }
    error = error == cudaSuccess ? standin_devices[device].error : error;
    standin_unlock();
    return standin_return(verdict != cudaSuccess ? verdict : error);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER("cudaDeviceGetStreamPriorityRange");
    *least = PRIORITY_LEAST;
    *greatest = PRIORITY_GREATEST;
    return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int *priority)
{
    struct CUstream_st *stream;
    ENTER("cudaStreamGetPriority");
    standin_lock();
    const cudaError_t error = stream_get(handle, "cudaStreamGetPriority", &stream);
    if (error == cudaSuccess) {
        *priority = stream->priority;
    }
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned *flags)
{
    struct CUstream_st *stream;
    ENTER("cudaStreamGetFlags");
    standin_lock();
    const cudaError_t error = stream_get(handle, "cudaStreamGetFlags", &stream);
    if (error == cudaSuccess) {
        *flags = stream->flags;
    }
    standin_unlock();
    return standin_return(error);
}

/* ---- work that is only run ---- */

static cudaError_t enqueue_call(op_kind_t kind, cudaStream_t handle, const char *what,
                                bool own_device, void (*run)(void *), const void *argument,
                                size_t bytes)
{
    struct CUstream_st *stream;
    cudaError_t error = stream_get_for_work(handle, what, &stream);
    if (error != cudaSuccess) {
        return error;
    }
    if (own_device && stream->device != device_current()) {
        standin_misuse("%s: stream %lu is of device %d, and device %d is current", what,
                       stream->object.number, stream->device, device_current());
        return cudaErrorInvalidResourceHandle;
    }
    op_t *op = op_create(kind, what, stream);
    if (op == NULL || !op_set_argument(op, argument, bytes)) {
        return cudaErrorMemoryAllocation;
    }
    op->run = run;
    return op_enqueue(op);
}

cudaError_t standin_enqueue(cudaStream_t stream, const char *what, void (*run)(void *argument),
                            const void *argument, size_t bytes)
{
    scheduler_start();
    standin_lock();
    cudaError_t error = standin_devices[device_current()].error;
    if (error == cudaSuccess) {
        error = enqueue_call(OP_RUN, stream, what, true, run, argument, bytes);
    }
    standin_unlock();
    return standin_return(error);
}

typedef struct host_call {
    cudaHostFn_t function;
    void *argument;
} host_call_t;

static void run_host_call(void *argument)
{
    const host_call_t *host = argument;
    host->function(host->argument);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
    ENTER("cudaLaunchHostFunc");
    if (function == NULL) {
        standin_misuse("cudaLaunchHostFunc: no function");
        return standin_return(cudaErrorInvalidValue);
    }
    const host_call_t host = {function, argument};
    standin_lock();
    const cudaError_t error = enqueue_call(OP_HOST, stream, "cudaLaunchHostFunc", false,
                                           run_host_call, &host, sizeof(host));
    standin_unlock();
    return standin_return(error);
}
