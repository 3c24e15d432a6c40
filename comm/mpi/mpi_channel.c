/*
 * Channels over MPI: a rendezvous for every message, whatever its size.
 *
 *      sender                                            receiver
 *      stream reaches send                               stream reaches recv
 *        control {ready, cost, number, bytes} --------->   control in ...
 *        ... control in <------------------------------- control {ready, cost, number, bytes}
 *        (met)                                             posts the payload's receive at once
 *        payload, from the user's buffer ==============>   into the user's buffer
 *      done: met, control and payload gone               done: met, control gone, payload there
 *
 *      both: end = max(sender's ready, receiver's ready) + cost
 *
 * Neither side is done before it has the other's control message, so MPI's eager buffering of small
 * messages never lets a send end before its receive is reached.
 *
 * The control receive is persistent and always posted, but while `came` holds a message not yet
 * used: the other side may begin its next operation while this one is still busy with the last,
 * never the one after. Control messages and payload to one side are told apart by tag; MPI keeps
 * the order of each.
 *
 * Where the sizes disagree both sides know both and fail; the payload's receive, already posted, is
 * met with an empty message, so that the channel stays in step.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"
#include "comm/mpi/mpi_testing.h"
#include "comm/staging.h"

enum { CONTROL_IN, CONTROL_OUT, PAYLOAD, PARTS };

typedef struct control {
    double ready_sec;
    double cost_sec;
    uint64_t number; /* of this operation on the channel */
    uint64_t bytes;
} control_t;

typedef struct mpi_channel {
    dpr_comm_channel_t base;
    dpr_mpi_object_t object;
    dpr_comm_ring_t ring; /* the enqueuing thread's */
    dpr_comm_staging_t staging;
    int number;
    int peer;
    bool sends;

    int slots[PARTS];
    bool open; /* slots are taken and requests live */
    control_t mine;
    control_t theirs;
    bool came; /* `theirs` holds a message that no operation has used */
    uint64_t number_next;

    dpr_comm_op_t *op; /* under way, or NULL; the rest is its state */
    bool met;          /* the other side's control message is used */
    bool told;         /* ours is gone */
    bool moved;        /* nothing of the payload is left to move */
    bool counted;      /* in comm->moving */
    size_t moved_bytes;
    size_t asked_bytes; /* in the message under way */
    dpr_status_t status;
    double end_sec;
} mpi_channel_t;

static dpr_comm_mpi_t *channel_comm(const mpi_channel_t *channel)
{
    return dpr_comm_mpi(channel->base.comm);
}

static mpi_channel_t *object_channel(dpr_mpi_object_t *object)
{
    return (mpi_channel_t *)((char *)object - offsetof(mpi_channel_t, object));
}

static MPI_Request *channel_request(mpi_channel_t *channel, int part)
{
    return &channel_comm(channel)->table.requests[channel->slots[part]];
}

static int control_tag(const mpi_channel_t *channel)
{
    return 2 * channel->number;
}

static int payload_tag(const mpi_channel_t *channel)
{
    return 2 * channel->number + 1;
}

static void complete_op(mpi_channel_t *channel, dpr_status_t status)
{
    dpr_host_op_t *operation = channel->op->operation;
    channel->op = NULL;
    channel_comm(channel)->pending--;
    dpr_mpi_count_moving(channel_comm(channel), &channel->counted, false);
    dpr_host_op_complete(operation, status, channel->end_sec);
}

/* The operation under way ends with an error, and the channel is of no more use. */
static void channel_shut(dpr_mpi_object_t *object)
{
    mpi_channel_t *channel = object_channel(object);
    if (channel->open) {
        channel->open = false;
        dpr_mpi_slots_return(channel_comm(channel), PARTS, channel->slots);
    }
    if (channel->op != NULL) {
        complete_op(channel, DPR_ERR_COMM);
    }
}

/* True, with the channel shut, if `error` is one. */
static bool channel_failed(mpi_channel_t *channel, int error)
{
    if (error != MPI_SUCCESS) {
        char text[MPI_MAX_ERROR_STRING];
        dpr_fail(DPR_ERR_COMM, "rank %d: the channel from rank %d to rank %d failed: %s",
                 channel->base.comm->rank, channel->base.source, channel->base.destination,
                 dpr_mpi_error_text(error, text));
        channel_shut(&channel->object);
    }
    return error != MPI_SUCCESS;
}

/* Posts the next message of the payload: `left` bytes or as many as one message may have. */
static void move_chunk(mpi_channel_t *channel, size_t left)
{
    const dpr_comm_mpi_t *comm = channel_comm(channel);
    const int tag = payload_tag(channel);
    MPI_Request *request = channel_request(channel, PAYLOAD);
    unsigned char *at = channel->op->buffer;
    if (channel->moved_bytes > 0) { /* the buffer may be NULL where there are no bytes */
        at += channel->moved_bytes;
    }
    channel->asked_bytes = left < comm->chunk_bytes ? left : comm->chunk_bytes;
    const int count = (int)channel->asked_bytes;
    if (!channel->sends) {
        (void)channel_failed(
            channel, MPI_Irecv(at, count, MPI_BYTE, channel->peer, tag, comm->channels, request));
    } else if (!channel_failed(channel, MPI_Isend(at, count, MPI_BYTE, channel->peer, tag,
                                                  comm->channels, request))) {
        dpr_mpi_bell_ring(comm, channel->peer);
    }
}

static dpr_status_t check_met(const mpi_channel_t *channel, const control_t *theirs)
{
    const control_t *mine = &channel->mine;
    const dpr_comm_channel_t *base = &channel->base;
    if (mine->number != theirs->number) {
        return dpr_fail(DPR_ERR_COMM,
                        "rank %d: message %llu of the channel from rank %d to rank %d met message "
                        "%llu; the two ends are out of step",
                        base->comm->rank, (unsigned long long)mine->number, base->source,
                        base->destination, (unsigned long long)theirs->number);
    }
    if (mine->bytes != theirs->bytes) {
        return dpr_fail(
            DPR_ERR_MISMATCH,
            "rank %d: message %llu of the channel from rank %d to rank %d is %llu bytes "
            "here and %llu on the other side; enqueue the same size on both",
            base->comm->rank, (unsigned long long)mine->number, base->source, base->destination,
            (unsigned long long)mine->bytes, (unsigned long long)theirs->bytes);
    }
    if (dpr_device_clock(base->comm->device) != DPR_CLOCK_WALL &&
        memcmp(&mine->cost_sec, &theirs->cost_sec, sizeof mine->cost_sec) != 0) {
        return dpr_fail(
            DPR_ERR_MISMATCH,
            "rank %d: message %llu of the channel from rank %d to rank %d costs %.17g s "
            "here and %.17g s on the other side; pass the same cost on both",
            base->comm->rank, (unsigned long long)mine->number, base->source, base->destination,
            mine->cost_sec, theirs->cost_sec);
    }
    return DPR_OK;
}

/* Uses the other side's control message: from here on both sides know the same. */
static void meet(mpi_channel_t *channel)
{
    const control_t theirs = channel->theirs;
    channel->came = false;
    if (channel_failed(channel, MPI_Start(channel_request(channel, CONTROL_IN)))) {
        return;
    }
    const control_t *mine = &channel->mine;
    channel->met = true;
    channel->status = check_met(channel, &theirs);
    channel->end_sec = channel->sends
                           ? dpr_comm_end_sec(mine->ready_sec, theirs.ready_sec, mine->cost_sec)
                           : dpr_comm_end_sec(theirs.ready_sec, mine->ready_sec, mine->cost_sec);
    if (channel->sends) {
        channel->moved = theirs.bytes == 0; /* the receiver waits for no payload then */
        if (!channel->moved) {
            move_chunk(channel, channel->status == DPR_OK ? channel->op->count : 0);
        }
    }
    dpr_mpi_count_moving(channel_comm(channel), &channel->counted,
                         channel->op != NULL && !channel->moved);
}

static void end_when_done(mpi_channel_t *channel)
{
    if (channel->op != NULL && channel->met && channel->told && channel->moved) {
        complete_op(channel, channel->status);
    }
}

static void payload_done(mpi_channel_t *channel, const MPI_Status *status)
{
    int came = 0;
    if (!channel->sends) {
        (void)MPI_Get_count(status, MPI_BYTE, &came);
        if (came > DPR_MPI_SMALL_BYTES) { /* the sender learns from inside MPI that it is done */
            dpr_mpi_bell_ring(channel_comm(channel), channel->peer);
        }
    }
    channel->moved_bytes += channel->asked_bytes;
    const bool cut_short = !channel->sends && (size_t)came < channel->asked_bytes;
    const bool refused = channel->sends && channel->status != DPR_OK;
    channel->moved = cut_short || refused || channel->moved_bytes == channel->op->count;
    if (!channel->moved) {
        move_chunk(channel, channel->op->count - channel->moved_bytes);
    }
}

static void request_done(void *owner, int part, int error, const MPI_Status *status)
{
    mpi_channel_t *channel = owner;
    if (channel_failed(channel, error)) {
        return;
    }
    if (part == CONTROL_IN) {
        channel->came = true;
        if (channel->op != NULL && !channel->met) {
            meet(channel);
        }
    } else if (part == CONTROL_OUT) {
        channel->told = true;
    } else {
        payload_done(channel, status);
    }
    end_when_done(channel);
}

static void begin_op(dpr_comm_post_t *post)
{
    dpr_comm_op_t *op = (dpr_comm_op_t *)post;
    mpi_channel_t *channel = op->owner;
    dpr_comm_mpi_t *comm = channel_comm(channel);
    comm->pending++;
    dpr_mpi_count_moving(comm, &channel->counted, !dpr_mpi_bell_reaches(comm, channel->peer));
    channel->op = op;
    channel->met = false;
    channel->told = false;
    channel->moved = false;
    channel->moved_bytes = 0;
    channel->status = DPR_OK;
    channel->end_sec = op->ready_sec;
    channel->mine = (control_t){.ready_sec = op->ready_sec,
                                .cost_sec = op->cost_sec,
                                .number = channel->number_next++,
                                .bytes = op->count};
    if (!channel->open) { /* it failed before, and that was logged */
        complete_op(channel, DPR_ERR_COMM);
        return;
    }
    if (!channel->sends) { /* first, so that the payload never comes unexpected */
        channel->moved = op->count == 0;
        if (!channel->moved) {
            move_chunk(channel, op->count);
        }
    }
    if (channel->op == NULL ||
        channel_failed(channel, MPI_Start(channel_request(channel, CONTROL_OUT)))) {
        return;
    }
    dpr_mpi_bell_ring(comm, channel->peer);
    if (channel->came) {
        meet(channel);
    }
}

static void start_op(void *argument, dpr_host_op_t *operation, double now_sec)
{
    dpr_comm_op_t *op = argument;
    op->operation = operation;
    op->ready_sec = now_sec;
    dpr_mpi_post(channel_comm(op->owner), &op->post);
}

static dpr_status_t enqueue(dpr_comm_channel_t *base, bool sends, void *buffer, size_t bytes,
                            double cost_sec, dpr_stream_t *stream)
{
    mpi_channel_t *channel = (mpi_channel_t *)base;
    if (channel->sends != sends) {
        return dpr_fail(DPR_ERR_INVALID, "rank %d cannot %s on the channel from rank %d to rank %d",
                        base->comm->rank, sends ? "send" : "receive", base->source,
                        base->destination);
    }
    const dpr_comm_op_t op = {.post.begin = begin_op,
                              .owner = channel,
                              .buffer = buffer,
                              .count = bytes,
                              .cost_sec = cost_sec};
    return sends ? dpr_comm_staged_send(&channel->staging, &channel->ring, &op, start_op, stream)
                 : dpr_comm_staged_recv(&channel->staging, &channel->ring, &op, start_op, stream);
}

dpr_status_t dpr_mpi_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                  double cost_sec, dpr_stream_t *stream)
{
    return enqueue(channel, true, (void *)buffer, bytes, cost_sec, stream);
}

dpr_status_t dpr_mpi_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                  double cost_sec, dpr_stream_t *stream)
{
    return enqueue(channel, false, buffer, bytes, cost_sec, stream);
}

/* The progress thread's part of opening: slots, and the control messages' persistent requests. */
static void begin_open(dpr_comm_mpi_t *comm, void *arguments)
{
    mpi_channel_t *channel = arguments;
    const dpr_status_t status =
        dpr_mpi_slots_take(comm, PARTS, request_done, channel, channel->slots);
    if (status != DPR_OK) {
        dpr_mpi_call_answer(comm, status);
        return;
    }
    const int tag = control_tag(channel);
    int result = MPI_Recv_init(&channel->theirs, sizeof channel->theirs, MPI_BYTE, channel->peer,
                               tag, comm->channels, channel_request(channel, CONTROL_IN));
    if (result == MPI_SUCCESS) {
        result = MPI_Send_init(&channel->mine, sizeof channel->mine, MPI_BYTE, channel->peer, tag,
                               comm->channels, channel_request(channel, CONTROL_OUT));
    }
    if (result == MPI_SUCCESS) {
        result = MPI_Start(channel_request(channel, CONTROL_IN));
    }
    if (result != MPI_SUCCESS) {
        dpr_mpi_slots_return(comm, PARTS, channel->slots);
        (void)dpr_mpi_call_failed(comm, result);
        return;
    }
    channel->open = true;
    dpr_mpi_object_enter(comm, &channel->object);
    dpr_mpi_call_answer(comm, DPR_OK);
}

static void channel_release(dpr_mpi_object_t *object)
{
    mpi_channel_t *channel = object_channel(object);
    dpr_comm_ring_close(&channel->ring);
    dpr_comm_staging_close(&channel->staging);
    free(channel);
}

static dpr_status_t open_end(dpr_comm_mpi_t *comm, mpi_channel_t *channel)
{
    dpr_status_t status;
    DPR_TRY(dpr_comm_ring_open(&channel->ring, comm->base.device));
    DPR_TRY_GOTO(
        dpr_comm_staging_open(&channel->staging, comm->base.device, channel->base.max_bytes),
        close_ring);
    DPR_TRY_GOTO(dpr_mpi_call(comm, begin_open, NULL, channel), close_staging);
    return DPR_OK;

close_staging:
    dpr_comm_staging_close(&channel->staging);
close_ring:
    dpr_comm_ring_close(&channel->ring);
    return status;
}

dpr_status_t dpr_mpi_channel_open(dpr_comm_t *base, int source, int destination, size_t max_bytes,
                                  dpr_comm_channel_t **out)
{
    dpr_comm_mpi_t *comm = dpr_comm_mpi(base);
    const int number = comm->channels_opened++; /* on every rank, so that all agree on tags */
    if (number > (comm->largest_tag - 1) / 2) {
        return dpr_fail(DPR_ERR_COMM, "cannot open more than %d channels: MPI's tags end at %d",
                        number, comm->largest_tag);
    }
    if (base->rank != source && base->rank != destination) {
        *out = NULL;
        return DPR_OK;
    }
    dpr_status_t status;
    mpi_channel_t *channel;
    DPR_TRY(dpr_calloc(1, sizeof *channel, &channel));
    channel->base = (dpr_comm_channel_t){
        .comm = base, .source = source, .destination = destination, .max_bytes = max_bytes};
    channel->object.shut = channel_shut;
    channel->object.release = channel_release;
    channel->number = number;
    channel->sends = base->rank == source;
    channel->peer = channel->sends ? destination : source;
    DPR_TRY_GOTO(open_end(comm, channel), free_channel);
    *out = &channel->base;
    return DPR_OK;

free_channel:
    free(channel);
    return status;
}

void dpr_mpi_channel_close(dpr_comm_channel_t *base)
{
    mpi_channel_t *channel = (mpi_channel_t *)base;
    dpr_mpi_object_close(channel_comm(channel), &channel->object);
}

void dpr_comm_mpi_set_chunk_bytes(dpr_comm_t *comm, size_t bytes)
{
    dpr_comm_mpi(comm)->chunk_bytes = bytes;
}
