/*
 * Channels and groups of the local backend.
 *
 * An end that its stream reaches first leaves its operation with what the ends share and goes; the
 * one that comes last takes them all, moves the bytes and completes every operation with the same
 * time.
 *
 *      sender's worker                 link                   receiver's worker
 *      start ----> waiting[0] = op      |
 *                                       |   both there: <---- start
 *                     complete(op) <--- copy ---> complete(own op)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/local/local_impl.h"
#include "comm/staging.h"
#include "comm/sum.h"

/* Shared by `members` ranks that meet operation by operation; a channel is one of two members, the
 * sender first. */
typedef struct meeting {
    pthread_mutex_t lock;
    int members;
    int present;     /* members that have not closed */
    int arrived;     /* of them, for the operation under way */
    uint64_t number; /* of it */
    const int *ranks;
    dpr_comm_op_t **waiting; /* by member */
    const void **rows;       /* by member, for a sum */
} meeting_t;

/* A member's side. Both kinds of handle begin with their seam's struct. */
typedef struct side {
    union {
        dpr_comm_channel_t channel;
        dpr_comm_group_t group;
    } base;
    dpr_local_object_t object;
    dpr_comm_ring_t ring;
    dpr_comm_staging_t staging;
    meeting_t *meeting;
    int member;
    int *ranks;
} side_t;

static void free_meeting(meeting_t *meeting)
{
    if (meeting != NULL) {
        pthread_mutex_destroy(&meeting->lock);
        free(meeting->waiting);
        free(meeting->rows);
        free((void *)meeting->ranks);
        free(meeting);
    }
}

static dpr_status_t create_meeting(const int *ranks, int members, meeting_t **out)
{
    dpr_status_t status;
    meeting_t *meeting;
    int *copy;
    const size_t count = (size_t)members;
    DPR_TRY(dpr_calloc(1, sizeof *meeting, &meeting));
    pthread_mutex_init(&meeting->lock, NULL);
    meeting->members = members;
    meeting->present = members;
    DPR_TRY_GOTO(dpr_calloc(count, sizeof *meeting->waiting, &meeting->waiting), free_meeting);
    DPR_TRY_GOTO(dpr_calloc(count, sizeof *meeting->rows, &meeting->rows), free_meeting);
    DPR_TRY_GOTO(dpr_calloc(count, sizeof *copy, &copy), free_meeting);
    memcpy(copy, ranks, count * sizeof *copy);
    meeting->ranks = copy;
    *out = meeting;
    return DPR_OK;

free_meeting:
    free_meeting(meeting);
    return status;
}

/* Takes a member's leave: an operation of its that still waits ends with an error. */
static void leave_meeting(meeting_t *meeting, int member)
{
    pthread_mutex_lock(&meeting->lock);
    dpr_comm_op_t *op = meeting->waiting[member];
    meeting->waiting[member] = NULL;
    meeting->arrived -= op != NULL;
    const bool last = --meeting->present == 0;
    pthread_mutex_unlock(&meeting->lock);
    if (op != NULL) {
        dpr_host_op_complete(op->operation, DPR_ERR_COMM, op->ready_sec);
    }
    if (last) {
        free_meeting(meeting);
    }
}

/* True for the member that came last: it has the meeting to itself until it completes the others.
 */
static bool arrive(meeting_t *meeting, int member, dpr_comm_op_t *op)
{
    pthread_mutex_lock(&meeting->lock);
    meeting->waiting[member] = op;
    const bool last = ++meeting->arrived == meeting->members;
    if (last) {
        meeting->arrived = 0;
        meeting->number++;
    }
    pthread_mutex_unlock(&meeting->lock);
    return last;
}

/* A member may be back with its next operation as soon as this one is completed. */
static void complete_all(meeting_t *meeting, dpr_status_t status, double end_sec)
{
    const int members = meeting->members;
    for (int member = 0; member < members; member++) {
        dpr_host_op_t *operation = meeting->waiting[member]->operation;
        meeting->waiting[member] = NULL;
        dpr_host_op_complete(operation, status, end_sec);
    }
}

static dpr_status_t check_alike(const meeting_t *meeting, const char *what, bool timed)
{
    const dpr_comm_op_t *first = meeting->waiting[0];
    for (int member = 1; member < meeting->members; member++) {
        const dpr_comm_op_t *other = meeting->waiting[member];
        if (first->count != other->count || first->whole != other->whole ||
            first->element != other->element ||
            (timed && memcmp(&first->cost_sec, &other->cost_sec, sizeof first->cost_sec) != 0)) {
            return dpr_fail(DPR_ERR_MISMATCH,
                            "%s %llu: rank %d has size %zu, type %d and cost %.17g s, rank %d size "
                            "%zu, type %d and cost %.17g s; all sides must pass the same",
                            what, (unsigned long long)meeting->number - 1, meeting->ranks[0],
                            first->count, (int)first->element, first->cost_sec,
                            meeting->ranks[member], other->count, (int)other->element,
                            other->cost_sec);
        }
    }
    return DPR_OK;
}

static void start_transfer(void *argument, dpr_host_op_t *operation, double now_sec)
{
    dpr_comm_op_t *op = argument;
    const side_t *side = op->owner;
    meeting_t *meeting = side->meeting;
    op->operation = operation;
    op->ready_sec = now_sec;
    if (!arrive(meeting, side->member, op)) {
        return;
    }
    const dpr_comm_op_t *send = meeting->waiting[0];
    const dpr_comm_op_t *receive = meeting->waiting[1];
    const bool timed = dpr_device_clock(side->base.channel.comm->device) != DPR_CLOCK_WALL;
    const dpr_status_t status = check_alike(meeting, "message", timed);
    if (status == DPR_OK && send->count > 0) {
        memcpy(receive->buffer, send->buffer, send->count);
    }
    complete_all(meeting, status,
                 dpr_comm_end_sec(send->ready_sec, receive->ready_sec, send->cost_sec));
}

static void start_allreduce(void *argument, dpr_host_op_t *operation, double now_sec)
{
    dpr_comm_op_t *op = argument;
    const side_t *side = op->owner;
    meeting_t *meeting = side->meeting;
    op->operation = operation;
    op->ready_sec = now_sec;
    if (!arrive(meeting, side->member, op)) {
        return;
    }
    double ready_sec = meeting->waiting[0]->ready_sec;
    for (int member = 0; member < meeting->members; member++) {
        ready_sec = fmax(ready_sec, meeting->waiting[member]->ready_sec);
        meeting->rows[member] = meeting->waiting[member]->buffer;
    }
    const bool timed = dpr_device_clock(side->base.group.comm->device) != DPR_CLOCK_WALL;
    const dpr_status_t status = check_alike(meeting, "all-reduce", timed);
    if (status == DPR_OK && op->count > 0) {
        dpr_comm_sum_rows(op->element, meeting->rows, meeting->members, op->count, op->buffer);
        for (int member = 0; member < meeting->members; member++) {
            if (member != side->member) {
                memcpy(meeting->waiting[member]->buffer, op->buffer,
                       op->count * dpr_element_bytes(op->element));
            }
        }
    }
    complete_all(meeting, status, ready_sec + op->cost_sec);
}

static side_t *object_side(dpr_local_object_t *object)
{
    return (side_t *)((char *)object - offsetof(side_t, object));
}

static void release_side(dpr_local_object_t *object)
{
    side_t *side = object_side(object);
    leave_meeting(side->meeting, side->member);
    dpr_comm_ring_close(&side->ring);
    dpr_comm_staging_close(&side->staging);
    free(side);
}

/*
 * Opens this rank's side of a meeting of the ranks listed: the first of them makes what is shared,
 * and all learn where it is. *out is NULL where this rank is no member. `slot_bytes` is for
 * staging.
 */
static dpr_status_t open_side(dpr_comm_local_t *comm, const int *ranks, int members,
                              size_t slot_bytes, side_t **out)
{
    dpr_status_t status = DPR_OK;
    meeting_t *meeting = NULL;
    meeting_t **all;
    side_t *side;
    int member = 0;
    while (member < members && ranks[member] != comm->base.rank) {
        member++;
    }
    if (member == 0) {
        (void)create_meeting(ranks, members, &meeting); /* a failure is seen by all as NULL */
    }
    DPR_TRY(dpr_calloc((size_t)comm->base.size, sizeof(meeting_t *), &all));
    status = dpr_local_allgather(&comm->base, &meeting, sizeof(meeting_t *), all);
    meeting = all[ranks[0]];
    free(all);
    DPR_TRY(status);
    *out = NULL;
    if (meeting == NULL) {
        return DPR_ERR_MEMORY;
    }
    if (member == members) {
        return DPR_OK;
    }
    DPR_TRY_GOTO(dpr_calloc(1, sizeof *side, &side), leave);
    DPR_TRY_GOTO(dpr_comm_ring_open(&side->ring, comm->base.device), free_side);
    DPR_TRY_GOTO(dpr_comm_staging_open(&side->staging, comm->base.device, slot_bytes), close_ring);
    side->object.release = release_side;
    side->meeting = meeting;
    side->member = member;
    dpr_local_object_enter(comm, &side->object);
    *out = side;
    return DPR_OK;

close_ring:
    dpr_comm_ring_close(&side->ring);
free_side:
    free(side);
leave:
    leave_meeting(meeting, member);
    return status;
}

dpr_status_t dpr_local_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                                    dpr_comm_channel_t **channel)
{
    const int ends[2] = {source, destination};
    side_t *side;
    DPR_TRY(open_side(dpr_comm_local(comm), ends, 2, max_bytes, &side));
    *channel = NULL;
    if (side != NULL) {
        side->base.channel = (dpr_comm_channel_t){
            .comm = comm, .source = source, .destination = destination, .max_bytes = max_bytes};
        *channel = &side->base.channel;
    }
    return DPR_OK;
}

dpr_status_t dpr_local_group_open(dpr_comm_t *comm, const int *ranks, int count,
                                  dpr_comm_group_t **group)
{
    side_t *side;
    DPR_TRY(open_side(dpr_comm_local(comm), ranks, count, DPR_COMM_STAGING_SUM_BYTES, &side));
    *group = NULL;
    if (side != NULL) {
        side->base.group = (dpr_comm_group_t){.comm = comm, .size = count};
        *group = &side->base.group;
    }
    return DPR_OK;
}

void dpr_local_channel_close(dpr_comm_channel_t *channel)
{
    dpr_local_object_close(&((side_t *)channel)->object);
}

void dpr_local_group_close(dpr_comm_group_t *group)
{
    dpr_local_object_close(&((side_t *)group)->object);
}

static dpr_status_t enqueue_transfer(dpr_comm_channel_t *channel, int member, void *buffer,
                                     size_t bytes, double cost_sec, dpr_stream_t *stream)
{
    side_t *side = (side_t *)channel;
    if (side->member != member) {
        return dpr_fail(DPR_ERR_INVALID, "rank %d cannot %s on the channel from rank %d to rank %d",
                        channel->comm->rank, member == 0 ? "send" : "receive", channel->source,
                        channel->destination);
    }
    const dpr_comm_op_t op = {
        .owner = side, .buffer = buffer, .count = bytes, .cost_sec = cost_sec};
    return member == 0
               ? dpr_comm_staged_send(&side->staging, &side->ring, &op, start_transfer, stream)
               : dpr_comm_staged_recv(&side->staging, &side->ring, &op, start_transfer, stream);
}

dpr_status_t dpr_local_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                    double cost_sec, dpr_stream_t *stream)
{
    return enqueue_transfer(channel, 0, (void *)buffer, bytes, cost_sec, stream);
}

dpr_status_t dpr_local_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                    double cost_sec, dpr_stream_t *stream)
{
    return enqueue_transfer(channel, 1, buffer, bytes, cost_sec, stream);
}

dpr_status_t dpr_local_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                           dpr_element_t element, double cost_sec,
                                           dpr_stream_t *stream)
{
    side_t *side = (side_t *)group;
    const dpr_comm_op_t op = {.owner = side,
                              .buffer = buffer,
                              .count = count,
                              .whole = count,
                              .element = element,
                              .cost_sec = cost_sec};
    return dpr_comm_staged_sum(&side->staging, &side->ring, &op, start_allreduce, stream);
}
