/*
 * The host device from inside: its objects, and which thread owns what in them.
 *
 *      enqueuing thread                 ring of commands                  worker thread
 *     +-----------------+      +---+---+---+---+---+---+---+---+       +------------------+
 *     | produced, marks | ---> |   |   | e | d | c | b |   |   | --->  | taken, now, error|
 *     +-----------------+      +---+---+---+---+---+---+---+---+       +------------------+
 *              |                         ^               ^                   |
 *              +-- opens `published` ----+               +-- opens `consumed`+
 *
 * A command is written into its slot, then `published` is opened to the number written; the worker
 * carries out commands in place and opens `consumed` once per CONSUMED_BATCH of them, for a
 * producer that found the ring full. Both ends sleep at the other's gate. The worker ends by a
 * command too, so a stream that is destroyed first does all its work.
 *
 * An event is a gate: a record is numbered when it is enqueued, and the worker that reaches it
 * opens the gate to that number; a wait takes the number of the latest record with it.
 */
#ifndef DPR_DEVICE_HOST_HOST_IMPL_H
#define DPR_DEVICE_HOST_HOST_IMPL_H

#include <pthread.h>
#include <stdalign.h>

#include "device/device_impl.h"
#include "device/host/host_chaos.h"
#include "device/host/host_gate.h"
#include "device/host/host_stream.h"

enum {
    DPR_HOST_RING_COMMANDS = 2048, /* a power of two */
    DPR_HOST_CONSUMED_BATCH = 256, /* divides the ring, so a full ring always holds a batch's end */
    DPR_HOST_LINE_BYTES = 128,     /* two cache lines: processors fetch them in pairs */
    DPR_HOST_NAME_BYTES = 16,      /* the kernel's limit for a thread name */
    DPR_HOST_SPINS = 10,           /* rounds of looking before sleeping, about a microsecond each */
};

typedef struct dpr_host_device {
    dpr_device_t base;
    int spins; /* 0 or DPR_HOST_SPINS */
    uint64_t chaos_seed;
    double skew_sec;                  /* artificial error of the wall clock */
    double rate;                      /* its seconds a true second */
    _Atomic uint64_t streams_created; /* tells chaos one stream from another */
    _Atomic int objects;              /* streams and events alive */
    /* Time zero. A virtual time belongs to the epoch it was taken in and is 0 in any later one, so
     * a rebase need not find the streams and events. */
    _Atomic int64_t zero_nsec;
    _Atomic uint32_t epoch;
    _Atomic size_t memory_now;
    _Atomic size_t memory_peak;
} dpr_host_device_t;

typedef struct dpr_host_time {
    double sec;
    uint32_t epoch;
} dpr_host_time_t;

typedef enum dpr_host_command_kind {
    DPR_HOST_COMMAND_KERNEL,
    DPR_HOST_COMMAND_COPY,
    DPR_HOST_COMMAND_FILL,
    DPR_HOST_COMMAND_CHARGE,
    DPR_HOST_COMMAND_WAIT,
    DPR_HOST_COMMAND_RECORD,
    DPR_HOST_COMMAND_HOST_OP,
    DPR_HOST_COMMAND_MARK, /* opens the stream's `marks` */
    DPR_HOST_COMMAND_EXIT,
} dpr_host_command_kind_t;

typedef struct dpr_host_command {
    dpr_host_command_kind_t kind;
    uint32_t count; /* of the event's or the marks' gate */
    union {
        dpr_host_kernel_fn_t kernel;
        dpr_host_op_fn_t start;
        dpr_event_t *event;
    } target;
    union {
        alignas(16) unsigned char kernel[DPR_HOST_KERNEL_ARGUMENT_BYTES];
        struct {
            void *to;
            const void *from;
            size_t bytes;
        } copy;
        struct {
            void *memory;
            size_t bytes;
            int byte;
        } fill;
        double cost_sec;
        void *user;
    } arguments;
} dpr_host_command_t;

_Static_assert(sizeof(dpr_host_command_t) == DPR_HOST_LINE_BYTES, "a command fills its lines");

/* A stream has one host operation under way at most, so it lives in the stream. */
typedef struct dpr_host_pending_op {
    dpr_host_op_t base;
    uint32_t number;
    dpr_host_gate_t completed; /* opened to `number` by whoever completes */
    dpr_status_t status;       /* these two are written before */
    double end_sec;
} dpr_host_pending_op_t;

typedef struct dpr_host_stream {
    dpr_stream_t base;
    pthread_t worker;
    char name[DPR_HOST_NAME_BYTES];

    /* The enqueuing thread's. */
    alignas(DPR_HOST_LINE_BYTES) uint32_t produced; /* commands put into the ring, wraps around */
    uint32_t marked;                                /* marks enqueued */
    uint64_t enqueued;                              /* the user's operations */

    /* The worker's. `error` is read by others behind a mark only. */
    alignas(DPR_HOST_LINE_BYTES) uint32_t taken; /* commands carried out, wraps around */
    dpr_status_t error;                          /* the first; work is skipped from then on */
    dpr_host_time_t now;                         /* under a virtual clock */
    dpr_host_chaos_t chaos;

    alignas(DPR_HOST_LINE_BYTES) dpr_host_gate_t published;
    alignas(DPR_HOST_LINE_BYTES) dpr_host_gate_t consumed;
    alignas(DPR_HOST_LINE_BYTES) dpr_host_gate_t marks;
    alignas(DPR_HOST_LINE_BYTES) dpr_host_pending_op_t op;
    alignas(DPR_HOST_LINE_BYTES) dpr_host_command_t ring[DPR_HOST_RING_COMMANDS];
} dpr_host_stream_t;

typedef struct dpr_host_event {
    dpr_event_t base;
    _Atomic uint64_t recorded;    /* records enqueued: 64 bits, so that "never" stays apart */
    const dpr_stream_t *recorder; /* of the latest record */
    dpr_host_gate_t reached;      /* records reached */
    dpr_host_time_t time;         /* of the latest reached, written before the gate opens */
} dpr_host_event_t;

extern const dpr_device_ops_t dpr_host_device_ops;

static inline dpr_host_device_t *dpr_host_device(const dpr_device_t *device)
{
    return (dpr_host_device_t *)device;
}

/* host_device.c */
double dpr_host_wall_sec(const dpr_device_t *device);

/* host_memory.c */
dpr_status_t dpr_host_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                            void **memory);
void dpr_host_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory);
void dpr_host_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes);

/* host_stream.c */
dpr_status_t dpr_host_stream_create(dpr_device_t *device, const char *name, int priority,
                                    dpr_stream_t **stream);
void dpr_host_stream_destroy(dpr_stream_t *stream);
dpr_status_t dpr_host_stream_synchronize(dpr_stream_t *stream);
dpr_status_t dpr_host_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event);
dpr_status_t dpr_host_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes);
dpr_status_t dpr_host_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes);
dpr_status_t dpr_host_stream_charge(dpr_stream_t *stream, double cost_sec);
dpr_status_t dpr_host_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument);
uint64_t dpr_host_stream_enqueued(const dpr_stream_t *stream);
/* Enqueues the record numbered `count` of an event. */
void dpr_host_stream_record(dpr_stream_t *stream, dpr_event_t *event, uint32_t count);

/* host_worker.c: the worker thread of a stream, the argument, until its EXIT command. */
void *dpr_host_worker_main(void *stream);
void dpr_host_pending_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec);

/* host_event.c */
dpr_status_t dpr_host_event_create(dpr_device_t *device, dpr_event_t **event);
void dpr_host_event_destroy(dpr_event_t *event);
dpr_status_t dpr_host_event_record(dpr_event_t *event, dpr_stream_t *stream);
bool dpr_host_event_query(const dpr_event_t *event);
dpr_status_t dpr_host_event_synchronize(dpr_event_t *event);
double dpr_host_event_sec(const dpr_event_t *event);
/* The number of the event's latest record; false where it never was recorded. Any thread. */
bool dpr_host_event_latest(const dpr_event_t *event, uint32_t *count);
/* Worker's: holds the calling thread until record `count` is reached; returns its virtual time as
 * of the device's epoch. */
double dpr_host_event_await(dpr_event_t *event, uint32_t count);
/* Worker's: record `count` is reached, at `time`. The event may be gone when this returns. */
void dpr_host_event_reach(dpr_event_t *event, uint32_t count, dpr_host_time_t time);

#endif
