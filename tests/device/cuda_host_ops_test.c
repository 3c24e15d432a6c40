/* Host operations of the CUDA device: what holds the stream, who may complete them, errors. */
#include "cuda_testing.h"

CUDA_TEST(the_stream_goes_on_when_another_thread_completes)
{
    check_another_thread_completes(device, 20, false);
}

CUDA_TEST(more_operations_than_the_stream_keeps)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    counted_t counted = {.status = DPR_OK};
    for (int i = 0; i < 2500; i++) {
        assert_ok(dpr_stream_host_op(stream, counted_start, &counted));
    }
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(counted.starts, 2500);
    dpr_stream_destroy(stream);
}

CUDA_TEST(an_error_marks_the_stream_alone_and_passes_events)
{
    dpr_stream_t *failing = open_stream(device, "failing");
    dpr_stream_t *other = open_stream(device, "other");
    dpr_event_t *event = open_event(device);
    char *text = open_memory(device, DPR_MEMORY_PINNED, 8);
    counted_t spoilt = {.status = DPR_ERR_DATA};
    counted_t others = {.status = DPR_OK};
    latch_t latch = {0};
    memcpy(text, "unspoil", 8);
    assert_ok(dpr_stream_host_op(failing, latch_start, &latch));
    assert_ok(dpr_stream_host_op(failing, counted_start, &spoilt)); /* enqueued before */
    assert_ok(dpr_event_record(event, failing));
    assert_ok(dpr_stream_wait_event(other, event));
    assert_ok(dpr_stream_host_op(other, counted_start, &others));
    latch_release(&latch, DPR_ERR_COMM, 0.0);
    assert_ok(dpr_stream_synchronize(other));
    assert_int_equal(dpr_stream_synchronize(failing), DPR_ERR_COMM);
    assert_ok(dpr_stream_fill(failing, text, 0, 8)); /* and what is enqueued after */
    assert_ok(dpr_stream_copy(failing, text, "replace", 8));
    assert_ok(dpr_stream_host_op(failing, counted_start, &spoilt));
    assert_int_equal(dpr_stream_synchronize(failing), DPR_ERR_COMM);
    assert_int_equal(spoilt.starts, 0);
    assert_int_equal(others.starts, 1);
    assert_string_equal(text, "unspoil");
    dpr_event_destroy(event);
    dpr_stream_destroy(failing);
    dpr_stream_destroy(other);
    dpr_device_free(device, DPR_MEMORY_PINNED, text);
}

CUDA_TEST(a_stream_may_be_destroyed_as_its_operation_completes)
{
    check_destroyed_as_operation_completes(device, 20);
}

/* What the operation brought is there for what follows it on the stream. */
static void bring(void *argument, dpr_host_op_t *operation, double now_sec)
{
    memset(argument, 42, 64);
    dpr_host_op_complete(operation, DPR_OK, now_sec);
}

CUDA_TEST(a_copy_behind_an_operation_sees_what_it_wrote)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    unsigned char *pinned = open_memory(device, DPR_MEMORY_PINNED, 64);
    unsigned char *memory = open_memory(device, DPR_MEMORY_DEVICE, 64);
    unsigned char *out = open_memory(device, DPR_MEMORY_PINNED, 64);
    memset(pinned, 0, 64);
    assert_ok(dpr_stream_host_op(stream, bring, pinned));
    assert_ok(dpr_stream_copy(stream, memory, pinned, 64));
    assert_ok(dpr_stream_copy(stream, out, memory, 64));
    assert_ok(dpr_stream_synchronize(stream));
    for (int i = 0; i < 64; i++) {
        assert_int_equal(out[i], 42);
    }
    dpr_stream_destroy(stream);
    dpr_device_free(device, DPR_MEMORY_PINNED, pinned);
    dpr_device_free(device, DPR_MEMORY_PINNED, out);
    dpr_device_free(device, DPR_MEMORY_DEVICE, memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_goes_on_when_another_thread_completes_test),
        cmocka_unit_test(more_operations_than_the_stream_keeps_test),
        cmocka_unit_test(an_error_marks_the_stream_alone_and_passes_events_test),
        cmocka_unit_test(a_stream_may_be_destroyed_as_its_operation_completes_test),
        cmocka_unit_test(a_copy_behind_an_operation_sees_what_it_wrote_test),
    };
    return cuda_is_there() ? cmocka_run_group_tests_name("cuda_host_ops", tests, NULL, NULL)
                           : EXIT_NO_GPU;
}
