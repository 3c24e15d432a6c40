/*
 * The CUDA device from inside: its objects, and who may touch what in them.
 *
 *      dpr_device                         dpr_stream                          dpr_event
 *     +-------------------------+        +------------------------------+    +-------------------+
 *     | ordinal                 | <----- | handle    a CUDA stream      |    | time  timed       |
 *     | anchors: where CUDA's   |        | error     the first          |    | edge  for captures|
 *     |   clock meets the       |        | ops       host operations,   |    | anchor, serial    |
 *     |   host's (cuda_clock.c) |        |   a ring; word: how many are |    +-------------------+
 *     | blocks: what is         |        |   over (cuda_host_op.c)      |
 *     |   allocated             |        +------------------------------+     dpr_recording: a CUDA
 *     | streams: those alive    |                                             graph
 * (cuda_recording.c)
 *     +-------------------------+
 *
 * Every function that calls CUDA makes the device current for its thread first: CUDA keeps a
 * current device per thread, and a stream or event is used while its device is current.
 */
#ifndef DPR_DEVICE_CUDA_CUDA_IMPL_H
#define DPR_DEVICE_CUDA_CUDA_IMPL_H

#include <cuda.h>
#include <pthread.h>
#include <stdatomic.h>

#include "device/cuda/cuda_device.h"
#include "device/device_impl.h"

enum {
    DPR_CUDA_ANCHORS = 16,
    DPR_CUDA_NAME_BYTES = 16,   /* of a stream's name, terminated */
    DPR_CUDA_STREAM_OPS = 2048, /* host operations ahead of a stream */
};

/* cuStreamWaitValue32, found through the runtime: no program links the driver's library. */
typedef CUresult (*dpr_cuda_wait_value_fn_t)(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                             unsigned int flags);

/* A moment on both clocks: `event` happened at `host_sec`, give or take. */
typedef struct dpr_cuda_anchor {
    cudaEvent_t event;
    double host_sec;
    double uncertainty_sec;
} dpr_cuda_anchor_t;

typedef struct dpr_cuda_block {
    struct dpr_cuda_block *next;
    void *memory;
    size_t bytes;
    dpr_memory_kind_t kind;
} dpr_cuda_block_t;

typedef struct dpr_cuda_stream dpr_cuda_stream_t;
typedef struct dpr_cuda_recording dpr_cuda_recording_t;

typedef struct dpr_cuda_device {
    dpr_device_t base;
    int ordinal;
    char name[128];
    dpr_cuda_wait_value_fn_t wait_value; /* NULL where the device has no such operation */
    cudaStream_t own_stream;             /* for anchors */
    _Atomic int events;                  /* alive */

    pthread_mutex_t clock_lock; /* the anchors and zero */
    dpr_cuda_anchor_t anchors[DPR_CUDA_ANCHORS];
    cudaEvent_t spare; /* for the next try */
    _Atomic uint32_t newest;
    double zero_sec;

    pthread_mutex_t lock; /* the two lists and what is counted from them */
    dpr_cuda_block_t *blocks;
    size_t memory_now;
    size_t memory_peak;
    dpr_cuda_stream_t *streams;
    int stream_count;
    uint64_t stream_number;
    bool queues_warned;

    _Atomic(dpr_cuda_recording_t *) recording; /* the one being made */
    uint64_t recording_number;
} dpr_cuda_device_t;

/* An operation starts when the stream has reached it and what holds the stream behind it is
 * enqueued, whichever comes last. */
typedef enum dpr_cuda_op_state {
    DPR_CUDA_OP_PREPARED,  /* neither yet */
    DPR_CUDA_OP_REACHED,   /* by the stream; the enqueuing thread will start it */
    DPR_CUDA_OP_HELD,      /* the stream will be; the host function will start it */
    DPR_CUDA_OP_CANCELLED, /* nothing holds the stream, so it passes by */
} dpr_cuda_op_state_t;

typedef struct dpr_cuda_op {
    dpr_host_op_t base;
    dpr_cuda_stream_t *stream;
    uint32_t number; /* of the stream's operations, from 1; wraps around */
    _Atomic int state;
    dpr_host_op_fn_t start;
    void *argument;
} dpr_cuda_op_t;

struct dpr_cuda_stream {
    dpr_stream_t base;
    dpr_cuda_stream_t *next; /* of the device's */
    cudaStream_t handle;
    char name[DPR_CUDA_NAME_BYTES];
    uint64_t number;
    uint64_t enqueued;
    _Atomic int error; /* dpr_status_t, the first */

    dpr_cuda_op_t *ops;       /* DPR_CUDA_STREAM_OPS */
    uint32_t ops_enqueued;    /* the enqueuing thread's */
    _Atomic uint32_t started; /* the latest operation whose start was called */
    _Atomic uint32_t *word;   /* pinned: the latest that is over; the stream waits for it */
    CUdeviceptr word_address; /* as the device sees it */
};

typedef struct dpr_cuda_event {
    dpr_event_t base;
    cudaEvent_t time; /* every record; waits outside recordings; times */
    cudaEvent_t edge; /* records and waits inside one recording */
    _Atomic bool recorded;
    _Atomic uint32_t anchor;    /* the newest when it was recorded */
    _Atomic uint64_t recording; /* the number of the one that it was last recorded in */
} dpr_cuda_event_t;

extern const dpr_device_ops_t dpr_cuda_device_ops;

static inline dpr_cuda_device_t *dpr_cuda_device(const dpr_device_t *device)
{
    return (dpr_cuda_device_t *)device;
}

static inline dpr_cuda_stream_t *dpr_cuda_stream(const dpr_stream_t *stream)
{
    return (dpr_cuda_stream_t *)stream;
}

static inline dpr_cuda_event_t *dpr_cuda_event(const dpr_event_t *event)
{
    return (dpr_cuda_event_t *)event;
}

/* cuda_device.c: an error where nobody can be told: logged by the check, and no more. */
static inline void dpr_cuda_ignore(dpr_status_t status)
{
    (void)status;
}

/* cuda_clock.c */
dpr_status_t dpr_cuda_clock_open(dpr_cuda_device_t *device);
void dpr_cuda_clock_close(dpr_cuda_device_t *device);
/* Takes a new anchor where the newest is older than a second. No stream of this thread may be
 * recording. */
dpr_status_t dpr_cuda_clock_keep(dpr_cuda_device_t *device);
void dpr_cuda_clock_rebase(dpr_device_t *device);
double dpr_cuda_wall_sec(const dpr_device_t *device);
double dpr_cuda_event_sec(const dpr_event_t *event);

/* cuda_memory.c */
dpr_status_t dpr_cuda_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                            void **memory);
void dpr_cuda_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory);
void dpr_cuda_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes);

/* cuda_stream.c */
dpr_status_t dpr_cuda_stream_create(dpr_device_t *device, const char *name, int priority,
                                    dpr_stream_t **stream);
void dpr_cuda_stream_destroy(dpr_stream_t *stream);
dpr_status_t dpr_cuda_stream_synchronize(dpr_stream_t *stream);
dpr_status_t dpr_cuda_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes);
dpr_status_t dpr_cuda_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes);
dpr_status_t dpr_cuda_stream_charge(dpr_stream_t *stream, double cost_sec);
uint64_t dpr_cuda_stream_enqueued(const dpr_stream_t *stream);
/* Marks the stream unless it has an error already. Any thread. */
void dpr_cuda_stream_fail(dpr_cuda_stream_t *stream, dpr_status_t status);

/* cuda_host_op.c */

/* Finds the driver's function and tries it; device->wait_value stays NULL, with a warning, where
 * there is none. */
dpr_status_t dpr_cuda_host_ops_find(dpr_cuda_device_t *device);
dpr_status_t dpr_cuda_host_ops_open(dpr_cuda_stream_t *stream);
/* The stream must be idle; waits for operations that were started and are not over. */
void dpr_cuda_host_ops_close(dpr_cuda_stream_t *stream);
dpr_status_t dpr_cuda_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument);
void dpr_cuda_host_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec);

/* cuda_event.c */
dpr_status_t dpr_cuda_event_create(dpr_device_t *device, dpr_event_t **event);
void dpr_cuda_event_destroy(dpr_event_t *event);
dpr_status_t dpr_cuda_event_record(dpr_event_t *event, dpr_stream_t *stream);
dpr_status_t dpr_cuda_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event);
bool dpr_cuda_event_query(const dpr_event_t *event);
dpr_status_t dpr_cuda_event_synchronize(dpr_event_t *event);

/* cuda_recording.c */
dpr_status_t dpr_cuda_recording_begin(dpr_stream_t *stream);
dpr_status_t dpr_cuda_recording_end(dpr_stream_t *stream, dpr_recording_t **recording);
dpr_status_t dpr_cuda_recording_play(dpr_recording_t *recording, dpr_stream_t *stream);
void dpr_cuda_recording_destroy(dpr_recording_t *recording);
/* *recording: the recording that the stream takes part in; NULL where it runs its work. */
dpr_status_t dpr_cuda_stream_recording(const dpr_cuda_stream_t *stream,
                                       dpr_cuda_recording_t **recording);
uint64_t dpr_cuda_recording_number(const dpr_cuda_recording_t *recording);
/* Keeps an event that is recorded in it, one that it waits for from outside. */
dpr_status_t dpr_cuda_recording_add_inside(dpr_cuda_recording_t *recording,
                                           dpr_cuda_event_t *event);
dpr_status_t dpr_cuda_recording_add_outside(dpr_cuda_recording_t *recording,
                                            dpr_cuda_event_t *event);
/* For what was enqueued while one is made: passes `status` on, after an error with the recording
 * spoilt. */
dpr_status_t dpr_cuda_recorded(const dpr_cuda_stream_t *stream, dpr_status_t status);

#endif
