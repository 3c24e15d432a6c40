/*
 * What the host device costs: nanoseconds to enqueue an operation, to carry one out, and from a
 * record on one stream to the wait on another.
 *
 *     device_bench [--spin]
 *
 * Every figure is the median and the smallest of ROUNDS rounds. The latency is measured by a chain
 * that goes to and fro between two streams, so it is enqueued beforehand and no enqueuing is in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "device/host/host_stream.h"

enum { ROUNDS = 21, OPERATIONS = 1000, HOPS = 800 };

typedef struct bench {
    dpr_device_t *device;
    dpr_stream_t *streams[2];
    dpr_event_t *events[HOPS + 1];
    dpr_host_op_t *_Atomic held;
} bench_t;

typedef dpr_status_t (*measure_fn_t)(bench_t *bench, double *sec);

static void nothing_kernel(const void *arguments)
{
    (void)arguments;
}

static dpr_status_t launch_many(bench_t *bench)
{
    char arguments[64] = {0};
    for (int i = 0; i < OPERATIONS; i++) {
        DPR_TRY(
            dpr_host_stream_launch(bench->streams[0], nothing_kernel, arguments, sizeof arguments));
    }
    return DPR_OK;
}

static void hold(void *argument, dpr_host_op_t *operation, double now_sec)
{
    bench_t *bench = argument;
    (void)now_sec;
    bench->held = operation;
}

/* Waits until a stream has come to the operation that holds it. */
static dpr_host_op_t *held_operation(bench_t *bench)
{
    dpr_host_op_t *operation;
    while ((operation = bench->held) == NULL) {
    }
    bench->held = NULL;
    return operation;
}

/* With the worker held: the producer's cost alone, no wake in it. */
static dpr_status_t enqueue_held(bench_t *bench, double *sec)
{
    DPR_TRY(dpr_stream_host_op(bench->streams[0], hold, bench));
    dpr_host_op_t *operation = held_operation(bench);
    const double start = dpr_device_wall_sec(bench->device);
    const dpr_status_t status = launch_many(bench);
    *sec = (dpr_device_wall_sec(bench->device) - start) / OPERATIONS;
    dpr_host_op_complete(operation, DPR_OK, 0.0);
    DPR_TRY(status);
    return dpr_stream_synchronize(bench->streams[0]);
}

/* From the first enqueue to the last operation's end. */
static dpr_status_t enqueue_and_run(bench_t *bench, double *sec)
{
    const double start = dpr_device_wall_sec(bench->device);
    DPR_TRY(launch_many(bench));
    DPR_TRY(dpr_stream_synchronize(bench->streams[0]));
    *sec = (dpr_device_wall_sec(bench->device) - start) / OPERATIONS;
    return DPR_OK;
}

/* Full queue, then let go: the worker's cost alone. */
static dpr_status_t run_queued(bench_t *bench, double *sec)
{
    DPR_TRY(dpr_stream_host_op(bench->streams[0], hold, bench));
    DPR_TRY(dpr_event_record(bench->events[0], bench->streams[0]));
    DPR_TRY(launch_many(bench));
    DPR_TRY(dpr_event_record(bench->events[1], bench->streams[0]));
    dpr_host_op_complete(held_operation(bench), DPR_OK, 0.0);
    DPR_TRY(dpr_stream_synchronize(bench->streams[0]));
    *sec = (dpr_event_sec(bench->events[1]) - dpr_event_sec(bench->events[0])) / OPERATIONS;
    return DPR_OK;
}

static dpr_status_t event_hop(bench_t *bench, double *sec)
{
    DPR_TRY(dpr_stream_host_op(bench->streams[0], hold, bench));
    DPR_TRY(dpr_event_record(bench->events[0], bench->streams[0]));
    for (int hop = 1; hop <= HOPS; hop++) {
        dpr_stream_t *stream = bench->streams[hop % 2];
        DPR_TRY(dpr_stream_wait_event(stream, bench->events[hop - 1]));
        DPR_TRY(dpr_event_record(bench->events[hop], stream));
    }
    dpr_host_op_complete(held_operation(bench), DPR_OK, 0.0);
    DPR_TRY(dpr_stream_synchronize(bench->streams[0]));
    DPR_TRY(dpr_stream_synchronize(bench->streams[1]));
    *sec = (dpr_event_sec(bench->events[HOPS]) - dpr_event_sec(bench->events[0])) / HOPS;
    return DPR_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static dpr_status_t report(bench_t *bench, const char *what, measure_fn_t measure)
{
    double sec[ROUNDS];
    for (int round = -2; round < ROUNDS; round++) { /* two to warm up */
        DPR_TRY(measure(bench, &sec[round < 0 ? 0 : round]));
    }
    qsort(sec, ROUNDS, sizeof sec[0], compare_doubles);
    printf("%-36s %10.1f ns   (smallest %.1f)\n", what, 1e9 * sec[ROUNDS / 2], 1e9 * sec[0]);
    return DPR_OK;
}

static dpr_status_t run(bench_t *bench)
{
    DPR_TRY(dpr_stream_create(bench->device, "first", 0, &bench->streams[0]));
    DPR_TRY(dpr_stream_create(bench->device, "second", 0, &bench->streams[1]));
    for (int i = 0; i <= HOPS; i++) {
        DPR_TRY(dpr_event_create(bench->device, &bench->events[i]));
    }
    DPR_TRY(report(bench, "enqueue, worker held", enqueue_held));
    DPR_TRY(report(bench, "enqueue and run, overlapped", enqueue_and_run));
    DPR_TRY(report(bench, "run what is queued", run_queued));
    return report(bench, "event, stream to stream", event_hop);
}

int main(int argc, char **argv)
{
    const bool spin = argc == 2 && strcmp(argv[1], "--spin") == 0;
    static bench_t bench;
    if (argc > (spin ? 2 : 1)) {
        fprintf(stderr, "usage: device_bench [--spin]\n");
        return 2;
    }
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL, .spin = spin};
    dpr_status_t status = dpr_host_device_create(&options, &bench.device);
    if (status == DPR_OK) {
        dpr_device_info_t info;
        dpr_device_info(bench.device, &info);
        printf("%s, workers %s\n", info.name, spin ? "spin before they sleep" : "sleep at once");
        status = run(&bench);
        dpr_stream_destroy(bench.streams[0]);
        dpr_stream_destroy(bench.streams[1]);
        for (int i = 0; i <= HOPS; i++) {
            dpr_event_destroy(bench.events[i]);
        }
        dpr_device_destroy(bench.device);
    }
    if (status != DPR_OK) {
        fprintf(stderr, "device_bench: %s\n", dpr_status_text(status));
    }
    return status == DPR_OK ? 0 : 1;
}
