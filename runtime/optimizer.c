/* Settings, learning rates, and one stage's optimizer state. */
#include "runtime/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

struct dpr_optimizer {
    dpr_optimizer_config_t config;
    dpr_device_t *device;
    size_t count;
    size_t decayed;
    float *state; /* device memory: v of SGD; m, then at `stride` v of AdamW */
    size_t stride;
};

enum { ALIGN_FLOATS = 64 }; /* v starts where device memory would: at a multiple of 256 bytes */

/* ---- Settings ---- */

void dpr_optimizer_config_default(dpr_optimizer_config_t *config)
{
    *config = (dpr_optimizer_config_t){
        .kind = DPR_OPTIMIZER_ADAMW,
        .learning_rate = 1e-3f,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .momentum = 0.9f,
        .weight_decay = 0.01f,
        .clip_norm = 1.0f,
        .warmup_steps = 20,
        .schedule = DPR_LR_COSINE,
        .min_lr_fraction = 0.1f,
    };
}

dpr_status_t dpr_optimizer_config_check(const dpr_optimizer_config_t *config)
{
    const struct {
        const char *option;
        float value;
        bool allowed; /* false also where the value is not a number */
        const char *range;
    } rules[] = {
        {"--lr", config->learning_rate, config->learning_rate >= 0.0f, "at least 0"},
        {"--beta1", config->beta1, config->beta1 >= 0.0f && config->beta1 < 1.0f,
         "from 0 to below 1"},
        {"--beta2", config->beta2, config->beta2 >= 0.0f && config->beta2 < 1.0f,
         "from 0 to below 1"},
        {"--epsilon", config->epsilon, config->epsilon > 0.0f, "above 0"},
        {"--momentum", config->momentum, config->momentum >= 0.0f && config->momentum < 1.0f,
         "from 0 to below 1"},
        {"--weight-decay", config->weight_decay, config->weight_decay >= 0.0f, "at least 0"},
        {"--clip", config->clip_norm, config->clip_norm >= 0.0f, "at least 0 (0: no clipping)"},
        {"--min-lr", config->min_lr_fraction,
         config->min_lr_fraction >= 0.0f && config->min_lr_fraction <= 1.0f,
         "from 0 to 1, a fraction of --lr"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (!rules[i].allowed || !isfinite(rules[i].value)) {
            return dpr_fail(DPR_ERR_INVALID, "%s %g is out of range: give a number %s",
                            rules[i].option, (double)rules[i].value, rules[i].range);
        }
    }
    if (config->warmup_steps < 0) {
        return dpr_fail(DPR_ERR_INVALID, "--warmup %ld is out of range: give 0 steps or more",
                        config->warmup_steps);
    }
    return DPR_OK;
}

static const char *const kind_names[] = {
    [DPR_OPTIMIZER_ADAMW] = "adamw", [DPR_OPTIMIZER_SGD] = "sgd"};
static const char *const schedule_names[] = {
    [DPR_LR_CONSTANT] = "constant", [DPR_LR_COSINE] = "cosine"};

const char *dpr_optimizer_kind_name(dpr_optimizer_kind_t kind)
{
    return kind_names[kind];
}

const char *dpr_lr_schedule_name(dpr_lr_schedule_t schedule)
{
    return schedule_names[schedule];
}

dpr_status_t dpr_optimizer_kind_parse(const char *text, dpr_optimizer_kind_t *kind)
{
    for (int k = DPR_OPTIMIZER_ADAMW; k <= DPR_OPTIMIZER_SGD; k++) {
        if (strcmp(text, kind_names[k]) == 0) {
            *kind = (dpr_optimizer_kind_t)k;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "--optimizer '%s' is unknown: give adamw or sgd", text);
}

dpr_status_t dpr_lr_schedule_parse(const char *text, dpr_lr_schedule_t *schedule)
{
    for (int s = DPR_LR_CONSTANT; s <= DPR_LR_COSINE; s++) {
        if (strcmp(text, schedule_names[s]) == 0) {
            *schedule = (dpr_lr_schedule_t)s;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "--lr-schedule '%s' is unknown: give constant or cosine",
                    text);
}

/* ---- Learning rate ---- */

float dpr_learning_rate(const dpr_optimizer_config_t *config, long step, long total_steps)
{
    const double pi = 3.141592653589793;
    const double highest = (double)config->learning_rate;
    const long warmup = config->warmup_steps;
    if (step < warmup) {
        return (float)(highest * (double)(step + 1) / (double)warmup);
    }
    if (config->schedule == DPR_LR_CONSTANT) {
        return config->learning_rate;
    }
    const double lowest = highest * (double)config->min_lr_fraction;
    if (step >= total_steps) {
        return (float)lowest;
    }
    const double t = (double)(step - warmup) / (double)(total_steps - warmup);
    return (float)(lowest + (highest - lowest) * 0.5 * (1.0 + cos(pi * t)));
}

/* ---- State ---- */

static size_t state_stride(size_t count)
{
    return (count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

size_t dpr_optimizer_bytes(const dpr_optimizer_config_t *config, size_t count)
{
    return (config->kind == DPR_OPTIMIZER_ADAMW ? 2 : 1) * state_stride(count) * sizeof(float);
}

dpr_status_t dpr_optimizer_create(const dpr_optimizer_config_t *config, dpr_device_t *device,
                                  dpr_stream_t *stream, size_t count, size_t decayed,
                                  dpr_optimizer_t **out)
{
    const size_t bytes = dpr_optimizer_bytes(config, count);
    dpr_optimizer_t *optimizer;
    void *state;
    dpr_status_t status;
    DPR_TRY(dpr_calloc(1, sizeof *optimizer, &optimizer));
    *optimizer = (dpr_optimizer_t){.config = *config,
                                   .device = device,
                                   .count = count,
                                   .decayed = decayed,
                                   .stride = state_stride(count)};
    DPR_TRY_GOTO(dpr_device_alloc(device, DPR_MEMORY_DEVICE, bytes, &state), destroy);
    optimizer->state = state;
    DPR_TRY_GOTO(dpr_stream_fill(stream, optimizer->state, 0, bytes), destroy);
    DPR_TRY_GOTO(dpr_stream_synchronize(stream), destroy);
    *out = optimizer;
    return DPR_OK;

destroy:
    dpr_optimizer_destroy(optimizer);
    return status;
}

void dpr_optimizer_destroy(dpr_optimizer_t *optimizer)
{
    if (optimizer == NULL) {
        return;
    }
    dpr_device_free(optimizer->device, DPR_MEMORY_DEVICE, optimizer->state);
    free(optimizer);
}

float *dpr_optimizer_state(dpr_optimizer_t *optimizer)
{
    return optimizer->state;
}

static dpr_status_t step_by(dpr_optimizer_t *optimizer, dpr_kernels_t *kernels,
                            dpr_stream_t *stream, long step, float learning_rate,
                            const float *factor, const float *gradients, float *parameters,
                            void *working)
{
    const dpr_optimizer_config_t *config = &optimizer->config;
    if (config->kind == DPR_OPTIMIZER_SGD) {
        return kernels->sgd(kernels, stream, optimizer->count, optimizer->decayed, learning_rate,
                            config->momentum, config->weight_decay, factor, gradients,
                            optimizer->state, parameters, working);
    }
    const double t = (double)(step + 1);
    const dpr_adamw_t settings = {
        .learning_rate = learning_rate,
        .beta1 = config->beta1,
        .beta2 = config->beta2,
        .epsilon = config->epsilon,
        .weight_decay = config->weight_decay,
        .correction1 = (float)(1.0 - pow((double)config->beta1, t)),
        .correction2 = (float)(1.0 - pow((double)config->beta2, t)),
    };
    return kernels->adamw(kernels, stream, optimizer->count, optimizer->decayed, &settings, factor,
                          gradients, optimizer->state, optimizer->state + optimizer->stride,
                          parameters, working);
}

dpr_status_t dpr_optimizer_step(dpr_optimizer_t *optimizer, dpr_kernels_t *kernels,
                                dpr_stream_t *stream, long step, long total_steps,
                                const float *factor, const float *gradients, float *parameters,
                                void *working)
{
    return step_by(optimizer, kernels, stream, step,
                   dpr_learning_rate(&optimizer->config, step, total_steps), factor, gradients,
                   parameters, working);
}

dpr_status_t dpr_optimizer_rehearse(dpr_optimizer_t *optimizer, dpr_kernels_t *kernels,
                                    dpr_stream_t *stream, const float *factor,
                                    const float *gradients, float *parameters, void *working)
{
    DPR_TRY(step_by(optimizer, kernels, stream, 0, 0.0F, factor, gradients, parameters, working));
    return dpr_stream_fill(stream, optimizer->state, 0,
                           dpr_optimizer_bytes(&optimizer->config, optimizer->count));
}
