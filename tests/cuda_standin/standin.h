/*
 * The stand-in's own side: what tests, and the other files of the stand-in, use of it.
 *
 * This library takes the place of the CUDA runtime, cuBLASLt and NCCL behind the vendor's own
 * headers, so that the objects of device/cuda, kernels/cuda and comm/nccl link and run without a
 * GPU. It is a test double: it is never installed, and no program chooses it.
 *
 * What it models
 *
 *   Several devices in one process; ranks are threads, each with its current device. A call only
 *   enqueues. One thread runs the operations, one at a time, and picks the next by the seed among
 *   all that CUDA allows to run: the heads of streams whose awaited records are complete, graph
 *   nodes whose predecessors are, NCCL transfers both of whose sides have come. By the seed, too,
 *   streams starve, for a while or to the end, and nothing runs until somebody synchronises or a
 *   moment passes.
 *   Device memory is ordinary memory with guard zones; fresh and freed memory is full of 0xFF bytes
 *   (NaN in float, double and bfloat16). NCCL is strictly rendezvous, and a communicator's
 *   operations run strictly in order. Stream capture with forks and joins, graphs, events inside
 *   them; to lose the priorities of captured streams is a misuse. A communicator connects at
 *   each new size of a sum. Misuse is recorded and answered with CUDA's error. A deadlock is
 *   reported, not sat out: the report is a misuse that lists what waits for what, then everything
 *   pending is given up. What breaks a device (an operation that fails, a deadlock) makes every
 *   later call on it fail.
 *
 *   Destroying a communicator waits for its own operations and for all its ranks to leave, as
 *   NCCL's manual says of one node. Whether a call on a non-blocking communicator is over at once
 *   is the seed's choice; using its stream before it is over is a misuse. An aborted communicator
 *   ends its own operations, with poison in their receive buffers and, as in NCCL, no CUDA error;
 *   its peers' stay pending until they abort as well.
 *
 * What it does not model
 *
 *   Two operations at the very same time: each runs as a whole. Timing: event times are real
 *   times of this machine and say nothing about a GPU. Memory that the CPU cannot reach: code that
 *   reads device memory directly is not caught. Processes: communicators connect threads of one
 *   process only. Work queues: streams are never in each other's way. Per-thread default streams,
 *   memory pools, peer access, textures.
 *
 * Threads: everything here may be called from any thread, but standin_reset only while no other
 * thread is inside the stand-in.
 */
#ifndef DPR_TESTS_CUDA_STANDIN_STANDIN_H
#define DPR_TESTS_CUDA_STANDIN_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The call to fail: the `call`-th (from 1; 0: none) of `function`, counted since the reset. Names
 * are those in the vendor's manual ("cudaMalloc", "cuStreamWaitValue32", "ncclSend"); the name
 * "async:" and an operation's name ("async:cudaMemcpyAsync", "async:ncclSend" for a transfer,
 * "async:ncclAllReduce", "async:" and the `what` of standin_enqueue) lets the operation itself fail
 * when its turn comes: a CUDA operation breaks its device, a NCCL one hangs, with `error` as its
 * communicators' asynchronous error, until they are aborted.
 *
 * "connect:ncclAllReduce" is the making of connections in ncclAllReduce, of a communicator's first
 * sum of a size.
 *
 * A function that releases something and is made to fail has released it: that is how CUDA reports
 * earlier failures. For the same reason one that synchronises has waited. cudaGetDriverEntryPoint,
 * made to fail with error -1, finds no such function.
 */
typedef struct standin_failure {
    const char *function;
    unsigned long call;
    int error;         /* cudaError_t, CUresult, cublasStatus_t or ncclResult_t; 0: a fitting one */
    bool from_then_on; /* this call and all later ones */
    bool on_device;    /* count, and fail, only calls while `device` is current */
    int device;
} standin_failure_t;

typedef struct standin_options {
    uint64_t seed;       /* 0: operations run in the order in which they were enqueued */
    int devices;         /* 0: eight; negative: none */
    size_t memory_bytes; /* of each device; 0: 1 GiB */
    double deadlock_sec; /* without progress while somebody waits; 0: 10 s; negative: never */
    int compute_major;   /* compute capability; 0: 9.0 */
    int compute_minor;
    bool quiet; /* misuse is recorded, but not written to stderr as well */
    standin_failure_t failure;
} standin_options_t;

/*
 * A fresh stand-in: devices as described, no misuse, no calls counted, freed memory given back.
 * NULL: all zero, but the seed from the environment variable DPR_STANDIN_SEED where it is set.
 * Waits for pending operations first. What is still alive (see standin_leaks) stays alive, but
 * belongs to nobody any more: using it is a misuse.
 */
void standin_reset(const standin_options_t *options);

/* Replaces only the failure to inject and starts counting calls anew. NULL: no failure. */
void standin_inject(const standin_failure_t *failure);

/*
 * At the top of every entry point: counts a call of `function` (a string that stays valid) and says
 * whether it must fail, with *error as the options say (0: the caller's choice).
 */
bool standin_fails(const char *function, int *error);

/* Calls of `function` since the reset, and every function called since the process started: their
 * number, with up to `capacity` names. "async:" names count as well. */
unsigned long standin_calls(const char *function);
int standin_functions(const char **names, int capacity);

/* Whether the failure asked for has happened. */
bool standin_failed(void);

/*
 * The calls that order work across streams and with the host, for tests that show that each is
 * needed: cudaStreamWaitEvent, cudaEventRecord, cudaEventRecordWithFlags and cuStreamWaitValue32.
 * Between standin_watch and standin_watch_end each is listed in `calls` (as far as `capacity` goes;
 * NULL with 0) and the `call`-th (from 1) of `omission` does nothing and succeeds, as if its line
 * were missing from the program. A reset ends watching.
 *
 * Streams and events are numbered from 1 in the order in which their device was given them, so that
 * a thread for each device sees the same numbers in every run; calls are counted by device, and
 * where `stream` is not 0 on that stream alone.
 */
typedef struct standin_call {
    const char *function;
    int device;
    int stream;
    int event; /* 0: has none */
} standin_call_t;

typedef struct standin_omission {
    const char *function; /* NULL: none */
    int device;
    int stream; /* 0: any */
    unsigned long call;
} standin_omission_t;

void standin_watch(standin_call_t *calls, int capacity, const standin_omission_t *omission);
int standin_watch_end(void); /* how many calls there were */
bool standin_omitted(void);  /* whether one was left out since the last standin_watch */

/*
 * Enqueues work: when its turn has come, `run` is called, on the stand-in's thread, with a copy of
 * the `bytes` at `argument` (aligned to 16). Under capture it becomes a node, with one copy for
 * all launches: `run` must leave it as it is. `what` names it and stays valid. The current device
 * must be the stream's. `run` must not call CUDA; the functions of this header are allowed, but no
 * further enqueuing. Sets the thread's last error, as cudaGetLastError gives it.
 */
cudaError_t standin_enqueue(cudaStream_t stream, const char *what, void (*run)(void *argument),
                            const void *argument, size_t bytes);

/* Makes `error` the thread's last error unless it is cudaSuccess, and returns it. */
cudaError_t standin_return(cudaError_t error);

/* Records a misuse (printf). Counted; the first one's text is kept. */
void standin_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
int standin_misuses(void);
/* Copies the first misuse's text, or "", and returns `text`. */
const char *standin_misuse_text(char *text, size_t size);
/* Forgets them, for tests that provoke misuse. */
void standin_misuse_clear(void);

/* Deadlocks found since the reset; each is a misuse as well. */
int standin_deadlocks(void);

/*
 * Whether [pointer, pointer + bytes) is allocated memory of `device` (-1: the current device; in
 * `run`, the stream's); where not, a misuse that names `what`. Zero bytes are always fine.
 * standin_check_range accepts pinned host memory, too: what a kernel may touch.
 */
bool standin_check_device_range(int device, const void *pointer, size_t bytes, const char *what);
bool standin_check_range(int device, const void *pointer, size_t bytes, const char *what);

/*
 * Objects still alive (streams, events, allocations, graphs, communicators, ...): their number and,
 * where `text` is not NULL, a line that lists them by kind. Operations still pending count as well.
 */
int standin_leaks(char *text, size_t size);

/* For objects of other files of the stand-in (cublasLt handles): adds `change` to the objects of
 * `kind` (a string that stays valid) alive. */
void standin_alive(const char *kind, int change);

/* Waits until nothing is pending (or a deadlock was reported). */
void standin_drain(void);

/* Operations that have run since the reset. */
unsigned long standin_operations(void);

/* What each communicator alive was asked for, in the order of creation. Returns their number. */
typedef struct standin_communicator {
    int rank;
    int ranks;
    int device;
    int min_ctas; /* NCCL_CONFIG_UNDEF_INT where not asked for */
    int max_ctas;
    bool blocking;
} standin_communicator_t;
int standin_communicators(standin_communicator_t *list, int capacity);

#ifdef __cplusplus
}
#endif

#endif
