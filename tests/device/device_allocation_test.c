/*
 * Nothing is allocated and no mutex is taken between set-up and the end: not by who enqueues, not
 * by the workers. The test puts its own malloc and pthread_mutex_lock in front of the C library's
 * and counts. Sanitizers bring their own, so under them there is nothing to test here: exit
 * code 77.
 */
#include "device_testing.h"

#include <stdlib.h>

#include "device/host/host_stream.h"

enum { EXIT_SKIPPED = 77 };

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer) || !defined(__GLIBC__)

int main(void)
{
    return EXIT_SKIPPED;
}

#else

static _Atomic size_t allocations;
static _Atomic size_t mutex_locks;

/* The C library's own, under the names that it keeps for this. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(alignment, bytes);
}

/* Counts, and locks nothing: no part of this test needs the lock. */
int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    (void)mutex;
    atomic_fetch_add(&mutex_locks, 1);
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

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
    const size_t allocations_before = atomic_load(&allocations);
    const size_t locks_before = atomic_load(&mutex_locks);
    enqueue_everything(streams, events);
    const size_t allocations_after = atomic_load(&allocations);
    const size_t locks_after = atomic_load(&mutex_locks);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_allocated_or_locked_between_set_up_and_the_end),
    };
    return cmocka_run_group_tests_name("device_allocation", tests, NULL, NULL);
}

#endif
