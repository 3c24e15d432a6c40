/*
 * Number formats of a stage: what bf16 changes in its sizes and places, that every buffer is still
 * aligned and alone, that kernels of another format are refused; and that a model trained in the
 * kernels' format has the gradients of the same model in double as far as the format goes, the same
 * bits however it is cut, and a working copy that follows its parameters.
 */
#include "fixture.h"
#include "reference.h"
#include "reference_stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "stage_rig.h"

static const dpr_model_config_t model = {.input = 784,
                                         .hidden = 30,
                                         .ffn = 50,
                                         .classes = 10,
                                         .blocks = 10,
                                         .micro_batch_size = 6,
                                         .seed = 1};

static dpr_stage_layout_t layout_of(const dpr_model_config_t *config, dpr_dtype_t dtype, int stages,
                                    int stage)
{
    dpr_model_config_t typed = *config;
    dpr_stage_layout_t layout;
    typed.dtype = dtype;
    REQUIRE(dpr_stage_layout(&typed, stages, stage, &layout));
    return layout;
}

static void tf32_is_laid_out_as_fp32(void **state)
{
    (void)state;
    for (int s = 0; s < 3; s++) {
        const dpr_stage_layout_t fp32 = layout_of(&model, DPR_DTYPE_FP32, 3, s);
        const dpr_stage_layout_t tf32 = layout_of(&model, DPR_DTYPE_TF32, 3, s);
        assert_int_equal(fp32.shape.activation_bytes, tf32.shape.activation_bytes);
        assert_int_equal(fp32.shape.saved_bytes, tf32.shape.saved_bytes);
        assert_int_equal(fp32.shape.wstate_bytes, tf32.shape.wstate_bytes);
        assert_int_equal(fp32.shape.working_bytes, 0);
        assert_int_equal(tf32.shape.working_bytes, 0);
    }
}

/* Bytes of [6][columns] elements of `element` bytes rounded up to 64. */
static size_t rounded(size_t columns, size_t element)
{
    return (6 * columns * element + 63) / 64 * 64;
}

static void bf16_halves_all_but_the_statistics(void **state)
{
    (void)state;
    const size_t narrow = rounded(30, 2);
    const size_t wide = rounded(50, 2);
    const size_t saved_block = narrow + 2 * wide + 2 * rounded(1, 4);
    const dpr_stage_shape_t first = layout_of(&model, DPR_DTYPE_BF16, 10, 0).shape;
    assert_int_equal(first.activation_bytes, 6 * 30 * 2);
    assert_int_equal(first.saved_bytes, narrow + saved_block + rounded(784, 2));
    assert_int_equal(first.wstate_bytes, narrow + wide + narrow);
    const dpr_stage_shape_t middle = layout_of(&model, DPR_DTYPE_BF16, 10, 4).shape;
    assert_int_equal(middle.saved_bytes, saved_block);
    assert_int_equal(middle.wstate_bytes, wide + narrow);
    const dpr_stage_shape_t last = layout_of(&model, DPR_DTYPE_BF16, 10, 9).shape;
    assert_int_equal(last.saved_bytes, narrow + saved_block + rounded(10, 2));
    const dpr_stage_shape_t only = layout_of(&model, DPR_DTYPE_BF16, 1, 0).shape;
    assert_int_equal(only.saved_bytes,
                     11 * narrow + 10 * saved_block + rounded(10, 2) + rounded(784, 2));
    assert_int_equal(only.working_bytes, 2 * only.parameters);
}

static void parameters_do_not_depend_on_the_format(void **state)
{
    (void)state;
    for (int s = 0; s < 3; s++) {
        const dpr_stage_layout_t fp32 = layout_of(&model, DPR_DTYPE_FP32, 3, s);
        const dpr_stage_layout_t bf16 = layout_of(&model, DPR_DTYPE_BF16, 3, s);
        assert_int_equal(fp32.shape.parameters, bf16.shape.parameters);
        assert_int_equal(fp32.shape.decayed, bf16.shape.decayed);
        assert_memory_equal(fp32.tensor, bf16.tensor, sizeof fp32.tensor);
    }
}

/* Claims [begin, begin + bytes) of a set of `size` bytes: aligned, inside, and nobody else's. */
static void claim(unsigned char *taken, size_t size, size_t begin, size_t bytes)
{
    assert_int_equal(begin % DPR_STAGE_ALIGN_BYTES, 0);
    assert_true(begin <= size && bytes <= size - begin);
    for (size_t i = begin; i < begin + bytes; i++) {
        assert_int_equal(taken[i], 0);
        taken[i] = 1;
    }
}

static void check_saved(const dpr_model_config_t *c, const dpr_stage_layout_t *layout, size_t e)
{
    const dpr_saved_place_t *p = &layout->saved;
    const dpr_stage_shape_t *shape = &layout->shape;
    const size_t rows = (size_t)c->micro_batch_size;
    const size_t narrow = rows * (size_t)c->hidden * e;
    const size_t wide = rows * (size_t)c->ffn * e;
    const size_t inside = (size_t)(shape->blocks - 1 + shape->is_first + shape->is_last);
    unsigned char *taken = test_calloc(shape->saved_bytes, 1);
    for (size_t i = 0; i < inside; i++) {
        claim(taken, shape->saved_bytes, p->boundaries + i * p->boundary_stride, narrow);
    }
    for (size_t i = 0; i < (size_t)shape->blocks; i++) {
        const size_t base = p->blocks + i * p->block_stride;
        claim(taken, shape->saved_bytes, base + p->n, narrow);
        claim(taken, shape->saved_bytes, base + p->pre, wide);
        claim(taken, shape->saved_bytes, base + p->h, wide);
        claim(taken, shape->saved_bytes, base + p->mean, rows * sizeof(float));
        claim(taken, shape->saved_bytes, base + p->rstd, rows * sizeof(float));
    }
    if (shape->is_last) {
        claim(taken, shape->saved_bytes, p->dlogits, rows * (size_t)c->classes * e);
    }
    if (shape->is_first && e == 2) {
        claim(taken, shape->saved_bytes, p->input, rows * (size_t)c->input * e);
    }
    test_free(taken);
}

static void check_wstate(const dpr_model_config_t *c, const dpr_stage_layout_t *layout, size_t e)
{
    const dpr_wstate_place_t *p = &layout->wstate;
    const dpr_stage_shape_t *shape = &layout->shape;
    const size_t rows = (size_t)c->micro_batch_size;
    const size_t inside = (size_t)(shape->blocks - 1 + shape->is_first + shape->is_last);
    unsigned char *taken = test_calloc(shape->wstate_bytes, 1);
    for (size_t i = 0; i < inside; i++) {
        claim(taken, shape->wstate_bytes, p->boundaries + i * p->boundary_stride,
              rows * (size_t)c->hidden * e);
    }
    for (size_t i = 0; i < (size_t)shape->blocks; i++) {
        const size_t base = p->blocks + i * p->block_stride;
        claim(taken, shape->wstate_bytes, base + p->da, rows * (size_t)c->ffn * e);
        claim(taken, shape->wstate_bytes, base + p->dn, rows * (size_t)c->hidden * e);
    }
    test_free(taken);
}

static void every_buffer_is_aligned_and_alone(void **state)
{
    (void)state;
    static const int sizes[][5] = {/* input, hidden, ffn, classes, rows */
                                   {1, 1, 1, 1, 1},
                                   {784, 30, 50, 10, 6},
                                   {7, 33, 65, 3, 5},
                                   {128, 64, 256, 32, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const dpr_model_config_t config = {.input = sizes[i][0],
                                           .hidden = sizes[i][1],
                                           .ffn = sizes[i][2],
                                           .classes = sizes[i][3],
                                           .micro_batch_size = sizes[i][4],
                                           .blocks = 5};
        for (int dtype = DPR_DTYPE_FP32; dtype <= DPR_DTYPE_BF16; dtype++) {
            for (int stages = 1; stages <= 3; stages++) {
                for (int s = 0; s < stages; s++) {
                    const dpr_stage_layout_t layout =
                        layout_of(&config, (dpr_dtype_t)dtype, stages, s);
                    check_saved(&config, &layout, dpr_dtype_bytes((dpr_dtype_t)dtype));
                    check_wstate(&config, &layout, dpr_dtype_bytes((dpr_dtype_t)dtype));
                }
            }
        }
    }
}

static void kernels_of_another_format_are_refused(void **state)
{
    const fixture_t *f = *state;
    char message[512];
    dpr_log_capture_t capture;
    dpr_stage_t *stage = NULL;
    dpr_model_config_t config = model;
    size_t before, after, peak;
    config.dtype = f->kernels->dtype == DPR_DTYPE_BF16 ? DPR_DTYPE_TF32 : DPR_DTYPE_BF16;
    dpr_device_memory_usage(f->device, &before, &peak);
    dpr_log_capture_begin(&capture, message, sizeof message);
    const dpr_status_t status =
        dpr_stage_create(&config, 1, 0, f->device, f->kernels, f->stream, &stage);
    dpr_log_capture_end(&capture);
    dpr_device_memory_usage(f->device, &after, &peak);
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_null(stage);
    assert_int_equal(before, after);
    assert_non_null(strstr(message, dpr_dtype_name(config.dtype)));
    assert_non_null(strstr(message, dpr_dtype_name(f->kernels->dtype)));
}

/* ---- In the kernels' format ---- */

static const dpr_model_config_t small = {.input = 5,
                                         .hidden = 8,
                                         .ffn = 12,
                                         .classes = 4,
                                         .blocks = 3,
                                         .micro_batch_size = 4,
                                         .seed = 2};

static void open_typed(rig_t *rig, fixture_t *f, int stages)
{
    dpr_model_config_t typed = small;
    typed.dtype = f->kernels->dtype;
    rig_open(rig, f, &typed, stages, 2);
}

/* The whole model's loss over the rig's micro-batches, in double. */
typedef struct whole_loss {
    reference_stage_t stage;
    double *inputs[2];
    const int32_t *labels[2];
} whole_loss_t;

static double whole_loss(void *argument)
{
    whole_loss_t *loss = argument;
    double sum = 0.0;
    for (int m = 0; m < 2; m++) {
        loss->stage.input = loss->inputs[m];
        loss->stage.labels = loss->labels[m];
        sum += reference_stage_objective(&loss->stage);
    }
    return sum;
}

static whole_loss_t make_whole_loss(rig_t *rig)
{
    fixture_t *f = rig->fixture;
    const size_t count = rig->whole.shape.parameters;
    float *parameters = rig_gather_parameters(rig);
    whole_loss_t loss = {
        .stage = {.config = rig->config,
                  .layout = rig->whole,
                  .parameters = fixture_scratch(f, count),
                  .loss_scale = (double)rig->loss_scale,
                  .output = fixture_scratch(f, (size_t)(small.micro_batch_size * small.hidden)),
                  .scratch = fixture_scratch(f, reference_stage_scratch(&small))}};
    for (size_t i = 0; i < count; i++) {
        loss.stage.parameters[i] = (double)parameters[i];
    }
    test_free(parameters);
    for (int m = 0; m < 2; m++) {
        loss.inputs[m] = fixture_widen(f, rig->input[m]);
        loss.labels[m] = rig->labels[m]->host;
    }
    return loss;
}

/* What runtime/reference.h allows two runs of one format to differ by holds against double, too. */
static double allowed(dpr_dtype_t dtype)
{
    return dtype == DPR_DTYPE_BF16 ? 2e-2 : dtype == DPR_DTYPE_TF32 ? 2.5e-3 : 1e-5;
}

static void gradients_are_those_of_double_as_far_as_the_format_goes(void **state)
{
    fixture_t *f = *state;
    rig_t rig;
    open_typed(&rig, f, 3);
    whole_loss_t loss = make_whole_loss(&rig);
    rig_train(&rig);
    float *gradients = rig_gather_gradients(&rig);
    double difference = 0.0;
    double norm = 0.0;
    for (size_t i = 0; i < rig.whole.shape.parameters; i++) {
        const double slope = reference_derivative(whole_loss, &loss, &loss.stage.parameters[i]);
        const double error = (double)gradients[i] - slope;
        difference += error * error;
        norm += slope * slope;
    }
    test_free(gradients);
    if (!(sqrt(difference / norm) <= allowed(f->kernels->dtype))) {
        fail_msg("%s: gradients are off by %.3g, %.3g is allowed",
                 dpr_dtype_name(f->kernels->dtype), sqrt(difference / norm),
                 allowed(f->kernels->dtype));
    }
    rig_close(&rig);
    fixture_release(f);
}

static void the_cut_does_not_change_a_bit(void **state)
{
    fixture_t *f = *state;
    rig_t whole;
    rig_t cut;
    open_typed(&whole, f, 1);
    open_typed(&cut, f, 3);
    rig_train(&whole);
    for (int m = 0; m < 2; m++) {
        for (int s = 0; s < 3; s++) {
            rig_forward(&cut, s, m);
        }
        for (int s = 2; s >= 0; s--) {
            rig_backward_input(&cut, s, m);
            rig_backward_weight(&cut, s, m);
        }
    }
    rig_expect_equal(&whole, &cut);
    rig_close(&whole);
    rig_close(&cut);
    fixture_release(f);
}

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void expect_working_follows(rig_t *rig)
{
    for (int s = 0; s < rig->stages; s++) {
        const size_t count = rig->layout[s].shape.parameters;
        float *values = test_malloc(count * sizeof *values);
        uint16_t *working = test_malloc(count * sizeof *working);
        rig_read(rig, dpr_stage_parameters(rig->stage[s]), count * sizeof *values, values);
        rig_read(rig, dpr_stage_working(rig->stage[s]), count * sizeof *working, working);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(working[i], bf16_of(values[i]));
        }
        test_free(values);
        test_free(working);
    }
}

static void sgd_step(rig_t *rig, int s)
{
    fixture_t *f = rig->fixture;
    const size_t count = rig->layout[s].shape.parameters;
    array_t *factor = fixture_floats(f, 1);
    array_t *momentum = fixture_floats(f, count);
    host_f32(factor)[0] = 1.0F;
    fixture_upload(f, factor);
    REQUIRE(f->kernels->sgd(f->kernels, f->stream, count, rig->layout[s].shape.decayed, 0.1F, 0.0F,
                            0.0F, f32(factor), dpr_stage_gradients(rig->stage[s]), f32(momentum),
                            dpr_stage_parameters(rig->stage[s]), dpr_stage_working(rig->stage[s])));
}

static void the_working_copy_follows_the_parameters(void **state)
{
    fixture_t *f = *state;
    rig_t rig;
    open_typed(&rig, f, 3);
    for (int s = 0; s < 3 && f->kernels->dtype != DPR_DTYPE_BF16; s++) {
        assert_null(dpr_stage_working(rig.stage[s]));
    }
    if (f->kernels->dtype == DPR_DTYPE_BF16) {
        expect_working_follows(&rig);
        rig_train(&rig);
        double *first = rig_losses(&rig);
        for (int s = 0; s < 3; s++) {
            sgd_step(&rig, s);
        }
        expect_working_follows(&rig);
        rig_train(&rig); /* products read the new ones */
        double *second = rig_losses(&rig);
        assert_true(second[0] + second[1] < first[0] + first[1]);
        test_free(first);
        test_free(second);
    }
    rig_close(&rig);
    fixture_release(f);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tf32_is_laid_out_as_fp32),
        cmocka_unit_test(bf16_halves_all_but_the_statistics),
        cmocka_unit_test(parameters_do_not_depend_on_the_format),
        cmocka_unit_test(every_buffer_is_aligned_and_alone),
        cmocka_unit_test(kernels_of_another_format_are_refused),
        cmocka_unit_test(gradients_are_those_of_double_as_far_as_the_format_goes),
        cmocka_unit_test(the_cut_does_not_change_a_bit),
        cmocka_unit_test(the_working_copy_follows_the_parameters),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
