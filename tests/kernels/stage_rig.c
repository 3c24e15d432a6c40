/* A whole model in one process, for the stage's tests. */
#include "stage_rig.h"

#include <string.h>

#include "base/random.h"

static array_t *poisoned(fixture_t *fixture, size_t bytes)
{
    array_t *array = fixture_bytes(fixture, bytes);
    memset(array->host, 0xff, bytes);
    fixture_upload(fixture, array);
    return array;
}

static void make_samples(rig_t *rig, int micro_batch)
{
    const size_t rows = (size_t)rig->config.micro_batch_size;
    rig->input[micro_batch] = fixture_random(rig->fixture, rows * (size_t)rig->config.input,
                                             100 + (uint64_t)micro_batch, 1.0);
    rig->labels[micro_batch] = fixture_ints(rig->fixture, rows);
    int32_t *labels = rig->labels[micro_batch]->host;
    for (size_t r = 0; r < rows; r++) {
        const double u = dpr_random_uniform(7, 200 + (uint64_t)micro_batch, r);
        labels[r] = (int32_t)(u * (double)rig->config.classes);
    }
    fixture_upload(rig->fixture, rig->labels[micro_batch]);
    rig->result[micro_batch] = fixture_doubles(rig->fixture, 2);
}

static void wire(rig_t *rig, int s, int m)
{
    const dpr_stage_shape_t *shape = &rig->layout[s].shape;
    dpr_stage_buffers_t *b = &rig->buffers[s][m];
    b->saved = poisoned(rig->fixture, shape->saved_bytes)->device;
    b->wstate = poisoned(rig->fixture, shape->wstate_bytes)->device;
    if (shape->is_first) {
        b->input = f32(rig->input[m]);
    } else {
        b->act_in = f32(rig->act[s - 1][m]);
        b->grad_out = f32(rig->grad[s - 1][m]);
    }
    if (shape->is_last) {
        b->labels = rig->labels[m]->device;
        b->result = rig->result[m]->device;
    } else {
        rig->act[s][m] = poisoned(rig->fixture, shape->activation_bytes);
        rig->grad[s][m] = poisoned(rig->fixture, shape->activation_bytes);
        b->act_out = f32(rig->act[s][m]);
        b->grad_in = f32(rig->grad[s][m]);
    }
}

void rig_open(rig_t *rig, fixture_t *fixture, const dpr_model_config_t *config, int stages,
              int micro_batches)
{
    assert_in_range(stages, 1, RIG_STAGES);
    assert_in_range(micro_batches, 1, RIG_MICRO_BATCHES);
    *rig = (rig_t){.fixture = fixture,
                   .config = *config,
                   .stages = stages,
                   .micro_batches = micro_batches,
                   .loss_scale = 1.0F / (float)(config->micro_batch_size * micro_batches)};
    REQUIRE(dpr_stage_layout(config, 1, 0, &rig->whole));
    for (int m = 0; m < micro_batches; m++) {
        make_samples(rig, m);
    }
    for (int s = 0; s < stages; s++) {
        REQUIRE(dpr_stage_layout(config, stages, s, &rig->layout[s]));
        REQUIRE(dpr_stage_create(config, stages, s, fixture->device, fixture->kernels,
                                 fixture->stream, &rig->stage[s]));
        for (int m = 0; m < micro_batches; m++) {
            wire(rig, s, m);
        }
    }
}

void rig_close(rig_t *rig)
{
    REQUIRE(dpr_stream_synchronize(rig->fixture->stream));
    for (int s = 0; s < rig->stages; s++) {
        dpr_stage_destroy(rig->stage[s]);
    }
}

void rig_forward(rig_t *rig, int stage, int micro_batch)
{
    dpr_stage_buffers_t buffers = rig->buffers[stage][micro_batch];
    buffers.wstate = NULL; /* the forward must not need it */
    REQUIRE(dpr_stage_forward(rig->stage[stage], rig->fixture->stream, &buffers, rig->loss_scale));
}

void rig_backward(rig_t *rig, int stage, int micro_batch)
{
    REQUIRE(dpr_stage_backward(rig->stage[stage], rig->fixture->stream,
                               &rig->buffers[stage][micro_batch]));
}

void rig_backward_input(rig_t *rig, int stage, int micro_batch)
{
    REQUIRE(dpr_stage_backward_input(rig->stage[stage], rig->fixture->stream,
                                     &rig->buffers[stage][micro_batch]));
}

void rig_backward_weight(rig_t *rig, int stage, int micro_batch)
{
    REQUIRE(dpr_stage_backward_weight(rig->stage[stage], rig->fixture->stream,
                                      &rig->buffers[stage][micro_batch]));
}

void rig_train(rig_t *rig)
{
    for (int m = 0; m < rig->micro_batches; m++) {
        for (int s = 0; s < rig->stages; s++) {
            rig_forward(rig, s, m);
        }
        for (int s = rig->stages - 1; s >= 0; s--) {
            rig_backward(rig, s, m);
        }
    }
}

void rig_read(rig_t *rig, const void *device, size_t bytes, void *host)
{
    void *pinned;
    REQUIRE(dpr_device_alloc(rig->fixture->device, DPR_MEMORY_PINNED, bytes, &pinned));
    REQUIRE(dpr_stream_copy(rig->fixture->stream, pinned, device, bytes));
    REQUIRE(dpr_stream_synchronize(rig->fixture->stream));
    memcpy(host, pinned, bytes);
    dpr_device_free(rig->fixture->device, DPR_MEMORY_PINNED, pinned);
}

void rig_write(rig_t *rig, void *device, size_t bytes, const void *host)
{
    void *pinned;
    REQUIRE(dpr_device_alloc(rig->fixture->device, DPR_MEMORY_PINNED, bytes, &pinned));
    memcpy(pinned, host, bytes);
    REQUIRE(dpr_stream_copy(rig->fixture->stream, device, pinned, bytes));
    REQUIRE(dpr_stream_synchronize(rig->fixture->stream));
    dpr_device_free(rig->fixture->device, DPR_MEMORY_PINNED, pinned);
}

/* Puts the tensors of one stage where the whole model has them. */
static void scatter(const rig_t *rig, int stage, const float *values, float *whole)
{
    for (int t = 0; t < DPR_TENSORS; t++) {
        const dpr_tensor_place_t *from = &rig->layout[stage].tensor[t];
        const dpr_tensor_place_t *to = &rig->whole.tensor[t];
        for (int i = 0; i < from->copies; i++) {
            const int first_block = rig->layout[stage].shape.first_block;
            const int block = dpr_tensor_is_of_block((dpr_tensor_t)t) ? first_block + i : 0;
            memcpy(whole + to->offset + (size_t)block * to->stride,
                   values + from->offset + (size_t)i * from->stride, to->count * sizeof *whole);
        }
    }
}

static float *gather(rig_t *rig, float *(*member)(dpr_stage_t *stage))
{
    float *whole = test_malloc(rig->whole.shape.parameters * sizeof *whole);
    float *values = test_malloc(rig->whole.shape.parameters * sizeof *values);
    size_t total = 0;
    for (int s = 0; s < rig->stages; s++) {
        const size_t count = dpr_stage_get_shape(rig->stage[s])->parameters;
        rig_read(rig, member(rig->stage[s]), count * sizeof *values, values);
        scatter(rig, s, values, whole);
        total += count;
    }
    assert_int_equal(total, rig->whole.shape.parameters);
    test_free(values);
    return whole;
}

float *rig_gather_parameters(rig_t *rig)
{
    return gather(rig, dpr_stage_parameters);
}

float *rig_gather_gradients(rig_t *rig)
{
    return gather(rig, dpr_stage_gradients);
}

double *rig_losses(rig_t *rig)
{
    double *losses = test_malloc((size_t)rig->micro_batches * sizeof *losses);
    for (int m = 0; m < rig->micro_batches; m++) {
        fixture_download(rig->fixture, rig->result[m]);
        losses[m] = *(const double *)rig->result[m]->host;
    }
    return losses;
}

void rig_expect_equal(rig_t *a, rig_t *b)
{
    double *losses[2] = {rig_losses(a), rig_losses(b)};
    float *gradients[2] = {rig_gather_gradients(a), rig_gather_gradients(b)};
    assert_memory_equal(losses[0], losses[1], (size_t)a->micro_batches * sizeof **losses);
    assert_memory_equal(gradients[0], gradients[1], a->whole.shape.parameters * sizeof **gradients);
    for (size_t i = 0; i < a->whole.shape.parameters; i++) {
        assert_true(gradients[0][i] == gradients[0][i]); /* equal NaNs are no success */
    }
    for (int i = 0; i < 2; i++) {
        test_free(losses[i]);
        test_free(gradients[i]);
    }
}
