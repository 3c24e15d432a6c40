/*
 * Events of the CUDA device. Each is two CUDA events, because of recordings (CUDA graphs):
 *
 *      time   made with timing. Outside recordings it is all there is: recorded, waited for, read.
 *             Inside one it is recorded with cudaEventRecordExternal: the graph gets a node that
 *             records it each time it is played, so that its time can be read, and others wait for
 *             it, afterwards. Such a node is no fork: a stream that waited for it would not join
 *             the capture.
 *      edge   without timing. Inside a recording it is recorded plainly, which makes no node at
 *             all but marks the place, and waiting for it joins the waiting stream to the capture
 *             with an edge from there.
 *
 * So inside a recording both are recorded, the external node first, so that the edges begin behind
 * it; a wait takes the edge where the event was recorded in the same recording. A wait for a record
 * from before the recording becomes a wait of the whole recording, each time it is played
 * (cuda_recording.c).
 */
#include <stdlib.h>

#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

dpr_status_t dpr_cuda_event_create(dpr_device_t *device, dpr_event_t **event)
{
    dpr_status_t status;
    dpr_cuda_event_t *created;
    DPR_TRY(dpr_cuda_device_enter(device));
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base.device = device;
    DPR_TRY_GOTO(DPR_CUDA(cudaEventCreate(&created->time)), free_event);
    DPR_TRY_GOTO(DPR_CUDA(cudaEventCreateWithFlags(&created->edge, cudaEventDisableTiming)),
                 destroy_time);
    atomic_fetch_add(&dpr_cuda_device(device)->events, 1);
    *event = &created->base;
    return DPR_OK;

destroy_time:
    dpr_cuda_ignore(DPR_CUDA(cudaEventDestroy(created->time)));
free_event:
    free(created);
    return status;
}

void dpr_cuda_event_destroy(dpr_event_t *event)
{
    dpr_cuda_event_t *self = dpr_cuda_event(event);
    dpr_cuda_ignore(dpr_cuda_device_enter(event->device));
    dpr_cuda_ignore(DPR_CUDA(cudaEventDestroy(self->edge)));
    dpr_cuda_ignore(DPR_CUDA(cudaEventDestroy(self->time)));
    atomic_fetch_sub(&dpr_cuda_device(event->device)->events, 1);
    free(self);
}

static dpr_status_t record_inside(dpr_cuda_event_t *event, cudaStream_t handle,
                                  dpr_cuda_recording_t *recording)
{
    DPR_TRY(dpr_cuda_recording_add_inside(recording, event));
    DPR_TRY(DPR_CUDA(cudaEventRecordWithFlags(event->time, handle, cudaEventRecordExternal)));
    DPR_TRY(DPR_CUDA(cudaEventRecord(event->edge, handle)));
    atomic_store(&event->recording, dpr_cuda_recording_number(recording));
    return DPR_OK;
}

dpr_status_t dpr_cuda_event_record(dpr_event_t *event, dpr_stream_t *stream)
{
    dpr_cuda_event_t *self = dpr_cuda_event(event);
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    dpr_cuda_recording_t *recording;
    DPR_TRY(dpr_cuda_stream_recording(dpr_cuda_stream(stream), &recording));
    if (recording != NULL) {
        return dpr_cuda_recorded(dpr_cuda_stream(stream), record_inside(self, handle, recording));
    }
    const uint32_t newest = atomic_load(&dpr_cuda_device(event->device)->newest); /* before it */
    DPR_TRY(DPR_CUDA(cudaEventRecord(self->time, handle)));
    atomic_store(&self->anchor, newest);
    atomic_store(&self->recorded, true);
    atomic_store(&self->recording, 0);
    return DPR_OK;
}

/* The stream may be outside the recording still, and joins it by this. */
static dpr_status_t wait_inside(cudaStream_t handle, dpr_cuda_event_t *event,
                                dpr_cuda_recording_t *recording)
{
    if (atomic_load(&event->recording) == dpr_cuda_recording_number(recording)) {
        return DPR_CUDA(cudaStreamWaitEvent(handle, event->edge, cudaEventWaitDefault));
    }
    return atomic_load(&event->recorded) ? dpr_cuda_recording_add_outside(recording, event)
                                         : DPR_OK;
}

dpr_status_t dpr_cuda_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event)
{
    dpr_cuda_event_t *self = dpr_cuda_event(event);
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    dpr_cuda_recording_t *recording = atomic_load(&dpr_cuda_device(stream->device)->recording);
    if (recording != NULL &&
        atomic_load(&self->recording) != dpr_cuda_recording_number(recording)) {
        DPR_TRY(dpr_cuda_stream_recording(dpr_cuda_stream(stream), &recording));
    }
    if (recording != NULL) {
        return dpr_cuda_recorded(dpr_cuda_stream(stream), wait_inside(handle, self, recording));
    }
    return DPR_CUDA(cudaStreamWaitEvent(handle, self->time, cudaEventWaitDefault));
}

bool dpr_cuda_event_query(const dpr_event_t *event)
{
    dpr_cuda_ignore(dpr_cuda_device_enter(event->device));
    const cudaError_t error = cudaEventQuery(dpr_cuda_event(event)->time);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
    }
    return error != cudaErrorNotReady; /* a broken device passes its events */
}

dpr_status_t dpr_cuda_event_synchronize(dpr_event_t *event)
{
    DPR_TRY(dpr_cuda_device_enter(event->device));
    return DPR_CUDA(cudaEventSynchronize(dpr_cuda_event(event)->time));
}
