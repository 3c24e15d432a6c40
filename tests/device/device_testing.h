/*
 * What the tests of devices share: devices and streams by the handful, host operations that a test
 * completes when it likes or that count themselves, and checks that hold for every device.
 */
#ifndef DPR_TESTS_DEVICE_DEVICE_TESTING_H
#define DPR_TESTS_DEVICE_DEVICE_TESTING_H

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "device/device.h"

#define assert_ok(expr) assert_int_equal((expr), DPR_OK)

/* Virtual times are compared bit by bit: cmocka's own comparison of floats has a tolerance. */
#define assert_same_sec(got, expected) assert_true((got) == (expected))

static inline dpr_device_t *open_device(dpr_clock_t clock, uint64_t chaos_seed)
{
    const dpr_host_device_options_t options = {.clock = clock, .chaos_seed = chaos_seed};
    dpr_device_t *device = NULL;
    assert_ok(dpr_host_device_create(&options, &device));
    return device;
}

static inline dpr_stream_t *open_stream(dpr_device_t *device, const char *name)
{
    dpr_stream_t *stream = NULL;
    assert_ok(dpr_stream_create(device, name, 0, &stream));
    return stream;
}

static inline dpr_event_t *open_event(dpr_device_t *device)
{
    dpr_event_t *event = NULL;
    assert_ok(dpr_event_create(device, &event));
    return event;
}

/* A host operation that stays under way until latch_release(), which waits for it to be started. */
typedef struct latch {
    double started_sec;
    _Atomic(dpr_host_op_t *) operation;
} latch_t;

static inline void latch_start(void *argument, dpr_host_op_t *operation, double now_sec)
{
    latch_t *latch = argument;
    latch->started_sec = now_sec;
    atomic_store(&latch->operation, operation);
}

/* In two steps for who wants to know that the stream has come to the operation. */
static inline dpr_host_op_t *latch_await(latch_t *latch)
{
    dpr_host_op_t *operation;
    while ((operation = atomic_load(&latch->operation)) == NULL) {
        (void)sched_yield();
    }
    return operation;
}

static inline void latch_release(latch_t *latch, dpr_status_t status, double end_sec)
{
    dpr_host_op_t *operation = latch_await(latch);
    atomic_store(&latch->operation, NULL);
    dpr_host_op_complete(operation, status, end_sec);
}

/* Releases it from a thread of its own, which the caller joins. */
static inline void *latch_release_main(void *latch)
{
    latch_release(latch, DPR_OK, 0.0);
    return NULL;
}

static inline void latch_release_elsewhere(latch_t *latch, pthread_t *thread)
{
    assert_int_equal(pthread_create(thread, NULL, latch_release_main, latch), 0);
}

/* A host operation that is over at once with a status, and counts how often it was started. */
typedef struct counted {
    int starts;
    dpr_status_t status;
} counted_t;

static inline void counted_start(void *argument, dpr_host_op_t *operation, double now_sec)
{
    counted_t *counted = argument;
    counted->starts++;
    dpr_host_op_complete(operation, counted->status, now_sec);
}

/* A host operation that is over at once and costs the double it is given. */
static inline void complete_at_once(void *cost_sec, dpr_host_op_t *operation, double now_sec)
{
    dpr_host_op_complete(operation, DPR_OK, now_sec + *(const double *)cost_sec);
}

/*
 * An operation holds its stream until another thread completes it. `tells_start`: the device knows
 * by its clock when the stream came to the operation; else it says NaN.
 */
static inline void check_another_thread_completes(dpr_device_t *device, int rounds,
                                                  bool tells_start)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *before = open_event(device);
    dpr_event_t *after = open_event(device);
    for (int i = 0; i < rounds; i++) {
        latch_t latch = {0};
        pthread_t thread;
        assert_ok(dpr_event_record(before, stream));
        assert_ok(dpr_stream_host_op(stream, latch_start, &latch));
        assert_ok(dpr_event_record(after, stream));
        (void)latch_await(&latch);
        assert_true(dpr_event_query(before));
        assert_false(dpr_event_query(after));
        latch_release_elsewhere(&latch, &thread);
        assert_ok(dpr_event_synchronize(after));
        if (tells_start) {
            assert_true(latch.started_sec >= dpr_event_sec(before));
            assert_true(latch.started_sec <= dpr_event_sec(after));
        } else {
            assert_true(isnan(latch.started_sec));
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    dpr_event_destroy(after);
    dpr_event_destroy(before);
    dpr_stream_destroy(stream);
}

/* The completing thread must not touch the operation once the stream can go on. */
static inline void check_destroyed_as_operation_completes(dpr_device_t *device, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        dpr_stream_t *stream = open_stream(device, "short");
        latch_t latch = {0};
        pthread_t thread;
        assert_ok(dpr_stream_host_op(stream, latch_start, &latch));
        latch_release_elsewhere(&latch, &thread);
        dpr_stream_destroy(stream);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

#endif
