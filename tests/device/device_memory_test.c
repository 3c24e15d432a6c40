/* Memory, and what the host device says about itself. */
#include "device_testing.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void blocks_are_aligned_counted_and_full_of_nans(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 255, 256, 257, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    void *blocks[COUNT];
    size_t now;
    size_t peak;
    size_t expected = 0;
    for (size_t i = 0; i < COUNT; i++) {
        assert_ok(dpr_device_alloc(device, DPR_MEMORY_DEVICE, sizes[i], &blocks[i]));
        assert_int_equal((uintptr_t)blocks[i] % 256, 0);
        if (sizes[i] >= sizeof(float)) {
            assert_true(isnan(*(float *)blocks[i]));
        }
        memset(blocks[i], 1, sizes[i]);
        expected += sizes[i];
        dpr_device_memory_usage(device, &now, &peak);
        assert_int_equal(now, expected);
        assert_int_equal(peak, expected);
    }
    for (size_t i = 0; i < COUNT; i++) {
        dpr_device_free(device, DPR_MEMORY_DEVICE, blocks[i]);
    }
    dpr_device_memory_usage(device, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, expected);
    dpr_device_destroy(device);
}

static void pinned_memory_is_not_counted(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    void *block;
    size_t now;
    size_t peak;
    assert_ok(dpr_device_alloc(device, DPR_MEMORY_PINNED, 1000, &block));
    dpr_device_memory_usage(device, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, 0);
    dpr_device_free(device, DPR_MEMORY_PINNED, block);
    dpr_device_free(device, DPR_MEMORY_PINNED, NULL);
    dpr_device_destroy(device);
}

/* Sanitizers end a program that asks for too much memory, unless they are told this. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void a_block_too_large_is_refused_with_its_size(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 300, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char text[256];
        char size[32];
        dpr_log_capture_t capture;
        void *block = NULL;
        dpr_log_capture_begin(&capture, text, sizeof text);
        const dpr_status_t status = dpr_device_alloc(device, DPR_MEMORY_DEVICE, sizes[i], &block);
        dpr_log_capture_end(&capture);
        assert_int_equal(status, DPR_ERR_MEMORY);
        assert_null(block);
        snprintf(size, sizeof size, "%zu bytes", sizes[i]);
        assert_non_null(strstr(text, size));
    }
    dpr_device_destroy(device);
}

static void what_is_left_behind_is_reported(void **state)
{
    (void)state;
    char text[256];
    dpr_log_capture_t capture;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_event_t *event = open_event(device);
    dpr_log_capture_begin(&capture, text, sizeof text);
    dpr_device_destroy(device);
    dpr_log_capture_end(&capture);
    assert_non_null(strstr(text, "1 streams and events"));
    free(event); /* its device is gone, so not by dpr_event_destroy */
    dpr_device_destroy(NULL);
}

static void a_device_tells_what_it_is(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_CORE, 0);
    dpr_device_info_t info;
    dpr_device_info(device, &info);
    assert_string_equal(dpr_device_kind(device), "host");
    assert_int_equal(dpr_device_clock(device), DPR_CLOCK_CORE);
    assert_string_equal(dpr_clock_name(dpr_device_clock(device)), "core");
    assert_int_equal(strncmp(info.name, "host (", 6), 0);
    assert_int_equal(info.name[strlen(info.name) - 1], ')');
    assert_true(info.memory_bytes > 0);
    assert_int_equal(info.cores, dpr_host_cores_usable());
    dpr_device_destroy(device);
}

static void cores_follow_the_binding_of_the_process(void **state)
{
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const int all = dpr_host_cores_on_node();
    assert_in_range(dpr_host_cores_usable(), 1, (uintmax_t)all);

    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    const int bound_usable = dpr_host_cores_usable();
    const int bound_node = dpr_host_cores_on_node();
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(bound_usable, 1);
    assert_int_equal(bound_node, all);
}

static void without_cuda_the_device_is_refused_with_the_reason(void **state)
{
    (void)state;
    char text[256];
    dpr_log_capture_t capture;
    dpr_device_t *device = NULL;
    dpr_log_capture_begin(&capture, text, sizeof text);
    const dpr_status_t status = dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device);
    dpr_log_capture_end(&capture);
    if (status == DPR_OK) {
        dpr_device_destroy(device);
        skip();
    }
    assert_int_equal(status, DPR_ERR_UNSUPPORTED);
    assert_null(device);
    assert_true(strlen(text) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_counted_and_full_of_nans),
        cmocka_unit_test(pinned_memory_is_not_counted),
        cmocka_unit_test(a_block_too_large_is_refused_with_its_size),
        cmocka_unit_test(what_is_left_behind_is_reported),
        cmocka_unit_test(a_device_tells_what_it_is),
        cmocka_unit_test(cores_follow_the_binding_of_the_process),
        cmocka_unit_test(without_cuda_the_device_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests_name("device_memory", tests, NULL, NULL);
}
