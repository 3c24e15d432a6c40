/*
 * The loader: a thread that gathers the next global batch while the step before it runs.
 *
 *     start(0)  wait -> buffer 0  start(1)  ... step 0 ...  wait -> buffer 1  start(2)  ...
 *
 * Two buffers, taken in turn: the n-th start (from 0) fills buffer n mod 2. What wait returned is
 * the caller's until the next start that fills the same buffer; by then whatever copies from it
 * must be over. At most two batches are started and not yet waited for.
 *
 * start, wait and stalls are called by one thread. Nothing is allocated after creation, and start
 * never waits for the gathering.
 */
#ifndef DPR_RUNTIME_LOADER_H
#define DPR_RUNTIME_LOADER_H

#include <stdbool.h>

#include "runtime/batch.h"

typedef struct dpr_loader dpr_loader_t;

typedef enum dpr_loader_order {
    DPR_LOADER_TRAIN, /* a new permutation each epoch, the partial batch left out */
    DPR_LOADER_EVAL,  /* as stored, the partial batch padded */
} dpr_loader_order_t;

/*
 * What is borrowed outlives the loader. Micro-batch m is gathered into buffer b at
 * inputs[b] + m * micro_batch_size * features and labels[b] + m * micro_batch_size; parts that are
 * not needed are not touched, and where no part is, the buffers may be NULL.
 */
typedef struct dpr_loader_options {
    const dpr_dataset_t *dataset; /* borrowed */
    dpr_loader_order_t order;
    uint64_t seed; /* of the permutations */
    int micro_batches;
    int micro_batch_size;
    const bool *needs_inputs; /* [micro_batches], copied */
    const bool *needs_labels;
    float *inputs[2];   /* borrowed; [micro_batches][micro_batch_size][features] each */
    int32_t *labels[2]; /* borrowed; [micro_batches][micro_batch_size] each */
} dpr_loader_options_t;

/*
 * Errors: DPR_ERR_INVALID where the train split does not fill one global batch
 * (dpr_batch_train_steps); DPR_ERR_MEMORY; DPR_ERR_SYSTEM where no thread can be started.
 */
dpr_status_t dpr_loader_create(const dpr_loader_options_t *options, dpr_loader_t **loader);

/* Waits for the batch that is being gathered. NULL is allowed. */
void dpr_loader_destroy(dpr_loader_t *loader);

/* Steps in an epoch, or in one evaluation. */
long dpr_loader_steps(const dpr_loader_t *loader);

/*
 * Starts gathering global step `step` (from 0 over all epochs: epoch step / steps, and within it
 * step mod steps; an evaluation starts over with each epoch). Steps may come in any order; only a
 * change of epoch costs a new permutation.
 */
void dpr_loader_start(dpr_loader_t *loader, long step);

/* Waits for the oldest batch that was started and not waited for; returns its buffer, 0 or 1. */
int dpr_loader_wait(dpr_loader_t *loader);

/* How often, and for how long in all, wait found its batch not ready. */
typedef struct dpr_loader_stalls {
    uint64_t count;
    double sec;
} dpr_loader_stalls_t;
void dpr_loader_stalls(const dpr_loader_t *loader, dpr_loader_stalls_t *stalls);

#endif
