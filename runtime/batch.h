/*
 * Batches: which samples a step trains on, and in what order. Pure functions, the same on every
 * rank.
 *
 *     epoch     one permutation of the split's samples, or the order in which they are stored
 *     step k    positions k G .. (k + 1) G - 1 of it, where G = M * micro_batch_size is the global
 *               batch
 *     row       position (k M + m) micro_batch_size + row is in micro-batch m of step k
 *
 * In training a last, partial global batch is left out (another permutation leaves out others); an
 * evaluation covers every sample and pads its last batch.
 */
#ifndef DPR_RUNTIME_BATCH_H
#define DPR_RUNTIME_BATCH_H

#include "runtime/dataset.h"

enum { DPR_LABEL_NONE = -1 }; /* of a row that only pads; no loss is taken of it */

/*
 * Fills order[0 .. count - 1] with the permutation of 0 .. count - 1 that `seed` and `epoch` (from
 * 0) determine: Fisher-Yates, every permutation equally likely. count is at most 2^32 - 1.
 */
void dpr_batch_order(uint64_t seed, long epoch, size_t count, uint32_t *order);

/*
 * Whole global batches in an epoch of `count` samples. Errors: DPR_ERR_INVALID where there is not
 * one, logged with the sizes and what would do.
 */
dpr_status_t dpr_batch_train_steps(size_t count, int micro_batches, int micro_batch_size,
                                   long *steps);

/* Global batches that cover `count` samples, the last perhaps in part. */
long dpr_batch_eval_steps(size_t count, int micro_batches, int micro_batch_size);

/*
 * Gathers `rows` samples from `position` of `order` on (NULL: as stored) into inputs
 * [rows][features], normalised, and labels [rows]; either may be NULL. Rows beyond the split's end
 * get zeros and DPR_LABEL_NONE.
 */
void dpr_batch_gather(const dpr_dataset_t *dataset, const uint32_t *order, size_t position,
                      int rows, float *inputs, int32_t *labels);

#endif
