/*
 * A whole model in one process, cut into stages, with buffers of their own for every stage and
 * micro-batch: what the stage's tests run, in whatever order they like. Buffers that nothing has
 * been written to hold NaN, so that reading too early shows.
 */
#ifndef DPR_TESTS_KERNELS_STAGE_RIG_H
#define DPR_TESTS_KERNELS_STAGE_RIG_H

#include "fixture.h"
#include "kernels/stage_layout.h"

enum { RIG_STAGES = 8, RIG_MICRO_BATCHES = 6 };

typedef struct rig {
    fixture_t *fixture;
    dpr_model_config_t config;
    int stages;
    int micro_batches;
    float loss_scale;
    dpr_stage_t *stage[RIG_STAGES];
    dpr_stage_layout_t layout[RIG_STAGES];
    dpr_stage_layout_t whole; /* of the model as one stage: the order of gathered parameters */
    dpr_stage_buffers_t buffers[RIG_STAGES][RIG_MICRO_BATCHES];
    array_t *input[RIG_MICRO_BATCHES];
    array_t *labels[RIG_MICRO_BATCHES];
    array_t *result[RIG_MICRO_BATCHES];
    array_t *act[RIG_STAGES][RIG_MICRO_BATCHES];  /* act_out of the stage */
    array_t *grad[RIG_STAGES][RIG_MICRO_BATCHES]; /* grad_in of the stage */
} rig_t;

/* Samples and labels depend on the micro-batch's number alone. */
void rig_open(rig_t *rig, fixture_t *fixture, const dpr_model_config_t *config, int stages,
              int micro_batches);
/* Waits and destroys the stages; the arrays are the fixture's and stay until fixture_release. */
void rig_close(rig_t *rig);

/* One stage and micro-batch on the fixture's stream. */
void rig_forward(rig_t *rig, int stage, int micro_batch);
void rig_backward(rig_t *rig, int stage, int micro_batch);
void rig_backward_input(rig_t *rig, int stage, int micro_batch);
void rig_backward_weight(rig_t *rig, int stage, int micro_batch);

/* All stages, all micro-batches: each forward and then backward before the next. */
void rig_train(rig_t *rig);

/* Device memory of all stages in the order of the whole model: [whole.shape.parameters] floats that
 * test_free() releases. */
float *rig_gather_parameters(rig_t *rig);
float *rig_gather_gradients(rig_t *rig);

/* Copies between a stage's device memory and the host. */
void rig_read(rig_t *rig, const void *device, size_t bytes, void *host);
void rig_write(rig_t *rig, void *device, size_t bytes, const void *host);

/* The losses, scaled, of all micro-batches (also test_free()). */
double *rig_losses(rig_t *rig);

/* Fails unless the two rigs' losses and gradients are the same bits. */
void rig_expect_equal(rig_t *a, rig_t *b);

#endif
