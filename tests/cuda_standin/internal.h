/*
 * What the stand-in's files share: its objects, the lock over all of them, and operations.
 *
 *      host threads                        the scheduler's thread
 *   cudaXxxAsync() ── op ──> stream's queue ── head ──> arrives ──┬──> ready ── picked ──> runs
 *                              (or, in a graph, predecessors)     └──> blocked (a record, a value,
 *                                                                      the other side) ──> ready
 *
 * An operation arrives when everything before it in its stream, or its predecessors in a graph, is
 * complete. It is then ready, or blocked on what its kind waits for. The scheduler picks one ready
 * operation after another, runs it without the lock, and completes it.
 *
 * One mutex guards all state here ("locked" in a comment: the caller holds it), but for calls,
 * failures and misuses, which have their own (inject.c).
 */
#ifndef DPR_TESTS_CUDA_STANDIN_INTERNAL_H
#define DPR_TESTS_CUDA_STANDIN_INTERNAL_H

#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>

#include <cuda.h>
#include <nccl.h>

#include "standin.h"

enum { MAX_DEVICES = 64, INLINE_ARGUMENT = 192, POISON = 0xFF, MAX_SUMS = 16 };

/* Fixed-size pieces from anonymous mappings, so that enqueuing calls no allocator. Locked. */
typedef struct pool {
    size_t size;
    void *free;
} pool_t;
void *pool_take(pool_t *pool); /* zeroed */
void pool_give(pool_t *pool, void *piece);

/* ---- objects behind handles (objects.c) ---- */

typedef enum object_kind {
    OBJECT_STREAM,
    OBJECT_EVENT,
    OBJECT_GRAPH,
    OBJECT_EXEC,
    OBJECT_COMM,
    OBJECT_KINDS,
} object_kind_t;

/* Every object begins with it. One that was destroyed is kept until the reset, to be recognised. */
typedef struct object {
    object_kind_t kind;
    bool alive;
    unsigned long number; /* the how-manieth of its kind, for messages */
    struct object *next;  /* of all, in no order */
} object_t;

/* Locked. NULL where there is no memory. */
void *object_create(object_kind_t kind, size_t size);
/* Locked. The object, or NULL and a misuse that names `function`. */
void *object_find(const void *handle, object_kind_t kind, const char *function);
void object_bury(object_t *object);   /* locked */
object_t *object_first(void);         /* locked: all, dead ones too */
int object_count(object_kind_t kind); /* locked: alive */
void object_forget_all(void);         /* locked: at reset, frees the dead */
const char *object_kind_name(object_kind_t kind);

/* ---- records: one point in a stream that others wait for ---- */

typedef struct op op_t;

/* A host thread that sleeps in the stand-in. */
typedef struct sleeper {
    pthread_cond_t *wake;
    uint64_t target; /* on a stream: wakes when so many operations are complete */
    bool woken;
    struct sleeper *next;
} sleeper_t;

typedef struct record {
    int references;
    bool done;
    bool failed;
    int64_t nsec;                     /* when it was reached */
    const struct CUstream_st *stream; /* for messages */
    unsigned long event;
    op_t *waiters;
    sleeper_t *sleepers;
} record_t;

record_t *record_create(void);           /* locked, with one reference */
record_t *record_hold(record_t *record); /* locked */
void record_release(record_t *record);   /* locked; NULL is allowed */

/* ---- operations ---- */

typedef enum op_kind {
    OP_RUN,        /* run(argument) */
    OP_HOST,       /* the same, for cudaLaunchHostFunc */
    OP_RECORD,     /* completes record */
    OP_WAIT,       /* blocked until record is complete */
    OP_VALUE_WAIT, /* blocked until *address satisfies value and flags */
    OP_NCCL,       /* one rank's part of NCCL operations: blocked until its transfers have run */
    OP_TRANSFER,   /* NCCL: both sides (or all ranks) have come; in no stream */
    OP_GRAPH,      /* a launch: complete when its nodes are */
} op_kind_t;

typedef enum op_state { OP_QUEUED, OP_BLOCKED, OP_READY, OP_RUNNING } op_state_t;

typedef struct nccl_part nccl_part_t;
typedef struct exec_node exec_node_t;
typedef struct launch_record launch_record_t;

struct op {
    op_kind_t kind;
    op_state_t state;
    bool skip; /* its device broke or its communicator was aborted: completes without running */
    const char *what; /* for messages, and for failures */
    uint64_t order;   /* of enqueuing */
    int device;
    struct CUstream_st *stream; /* where it was enqueued; of a node: captured */
    exec_node_t *node;          /* NULL: in its stream's queue */
    op_t *next;                 /* in the queue */
    size_t index;               /* in the ready operations */
    op_t *blocked_next;         /* in the blocked operations */
    op_t *blocked_previous;
    op_t *next_waiter; /* of a record */
    void (*run)(void *argument);
    union {
        struct {
            record_t *record;
            struct CUevent_st *event; /* of an external record or wait in a graph */
        };
        struct {
            uint32_t *address;
            uint32_t value;
            unsigned value_flags;
        };
        nccl_part_t *part;
        struct {
            struct nccl_sub *transfer; /* the sub-operation that leads */
            int transfer_error;        /* injected: it hangs */
        };
        struct {
            struct CUgraphExec_st *exec;
            launch_record_t *launch_records; /* of this launch's external records and waits */
        };
    };
    size_t bytes;
    void *large; /* an argument longer than the space below */
    alignas(16) unsigned char argument[INLINE_ARGUMENT];
};

/* Locked. A new operation with a copy of the argument; NULL where there is no memory. */
op_t *op_create(op_kind_t kind, const char *what, struct CUstream_st *stream);
bool op_set_argument(op_t *op, const void *argument, size_t bytes);
void *op_argument(op_t *op);
void op_destroy(op_t *op);

/* Locked. Into the stream's queue, or its capture. Takes the operation over, also on failure. */
cudaError_t op_enqueue(op_t *op);

/* Locked; scheduler.c. */
void op_arrive(op_t *op);
void op_block(op_t *op);
void op_unblock(op_t *op); /* nothing where it is not blocked */
void op_poll_values(void); /* makes those ready whose value has come */
bool op_values_blocked(void);
void op_values_in(const void *memory, size_t bytes); /* the memory goes: waits in it are misuse */
void op_clear(op_t *op);                             /* gives up what it holds, but not itself */
void record_reach(record_t *record, bool failed);
void deadlock_report(void); /* and gives everything up */
void ops_reset(void);
void op_make_ready(op_t *op);
void op_complete(op_t *op);

/* ---- streams, events (streams.c, events.c) ---- */

typedef struct capture capture_t;
typedef struct graph_node graph_node_t;

/* A set of graph nodes that what comes next depends on. */
typedef struct frontier {
    graph_node_t **nodes;
    int count;
    int capacity;
} frontier_t;
bool frontier_add(frontier_t *to, graph_node_t *node);
bool frontier_join(frontier_t *to, const frontier_t *from);
void frontier_clear(frontier_t *frontier);

struct CUstream_st {
    object_t object;
    int device;
    unsigned flags;
    int priority;
    op_t *head;
    op_t *tail;
    uint64_t enqueued;
    uint64_t completed;
    sleeper_t *sleepers;
    capture_t *capture; /* NULL: not capturing */
    frontier_t frontier;
    ncclComm_t nccl_busy; /* a non-blocking call of this communicator is still under way */
};

struct CUevent_st {
    object_t object;
    int device;
    unsigned flags;
    record_t *latest;  /* NULL: never recorded */
    uint64_t captured; /* the capture of its latest record; 0: none */
    frontier_t frontier;
};

/* Locked. The stream of a handle (NULL: the current device's default stream). */
cudaError_t stream_get(cudaStream_t handle, const char *function, struct CUstream_st **stream);
/* The same for a stream that is given work next: orders it with the default stream. */
cudaError_t stream_get_for_work(cudaStream_t handle, const char *function,
                                struct CUstream_st **stream);
/* Locked. Waits until what has been enqueued so far is complete; the device's error, if it broke.
 */
cudaError_t stream_settle(struct CUstream_st *stream);
/* Locked. Makes a new record the latest of the event; NULL where there is no memory. */
record_t *event_renew(struct CUevent_st *event, const struct CUstream_st *stream);
/* Locked. Waits for a record. */
void record_settle(record_t *record);
/* ---- capture and graphs (capture.c, graphs.c) ---- */

struct graph_node {
    op_t *op; /* the pattern of each launch */
    frontier_t predecessors;
    int index;
    bool seen;
};

struct CUgraph_st {
    object_t object;
    graph_node_t **nodes;
    int count;
    int capacity;
};

struct exec_node {
    op_t op;
    struct CUgraphExec_st *exec;
    int *successors;
    int successors_count;
    int predecessors;
    int left; /* predecessors that are not complete in this launch */
};

struct CUgraphExec_st {
    object_t object;
    exec_node_t *nodes;
    int count;
    int left;         /* nodes that are not complete in this launch */
    op_t *launch;     /* that runs now */
    record_t *latest; /* the end of the latest launch */
    int pending;      /* launches under way */
    bool doomed;      /* destroyed while under way */
};

struct capture {
    uint64_t id;
    enum cudaStreamCaptureMode mode;
    struct CUgraph_st *graph;
    struct CUstream_st *origin;
    pthread_t owner;
    bool invalid;
    capture_t *next;
};

struct CUgraph_st *graph_create(void);     /* locked */
void graph_drop(struct CUgraph_st *graph); /* locked: its nodes; the object stays */
/* Locked. Takes the operation over. */
graph_node_t *graph_append(struct CUgraph_st *graph, op_t *op, const frontier_t *predecessors);
/* Whether every node is in `frontier` or comes before it. */
bool graph_is_joined(struct CUgraph_st *graph, const frontier_t *frontier);
/* Locked. Adds a node behind the stream's frontier; takes the operation over. */
cudaError_t capture_add(op_t *op);
/* Locked. What cudaStreamWaitEvent does where the stream or the event is captured. */
cudaError_t capture_wait(struct CUstream_st *stream, struct CUevent_st *event);
/* Locked. Marks the event as recorded in the stream's capture. */
cudaError_t capture_record(struct CUevent_st *event, struct CUstream_st *stream);
/* Locked. Refuses what capture forbids: a call that the manual names unsafe, by this thread. */
cudaError_t capture_check_call(const char *function);
/* Locked. Refuses to synchronise or query a stream under capture. */
cudaError_t capture_check_stream(struct CUstream_st *stream, const char *function);
cudaError_t capture_check_event(struct CUevent_st *event, const char *function);
bool capture_any_on_device(int device);         /* locked */
void capture_invalidate(struct CUstream_st *s); /* locked */
void graph_arrive(op_t *launch);         /* locked: the launch was picked; its roots arrive */
void graph_node_done(exec_node_t *node); /* locked */
void graph_drop_exec(struct CUgraphExec_st *exec);

/* ---- devices (devices.c, memory.c) ---- */

typedef struct device {
    size_t used_bytes;
    cudaError_t error;                  /* what broke it; cudaSuccess: nothing */
    struct CUstream_st *default_stream; /* NULL until it is used */
} device_t;
extern device_t standin_devices[MAX_DEVICES];

size_t device_memory_bytes(void); /* of each */
int device_current(void);
void device_set_current(int device);              /* this thread's, for an operation */
void device_break(int device, cudaError_t error); /* locked */

typedef enum memory_kind { MEMORY_NONE, MEMORY_DEVICE, MEMORY_PINNED } memory_kind_t;
/* Locked. What `pointer` points into; *device and *left (bytes from there to its end) where it is
 * not MEMORY_NONE. */
memory_kind_t memory_find(const void *pointer, int *device, size_t *left);
void memory_reset(void);              /* locked: gives freed memory back */
int memory_count(memory_kind_t kind); /* locked */

/* ---- NCCL (nccl_*.c) ---- */

typedef struct clique clique_t;
typedef struct nccl_sub nccl_sub_t;

typedef enum sub_kind { SUB_SEND, SUB_RECV, SUB_ALLREDUCE, SUB_KINDS } sub_kind_t;
typedef enum sub_state {
    SUB_WAITING, /* its part's turn has not come */
    SUB_QUEUED,  /* waits for the other side */
    SUB_MATCHED, /* its transfer is ready or runs */
    SUB_HUNG,    /* its transfer was made to fail */
    SUB_DONE,
} sub_state_t;

/* One call: a send, a receive or a rank's side of a collective. */
struct nccl_sub {
    sub_kind_t kind;
    sub_state_t state;
    ncclComm_t comm;
    int peer;
    const void *from;
    void *to;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t reduction;
    cudaStream_t stream; /* until the group ends */
    nccl_part_t *part;
    nccl_sub_t *next;   /* in its part, or in the thread's group */
    nccl_sub_t *queued; /* behind it in a queue of the clique */
    nccl_sub_t *match;  /* a send's receive; a collective's next rank */
};

/* What one group gives one communicator: one operation in its stream. */
struct nccl_part {
    ncclComm_t comm;
    nccl_sub_t *subs; /* in the order of the calls */
    int left;         /* that are not done, once it has arrived */
    bool arrived;
    op_t *op;
};

/* A part's place in its communicator's order. */
typedef struct ticket {
    op_t *op;
    struct ticket *next;
} ticket_t;

struct ncclComm {
    object_t object;
    clique_t *clique;
    int rank;
    int ranks;
    int device;
    ncclConfig_t config;
    ncclResult_t async_error;
    int polls; /* of the asynchronous error until a non-blocking call is over */
    bool aborted;
    bool leaving; /* destroyed, finalized or aborted */
    ticket_t *first;
    ticket_t *last;
    nccl_part_t *active;   /* of the first ticket, once it has arrived */
    sleeper_t *sleepers;   /* who wait until it has nothing under way */
    size_t sums[MAX_SUMS]; /* bytes of the all-reduces that it is connected for */
    int sums_count;
};

/* The ranks of one unique id. */
struct clique {
    uint64_t id;
    int ranks; /* 0: nobody has come */
    int arrived;
    int left; /* ranks that are leaving */
    bool ready;
    ncclResult_t result; /* of the initialisation, once everybody has come */
    ncclComm_t *comms;
    nccl_sub_t **queues; /* [kind][source * ranks + destination], or [kind][rank] */
    sleeper_t *arriving;
    sleeper_t *departing;
    clique_t *next;
};

const clique_t *nccl_first_clique(void); /* locked */
nccl_sub_t **clique_queue(clique_t *clique, sub_kind_t kind, int source, int destination);

void nccl_part_arrive(op_t *op);                /* locked */
void nccl_part_skip(op_t *op);                  /* locked: gives up what has not been matched */
void nccl_part_launch(op_t *op);                /* locked: takes its turn */
void nccl_transfer_run(op_t *op);               /* not locked */
void nccl_transfer_done(op_t *op);              /* locked */
nccl_part_t *nccl_part_create(ncclComm_t comm); /* locked */
nccl_part_t *nccl_part_copy(const nccl_part_t *part);     /* locked */
void nccl_part_destroy(nccl_part_t *part);                /* locked */
nccl_sub_t *nccl_sub_create(const nccl_sub_t *values);    /* locked */
void nccl_sub_destroy(nccl_sub_t *sub);                   /* locked */
size_t nccl_type_bytes(ncclDataType_t type);              /* 0: unknown */
void nccl_abort_operations(ncclComm_t comm);              /* locked */
void nccl_describe(char *text, size_t size);              /* locked: what waits for what */
size_t nccl_describe_operations(char *text, size_t size); /* locked: the part of it on streams */
bool nccl_waiting(void);                                  /* locked: somebody blocks in NCCL */
void nccl_give_up(void);                                  /* locked: a deadlock */
/* Locked. Refuses a stream while a non-blocking NCCL call on it is under way. */
cudaError_t nccl_check_stream(struct CUstream_st *stream, const char *function);
void nccl_reset(void); /* locked */

/* Locked: the communicator of a handle that may be used now. */
ncclResult_t nccl_find(ncclComm_t handle, const char *function, ncclComm_t *comm);
/* Locked: the same, and nothing may be wrong with it. */
ncclResult_t nccl_find_ready(ncclComm_t handle, const char *function, ncclComm_t *comm);
/* Within a group: whether this thread is in one; its initialisations wait for the group's end. */
bool nccl_in_group(void);
void nccl_group_fail(ncclResult_t error);
ncclResult_t nccl_group_add_init(ncclComm_t comm, ncclComm_t *handle);
void nccl_group_add_abort(int device);
void nccl_abort_settle(int device); /* locked: what aborting waits for */
/* Locked: waits for the others of a blocking initialisation. */
ncclResult_t nccl_init_settle(ncclComm_t comm, ncclComm_t *handle);

/* ---- scheduler.c ---- */

void standin_lock(void);
void standin_unlock(void);
void scheduler_start(void); /* once, by itself */
void scheduler_wake(void);  /* locked: something may have become possible */
void scheduler_sleep(sleeper_t *sleeper, sleeper_t **list); /* locked: until woken */
void sleeper_wake(sleeper_t **list, uint64_t reached);      /* locked */
void scheduler_seed(uint64_t seed);                         /* locked */
uint64_t scheduler_random(uint64_t below);                  /* locked; 0 where the seed is 0 */
uint64_t scheduler_pending(void);                           /* locked */
void scheduler_count(int change);                           /* locked */
void scheduler_activity(void);       /* locked: the watch for deadlocks starts anew */
uint64_t scheduler_next_order(void); /* locked */
int64_t now_nsec(void);

/* ---- entry points (inject.c, errors.c) ---- */

extern standin_options_t standin_settings; /* changed by reset alone */

/* What an entry point does first: cudaSuccess, or the error to return (an injected failure, a call
 * from within an operation, a broken device). */
cudaError_t standin_enter(const char *function);
/* The same, but a broken device does not matter. */
cudaError_t standin_enter_always(const char *function);
ncclResult_t standin_enter_nccl(const char *function);
void standin_in_operation(const char *what); /* this thread runs an operation; NULL: no more */
bool standin_inside_operation(void);
bool standin_operation_fails(const char *what, int *error); /* "async:what" */
void inject_reset(void);
void standin_configure(const standin_options_t *options); /* locked */

/* ---- calls that order work (omit.c) ---- */

/* Locked, when a call is known to be a right one: whether it is the one to be left out. `event` is
 * NULL where the call has none. */
bool omit_call(const char *function, const struct CUstream_st *stream,
               const struct CUevent_st *event);
void omit_reset(void); /* locked */

#define ENTER(function)                                                                            \
    do {                                                                                           \
        const cudaError_t entry_ = standin_enter(function);                                        \
        if (entry_ != cudaSuccess) {                                                               \
            return standin_return(entry_);                                                         \
        }                                                                                          \
    } while (0)

#endif
