/*
 * NCCL's operations once they are in streams. A communicator's parts take their turn in the order
 * in which they were enqueued. When a part's turn has come and its stream has reached it, its calls
 * are queued with the other ranks'; a send meets its receive, a collective all ranks, and the
 * transfer that they make becomes ready. A part is complete when all its transfers have run.
 */
#include "internal.h"

#include <stdio.h>
#include <string.h>

static pool_t part_pool = {.size = sizeof(nccl_part_t)};
static pool_t sub_pool = {.size = sizeof(nccl_sub_t)};
static pool_t ticket_pool = {.size = sizeof(ticket_t)};

static const char *const names[SUB_KINDS] = {
    [SUB_SEND] = "ncclSend", [SUB_RECV] = "ncclRecv", [SUB_ALLREDUCE] = "ncclAllReduce"};

size_t nccl_type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 0;
    }
}

/* ---- parts ---- */

nccl_sub_t *nccl_sub_create(const nccl_sub_t *values)
{
    nccl_sub_t *sub = pool_take(&sub_pool);
    if (sub != NULL) {
        *sub = *values;
        sub->next = NULL;
    }
    return sub;
}

void nccl_sub_destroy(nccl_sub_t *sub)
{
    pool_give(&sub_pool, sub);
}

nccl_part_t *nccl_part_create(ncclComm_t comm)
{
    nccl_part_t *part = pool_take(&part_pool);
    if (part != NULL) {
        part->comm = comm;
    }
    return part;
}

void nccl_part_destroy(nccl_part_t *part)
{
    if (part == NULL) {
        return;
    }
    while (part->subs != NULL) {
        nccl_sub_t *sub = part->subs;
        part->subs = sub->next;
        nccl_sub_destroy(sub);
    }
    pool_give(&part_pool, part);
}

nccl_part_t *nccl_part_copy(const nccl_part_t *from)
{
    nccl_part_t *part = nccl_part_create(from->comm);
    if (part == NULL) {
        return NULL;
    }
    nccl_sub_t **end = &part->subs;
    for (const nccl_sub_t *sub = from->subs; sub != NULL; sub = sub->next) {
        *end = nccl_sub_create(sub);
        if (*end == NULL) {
            nccl_part_destroy(part);
            return NULL;
        }
        (*end)->part = part;
        end = &(*end)->next;
    }
    return part;
}

/* ---- meeting ---- */

static void queue_add(nccl_sub_t **queue, nccl_sub_t *sub)
{
    while (*queue != NULL) {
        queue = &(*queue)->queued;
    }
    sub->queued = NULL;
    *queue = sub;
    sub->state = SUB_QUEUED;
}

static nccl_sub_t **queue_of(nccl_sub_t *sub)
{
    clique_t *clique = sub->comm->clique;
    const int rank = sub->comm->rank;
    switch (sub->kind) {
    case SUB_SEND:
        return clique_queue(clique, SUB_SEND, rank, sub->peer);
    case SUB_RECV:
        return clique_queue(clique, SUB_RECV, sub->peer, rank);
    default:
        return clique_queue(clique, SUB_ALLREDUCE, 0, rank);
    }
}

static nccl_sub_t *queue_take(nccl_sub_t **queue)
{
    nccl_sub_t *sub = *queue;
    *queue = sub->queued;
    sub->state = SUB_MATCHED;
    return sub;
}

static void start_transfer(nccl_sub_t *lead, struct CUstream_st *stream)
{
    op_t *op = op_create(OP_TRANSFER, names[lead->kind], stream);
    if (op == NULL) {
        standin_misuse("no memory for a transfer");
        return;
    }
    op->transfer = lead;
    op->order = scheduler_next_order();
    op_make_ready(op);
}

static void match_pair(clique_t *clique, int source, int destination)
{
    nccl_sub_t **sends = clique_queue(clique, SUB_SEND, source, destination);
    nccl_sub_t **recvs = clique_queue(clique, SUB_RECV, source, destination);
    while (*sends != NULL && *recvs != NULL) {
        nccl_sub_t *send = queue_take(sends);
        send->match = queue_take(recvs);
        const bool starve_receiver = scheduler_random(2) == 1;
        start_transfer(send, (starve_receiver ? send->match : send)->part->op->stream);
    }
}

static void match_all(clique_t *clique)
{
    for (int rank = 0; rank < clique->ranks; rank++) {
        if (*clique_queue(clique, SUB_ALLREDUCE, 0, rank) == NULL) {
            return;
        }
    }
    nccl_sub_t *next = NULL;
    for (int rank = clique->ranks; rank-- > 0;) {
        nccl_sub_t *sub = queue_take(clique_queue(clique, SUB_ALLREDUCE, 0, rank));
        sub->match = next;
        next = sub;
    }
    start_transfer(next, next->part->op->stream);
}

static void meet(nccl_sub_t *sub)
{
    clique_t *clique = sub->comm->clique;
    queue_add(queue_of(sub), sub);
    if (sub->kind == SUB_SEND) {
        match_pair(clique, sub->comm->rank, sub->peer);
    } else if (sub->kind == SUB_RECV) {
        match_pair(clique, sub->peer, sub->comm->rank);
    } else {
        match_all(clique);
    }
}

/* ---- turns ---- */

static void drop_ticket(ncclComm_t comm, const op_t *op)
{
    ticket_t **link = &comm->first;
    ticket_t *before = NULL;
    while (*link != NULL && (*link)->op != op) {
        before = *link;
        link = &(*link)->next;
    }
    ticket_t *ticket = *link;
    if (ticket == NULL) {
        return;
    }
    *link = ticket->next;
    if (comm->last == ticket) {
        comm->last = before;
    }
    pool_give(&ticket_pool, ticket);
    if (comm->first == NULL) {
        sleeper_wake(&comm->sleepers, UINT64_MAX);
    }
}

static void activate(ncclComm_t comm);

static void finish(nccl_part_t *part)
{
    ncclComm_t comm = part->comm;
    part->arrived = false;
    if (comm->active == part) {
        comm->active = NULL;
    }
    drop_ticket(comm, part->op);
    op_make_ready(part->op);
    activate(comm);
}

/* The turn of the communicator's next part, where its stream has reached it. */
static void activate(ncclComm_t comm)
{
    if (comm->active != NULL || comm->first == NULL) {
        return;
    }
    nccl_part_t *part = comm->first->op->part;
    if (!part->arrived) {
        return;
    }
    comm->active = part;
    for (nccl_sub_t *sub = part->subs; sub != NULL; sub = sub->next) {
        meet(sub);
    }
}

void nccl_part_launch(op_t *op)
{
    ncclComm_t comm = op->part->comm;
    ticket_t *ticket = pool_take(&ticket_pool);
    if (ticket == NULL) {
        standin_misuse("no memory for a turn");
        return;
    }
    op->part->op = op;
    ticket->op = op;
    if (comm->last != NULL) {
        comm->last->next = ticket;
    } else {
        comm->first = ticket;
    }
    comm->last = ticket;
}

static void reach(op_t *op)
{
    nccl_part_t *part = op->part;
    part->arrived = true;
    part->left = 0;
    for (nccl_sub_t *sub = part->subs; sub != NULL; sub = sub->next) {
        sub->state = SUB_WAITING;
        part->left++;
    }
}

void nccl_part_arrive(op_t *op)
{
    reach(op);
    if (op->part->comm->aborted) {
        nccl_part_skip(op);
    } else {
        activate(op->part->comm);
    }
}

/* What a call that was given up leaves behind. */
static void poison(const nccl_sub_t *sub)
{
    int device;
    size_t left;
    const size_t bytes = sub->count * nccl_type_bytes(sub->type);
    if (sub->kind != SUB_SEND && memory_find(sub->to, &device, &left) != MEMORY_NONE &&
        left >= bytes) {
        memset(sub->to, POISON, bytes);
    }
}

void nccl_part_skip(op_t *op)
{
    nccl_part_t *part = op->part;
    if (!part->arrived) {
        reach(op);
    }
    for (nccl_sub_t *sub = part->subs; sub != NULL; sub = sub->next) {
        if (sub->state == SUB_QUEUED) {
            nccl_sub_t **link = queue_of(sub);
            while (*link != sub) {
                link = &(*link)->queued;
            }
            *link = sub->queued;
        }
        if (sub->state == SUB_QUEUED || sub->state == SUB_WAITING || sub->state == SUB_HUNG) {
            poison(sub);
            sub->state = SUB_DONE;
            part->left--;
        }
    }
    if (part->left == 0) {
        finish(part);
    }
}

void nccl_abort_operations(ncclComm_t comm)
{
    comm->aborted = true;
    if (comm->first != NULL && comm->first->op->part->arrived) {
        op_t *op = comm->first->op;
        nccl_part_skip(op);
    }
    for (ticket_t *ticket = comm->first, *next; ticket != NULL; ticket = next) {
        next = ticket->next; /* of streams that have reached theirs out of turn */
        if (ticket->op->part->arrived && ticket->op->part != comm->active) {
            nccl_part_skip(ticket->op);
            next = comm->first;
        }
    }
}

/* ---- transfers ---- */

static bool agree(const nccl_sub_t *a, const nccl_sub_t *b)
{
    if (a->count == b->count && a->type == b->type && a->reduction == b->reduction) {
        return true;
    }
    standin_misuse("%s by rank %d is of %zu elements of type %d, %s by rank %d of %zu of type %d",
                   names[a->kind], a->comm->rank, a->count, (int)a->type, names[b->kind],
                   b->comm->rank, b->count, (int)b->type);
    return false;
}

static bool check(const nccl_sub_t *sub)
{
    const size_t bytes = sub->count * nccl_type_bytes(sub->type);
    const char *name = names[sub->kind];
    const bool reads = sub->kind != SUB_RECV;
    const bool writes = sub->kind != SUB_SEND;
    return (!reads || standin_check_range(sub->comm->device, sub->from, bytes, name)) &&
           (!writes || standin_check_range(sub->comm->device, sub->to, bytes, name));
}

/* Sums in the ranks' order, so that every rank has the same bits every time. */
static void reduce(const nccl_sub_t *lead)
{
    for (size_t i = 0; i < lead->count; i++) {
        float sum_float = 0;
        double sum_double = 0;
        for (const nccl_sub_t *sub = lead; sub != NULL; sub = sub->match) {
            if (lead->type == ncclFloat32) {
                const float value = ((const float *)sub->from)[i];
                sum_float = sub == lead ? value : sum_float + value;
            } else {
                const double value = ((const double *)sub->from)[i];
                sum_double = sub == lead ? value : sum_double + value;
            }
        }
        for (const nccl_sub_t *sub = lead; sub != NULL; sub = sub->match) {
            if (lead->type == ncclFloat32) {
                ((float *)sub->to)[i] = sum_float;
            } else {
                ((double *)sub->to)[i] = sum_double;
            }
        }
    }
}

void nccl_transfer_run(op_t *op)
{
    const nccl_sub_t *lead = op->transfer;
    int error = 0;
    device_set_current(op->device);
    if (standin_operation_fails(op->what, &error)) {
        op->transfer_error = error != 0 ? error : ncclRemoteError;
        return;
    }
    bool fine = check(lead);
    for (const nccl_sub_t *sub = lead->match; sub != NULL; sub = sub->match) {
        fine = check(sub) && agree(lead, sub) && fine;
    }
    if (!fine) {
        return;
    }
    if (lead->kind == SUB_SEND) {
        memmove(lead->match->to, lead->from, lead->count * nccl_type_bytes(lead->type));
    } else {
        reduce(lead);
    }
}

void nccl_transfer_done(op_t *op)
{
    for (nccl_sub_t *sub = op->transfer, *next; sub != NULL; sub = next) {
        next = sub->match;
        sub->match = NULL;
        if (op->transfer_error != 0) {
            sub->comm->async_error = (ncclResult_t)op->transfer_error;
            sub->state = SUB_HUNG;
            if (sub->part->op->skip || sub->comm->aborted) {
                nccl_part_skip(sub->part->op);
            }
        } else {
            sub->state = SUB_DONE;
            if (--sub->part->left == 0) {
                finish(sub->part);
            }
        }
    }
    op_destroy(op);
}

/* ---- for the report of a deadlock ---- */

static const char *stage_of(const nccl_sub_t *sub)
{
    if (!sub->part->arrived) {
        return "its stream has not reached it";
    }
    switch (sub->state) {
    case SUB_WAITING:
        return "its turn has not come";
    case SUB_QUEUED:
        return "waits for the other side";
    case SUB_HUNG:
        return "hangs, as was asked for";
    default:
        return "over";
    }
}

size_t nccl_describe_operations(char *text, size_t size)
{
    size_t used = 0;
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        const struct ncclComm *comm = (const void *)object;
        if (object->kind != OBJECT_COMM || comm->first == NULL) {
            continue;
        }
        const nccl_sub_t *sub = comm->first->op->part->subs;
        for (; sub != NULL && used + 1 < size; sub = sub->next) {
            const int length = snprintf(
                text + used, size - used,
                "\n  NCCL communicator %lu, rank %d of %d: %s of %zu elements, rank %d: %s",
                object->number, comm->rank, comm->ranks, names[sub->kind], sub->count, sub->peer,
                stage_of(sub));
            used += (size_t)length;
        }
    }
    return used < size ? used : size;
}
