/*
 * Recordings of the CUDA device: a stream capture, instantiated as a CUDA graph.
 *
 *      begin           cudaStreamBeginCapture on the stream, thread-local: what other threads do to
 *                      CUDA meanwhile (a watchdog, a loader) is none of its business
 *      enqueued ...    captured; streams fork off by waiting for an event recorded inside, and are
 *                      joined by the first stream's waiting for one of theirs (cuda_event.c)
 *      end             cudaStreamEndCapture, cudaGraphInstantiate: kernels keep their streams'
 *                      priorities, in place of that of the stream that plays
 *      play            wait for the events from outside; cudaGraphLaunch
 *
 * A wait inside for an event recorded before the recording cannot be captured as an edge. The
 * recording keeps the event instead, and the stream that plays it waits for the event's latest
 * record each time: stronger than asked for, since the whole recording waits, and never a deadlock,
 * since what was enqueued before cannot depend on it. Such an event must outlive the recording.
 *
 * One recording at a time is made on a device. Where one of the device's functions fails in
 * between, the recording is spoilt: end stops the capture, which leaves every stream as it was
 * before, and returns the error. (Of a kernel or a transfer that could not be enqueued only its
 * caller knows.)
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

typedef struct event_list {
    dpr_cuda_event_t **events;
    size_t count;
    size_t capacity;
} event_list_t;

struct dpr_cuda_recording {
    dpr_recording_t base;
    uint64_t number;
    dpr_stream_t *stream;
    dpr_status_t status; /* the first error while it is made */
    cudaGraphExec_t graph;
    event_list_t inside;  /* recorded inside; an event may be listed more than once */
    event_list_t outside; /* waited for, recorded before */
};

static dpr_status_t add_event(event_list_t *list, dpr_cuda_event_t *event)
{
    DPR_TRY(dpr_reserve(&list->events, &list->capacity, list->count + 1, sizeof *list->events));
    list->events[list->count++] = event;
    return DPR_OK;
}

dpr_status_t dpr_cuda_recording_add_inside(dpr_cuda_recording_t *recording, dpr_cuda_event_t *event)
{
    return add_event(&recording->inside, event);
}

dpr_status_t dpr_cuda_recording_add_outside(dpr_cuda_recording_t *recording,
                                            dpr_cuda_event_t *event)
{
    return add_event(&recording->outside, event);
}

uint64_t dpr_cuda_recording_number(const dpr_cuda_recording_t *recording)
{
    return recording->number;
}

dpr_status_t dpr_cuda_recorded(const dpr_cuda_stream_t *stream, dpr_status_t status)
{
    dpr_cuda_recording_t *recording = atomic_load(&dpr_cuda_device(stream->base.device)->recording);
    if (status != DPR_OK && recording != NULL && recording->status == DPR_OK) {
        recording->status = status;
    }
    return status;
}

dpr_status_t dpr_cuda_stream_recording(const dpr_cuda_stream_t *stream,
                                       dpr_cuda_recording_t **recording)
{
    enum cudaStreamCaptureStatus capture;
    *recording = atomic_load(&dpr_cuda_device(stream->base.device)->recording);
    if (*recording == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_cuda_recorded(stream, DPR_CUDA(cudaStreamIsCapturing(stream->handle, &capture))));
    if (capture == cudaStreamCaptureStatusNone) {
        *recording = NULL;
    }
    return DPR_OK;
}

static void free_recording(dpr_cuda_recording_t *recording)
{
    free(recording->inside.events);
    free(recording->outside.events);
    free(recording);
}

dpr_status_t dpr_cuda_recording_begin(dpr_stream_t *stream)
{
    dpr_cuda_device_t *device = dpr_cuda_device(stream->device);
    dpr_cuda_recording_t *none = NULL;
    dpr_status_t status;
    dpr_cuda_recording_t *created;
    DPR_TRY(dpr_cuda_device_enter(stream->device));
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base.device = stream->device;
    created->stream = stream;
    if (!atomic_compare_exchange_strong(&device->recording, &none, created)) {
        status = dpr_fail(DPR_ERR_INVALID,
                          "cuda device %d: a recording is being made already; end it first",
                          device->ordinal);
        goto free_recording;
    }
    created->number = ++device->recording_number;
    DPR_TRY_GOTO(DPR_CUDA(cudaStreamBeginCapture(dpr_cuda_stream(stream)->handle,
                                                 cudaStreamCaptureModeThreadLocal)),
                 leave_device);
    return DPR_OK;

leave_device:
    atomic_store(&device->recording, NULL);
free_recording:
    free_recording(created);
    return status;
}

dpr_status_t dpr_cuda_recording_end(dpr_stream_t *stream, dpr_recording_t **recording)
{
    dpr_cuda_device_t *device = dpr_cuda_device(stream->device);
    dpr_cuda_recording_t *self = atomic_load(&device->recording);
    cudaGraph_t graph = NULL;
    dpr_status_t status;
    if (self == NULL || self->stream != stream) {
        return dpr_fail(DPR_ERR_INVALID, "stream %s: no recording was begun on it",
                        dpr_cuda_stream(stream)->name);
    }
    DPR_TRY(dpr_cuda_device_enter(stream->device));
    status = DPR_CUDA(cudaStreamEndCapture(dpr_cuda_stream(stream)->handle, &graph));
    atomic_store(&device->recording, NULL);
    if (self->status != DPR_OK) {
        status = self->status;
    }
    if (status == DPR_OK) {
        status = DPR_CUDA(
            cudaGraphInstantiate(&self->graph, graph, cudaGraphInstantiateFlagUseNodePriority));
    }
    if (graph != NULL) {
        dpr_cuda_ignore(DPR_CUDA(cudaGraphDestroy(graph)));
    }
    if (status != DPR_OK) {
        free_recording(self);
        return status;
    }
    *recording = &self->base;
    return DPR_OK;
}

dpr_status_t dpr_cuda_recording_play(dpr_recording_t *recording, dpr_stream_t *stream)
{
    const dpr_cuda_recording_t *self = (const dpr_cuda_recording_t *)recording;
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (!dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    for (size_t i = 0; i < self->outside.count; i++) {
        DPR_TRY(DPR_CUDA(
            cudaStreamWaitEvent(handle, self->outside.events[i]->time, cudaEventWaitDefault)));
    }
    const uint32_t newest =
        atomic_load(&dpr_cuda_device(recording->device)->newest); /* before it */
    DPR_TRY(DPR_CUDA(cudaGraphLaunch(self->graph, handle)));
    for (size_t i = 0; i < self->inside.count; i++) {
        atomic_store(&self->inside.events[i]->anchor, newest);
        atomic_store(&self->inside.events[i]->recorded, true);
    }
    return DPR_OK;
}

void dpr_cuda_recording_destroy(dpr_recording_t *recording)
{
    dpr_cuda_recording_t *self = (dpr_cuda_recording_t *)recording;
    dpr_cuda_ignore(dpr_cuda_device_enter(recording->device));
    dpr_cuda_ignore(DPR_CUDA(cudaGraphExecDestroy(self->graph)));
    free_recording(self);
}
