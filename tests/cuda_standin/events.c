/*
 * Events. Each record makes a point of its own (record_t); the event keeps the latest, and whoever
 * waits keeps the one that was the latest when it was told to wait.
 */
#include "internal.h"

static cudaError_t create(cudaEvent_t *handle, unsigned flags)
{
    const unsigned known = cudaEventBlockingSync | cudaEventDisableTiming;
    if (handle == NULL || (flags & ~known) != 0) {
        standin_misuse("cudaEventCreate: flags 0x%x", flags);
        return cudaErrorInvalidValue;
    }
    standin_lock();
    struct CUevent_st *event = object_create(OBJECT_EVENT, sizeof(*event));
    if (event != NULL) {
        event->device = device_current();
        event->flags = flags;
    }
    standin_unlock();
    if (event == NULL) {
        return cudaErrorMemoryAllocation;
    }
    *handle = event;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned flags)
{
    ENTER("cudaEventCreateWithFlags");
    return standin_return(create(handle, flags));
}

cudaError_t cudaEventCreate(cudaEvent_t *handle)
{
    ENTER("cudaEventCreate");
    return standin_return(create(handle, cudaEventDefault));
}

/* A record or a wait that is still under way goes on without the event. */
cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    cudaError_t verdict = standin_enter("cudaEventDestroy");
    standin_lock();
    struct CUevent_st *event = object_find(handle, OBJECT_EVENT, "cudaEventDestroy");
    if (event == NULL) {
        verdict = cudaErrorInvalidResourceHandle;
    } else {
        object_bury(&event->object);
    }
    standin_unlock();
    return standin_return(verdict);
}

/* Makes a new record the event's latest. */
record_t *event_renew(struct CUevent_st *event, const struct CUstream_st *stream)
{
    record_t *record = record_create();
    if (record != NULL) {
        record->stream = stream;
        record->event = event->object.number;
        record_release(event->latest);
        event->latest = record;
        event->captured = 0;
    }
    return record;
}

static cudaError_t record_event(struct CUevent_st *event, struct CUstream_st *stream,
                                unsigned flags, const char *function)
{
    if (event->device != stream->device) {
        standin_misuse("%s: event %lu is of device %d, stream %lu of device %d", function,
                       event->object.number, event->device, stream->object.number, stream->device);
        return cudaErrorInvalidResourceHandle;
    }
    const bool external = (flags & cudaEventRecordExternal) != 0;
    if (external && stream->capture == NULL) {
        standin_misuse("%s: an external record, but stream %lu does not capture", function,
                       stream->object.number);
        return cudaErrorIllegalState;
    }
    if (stream->capture != NULL && !external) {
        return capture_record(event, stream);
    }
    op_t *op = op_create(OP_RECORD, "cudaEventRecord", stream);
    if (op == NULL) {
        return cudaErrorMemoryAllocation;
    }
    if (external) {
        op->event = event; /* its record is made at each launch */
        return op_enqueue(op);
    }
    record_t *record = event_renew(event, stream);
    if (record == NULL) {
        op_destroy(op);
        return cudaErrorMemoryAllocation;
    }
    op->record = record_hold(record);
    return op_enqueue(op);
}

static cudaError_t record_entry(cudaEvent_t handle, cudaStream_t stream_handle, unsigned flags,
                                const char *function)
{
    struct CUstream_st *stream;
    standin_lock();
    cudaError_t error = stream_get_for_work(stream_handle, function, &stream);
    struct CUevent_st *event = object_find(handle, OBJECT_EVENT, function);
    if (event == NULL) {
        error = cudaErrorInvalidResourceHandle;
    }
    if (error == cudaSuccess && !omit_call(function, stream, event)) {
        error = record_event(event, stream, flags, function);
    }
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTER("cudaEventRecord");
    return record_entry(event, stream, cudaEventRecordDefault, "cudaEventRecord");
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    ENTER("cudaEventRecordWithFlags");
    return record_entry(event, stream, flags, "cudaEventRecordWithFlags");
}

static cudaError_t wait_event(struct CUstream_st *stream, struct CUevent_st *event, unsigned flags)
{
    const bool external = (flags & cudaEventWaitExternal) != 0;
    if (external && stream->capture == NULL) {
        standin_misuse("cudaStreamWaitEvent: an external wait, but stream %lu does not capture",
                       stream->object.number);
        return cudaErrorIllegalState;
    }
    if (!external && (stream->capture != NULL || event->captured != 0)) {
        return capture_wait(stream, event);
    }
    if (!external && (event->latest == NULL || event->latest->done)) {
        return cudaSuccess;
    }
    op_t *op = op_create(OP_WAIT, "cudaStreamWaitEvent", stream);
    if (op == NULL) {
        return cudaErrorMemoryAllocation;
    }
    if (external) {
        op->event = event; /* its record is looked up at each launch */
    } else {
        op->record = record_hold(event->latest);
    }
    return op_enqueue(op);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t handle, unsigned flags)
{
    struct CUstream_st *stream;
    ENTER("cudaStreamWaitEvent");
    standin_lock();
    cudaError_t error = stream_get_for_work(stream_handle, "cudaStreamWaitEvent", &stream);
    struct CUevent_st *event = object_find(handle, OBJECT_EVENT, "cudaStreamWaitEvent");
    if (event == NULL) {
        error = cudaErrorInvalidResourceHandle;
    }
    if (error == cudaSuccess && !omit_call("cudaStreamWaitEvent", stream, event)) {
        error = wait_event(stream, event, flags);
    }
    standin_unlock();
    return standin_return(error);
}

/* The event, where it may be asked about now. */
static cudaError_t get_to_ask(cudaEvent_t handle, const char *function, struct CUevent_st **event)
{
    *event = object_find(handle, OBJECT_EVENT, function);
    if (*event == NULL) {
        return cudaErrorInvalidResourceHandle;
    }
    const cudaError_t error = capture_check_event(*event, function);
    return error == cudaSuccess ? capture_check_call(function) : error;
}

cudaError_t cudaEventQuery(cudaEvent_t handle)
{
    struct CUevent_st *event;
    ENTER("cudaEventQuery");
    standin_lock();
    cudaError_t error = get_to_ask(handle, "cudaEventQuery", &event);
    if (error == cudaSuccess && event->latest != NULL) {
        error = event->latest->done ? standin_devices[event->device].error : cudaErrorNotReady;
    }
    standin_unlock();
    return standin_return(error);
}

void record_settle(record_t *record)
{
    if (!record->done) {
        sleeper_t sleeper = {.target = 0};
        record_hold(record);
        scheduler_sleep(&sleeper, &record->sleepers);
        record_release(record);
    }
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    struct CUevent_st *event;
    const cudaError_t verdict = standin_enter("cudaEventSynchronize");
    if (standin_inside_operation()) {
        return standin_return(verdict); /* it would wait for itself */
    }
    standin_lock();
    cudaError_t error = get_to_ask(handle, "cudaEventSynchronize", &event);
    if (error == cudaSuccess && event->latest != NULL) {
        const int device = event->device;
        record_settle(event->latest);
        error = standin_devices[device].error;
    }
    standin_unlock();
    return standin_return(verdict != cudaSuccess ? verdict : error);
}

static cudaError_t elapsed(const struct CUevent_st *start, const struct CUevent_st *end,
                           float *msec)
{
    const bool timed = ((start->flags | end->flags) & cudaEventDisableTiming) == 0;
    if (!timed || start->device != end->device || start->latest == NULL || end->latest == NULL) {
        standin_misuse("cudaEventElapsedTime: events %lu and %lu %s", start->object.number,
                       end->object.number,
                       !timed                         ? "were made without timing"
                       : start->device != end->device ? "are of different devices"
                                                      : "were not both recorded");
        return cudaErrorInvalidResourceHandle;
    }
    if (!start->latest->done || !end->latest->done) {
        return cudaErrorNotReady;
    }
    *msec = (float)((double)(end->latest->nsec - start->latest->nsec) * 1e-6);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *msec, cudaEvent_t start_handle, cudaEvent_t end_handle)
{
    ENTER("cudaEventElapsedTime");
    standin_lock();
    const struct CUevent_st *start =
        object_find(start_handle, OBJECT_EVENT, "cudaEventElapsedTime");
    struct CUevent_st *end = object_find(end_handle, OBJECT_EVENT, "cudaEventElapsedTime");
    cudaError_t error = cudaErrorInvalidResourceHandle;
    if (start != NULL && end != NULL) {
        error = elapsed(start, end, msec);
    }
    standin_unlock();
    return standin_return(error);
}
