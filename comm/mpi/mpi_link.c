/*
 * Measuring a link: ping-pong between two ranks, led by the lower.
 *
 *      leader                                  follower
 *      hello {bytes, rounds}  <-- crossed -->  hello        (polled, so that waiting burns no core)
 *      t0, empty message  ------------------>
 *                         <------------------  its wall clock      t1; offset = clock - (t0 + t1) /
 * 2
 *      ... warm-up, then `rounds` times; the same with `bytes` both ways ...
 *      result             ------------------>  result, the offset negated
 *
 * After the hello both sides are there and nothing else runs, so the rounds block inside MPI: a
 * poll through the loop would be measured with the link. They are short.
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"

enum { TAG_HELLO = 2, TAG_PING = 3, TAG_PONG = 4, TAG_RESULT = 5, WARM_UP_ROUNDS = 5 };

typedef struct hello {
    uint64_t bytes;
    int32_t rounds;
    int32_t reserved;
} hello_t;

typedef struct link_call {
    int peer;
    hello_t mine;
    hello_t theirs;
    int hellos; /* that crossed: sent and received */
    unsigned char *buffer;
    dpr_link_measure_t measure;
} link_call_t;

/* One message each way; returns the first error. `reply` carries the follower's clock or the bytes.
 */
static int lead_round(MPI_Comm mpi, int peer, void *ping, int ping_bytes, void *pong,
                      int pong_bytes)
{
    const int result = MPI_Send(ping, ping_bytes, MPI_BYTE, peer, TAG_PING, mpi);
    return result != MPI_SUCCESS
               ? result
               : MPI_Recv(pong, pong_bytes, MPI_BYTE, peer, TAG_PONG, mpi, MPI_STATUS_IGNORE);
}

static int lead(dpr_comm_mpi_t *comm, link_call_t *call)
{
    dpr_link_measure_t *measure = &call->measure;
    *measure = (dpr_link_measure_t){.small_sec = INFINITY, .large_sec = INFINITY};
    for (int i = -WARM_UP_ROUNDS; i < call->mine.rounds; i++) {
        double peer_sec = 0.0;
        const double sent_sec = dpr_device_wall_sec(comm->base.device);
        const int result = lead_round(comm->calls, call->peer, NULL, 0, &peer_sec, sizeof peer_sec);
        const double back_sec = dpr_device_wall_sec(comm->base.device);
        if (result != MPI_SUCCESS) {
            return result;
        }
        if (i >= 0 && (back_sec - sent_sec) / 2 < measure->small_sec) {
            measure->small_sec = (back_sec - sent_sec) / 2;
            measure->offset_sec = peer_sec - (sent_sec + back_sec) / 2;
        }
    }
    for (int i = -WARM_UP_ROUNDS; i < call->mine.rounds; i++) {
        const int bytes = (int)call->mine.bytes;
        const double sent_sec = dpr_device_wall_sec(comm->base.device);
        const int result =
            lead_round(comm->calls, call->peer, call->buffer, bytes, call->buffer, bytes);
        const double half_sec = (dpr_device_wall_sec(comm->base.device) - sent_sec) / 2;
        if (result != MPI_SUCCESS) {
            return result;
        }
        if (i >= 0 && half_sec < measure->large_sec) {
            measure->large_sec = half_sec;
        }
    }
    return MPI_Send(measure, sizeof *measure, MPI_BYTE, call->peer, TAG_RESULT, comm->calls);
}

static int follow_round(const dpr_comm_mpi_t *comm, const link_call_t *call, bool small)
{
    const int bytes = small ? 0 : (int)call->mine.bytes;
    int result = MPI_Recv(call->buffer, bytes, MPI_BYTE, call->peer, TAG_PING, comm->calls,
                          MPI_STATUS_IGNORE);
    if (result == MPI_SUCCESS && small) {
        const double now_sec = dpr_device_wall_sec(comm->base.device);
        result = MPI_Send(&now_sec, sizeof now_sec, MPI_BYTE, call->peer, TAG_PONG, comm->calls);
    } else if (result == MPI_SUCCESS) {
        result = MPI_Send(call->buffer, bytes, MPI_BYTE, call->peer, TAG_PONG, comm->calls);
    }
    return result;
}

static int follow(dpr_comm_mpi_t *comm, link_call_t *call)
{
    const int rounds = call->mine.rounds + WARM_UP_ROUNDS;
    for (int i = 0; i < 2 * rounds; i++) {
        const int result = follow_round(comm, call, i < rounds);
        if (result != MPI_SUCCESS) {
            return result;
        }
    }
    const int result = MPI_Recv(&call->measure, sizeof call->measure, MPI_BYTE, call->peer,
                                TAG_RESULT, comm->calls, MPI_STATUS_IGNORE);
    call->measure.offset_sec = -call->measure.offset_sec;
    return result;
}

static void begin_link(dpr_comm_mpi_t *comm, void *arguments)
{
    link_call_t *call = arguments;
    MPI_Request *requests = comm->table.requests;
    int result = MPI_Irecv(&call->theirs, sizeof call->theirs, MPI_BYTE, call->peer, TAG_HELLO,
                           comm->calls, &requests[comm->call_slots[DPR_MPI_CALL_RECV]]);
    dpr_mpi_count_moving(comm, &comm->call.counted, !dpr_mpi_bell_reaches(comm, call->peer));
    if (result == MPI_SUCCESS) {
        result = MPI_Isend(&call->mine, sizeof call->mine, MPI_BYTE, call->peer, TAG_HELLO,
                           comm->calls, &requests[comm->call_slots[DPR_MPI_CALL_SEND]]);
        dpr_mpi_bell_ring(comm, call->peer);
    }
    (void)dpr_mpi_call_failed(comm, result);
}

static void link_hello_done(dpr_comm_mpi_t *comm, void *arguments, int part,
                            const MPI_Status *status)
{
    (void)part;
    (void)status;
    link_call_t *call = arguments;
    if (++call->hellos < 2) {
        return;
    }
    if (call->mine.bytes != call->theirs.bytes || call->mine.rounds != call->theirs.rounds) {
        snprintf(comm->call.error, sizeof comm->call.error,
                 "cannot measure the link to rank %d: %llu bytes and %d rounds here, %llu and %d "
                 "there",
                 call->peer, (unsigned long long)call->mine.bytes, call->mine.rounds,
                 (unsigned long long)call->theirs.bytes, call->theirs.rounds);
        dpr_mpi_call_answer(comm, DPR_ERR_MISMATCH);
        return;
    }
    const int result = comm->base.rank < call->peer ? lead(comm, call) : follow(comm, call);
    if (!dpr_mpi_call_failed(comm, result)) {
        dpr_mpi_call_answer(comm, DPR_OK);
    }
}

dpr_status_t dpr_mpi_measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                  dpr_link_measure_t *measure)
{
    if (bytes > INT_MAX) {
        return dpr_fail(DPR_ERR_INVALID, "cannot measure a link with %zu bytes: at most %d", bytes,
                        INT_MAX);
    }
    link_call_t call = {.peer = peer, .mine = {.bytes = bytes, .rounds = rounds}};
    DPR_TRY(dpr_calloc(bytes, 1, &call.buffer));
    const dpr_status_t status =
        dpr_mpi_call(dpr_comm_mpi(comm), begin_link, link_hello_done, &call);
    free(call.buffer);
    if (status == DPR_OK) {
        *measure = call.measure;
    }
    return status;
}
