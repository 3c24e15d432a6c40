/* The stages whose F, B and F&B dualpipe_bench overlap times. */
#include "apps/bench_pair.h"

#include <string.h>

#include "base/log.h"
#include "base/random.h"

const char *const bench_op_names[BENCH_OPS] = {"F", "B", "F&B", "F&B, two streams"};

enum { FORWARD, BACKWARD };

/* ---- Buffers ---- */

static size_t round_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* One allocation for act_in, act_out, grad_in, grad_out, SAVED and WSTATE; activations and their
 * gradients are random. */
static dpr_status_t make_buffers(bench_pair_t *pair, int which)
{
    const dpr_stage_shape_t *shape = dpr_stage_get_shape(pair->stages[which]);
    const size_t activation = round_up(shape->activation_bytes);
    const size_t saved = round_up(shape->saved_bytes);
    const size_t total = 4 * activation + saved + round_up(shape->wstate_bytes);
    DPR_TRY(
        dpr_device_alloc(pair->machine->device, DPR_MEMORY_DEVICE, total, &pair->memory[which]));
    char *at = pair->memory[which];
    pair->buffers[which] = (dpr_stage_buffers_t){.act_in = (void *)at,
                                                 .act_out = (void *)(at + activation),
                                                 .grad_in = (void *)(at + 2 * activation),
                                                 .grad_out = (void *)(at + 3 * activation),
                                                 .saved = at + 4 * activation,
                                                 .wstate = at + 4 * activation + saved};
    float *values = pair->host;
    for (size_t i = 0; i < shape->activation_bytes / sizeof *values; i++) {
        values[i] = (float)(dpr_random_uniform(1, 6 + (uint64_t)which, i) - 0.5);
    }
    DPR_TRY(dpr_stream_fill(pair->stream, at, 0, total));
    DPR_TRY(dpr_stream_copy(pair->stream, at, values, shape->activation_bytes));
    DPR_TRY(dpr_stream_copy(pair->stream, at + 2 * activation, values, shape->activation_bytes));
    return dpr_stream_synchronize(pair->stream);
}

static dpr_status_t open_streams(bench_pair_t *pair)
{
    dpr_device_t *device = pair->machine->device;
    dpr_kernels_t *kernels = pair->machine->kernels;
    DPR_TRY(dpr_stream_create(device, "compute", 0, &pair->stream));
    DPR_TRY(dpr_stream_create(device, "compute", 0, &pair->second));
    DPR_TRY(kernels->prepare(kernels, pair->stream));
    DPR_TRY(kernels->prepare(kernels, pair->second));
    DPR_TRY(dpr_event_create(device, &pair->begin));
    DPR_TRY(dpr_event_create(device, &pair->end));
    return dpr_event_create(device, &pair->joined);
}

dpr_status_t bench_pair_open(bench_machine_t *machine, const dpr_train_config_t *config,
                             bench_pair_t *pair)
{
    const int blocks = config->blocks > 0 ? config->blocks : 1;
    *pair = (bench_pair_t){.machine = machine,
                           .model = {.input = 1,
                                     .hidden = config->hidden,
                                     .ffn = config->ffn,
                                     .classes = 1,
                                     .blocks = blocks * BENCH_PAIR_STAGES,
                                     .micro_batch_size = config->micro_batch_size,
                                     .seed = config->seed}};
    DPR_TRY(open_streams(pair));
    for (int i = 0; i < 2; i++) {
        DPR_TRY(dpr_stage_create(&pair->model, BENCH_PAIR_STAGES, 1 + i, machine->device,
                                 machine->kernels, pair->stream, &pair->stages[i]));
    }
    DPR_TRY(dpr_device_alloc(machine->device, DPR_MEMORY_PINNED, 2 * bench_pair_message_bytes(pair),
                             &pair->host));
    for (int i = 0; i < 2; i++) {
        DPR_TRY(make_buffers(pair, i));
    }
    double sec; /* a backward needs what its forward has saved */
    DPR_TRY(
        dpr_stage_forward(pair->stages[BACKWARD], pair->stream, &pair->buffers[BACKWARD], 1.0f));
    return bench_pair_time(pair, BENCH_OP_F, &sec);
}

void bench_pair_close(bench_pair_t *pair)
{
    if (pair->machine == NULL) {
        return;
    }
    dpr_stream_destroy(pair->stream);
    dpr_stream_destroy(pair->second);
    dpr_event_destroy(pair->begin);
    dpr_event_destroy(pair->end);
    dpr_event_destroy(pair->joined);
    for (int i = 0; i < 2; i++) {
        dpr_stage_destroy(pair->stages[i]);
        if (pair->memory[i] != NULL) {
            dpr_device_free(pair->machine->device, DPR_MEMORY_DEVICE, pair->memory[i]);
        }
    }
    if (pair->host != NULL) {
        dpr_device_free(pair->machine->device, DPR_MEMORY_PINNED, pair->host);
    }
}

size_t bench_pair_message_bytes(const bench_pair_t *pair)
{
    return dpr_stage_get_shape(pair->stages[FORWARD])->activation_bytes;
}

/* ---- Ops ---- */

/* As the executor plays it: the second stream waits for the op's start, the first for its end. */
static dpr_status_t enqueue_two_streams(bench_pair_t *pair)
{
    DPR_TRY(dpr_stream_wait_event(pair->second, pair->begin));
    DPR_TRY(dpr_stage_forward_backward(pair->stages[FORWARD], &pair->buffers[FORWARD],
                                       pair->stages[BACKWARD], &pair->buffers[BACKWARD],
                                       pair->stream, pair->second, 1.0f));
    DPR_TRY(dpr_event_record(pair->joined, pair->second));
    return dpr_stream_wait_event(pair->stream, pair->joined);
}

static dpr_status_t enqueue(bench_pair_t *pair, bench_op_t op)
{
    switch (op) {
    case BENCH_OP_F:
        return dpr_stage_forward(pair->stages[FORWARD], pair->stream, &pair->buffers[FORWARD],
                                 1.0f);
    case BENCH_OP_B:
        return dpr_stage_backward(pair->stages[BACKWARD], pair->stream, &pair->buffers[BACKWARD]);
    case BENCH_OP_FB:
        return dpr_stage_forward_backward(pair->stages[FORWARD], &pair->buffers[FORWARD],
                                          pair->stages[BACKWARD], &pair->buffers[BACKWARD],
                                          pair->stream, NULL, 1.0f);
    default:
        return enqueue_two_streams(pair);
    }
}

dpr_status_t bench_pair_time(bench_pair_t *pair, bench_op_t op, double *sec)
{
    DPR_TRY(dpr_event_record(pair->begin, pair->stream));
    DPR_TRY(enqueue(pair, op));
    DPR_TRY(dpr_event_record(pair->end, pair->stream));
    DPR_TRY(dpr_stream_synchronize(pair->second));
    DPR_TRY(dpr_stream_synchronize(pair->stream));
    *sec = dpr_event_sec(pair->end) - dpr_event_sec(pair->begin);
    return DPR_OK;
}

/* ---- Correctness ---- */

/* The outputs of both stages, act_out and grad_out, into pinned memory at `to`. */
static dpr_status_t fetch(bench_pair_t *pair, int which, void *to)
{
    const void *from =
        which == FORWARD ? pair->buffers[FORWARD].act_out : pair->buffers[BACKWARD].grad_out;
    DPR_TRY(dpr_stream_copy(pair->stream, to, from, bench_pair_message_bytes(pair)));
    return dpr_stream_synchronize(pair->stream);
}

static dpr_status_t clear(bench_pair_t *pair)
{
    const size_t bytes = bench_pair_message_bytes(pair);
    DPR_TRY(dpr_stream_fill(pair->stream, pair->buffers[FORWARD].act_out, 0xff, bytes));
    return dpr_stream_fill(pair->stream, pair->buffers[BACKWARD].grad_out, 0xff, bytes);
}

/* Whether `op` leaves the same bits as F and B by themselves. */
static dpr_status_t check_op(bench_pair_t *pair, bench_op_t op)
{
    static const char *const what[] = {"activations", "gradients"};
    const size_t bytes = bench_pair_message_bytes(pair);
    char *expected = pair->host;
    char *got = expected + bytes;
    double sec;
    for (int which = 0; which < 2; which++) {
        DPR_TRY(bench_pair_time(pair, which == FORWARD ? BENCH_OP_F : BENCH_OP_B, &sec));
        DPR_TRY(fetch(pair, which, expected));
        DPR_TRY(clear(pair));
        DPR_TRY(bench_pair_time(pair, op, &sec));
        DPR_TRY(fetch(pair, which, got));
        if (memcmp(expected, got, bytes) != 0) {
            return dpr_fail(DPR_ERR_MISMATCH, "%s: the %s differ from those of F and B alone",
                            bench_op_names[op], what[which]);
        }
    }
    return DPR_OK;
}

dpr_status_t bench_pair_check(bench_pair_t *pair)
{
    DPR_TRY(check_op(pair, BENCH_OP_FB));
    return check_op(pair, BENCH_OP_FB_TWO);
}
