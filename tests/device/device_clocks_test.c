/*
 * Clocks of the host device. No test asserts how long anything took on the wall: only relations,
 * and under the virtual clocks exact equality.
 */
#include "device_testing.h"

#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "device/host/host_stream.h"

static double clock_sec(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Burns CPU time and tells how much. */
static void burn_kernel(const void *arguments)
{
    double *const *burned = arguments;
    const double start = clock_sec(CLOCK_THREAD_CPUTIME_ID);
    do {
        **burned = clock_sec(CLOCK_THREAD_CPUTIME_ID) - start;
    } while (**burned < 0.005);
}

/* Sleeps and tells how long it was away. */
static void sleep_kernel(const void *arguments)
{
    double *const *slept = arguments;
    const double start = clock_sec(CLOCK_MONOTONIC);
    (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    **slept = clock_sec(CLOCK_MONOTONIC) - start;
}

static void the_core_clock_counts_cpu_time_and_no_waiting(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_CORE, 0);
    dpr_stream_t *busy = open_stream(device, "busy");
    dpr_stream_t *idle = open_stream(device, "idle");
    dpr_event_t *burned_event = open_event(device);
    dpr_event_t *slept_event = open_event(device);
    dpr_event_t *idle_event = open_event(device);
    latch_t latch = {0};
    double burned = 0.0;
    double slept = 0.0;
    double *burned_at = &burned;
    double *slept_at = &slept;
    assert_ok(dpr_host_stream_launch(busy, burn_kernel, &burned_at, sizeof burned_at));
    assert_ok(dpr_event_record(burned_event, busy));
    assert_ok(dpr_host_stream_launch(busy, sleep_kernel, &slept_at, sizeof slept_at));
    assert_ok(dpr_stream_charge(busy, 100.0)); /* means nothing under this clock */
    assert_ok(dpr_stream_host_op(busy, latch_start, &latch));
    assert_ok(dpr_event_record(slept_event, busy));
    assert_ok(dpr_stream_wait_event(idle, slept_event));
    assert_ok(dpr_event_record(idle_event, idle));
    latch_release(&latch, DPR_OK, 0.0);
    assert_ok(dpr_stream_synchronize(idle));

    const double sleep_cost = dpr_event_sec(slept_event) - dpr_event_sec(burned_event);
    assert_true(burned >= 0.005);
    assert_true(dpr_event_sec(burned_event) >= burned);
    assert_true(sleep_cost >= 0.0);
    assert_true(sleep_cost < slept);
    assert_same_sec(latch.started_sec, dpr_event_sec(slept_event)); /* the operation cost nothing */
    assert_same_sec(dpr_event_sec(idle_event), dpr_event_sec(slept_event));
    dpr_event_destroy(idle_event);
    dpr_event_destroy(slept_event);
    dpr_event_destroy(burned_event);
    dpr_stream_destroy(idle);
    dpr_stream_destroy(busy);
    dpr_device_destroy(device);
}

static void the_core_clock_counts_copies_and_fills(void **state)
{
    (void)state;
    enum { BYTES = 8 << 20 };
    dpr_device_t *device = open_device(DPR_CLOCK_CORE, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *filled = open_event(device);
    dpr_event_t *copied = open_event(device);
    void *from;
    void *to;
    assert_ok(dpr_device_alloc(device, DPR_MEMORY_DEVICE, BYTES, &from));
    assert_ok(dpr_device_alloc(device, DPR_MEMORY_DEVICE, BYTES, &to));
    assert_ok(dpr_stream_fill(stream, from, 1, BYTES));
    assert_ok(dpr_event_record(filled, stream));
    assert_ok(dpr_stream_copy(stream, to, from, BYTES));
    assert_ok(dpr_event_record(copied, stream));
    assert_ok(dpr_stream_synchronize(stream));
    assert_true(dpr_event_sec(filled) > 0.0);
    assert_true(dpr_event_sec(copied) > dpr_event_sec(filled));
    dpr_device_free(device, DPR_MEMORY_DEVICE, to);
    dpr_device_free(device, DPR_MEMORY_DEVICE, from);
    dpr_event_destroy(copied);
    dpr_event_destroy(filled);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void the_wall_clock_orders_events_between_the_calls(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *first = open_stream(device, "first");
    dpr_stream_t *second = open_stream(device, "second");
    dpr_event_t *events[2] = {open_event(device), open_event(device)};
    for (int round = 0; round < 50; round++) {
        dpr_device_clock_rebase(device);
        const double before = dpr_device_wall_sec(device);
        assert_ok(dpr_event_record(events[0], first));
        assert_ok(dpr_stream_wait_event(second, events[0]));
        assert_ok(dpr_event_record(events[1], second));
        assert_ok(dpr_event_synchronize(events[1]));
        const double after = dpr_device_wall_sec(device);
        assert_true(before >= 0.0);
        assert_true(before <= dpr_event_sec(events[0]));
        assert_true(dpr_event_sec(events[0]) <= dpr_event_sec(events[1]));
        assert_true(dpr_event_sec(events[1]) <= after);
        assert_ok(dpr_stream_synchronize(first));
        assert_ok(dpr_stream_synchronize(second));
    }
    dpr_event_destroy(events[1]);
    dpr_event_destroy(events[0]);
    dpr_stream_destroy(second);
    dpr_stream_destroy(first);
    dpr_device_destroy(device);
}

static void a_rebase_sets_streams_and_older_events_to_zero(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_stream_t *other = open_stream(device, "other");
    dpr_event_t *older = open_event(device);
    dpr_event_t *newer = open_event(device);
    assert_ok(dpr_stream_charge(stream, 1.5));
    assert_ok(dpr_event_record(older, stream));
    assert_ok(dpr_stream_synchronize(stream));
    assert_same_sec(dpr_event_sec(older), 1.5);

    dpr_device_clock_rebase(device);
    assert_same_sec(dpr_event_sec(older), 0.0);
    assert_ok(dpr_stream_wait_event(other, older));
    assert_ok(dpr_stream_charge(other, 0.25));
    assert_ok(dpr_event_record(newer, other));
    assert_ok(dpr_event_synchronize(newer));
    assert_same_sec(dpr_event_sec(newer), 0.25);
    assert_ok(dpr_event_record(older, stream)); /* the stream's own time went to zero too */
    assert_ok(dpr_event_synchronize(older));
    assert_same_sec(dpr_event_sec(older), 0.0);
    assert_ok(dpr_stream_wait_event(stream, newer));
    assert_ok(dpr_event_record(older, stream));
    assert_ok(dpr_event_synchronize(older));
    assert_same_sec(dpr_event_sec(older), 0.25);
    dpr_event_destroy(newer);
    dpr_event_destroy(older);
    dpr_stream_destroy(other);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void a_wait_before_any_record_does_not_lift_the_clock(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_stream_t *other = open_stream(device, "other");
    dpr_event_t *later = open_event(device);
    dpr_event_t *end = open_event(device);
    latch_t latch = {0};
    assert_ok(dpr_stream_host_op(stream, latch_start, &latch));
    assert_ok(dpr_stream_wait_event(stream, later)); /* carried out after the record below */
    assert_ok(dpr_event_record(end, stream));
    assert_ok(dpr_stream_charge(other, 5.0));
    assert_ok(dpr_event_record(later, other));
    assert_ok(dpr_stream_synchronize(other));
    latch_release(&latch, DPR_OK, 1.0);
    assert_ok(dpr_event_synchronize(end));
    assert_same_sec(dpr_event_sec(end), 1.0);
    dpr_event_destroy(end);
    dpr_event_destroy(later);
    dpr_stream_destroy(other);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void a_charge_must_be_a_finite_cost(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    assert_int_equal(dpr_stream_charge(stream, -1.0), DPR_ERR_INVALID);
    assert_int_equal(dpr_stream_charge(stream, 1.0 / 0.0), DPR_ERR_INVALID);
    assert_int_equal(dpr_stream_charge(stream, 0.0 / 0.0), DPR_ERR_INVALID);
    assert_ok(dpr_stream_charge(stream, 0.0));
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

/*
 * A random program on six streams, and beside it the longest path by hand: `sec` holds each
 * stream's time as the simulation of the same program would.
 */
enum { STREAMS = 6, OPERATIONS = 240 };

typedef struct random_program {
    dpr_device_t *device;
    dpr_stream_t *streams[STREAMS];
    dpr_event_t *events[OPERATIONS];
    double recorded_sec[OPERATIONS];
    double costs[OPERATIONS];
    double sec[STREAMS];
    uint64_t seed;
} random_program_t;

static size_t draw(const random_program_t *program, uint64_t what, size_t operation, size_t bound)
{
    return (size_t)(dpr_random_bits(program->seed, what, operation) % bound);
}

/* Enqueues one operation and does its arithmetic. Event `i` is recorded once, by operation `i`. */
static void random_operation(random_program_t *program, size_t i)
{
    const size_t s = draw(program, 1, i, STREAMS);
    dpr_stream_t *stream = program->streams[s];
    double *sec = &program->sec[s];
    switch (draw(program, 2, i, 4)) {
    case 0:
        program->costs[i] = dpr_random_uniform(program->seed, 3, i);
        assert_ok(dpr_stream_charge(stream, program->costs[i]));
        *sec += program->costs[i];
        break;
    case 1:
        program->costs[i] = dpr_random_uniform(program->seed, 3, i);
        assert_ok(dpr_stream_host_op(stream, complete_at_once, &program->costs[i]));
        *sec += program->costs[i];
        break;
    default:
        if (i > 0) {
            const size_t awaited = draw(program, 4, i, i);
            assert_ok(dpr_stream_wait_event(stream, program->events[awaited]));
            *sec = *sec < program->recorded_sec[awaited] ? program->recorded_sec[awaited] : *sec;
        }
        break;
    }
    assert_ok(dpr_event_record(program->events[i], stream));
    program->recorded_sec[i] = *sec;
}

static void check_random_program(uint64_t seed, uint64_t chaos_seed)
{
    static random_program_t program;
    program = (random_program_t){.device = open_device(DPR_CLOCK_MODEL, chaos_seed), .seed = seed};
    for (int s = 0; s < STREAMS; s++) {
        program.streams[s] = open_stream(program.device, "random");
    }
    for (int i = 0; i < OPERATIONS; i++) {
        program.events[i] = open_event(program.device);
    }
    for (int round = 0; round < 2; round++) { /* the second with used events and times */
        for (size_t i = 0; i < OPERATIONS; i++) {
            program.recorded_sec[i] = 0.0;
        }
        for (int s = 0; s < STREAMS; s++) {
            program.sec[s] = 0.0;
        }
        for (size_t i = 0; i < OPERATIONS; i++) {
            random_operation(&program, i);
        }
        for (int s = 0; s < STREAMS; s++) {
            assert_ok(dpr_stream_synchronize(program.streams[s]));
        }
        for (size_t i = 0; i < OPERATIONS; i++) {
            assert_same_sec(dpr_event_sec(program.events[i]), program.recorded_sec[i]);
        }
        dpr_device_clock_rebase(program.device);
        program.seed += 1000;
    }
    for (int i = 0; i < OPERATIONS; i++) {
        dpr_event_destroy(program.events[i]);
    }
    for (int s = 0; s < STREAMS; s++) {
        dpr_stream_destroy(program.streams[s]);
    }
    dpr_device_destroy(program.device);
}

static void the_model_clock_is_the_longest_path_to_the_last_bit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        check_random_program(seed, seed % 2 == 0 ? seed : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_core_clock_counts_cpu_time_and_no_waiting),
        cmocka_unit_test(the_core_clock_counts_copies_and_fills),
        cmocka_unit_test(the_wall_clock_orders_events_between_the_calls),
        cmocka_unit_test(a_rebase_sets_streams_and_older_events_to_zero),
        cmocka_unit_test(a_wait_before_any_record_does_not_lift_the_clock),
        cmocka_unit_test(a_charge_must_be_a_finite_cost),
        cmocka_unit_test(the_model_clock_is_the_longest_path_to_the_last_bit),
    };
    return cmocka_run_group_tests_name("device_clocks", tests, NULL, NULL);
}
