/*
 * The run: the scheduler thread calibrates, predicts, plays the steps and the evaluations; the
 * caller's thread watches.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"
#include "runtime/watchdog.h"

enum {
    EXIT_HANGS = 1, /* of a job that the watchdog ends: as of any run that fails */
};

/* From a rank's report of a hang to the job's end: the ranks' steps began at about the same time,
 * so that by then all have reported. */
static const double report_grace_sec = 2.0;

/* ---- Feeding ---- */

static void feed_start(feed_t *feed, long step)
{
    if (feed->loader != NULL) {
        dpr_loader_start(feed->loader, step);
    }
}

/* Enqueues the copy of the batch that was started first into the pipeline's batch buffer `slot`. */
static dpr_status_t feed_load(dpr_trainer_t *trainer, feed_t *feed, int slot)
{
    if (feed->loader == NULL) {
        return DPR_OK;
    }
    const int buffer = dpr_loader_wait(feed->loader);
    return dpr_pipeline_load(trainer->pipeline, slot, feed->inputs[buffer], feed->labels[buffer]);
}

/* ---- Prediction ---- */

static dpr_status_t predict(dpr_trainer_t *trainer)
{
    const dpr_forecast_options_t options = trainer_forecast_options(trainer);
    DPR_TRY(dpr_forecast_make(&options, &trainer->forecast));
    trainer_explain_predicted(trainer);
    return DPR_OK;
}

/* ---- Steps ---- */

static void keep_step(dpr_trainer_t *trainer, long step)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(trainer->pipeline);
    dpr_pipeline_result_t result;
    dpr_step_sample_take(dpr_pipeline_graph(trainer->pipeline), trainer_explain_step(trainer, step),
                         dpr_executor_command_count(executor), &trainer->samples[step]);
    dpr_pipeline_result(trainer->pipeline, &result);
    trainer->loss[step] = result.loss;
    trainer->reduction_sec[step] = result.reduction_sec;
    trainer->update_sec[step] = result.update_sec;
}

/* Plays step `step`, whose batch is in buffer step & 1, and loads the next step's meanwhile. */
static dpr_status_t train_step(dpr_trainer_t *trainer, long step)
{
    dpr_pipeline_t *pipeline = trainer->pipeline;
    const int slot = (int)(step & 1);
    if (trainer_is_virtual(trainer)) {
        dpr_device_clock_rebase(trainer->device);
    }
    DPR_TRY(dpr_pipeline_forward_backward(pipeline, slot, 1.0f / (float)trainer->global_batch));
    DPR_TRY(dpr_pipeline_update(pipeline, step));
    if (step + 1 < trainer->total_steps) {
        DPR_TRY(feed_load(trainer, &trainer->train_feed, 1 - slot));
    }
    if (step + 2 < trainer->total_steps) {
        feed_start(&trainer->train_feed, step + 2);
    }
    DPR_TRY(dpr_pipeline_synchronize(pipeline));
    keep_step(trainer, step);
    if (!isfinite(trainer->loss[step])) {
        return dpr_fail(DPR_ERR_DATA,
                        "the loss is not finite at step %ld: training diverged; lower --lr, or set "
                        "--clip or --warmup",
                        step + 1);
    }
    return DPR_OK;
}

/* The test set, forward only, through batch buffer `slot`. */
static dpr_status_t evaluate(dpr_trainer_t *trainer, int slot)
{
    const long batches =
        dpr_batch_eval_steps((size_t)trainer->test_samples, trainer->program.micro_batches,
                             trainer->config->micro_batch_size);
    double loss = 0.0;
    double correct = 0.0;
    feed_start(&trainer->test_feed, 0);
    for (long k = 0; k < batches; k++) {
        dpr_pipeline_result_t result;
        DPR_TRY(feed_load(trainer, &trainer->test_feed, slot));
        if (k + 1 < batches) {
            feed_start(&trainer->test_feed, k + 1);
        }
        DPR_TRY(dpr_pipeline_synchronize(trainer->pipeline));
        DPR_TRY(
            dpr_pipeline_evaluate(trainer->pipeline, slot, 1.0f / (float)trainer->test_samples));
        DPR_TRY(dpr_pipeline_synchronize(trainer->pipeline));
        dpr_pipeline_result(trainer->pipeline, &result);
        loss += result.loss;
        correct += result.correct;
    }
    trainer->test_loss = loss;
    trainer->test_accuracy = correct / (double)trainer->test_samples;
    trainer->tested = true;
    return DPR_OK;
}

/* ---- Progress ---- */

static double now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void show_step(dpr_trainer_t *trainer, long step)
{
    live_progress_t *live = &trainer->live;
    const double steps_per_sec = (double)(step + 1) / trainer->train_sec;
    atomic_store(&live->loss, trainer->loss[step]);
    atomic_store(&live->samples_per_sec, steps_per_sec * (double)trainer->global_batch);
    atomic_store(&live->left_sec, (double)(trainer->total_steps - step - 1) / steps_per_sec);
    atomic_store(&live->step, step + 1);
}

static void show_evaluation(dpr_trainer_t *trainer)
{
    live_progress_t *live = &trainer->live;
    atomic_store(&live->test_loss, trainer->test_loss);
    atomic_store(&live->test_accuracy, trainer->test_accuracy);
    atomic_fetch_add(&live->evaluations, 1);
}

/* ---- The scheduler thread ---- */

dpr_status_t trainer_prepare(dpr_trainer_t *trainer)
{
    atomic_store(&trainer->live.phase, "calibrating");
    DPR_TRY(dpr_comm_barrier(trainer->comm));
    dpr_device_clock_rebase(trainer->device);
    feed_start(&trainer->train_feed, 0);
    DPR_TRY(feed_load(trainer, &trainer->train_feed, 0));
    if (trainer->total_steps > 1) {
        feed_start(&trainer->train_feed, 1);
    }
    DPR_TRY(dpr_pipeline_synchronize(trainer->pipeline));
    return predict(trainer);
}

static dpr_status_t train_all(dpr_trainer_t *trainer)
{
    for (long step = 0; step < trainer->total_steps; step++) {
        atomic_store(&trainer->live.phase, "training");
        atomic_store(&trainer->live.epoch, (int)(step / trainer->steps_per_epoch) + 1);
        const double begin = now_sec();
        DPR_TRY(train_step(trainer, step));
        trainer->train_sec += now_sec() - begin;
        show_step(trainer, step);
        DPR_TRY(trainer_explain_refresh(trainer, step));
        if (trainer->config->verify) {
            DPR_TRY(trainer_verify_step(trainer, step));
        }
        const bool last = step + 1 == trainer->total_steps;
        if (last || (step + 1) % trainer->steps_per_epoch == 0) {
            atomic_store(&trainer->live.phase, "evaluating");
            DPR_TRY(evaluate(trainer, (int)(step & 1)));
            DPR_TRY(trainer_explain_clock(trainer));
            show_evaluation(trainer);
        }
    }
    return DPR_OK;
}

typedef struct scheduler {
    dpr_trainer_t *trainer;
    dpr_train_report_t *report;
    dpr_status_t status;
} scheduler_t;

static void *scheduler_main(void *argument)
{
    scheduler_t *scheduler = argument;
    dpr_status_t status = trainer_prepare(scheduler->trainer);
    if (status == DPR_OK) {
        status = train_all(scheduler->trainer);
    }
    if (status == DPR_OK) {
        status = trainer_report(scheduler->trainer, scheduler->report);
    }
    scheduler->status = status;
    return NULL;
}

/* ---- The caller's thread ---- */

static void show(dpr_trainer_t *trainer, dpr_progress_fn_t progress, void *user)
{
    live_progress_t *live = &trainer->live;
    const char *phase = atomic_load(&live->phase);
    const dpr_progress_t now = {
        .phase = phase != NULL ? phase : "starting",
        .evaluations = atomic_load(&live->evaluations),
        .epoch = atomic_load(&live->epoch),
        .epochs =
            (int)((trainer->total_steps + trainer->steps_per_epoch - 1) / trainer->steps_per_epoch),
        .step = atomic_load(&live->step),
        .steps = trainer->total_steps,
        .loss = atomic_load(&live->loss),
        .samples_per_sec = atomic_load(&live->samples_per_sec),
        .left_sec = atomic_load(&live->left_sec),
        .test_accuracy = atomic_load(&live->test_accuracy),
        .test_loss = atomic_load(&live->test_loss),
    };
    progress(user, &now);
}

static void watch(dpr_trainer_t *trainer, pthread_t thread, dpr_progress_fn_t progress, void *user)
{
    const long interval_ns = 100000000;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += interval_ns;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_timedjoin_np(thread, NULL, &until) == 0) {
            return;
        }
        if (progress != NULL) {
            show(trainer, progress, user);
        }
    }
}

static dpr_status_t start_watchdog(const dpr_trainer_t *trainer, dpr_watchdog_t **watchdog)
{
    const dpr_watchdog_options_t options = {.comm = trainer->comm,
                                            .pipeline = trainer->pipeline,
                                            .timeout_sec = trainer->config->timeout_sec,
                                            .grace_sec = report_grace_sec,
                                            .exit_code = EXIT_HANGS};
    return dpr_watchdog_create(&options, watchdog);
}

dpr_status_t dpr_trainer_run(dpr_trainer_t *trainer, dpr_progress_fn_t progress, void *user,
                             dpr_train_report_t *report)
{
    scheduler_t scheduler = {.trainer = trainer, .report = report};
    dpr_watchdog_t *watchdog;
    pthread_t thread;
    *report = (dpr_train_report_t){0};
    DPR_TRY(start_watchdog(trainer, &watchdog));
    const int error = pthread_create(&thread, NULL, scheduler_main, &scheduler);
    if (error != 0) {
        dpr_watchdog_destroy(watchdog);
        return dpr_fail(DPR_ERR_SYSTEM, "cannot start the scheduler thread: error %d", error);
    }
    pthread_setname_np(thread, "scheduler");
    watch(trainer, thread, progress, user);
    dpr_watchdog_destroy(watchdog);
    if (progress != NULL) {
        atomic_store(&trainer->live.phase, "done");
        show(trainer, progress, user);
    }
    return scheduler.status;
}
