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

/* The same, copied into `gradients` (host memory, the stage's parameters floats). Waits. */
dpr_status_t dpr_reference_read_gradients(dpr_reference_t *reference, int stage, float *gradients);

/*
 * How far losses and gradients of a pipelined run may be from the reference's of the same dtype, as
 * dpr_relative_difference has it: 1e-5 for fp32, 2.5e-3 for tf32, 2e-2 for bf16.
 *
 * Both sum the micro-batches' gradients in float, in different orders, so parameters differ in
 * their last bits from the second step on. In fp32 that stays a matter of last bits. Under bf16 and
 * tf32 such a bit decides now and then which way an operand is rounded, which moves it by up to a
 * unit in its last place: twice the unit round-off, 2^-8 of bf16's 8 significant bits and 2^-11 of
 * tf32's 11. The tolerance is five unit round-offs.
 */
double dpr_reference_tolerance(dpr_dtype_t dtype);

/*
 * ||a - b|| / ||b|| over `count` floats, in double; where b is all zero, ||a - b||.
 */
double dpr_relative_difference(const float *a, const float *b, size_t count);

#endif
