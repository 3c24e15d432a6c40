/*
 * The watchdog over NCCL, under the software stand-in: a fault that NCCL finds by itself, and a
 * rank that does not come, end every rank's step with a report of what it waits in, also where the
 * step is a recording that is played again and its events still show their earlier times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cuda_testing.h"
#include "standin.h"

/* ---- What the watchdogs log ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[16384];

static void sink(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    pthread_mutex_lock(&log_lock);
    const size_t used = strlen(logged);
    snprintf(logged + used, sizeof logged - used, "%s\n", message);
    pthread_mutex_unlock(&log_lock);
}

/* The text of rank `rank`'s report, or NULL. */
static const char *report_of(int rank)
{
    char begin[32];
    snprintf(begin, sizeof begin, "rank %d: a ", rank);
    return strstr(logged, begin);
}

/* ---- Runs that hang ---- */

typedef struct plot {
    int late_rank; /* does not begin step `step` before somebody has tripped; -1: none */
    int step;
    bool fault; /* at step `step`, a send of somebody hangs with an asynchronous error */
    atomic_int trips;
} plot_t;

static void hold(void *user, int rank, int step)
{
    static const standin_failure_t failing_send = {.function = "async:ncclSend", .call = 3};
    plot_t *plot = user;
    if (plot->fault && rank == 0 && step == plot->step) {
        standin_inject(&failing_send);
    }
    while (rank == plot->late_rank && step == plot->step && atomic_load(&plot->trips) == 0) {
        const struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
}

static void count_trip(void *user)
{
    atomic_fetch_add(&((plot_t *)user)->trips, 1);
}

static void run(const char *schedule, int ranks, int micro_batches, bool record, plot_t *plot)
{
    dpr_program_t program;
    rig_config_t config;
    cuda_outcome_t outcome;
    cuda_generate(schedule, ranks, micro_batches, &program);
    cuda_config_default(&config, &program);
    config.record = record;
    config.one_slot = true;
    config.hold = hold;
    config.on_trip = count_trip;
    config.user = plot;
    config.timeout_sec = 4.0;
    logged[0] = '\0';
    cuda_run(&config, 4, false, -1.0, &outcome);
    print_message("%s", logged);
    assert_int_not_equal(outcome.result.status, DPR_OK);
    assert_int_equal(outcome.misuses, 0);
    if (outcome.leaks > 0) {
        print_error("%s\n", outcome.text);
    }
    assert_int_equal(outcome.leaks, 0);
    assert_int_equal(atomic_load(&plot->trips), ranks);
    for (int rank = 0; rank < ranks; rank++) {
        assert_non_null(report_of(rank));
    }
    rig_result_free(&outcome.result);
    dpr_program_free(&program);
}

static void a_fault_that_nccl_finds_ends_every_rank(void **state)
{
    (void)state;
    plot_t plot = {.late_rank = -1, .step = 1, .fault = true};
    run("1f1b", 4, 8, false, &plot);
    assert_non_null(strstr(logged, ": a fault was found (communication failed): "));
}

static void a_rank_that_does_not_come_is_named(void **state)
{
    (void)state;
    plot_t plot = {.late_rank = 1, .step = 1};
    run("gpipe", 2, 4, false, &plot);
    assert_non_null(
        strstr(logged, "rank 0: a step has not ended within 4 s (--timeout): waits in "));
    assert_non_null(strstr(logged, "in send act s0 m0 to 1"));
    assert_non_null(strstr(logged, "in recv grad s1 m0 from 1"));
    assert_non_null(strstr(logged, "compute waits for F s0 m2"));
}

/* Step 2 plays what step 0 has recorded, for the third time. */
static void a_recording_that_hangs_names_its_ops_as_well(void **state)
{
    (void)state;
    plot_t plot = {.late_rank = 1, .step = 2};
    run("gpipe", 2, 4, true, &plot);
    assert_non_null(strstr(logged, "in send act s0 m0 to 1"));
    assert_non_null(strstr(logged, "in recv grad s1 m0 from 1"));
    assert_non_null(strstr(logged, "compute waits for F s0 m2"));
}

int main(void)
{
    dpr_log_set_sink(sink, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fault_that_nccl_finds_ends_every_rank),
        cmocka_unit_test(a_rank_that_does_not_come_is_named),
        cmocka_unit_test(a_recording_that_hangs_names_its_ops_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
