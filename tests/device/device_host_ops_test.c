/* Host operations: who may complete them, and what an error does to the stream. */
#include "device_testing.h"

#include "device/host/host_stream.h"

static void count_kernel(const void *arguments)
{
    int *const *counter = arguments;
    ++**counter;
}

static void launch_count(dpr_stream_t *stream, int *counter)
{
    assert_ok(dpr_host_stream_launch(stream, count_kernel, &counter, sizeof counter));
}

static void the_stream_goes_on_when_another_thread_completes(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    check_another_thread_completes(device, 200, true);
    dpr_device_destroy(device);
}

static void an_operation_may_complete_inside_its_start(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *event = open_event(device);
    double cost = 0.25;
    for (int i = 0; i < 5000; i++) {
        assert_ok(dpr_stream_host_op(stream, complete_at_once, &cost));
    }
    assert_ok(dpr_event_record(event, stream));
    assert_ok(dpr_stream_synchronize(stream));
    assert_same_sec(dpr_event_sec(event), 1250.0);
    dpr_event_destroy(event);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void a_virtual_clock_is_lifted_and_never_lowered(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *event = open_event(device);
    const double ends[] = {5.0, 3.0, NAN, 6.0};
    const double expected[] = {5.0, 5.0, 5.0, 6.0};
    assert_ok(dpr_stream_charge(stream, 2.0));
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        latch_t latch = {0};
        assert_ok(dpr_stream_host_op(stream, latch_start, &latch));
        (void)latch_await(&latch);
        assert_same_sec(latch.started_sec, i == 0 ? 2.0 : expected[i - 1]);
        latch_release(&latch, DPR_OK, ends[i]);
        assert_ok(dpr_event_record(event, stream));
        assert_ok(dpr_stream_synchronize(stream));
        assert_same_sec(dpr_event_sec(event), expected[i]);
    }
    dpr_event_destroy(event);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void check_error(uint64_t chaos_seed)
{
    dpr_device_t *device = open_device(DPR_CLOCK_MODEL, chaos_seed);
    dpr_stream_t *failing = open_stream(device, "failing");
    dpr_stream_t *other = open_stream(device, "other");
    dpr_event_t *event = open_event(device);
    latch_t latch = {0};
    int before = 0;
    int after = 0;
    counted_t later = {.status = DPR_ERR_DEVICE};
    int others = 0;
    char text[8] = "unspoilt";
    launch_count(failing, &before);
    assert_ok(dpr_stream_charge(failing, 1.0));
    assert_ok(dpr_stream_host_op(failing, latch_start, &latch));
    launch_count(failing, &after);
    assert_ok(dpr_stream_charge(failing, 64.0));
    assert_ok(dpr_stream_fill(failing, text, 0, sizeof text));
    assert_ok(dpr_stream_copy(failing, text, "replaced", sizeof text));
    assert_ok(dpr_stream_host_op(failing, counted_start, &later));
    assert_ok(dpr_event_record(event, failing));
    assert_ok(dpr_stream_wait_event(other, event));
    launch_count(other, &others);
    latch_release(&latch, DPR_ERR_COMM, 3.0);

    assert_ok(dpr_stream_synchronize(other)); /* passes, and keeps its own health */
    assert_int_equal(dpr_stream_synchronize(failing), DPR_ERR_COMM);
    assert_int_equal(dpr_stream_synchronize(failing), DPR_ERR_COMM); /* it sticks */
    assert_int_equal(before, 1);
    assert_int_equal(after, 0);
    assert_int_equal(later.starts, 0);
    assert_int_equal(others, 1);
    assert_memory_equal(text, "unspoilt", sizeof text);
    assert_same_sec(dpr_event_sec(event), 3.0);
    dpr_event_destroy(event);
    dpr_stream_destroy(other);
    dpr_stream_destroy(failing);
    dpr_device_destroy(device);
}

static void an_error_skips_work_but_passes_events(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        check_error(seed);
    }
}

static void a_failing_start_marks_the_stream(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "stream");
    counted_t failing = {.status = DPR_ERR_DEVICE};
    assert_ok(dpr_stream_host_op(stream, counted_start, &failing));
    assert_ok(dpr_stream_host_op(stream, counted_start, &failing));
    assert_int_equal(dpr_stream_synchronize(stream), DPR_ERR_DEVICE);
    assert_int_equal(failing.starts, 1);
    dpr_stream_destroy(stream); /* with an error: no hang */
    dpr_device_destroy(device);
}

static void a_stream_may_be_destroyed_as_its_operation_completes(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    check_destroyed_as_operation_completes(device, 300);
    dpr_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_goes_on_when_another_thread_completes),
        cmocka_unit_test(an_operation_may_complete_inside_its_start),
        cmocka_unit_test(a_virtual_clock_is_lifted_and_never_lowered),
        cmocka_unit_test(an_error_skips_work_but_passes_events),
        cmocka_unit_test(a_failing_start_marks_the_stream),
        cmocka_unit_test(a_stream_may_be_destroyed_as_its_operation_completes),
    };
    return cmocka_run_group_tests_name("device_host_ops", tests, NULL, NULL);
}
