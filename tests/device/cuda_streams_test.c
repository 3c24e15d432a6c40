/* Streams and events of the CUDA device: order, what a wait waits for, and what a stream counts. */
#include "cuda_testing.h"

enum { BYTES = 1000 };

static bool holds(const unsigned char *memory, unsigned char byte)
{
    for (size_t i = 0; i < BYTES; i++) {
        if (memory[i] != byte) {
            return false;
        }
    }
    return true;
}

CUDA_TEST(a_stream_keeps_its_order)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    unsigned char *first = open_memory(device, DPR_MEMORY_DEVICE, BYTES);
    unsigned char *second = open_memory(device, DPR_MEMORY_DEVICE, BYTES);
    unsigned char *out = open_memory(device, DPR_MEMORY_PINNED, 2 * BYTES);
    assert_ok(dpr_stream_fill(stream, first, 1, BYTES));
    assert_ok(dpr_stream_copy(stream, second, first, BYTES));
    assert_ok(dpr_stream_fill(stream, first, 2, BYTES));
    assert_ok(dpr_stream_copy(stream, out, second, BYTES));
    assert_ok(dpr_stream_copy(stream, out + BYTES, first, BYTES));
    assert_ok(dpr_stream_fill(stream, first, 3, 0));
    assert_ok(dpr_stream_copy(stream, out, first, 0));
    assert_ok(dpr_stream_charge(stream, 1.0));
    assert_ok(dpr_stream_synchronize(stream));
    assert_true(holds(out, 1) && holds(out + BYTES, 2));
    assert_int_equal(dpr_stream_enqueued(stream), 8);
    dpr_stream_destroy(stream);
    dpr_device_free(device, DPR_MEMORY_DEVICE, first);
    dpr_device_free(device, DPR_MEMORY_DEVICE, second);
    dpr_device_free(device, DPR_MEMORY_PINNED, out);
}

CUDA_TEST(an_event_orders_two_streams)
{
    dpr_stream_t *producer = open_stream(device, "producer");
    dpr_stream_t *consumer = open_stream(device, "consumer");
    dpr_event_t *made = open_event(device);
    dpr_event_t *used = open_event(device);
    unsigned char *memory = open_memory(device, DPR_MEMORY_DEVICE, BYTES);
    unsigned char *out = open_memory(device, DPR_MEMORY_PINNED, 10 * BYTES);
    for (int i = 0; i < 10; i++) {
        assert_ok(dpr_stream_wait_event(producer, used)); /* the first time never recorded */
        assert_ok(dpr_stream_fill(producer, memory, i, BYTES));
        assert_ok(dpr_event_record(made, producer));
        assert_ok(dpr_stream_wait_event(consumer, made));
        assert_ok(dpr_stream_copy(consumer, out + i * BYTES, memory, BYTES));
        assert_ok(dpr_event_record(used, consumer));
    }
    assert_ok(dpr_event_synchronize(used));
    for (int i = 0; i < 10; i++) {
        assert_true(holds(out + i * BYTES, (unsigned char)i));
    }
    dpr_event_destroy(made);
    dpr_event_destroy(used);
    dpr_stream_destroy(producer);
    dpr_stream_destroy(consumer);
    dpr_device_free(device, DPR_MEMORY_DEVICE, memory);
    dpr_device_free(device, DPR_MEMORY_PINNED, out);
}

CUDA_TEST(a_wait_keeps_the_record_it_was_given)
{
    dpr_stream_t *recorder = open_stream(device, "recorder");
    dpr_stream_t *waiter = open_stream(device, "waiter");
    dpr_event_t *event = open_event(device);
    latch_t latch = {0};
    assert_true(dpr_event_query(event));
    assert_ok(dpr_event_synchronize(event));
    assert_ok(dpr_event_record(event, recorder));
    assert_ok(dpr_stream_wait_event(waiter, event));
    assert_ok(dpr_stream_host_op(recorder, latch_start, &latch));
    assert_ok(dpr_event_record(event, recorder)); /* not the one that is waited for */
    assert_ok(dpr_stream_synchronize(waiter));
    (void)latch_await(&latch);
    assert_false(dpr_event_query(event));
    latch_release(&latch, DPR_OK, 0.0);
    assert_ok(dpr_event_synchronize(event));
    assert_true(dpr_event_query(event));
    dpr_event_destroy(event);
    dpr_stream_destroy(recorder);
    dpr_stream_destroy(waiter);
}

CUDA_TEST(streams_have_names_and_priorities)
{
    char text[256];
    dpr_status_t status;
    dpr_stream_t *none = NULL;
    LOGGED(text, status, dpr_stream_create(device, "a name of 16 let", 0, &none));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_non_null(strstr(text, "a name of 16 let"));
    assert_null(none);
    for (int priority = -3; priority <= 100; priority += 20) {
        dpr_stream_t *stream = NULL;
        assert_ok(dpr_stream_create(device, "priority", priority, &stream));
        assert_ok(dpr_stream_synchronize(stream));
        dpr_stream_destroy(stream);
    }
    dpr_stream_destroy(NULL);
    dpr_event_destroy(NULL);
}

CUDA_TEST(more_streams_than_queues_are_warned_of_once)
{
    enum { STREAMS = 12 };
    char text[1024];
    dpr_stream_t *streams[STREAMS];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, text, sizeof text);
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = open_stream(device, "one of many");
    }
    dpr_log_capture_end(&capture);
    char *said = strstr(text, "CUDA_DEVICE_MAX_CONNECTIONS");
    assert_non_null(said);
    assert_null(strstr(said + 1, "CUDA_DEVICE_MAX_CONNECTIONS"));
    for (int i = 0; i < STREAMS; i++) {
        dpr_stream_destroy(streams[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_keeps_its_order_test),
        cmocka_unit_test(an_event_orders_two_streams_test),
        cmocka_unit_test(a_wait_keeps_the_record_it_was_given_test),
        cmocka_unit_test(streams_have_names_and_priorities_test),
        cmocka_unit_test(more_streams_than_queues_are_warned_of_once_test),
    };
    (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8", 1); /* what the user sets stays */
    return cuda_is_there() ? cmocka_run_group_tests_name("cuda_streams", tests, NULL, NULL)
                           : EXIT_NO_GPU;
}
