/* The device seam: every call goes to the backend's table. */
#include "base/log.h"
#include "device/device_impl.h"

const char *dpr_clock_name(dpr_clock_t clock)
{
    static const char *const names[] = {
        [DPR_CLOCK_WALL] = "wall", [DPR_CLOCK_CORE] = "core", [DPR_CLOCK_MODEL] = "model"};
    return names[clock];
}

void dpr_device_destroy(dpr_device_t *device)
{
    if (device != NULL) {
        device->ops->destroy(device);
    }
}

const char *dpr_device_kind(const dpr_device_t *device)
{
    return device->ops->kind;
}

dpr_clock_t dpr_device_clock(const dpr_device_t *device)
{
    return device->clock;
}

void dpr_device_info(const dpr_device_t *device, dpr_device_info_t *info)
{
    device->ops->info(device, info);
}

void dpr_device_clock_rebase(dpr_device_t *device)
{
    device->ops->clock_rebase(device);
}

double dpr_device_wall_sec(const dpr_device_t *device)
{
    return device->ops->wall_sec(device);
}

dpr_status_t dpr_device_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                              void **memory)
{
    return device->ops->alloc(device, kind, bytes, memory);
}

void dpr_device_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory)
{
    if (memory != NULL) {
        device->ops->free(device, kind, memory);
    }
}

void dpr_device_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes)
{
    device->ops->memory_usage(device, now_bytes, peak_bytes);
}

dpr_status_t dpr_stream_create(dpr_device_t *device, const char *name, int priority,
                               dpr_stream_t **stream)
{
    return device->ops->stream_create(device, name, priority, stream);
}

void dpr_stream_destroy(dpr_stream_t *stream)
{
    if (stream != NULL) {
        stream->device->ops->stream_destroy(stream);
    }
}

dpr_status_t dpr_stream_synchronize(dpr_stream_t *stream)
{
    return stream->device->ops->stream_synchronize(stream);
}

dpr_status_t dpr_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event)
{
    return stream->device->ops->stream_wait_event(stream, event);
}

dpr_status_t dpr_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes)
{
    return stream->device->ops->stream_copy(stream, to, from, bytes);
}

dpr_status_t dpr_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes)
{
    return stream->device->ops->stream_fill(stream, memory, byte, bytes);
}

dpr_status_t dpr_stream_charge(dpr_stream_t *stream, double cost_sec)
{
    return stream->device->ops->stream_charge(stream, cost_sec);
}

dpr_status_t dpr_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument)
{
    return stream->device->ops->stream_host_op(stream, start, argument);
}

void dpr_host_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec)
{
    operation->device->ops->host_op_complete(operation, status, end_sec);
}

dpr_status_t dpr_event_create(dpr_device_t *device, dpr_event_t **event)
{
    return device->ops->event_create(device, event);
}

void dpr_event_destroy(dpr_event_t *event)
{
    if (event != NULL) {
        event->device->ops->event_destroy(event);
    }
}

dpr_status_t dpr_event_record(dpr_event_t *event, dpr_stream_t *stream)
{
    return event->device->ops->event_record(event, stream);
}

bool dpr_event_query(const dpr_event_t *event)
{
    return event->device->ops->event_query(event);
}

dpr_status_t dpr_event_synchronize(dpr_event_t *event)
{
    return event->device->ops->event_synchronize(event);
}

double dpr_event_sec(const dpr_event_t *event)
{
    return event->device->ops->event_sec(event);
}

uint64_t dpr_stream_enqueued(const dpr_stream_t *stream)
{
    return stream->device->ops->stream_enqueued(stream);
}

bool dpr_device_memory_on_host(const dpr_device_t *device)
{
    return device->ops->memory_on_host;
}

void dpr_device_range_begin(dpr_device_t *device, const char *name)
{
    if (device->ops->range_begin != NULL) {
        device->ops->range_begin(device, name);
    }
}

void dpr_device_range_end(dpr_device_t *device)
{
    if (device->ops->range_end != NULL) {
        device->ops->range_end(device);
    }
}

dpr_status_t dpr_recording_begin(dpr_stream_t *stream)
{
    const dpr_device_ops_t *ops = stream->device->ops;
    if (ops->recording_begin == NULL) {
        return dpr_fail(DPR_ERR_UNSUPPORTED, "the %s device cannot record a step", ops->kind);
    }
    return ops->recording_begin(stream);
}

dpr_status_t dpr_recording_end(dpr_stream_t *stream, dpr_recording_t **recording)
{
    return stream->device->ops->recording_end(stream, recording);
}

dpr_status_t dpr_recording_play(dpr_recording_t *recording, dpr_stream_t *stream)
{
    return recording->device->ops->recording_play(recording, stream);
}

void dpr_recording_destroy(dpr_recording_t *recording)
{
    if (recording != NULL) {
        recording->device->ops->recording_destroy(recording);
    }
}
