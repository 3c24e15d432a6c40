/* The watchdog's thread. */
#include "runtime/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"

/* For the device's answer. */
#define TRIP_PATIENCE_SEC   1.0
#define ANSWER_PATIENCE_SEC 0.2

enum { INTERVAL_MS = 100, TEXT_BYTES = 1024, ANSWER_MS = 300, PAUSE_MS = 5 };

/* dpr_watchdog_report_all's requests, and how many watchdogs there are to answer and have. */
static _Atomic uint32_t requests;
static atomic_int watching;
static _Atomic uint32_t answers;

struct dpr_watchdog {
    dpr_watchdog_options_t options;
    pthread_t thread;
    _Atomic uint32_t over; /* 1: the thread is to end */
};

static double now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Sleeps, at most until `until_sec`; false where the watchdog is to end. */
static bool sleep_until(dpr_watchdog_t *watchdog, double until_sec)
{
    while (atomic_load(&watchdog->over) == 0) {
        const double left_sec = until_sec - now_sec();
        if (left_sec <= 0.0) {
            return true;
        }
        dpr_futex_wait(&watchdog->over, 0, (int64_t)(1e9 * left_sec) + 1);
    }
    return false;
}

/*
 * What a step waits for, asked of the device on a thread of its own: while another thread is stuck
 * in the driver, a question may be, too, and then the job would never end.
 */
typedef struct question {
    _Atomic uint32_t state; /* ASKED to ANSWERED by the thread, or to LEFT by who asked */
    dpr_watchdog_options_t options;
    char text[TEXT_BYTES];
} question_t;

enum { ASKED, ANSWERED, LEFT };

static void *ask(void *argument)
{
    question_t *question = argument;
    const dpr_watchdog_options_t *options = &question->options;
    uint32_t state = ASKED;
    char dropped[TEXT_BYTES];
    dpr_log_capture_t capture; /* of what the device may say of an event that was never reached */
    dpr_log_capture_begin(&capture, dropped, sizeof dropped);
    (options->describe != NULL ? options->describe : dpr_pipeline_describe_waits)(
        options->pipeline, question->text, sizeof question->text);
    dpr_log_capture_end(&capture);
    if (atomic_compare_exchange_strong(&question->state, &state, ANSWERED)) {
        dpr_futex_wake(&question->state); /* who asked joins, and frees */
    } else {
        free(question);
    }
    return NULL;
}

static bool await_answer(question_t *question, double patience_sec)
{
    const double until_sec = now_sec() + patience_sec;
    uint32_t state = ASKED;
    for (double left_sec = patience_sec; left_sec > 0.0 && atomic_load(&question->state) == ASKED;
         left_sec = until_sec - now_sec()) {
        dpr_futex_wait(&question->state, ASKED, (int64_t)(1e9 * left_sec) + 1);
    }
    return !atomic_compare_exchange_strong(&question->state, &state, LEFT);
}

/* False where there was no answer in time. */
static bool find_waits(const dpr_watchdog_t *watchdog, double patience_sec, char *text, size_t size)
{
    question_t *question;
    pthread_t thread;
    if (dpr_calloc(1, sizeof *question, &question) != DPR_OK) {
        return false;
    }
    question->options = watchdog->options;
    if (pthread_create(&thread, NULL, ask, question) != 0) {
        free(question);
        return false;
    }
    if (!await_answer(question, patience_sec)) {
        pthread_detach(thread);
        return false;
    }
    pthread_join(thread, NULL);
    snprintf(text, size, "%s", question->text);
    free(question);
    return true;
}

static void report(const dpr_watchdog_t *watchdog, const char *why, double patience_sec)
{
    char waits[TEXT_BYTES];
    const dpr_watchdog_options_t *options = &watchdog->options;
    const int rank = dpr_comm_rank(options->comm);
    if ((dpr_pipeline_activity(options->pipeline) & 1) == 0) {
        snprintf(waits, sizeof waits, "no step is under way here");
    } else if (!find_waits(watchdog, patience_sec, waits, sizeof waits)) {
        const char *enqueuing = dpr_pipeline_enqueuing(options->pipeline);
        snprintf(waits, sizeof waits, "its device does not answer; %s%s",
                 enqueuing != NULL ? "the scheduler is enqueuing " : "all ops are enqueued",
                 enqueuing != NULL ? enqueuing : "");
    }
    dpr_log(DPR_LOG_ERROR, "rank %d: %s: %s", rank, why, waits);
}

/* The other ranks find the same within an interval or two, and have their say before the first of
 * them ends the job. */
static void trip(dpr_watchdog_t *watchdog, const char *why)
{
    const dpr_watchdog_options_t *options = &watchdog->options;
    report(watchdog, why, TRIP_PATIENCE_SEC);
    (void)sleep_until(watchdog, now_sec() + options->grace_sec);
    if (options->on_trip == NULL) {
        /* Without interrupting first: NCCL cannot abort a communicator while a recording that used
         * it lives, and the end of the process ends everything. */
        dpr_comm_abort(options->comm, options->exit_code);
    }
    dpr_comm_interrupt(options->comm);
    options->on_trip(options->user);
}

/* Answers a request, for which only a step under way is worth a word. */
static void answer(const dpr_watchdog_t *watchdog, uint32_t *answered)
{
    const uint32_t asked = atomic_load(&requests);
    if (asked == *answered) {
        return;
    }
    *answered = asked;
    if ((dpr_pipeline_activity(watchdog->options.pipeline) & 1) != 0) {
        report(watchdog, "the job is being ended", ANSWER_PATIENCE_SEC);
    }
    atomic_fetch_add(&answers, 1);
}

void dpr_watchdog_report_all(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};
    const uint32_t before = atomic_load(&answers);
    const uint32_t expected = (uint32_t)atomic_load(&watching);
    atomic_fetch_add(&requests, 1);
    for (int i = 0; i < ANSWER_MS / PAUSE_MS && atomic_load(&answers) - before < expected; i++) {
        nanosleep(&pause, NULL);
    }
}

/* How long the activity that is under way now has been seen to be. */
typedef struct sighting {
    uint64_t activity;
    double since_sec;
} sighting_t;

static double age_sec(const dpr_watchdog_t *watchdog, sighting_t *sighting)
{
    const uint64_t activity = dpr_pipeline_activity(watchdog->options.pipeline);
    const double now = now_sec();
    if (activity != sighting->activity) {
        *sighting = (sighting_t){.activity = activity, .since_sec = now};
    }
    return (activity & 1) != 0 ? now - sighting->since_sec : 0.0;
}

/* Whether the watchdog has something to say, which goes to `why`. */
static bool is_amiss(const dpr_watchdog_t *watchdog, sighting_t *sighting, char *why, size_t size)
{
    const dpr_watchdog_options_t *options = &watchdog->options;
    const dpr_status_t fault = dpr_comm_check(options->comm);
    if (fault != DPR_OK) {
        snprintf(why, size, "a fault was found (%s)", dpr_status_text(fault));
        return true;
    }
    if (options->timeout_sec > 0.0 && age_sec(watchdog, sighting) > options->timeout_sec) {
        snprintf(why, size, "a step has not ended within %g s (--timeout)", options->timeout_sec);
        return true;
    }
    return false;
}

static void *watch(void *argument)
{
    dpr_watchdog_t *watchdog = argument;
    sighting_t sighting = {.activity = 0};
    uint32_t answered = atomic_load(&requests);
    char why[128];
    bool amiss = false;
    atomic_fetch_add(&watching, 1);
    while (!amiss && sleep_until(watchdog, now_sec() + 1e-3 * INTERVAL_MS)) {
        answer(watchdog, &answered);
        amiss = is_amiss(watchdog, &sighting, why, sizeof why);
    }
    atomic_fetch_sub(&watching, 1);
    if (amiss) {
        trip(watchdog, why);
    }
    return NULL;
}

/* No signal's handler may run on a thread that it waits for. */
static int start_thread(dpr_watchdog_t *watchdog)
{
    sigset_t all;
    sigset_t mine;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mine);
    const int error = pthread_create(&watchdog->thread, NULL, watch, watchdog);
    pthread_sigmask(SIG_SETMASK, &mine, NULL);
    return error;
}

dpr_status_t dpr_watchdog_create(const dpr_watchdog_options_t *options, dpr_watchdog_t **out)
{
    dpr_watchdog_t *watchdog;
    DPR_TRY(dpr_calloc(1, sizeof *watchdog, &watchdog));
    watchdog->options = *options;
    const int error = start_thread(watchdog);
    if (error != 0) {
        free(watchdog);
        return dpr_fail(DPR_ERR_SYSTEM, "cannot start the watchdog's thread: %s", strerror(error));
    }
    pthread_setname_np(watchdog->thread, "watchdog");
    *out = watchdog;
    return DPR_OK;
}

void dpr_watchdog_destroy(dpr_watchdog_t *watchdog)
{
    if (watchdog == NULL) {
        return;
    }
    dpr_futex_set(&watchdog->over, 1);
    pthread_join(watchdog->thread, NULL);
    free(watchdog);
}
