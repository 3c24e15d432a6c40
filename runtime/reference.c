/* Trains the model in one process, the plain way. */
#include "runtime/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct dpr_reference {
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_model_config_t model;
    int stages;
    bool has_optimizer;
    dpr_optimizer_config_t optimizer;
    long total_steps;
    dpr_stream_t *stream;
    dpr_stage_t **stage;          /* [S] */
    dpr_optimizer_t **optimizers; /* [S] */
    void **saved;                 /* [S] */
    void *wstate;                 /* of the largest stage */
    void **acts;                  /* [S]: output of stage s; the last is unused */
    void *grads[2];               /* gradient of a stage's output, and of its input */
    float *input;                 /* one micro-batch */
    int32_t *labels;
    double *squares;   /* [S] */
    double *result;    /* [2] */
    float *input_host; /* pinned, one micro-batch */
    int32_t *labels_host;
    double *result_host;
    float *gradients_host; /* of the largest stage; made when first asked for */
    float *clip_factor;
};

static dpr_status_t device_alloc(dpr_reference_t *reference, size_t bytes, void *out)
{
    return dpr_device_alloc(reference->device, DPR_MEMORY_DEVICE, bytes, (void **)out);
}

static dpr_status_t pinned_alloc(dpr_reference_t *reference, size_t bytes, void *out)
{
    return dpr_device_alloc(reference->device, DPR_MEMORY_PINNED, bytes, (void **)out);
}

static dpr_status_t create_stage(dpr_reference_t *reference, int s, size_t *wstate_bytes)
{
    DPR_TRY(dpr_stage_create(&reference->model, reference->stages, s, reference->device,
                             reference->kernels, reference->stream, &reference->stage[s]));
    const dpr_stage_shape_t *shape = dpr_stage_get_shape(reference->stage[s]);
    *wstate_bytes = shape->wstate_bytes > *wstate_bytes ? shape->wstate_bytes : *wstate_bytes;
    DPR_TRY(device_alloc(reference, shape->saved_bytes, &reference->saved[s]));
    DPR_TRY(device_alloc(reference, shape->activation_bytes, &reference->acts[s]));
    if (!reference->has_optimizer) {
        return DPR_OK;
    }
    return dpr_optimizer_create(&reference->optimizer, reference->device, reference->stream,
                                shape->parameters, shape->decayed, &reference->optimizers[s]);
}

static dpr_status_t create_all(dpr_reference_t *reference)
{
    const size_t stages = (size_t)reference->stages;
    const size_t rows = (size_t)reference->model.micro_batch_size;
    size_t wstate_bytes = 0;
    DPR_TRY(dpr_stream_create(reference->device, "reference", 0, &reference->stream));
    DPR_TRY(reference->kernels->prepare(reference->kernels, reference->stream));
    DPR_TRY(dpr_calloc(stages, sizeof(dpr_stage_t *), &reference->stage));
    DPR_TRY(dpr_calloc(stages, sizeof(dpr_optimizer_t *), &reference->optimizers));
    DPR_TRY(dpr_calloc(stages, sizeof(void *), &reference->saved));
    DPR_TRY(dpr_calloc(stages, sizeof(void *), &reference->acts));
    for (int s = 0; s < reference->stages; s++) {
        DPR_TRY(create_stage(reference, s, &wstate_bytes));
    }
    const size_t act_bytes = dpr_stage_get_shape(reference->stage[0])->activation_bytes;
    DPR_TRY(device_alloc(reference, wstate_bytes, &reference->wstate));
    DPR_TRY(device_alloc(reference, act_bytes, &reference->grads[0]));
    DPR_TRY(device_alloc(reference, act_bytes, &reference->grads[1]));
    DPR_TRY(device_alloc(reference, rows * (size_t)reference->model.input * sizeof(float),
                         &reference->input));
    DPR_TRY(device_alloc(reference, rows * sizeof(int32_t), &reference->labels));
    DPR_TRY(pinned_alloc(reference, rows * (size_t)reference->model.input * sizeof(float),
                         &reference->input_host));
    DPR_TRY(pinned_alloc(reference, rows * sizeof(int32_t), &reference->labels_host));
    DPR_TRY(pinned_alloc(reference, 2 * sizeof(double), &reference->result_host));
    DPR_TRY(device_alloc(reference, stages * sizeof(double), &reference->squares));
    DPR_TRY(device_alloc(reference, 2 * sizeof(double), &reference->result));
    return device_alloc(reference, sizeof(float), &reference->clip_factor);
}

dpr_status_t dpr_reference_create(const dpr_model_config_t *model, int stages,
                                  const dpr_optimizer_config_t *optimizer, long total_steps,
                                  dpr_device_t *device, dpr_kernels_t *kernels,
                                  dpr_reference_t **out)
{
    dpr_reference_t *reference;
    DPR_TRY(dpr_calloc(1, sizeof *reference, &reference));
    reference->device = device;
    reference->kernels = kernels;
    reference->model = *model;
    reference->stages = stages;
    reference->total_steps = total_steps;
    if (optimizer != NULL) {
        reference->has_optimizer = true;
        reference->optimizer = *optimizer;
    }
    const dpr_status_t status = create_all(reference);
    if (status != DPR_OK) {
        dpr_reference_destroy(reference);
        return status;
    }
    *out = reference;
    return DPR_OK;
}

void dpr_reference_destroy(dpr_reference_t *reference)
{
    if (reference == NULL) {
        return;
    }
    dpr_stream_destroy(reference->stream);
    for (int s = 0; s < reference->stages; s++) {
        if (reference->stage != NULL) {
            dpr_stage_destroy(reference->stage[s]);
        }
        if (reference->optimizers != NULL) {
            dpr_optimizer_destroy(reference->optimizers[s]);
        }
        if (reference->saved != NULL) {
            dpr_device_free(reference->device, DPR_MEMORY_DEVICE, reference->saved[s]);
        }
        if (reference->acts != NULL) {
            dpr_device_free(reference->device, DPR_MEMORY_DEVICE, reference->acts[s]);
        }
    }
    void *const buffers[] = {reference->wstate, reference->grads[0],   reference->grads[1],
                             reference->input,  reference->labels,     reference->squares,
                             reference->result, reference->clip_factor};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        dpr_device_free(reference->device, DPR_MEMORY_DEVICE, buffers[i]);
    }
    void *const pinned[] = {reference->input_host, reference->labels_host, reference->result_host,
                            reference->gradients_host};
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        dpr_device_free(reference->device, DPR_MEMORY_PINNED, pinned[i]);
    }
    free(reference->stage);
    free(reference->optimizers);
    free(reference->saved);
    free(reference->acts);
    free(reference);
}

static dpr_stage_buffers_t stage_buffers(const dpr_reference_t *reference, int s)
{
    const bool is_first = s == 0;
    const bool is_last = s == reference->stages - 1;
    /* The gradient of stage s's output alternates between two buffers on the way down. */
    const int parity = s & 1;
    return (dpr_stage_buffers_t){
        .input = is_first ? reference->input : NULL,
        .labels = is_last ? reference->labels : NULL,
        .act_in = is_first ? NULL : reference->acts[s - 1],
        .act_out = is_last ? NULL : reference->acts[s],
        .grad_in = is_last ? NULL : reference->grads[parity],
        .grad_out = is_first ? NULL : reference->grads[1 - parity],
        .saved = reference->saved[s],
        .wstate = reference->wstate,
        .result = is_last ? reference->result : NULL,
    };
}

/* Forward and backward of one micro-batch; adds its loss. */
static dpr_status_t play_micro_batch(dpr_reference_t *reference, const float *input,
                                     const int32_t *labels, float loss_scale, double *loss)
{
    const size_t rows = (size_t)reference->model.micro_batch_size;
    const size_t input_bytes = rows * (size_t)reference->model.input * sizeof(float);
    const size_t label_bytes = rows * sizeof(int32_t);
    const size_t result_bytes = 2 * sizeof(double);
    memcpy(reference->input_host, input, input_bytes);
    memcpy(reference->labels_host, labels, label_bytes);
    DPR_TRY(
        dpr_stream_copy(reference->stream, reference->input, reference->input_host, input_bytes));
    DPR_TRY(
        dpr_stream_copy(reference->stream, reference->labels, reference->labels_host, label_bytes));
    for (int s = 0; s < reference->stages; s++) {
        const dpr_stage_buffers_t buffers = stage_buffers(reference, s);
        DPR_TRY(dpr_stage_forward(reference->stage[s], reference->stream, &buffers, loss_scale));
    }
    for (int s = reference->stages - 1; s >= 0; s--) {
        const dpr_stage_buffers_t buffers = stage_buffers(reference, s);
        DPR_TRY(dpr_stage_backward(reference->stage[s], reference->stream, &buffers));
    }
    DPR_TRY(dpr_stream_copy(reference->stream, reference->result_host, reference->result,
                            result_bytes));
    DPR_TRY(dpr_stream_synchronize(reference->stream));
    *loss += reference->result_host[0];
    return DPR_OK;
}

static dpr_status_t update(dpr_reference_t *reference, long step)
{
    dpr_kernels_t *kernels = reference->kernels;
    for (int s = 0; s < reference->stages; s++) {
        DPR_TRY(kernels->sum_squares(
            kernels, reference->stream, dpr_stage_get_shape(reference->stage[s])->parameters,
            dpr_stage_gradients(reference->stage[s]), &reference->squares[s]));
    }
    DPR_TRY(kernels->clip_factor(kernels, reference->stream, reference->stages, reference->squares,
                                 reference->optimizer.clip_norm, reference->clip_factor));
    for (int s = 0; s < reference->stages; s++) {
        DPR_TRY(dpr_optimizer_step(
            reference->optimizers[s], kernels, reference->stream, step, reference->total_steps,
            reference->clip_factor, dpr_stage_gradients(reference->stage[s]),
            dpr_stage_parameters(reference->stage[s]), dpr_stage_working(reference->stage[s])));
    }
    return DPR_OK;
}

dpr_status_t dpr_reference_step(dpr_reference_t *reference, const float *inputs,
                                const int32_t *labels, int micro_batches, long step, double *loss)
{
    const size_t rows = (size_t)reference->model.micro_batch_size;
    const size_t input_stride = rows * (size_t)reference->model.input;
    const float loss_scale = 1.0f / ((float)micro_batches * (float)rows);
    double sum = 0.0;
    for (int s = 0; s < reference->stages; s++) {
        DPR_TRY(
            dpr_stream_fill(reference->stream, dpr_stage_gradients(reference->stage[s]), 0,
                            dpr_stage_get_shape(reference->stage[s])->parameters * sizeof(float)));
    }
    for (size_t m = 0; m < (size_t)micro_batches; m++) {
        DPR_TRY(play_micro_batch(reference, inputs + m * input_stride, labels + m * rows,
                                 loss_scale, &sum));
    }
    if (reference->has_optimizer) {
        DPR_TRY(update(reference, step));
    }
    DPR_TRY(dpr_stream_synchronize(reference->stream));
    *loss = sum;
    return DPR_OK;
}

const float *dpr_reference_gradients(const dpr_reference_t *reference, int stage)
{
    return dpr_stage_gradients(reference->stage[stage]);
}

static size_t largest_stage_bytes(const dpr_reference_t *reference)
{
    size_t largest = 0;
    for (int s = 0; s < reference->stages; s++) {
        const size_t count = dpr_stage_get_shape(reference->stage[s])->parameters;
        largest = count > largest ? count : largest;
    }
    return largest * sizeof(float);
}

dpr_status_t dpr_reference_read_gradients(dpr_reference_t *reference, int stage, float *gradients)
{
    const size_t bytes = dpr_stage_get_shape(reference->stage[stage])->parameters * sizeof(float);
    if (reference->gradients_host == NULL) {
        DPR_TRY(
            pinned_alloc(reference, largest_stage_bytes(reference), &reference->gradients_host));
    }
    DPR_TRY(dpr_stream_copy(reference->stream, reference->gradients_host,
                            dpr_stage_gradients(reference->stage[stage]), bytes));
    DPR_TRY(dpr_stream_synchronize(reference->stream));
    memcpy(gradients, reference->gradients_host, bytes);
    return DPR_OK;
}

double dpr_reference_tolerance(dpr_dtype_t dtype)
{
    switch (dtype) {
    case DPR_DTYPE_FP32:
        break;
    case DPR_DTYPE_TF32:
        return 2.5e-3;
    case DPR_DTYPE_BF16:
        return 2e-2;
    }
    return 1e-5;
}

double dpr_relative_difference(const float *a, const float *b, size_t count)
{
    double difference = 0.0;
    double norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0.0 ? sqrt(difference / norm) : sqrt(difference);
}
