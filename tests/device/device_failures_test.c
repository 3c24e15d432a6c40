/*
 * The operating system refuses: what creating a device, a stream or an event does then. The linker
 * sends the calls below through this file (--wrap), which refuses one when told to.
 */
#include "device_testing.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

typedef enum refusal {
    REFUSE_NOTHING,
    REFUSE_PTHREAD_CREATE,
    REFUSE_STACK_SIZE,
    REFUSE_ALIGNED_ALLOC,
    REFUSE_CALLOC,
} refusal_t;

static refusal_t refusal;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __real_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    return refusal == REFUSE_PTHREAD_CREATE
               ? EAGAIN
               : __real_pthread_create(thread, attributes, start, argument);
}

int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes)
{
    return refusal == REFUSE_STACK_SIZE ? EINVAL
                                        : __real_pthread_attr_setstacksize(attributes, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return refusal == REFUSE_ALIGNED_ALLOC ? NULL : __real_aligned_alloc(alignment, bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return refusal == REFUSE_CALLOC ? NULL : __real_calloc(count, bytes);
}

/* Tries to create a stream; returns the status, and in `text` what was logged. */
static dpr_status_t try_stream(dpr_device_t *device, refusal_t what, char *text, size_t size)
{
    dpr_log_capture_t capture;
    dpr_stream_t *stream = NULL;
    dpr_log_capture_begin(&capture, text, size);
    refusal = what;
    const dpr_status_t status = dpr_stream_create(device, "refused", 0, &stream);
    refusal = REFUSE_NOTHING;
    dpr_log_capture_end(&capture);
    assert_null(stream);
    return status;
}

static void a_worker_that_cannot_start_is_reported(void **state)
{
    (void)state;
    char text[512];
    sigset_t before;
    sigset_t after;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
    assert_int_equal(try_stream(device, REFUSE_PTHREAD_CREATE, text, sizeof text), DPR_ERR_SYSTEM);
    assert_non_null(strstr(text, "refused"));
    assert_non_null(strstr(text, strerror(EAGAIN)));
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
    for (int number = 1; number < NSIG; number++) {
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    }
    assert_int_equal(try_stream(device, REFUSE_STACK_SIZE, text, sizeof text), DPR_ERR_SYSTEM);
    assert_non_null(strstr(text, strerror(EINVAL)));

    dpr_log_capture_t capture; /* nothing is left of them: no complaint at the end */
    dpr_log_capture_begin(&capture, text, sizeof text);
    dpr_device_destroy(device);
    dpr_log_capture_end(&capture);
    assert_string_equal(text, "");
}

static void memory_that_runs_out_is_reported(void **state)
{
    (void)state;
    char text[512];
    dpr_log_capture_t capture;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_device_t *second = NULL;
    dpr_event_t *event = NULL;
    void *block = NULL;
    size_t now;
    size_t peak;
    assert_int_equal(try_stream(device, REFUSE_ALIGNED_ALLOC, text, sizeof text), DPR_ERR_MEMORY);
    dpr_log_capture_begin(&capture, text, sizeof text);
    refusal = REFUSE_ALIGNED_ALLOC;
    const dpr_status_t block_status = dpr_device_alloc(device, DPR_MEMORY_DEVICE, 100, &block);
    refusal = REFUSE_CALLOC;
    const dpr_status_t event_status = dpr_event_create(device, &event);
    const dpr_status_t device_status =
        dpr_host_device_create(&(dpr_host_device_options_t){.clock = DPR_CLOCK_WALL}, &second);
    refusal = REFUSE_NOTHING;
    dpr_log_capture_end(&capture);
    assert_int_equal(block_status, DPR_ERR_MEMORY);
    assert_int_equal(event_status, DPR_ERR_MEMORY);
    assert_int_equal(device_status, DPR_ERR_MEMORY);
    assert_null(block);
    assert_null(event);
    assert_null(second);
    dpr_device_memory_usage(device, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, 0);
    dpr_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_cannot_start_is_reported),
        cmocka_unit_test(memory_that_runs_out_is_reported),
    };
    return cmocka_run_group_tests_name("device_failures", tests, NULL, NULL);
}
