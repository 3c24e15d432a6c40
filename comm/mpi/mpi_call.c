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
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"

enum { TAG_ALLGATHER, TAG_GATHER };

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
    dpr_mpi_count_moving(comm, &comm->call.counted, false);
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

static MPI_Request *call_request(dpr_comm_mpi_t *comm, int part)
{
    return &comm->table.requests[comm->call_slots[part]];
}

/*
 * All-gather in ceil(log2(size)) steps (Bruck, Ho, Kipnis, Upfal and Weathersby, "Efficient
 * algorithms for all-to-all communications", IEEE TPDS 8(11), 1997, section on concatenation).
 * Every rank keeps the blocks of itself and of those after it, in that order:
 *
 *      distance 1   send block 0 to the rank before, receive block 1 from the rank after
 *      distance 2   send blocks 0-1 to the rank 2 before, receive blocks 2-3 from the rank 2 after
 *      distance 4   ...
 *
 * With blocks of no bytes this is a dissemination barrier. Point to point, and not MPI's
 * nonblocking collectives, because the ranks of a node can then ring each other's bell at every
 * step, and because Open MPI looks after those on every eighth poll only.
 */
typedef struct allgather_call {
    unsigned char *blocks; /* size * bytes, own block first */
    size_t bytes;
    int distance;
    size_t moved;  /* of the bytes of this step */
    size_t asked;  /* in the messages under way */
    int under_way; /* messages */
} allgather_call_t;

static size_t step_bytes(const dpr_comm_mpi_t *comm, const allgather_call_t *call)
{
    const int missing = comm->base.size - call->distance;
    return (size_t)(call->distance < missing ? call->distance : missing) * call->bytes;
}

static void allgather_exchange(dpr_comm_mpi_t *comm, allgather_call_t *call)
{
    const int size = comm->base.size;
    const int before = (comm->base.rank - call->distance + size) % size;
    const int after = (comm->base.rank + call->distance) % size;
    const size_t left = step_bytes(comm, call) - call->moved;
    unsigned char *out = call->blocks + call->moved;
    unsigned char *in = out + (size_t)call->distance * call->bytes;
    call->asked = left < comm->chunk_bytes ? left : comm->chunk_bytes;
    call->under_way = 2;
    const bool near = dpr_mpi_bell_reaches(comm, before) && dpr_mpi_bell_reaches(comm, after);
    dpr_mpi_count_moving(comm, &comm->call.counted, !near || call->asked > DPR_MPI_SMALL_BYTES);
    if (!dpr_mpi_call_failed(comm, MPI_Irecv(in, (int)call->asked, MPI_BYTE, after, TAG_ALLGATHER,
                                             comm->calls, call_request(comm, DPR_MPI_CALL_RECV))) &&
        !dpr_mpi_call_failed(comm, MPI_Isend(out, (int)call->asked, MPI_BYTE, before, TAG_ALLGATHER,
                                             comm->calls, call_request(comm, DPR_MPI_CALL_SEND)))) {
        dpr_mpi_bell_ring(comm, before);
    }
}

static void begin_allgather(dpr_comm_mpi_t *comm, void *arguments)
{
    allgather_call_t *call = arguments;
    if (call->distance < comm->base.size) {
        allgather_exchange(comm, call);
    } else {
        dpr_mpi_call_answer(comm, DPR_OK);
    }
}

static void allgather_done(dpr_comm_mpi_t *comm, void *arguments, int part,
                           const MPI_Status *status)
{
    (void)status;
    allgather_call_t *call = arguments;
    if (part == DPR_MPI_CALL_RECV && call->asked > DPR_MPI_SMALL_BYTES) {
        dpr_mpi_bell_ring(comm, (comm->base.rank + call->distance) % comm->base.size);
    }
    if (--call->under_way > 0) {
        return;
    }
    call->moved += call->asked;
    if (call->moved == step_bytes(comm, call)) {
        call->moved = 0;
        call->distance *= 2;
    }
    begin_allgather(comm, call);
}

dpr_status_t dpr_mpi_barrier(dpr_comm_t *comm)
{
    unsigned char nothing;
    allgather_call_t call = {.blocks = &nothing, .bytes = 0, .distance = 1};
    return dpr_mpi_call(dpr_comm_mpi(comm), begin_allgather, allgather_done, &call);
}

dpr_status_t dpr_mpi_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out)
{
    const size_t size = (size_t)comm->size;
    const size_t rank = (size_t)comm->rank;
    allgather_call_t call = {.bytes = bytes, .distance = 1};
    DPR_TRY(dpr_calloc(size, bytes, &call.blocks));
    if (bytes > 0) {
        memcpy(call.blocks, in, bytes);
    }
    const dpr_status_t status =
        dpr_mpi_call(dpr_comm_mpi(comm), begin_allgather, allgather_done, &call);
    if (status == DPR_OK && bytes > 0) { /* block 0 is this rank's; turn them to rank order */
        unsigned char *to = out;
        memcpy(to + rank * bytes, call.blocks, (size - rank) * bytes);
        memcpy(to, call.blocks + (size - rank) * bytes, rank * bytes);
    }
    free(call.blocks);
    return status;
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
        dpr_mpi_bell_ring(comm, call->root);
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
    dpr_mpi_count_moving(comm, &comm->call.counted, true);
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
        dpr_mpi_bell_ring(comm, call->rank);
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
