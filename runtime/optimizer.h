/*
 * The optimizer: its settings, the learning rate of each step, and its state for one stage's
 * parameters.
 */
#ifndef DPR_RUNTIME_OPTIMIZER_H
#define DPR_RUNTIME_OPTIMIZER_H

#include "kernels/kernels.h"

typedef enum dpr_optimizer_kind {
    DPR_OPTIMIZER_ADAMW, /* Loshchilov and Hutter 2019, algorithm 2 */
    DPR_OPTIMIZER_SGD,   /* with momentum */
} dpr_optimizer_kind_t;

typedef enum dpr_lr_schedule {
    DPR_LR_CONSTANT,
    DPR_LR_COSINE,
} dpr_lr_schedule_t;

typedef struct dpr_optimizer_config {
    dpr_optimizer_kind_t kind;
    float learning_rate; /* the highest, reached at the end of the warm-up */
    float beta1;         /* AdamW */
    float beta2;
    float epsilon;
    float momentum; /* SGD */
    float weight_decay;
    float clip_norm; /* of the gradient over all stages; 0: no clipping */
    long warmup_steps;
    dpr_lr_schedule_t schedule;
    float min_lr_fraction; /* of learning_rate: where the cosine ends */
} dpr_optimizer_config_t;

/* AdamW, 1e-3, betas 0.9 and 0.999, weight decay 0.01, clipping at 1, 20 steps of warm-up, then a
 * cosine down to a tenth. */
void dpr_optimizer_config_default(dpr_optimizer_config_t *config);

/* Errors: DPR_ERR_INVALID, logged with the option's name, the value and what is allowed. */
dpr_status_t dpr_optimizer_config_check(const dpr_optimizer_config_t *config);

/* "adamw", "sgd"; "constant", "cosine". Parsing: DPR_ERR_INVALID, logged with the choices. */
const char *dpr_optimizer_kind_name(dpr_optimizer_kind_t kind);
const char *dpr_lr_schedule_name(dpr_lr_schedule_t schedule);
dpr_status_t dpr_optimizer_kind_parse(const char *text, dpr_optimizer_kind_t *kind);
dpr_status_t dpr_lr_schedule_parse(const char *text, dpr_lr_schedule_t *schedule);

/*
 * The learning rate of step `step` (from 0) of `total_steps`. With W = warmup_steps:
 *
 *     step < W   learning_rate (step + 1) / W
 *     constant   learning_rate
 *     cosine     floor + (learning_rate - floor) (1 + cos(pi t)) / 2, where
 *                floor = min_lr_fraction learning_rate, t = (step - W) / (total_steps - W);
 *                floor itself from total_steps on
 */
float dpr_learning_rate(const dpr_optimizer_config_t *config, long step, long total_steps);

/*
 * The state for `count` parameters of one stage, of which weight decay applies to the first
 * `decayed`, in device memory, all zero. `stream` is used for that and synchronized; `config`
 * (checked) is copied. Errors: DPR_ERR_MEMORY, and what the stream reports.
 */
typedef struct dpr_optimizer dpr_optimizer_t;
dpr_status_t dpr_optimizer_create(const dpr_optimizer_config_t *config, dpr_device_t *device,
                                  dpr_stream_t *stream, size_t count, size_t decayed,
                                  dpr_optimizer_t **optimizer);
void dpr_optimizer_destroy(dpr_optimizer_t *optimizer); /* NULL is allowed */

/* Bytes of device memory that the state of `count` parameters takes. */
size_t dpr_optimizer_bytes(const dpr_optimizer_config_t *config, size_t count);

/* That memory, for a checkpoint to copy as a whole. */
float *dpr_optimizer_state(dpr_optimizer_t *optimizer);

/*
 * Enqueues step `step` (from 0): gradients [count] are multiplied by factor[0], and parameters
 * [count] and the state are updated. All three are device memory. Errors: what enqueuing reports.
 */
dpr_status_t dpr_optimizer_step(dpr_optimizer_t *optimizer, dpr_kernels_t *kernels,
                                dpr_stream_t *stream, long step, long total_steps,
                                const float *factor, const float *gradients, float *parameters,
                                void *working);

/*
 * What a step costs, with a learning rate of 0: the parameters keep their bits, where the gradients
 * are finite, and the state goes back to zeros. For calibration, before the first step.
 */
dpr_status_t dpr_optimizer_rehearse(dpr_optimizer_t *optimizer, dpr_kernels_t *kernels,
                                    dpr_stream_t *stream, const float *factor,
                                    const float *gradients, float *parameters, void *working);

#endif
