/*
 * The device seam, implementer's side: one table of functions per backend, filled with designated
 * initialisers. Each entry does what the function of the same name in device.h promises; every
 * entry is required, but that a device without recordings leaves theirs NULL and one without ranges
 * theirs.
 */
#ifndef DPR_DEVICE_DEVICE_IMPL_H
#define DPR_DEVICE_DEVICE_IMPL_H

#include "device/device.h"

typedef struct dpr_device_ops {
    const char *kind;
    void (*destroy)(dpr_device_t *device);
    void (*info)(const dpr_device_t *device, dpr_device_info_t *info);
    void (*clock_rebase)(dpr_device_t *device);
    double (*wall_sec)(const dpr_device_t *device);
    dpr_status_t (*alloc)(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                          void **memory);
    void (*free)(dpr_device_t *device, dpr_memory_kind_t kind, void *memory);
    bool memory_on_host;
    void (*memory_usage)(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes);
    dpr_status_t (*stream_create)(dpr_device_t *device, const char *name, int priority,
                                  dpr_stream_t **stream);
    void (*stream_destroy)(dpr_stream_t *stream);
    dpr_status_t (*stream_synchronize)(dpr_stream_t *stream);
    dpr_status_t (*stream_wait_event)(dpr_stream_t *stream, dpr_event_t *event);
    dpr_status_t (*stream_copy)(dpr_stream_t *stream, void *to, const void *from, size_t bytes);
    dpr_status_t (*stream_fill)(dpr_stream_t *stream, void *memory, int byte, size_t bytes);
    dpr_status_t (*stream_charge)(dpr_stream_t *stream, double cost_sec);
    dpr_status_t (*stream_host_op)(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument);
    void (*host_op_complete)(dpr_host_op_t *operation, dpr_status_t status, double end_sec);
    uint64_t (*stream_enqueued)(const dpr_stream_t *stream);
    void (*range_begin)(dpr_device_t *device, const char *name);
    void (*range_end)(dpr_device_t *device);
    dpr_status_t (*recording_begin)(dpr_stream_t *stream);
    dpr_status_t (*recording_end)(dpr_stream_t *stream, dpr_recording_t **recording);
    dpr_status_t (*recording_play)(dpr_recording_t *recording, dpr_stream_t *stream);
    void (*recording_destroy)(dpr_recording_t *recording);
    dpr_status_t (*event_create)(dpr_device_t *device, dpr_event_t **event);
    void (*event_destroy)(dpr_event_t *event);
    dpr_status_t (*event_record)(dpr_event_t *event, dpr_stream_t *stream);
    bool (*event_query)(const dpr_event_t *event);
    dpr_status_t (*event_synchronize)(dpr_event_t *event);
    double (*event_sec)(const dpr_event_t *event);
} dpr_device_ops_t;

/* Every backend's objects begin with these. */
struct dpr_device {
    const dpr_device_ops_t *ops;
    dpr_clock_t clock;
};

struct dpr_stream {
    dpr_device_t *device;
};

struct dpr_event {
    dpr_device_t *device;
};

struct dpr_host_op {
    dpr_device_t *device;
};

struct dpr_recording {
    dpr_device_t *device;
};

#endif
