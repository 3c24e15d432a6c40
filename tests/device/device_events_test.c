/* Events of the host device: what a wait holds, what it does not, and how many may wait. */
#include "device_testing.h"

#include <stdlib.h>

#include "device/host/host_gate.h"
#include "device/host/host_stream.h"

/* Plain memory on purpose: under the thread sanitizer a missing order is a report, not luck. */
typedef struct move {
    int *to;
    const int *from;
    int add;
} move_t;

static void move_kernel(const void *arguments)
{
    const move_t *move = arguments;
    *move->to = (move->from != NULL ? *move->from : 0) + move->add;
}

static void launch_move(dpr_stream_t *stream, int *to, const int *from, int add)
{
    const move_t move = {.to = to, .from = from, .add = add};
    assert_ok(dpr_host_stream_launch(stream, move_kernel, &move, sizeof move));
}

static void an_event_orders_two_streams(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *writer = open_stream(device, "writer");
    dpr_stream_t *reader = open_stream(device, "reader");
    dpr_event_t *written = open_event(device);
    dpr_event_t *read = open_event(device);
    int shared = 0;
    int copies[300] = {0};
    for (int i = 0; i < 300; i++) {
        assert_ok(
            dpr_stream_wait_event(writer, read)); /* the slot is free; the first holds nothing */
        launch_move(writer, &shared, NULL, i);
        assert_ok(dpr_event_record(written, writer));
        assert_ok(dpr_stream_wait_event(reader, written));
        launch_move(reader, &copies[i], &shared, 1);
        assert_ok(dpr_event_record(read, reader));
    }
    assert_ok(dpr_stream_synchronize(writer));
    assert_ok(dpr_stream_synchronize(reader));
    for (int i = 0; i < 300; i++) {
        assert_int_equal(copies[i], i + 1);
    }
    assert_int_equal(dpr_stream_enqueued(writer), 900);
    assert_int_equal(dpr_stream_enqueued(reader), 900);
    dpr_event_destroy(read);
    dpr_event_destroy(written);
    dpr_stream_destroy(reader);
    dpr_stream_destroy(writer);
    dpr_device_destroy(device);
}

static void a_wait_before_any_record_holds_nothing(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *event = open_event(device);
    int value = 0;
    assert_true(dpr_event_query(event));
    assert_ok(dpr_event_synchronize(event));
    assert_ok(dpr_stream_wait_event(stream, event));
    launch_move(stream, &value, NULL, 4);
    assert_ok(
        dpr_event_record(event, stream)); /* behind the wait, which must not mean this record */
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(value, 4);
    dpr_event_destroy(event);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void a_wait_means_the_latest_record_at_the_time_of_the_call(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *writer = open_stream(device, "writer");
    dpr_stream_t *early = open_stream(device, "early");
    dpr_stream_t *late = open_stream(device, "late");
    dpr_event_t *event = open_event(device);
    latch_t latch = {0};
    int shared = 0;
    int seen_early = 0;
    int seen_late = 0;
    launch_move(writer, &shared, NULL, 1);
    assert_ok(dpr_event_record(event, writer));
    assert_ok(dpr_stream_wait_event(early, event));
    launch_move(early, &seen_early, &shared, 0);
    assert_ok(dpr_stream_synchronize(early));

    /* The second record is held up: who waited for the first goes on, who waits now does not. */
    assert_ok(dpr_stream_host_op(writer, latch_start, &latch));
    launch_move(writer, &shared, NULL, 2);
    assert_ok(dpr_event_record(event, writer));
    assert_ok(dpr_stream_wait_event(late, event));
    launch_move(late, &seen_late, &shared, 0);
    launch_move(early, &seen_early, &seen_early, 10);
    assert_ok(dpr_stream_synchronize(early));
    assert_int_equal(seen_early, 11);
    assert_false(dpr_event_query(event));

    latch_release(&latch, DPR_OK, 0.0);
    assert_ok(dpr_event_synchronize(event));
    assert_true(dpr_event_query(event));
    assert_ok(dpr_stream_synchronize(late));
    assert_int_equal(seen_late, 2);
    dpr_event_destroy(event);
    dpr_stream_destroy(late);
    dpr_stream_destroy(early);
    dpr_stream_destroy(writer);
    dpr_device_destroy(device);
}

static void an_event_moves_to_another_stream_only_when_reached(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *first = open_stream(device, "first");
    dpr_stream_t *second = open_stream(device, "second");
    dpr_event_t *event = open_event(device);
    latch_t latch = {0};
    assert_ok(dpr_stream_host_op(first, latch_start, &latch));
    assert_ok(dpr_event_record(event, first));
    assert_int_equal(dpr_event_record(event, second), DPR_ERR_INVALID);
    latch_release(&latch, DPR_OK, 0.0);
    assert_ok(dpr_event_synchronize(event));
    assert_ok(dpr_event_record(event, second));
    assert_ok(dpr_event_synchronize(event));
    dpr_event_destroy(event);
    dpr_stream_destroy(second);
    dpr_stream_destroy(first);
    dpr_device_destroy(device);
}

static void destroying_an_event_waits_for_its_record(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 5);
    dpr_stream_t *stream = open_stream(device, "stream");
    for (int i = 0; i < 200; i++) {
        dpr_event_t *event = open_event(device);
        assert_ok(dpr_event_record(event, stream));
        dpr_event_destroy(event);
    }
    dpr_event_destroy(NULL);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

typedef struct waiter {
    dpr_event_t *event;
    const int *shared;
    int seen;
} waiter_t;

static void *wait_and_read(void *argument)
{
    waiter_t *waiter = argument;
    (void)dpr_event_synchronize(waiter->event);
    waiter->seen = *waiter->shared;
    return NULL;
}

static void one_record_releases_every_waiter(void **state)
{
    (void)state;
    enum { THREADS = 8, STREAMS = 6 };
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *writer = open_stream(device, "writer");
    dpr_stream_t *readers[STREAMS];
    dpr_event_t *event = open_event(device);
    latch_t latch = {0};
    int shared = 0;
    int seen[STREAMS] = {0};
    waiter_t waiters[THREADS];
    pthread_t threads[THREADS];
    assert_ok(dpr_stream_host_op(writer, latch_start, &latch));
    launch_move(writer, &shared, NULL, 9);
    assert_ok(dpr_event_record(event, writer));
    for (int s = 0; s < STREAMS; s++) {
        readers[s] = open_stream(device, "reader");
        assert_ok(dpr_stream_wait_event(readers[s], event));
        launch_move(readers[s], &seen[s], &shared, 0);
    }
    for (int t = 0; t < THREADS; t++) {
        waiters[t] = (waiter_t){.event = event, .shared = &shared};
        assert_int_equal(pthread_create(&threads[t], NULL, wait_and_read, &waiters[t]), 0);
    }
    latch_release(&latch, DPR_OK, 0.0);
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_int_equal(waiters[t].seen, 9);
    }
    for (int s = 0; s < STREAMS; s++) {
        dpr_stream_destroy(readers[s]);
        assert_int_equal(seen[s], 9);
    }
    dpr_event_destroy(event);
    dpr_stream_destroy(writer);
    dpr_device_destroy(device);
}

typedef struct turns {
    dpr_host_gate_t ping;
    dpr_host_gate_t pong;
    uint32_t first;
    uint32_t count;
} turns_t;

static void *answer(void *argument)
{
    turns_t *turns = argument;
    for (uint32_t i = 1; i <= turns->count; i++) {
        dpr_host_gate_wait(&turns->ping, turns->first + i, 0);
        dpr_host_gate_open(&turns->pong, turns->first + i);
    }
    return NULL;
}

/* Counts have 31 bits in the word and 32 at the callers: both wrap. */
static void gates_keep_counting_where_the_counter_wraps(void **state)
{
    (void)state;
    const uint32_t starts[] = {0, (UINT32_C(1) << 31) - 100, UINT32_MAX - 100};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        turns_t turns = {.first = starts[s], .count = 2000};
        pthread_t thread;
        dpr_host_gate_open(&turns.ping, turns.first);
        dpr_host_gate_open(&turns.pong, turns.first);
        assert_true(dpr_host_gate_passed(&turns.ping, turns.first));
        assert_false(dpr_host_gate_passed(&turns.ping, turns.first + 1));
        assert_int_equal(pthread_create(&thread, NULL, answer, &turns), 0);
        for (uint32_t i = 1; i <= turns.count; i++) {
            dpr_host_gate_open(&turns.ping, turns.first + i);
            dpr_host_gate_wait(&turns.pong, turns.first + i, (int)(i % 3));
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_false(dpr_host_gate_passed(&turns.pong, turns.first + turns.count + 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_orders_two_streams),
        cmocka_unit_test(a_wait_before_any_record_holds_nothing),
        cmocka_unit_test(a_wait_means_the_latest_record_at_the_time_of_the_call),
        cmocka_unit_test(an_event_moves_to_another_stream_only_when_reached),
        cmocka_unit_test(destroying_an_event_waits_for_its_record),
        cmocka_unit_test(one_record_releases_every_waiter),
        cmocka_unit_test(gates_keep_counting_where_the_counter_wraps),
    };
    return cmocka_run_group_tests_name("device_events", tests, NULL, NULL);
}
