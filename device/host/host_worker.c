/*
 * Streams of the host device, the worker's side: one thread per stream that carries out the
 * commands of its ring in order and keeps the stream's virtual time.
 *
 * Time under the virtual clocks is exact arithmetic in double: an addition for each cost, a maximum
 * for each wait and host operation, in the order of the commands. A simulation that does the same
 * additions gets the same bits.
 */
#include "device/host/host_impl.h"

#include <assert.h>
#include <string.h>
#include <time.h>

static dpr_clock_t stream_clock(const dpr_host_stream_t *stream)
{
    return stream->base.device->clock;
}

/* The stream's virtual time, brought into the device's epoch. */
static double *virtual_now(dpr_host_stream_t *stream)
{
    const uint32_t epoch = atomic_load(&dpr_host_device(stream->base.device)->epoch);
    if (stream->now.epoch != epoch) {
        stream->now = (dpr_host_time_t){.sec = 0.0, .epoch = epoch};
    }
    return &stream->now.sec;
}

static void virtual_lift(dpr_host_stream_t *stream, double sec)
{
    double *now = virtual_now(stream);
    if (sec > *now) { /* false for a NaN too */
        *now = sec;
    }
}

/* What the stream's clock shows now, whichever it is. */
static dpr_host_time_t stream_time(dpr_host_stream_t *stream)
{
    const double virtual_sec = *virtual_now(stream);
    return (dpr_host_time_t){.sec = stream_clock(stream) == DPR_CLOCK_WALL
                                        ? dpr_host_wall_sec(stream->base.device)
                                        : virtual_sec,
                             .epoch = stream->now.epoch};
}

static double thread_cpu_sec(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Under chaos the second half comes first, and the first some time later. */
static void copy(dpr_host_stream_t *stream, unsigned char *to, const unsigned char *from,
                 size_t bytes)
{
    const size_t half = stream->chaos.seed != 0 ? bytes / 2 : 0;
    if (bytes > half) {
        memcpy(to + half, from + half, bytes - half);
    }
    if (half > 0) {
        dpr_host_chaos_pause(&stream->chaos);
        memcpy(to, from, half);
    }
}

static void work(dpr_host_stream_t *stream, const dpr_host_command_t *command)
{
    switch (command->kind) {
    case DPR_HOST_COMMAND_KERNEL:
        command->target.kernel(command->arguments.kernel);
        break;
    case DPR_HOST_COMMAND_COPY:
        copy(stream, command->arguments.copy.to, command->arguments.copy.from,
             command->arguments.copy.bytes);
        break;
    default: /* DPR_HOST_COMMAND_FILL */
        if (command->arguments.fill.bytes > 0) {
            memset(command->arguments.fill.memory, command->arguments.fill.byte,
                   command->arguments.fill.bytes);
        }
        break;
    }
}

static void work_timed(dpr_host_stream_t *stream, const dpr_host_command_t *command)
{
    if (stream_clock(stream) != DPR_CLOCK_CORE) {
        work(stream, command);
        return;
    }
    const double start = thread_cpu_sec();
    work(stream, command);
    *virtual_now(stream) += thread_cpu_sec() - start;
}

static void host_op(dpr_host_stream_t *stream, const dpr_host_command_t *command)
{
    dpr_host_pending_op_t *op = &stream->op;
    op->number++;
    command->target.start(command->arguments.user, &op->base, stream_time(stream).sec);
    dpr_host_gate_wait(&op->completed, op->number, dpr_host_device(stream->base.device)->spins);
    if (stream_clock(stream) != DPR_CLOCK_WALL) {
        virtual_lift(stream, op->end_sec);
    }
    stream->error = op->status;
}

void dpr_host_pending_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec)
{
    dpr_host_pending_op_t *op = (dpr_host_pending_op_t *)operation;
    assert(!dpr_host_gate_passed(&op->completed, op->number)); /* completed once */
    op->status = status;
    op->end_sec = end_sec;
    dpr_host_gate_open(&op->completed, op->number);
    /* The worker goes on, and the stream may be gone. */
}

/* Orders are obeyed even by a stream with an error; work is skipped. */
static void execute(dpr_host_stream_t *stream, const dpr_host_command_t *command)
{
    switch (command->kind) {
    case DPR_HOST_COMMAND_KERNEL:
    case DPR_HOST_COMMAND_COPY:
    case DPR_HOST_COMMAND_FILL:
        if (stream->error == DPR_OK) {
            work_timed(stream, command);
        }
        break;
    case DPR_HOST_COMMAND_CHARGE:
        if (stream->error == DPR_OK) {
            *virtual_now(stream) += command->arguments.cost_sec;
        }
        break;
    case DPR_HOST_COMMAND_HOST_OP:
        if (stream->error == DPR_OK) {
            host_op(stream, command);
        }
        break;
    case DPR_HOST_COMMAND_WAIT:
        virtual_lift(stream, dpr_host_event_await(command->target.event, command->count));
        break;
    case DPR_HOST_COMMAND_RECORD:
        dpr_host_event_reach(command->target.event, command->count, stream_time(stream));
        break;
    case DPR_HOST_COMMAND_MARK:
        dpr_host_gate_open(&stream->marks, command->count);
        break;
    case DPR_HOST_COMMAND_EXIT:
        break;
    }
}

void *dpr_host_worker_main(void *argument)
{
    dpr_host_stream_t *stream = argument;
    const int spins = dpr_host_device(stream->base.device)->spins;
    (void)pthread_setname_np(pthread_self(), stream->name);
    for (;;) {
        dpr_host_gate_wait(&stream->published, stream->taken + 1, spins);
        const dpr_host_command_t *command = &stream->ring[stream->taken % DPR_HOST_RING_COMMANDS];
        dpr_host_chaos_pause(&stream->chaos);
        execute(stream, command);
        if (command->kind == DPR_HOST_COMMAND_EXIT) {
            return NULL;
        }
        stream->taken++;
        if (stream->taken % DPR_HOST_CONSUMED_BATCH == 0) {
            dpr_host_gate_open(&stream->consumed, stream->taken);
        }
    }
}
