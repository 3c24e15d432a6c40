/*
 * What the tests of the host device share: devices and streams by the handful, a host operation
 * that a test completes when it likes, and running a check under many seeds.
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

/* A host operation that is over at once and costs the double it is given. */
static inline void complete_at_once(void *cost_sec, dpr_host_op_t *operation, double now_sec)
{
    dpr_host_op_complete(operation, DPR_OK, now_sec + *(const double *)cost_sec);
}

#endif
