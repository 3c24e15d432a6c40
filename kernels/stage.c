/* The MLP stage's memory: parameters, gradients and working copy, from creation to destruction. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "kernels/stage_impl.h"

/* Copies the initial parameters by way of `staging`, makes the working copy, zeroes the gradients,
 * and waits for all. */
static dpr_status_t initialise(dpr_stage_t *stage, dpr_stream_t *stream, float *staging)
{
    const size_t bytes = stage->layout.shape.parameters * sizeof(float);
    dpr_stage_initial_parameters(&stage->config, &stage->layout, staging);
    dpr_status_t status = dpr_stream_copy(stream, stage->parameters, staging, bytes);
    if (status == DPR_OK) {
        status = dpr_stream_fill(stream, stage->gradients, 0, bytes);
    }
    if (status == DPR_OK && stage->working != NULL) {
        status = stage->kernels->convert(stage->kernels, stream, stage->layout.shape.parameters,
                                         stage->parameters, stage->working);
    }
    /* Also after a failure: the memory is freed next. */
    const dpr_status_t finished = dpr_stream_synchronize(stream);
    return status != DPR_OK ? status : finished;
}

static dpr_status_t allocate(dpr_stage_t *stage, dpr_stream_t *stream)
{
    const size_t bytes = stage->layout.shape.parameters * sizeof(float);
    void *memory;
    DPR_TRY(dpr_device_alloc(stage->device, DPR_MEMORY_DEVICE, bytes, &memory));
    stage->parameters = memory;
    DPR_TRY(dpr_device_alloc(stage->device, DPR_MEMORY_DEVICE, bytes, &memory));
    stage->gradients = memory;
    if (stage->layout.shape.working_bytes > 0) {
        DPR_TRY(dpr_device_alloc(stage->device, DPR_MEMORY_DEVICE,
                                 stage->layout.shape.working_bytes, &stage->working));
    }
    DPR_TRY(dpr_device_alloc(stage->device, DPR_MEMORY_PINNED, bytes, &memory));
    const dpr_status_t status = initialise(stage, stream, memory);
    dpr_device_free(stage->device, DPR_MEMORY_PINNED, memory);
    return status;
}

dpr_status_t dpr_stage_create(const dpr_model_config_t *config, int stages, int stage,
                              dpr_device_t *device, dpr_kernels_t *kernels, dpr_stream_t *stream,
                              dpr_stage_t **out)
{
    dpr_stage_layout_t layout;
    DPR_TRY(dpr_stage_layout(config, stages, stage, &layout));
    dpr_stage_t *made;
    if (kernels->dtype != config->dtype) {
        return dpr_fail(
            DPR_ERR_INVALID, "model: its number format is %s, but the %s kernels have %s",
            dpr_dtype_name(config->dtype), kernels->kind, dpr_dtype_name(kernels->dtype));
    }
    DPR_TRY(dpr_calloc(1, sizeof *made, &made));
    *made =
        (dpr_stage_t){.config = *config, .layout = layout, .device = device, .kernels = kernels};
    const dpr_status_t status = allocate(made, stream);
    if (status != DPR_OK) {
        dpr_stage_destroy(made);
        return status;
    }
    *out = made;
    return DPR_OK;
}

void dpr_stage_destroy(dpr_stage_t *stage)
{
    if (stage == NULL) {
        return;
    }
    if (stage->working != NULL) {
        dpr_device_free(stage->device, DPR_MEMORY_DEVICE, stage->working);
    }
    if (stage->gradients != NULL) {
        dpr_device_free(stage->device, DPR_MEMORY_DEVICE, stage->gradients);
    }
    if (stage->parameters != NULL) {
        dpr_device_free(stage->device, DPR_MEMORY_DEVICE, stage->parameters);
    }
    free(stage);
}

const dpr_stage_shape_t *dpr_stage_get_shape(const dpr_stage_t *stage)
{
    return &stage->layout.shape;
}

float *dpr_stage_parameters(dpr_stage_t *stage)
{
    return stage->parameters;
}

float *dpr_stage_gradients(dpr_stage_t *stage)
{
    return stage->gradients;
}

void *dpr_stage_working(dpr_stage_t *stage)
{
    return stage->working;
}
