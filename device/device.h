/*
 * The device seam, user's side: memory, streams, events and the clock.
 *
 * Contract
 *
 * Streams. A stream runs its operations one after another, in the order in which they were
 * enqueued; operations of different streams are ordered by events alone. Enqueuing returns at once
 * (it may wait for room in a stream's queue, never for the operation) and allocates nothing. One
 * thread at a time enqueues on a stream.
 *
 * Events. dpr_event_record marks a point in a stream; dpr_stream_wait_event holds a stream until
 * the most recent record of the event, at the time of the call, has been reached; an event never
 * recorded holds nothing. A wait keeps the record that it was given, so
 * an event may be recorded again as soon as that record is ordered after every wait for the earlier
 * one. Records of one event that are under way at the same time belong to one stream.
 *
 * Memory. Allocated and freed outside steps. Freed only when no enqueued operation still uses it.
 *
 * Errors. Creating and enqueuing report their own errors. An operation that fails later marks its
 * stream: the stream skips its further work but still passes its events, so that nothing hangs, and
 * dpr_stream_synchronize returns the first error (logged where it happened).
 *
 * Clocks (dpr_clock_t). The device owns what "now" means; see each value. Times are seconds since
 * the last dpr_device_clock_rebase. Under the virtual clocks a stream has a time of its own: a
 * kernel advances it, dpr_stream_wait_event lifts it to the event's, dpr_event_record reads it.
 *
 * Threads. Different streams and events may be used from different threads; one object from one
 * thread at a time, but events may be waited for and queried from any.
 */
#ifndef DPR_DEVICE_DEVICE_H
#define DPR_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dpr_device dpr_device_t;
typedef struct dpr_stream dpr_stream_t;
typedef struct dpr_event dpr_event_t;

typedef enum dpr_clock {
    DPR_CLOCK_WALL,  /* real time */
    DPR_CLOCK_CORE,  /* CPU time of each kernel's thread; transfers cost what the caller says */
    DPR_CLOCK_MODEL, /* kernels cost nothing; dpr_stream_charge and transfers cost what is said */
} dpr_clock_t;

/* "wall", "core" or "model". */
const char *dpr_clock_name(dpr_clock_t clock);

typedef enum dpr_memory_kind {
    DPR_MEMORY_DEVICE, /* for kernels and transfers; aligned to 256 bytes */
    DPR_MEMORY_PINNED, /* host memory that the device copies from and to asynchronously */
} dpr_memory_kind_t;

typedef struct dpr_device_info {
    char name[128];      /* for a person: "host (2 cores)", "NVIDIA H100" */
    size_t memory_bytes; /* free memory, 0 where unknown */
    int cores;           /* host: cores this process may use */
    char driver[64];     /* cuda: "driver 13.0, runtime 13.0"; empty on the host */
    char pci[32];        /* cuda: "0000:17:00.0"; empty on the host */
    int numa_node;       /* the device's; -1 where unknown */
} dpr_device_info_t;

void dpr_device_destroy(dpr_device_t *device);           /* NULL is allowed */
const char *dpr_device_kind(const dpr_device_t *device); /* "host" or "cuda" */
dpr_clock_t dpr_device_clock(const dpr_device_t *device);
void dpr_device_info(const dpr_device_t *device, dpr_device_info_t *info);

/*
 * Binds the process to the cores of the device's NUMA node, as far as it may use them already;
 * nothing where the node is unknown (host) or none of its cores is ours (a warning). Before the
 * process starts threads and pins memory. Errors: DPR_ERR_SYSTEM, DPR_ERR_MEMORY.
 */
dpr_status_t dpr_device_bind_near(const dpr_device_t *device);

/* Sets time zero to now and, under a virtual clock, every stream's time to zero. All streams must
 * be idle (synchronized). */
void dpr_device_clock_rebase(dpr_device_t *device);

/* Seconds since the last rebase by the wall clock, whatever the device's clock. */
double dpr_device_wall_sec(const dpr_device_t *device);

/* Errors: DPR_ERR_MEMORY, logged with the size. Contents undefined. */
dpr_status_t dpr_device_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                              void **memory);
void dpr_device_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory);

/* Whether code on the CPU may read and write DPR_MEMORY_DEVICE. */
bool dpr_device_memory_on_host(const dpr_device_t *device);

/* Bytes of DPR_MEMORY_DEVICE allocated now, and the most there were at once. */
void dpr_device_memory_usage(const dpr_device_t *device, size_t *now_bytes, size_t *peak_bytes);

/* `name` (copied) is for traces and thread names, at most 15 characters; higher `priority` first.
 */
dpr_status_t dpr_stream_create(dpr_device_t *device, const char *name, int priority,
                               dpr_stream_t **stream);
/* Waits for the stream's work, then releases it. NULL is allowed. */
void dpr_stream_destroy(dpr_stream_t *stream);
dpr_status_t dpr_stream_synchronize(dpr_stream_t *stream);
dpr_status_t dpr_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event);
/* Copies between any two kinds of memory; the ranges must not overlap. */
dpr_status_t dpr_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes);
dpr_status_t dpr_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes);

/* Model clock: advances the stream's time by cost_sec. Other clocks: nothing. */
dpr_status_t dpr_stream_charge(dpr_stream_t *stream, double cost_sec);

/*
 * A host operation: when the stream reaches it, `start(argument, operation, now_sec)` is called on
 * some thread and must return at once; the stream goes on only when someone (any thread, also
 * `start` itself) has called dpr_host_op_complete(operation). `now_sec` is the stream's time at
 * that point (NAN where the device cannot know). This is how a transport that the device knows
 * nothing of becomes part of a stream.
 */
typedef struct dpr_host_op dpr_host_op_t;
typedef void (*dpr_host_op_fn_t)(void *argument, dpr_host_op_t *operation, double now_sec);
dpr_status_t dpr_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument);

/* end_sec: the time the stream's virtual clock is lifted to (ignored under the wall clock). A
 * status other than DPR_OK marks the stream. */
void dpr_host_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec);

dpr_status_t dpr_event_create(dpr_device_t *device, dpr_event_t **event);
void dpr_event_destroy(dpr_event_t *event); /* NULL is allowed; no wait may be pending */
dpr_status_t dpr_event_record(dpr_event_t *event, dpr_stream_t *stream);
bool dpr_event_query(const dpr_event_t *event); /* true where its latest record was reached */
dpr_status_t dpr_event_synchronize(dpr_event_t *event);
/* When the latest record was reached, in seconds since the rebase; it must have been reached. */
double dpr_event_sec(const dpr_event_t *event);

/*
 * A range with a name, for profilers, around what this thread enqueues next (cuda: NVTX; host:
 * nothing). Ranges nest. `name` is needed during the call only.
 */
void dpr_device_range_begin(dpr_device_t *device, const char *name);
void dpr_device_range_end(dpr_device_t *device);

/*
 * Recordings (CUDA graphs). Between begin and end, what is enqueued on `stream`, and on every
 * stream once it has waited for an event recorded in the recording, is kept instead of run; before
 * the end `stream` must have waited for each of them. Host operations cannot be recorded, and
 * nothing may be synchronized, created or freed meanwhile. Played, the recording does the same
 * again with the same arguments, in `stream`'s order; its events get their times then. One that is
 * being played is played again only in order on the same stream. Errors: DPR_ERR_UNSUPPORTED where
 * the device has no such thing (host), DPR_ERR_DEVICE; after a failure the streams are as before
 * begin.
 */
typedef struct dpr_recording dpr_recording_t;
dpr_status_t dpr_recording_begin(dpr_stream_t *stream);
dpr_status_t dpr_recording_end(dpr_stream_t *stream, dpr_recording_t **recording);
dpr_status_t dpr_recording_play(dpr_recording_t *recording, dpr_stream_t *stream);
void dpr_recording_destroy(dpr_recording_t *recording); /* not being played; NULL is allowed */

/* How many operations the stream has been given since creation (for the scheduler's cost per op).
 */
uint64_t dpr_stream_enqueued(const dpr_stream_t *stream);

/*
 * Backends.
 *
 * host: streams are worker threads with a queue of fixed length, events are real.
 * `spin`: workers busy-wait a little before they sleep (only where cores are free).
 * `chaos_seed` other than 0 delays and reorders, by that seed, whatever the contract leaves free,
 * so that a missing wait shows as a wrong result. Errors: DPR_ERR_MEMORY, DPR_ERR_SYSTEM.
 */
typedef struct dpr_host_device_options {
    dpr_clock_t clock;
    bool spin;
    uint64_t chaos_seed;
    /* An artificial error of the wall clock, for tests of clock alignment: this device's clock is
     * ahead by skew_sec and gains drift seconds a second. */
    double skew_sec;
    double drift;
} dpr_host_device_options_t;

dpr_status_t dpr_host_device_create(const dpr_host_device_options_t *options,
                                    dpr_device_t **device);

/* Cores that this process may use, and that exist on this node (hwloc). Never below 1. */
int dpr_host_cores_usable(void);
int dpr_host_cores_on_node(void);

/*
 * cuda: one GPU. The wall clock only. Errors: DPR_ERR_UNSUPPORTED, with a message that says why,
 * where this build has no CUDA, there is no driver, no such device, or another clock is asked for;
 * DPR_ERR_MEMORY, DPR_ERR_DEVICE.
 */
dpr_status_t dpr_cuda_device_create(int ordinal, dpr_clock_t clock, dpr_device_t **device);

/* Sets, where the user has not, the environment variables that CUDA reads when it starts
 * (cuda_device.c says which and why). The first thing a program's main does, before MPI and
 * threads. */
void dpr_cuda_environment(void);

/* How many GPUs this process can use; where none, `reason` [size] says why in one line. */
int dpr_cuda_device_count(char *reason, size_t size);

/* The PCI address of GPU `ordinal` of those, as in dpr_device_info_t; "" where it is unknown. */
void dpr_cuda_device_pci(int ordinal, char *pci, size_t size);

#endif
