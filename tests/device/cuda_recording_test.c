/* Recordings: what is kept, joined streams, times, waits from outside, and errors. */
#include "cuda_testing.h"

enum { BYTES = 256 };

typedef struct bench {
    dpr_stream_t *main;
    dpr_stream_t *side;
    dpr_event_t *fork;
    dpr_event_t *join;
    dpr_event_t *end;
    unsigned char *memory;
    unsigned char *out;
} bench_t;

static bench_t set_up(dpr_device_t *device)
{
    return (bench_t){.main = open_stream(device, "main"),
                     .side = open_stream(device, "side"),
                     .fork = open_event(device),
                     .join = open_event(device),
                     .end = open_event(device),
                     .memory = open_memory(device, DPR_MEMORY_DEVICE, BYTES),
                     .out = open_memory(device, DPR_MEMORY_PINNED, BYTES)};
}

static void tear_down(dpr_device_t *device, bench_t *it)
{
    dpr_stream_destroy(it->main);
    dpr_stream_destroy(it->side);
    dpr_event_destroy(it->fork);
    dpr_event_destroy(it->join);
    dpr_event_destroy(it->end);
    dpr_device_free(device, DPR_MEMORY_DEVICE, it->memory);
    dpr_device_free(device, DPR_MEMORY_PINNED, it->out);
}

/* Half of the memory is filled on each stream, then all is copied out. */
static void enqueue_fork(bench_t *it, int byte)
{
    assert_ok(dpr_stream_fill(it->main, it->memory, 0, BYTES));
    assert_ok(dpr_event_record(it->fork, it->main));
    assert_ok(dpr_stream_wait_event(it->side, it->fork));
    assert_ok(dpr_stream_fill(it->side, it->memory, byte, BYTES / 2));
    assert_ok(dpr_event_record(it->join, it->side));
    assert_ok(dpr_stream_fill(it->main, it->memory + BYTES / 2, byte, BYTES / 2));
    assert_ok(dpr_stream_wait_event(it->main, it->join));
    assert_ok(dpr_stream_copy(it->main, it->out, it->memory, BYTES));
    assert_ok(dpr_event_record(it->end, it->main));
}

static void check_out(bench_t *it, int byte)
{
    for (int i = 0; i < BYTES; i++) {
        assert_int_equal(it->out[i], byte);
    }
}

CUDA_TEST(a_recording_does_the_same_again_with_times)
{
    bench_t it = set_up(device);
    dpr_recording_t *recording = NULL;
    memset(it.out, 1, BYTES);
    assert_ok(dpr_recording_begin(it.main));
    enqueue_fork(&it, 5);
    assert_ok(dpr_recording_end(it.main, &recording));
    assert_ok(dpr_stream_synchronize(it.main));
    assert_ok(dpr_stream_synchronize(it.side));
    check_out(&it, 1); /* kept, not run */
    double last_sec = -1.0;
    for (int i = 0; i < 4; i++) {
        memset(it.out, 0, BYTES);
        assert_ok(dpr_recording_play(recording, it.main));
        if (i == 3) { /* and in order with what is enqueued plainly */
            enqueue_fork(&it, 9);
        }
        assert_ok(dpr_stream_synchronize(it.main));
        check_out(&it, i == 3 ? 9 : 5);
        const double fork_sec = dpr_event_sec(it.fork);
        assert_true(fork_sec > 0.0 && fork_sec >= last_sec); /* 0: never recorded */
        assert_true(dpr_event_sec(it.join) >= fork_sec);
        assert_true(dpr_event_sec(it.end) >= dpr_event_sec(it.join));
        last_sec = dpr_event_sec(it.end);
    }
    dpr_recording_destroy(recording);
    dpr_recording_destroy(NULL);
    tear_down(device, &it);
}

CUDA_TEST(others_wait_for_an_event_inside)
{
    bench_t it = set_up(device);
    dpr_recording_t *recording = NULL;
    unsigned char *copy = open_memory(device, DPR_MEMORY_PINNED, BYTES);
    assert_ok(dpr_recording_begin(it.main));
    enqueue_fork(&it, 6);
    assert_ok(dpr_recording_end(it.main, &recording));
    for (int i = 0; i < 3; i++) {
        memset(copy, 0, BYTES);
        assert_ok(dpr_recording_play(recording, it.main));
        assert_ok(dpr_stream_wait_event(it.side, it.end));
        assert_ok(dpr_stream_copy(it.side, copy, it.memory, BYTES));
        assert_ok(dpr_stream_synchronize(it.side));
        assert_int_equal(copy[0], 6);
        assert_int_equal(copy[BYTES - 1], 6);
    }
    dpr_recording_destroy(recording);
    dpr_device_free(device, DPR_MEMORY_PINNED, copy);
    tear_down(device, &it);
}

/* The recording waits for the event's latest record each time it is played. */
CUDA_TEST(a_recording_waits_for_events_from_outside)
{
    bench_t it = set_up(device);
    dpr_event_t *never = open_event(device);
    dpr_recording_t *recording = NULL;
    assert_ok(dpr_stream_fill(it.side, it.memory, 0, BYTES));
    assert_ok(dpr_event_record(it.fork, it.side));
    assert_ok(dpr_recording_begin(it.main));
    assert_ok(dpr_stream_wait_event(it.main, it.fork));
    assert_ok(dpr_stream_wait_event(it.main, never));
    assert_ok(dpr_stream_copy(it.main, it.out, it.memory, BYTES));
    assert_ok(dpr_event_record(it.end, it.main));
    assert_ok(dpr_recording_end(it.main, &recording));
    for (int i = 1; i < 5; i++) {
        assert_ok(dpr_stream_wait_event(it.side, it.end));
        assert_ok(dpr_stream_fill(it.side, it.memory, i, BYTES));
        assert_ok(dpr_event_record(it.fork, it.side));
        assert_ok(dpr_recording_play(recording, it.main));
        assert_ok(dpr_stream_synchronize(it.main));
        check_out(&it, i);
    }
    dpr_recording_destroy(recording);
    dpr_event_destroy(never);
    tear_down(device, &it);
}

/* After an error in between, end returns it, and the streams are as before. */
static void end_fails(dpr_device_t *device, bench_t *it, dpr_status_t expected)
{
    char text[512];
    dpr_status_t status;
    dpr_recording_t *recording = NULL;
    LOGGED(text, status, dpr_recording_end(it->main, &recording));
    assert_int_equal(status, expected);
    assert_null(recording);
    assert_ok(dpr_stream_synchronize(it->main));
    assert_ok(dpr_stream_synchronize(it->side));
    enqueue_fork(it, 7);
    assert_ok(dpr_stream_synchronize(it->main));
    check_out(it, 7);
    tear_down(device, it);
}

CUDA_TEST(a_host_operation_cannot_be_recorded)
{
    bench_t it = set_up(device);
    char text[512];
    dpr_status_t status;
    latch_t latch = {0};
    assert_ok(dpr_recording_begin(it.main));
    assert_ok(dpr_stream_fill(it.main, it.memory, 1, BYTES));
    LOGGED(text, status, dpr_stream_host_op(it.main, latch_start, &latch));
    assert_int_equal(status, DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(text, "cannot be recorded"));
    end_fails(device, &it, DPR_ERR_UNSUPPORTED);
}

CUDA_TEST(a_stream_left_unjoined_is_an_error)
{
    bench_t it = set_up(device);
    assert_ok(dpr_recording_begin(it.main));
    assert_ok(dpr_event_record(it.fork, it.main));
    assert_ok(dpr_stream_wait_event(it.side, it.fork));
    assert_ok(dpr_stream_fill(it.side, it.memory, 1, BYTES));
    end_fails(device, &it, DPR_ERR_DEVICE);
    cuda_forgive();
}

CUDA_TEST(begin_and_end_come_in_pairs)
{
    bench_t it = set_up(device);
    char text[512];
    dpr_status_t status;
    dpr_recording_t *recording = NULL;
    LOGGED(text, status, dpr_recording_end(it.main, &recording));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_ok(dpr_recording_begin(it.main));
    LOGGED(text, status, dpr_recording_begin(it.side));
    assert_int_equal(status, DPR_ERR_INVALID);
    LOGGED(text, status, dpr_recording_end(it.side, &recording));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_ok(dpr_stream_fill(it.main, it.memory, 1, BYTES));
    assert_ok(dpr_stream_fill(it.side, it.memory, 1, 0)); /* another stream is free meanwhile */
    assert_ok(dpr_recording_end(it.main, &recording));
    dpr_recording_destroy(recording);
    tear_down(device, &it);
}

CUDA_TEST(a_failed_stream_plays_nothing)
{
    bench_t it = set_up(device);
    dpr_recording_t *recording = NULL;
    counted_t failing = {.status = DPR_ERR_COMM};
    memset(it.out, 1, BYTES);
    assert_ok(dpr_recording_begin(it.main));
    enqueue_fork(&it, 5);
    assert_ok(dpr_recording_end(it.main, &recording));
    assert_ok(dpr_stream_host_op(it.main, counted_start, &failing));
    assert_int_equal(dpr_stream_synchronize(it.main), DPR_ERR_COMM);
    assert_ok(dpr_recording_play(recording, it.main));
    assert_int_equal(dpr_stream_synchronize(it.main), DPR_ERR_COMM);
    check_out(&it, 1);
    dpr_recording_destroy(recording);
    tear_down(device, &it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recording_does_the_same_again_with_times_test),
        cmocka_unit_test(others_wait_for_an_event_inside_test),
        cmocka_unit_test(a_recording_waits_for_events_from_outside_test),
        cmocka_unit_test(a_host_operation_cannot_be_recorded_test),
        cmocka_unit_test(a_stream_left_unjoined_is_an_error_test),
        cmocka_unit_test(begin_and_end_come_in_pairs_test),
        cmocka_unit_test(a_failed_stream_plays_nothing_test),
    };
    return cuda_is_there() ? cmocka_run_group_tests_name("cuda_recording", tests, NULL, NULL)
                           : EXIT_NO_GPU;
}
