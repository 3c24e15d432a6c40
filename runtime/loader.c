/* The loader's thread and its handshake: three counters under one lock. */
#include "runtime/loader.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"

enum { BUFFERS = 2 };

struct dpr_loader {
    dpr_loader_options_t options;
    bool *needs; /* the two arrays of options, as one block */
    long steps;
    uint32_t *order; /* the thread's own: of epoch order_epoch; NULL in an evaluation */
    long order_epoch;
    dpr_loader_stalls_t stalls; /* the consumer's own */
    pthread_t thread;

    /* Batches are numbered in the order of their starts; waited <= ready <= started <= waited + 2.
     */
    pthread_mutex_t lock;
    pthread_cond_t
        changed; /* started, ready or stop did; each side only ever waits for the other */
    uint64_t started;
    uint64_t ready;
    uint64_t waited;
    long step[BUFFERS]; /* of batch n at n mod 2 */
    bool stop;
};

/* ---- The loader's thread ---- */

static void select_epoch(dpr_loader_t *loader, long epoch)
{
    if (loader->order != NULL && loader->order_epoch != epoch) {
        dpr_batch_order(loader->options.seed, epoch, loader->options.dataset->count, loader->order);
        loader->order_epoch = epoch;
    }
}

static void gather(dpr_loader_t *loader, long step, int buffer)
{
    const dpr_loader_options_t *options = &loader->options;
    const size_t micro_batches = (size_t)options->micro_batches;
    const size_t rows = (size_t)options->micro_batch_size;
    const size_t first = (size_t)(step % loader->steps) * micro_batches * rows;
    select_epoch(loader, step / loader->steps);
    for (size_t m = 0; m < micro_batches; m++) {
        float *inputs = NULL;
        int32_t *labels = NULL;
        if (options->needs_inputs[m]) {
            inputs = options->inputs[buffer] + m * rows * (size_t)options->dataset->features;
        }
        if (options->needs_labels[m]) {
            labels = options->labels[buffer] + m * rows;
        }
        if (inputs != NULL || labels != NULL) {
            dpr_batch_gather(options->dataset, loader->order, first + m * rows,
                             options->micro_batch_size, inputs, labels);
        }
    }
}

static void *loader_main(void *argument)
{
    dpr_loader_t *loader = argument;
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (loader->ready == loader->started && !loader->stop) {
            pthread_cond_wait(&loader->changed, &loader->lock);
        }
        if (loader->stop) {
            break;
        }
        const int buffer = (int)(loader->ready % BUFFERS);
        const long step = loader->step[buffer];
        pthread_mutex_unlock(&loader->lock);
        gather(loader, step, buffer);
        pthread_mutex_lock(&loader->lock);
        loader->ready++;
        pthread_cond_signal(&loader->changed);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ---- Creation ---- */

static dpr_status_t count_steps(dpr_loader_t *loader)
{
    const dpr_loader_options_t *options = &loader->options;
    if (options->order == DPR_LOADER_TRAIN) {
        return dpr_batch_train_steps(options->dataset->count, options->micro_batches,
                                     options->micro_batch_size, &loader->steps);
    }
    loader->steps = dpr_batch_eval_steps(options->dataset->count, options->micro_batches,
                                         options->micro_batch_size);
    return DPR_OK;
}

static dpr_status_t allocate(dpr_loader_t *loader)
{
    dpr_loader_options_t *options = &loader->options;
    const size_t micro_batches = (size_t)options->micro_batches;
    DPR_TRY(dpr_calloc(2 * micro_batches, sizeof(bool), &loader->needs));
    memcpy(loader->needs, options->needs_inputs, micro_batches * sizeof(bool));
    memcpy(loader->needs + micro_batches, options->needs_labels, micro_batches * sizeof(bool));
    options->needs_inputs = loader->needs;
    options->needs_labels = loader->needs + micro_batches;
    loader->order_epoch = -1;
    if (options->order == DPR_LOADER_TRAIN) {
        DPR_TRY(dpr_calloc(options->dataset->count, sizeof(uint32_t), &loader->order));
    }
    return DPR_OK;
}

static void release(dpr_loader_t *loader)
{
    free(loader->needs);
    free(loader->order);
    free(loader);
}

dpr_status_t dpr_loader_create(const dpr_loader_options_t *options, dpr_loader_t **out)
{
    dpr_loader_t *loader;
    dpr_status_t status;
    DPR_TRY(dpr_calloc(1, sizeof *loader, &loader));
    loader->options = *options;
    DPR_TRY_GOTO(count_steps(loader), release_loader);
    DPR_TRY_GOTO(allocate(loader), release_loader);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    const int error = pthread_create(&loader->thread, NULL, loader_main, loader);
    if (error != 0) {
        status = dpr_fail(DPR_ERR_SYSTEM, "cannot start the loader's thread: %s", strerror(error));
        goto destroy_lock;
    }
    pthread_setname_np(loader->thread, "loader");
    *out = loader;
    return DPR_OK;

destroy_lock:
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
release_loader:
    release(loader);
    return status;
}

void dpr_loader_destroy(dpr_loader_t *loader)
{
    if (loader == NULL) {
        return;
    }
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_signal(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    pthread_join(loader->thread, NULL);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    release(loader);
}

/* ---- The consumer's side ---- */

long dpr_loader_steps(const dpr_loader_t *loader)
{
    return loader->steps;
}

void dpr_loader_start(dpr_loader_t *loader, long step)
{
    assert(step >= 0);
    pthread_mutex_lock(&loader->lock);
    assert(loader->started < loader->waited + BUFFERS);
    loader->step[loader->started % BUFFERS] = step;
    loader->started++;
    pthread_cond_signal(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
}

static double now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int dpr_loader_wait(dpr_loader_t *loader)
{
    pthread_mutex_lock(&loader->lock);
    assert(loader->waited < loader->started);
    if (loader->ready == loader->waited) {
        const double since_sec = now_sec();
        while (loader->ready == loader->waited) {
            pthread_cond_wait(&loader->changed, &loader->lock);
        }
        loader->stalls.count++;
        loader->stalls.sec += now_sec() - since_sec;
    }
    const int buffer = (int)(loader->waited % BUFFERS);
    loader->waited++;
    pthread_mutex_unlock(&loader->lock);
    return buffer;
}

void dpr_loader_stalls(const dpr_loader_t *loader, dpr_loader_stalls_t *stalls)
{
    *stalls = loader->stalls;
}
