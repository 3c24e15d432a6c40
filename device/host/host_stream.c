/*
 * Streams of the host device, the enqueuing side: each operation becomes a command in the ring (the
 * picture is in host_impl.h). The worker's side is host_worker.c.
 *
 * Priorities are ignored: raising one needs privileges, and workers mostly sleep.
 */
#include "device/host/host_impl.h"

#include <assert.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* BLAS runs on a worker's stack; the rest needs little. */
enum { WORKER_STACK_BYTES = 2 << 20 };

static dpr_host_stream_t *host_stream(const dpr_stream_t *stream)
{
    return (dpr_host_stream_t *)stream;
}

static int stream_spins(const dpr_host_stream_t *stream)
{
    return dpr_host_device(stream->base.device)->spins;
}

/* The next slot, once the worker is done with what it held. */
static dpr_host_command_t *command_begin(dpr_host_stream_t *stream, dpr_host_command_kind_t kind)
{
    dpr_host_gate_wait(&stream->consumed, stream->produced + 1 - DPR_HOST_RING_COMMANDS,
                       stream_spins(stream));
    dpr_host_command_t *command = &stream->ring[stream->produced % DPR_HOST_RING_COMMANDS];
    command->kind = kind;
    return command;
}

static void command_end(dpr_host_stream_t *stream)
{
    stream->produced++;
    dpr_host_gate_open(&stream->published, stream->produced);
}

static void command_end_counted(dpr_host_stream_t *stream)
{
    stream->enqueued++;
    command_end(stream);
}

dpr_status_t dpr_host_stream_launch(dpr_stream_t *stream, dpr_host_kernel_fn_t kernel,
                                    const void *arguments, size_t bytes)
{
    assert(stream->device->ops == &dpr_host_device_ops);
    assert(bytes <= DPR_HOST_KERNEL_ARGUMENT_BYTES);
    dpr_host_stream_t *self = host_stream(stream);
    dpr_host_command_t *command = command_begin(self, DPR_HOST_COMMAND_KERNEL);
    command->target.kernel = kernel;
    if (bytes > 0) {
        memcpy(command->arguments.kernel, arguments, bytes);
    }
    command_end_counted(self);
    return DPR_OK;
}

dpr_status_t dpr_host_stream_copy(dpr_stream_t *stream, void *to, const void *from, size_t bytes)
{
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_COPY);
    command->arguments.copy.to = to;
    command->arguments.copy.from = from;
    command->arguments.copy.bytes = bytes;
    command_end_counted(host_stream(stream));
    return DPR_OK;
}

dpr_status_t dpr_host_stream_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes)
{
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_FILL);
    command->arguments.fill.memory = memory;
    command->arguments.fill.byte = byte;
    command->arguments.fill.bytes = bytes;
    command_end_counted(host_stream(stream));
    return DPR_OK;
}

dpr_status_t dpr_host_stream_charge(dpr_stream_t *stream, double cost_sec)
{
    if (!(cost_sec >= 0.0) || isinf(cost_sec)) {
        return dpr_fail(DPR_ERR_INVALID, "stream %s: cannot charge %g s; a cost is finite and >= 0",
                        host_stream(stream)->name, cost_sec);
    }
    if (stream->device->clock != DPR_CLOCK_MODEL) {
        host_stream(stream)->enqueued++;
        return DPR_OK;
    }
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_CHARGE);
    command->arguments.cost_sec = cost_sec;
    command_end_counted(host_stream(stream));
    return DPR_OK;
}

dpr_status_t dpr_host_stream_wait_event(dpr_stream_t *stream, dpr_event_t *event)
{
    assert(stream->device == event->device);
    uint32_t latest;
    if (!dpr_host_event_latest(event, &latest)) {
        host_stream(stream)->enqueued++; /* holds nothing, so the event may be recorded at once */
        return DPR_OK;
    }
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_WAIT);
    command->target.event = event;
    command->count = latest;
    command_end_counted(host_stream(stream));
    return DPR_OK;
}

void dpr_host_stream_record(dpr_stream_t *stream, dpr_event_t *event, uint32_t count)
{
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_RECORD);
    command->target.event = event;
    command->count = count;
    command_end_counted(host_stream(stream));
}

dpr_status_t dpr_host_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument)
{
    dpr_host_command_t *command = command_begin(host_stream(stream), DPR_HOST_COMMAND_HOST_OP);
    command->target.start = start;
    command->arguments.user = argument;
    command_end_counted(host_stream(stream));
    return DPR_OK;
}

dpr_status_t dpr_host_stream_synchronize(dpr_stream_t *stream)
{
    dpr_host_stream_t *self = host_stream(stream);
    const uint32_t mark = ++self->marked;
    command_begin(self, DPR_HOST_COMMAND_MARK)->count = mark;
    command_end(self);
    dpr_host_gate_wait(&self->marks, mark, stream_spins(self));
    return self->error;
}

uint64_t dpr_host_stream_enqueued(const dpr_stream_t *stream)
{
    return host_stream(stream)->enqueued;
}

/* What a worker blocks: all signals but faults, for those are for the program's own threads. */
static void worker_signals(sigset_t *blocked)
{
    sigfillset(blocked);
    sigdelset(blocked, SIGSEGV);
    sigdelset(blocked, SIGBUS);
    sigdelset(blocked, SIGILL);
    sigdelset(blocked, SIGFPE);
}

static dpr_status_t worker_start(dpr_host_stream_t *stream)
{
    pthread_attr_t attributes;
    sigset_t blocked;
    sigset_t before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        goto fail;
    }
    error = pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    if (error != 0) {
        goto destroy_attributes;
    }
    worker_signals(&blocked);
    error = pthread_sigmask(SIG_BLOCK, &blocked, &before);
    if (error != 0) {
        goto destroy_attributes;
    }
    error = pthread_create(&stream->worker, &attributes, dpr_host_worker_main, stream);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
destroy_attributes:
    (void)pthread_attr_destroy(&attributes);
fail:
    return error == 0 ? DPR_OK
                      : dpr_fail(DPR_ERR_SYSTEM,
                                 "stream %s: cannot start a worker thread: %s; raise the limit on "
                                 "processes (ulimit -u) or run fewer ranks on this node",
                                 stream->name, strerror(error));
}

dpr_status_t dpr_host_stream_create(dpr_device_t *device, const char *name, int priority,
                                    dpr_stream_t **stream)
{
    (void)priority;
    if (strlen(name) >= DPR_HOST_NAME_BYTES) {
        return dpr_fail(DPR_ERR_INVALID, "stream name \"%s\" is longer than %d characters", name,
                        DPR_HOST_NAME_BYTES - 1);
    }
    dpr_host_stream_t *created = aligned_alloc(DPR_HOST_LINE_BYTES, sizeof *created);
    if (created == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "stream %s: cannot allocate its queue of %zu bytes", name,
                        sizeof *created);
    }
    memset(created, 0, sizeof *created); /* also touches the ring's pages: no faults later */
    created->base.device = device;
    created->op.base.device = device;
    strcpy(created->name, name);
    dpr_host_device_t *host = dpr_host_device(device);
    created->chaos.seed = host->chaos_seed;
    created->chaos.stream = atomic_fetch_add(&host->streams_created, 1);
    dpr_status_t status;
    DPR_TRY_GOTO(worker_start(created), free_stream);
    atomic_fetch_add(&host->objects, 1);
    *stream = &created->base;
    return DPR_OK;
free_stream:
    free(created);
    return status;
}

void dpr_host_stream_destroy(dpr_stream_t *stream)
{
    dpr_host_stream_t *self = host_stream(stream);
    (void)command_begin(self, DPR_HOST_COMMAND_EXIT);
    command_end(self);
    (void)pthread_join(self->worker, NULL);
    atomic_fetch_sub(&dpr_host_device(stream->device)->objects, 1);
    free(self);
}
