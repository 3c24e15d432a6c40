/*
 * The watchdog: a hang and a fault end the job with what every rank waits in, and nothing else
 * does.
 *
 * A rank hangs here because a test holds it back before a step, until the others' reports are in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "comm/comm_impl.h"
#include "rig.h"
#include "runtime/watchdog.h"
#include "schedule/generators.h"

enum { EXIT_OF_A_HANG = 41 };

extern char **environ;

/* ---- What is logged outside the ranks' threads, which is what the watchdogs say ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[8192];

static void sink(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    pthread_mutex_lock(&log_lock);
    const size_t used = strlen(logged);
    snprintf(logged + used, sizeof logged - used, "%s\n", message);
    pthread_mutex_unlock(&log_lock);
}

/* ---- Holding a rank back ---- */

typedef struct holding {
    int rank;
    int step;
    int trips_awaited;
    atomic_int trips;
} holding_t;

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    nanosleep(&pause, NULL);
}

static void hold(void *user, int rank, int step)
{
    holding_t *holding = user;
    while (rank == holding->rank && step == holding->step &&
           atomic_load(&holding->trips) < holding->trips_awaited) {
        nap();
    }
}

static void count_trip(void *user)
{
    holding_t *holding = user;
    atomic_fetch_add(&holding->trips, 1);
}

static void start(const char *schedule, int ranks, int micro_batches, dpr_program_t *program,
                  rig_config_t *config)
{
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, program), DPR_OK);
    rig_config_default(config, program);
    config->clock = DPR_CLOCK_WALL;
    config->hold = hold;
    config->on_trip = count_trip;
    logged[0] = '\0';
}

static void every_rank_names_the_op_that_it_waits_in(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result, reference;
    holding_t holding = {.rank = 2, .step = 1, .trips_awaited = 2};
    start("gpipe", 3, 4, &program, &config);
    config.user = &holding;
    config.timeout_sec = 1.0;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK); /* the rank came after all */
    assert_int_equal(atomic_load(&holding.trips), 2);
    print_message("%s", logged);
    /* Rank 1's third forward needs a send buffer that rank 2 has not emptied; rank 0 ran all of its
     * forwards. */
    assert_non_null(strstr(logged, "rank 1: a step has not ended within 1 s (--timeout): "
                                   "waits in send act s1 m0 to 2 and in recv grad s2 m0 from 2; "
                                   "compute waits for F s1 m2; not begun: send grad s1 m0 to 0\n"));
    assert_non_null(strstr(logged, "rank 0: a step has not ended within 1 s (--timeout): "
                                   "waits in recv grad s1 m0 from 1; "
                                   "compute waits for B s0 m0\n"));
    assert_null(strstr(logged, "rank 2:")); /* its step has not begun */
    rig_run_reference(&config, &reference);
    assert_true(rig_gradient_difference(&config, &result, &reference) <= 1e-5);
    rig_result_free(&reference);
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* A device that is stuck for as long as the job is not over. */
static atomic_int job_is_over;

static void never_answer(const dpr_pipeline_t *pipeline, char *text, size_t size)
{
    (void)pipeline;
    while (atomic_load(&job_is_over) == 0) {
        nap();
    }
    snprintf(text, size, "too late");
}

static void a_device_that_does_not_answer_does_not_keep_the_job(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    holding_t holding = {.rank = 1, .step = 0, .trips_awaited = 1};
    start("1f1b", 2, 2, &program, &config);
    config.user = &holding;
    config.timeout_sec = 1.0;
    config.describe = never_answer;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK); /* the rank came, since the other had tripped */
    assert_int_equal(atomic_load(&holding.trips), 1);
    print_message("%s", logged);
    assert_non_null(strstr(logged, "rank 0: a step has not ended within 1 s (--timeout): "
                                   "its device does not answer; all ops are enqueued\n"));
    atomic_store(&job_is_over, 1);
    nap();
    nap(); /* for the thread that was left behind */
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void a_rank_that_is_late_for_the_first_step_is_named(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    holding_t holding = {.rank = 1, .step = 0, .trips_awaited = 1};
    start("1f1b", 2, 2, &program, &config);
    config.user = &holding;
    config.timeout_sec = 1.0;
    config.graph.send_slots = 2; /* so that both forwards end */
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    print_message("%s", logged);
    assert_non_null(
        strstr(logged, "rank 0: a step has not ended within 1 s (--timeout): waits in "));
    assert_non_null(strstr(logged, "; compute waits for B s0 m0"));
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* Asked by the rank that is late, once the others wait for it, and then by nobody. */
static void ask_when_late(void *user, int rank, int step)
{
    holding_t *holding = user;
    if (rank != holding->rank || step != holding->step) {
        return;
    }
    for (bool waits = false; !waits; nap()) {
        dpr_watchdog_report_all();
        pthread_mutex_lock(&log_lock);
        waits = strstr(logged, "compute waits for B s0 m0") != NULL;
        pthread_mutex_unlock(&log_lock);
    }
}

static void whoever_is_asked_says_what_it_waits_in(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    holding_t holding = {.rank = 1, .step = 1};
    start("1f1b", 2, 2, &program, &config);
    config.user = &holding;
    config.hold = ask_when_late;
    config.timeout_sec = 60.0;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    assert_int_equal(atomic_load(&holding.trips), 0);
    assert_non_null(strstr(logged, "rank 0: the job is being ended: waits in "));
    assert_null(strstr(logged, "rank 1:"));
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* Between the steps the ranks may take their time. */
static void hold_all(void *user, int rank, int step)
{
    (void)user;
    (void)rank;
    for (int i = 0; step == 1 && i < 500; i++) {
        nap();
    }
}

static void time_between_steps_is_no_hang(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    holding_t holding = {.rank = -1};
    start("dualpipev", 2, 4, &program, &config);
    config.user = &holding;
    config.hold = hold_all; /* 2.5 s */
    config.timeout_sec = 2.0;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    assert_int_equal(atomic_load(&holding.trips), 0);
    assert_string_equal(logged, "");
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* ---- A fault that the communicator finds by itself ---- */

typedef struct faulty {
    dpr_comm_t comm;
    atomic_int checks;
    atomic_bool interrupted;
    atomic_bool tripped;
    bool interrupted_before;
    const dpr_pipeline_t *pipeline;
} faulty_t;

static dpr_status_t third_check_fails(dpr_comm_t *comm)
{
    faulty_t *faulty = (faulty_t *)comm;
    return atomic_fetch_add(&faulty->checks, 1) == 2 ? DPR_ERR_COMM : DPR_OK;
}

static void interrupt(dpr_comm_t *comm)
{
    atomic_store(&((faulty_t *)comm)->interrupted, true);
}

static void trip(void *user)
{
    faulty_t *faulty = user;
    faulty->interrupted_before = atomic_load(&faulty->interrupted);
    atomic_store(&faulty->tripped, true);
}

static void keep_pipeline(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    if (rank == 0) {
        ((faulty_t *)user)->pipeline = pipeline;
    }
}

static void watch_until_trip(void *user, int rank, int step)
{
    faulty_t *faulty = user;
    dpr_watchdog_t *watchdog;
    if (rank != 0 || step != 0) {
        return;
    }
    const dpr_watchdog_options_t options = {
        .comm = &faulty->comm, .pipeline = faulty->pipeline, .on_trip = trip, .user = faulty};
    assert_int_equal(dpr_watchdog_create(&options, &watchdog), DPR_OK);
    while (!atomic_load(&faulty->tripped)) {
        nap();
    }
    dpr_watchdog_destroy(watchdog);
}

static void a_fault_is_reported_and_interrupts_the_communicator(void **state)
{
    (void)state;
    static const dpr_comm_ops_t ops = {
        .kind = "faulty", .check = third_check_fails, .interrupt = interrupt};
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    faulty_t faulty = {.comm = {.ops = &ops, .rank = 3, .size = 4}};
    start("gpipe", 1, 2, &program, &config);
    config.user = &faulty;
    config.inspect = keep_pipeline;
    config.hold = watch_until_trip;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    assert_int_equal(atomic_load(&faulty.checks), 3); /* it trips once */
    assert_true(faulty.interrupted_before);
    assert_non_null(strstr(logged, "rank 3: a fault was found (communication failed): "));
    assert_non_null(strstr(logged, "no step is under way here"));
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* ---- The end of the job, in a process of its own ---- */

static int hang(void)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    holding_t holding = {.rank = 1, .step = 1, .trips_awaited = 1};
    start("gpipe", 2, 4, &program, &config);
    config.user = &holding;
    config.timeout_sec = 0.5;
    config.on_trip = NULL; /* so that nobody ever lets rank 1 go on */
    config.watchdog_exit_code = EXIT_OF_A_HANG;
    rig_run(&config, &result);
    return EXIT_SUCCESS;
}

static void the_job_ends_with_the_exit_code(void **state)
{
    (void)state;
    char path[] = "/proc/self/exe";
    char argument[] = "hang";
    char *arguments[] = {path, argument, NULL};
    pid_t child;
    int status;
    assert_int_equal(posix_spawn(&child, path, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_OF_A_HANG);
}

int main(int argc, char **argv)
{
    dpr_log_set_sink(sink, NULL);
    if (argc > 1 && strcmp(argv[1], "hang") == 0) {
        return hang();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_names_the_op_that_it_waits_in),
        cmocka_unit_test(a_device_that_does_not_answer_does_not_keep_the_job),
        cmocka_unit_test(a_rank_that_is_late_for_the_first_step_is_named),
        cmocka_unit_test(whoever_is_asked_says_what_it_waits_in),
        cmocka_unit_test(time_between_steps_is_no_hang),
        cmocka_unit_test(a_fault_is_reported_and_interrupts_the_communicator),
        cmocka_unit_test(the_job_ends_with_the_exit_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
