/*
 * The blocking calls of the MPI backend. The caller describes one, posts it and sleeps; the
 * progress thread begins it, polls it among everything else and answers:
 *
 *      caller            progress thread
 *      call ---post--->  begin: starts requests in the call's slots
 *      (sleeps)          ...
 *                        done: a request is complete; starts the next, or answers
 *      logs, returns <-- answered
 */
#include <assert.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "comm/futex.h"
#include "comm/mpi/mpi_impl.h"

enum { TAG_GATHER = 1 };

static void begin_call(dpr_comm_post_t *post)
{
    dpr_comm_mpi_t *comm = (dpr_comm_mpi_t *)((char *)post - offsetof(dpr_comm_mpi_t, call) -
                                              offsetof(dpr_mpi_call_t, post));
    comm->pending++;
    comm->call.begin(comm, comm->call.arguments);
}

dpr_status_t dpr_mpi_call(dpr_comm_mpi_t *comm,
                          void (*begin)(dpr_comm_mpi_t *comm, void *arguments),
                          void (*done)(dpr_comm_mpi_t *comm, void *arguments, int part,
                                       const MPI_Status *status),
                          void *arguments)
{
    dpr_mpi_call_t *call = &comm->call;
    call->post.begin = begin_call;
    call->begin = begin;
    call->done = done;
    call->arguments = arguments;
    call->error[0] = '\0';
    atomic_store_explicit(&call->answered, 0, memory_order_relaxed);
    dpr_mpi_post(comm, &call->post);
    dpr_futex_await(&call->answered, 1);
    if (call->error[0] != '\0') {
        return dpr_fail(call->status, "rank %d: %s", comm->base.rank, call->error);
    }
    return call->status;
}

void dpr_mpi_call_answer(dpr_comm_mpi_t *comm, dpr_status_t status)
{
    comm->pending--;
    comm->call.arguments = NULL; /* the caller's, and gone from here on */
    comm->call.status = status;
    dpr_futex_set(&comm->call.answered, 1);
}

bool dpr_mpi_call_failed(dpr_comm_mpi_t *comm, int error)
{
    if (error == MPI_SUCCESS) {
        return false;
    }
    if (comm->call.arguments != NULL) {
        char text[MPI_MAX_ERROR_STRING];
        snprintf(comm->call.error, sizeof comm->call.error, "a call of MPI failed: %s",
                 dpr_mpi_error_text(error, text));
        dpr_mpi_call_answer(comm, DPR_ERR_COMM);
    }
    return true;
}

void dpr_mpi_call_slot_done(void *owner, int part, int error, const MPI_Status *status)
{
    dpr_comm_mpi_t *comm = owner;
    if (comm->call.arguments != NULL && !dpr_mpi_call_failed(comm, error)) {
        comm->call.done(comm, comm->call.arguments, part, status);
    }
}

static void answer_when_done(dpr_comm_mpi_t *comm, void *arguments, int part,
                             const MPI_Status *status)
{
    (void)arguments;
    (void)part;
    (void)status;
    dpr_mpi_call_answer(comm, DPR_OK);
}

static MPI_Request *call_request(dpr_comm_mpi_t *comm, int part)
{
    return &comm->table.requests[comm->call_slots[part]];
}

static void begin_barrier(dpr_comm_mpi_t *comm, void *arguments)
{
    (void)arguments;
    (void)dpr_mpi_call_failed(comm,
                              MPI_Ibarrier(comm->calls, call_request(comm, DPR_MPI_CALL_RECV)));
}

dpr_status_t dpr_mpi_barrier(dpr_comm_t *comm)
{
    int nothing = 0;
    return dpr_mpi_call(dpr_comm_mpi(comm), begin_barrier, answer_when_done, &nothing);
}

typedef struct allgather_call {
    const void *in;
    int bytes;
    void *out;
} allgather_call_t;

static void begin_allgather(dpr_comm_mpi_t *comm, void *arguments)
{
    const allgather_call_t *call = arguments;
    const int result = MPI_Iallgather(call->in, call->bytes, MPI_BYTE, call->out, call->bytes,
                                      MPI_BYTE, comm->calls, call_request(comm, DPR_MPI_CALL_RECV));
    (void)dpr_mpi_call_failed(comm, result);
}

dpr_status_t dpr_mpi_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out)
{
    if (bytes > INT_MAX) {
        return dpr_fail(DPR_ERR_INVALID,
                        "cannot gather %zu bytes from every rank to all: at most %d; split it",
                        bytes, INT_MAX);
    }
    allgather_call_t call = {.in = in, .bytes = (int)bytes, .out = out};
    return dpr_mpi_call(dpr_comm_mpi(comm), begin_allgather, answer_when_done, &call);
}

/*
 * Gather: the root takes one rank after another, and of each one chunk after another, so that
 * neither one rank's bytes nor their sum is bound by MPI's int. Point to point, since MPI's own is
 * bound so.
 */
typedef struct gather_call {
    int root;
    const unsigned char *in;
    unsigned char *out;
    const size_t *bytes;
    int rank;     /* whose bytes are under way */
    size_t moved; /* of them */
    size_t asked; /* in the chunk under way */
} gather_call_t;

static void gather_chunk(dpr_comm_mpi_t *comm, gather_call_t *call)
{
    const size_t left = call->bytes[call->rank] - call->moved;
    call->asked = left < comm->chunk_bytes ? left : comm->chunk_bytes;
    int result;
    if (comm->base.rank == call->root) {
        result = MPI_Irecv(call->out, (int)call->asked, MPI_BYTE, call->rank, TAG_GATHER,
                           comm->calls, call_request(comm, DPR_MPI_CALL_RECV));
    } else {
        result = MPI_Isend(call->in, (int)call->asked, MPI_BYTE, call->root, TAG_GATHER,
                           comm->calls, call_request(comm, DPR_MPI_CALL_SEND));
    }
    (void)dpr_mpi_call_failed(comm, result);
}

static void gather_own(gather_call_t *call)
{
    call->moved = call->bytes[call->root];
    if (call->moved > 0) {
        memcpy(call->out, call->in, call->moved);
        call->out += call->moved;
    }
}

/* The root goes through all ranks, another rank has only itself to see to. */
static void gather_next(dpr_comm_mpi_t *comm, gather_call_t *call)
{
    const bool is_root = comm->base.rank == call->root;
    const int last = is_root ? comm->base.size - 1 : comm->base.rank;
    while (call->rank <= last) {
        if (is_root && call->rank == call->root) {
            gather_own(call);
        }
        if (call->moved < call->bytes[call->rank]) {
            gather_chunk(comm, call);
            return;
        }
        call->rank++;
        call->moved = 0;
    }
    dpr_mpi_call_answer(comm, DPR_OK);
}

static void begin_gather(dpr_comm_mpi_t *comm, void *arguments)
{
    gather_next(comm, arguments);
}

static void gather_done(dpr_comm_mpi_t *comm, void *arguments, int part, const MPI_Status *status)
{
    (void)part;
    (void)status;
    gather_call_t *call = arguments;
    call->moved += call->asked;
    if (comm->base.rank == call->root) {
        call->out += call->asked;
    } else {
        call->in += call->asked;
    }
    gather_next(comm, call);
}

dpr_status_t dpr_mpi_gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                            void *out)
{
    gather_call_t call = {.root = root,
                          .in = in,
                          .out = out,
                          .bytes = bytes,
                          .rank = comm->rank == root ? 0 : comm->rank};
    return dpr_mpi_call(dpr_comm_mpi(comm), begin_gather, gather_done, &call);
}
