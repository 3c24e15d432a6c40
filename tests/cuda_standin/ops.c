/* Operations: their life from creation over arrival, blocking and completion to the pool. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pool_t op_pool = {.size = sizeof(op_t)};
static pool_t record_pool = {.size = sizeof(record_t)};

/* The blocked operations: those that wait for others, and those that wait for a value. */
static op_t *blocked[2];
static int deadlocks;

/* ---- records ---- */

record_t *record_create(void)
{
    record_t *record = pool_take(&record_pool);
    if (record != NULL) {
        record->references = 1;
    }
    return record;
}

record_t *record_hold(record_t *record)
{
    record->references++;
    return record;
}

void record_release(record_t *record)
{
    if (record != NULL && --record->references == 0) {
        pool_give(&record_pool, record);
    }
}

void record_reach(record_t *record, bool failed)
{
    record->done = true;
    record->failed = failed;
    record->nsec = now_nsec();
    while (record->waiters != NULL) {
        op_t *op = record->waiters;
        record->waiters = op->next_waiter;
        op_make_ready(op);
    }
    sleeper_wake(&record->sleepers, UINT64_MAX);
}

/* ---- creation ---- */

op_t *op_create(op_kind_t kind, const char *what, struct CUstream_st *stream)
{
    op_t *op = pool_take(&op_pool);
    if (op != NULL) {
        op->kind = kind;
        op->what = what;
        op->stream = stream;
        op->device = stream->device;
    }
    return op;
}

bool op_set_argument(op_t *op, const void *argument, size_t bytes)
{
    void *to = op->argument;
    if (bytes > sizeof(op->argument)) {
        op->large = aligned_alloc(16, (bytes + 15) / 16 * 16);
        to = op->large;
    }
    if (to == NULL) {
        return false;
    }
    op->bytes = bytes;
    if (bytes > 0) {
        memcpy(to, argument, bytes);
    }
    return true;
}

void *op_argument(op_t *op)
{
    return op->large != NULL ? op->large : op->argument;
}

void op_clear(op_t *op)
{
    if (op->kind == OP_RECORD || op->kind == OP_WAIT) {
        record_release(op->record);
    } else if (op->kind == OP_NCCL) {
        nccl_part_destroy(op->part);
    }
    free(op->large);
    op->large = NULL;
}

void op_destroy(op_t *op)
{
    op_clear(op);
    pool_give(&op_pool, op);
}

cudaError_t op_enqueue(op_t *op)
{
    struct CUstream_st *stream = op->stream;
    if (stream->capture != NULL) {
        return capture_add(op);
    }
    if (op->kind == OP_NCCL) {
        nccl_part_launch(op);
    }
    op->order = scheduler_next_order();
    op->next = NULL;
    stream->enqueued++;
    scheduler_count(1);
    if (stream->head == NULL) {
        stream->head = op;
        stream->tail = op;
        op_arrive(op);
    } else {
        stream->tail->next = op;
        stream->tail = op;
    }
    return cudaSuccess;
}

/* ---- blocking ---- */

void op_block(op_t *op)
{
    op_t **list = &blocked[op->kind == OP_VALUE_WAIT];
    op->state = OP_BLOCKED;
    op->blocked_previous = NULL;
    op->blocked_next = *list;
    if (*list != NULL) {
        (*list)->blocked_previous = op;
    }
    *list = op;
}

void op_unblock(op_t *op)
{
    if (op->state != OP_BLOCKED) {
        return;
    }
    if (op->blocked_previous != NULL) {
        op->blocked_previous->blocked_next = op->blocked_next;
    } else {
        blocked[op->kind == OP_VALUE_WAIT] = op->blocked_next;
    }
    if (op->blocked_next != NULL) {
        op->blocked_next->blocked_previous = op->blocked_previous;
    }
}

static bool value_holds(const op_t *op)
{
    const uint32_t now = __atomic_load_n(op->address, __ATOMIC_ACQUIRE);
    switch (op->value_flags & 3U) {
    case CU_STREAM_WAIT_VALUE_GEQ:
        return (int32_t)(now - op->value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
        return now == op->value;
    case CU_STREAM_WAIT_VALUE_AND:
        return (now & op->value) != 0;
    default: /* CU_STREAM_WAIT_VALUE_NOR */
        return ~(now | op->value) != 0;
    }
}

/* The word is gone: the wait is given up. */
static void lose_word(op_t *op)
{
    standin_misuse("%s: stream %lu waits for a value in memory that was freed", op->what,
                   op->stream->object.number);
    op->skip = true;
    op_make_ready(op);
}

void op_values_in(const void *memory, size_t bytes)
{
    for (op_t *op = blocked[1], *next; op != NULL; op = next) {
        next = op->blocked_next;
        if ((uintptr_t)op->address - (uintptr_t)memory < bytes) {
            lose_word(op);
        }
    }
}

void op_poll_values(void)
{
    for (op_t *op = blocked[1], *next; op != NULL; op = next) {
        next = op->blocked_next;
        if (value_holds(op)) {
            op_make_ready(op);
        }
    }
}

bool op_values_blocked(void)
{
    return blocked[1] != NULL;
}

void op_arrive(op_t *op)
{
    op->skip = op->skip || standin_devices[op->device].error != cudaSuccess;
    if (op->kind == OP_NCCL) {
        op_block(op);
        if (op->skip) {
            nccl_part_skip(op);
        } else {
            nccl_part_arrive(op);
        }
    } else if (op->kind == OP_WAIT && !op->skip && op->record != NULL && !op->record->done) {
        op_block(op);
        op->next_waiter = op->record->waiters;
        op->record->waiters = op;
    } else if (op->kind == OP_VALUE_WAIT && !op->skip) {
        int device;
        size_t left;
        if (memory_find(op->address, &device, &left) == MEMORY_NONE) {
            lose_word(op);
        } else {
            op_block(op);
            scheduler_wake();
        }
    } else {
        op_make_ready(op);
    }
}

void op_complete(op_t *op)
{
    if (op->kind == OP_RECORD && op->record != NULL) {
        record_reach(op->record, op->skip);
    }
    if (op->node != NULL) {
        graph_node_done(op->node);
        return;
    }
    struct CUstream_st *stream = op->stream;
    stream->head = op->next;
    stream->completed++;
    op_destroy(op);
    if (stream->head != NULL) {
        op_arrive(stream->head);
    }
    sleeper_wake(&stream->sleepers, stream->completed);
    scheduler_count(-1);
}

/* ---- giving up ---- */

static void give_up(op_t *op)
{
    op->skip = true;
    if (op->kind == OP_WAIT) {
        op_t **link = &op->record->waiters;
        while (*link != op) {
            link = &(*link)->next_waiter;
        }
        *link = op->next_waiter;
    }
    if (op->kind == OP_NCCL) {
        nccl_part_skip(op); /* ready once no transfer of its is under way */
    } else {
        op_make_ready(op);
    }
}

static op_t *first_blocked_on(int device)
{
    for (int list = 0; list < 2; list++) {
        for (op_t *op = blocked[list]; op != NULL; op = op->blocked_next) {
            if (op->device == device && !op->skip) {
                return op;
            }
        }
    }
    return NULL;
}

void device_break(int device, cudaError_t error)
{
    if (standin_devices[device].error == cudaSuccess) {
        standin_devices[device].error = error;
    }
    for (op_t *op = first_blocked_on(device); op != NULL; op = first_blocked_on(device)) {
        give_up(op);
    }
}

/* One line of the report: what the operation waits for. */
static int describe(const op_t *op, char *text, size_t size)
{
    const unsigned long stream = op->stream->object.number;
    switch (op->kind) {
    case OP_WAIT:
        return snprintf(text, size, "\n  device %d, stream %lu: waits for event %lu in stream %lu",
                        op->device, stream, op->record->event,
                        op->record->stream != NULL ? op->record->stream->object.number : 0);
    case OP_VALUE_WAIT:
        return snprintf(text, size, "\n  device %d, stream %lu: waits for a value (now %u, for %u)",
                        op->device, stream, __atomic_load_n(op->address, __ATOMIC_ACQUIRE),
                        op->value);
    default:
        return snprintf(text, size, "\n  device %d, stream %lu: %s", op->device, stream, op->what);
    }
}

void deadlock_report(void)
{
    static char text[4096];
    size_t used = (size_t)snprintf(text, sizeof(text),
                                   "deadlock: nothing has moved for a while, and somebody waits");
    for (int list = 0; list < 2; list++) {
        for (const op_t *op = blocked[list]; op != NULL && used < sizeof(text) / 2;
             op = op->blocked_next) {
            used += (size_t)describe(op, text + used, sizeof(text) - used);
        }
    }
    nccl_describe(text + used, sizeof(text) - used);
    deadlocks++;
    standin_misuse("%s", text);
    bool stuck[MAX_DEVICES] = {false};
    for (int list = 0; list < 2; list++) {
        for (const op_t *op = blocked[list]; op != NULL; op = op->blocked_next) {
            stuck[op->device] = true;
        }
    }
    for (int device = 0; device < MAX_DEVICES; device++) {
        if (stuck[device]) {
            device_break(device, cudaErrorLaunchTimeout);
        }
    }
    nccl_give_up();
}

int standin_deadlocks(void)
{
    standin_lock();
    const int count = deadlocks;
    standin_unlock();
    return count;
}

void ops_reset(void)
{
    deadlocks = 0;
}
