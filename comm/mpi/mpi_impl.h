/*
 * The MPI backend from inside: which thread owns what.
 *
 *   stream workers, schedulers, mains                  the progress thread: the only one that calls
 * MPI
 *
 *   a stream reaches an operation --+                +--> begin(post): start requests
 *                                   | post           |
 *   a blocking call ----------------+--> inbox ------+    Testsome over the table of requests
 *        |                               (a lock-free     |
 *        |                                list, newest    +--> done(owner, part): next step of the
 *        |                                first)               owner's state machine, at its end
 *        |                                                     dpr_host_op_complete, or
 *        +--- sleeps on call.answered  <---------------------- call.answered
 *
 * Everything that needs MPI is a post: an operation of a channel end or group (embedded in its
 * ring, op_ring.h) or the one blocking call (embedded in the communicator). Nothing on these ways
 * allocates or locks, and nothing on the progress thread blocks in MPI, so no operation waits for
 * an unrelated one; the exceptions are start, end and the short ping-pong of measure_link.
 *
 * Fields are owned by the progress thread unless they say otherwise.
 */
#ifndef DPR_COMM_MPI_MPI_IMPL_H
#define DPR_COMM_MPI_MPI_IMPL_H

#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>

#include "comm/comm_impl.h"
#include "comm/op_ring.h"

typedef struct dpr_comm_mpi dpr_comm_mpi_t;

/* 1 while the progress thread sleeps or is about to; who takes it back to 0 wakes it. One to a pair
 * of cache lines, for ranks of the same node ring each other's. */
typedef struct dpr_mpi_bell {
    _Atomic uint32_t asleep;
    char apart[124];
} dpr_mpi_bell_t;

/* Request `part` of `owner` is complete; `error` is MPI_SUCCESS or MPI's code. */
typedef void (*dpr_mpi_done_fn_t)(void *owner, int part, int error, const MPI_Status *status);

/* The table of requests: one slot per request that an object may have under way, taken when the
 * object is opened. Slots that hold MPI_REQUEST_NULL or an idle persistent request cost a look each
 * poll. */
typedef struct dpr_mpi_slot_owner {
    dpr_mpi_done_fn_t done; /* NULL: the slot is free */
    void *owner;
    int part;
} dpr_mpi_slot_owner_t;

typedef struct dpr_mpi_table {
    MPI_Request *requests;
    dpr_mpi_slot_owner_t *owners;
    int *completed;
    MPI_Status *statuses;
    int count;
    size_t capacities[4]; /* of the four arrays */
} dpr_mpi_table_t;

/* What channels and groups have in common: a place in the list of those that are open. */
typedef struct dpr_mpi_object {
    struct dpr_mpi_object *previous;
    struct dpr_mpi_object *next;
    /* Ends the operation under way, if any, with an error, and drops all requests. */
    void (*shut)(struct dpr_mpi_object *object);
    void (*release)(struct dpr_mpi_object *object); /* the memory; on the closing thread */
} dpr_mpi_object_t;

/*
 * The one blocking call that may be under way. `arguments` is its caller's and holds its state too.
 * What goes wrong is described in `error` and logged by the caller, whose capture then sees it.
 */
enum { DPR_MPI_CALL_SEND, DPR_MPI_CALL_RECV, DPR_MPI_CALL_PARTS };

typedef struct dpr_mpi_call {
    dpr_comm_post_t post;
    void (*begin)(dpr_comm_mpi_t *comm, void *arguments);
    void (*done)(dpr_comm_mpi_t *comm, void *arguments, int part, const MPI_Status *status);
    void *arguments;
    bool counted; /* in comm->moving */
    dpr_status_t status;
    char error[512];
    _Atomic uint32_t answered;
} dpr_mpi_call_t;

struct dpr_comm_mpi {
    dpr_comm_t base;
    pthread_t thread;

    /* Shared. */
    _Atomic(dpr_comm_post_t *) inbox;
    atomic_int posting;   /* threads between posting and having rung the bell */
    dpr_mpi_bell_t *bell; /* this rank's: own_bell, or in the node's shared memory */
    dpr_mpi_bell_t own_bell;
    atomic_bool spin;
    atomic_int abort_code;
    dpr_comm_post_t abort_post;
    atomic_bool aborting;
    _Atomic uint32_t started; /* initialisation is over, with start_status */
    dpr_status_t start_status;
    _Atomic uint32_t released; /* nobody will post any more */

    /* The caller's: how many were opened gives each its number, the same on every rank. */
    int channels_opened;
    int groups_opened;

    dpr_mpi_call_t call;
    int call_slots[DPR_MPI_CALL_PARTS];
    MPI_Comm channels; /* transfers; two tags a channel */
    MPI_Comm groups;   /* all-reduces; one tag a group */
    MPI_Comm calls;    /* blocking calls */
    int largest_tag;
    char library[64];       /* whose MPI this is */
    size_t chunk_bytes;     /* the longest message; longer transfers take several */
    dpr_mpi_bell_t **bells; /* by rank; NULL for ranks of other nodes */
    MPI_Win bell_window;
    dpr_mpi_table_t table;
    dpr_mpi_object_t open; /* head of the list of open channels and groups */
    int pending;           /* operations and calls that have begun and are not over */
    int moving;            /* of them, those whose next step no bell announces */
    bool leaving;
};

/* Above this size a message may need its receiver's answer inside MPI before its sender is done. */
enum { DPR_MPI_SMALL_BYTES = 4096 };

static inline dpr_comm_mpi_t *dpr_comm_mpi(const dpr_comm_t *comm)
{
    return (dpr_comm_mpi_t *)comm;
}

/* mpi_progress.c */

/* Any thread: hands a post to the progress thread, which will call post->begin. */
void dpr_mpi_post(dpr_comm_mpi_t *comm, dpr_comm_post_t *post);
/* The progress thread's loop, until comm->leaving. */
void dpr_mpi_progress_run(dpr_comm_mpi_t *comm);
/* Takes a slot for each of the `count` parts; on failure none. */
dpr_status_t dpr_mpi_slots_take(dpr_comm_mpi_t *comm, int count, dpr_mpi_done_fn_t done,
                                void *owner, int *slots);
/* Cancels what is under way in the slots, frees persistent requests and gives the slots back. */
void dpr_mpi_slots_return(dpr_comm_mpi_t *comm, int count, const int *slots);
/* `text` (of MPI_MAX_ERROR_STRING) becomes what MPI says about `error`; returns text. */
const char *dpr_mpi_error_text(int error, char *text);

/* mpi_bell.c */

/* Makes the bells of the ranks of `node` reach each other; without shared memory each has its own.
 */
dpr_status_t dpr_mpi_bells_open(dpr_comm_mpi_t *comm, MPI_Comm node);
void dpr_mpi_bells_close(dpr_comm_mpi_t *comm); /* collective among the node's ranks */
/* Arms this rank's bell: what rings it from now on ends the next wait. */
void dpr_mpi_bell_arm(dpr_comm_mpi_t *comm);
void dpr_mpi_bell_disarm(dpr_comm_mpi_t *comm);
/* Sleeps until the bell rings, at most `timeout_ns`; true if it rang. Disarms. */
bool dpr_mpi_bell_wait(dpr_comm_mpi_t *comm, int64_t timeout_ns);
/* Any thread: wakes this rank's progress thread. */
void dpr_mpi_bell_ring_own(dpr_comm_mpi_t *comm);
/* Wakes the progress thread of `rank`, to find what was just sent; nothing for other nodes' ranks.
 */
void dpr_mpi_bell_ring(const dpr_comm_mpi_t *comm, int rank);
/* True where that rank's sends ring our bell. */
bool dpr_mpi_bell_reaches(const dpr_comm_mpi_t *comm, int rank);
/* Keeps comm->moving: *counted says whether something under way is counted in it now. */
void dpr_mpi_count_moving(dpr_comm_mpi_t *comm, bool *counted, bool moving);

/* mpi_call.c: the blocking calls, caller's side and progress thread's side */

/* The caller's side: runs `begin` on the progress thread, sleeps until it, or `done` for a request
 * that it started, has answered; logs the error. */
dpr_status_t dpr_mpi_call(dpr_comm_mpi_t *comm,
                          void (*begin)(dpr_comm_mpi_t *comm, void *arguments),
                          void (*done)(dpr_comm_mpi_t *comm, void *arguments, int part,
                                       const MPI_Status *status),
                          void *arguments);
/* The progress thread's: ends the call. */
void dpr_mpi_call_answer(dpr_comm_mpi_t *comm, dpr_status_t status);
/* Ends the call with an error if `error` is one; true then. */
bool dpr_mpi_call_failed(dpr_comm_mpi_t *comm, int error);
void dpr_mpi_call_slot_done(void *comm, int part, int error, const MPI_Status *status);
dpr_status_t dpr_mpi_barrier(dpr_comm_t *comm);
dpr_status_t dpr_mpi_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out);
dpr_status_t dpr_mpi_gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                            void *out);

/* mpi_link.c */
dpr_status_t dpr_mpi_measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                  dpr_link_measure_t *measure);

/* mpi_channel.c */
dpr_status_t dpr_mpi_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                                  dpr_comm_channel_t **channel);
void dpr_mpi_channel_close(dpr_comm_channel_t *channel);
dpr_status_t dpr_mpi_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                  double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_mpi_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                  double cost_sec, dpr_stream_t *stream);

/* mpi_group.c */
dpr_status_t dpr_mpi_group_open(dpr_comm_t *comm, const int *ranks, int count,
                                dpr_comm_group_t **group);
void dpr_mpi_group_close(dpr_comm_group_t *group);
dpr_status_t dpr_mpi_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                         dpr_element_t element, double cost_sec,
                                         dpr_stream_t *stream);

/* mpi_comm.c: enters an object into, and takes it off, the list of open ones. */
void dpr_mpi_object_enter(dpr_comm_mpi_t *comm, dpr_mpi_object_t *object);
void dpr_mpi_object_leave(dpr_mpi_object_t *object);
/* Shuts an open object on the progress thread and releases it. */
void dpr_mpi_object_close(dpr_comm_mpi_t *comm, dpr_mpi_object_t *object);

#endif
