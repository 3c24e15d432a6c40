/*
 * All-reduce over MPI, point to point, with every element summed in the members' order at one
 * place.
 *
 *   HEADERS   every member tells every other {ready, cost, number, count, type}: all know the
 * latest of the ready times, and all know alike whether the members agree then for each piece of
 * the buffer, so that a scratch of fixed size is enough: SCATTER   member m owns a segment of the
 * piece and receives everyone's copy of it:
 *
 *                 buffer of 0   [ s0 | s1 | s2 ]           scratch of 1   [ s1 of 0 ]
 *                 buffer of 1   [ s0 | s1 | s2 ]   ---->                  [ s1 of 2 ]
 *                 buffer of 2   [ s0 | s1 | s2 ]
 *
 *             and sums in the order 0, 1, 2, its own copy in its place
 *   GATHER    member m sends its sum to all, straight into their buffers
 *
 * Two members, and short pieces, skip GATHER: every member owns the whole piece and sums it itself,
 * in the same order by the same code, so the bits are the same. For two that moves no more bytes.
 *
 * Groups have a tag, not an MPI communicator of their own: making one blocks, and the progress
 * thread must not. Between two members, messages of a group are matched in the order in which both
 * post them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"
#include "comm/staging.h"
#include "comm/sum.h"

enum {
    SCRATCH_BYTES = 4 << 20,
    SHORT_BYTES = 64 << 10, /* up to this many over all members, a second phase costs more */
};

typedef struct header {
    double ready_sec;
    double cost_sec;
    uint64_t number;
    uint64_t count;
    uint64_t whole; /* of the all-reduce that this is a piece of */
    int32_t element;
    int32_t reserved;
} header_t;

typedef enum phase {
    PHASE_HEADERS,
    PHASE_SCATTER,
    PHASE_GATHER,
} phase_t;

typedef struct mpi_group {
    dpr_comm_group_t base;
    dpr_mpi_object_t object;
    dpr_comm_ring_t ring; /* the enqueuing thread's */
    dpr_comm_staging_t staging;
    int tag;
    int *ranks; /* by member */
    int me;

    bool near;              /* every member's sends ring our bell */
    int *slots;             /* 2m: receive from member m, 2m + 1: send to it */
    bool open;              /* slots are taken and requests live */
    header_t *headers;      /* by member, own included */
    unsigned char *scratch; /* SCRATCH_BYTES */
    const void **rows;      /* by member: what is summed */
    uint64_t number_next;

    dpr_comm_op_t *op; /* under way, or NULL; the rest is its state */
    phase_t phase;
    int under_way;     /* requests of this phase */
    size_t piece_from; /* elements */
    size_t piece_count;
    bool whole;   /* every member owns the whole piece */
    bool counted; /* in comm->moving */
    double end_sec;
} mpi_group_t;

typedef struct range {
    size_t from; /* elements, from the start of the buffer */
    size_t count;
} range_t;

static dpr_comm_mpi_t *group_comm(const mpi_group_t *group)
{
    return dpr_comm_mpi(group->base.comm);
}

static mpi_group_t *object_group(dpr_mpi_object_t *object)
{
    return (mpi_group_t *)((char *)object - offsetof(mpi_group_t, object));
}

static void complete_op(mpi_group_t *group, dpr_status_t status)
{
    dpr_host_op_t *operation = group->op->operation;
    group->op = NULL;
    group_comm(group)->pending--;
    dpr_mpi_count_moving(group_comm(group), &group->counted, false);
    dpr_host_op_complete(operation, status, group->end_sec);
}

static void group_shut(dpr_mpi_object_t *object)
{
    mpi_group_t *group = object_group(object);
    if (group->open) {
        group->open = false;
        dpr_mpi_slots_return(group_comm(group), 2 * group->base.size, group->slots);
    }
    if (group->op != NULL) {
        complete_op(group, DPR_ERR_COMM);
    }
}

/* True, with the group shut, if `error` is one. */
static bool group_failed(mpi_group_t *group, int error)
{
    if (error != MPI_SUCCESS) {
        char text[MPI_MAX_ERROR_STRING];
        dpr_fail(DPR_ERR_COMM, "rank %d: group %d of %d ranks failed: %s", group->base.comm->rank,
                 group->tag, group->base.size, dpr_mpi_error_text(error, text));
        group_shut(&group->object);
    }
    return error != MPI_SUCCESS;
}

/* Receives from one member and sends to it, as far as there is anything. */
static bool exchange(mpi_group_t *group, int member, void *in, size_t in_bytes, const void *out,
                     size_t out_bytes)
{
    const dpr_comm_mpi_t *comm = group_comm(group);
    MPI_Request *requests = comm->table.requests;
    if (in_bytes > 0) {
        group->under_way++;
        if (group_failed(group,
                         MPI_Irecv(in, (int)in_bytes, MPI_BYTE, group->ranks[member], group->tag,
                                   comm->groups, &requests[group->slots[2 * member]]))) {
            return false;
        }
    }
    if (out_bytes > 0) {
        group->under_way++;
        if (group_failed(group,
                         MPI_Isend(out, (int)out_bytes, MPI_BYTE, group->ranks[member], group->tag,
                                   comm->groups, &requests[group->slots[2 * member + 1]]))) {
            return false;
        }
        dpr_mpi_bell_ring(comm, group->ranks[member]);
    }
    return true;
}

/* What member `member` owns of the piece under way. */
static range_t owned(const mpi_group_t *group, int member)
{
    if (group->whole) {
        return (range_t){.from = group->piece_from, .count = group->piece_count};
    }
    const size_t members = (size_t)group->base.size;
    const size_t first = group->piece_count * (size_t)member / members;
    const size_t end = group->piece_count * ((size_t)member + 1) / members;
    return (range_t){.from = group->piece_from + first, .count = end - first};
}

static unsigned char *element(const mpi_group_t *group, size_t index)
{
    return (unsigned char *)group->op->buffer + index * dpr_element_bytes(group->op->element);
}

/* Where the copy of our range that comes from `member` is put: rows of scratch, without our own. */
static unsigned char *scratch_row(const mpi_group_t *group, int member)
{
    const size_t row = (size_t)(member < group->me ? member : member - 1);
    return group->scratch +
           row * owned(group, group->me).count * dpr_element_bytes(group->op->element);
}

static void begin_scatter(mpi_group_t *group)
{
    const size_t bytes = dpr_element_bytes(group->op->element);
    const range_t mine = owned(group, group->me);
    group->phase = PHASE_SCATTER;
    for (int member = 0; member < group->base.size; member++) {
        const range_t theirs = owned(group, member);
        if (member != group->me &&
            !exchange(group, member, scratch_row(group, member), mine.count * bytes,
                      element(group, theirs.from), theirs.count * bytes)) {
            return;
        }
    }
}

static void begin_gather(mpi_group_t *group)
{
    const size_t bytes = dpr_element_bytes(group->op->element);
    const range_t mine = owned(group, group->me);
    group->phase = PHASE_GATHER;
    for (int member = 0; member < group->base.size; member++) {
        const range_t theirs = owned(group, member);
        if (member != group->me &&
            !exchange(group, member, element(group, theirs.from), theirs.count * bytes,
                      element(group, mine.from), mine.count * bytes)) {
            return;
        }
    }
}

static void sum_owned(mpi_group_t *group)
{
    const range_t mine = owned(group, group->me);
    for (int member = 0; member < group->base.size; member++) {
        group->rows[member] =
            member == group->me ? element(group, mine.from) : scratch_row(group, member);
    }
    dpr_comm_sum_rows(group->op->element, group->rows, group->base.size, mine.count,
                      element(group, mine.from));
}

/* The piece from element `from` on; the last may be shorter. */
static void begin_piece(mpi_group_t *group, size_t from)
{
    const size_t members = (size_t)group->base.size;
    const size_t left = group->op->count - from;
    const size_t bytes = dpr_element_bytes(group->op->element);
    group->whole = members == 2 || left * bytes * members <= SHORT_BYTES;
    /* Segments are rounded up by an element each, hence one element a member less. */
    const size_t most =
        group->whole ? SCRATCH_BYTES / bytes / (members - 1) : SCRATCH_BYTES / bytes - members;
    group->piece_from = from;
    group->piece_count = left < most ? left : most;
    begin_scatter(group);
}

/* Every member sees the same headers, so every member comes to the same verdict. */
static dpr_status_t check_headers(mpi_group_t *group)
{
    const header_t *first = &group->headers[0];
    const bool timed = dpr_device_clock(group->base.comm->device) != DPR_CLOCK_WALL;
    for (int member = 1; member < group->base.size; member++) {
        const header_t *other = &group->headers[member];
        if (first->number != other->number || first->count != other->count ||
            first->whole != other->whole || first->element != other->element ||
            (timed && memcmp(&first->cost_sec, &other->cost_sec, sizeof first->cost_sec) != 0)) {
            return dpr_fail(DPR_ERR_MISMATCH,
                            "rank %d: all-reduce %llu of group %d: rank %d passed %llu elements of "
                            "type %d at %.17g s, rank %d passed, to its number %llu, %llu elements "
                            "of type %d at %.17g s; all members must pass the same",
                            group->base.comm->rank, (unsigned long long)first->number, group->tag,
                            group->ranks[0], (unsigned long long)first->whole, first->element,
                            first->cost_sec, group->ranks[member],
                            (unsigned long long)other->number, (unsigned long long)other->whole,
                            other->element, other->cost_sec);
        }
    }
    return DPR_OK;
}

static void headers_done(mpi_group_t *group)
{
    double ready_sec = group->headers[0].ready_sec;
    for (int member = 1; member < group->base.size; member++) {
        ready_sec = fmax(ready_sec, group->headers[member].ready_sec);
    }
    group->end_sec = ready_sec + group->op->cost_sec;
    const dpr_status_t status = check_headers(group);
    if (status != DPR_OK || group->op->count == 0) {
        complete_op(group, status);
        return;
    }
    dpr_mpi_count_moving(group_comm(group), &group->counted, true);
    begin_piece(group, 0);
}

/* A phase is over: all that was sent has left and all that was awaited is there. */
static void next_phase(mpi_group_t *group)
{
    if (group->phase == PHASE_HEADERS) {
        headers_done(group);
        return;
    }
    if (group->phase == PHASE_SCATTER) {
        sum_owned(group);
        if (!group->whole) {
            begin_gather(group);
            return;
        }
    }
    const size_t done = group->piece_from + group->piece_count;
    if (done < group->op->count) {
        begin_piece(group, done);
    } else {
        complete_op(group, DPR_OK);
    }
}

/* A phase may have nothing to exchange (fewer elements than members), hence the loop. */
static void go_on(mpi_group_t *group)
{
    while (group->op != NULL && group->under_way == 0) {
        next_phase(group);
    }
}

static void request_done(void *owner, int part, int error, const MPI_Status *status)
{
    int bytes = 0;
    mpi_group_t *group = owner;
    if (!group_failed(group, error)) {
        group->under_way--;
        if (part % 2 == 0 && MPI_Get_count(status, MPI_BYTE, &bytes) == MPI_SUCCESS &&
            bytes > DPR_MPI_SMALL_BYTES) { /* the sender learns from inside MPI that it is done */
            dpr_mpi_bell_ring(group_comm(group), group->ranks[part / 2]);
        }
        go_on(group);
    }
}

static void begin_op(dpr_comm_post_t *post)
{
    dpr_comm_op_t *op = (dpr_comm_op_t *)post;
    mpi_group_t *group = op->owner;
    group_comm(group)->pending++;
    dpr_mpi_count_moving(group_comm(group), &group->counted, !group->near);
    group->op = op;
    group->phase = PHASE_HEADERS;
    group->under_way = 0;
    group->end_sec = op->ready_sec;
    if (!group->open) { /* it failed before, and that was logged */
        complete_op(group, DPR_ERR_COMM);
        return;
    }
    header_t *mine = &group->headers[group->me];
    *mine = (header_t){.ready_sec = op->ready_sec,
                       .cost_sec = op->cost_sec,
                       .number = group->number_next++,
                       .count = op->count,
                       .whole = op->whole,
                       .element = (int32_t)op->element};
    for (int member = 0; member < group->base.size; member++) {
        if (member != group->me &&
            !exchange(group, member, &group->headers[member], sizeof *mine, mine, sizeof *mine)) {
            return;
        }
    }
    go_on(group);
}

static void start_op(void *argument, dpr_host_op_t *operation, double now_sec)
{
    dpr_comm_op_t *op = argument;
    const mpi_group_t *group = op->owner;
    if (group->base.size == 1) { /* its sum is there already */
        dpr_host_op_complete(operation, DPR_OK, now_sec + op->cost_sec);
        return;
    }
    op->operation = operation;
    op->ready_sec = now_sec;
    dpr_mpi_post(group_comm(group), &op->post);
}

dpr_status_t dpr_mpi_group_allreduce_sum(dpr_comm_group_t *base, void *buffer, size_t count,
                                         dpr_element_t element, double cost_sec,
                                         dpr_stream_t *stream)
{
    mpi_group_t *group = (mpi_group_t *)base;
    const dpr_comm_op_t op = {.post.begin = begin_op,
                              .owner = group,
                              .buffer = buffer,
                              .count = count,
                              .whole = count,
                              .element = element,
                              .cost_sec = cost_sec};
    return dpr_comm_staged_sum(&group->staging, &group->ring, &op, start_op, stream);
}

static void begin_open(dpr_comm_mpi_t *comm, void *arguments)
{
    mpi_group_t *group = arguments;
    const dpr_status_t status =
        dpr_mpi_slots_take(comm, 2 * group->base.size, request_done, group, group->slots);
    if (status == DPR_OK) {
        group->open = true;
        dpr_mpi_object_enter(comm, &group->object);
    }
    dpr_mpi_call_answer(comm, status);
}

static void group_release(dpr_mpi_object_t *object)
{
    mpi_group_t *group = object_group(object);
    dpr_comm_ring_close(&group->ring);
    dpr_comm_staging_close(&group->staging);
    free(group->rows);
    free(group->scratch);
    free(group->headers);
    free(group->slots);
    free(group->ranks);
    free(group);
}

static dpr_status_t fill_group(dpr_comm_mpi_t *comm, const int *ranks, mpi_group_t *group)
{
    const size_t members = (size_t)group->base.size;
    DPR_TRY(dpr_calloc(members, sizeof *group->ranks, &group->ranks));
    group->near = true;
    for (size_t member = 0; member < members; member++) {
        group->ranks[member] = ranks[member];
        group->near = group->near && dpr_mpi_bell_reaches(comm, ranks[member]);
    }
    DPR_TRY(dpr_calloc(2 * members, sizeof *group->slots, &group->slots));
    DPR_TRY(dpr_calloc(members, sizeof *group->headers, &group->headers));
    DPR_TRY(dpr_calloc(members, sizeof *group->rows, &group->rows));
    DPR_TRY(dpr_calloc(members > 1 ? SCRATCH_BYTES : 0, 1, &group->scratch));
    DPR_TRY(dpr_comm_ring_open(&group->ring, comm->base.device));
    DPR_TRY(dpr_comm_staging_open(&group->staging, comm->base.device, DPR_COMM_STAGING_SUM_BYTES));
    return dpr_mpi_call(comm, begin_open, NULL, group);
}

dpr_status_t dpr_mpi_group_open(dpr_comm_t *base, const int *ranks, int count,
                                dpr_comm_group_t **out)
{
    dpr_comm_mpi_t *comm = dpr_comm_mpi(base);
    const int tag = comm->groups_opened++; /* on every rank, so that all agree on tags */
    int me = 0;
    if (tag > comm->largest_tag) {
        return dpr_fail(DPR_ERR_COMM, "cannot open more than %d groups: MPI's tags end there", tag);
    }
    while (me < count && ranks[me] != base->rank) {
        me++;
    }
    if (me == count) {
        *out = NULL;
        return DPR_OK;
    }
    mpi_group_t *group;
    DPR_TRY(dpr_calloc(1, sizeof *group, &group));
    group->base = (dpr_comm_group_t){.comm = base, .size = count};
    group->object.shut = group_shut;
    group->object.release = group_release;
    group->tag = tag;
    group->me = me;
    const dpr_status_t status = fill_group(comm, ranks, group);
    if (status != DPR_OK) {
        group_release(&group->object);
        return status;
    }
    *out = &group->base;
    return DPR_OK;
}

void dpr_mpi_group_close(dpr_comm_group_t *base)
{
    mpi_group_t *group = (mpi_group_t *)base;
    dpr_mpi_object_close(group_comm(group), &group->object);
}
