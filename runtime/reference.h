/*
 * The reference: the same model trained in one process, stage after stage and micro-batch after
 * micro-batch, without graph, executor or communication. What a pipelined run is held against.
 */
#ifndef DPR_RUNTIME_REFERENCE_H
#define DPR_RUNTIME_REFERENCE_H

#include "kernels/stage.h"
#include "runtime/optimizer.h"

typedef struct dpr_reference dpr_reference_t;

/*
 * Allocates all `stages` of the model on `device`, which nobody else uses meanwhile. `optimizer`
 * (may be NULL: no updates) is copied. Errors: those of dpr_stage_create and dpr_optimizer_create.
 */
dpr_status_t dpr_reference_create(const dpr_model_config_t *model, int stages,
                                  const dpr_optimizer_config_t *optimizer, long total_steps,
                                  dpr_device_t *device, dpr_kernels_t *kernels,
                                  dpr_reference_t **reference);
void dpr_reference_destroy(dpr_reference_t *reference); /* NULL is allowed */

/*
 * One step on `micro_batches` micro-batches: inputs [M][micro_batch_size][input] and labels
 * [M][micro_batch_size] in host memory. Leaves the gradients (before clipping) to be read and
 * returns the loss; then, with an optimizer, updates the parameters. Waits until all is done.
 */
dpr_status_t dpr_reference_step(dpr_reference_t *reference, const float *inputs,
                                const int32_t *labels, int micro_batches, long step, double *loss);

/* Stage s's gradients of the last step, in the device's memory. */
const float *dpr_reference_gradients(const dpr_reference_t *reference, int stage);

/*
 * ||a - b|| / ||b|| over `count` floats, in double; where b is all zero, ||a - b||.
 */
double dpr_relative_difference(const float *a, const float *b, size_t count);

#endif
