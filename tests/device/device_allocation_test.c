/*
 * Nothing is allocated and no mutex is taken between set-up and the end: not by who enqueues, not
 * by the workers. Under sanitizers, which bring their own malloc, there is nothing to test here.
 */
#include "allocations.h"
#include "device/host/host_stream.h"
#include "device_testing.h"

static void nothing_kernel(const void *arguments)
{
    (void)arguments;
}

/* Every kind of operation, often enough to fill the queues many times. */
static void enqueue_everything(dpr_stream_t *streams[2], dpr_event_t *events[2])
{
    char from[64] = {0};
    char to[64];
    double cost = 0.5;
    for (int i = 0; i < 20000; i++) {
        dpr_stream_t *stream = streams[i % 2];
        assert_ok(dpr_stream_wait_event(stream, events[(i + 1) % 2]));
        assert_ok(dpr_host_stream_launch(stream, nothing_kernel, from, sizeof from));
        assert_ok(dpr_stream_charge(stream, 1.0));
        assert_ok(dpr_stream_copy(stream, to, from, sizeof to));
        assert_ok(dpr_stream_fill(stream, to, 0, sizeof to));
        assert_ok(dpr_stream_host_op(stream, complete_at_once, &cost));
        assert_ok(dpr_event_record(events[i % 2], stream));
        if (i % 1000 == 0) {
            assert_ok(dpr_event_synchronize(events[i % 2]));
        }
    }
    assert_ok(dpr_stream_synchronize(streams[0]));
    assert_ok(dpr_stream_synchronize(streams[1]));
}

static void check_clock(dpr_clock_t clock, bool spin)
{
    const dpr_host_device_options_t options = {.clock = clock, .spin = spin};
    dpr_device_t *device;
    assert_ok(dpr_host_device_create(&options, &device));
    dpr_stream_t *streams[2] = {open_stream(device, "first"), open_stream(device, "second")};
    dpr_event_t *events[2] = {open_event(device), open_event(device)};
    assert_ok(dpr_stream_synchronize(streams[0])); /* the workers have started */
    assert_ok(dpr_stream_synchronize(streams[1]));
    const size_t allocations_before = allocations_so_far();
    const size_t locks_before = mutex_locks_so_far();
    enqueue_everything(streams, events);
    const size_t allocations_after = allocations_so_far();
    const size_t locks_after = mutex_locks_so_far();
    assert_true(allocations_before > 0); /* the counting works */
    assert_int_equal(allocations_after, allocations_before);
    assert_int_equal(locks_after, locks_before);
    for (int i = 0; i < 2; i++) {
        dpr_event_destroy(events[i]);
        dpr_stream_destroy(streams[i]);
    }
    dpr_device_destroy(device);
}

static void nothing_is_allocated_or_locked_between_set_up_and_the_end(void **state)
{
    (void)state;
    check_clock(DPR_CLOCK_WALL, false);
    check_clock(DPR_CLOCK_WALL, true);
    check_clock(DPR_CLOCK_CORE, false);
    check_clock(DPR_CLOCK_MODEL, false);
}

int main(void)
{
    if (!allocations_are_counted()) {
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_allocated_or_locked_between_set_up_and_the_end),
    };
    return cmocka_run_group_tests_name("device_allocation", tests, NULL, NULL);
}
