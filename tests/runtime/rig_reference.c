/* The rig's defaults and data, the same steps by one process, and how far two results differ. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "rig_impl.h"
#include "runtime/reference.h"

void rig_config_default(rig_config_t *config, const dpr_program_t *program)
{
    *config = (rig_config_t){
        .program = program,
        .graph = DPR_GRAPH_OPTIONS_DEFAULT,
        .model = {.input = 13,
                  .hidden = 16,
                  .ffn = 24,
                  .classes = 5,
                  .blocks = program->stages,
                  .micro_batch_size = 3,
                  .seed = 7},
        .steps = 3,
        .update = true,
        .clock = DPR_CLOCK_MODEL,
        .costs = {.f = 1.0, .i = 1.1, .w = 0.9, .b = -1.0, .fb = -1.0, .wire = 0.05},
    };
}

void rig_make_optimizer(dpr_optimizer_config_t *config)
{
    dpr_optimizer_config_default(config);
    config->clip_norm = 0.5f;
    config->warmup_steps = 1; /* the full rate at once: rounding differences are amplified by it */
}

void rig_make_batch(const rig_config_t *config, int step, float *inputs, int32_t *labels)
{
    const size_t rows =
        (size_t)config->program->micro_batches * (size_t)config->model.micro_batch_size;
    const size_t features = (size_t)config->model.input;
    for (size_t i = 0; i < rows * features; i++) {
        inputs[i] = (float)dpr_random_normal(99, (uint64_t)step, i);
    }
    for (size_t i = 0; i < rows; i++) {
        labels[i] =
            (int32_t)(dpr_random_bits(98, (uint64_t)step, i) % (uint64_t)config->model.classes);
    }
}

static dpr_status_t reference_steps(const rig_config_t *config, dpr_reference_t *reference,
                                    rig_result_t *result)
{
    const size_t rows =
        (size_t)config->program->micro_batches * (size_t)config->model.micro_batch_size;
    float *inputs = malloc(rows * (size_t)config->model.input * sizeof(float));
    int32_t *labels = malloc(rows * sizeof(int32_t));
    dpr_status_t status = DPR_OK;
    for (int k = 0; k < config->steps && status == DPR_OK; k++) {
        rig_make_batch(config, k, inputs, labels);
        status = dpr_reference_step(reference, inputs, labels, config->program->micro_batches, k,
                                    &result->loss[k]);
        for (int s = 0; s < result->stages && status == DPR_OK; s++) {
            dpr_stage_shape_t shape;
            status = dpr_stage_shape(&config->model, result->stages, s, &shape);
            float *copy = malloc(shape.parameters * sizeof(float));
            memcpy(copy, dpr_reference_gradients(reference, s), shape.parameters * sizeof(float));
            result->gradients[k * result->stages + s] = copy;
        }
    }
    free(inputs);
    free(labels);
    return status;
}

void rig_run_reference(const rig_config_t *config, rig_result_t *result)
{
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    dpr_device_t *device = NULL;
    dpr_kernels_t *kernels = NULL;
    dpr_reference_t *reference = NULL;
    dpr_optimizer_config_t optimizer;
    dpr_model_config_t model = config->model;
    model.dtype = DPR_DTYPE_FP32;
    rig_make_optimizer(&optimizer);
    *result = (rig_result_t){
        .stages = config->program->stages, .steps = config->steps, .ranks = config->program->ranks};
    result->gradients = calloc((size_t)result->stages * (size_t)config->steps, sizeof(float *));
    if (dpr_host_device_create(&options, &device) != DPR_OK ||
        dpr_host_kernels_create(&kernels) != DPR_OK ||
        dpr_reference_create(&model, config->program->stages, config->update ? &optimizer : NULL,
                             config->steps, device, kernels, &reference) != DPR_OK) {
        abort();
    }
    result->status = reference_steps(config, reference, result);
    dpr_reference_destroy(reference);
    dpr_kernels_destroy(kernels);
    dpr_device_destroy(device);
}

double rig_gradient_difference(const rig_config_t *config, const rig_result_t *a,
                               const rig_result_t *b)
{
    double worst = 0.0;
    for (int i = 0; i < a->steps * a->stages; i++) {
        dpr_stage_shape_t shape;
        if (a->gradients[i] == NULL || b->gradients[i] == NULL ||
            dpr_stage_shape(&config->model, a->stages, i % a->stages, &shape) != DPR_OK) {
            return INFINITY;
        }
        const double difference =
            dpr_relative_difference(a->gradients[i], b->gradients[i], shape.parameters);
        worst = difference > worst || isnan(difference) ? difference : worst;
    }
    return worst;
}

double rig_loss_difference(const rig_result_t *a, const rig_result_t *b)
{
    double worst = 0.0;
    for (int k = 0; k < a->steps; k++) {
        const double difference = fabs(a->loss[k] - b->loss[k]) / fabs(b->loss[k]);
        worst = difference > worst || isnan(difference) ? difference : worst;
    }
    return worst;
}
