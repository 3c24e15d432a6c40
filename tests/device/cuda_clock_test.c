/* Times of the CUDA device: events on the host's clock, and the anchors that make it so. */
#include "cuda_testing.h"

#include <math.h>
#include <time.h>

#include "device/cuda/cuda_device.h"

/* What a time may be wrong by: the newest anchor's uncertainty, and rounding. */
static double slack_sec(const dpr_device_t *device)
{
    return dpr_cuda_device_clock_uncertainty_sec(device) + 2e-6;
}

static double monotonic_sec(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void sleep_sec(double sec)
{
    const struct timespec pause = {.tv_sec = (time_t)sec,
                                   .tv_nsec = (long)(1e9 * (sec - floor(sec)))};
    (void)nanosleep(&pause, NULL);
}

CUDA_TEST(events_have_the_host_clock)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *event = open_event(device);
    assert_true(dpr_event_sec(event) == 0.0); /* never recorded */
    const double slack = slack_sec(device);   /* no anchor is taken in between */
    double last_sec = -1.0;
    for (int i = 0; i < 5; i++) {
        const double before_sec = dpr_device_wall_sec(device);
        assert_ok(dpr_event_record(event, stream));
        assert_ok(dpr_event_synchronize(event));
        const double after_sec = dpr_device_wall_sec(device);
        const double sec = dpr_event_sec(event);
        assert_true(sec >= before_sec - slack && sec <= after_sec + slack);
        assert_true(sec >= last_sec);
        last_sec = sec;
    }
    dpr_event_destroy(event);
    dpr_stream_destroy(stream);
}

/* Until its anchor is long gone, and after. */
CUDA_TEST(a_rebase_moves_zero)
{
    dpr_stream_t *stream = open_stream(device, "stream");
    dpr_event_t *event = open_event(device);
    const double own_slack = slack_sec(device);
    const double before_sec = monotonic_sec();
    assert_ok(dpr_event_record(event, stream));
    assert_ok(dpr_event_synchronize(event));
    const double after_sec = monotonic_sec();
    for (int i = 0; i < 40; i++) {
        const double earliest_zero_sec = monotonic_sec();
        dpr_device_clock_rebase(device);
        const double latest_zero_sec = monotonic_sec();
        const double slack = own_slack + slack_sec(device) + 1e-3; /* other anchors in between */
        const double sec = dpr_event_sec(event);
        assert_true(sec >= before_sec - latest_zero_sec - slack);
        assert_true(sec <= after_sec - earliest_zero_sec + slack);
        assert_true(dpr_device_wall_sec(device) <= monotonic_sec() - earliest_zero_sec);
    }
    dpr_event_destroy(event);
    dpr_stream_destroy(stream);
}

/* An event that is reached seconds after it was recorded, with new anchors in between. */
static void long_waits_get_a_near_anchor(void **state)
{
    (void)state;
    dpr_device_t *device = NULL;
    latch_t latch = {0};
    cuda_begin(0);
    assert_ok(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
    dpr_stream_t *slow = open_stream(device, "slow");
    dpr_stream_t *other = open_stream(device, "other");
    dpr_event_t *event = open_event(device);
    assert_ok(dpr_stream_host_op(slow, latch_start, &latch));
    assert_ok(dpr_event_record(event, slow));
    for (int i = 0; i < 4; i++) {
        sleep_sec(1.05);
        assert_ok(dpr_stream_synchronize(other)); /* each takes a new anchor */
    }
    const double slack = slack_sec(device);
    const double before_sec = dpr_device_wall_sec(device);
    latch_release(&latch, DPR_OK, 0.0);
    assert_ok(dpr_stream_synchronize(slow));
    const double after_sec = dpr_device_wall_sec(device);
    const double sec = dpr_event_sec(event);
    assert_true(sec >= before_sec - slack && sec <= after_sec + slack);
    dpr_event_destroy(event);
    dpr_stream_destroy(slow);
    dpr_stream_destroy(other);
    dpr_device_destroy(device);
    cuda_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_have_the_host_clock_test),
        cmocka_unit_test(a_rebase_moves_zero_test),
        cmocka_unit_test(long_waits_get_a_near_anchor),
    };
    return cuda_is_there() ? cmocka_run_group_tests_name("cuda_clock", tests, NULL, NULL)
                           : EXIT_NO_GPU;
}
