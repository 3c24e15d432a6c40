/* The CUDA device over the stand-in: what it is, what it refuses and why, memory, what it keeps. */
#include "cuda_testing.h"

#include <sched.h>

#include "device/cuda/cuda_impl.h"

static dpr_status_t try_create(int ordinal, dpr_clock_t clock, char *text, size_t size)
{
    dpr_log_capture_t capture;
    dpr_device_t *device = NULL;
    dpr_log_capture_begin(&capture, text, size);
    const dpr_status_t status = dpr_cuda_device_create(ordinal, clock, &device);
    dpr_log_capture_end(&capture);
    assert_true((device != NULL) == (status == DPR_OK));
    dpr_device_destroy(device);
    return status;
}

static void refusals_say_why_and_the_way_out(void **state)
{
    (void)state;
    char text[512];
    cuda_begin(0);
    assert_int_equal(try_create(0, DPR_CLOCK_MODEL, text, sizeof text), DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(text, "model clock"));
    assert_non_null(strstr(text, "host device"));
    assert_int_equal(try_create(4, DPR_CLOCK_WALL, text, sizeof text), DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(text, "fewer GPUs (4) than ranks on this node"));
    assert_int_equal(try_create(-1, DPR_CLOCK_WALL, text, sizeof text), DPR_ERR_UNSUPPORTED);
    assert_int_equal(try_create(3, DPR_CLOCK_WALL, text, sizeof text), DPR_OK);
    standin_reset(&(standin_options_t){.devices = -1});
    assert_int_equal(try_create(0, DPR_CLOCK_WALL, text, sizeof text), DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(text, "no GPU"));
    cuda_end();
}

static int count_failing(int error, char *reason, size_t size)
{
    const standin_failure_t failure = {.function = "cudaGetDeviceCount", .call = 1, .error = error};
    standin_reset(&(standin_options_t){.failure = failure});
    return dpr_cuda_device_count(reason, size);
}

static void the_count_says_why_there_is_none(void **state)
{
    (void)state;
    char reason[256];
    cuda_begin(0);
    assert_int_equal(dpr_cuda_device_count(reason, sizeof reason), 4);
    assert_int_equal(count_failing(cudaErrorInsufficientDriver, reason, sizeof reason), 0);
    assert_non_null(strstr(reason, "driver"));
    assert_int_equal(count_failing(cudaErrorNoDevice, reason, sizeof reason), 0);
    assert_non_null(strstr(reason, "CUDA_VISIBLE_DEVICES"));
    assert_int_equal(count_failing(cudaErrorInitializationError, reason, sizeof reason), 0);
    assert_non_null(strstr(reason, "does not start"));
    assert_null(strchr(reason, '\n'));
}

CUDA_TEST(a_device_tells_what_it_is)
{
    dpr_device_info_t info;
    size_t now;
    size_t peak;
    dpr_device_info(device, &info);
    assert_string_equal(dpr_device_kind(device), "cuda");
    assert_int_equal(dpr_device_clock(device), DPR_CLOCK_WALL);
    assert_false(dpr_device_memory_on_host(device));
    assert_true(strlen(info.name) > 0);
    assert_true(info.memory_bytes > 0);
    assert_non_null(strstr(info.driver, "driver "));
    assert_non_null(strstr(info.driver, ", runtime "));
    assert_int_equal(strspn(info.pci, "0123456789abcdef:."), strlen(info.pci));
    assert_non_null(strchr(info.pci, ':'));
    assert_true(info.numa_node >= -1);
    assert_true(dpr_cuda_device_is(device));
    assert_int_equal(dpr_cuda_device_ordinal(device), 0);
    dpr_device_memory_usage(device, &now, &peak);
    assert_int_equal(now + peak, 0);
}

static void info_leaves_out_what_cuda_does_not_tell(void **state)
{
    (void)state;
    dpr_device_t *device = NULL;
    dpr_device_info_t info;
    cuda_begin(0);
    assert_ok(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
    standin_inject(&(standin_failure_t){.function = "cudaDeviceGetPCIBusId", .call = 1});
    dpr_device_info(device, &info);
    assert_string_equal(info.pci, "");
    assert_int_equal(info.numa_node, -1);
    assert_ok(dpr_device_bind_near(device)); /* nowhere */
    standin_inject(&(standin_failure_t){.function = "cudaMemGetInfo", .call = 1});
    dpr_device_info(device, &info);
    assert_int_equal(info.memory_bytes, 0);
    standin_inject(NULL);
    dpr_device_destroy(device);
    cuda_end();
}

CUDA_TEST(memory_is_counted)
{
    const size_t sizes[] = {0, 1, 255, 256, 257, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    void *blocks[COUNT];
    size_t expected = 0;
    size_t now;
    size_t peak;
    void *pinned = open_memory(device, DPR_MEMORY_PINNED, 1000);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = open_memory(device, DPR_MEMORY_DEVICE, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 256, 0);
        expected += sizes[i];
        dpr_device_memory_usage(device, &now, &peak);
        assert_int_equal(now, expected);
        assert_int_equal(peak, expected);
    }
    for (int i = 0; i < COUNT; i += 2) { /* in no order */
        dpr_device_free(device, DPR_MEMORY_DEVICE, blocks[i]);
    }
    for (int i = 1; i < COUNT; i += 2) {
        dpr_device_free(device, DPR_MEMORY_DEVICE, blocks[i]);
    }
    dpr_device_free(device, DPR_MEMORY_PINNED, pinned);
    dpr_device_free(device, DPR_MEMORY_DEVICE, NULL);
    dpr_device_memory_usage(device, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, expected);
}

CUDA_TEST(a_block_too_large_is_refused_with_the_numbers)
{
    char text[512];
    dpr_status_t status;
    void *block = NULL;
    LOGGED(text, status, dpr_device_alloc(device, DPR_MEMORY_DEVICE, (size_t)1 << 50, &block));
    assert_int_equal(status, DPR_ERR_MEMORY);
    assert_null(block);
    assert_non_null(strstr(text, "1125899906842624 bytes of device memory"));
    assert_non_null(strstr(text, "are free"));
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

static void what_is_left_behind_is_reported(void **state)
{
    (void)state;
    char text[512];
    dpr_log_capture_t capture;
    dpr_device_t *device = NULL;
    cuda_begin(0);
    assert_ok(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
    dpr_event_t *event = open_event(device);
    dpr_log_capture_begin(&capture, text, sizeof text);
    dpr_device_destroy(device);
    dpr_log_capture_end(&capture);
    assert_non_null(strstr(text, "1 streams and events"));
    assert_true(standin_leaks(NULL, 0) > 0);
    dpr_cuda_event_t *self = dpr_cuda_event(event); /* its device is gone: not dpr_event_destroy */
    assert_int_equal(cudaEventDestroy(self->time), cudaSuccess);
    assert_int_equal(cudaEventDestroy(self->edge), cudaSuccess);
    free(self);
    cuda_end();
}

CUDA_TEST(ranges_nest)
{
    dpr_device_range_begin(device, "step 1");
    dpr_device_range_begin(device, "F s3 m7");
    dpr_device_range_end(device);
    dpr_device_range_end(device);
}

CUDA_TEST(binding_keeps_within_what_the_process_may_use)
{
    cpu_set_t before;
    cpu_set_t after;
    cpu_set_t both;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_ok(dpr_device_bind_near(device));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    CPU_AND(&both, &before, &after);
    assert_true(CPU_EQUAL(&both, &after));
    assert_true(CPU_COUNT(&after) > 0);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* Every thread gets the device current that it works on. */
static void *work_on(void *argument)
{
    dpr_device_t *device = argument;
    dpr_stream_t *stream = open_stream(device, "stream");
    void *memory = open_memory(device, DPR_MEMORY_DEVICE, 64);
    for (int i = 0; i < 20; i++) {
        assert_ok(dpr_stream_fill(stream, memory, i, 64));
        assert_ok(dpr_stream_synchronize(stream));
    }
    dpr_stream_destroy(stream);
    dpr_device_free(device, DPR_MEMORY_DEVICE, memory);
    return NULL;
}

static void threads_use_several_devices(void **state)
{
    (void)state;
    enum { DEVICES = 3 };
    dpr_device_t *devices[DEVICES];
    pthread_t threads[DEVICES];
    cuda_begin(7);
    for (int i = 0; i < DEVICES; i++) {
        assert_ok(dpr_cuda_device_create(i, DPR_CLOCK_WALL, &devices[i]));
        assert_int_equal(pthread_create(&threads[i], NULL, work_on, devices[i]), 0);
    }
    for (int i = 0; i < DEVICES; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        (void)work_on(devices[i]); /* and one thread uses all */
    }
    for (int i = 0; i < DEVICES; i++) {
        dpr_device_destroy(devices[i]);
    }
    cuda_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_say_why_and_the_way_out),
        cmocka_unit_test(the_count_says_why_there_is_none),
        cmocka_unit_test(a_device_tells_what_it_is_test),
        cmocka_unit_test(info_leaves_out_what_cuda_does_not_tell),
        cmocka_unit_test(memory_is_counted_test),
        cmocka_unit_test(a_block_too_large_is_refused_with_the_numbers_test),
        cmocka_unit_test(what_is_left_behind_is_reported),
        cmocka_unit_test(ranges_nest_test),
        cmocka_unit_test(binding_keeps_within_what_the_process_may_use_test),
        cmocka_unit_test(threads_use_several_devices),
    };
    return cmocka_run_group_tests_name("cuda_device", tests, NULL, NULL);
}
