/* Clock alignment: lines through made-up exchanges, and real exchanges between clocks made wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "runtime/clock_fit.h"

/* ---- Made-up exchanges ---- */

static void one_exchange_gives_a_level_line(void **state)
{
    (void)state;
    const dpr_clock_sample_t sample = {.at_sec = 3.0, .offset_sec = -0.25, .uncertainty_sec = 1e-5};
    const dpr_clock_fit_t fit = dpr_clock_fit(&sample, 1);
    assert_true(fit.drift == 0.0);
    assert_true(dpr_clock_to_rank0(&fit, 10.0) == 9.75);
    assert_true(fabs(fit.uncertainty_sec - 1e-5) < 1e-12);
}

static void offset_and_drift_are_found_exactly(void **state)
{
    (void)state;
    dpr_clock_sample_t samples[4];
    for (int i = 0; i < 4; i++) {
        const double at = 10.0 * i;
        samples[i] = (dpr_clock_sample_t){
            .at_sec = at, .offset_sec = 0.5 + 1e-4 * at, .uncertainty_sec = 1e-6 * (i + 1)};
    }
    const dpr_clock_fit_t fit = dpr_clock_fit(samples, 4);
    assert_true(fabs(fit.drift - 1e-4) < 1e-12);
    assert_true(fabs(dpr_clock_offset_at(&fit, 15.0) - 0.5015) < 1e-12);
    assert_true(fabs(dpr_clock_to_rank0(&fit, 30.0) - 30.503) < 1e-9);
    assert_true(fit.uncertainty_sec < 4.1e-6); /* the worst sample's own */
}

static void noise_within_the_uncertainty_is_no_drift(void **state)
{
    (void)state;
    dpr_clock_sample_t samples[3] = {{0.0, 1e-6, 2e-6}, {1.0, -1e-6, 2e-6}, {2.0, 3e-6, 2e-6}};
    const dpr_clock_fit_t fit = dpr_clock_fit(samples, 3);
    assert_true(fit.drift == 0.0);
    assert_true(fabs(fit.offset_sec - 1e-6) < 1e-12);
    assert_true(fabs(fit.uncertainty_sec - 4e-6) < 1e-12); /* 2e-6 off, and 2e-6 of its own */
}

static void a_vague_exchange_counts_less(void **state)
{
    (void)state;
    dpr_clock_sample_t samples[3] = {{0.0, 1.0, 1e-6}, {1.0, 1.5, 1.0}, {2.0, 1.0, 1e-6}};
    const dpr_clock_fit_t fit = dpr_clock_fit(samples, 3);
    assert_true(fabs(fit.offset_sec - 1.0) < 1e-9);
    assert_true(fit.uncertainty_sec > 1.4); /* and is owned up to */
}

/* ---- Real exchanges ---- */

enum { RANKS = 3, EXCHANGES = 6 };

typedef struct rank {
    dpr_comm_t *comm;
    dpr_device_t *device;
    dpr_clock_fit_t fit;
    dpr_status_t status;
} rank_t;

static void *exchange(void *argument)
{
    rank_t *rank = argument;
    dpr_clock_sample_t samples[EXCHANGES];
    const struct timespec pause = {.tv_nsec = 40000000};
    rank->status = DPR_OK;
    for (int i = 0; i < EXCHANGES && rank->status == DPR_OK; i++) {
        rank->status = dpr_clock_sample_take(rank->comm, rank->device, 20, &samples[i]);
        if (i + 1 < EXCHANGES) {
            nanosleep(&pause, NULL);
        }
    }
    if (rank->status == DPR_OK) {
        rank->fit = dpr_clock_fit(samples, EXCHANGES);
    }
    return NULL;
}

/* Rank r's clock is wrong by `skew` seconds and `drift` seconds a second, times r. */
static void align(rank_t *ranks, double skew, double drift)
{
    dpr_comm_t *comms[RANKS];
    pthread_t threads[RANKS];
    assert_int_equal(dpr_comm_local_create(RANKS, comms), DPR_OK);
    for (int r = 0; r < RANKS; r++) {
        const dpr_host_device_options_t options = {
            .clock = DPR_CLOCK_WALL, .skew_sec = r * skew, .drift = r * drift};
        ranks[r].comm = comms[r];
        assert_int_equal(dpr_host_device_create(&options, &ranks[r].device), DPR_OK);
        dpr_comm_set_device(comms[r], ranks[r].device);
    }
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(pthread_create(&threads[r], NULL, exchange, &ranks[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(pthread_join(threads[r], NULL), 0);
        assert_int_equal(ranks[r].status, DPR_OK);
    }
}

static void destroy(rank_t *ranks)
{
    for (int r = 0; r < RANKS; r++) {
        dpr_comm_destroy(ranks[r].comm);
    }
    for (int r = 0; r < RANKS; r++) {
        dpr_device_destroy(ranks[r].device);
    }
}

/* A reading of rank r's clock between two of rank 0's must, corrected, lie between these. */
static void check_aligned(const rank_t *ranks)
{
    assert_true(ranks[0].fit.offset_sec == 0.0 && ranks[0].fit.drift == 0.0);
    for (int r = 1; r < RANKS; r++) {
        const double before = dpr_device_wall_sec(ranks[0].device);
        const double mine = dpr_device_wall_sec(ranks[r].device);
        const double after = dpr_device_wall_sec(ranks[0].device);
        const double corrected = dpr_clock_to_rank0(&ranks[r].fit, mine);
        const double allowed = 2.0 * ranks[r].fit.uncertainty_sec; /* beyond the last sample */
        assert_true(ranks[r].fit.uncertainty_sec > 0.0);
        assert_true(corrected >= before - allowed && corrected <= after + allowed);
    }
}

static void skewed_clocks_are_aligned_within_the_stated_uncertainty(void **state)
{
    (void)state;
    rank_t ranks[RANKS];
    align(ranks, 12.5, 0.0);
    check_aligned(ranks);
    destroy(ranks);
}

static void drifting_clocks_are_aligned_too(void **state)
{
    (void)state;
    rank_t ranks[RANKS];
    align(ranks, -3.0, 0.2);
    check_aligned(ranks);
    for (int r = 1; r < RANKS; r++) {
        const double gain = 0.2 * r; /* of this clock; its offset to rank 0 falls by as much */
        const double drift = -gain / (1.0 + gain);
        assert_true(fabs(ranks[r].fit.drift - drift) < 0.05 * fabs(drift));
    }
    destroy(ranks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_exchange_gives_a_level_line),
        cmocka_unit_test(offset_and_drift_are_found_exactly),
        cmocka_unit_test(noise_within_the_uncertainty_is_no_drift),
        cmocka_unit_test(a_vague_exchange_counts_less),
        cmocka_unit_test(skewed_clocks_are_aligned_within_the_stated_uncertainty),
        cmocka_unit_test(drifting_clocks_are_aligned_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
