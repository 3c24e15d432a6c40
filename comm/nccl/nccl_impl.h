/*
 * The NCCL backend from inside.
 *
 *      comm ---- bootstrap    mpi or local: ranks, barrier, gathers, clocks, the way ids travel
 *       |
 *       +--- links: link - link - link ...     one per channel end and per group on this rank, in
 *                   |                          the order of opening, which is the same everywhere
 *                   +--- handle                a NCCL communicator of its own
 *
 * Threads. Three may meet at a link: the one that enqueues, a watchdog that checks, and whoever
 * interrupts. `lock` guards the list and every handle's life; the enqueuing thread takes no lock
 * but counts itself `inside`, and interrupting waits for it to come out before the handle goes
 * (unless it is stuck in NCCL: then aborting is what frees it).
 *
 * Files: nccl_comm.c the table, nccl_link.c channels and groups, nccl_room.c what a GPU has room
 * for, nccl_open.c making a communicator, nccl_abort.c ending it by force, nccl_measure.c links,
 * nccl_record.c what recordings need.
 */
#ifndef DPR_COMM_NCCL_NCCL_IMPL_H
#define DPR_COMM_NCCL_NCCL_IMPL_H

#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "comm/comm_impl.h"
#include "device/cuda/cuda_device.h"

enum { DPR_NCCL_SCRATCH_BYTES = 256, DPR_NCCL_WHAT_BYTES = 64 };

typedef struct dpr_comm_nccl dpr_comm_nccl_t;

/* What a channel end and a group have in common. Both kinds of handle begin with their seam's
 * struct. */
typedef struct dpr_nccl_link {
    union {
        dpr_comm_channel_t channel;
        dpr_comm_group_t group;
    } base;
    struct dpr_nccl_link *previous;
    struct dpr_nccl_link *next;
    dpr_comm_nccl_t *comm;
    char what[DPR_NCCL_WHAT_BYTES]; /* "the channel from rank 0 to rank 1" */
    bool is_channel;
    int members;
    int me;                  /* this rank's number in the NCCL communicator */
    ncclComm_t handle;       /* NULL: alone in its group, or aborted */
    atomic_bool aborted;     /* set before the handle goes */
    atomic_int inside;       /* 1 while the enqueuing thread is in NCCL */
    _Atomic uint64_t stream; /* number of the stream last used (cuda_device.h), 0: none */
    bool closed;             /* by the user; its handle goes with the communicator's others */
    bool told;               /* its fault is logged; these two under comm->lock */
} dpr_nccl_link_t;

struct dpr_comm_nccl {
    dpr_comm_t base;
    dpr_comm_t *bootstrap;
    int ctas;                  /* of each communicator, at least 1 */
    double patience_sec;       /* with a peer that does not come: opening, measuring */
    double abort_patience_sec; /* with ncclCommAbort */

    int ordinal; /* the GPU that these two are on; -1: none yet */
    void *scratch;
    cudaStream_t stream; /* for set-up and measuring */

    pthread_mutex_t lock;
    dpr_nccl_link_t links; /* head of the list */
    bool stuck;            /* an abort has not come back: the GPU must not be waited for */
    atomic_bool interrupted;
};

static inline dpr_comm_nccl_t *dpr_comm_nccl(const dpr_comm_t *comm)
{
    return (dpr_comm_nccl_t *)comm;
}

/* nccl_comm.c */

/*
 * A status for the result of a NCCL call on `what`. Not ncclSuccess: logs rank, call, link and
 * NCCL's text. ncclUnhandledCudaError becomes DPR_ERR_DEVICE, anything else DPR_ERR_COMM.
 */
dpr_status_t dpr_nccl_check(int rank, ncclResult_t result, const char *call, const char *what);
void dpr_nccl_pause(void);     /* between two looks */
double dpr_nccl_now_sec(void); /* monotonic */

/* nccl_open.c */

/*
 * Makes the NCCL communicator of a link (members and me are set) and takes a message through it.
 * Blocking, on every member; returns DPR_ERR_COMM after comm->patience_sec or when the communicator
 * is interrupted, whatever NCCL does. link->handle is NULL after a failure.
 */
dpr_status_t dpr_nccl_link_connect(dpr_nccl_link_t *link, const ncclUniqueId *id);

/* Waits until `stream` is idle, looking after the communicator `handle` meanwhile. Errors:
 * DPR_ERR_COMM (NCCL's asynchronous error, no more patience, given up), DPR_ERR_DEVICE. */
typedef struct dpr_nccl_wait {
    int rank;
    const char *what; /* for the log */
    double patience_sec;
    const atomic_bool *given_up;
} dpr_nccl_wait_t;
dpr_status_t dpr_nccl_await_stream(const dpr_nccl_wait_t *wait, ncclComm_t handle,
                                   cudaStream_t stream);

/* nccl_abort.c */

/* Aborts a communicator on comm's GPU; false where NCCL has not come back in time, and is left
 * to it. */
bool dpr_nccl_abort(const dpr_comm_nccl_t *comm, ncclComm_t handle);
/* Under comm->lock: marks the streams that have operations under way and aborts `only`'s
 * communicator, or all together (NULL). Sets comm->stuck where NCCL does not come back in time. */
void dpr_nccl_abort_links(dpr_comm_nccl_t *comm, dpr_nccl_link_t *only);

/* nccl_room.c */

/* Whether this NCCL can do what is needed of it; `version` as ncclGetVersion has it. Errors:
 * DPR_ERR_UNSUPPORTED. */
dpr_status_t dpr_nccl_check_version(int version);
/* Whether the GPU has room for one more link of this rank beside those that are open. Errors:
 * DPR_ERR_UNSUPPORTED, with the way out. */
dpr_status_t dpr_nccl_check_room(const dpr_comm_nccl_t *comm, const dpr_nccl_link_t *link);
void dpr_nccl_needs(const dpr_comm_t *comm, int channels, int groups, dpr_comm_needs_t *needs);

/* nccl_record.c: dpr_comm_nccl_check_record for this version, coded likewise. */
dpr_status_t dpr_nccl_check_record(int version);

/* nccl_link.c */
dpr_status_t dpr_nccl_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                                   dpr_comm_channel_t **channel);
void dpr_nccl_channel_close(dpr_comm_channel_t *channel);
dpr_status_t dpr_nccl_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                   double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_nccl_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                   double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_nccl_group_open(dpr_comm_t *comm, const int *ranks, int count,
                                 dpr_comm_group_t **group);
void dpr_nccl_group_close(dpr_comm_group_t *group);
dpr_status_t dpr_nccl_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                          dpr_element_t element, double cost_sec,
                                          dpr_stream_t *stream);

/* nccl_measure.c */
dpr_status_t dpr_nccl_measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                   dpr_link_measure_t *measure);

#endif
