/*
 * The gradients of a whole stage, for its input and for every parameter, against central
 * differences of the same stage in double: of a first, a middle and a last stage, and of one that
 * is all three.
 */
#include "fixture.h"
#include "reference.h"
#include "reference_stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stage_rig.h"

static const dpr_model_config_t model = {
    .input = 5, .hidden = 6, .ffn = 9, .classes = 4, .blocks = 7, .micro_batch_size = 3, .seed = 1};

/* Biases of 0 and gammas of 1 would hide mistakes. */
static void shake_parameters(rig_t *rig, int s)
{
    const size_t count = rig->layout[s].shape.parameters;
    array_t *noise = fixture_random(rig->fixture, count, 300, 0.3);
    float *values = test_malloc(count * sizeof *values);
    rig_read(rig, dpr_stage_parameters(rig->stage[s]), count * sizeof *values, values);
    for (size_t i = 0; i < count; i++) {
        values[i] += host_f32(noise)[i];
    }
    rig_write(rig, dpr_stage_parameters(rig->stage[s]), count * sizeof *values, values);
    test_free(values);
}

static double *read_widened(rig_t *rig, const float *device, size_t count)
{
    float *values = test_malloc(count * sizeof *values);
    double *widened = fixture_scratch(rig->fixture, count);
    rig_read(rig, device, count * sizeof *values, values);
    for (size_t i = 0; i < count; i++) {
        widened[i] = (double)values[i];
    }
    test_free(values);
    return widened;
}

/* Stage s of the rig in double, its input and the gradient of its output chosen at random. */
static reference_stage_t make_reference(rig_t *rig, int s)
{
    fixture_t *f = rig->fixture;
    const dpr_stage_shape_t *shape = &rig->layout[s].shape;
    const size_t activation = (size_t)(model.micro_batch_size * model.hidden);
    reference_stage_t reference = {.config = model,
                                   .layout = rig->layout[s],
                                   .labels = rig->labels[0]->host,
                                   .loss_scale = (double)rig->loss_scale,
                                   .output = fixture_scratch(f, activation),
                                   .scratch = fixture_scratch(f, reference_stage_scratch(&model))};
    reference.parameters =
        read_widened(rig, dpr_stage_parameters(rig->stage[s]), shape->parameters);
    if (shape->is_first) {
        reference.input = fixture_widen(f, rig->input[0]);
    } else {
        array_t *input = fixture_random(f, activation, 301, 1.0);
        rig_write(rig, rig->act[s - 1][0]->device, input->bytes, input->host);
        reference.input = fixture_widen(f, input);
    }
    if (!shape->is_last) {
        array_t *gradient = fixture_random(f, activation, 302, 1.0);
        rig_write(rig, rig->grad[s][0]->device, gradient->bytes, gradient->host);
        reference.gradient = fixture_widen(f, gradient);
    }
    return reference;
}

/* Compares `count` gradients with the slopes at `variable`; errors are measured by the tensor's
 * largest slope. */
static void expect_slopes(reference_stage_t *reference, const char *what, const double *gradient,
                          double *variable, size_t count)
{
    double largest = 0.0;
    double worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double slope =
            reference_derivative(reference_stage_objective, reference, &variable[i]);
        const double error = fabs(gradient[i] - slope);
        largest = fmax(largest, fabs(slope));
        worst = isnan(error) ? INFINITY : fmax(worst, error);
    }
    if (largest < 1e-5 || worst > 1e-5 * largest) {
        fail_msg("stage %d of %d: gradient of %s is off by %.3g of %.3g",
                 reference->layout.shape.stage, reference->layout.shape.stages, what, worst,
                 largest);
    }
}

static void check_stage(fixture_t *f, int stages, int s)
{
    rig_t rig;
    rig_open(&rig, f, &model, stages, 1);
    shake_parameters(&rig, s);
    reference_stage_t reference = make_reference(&rig, s);
    const dpr_stage_shape_t *shape = &rig.layout[s].shape;
    rig_forward(&rig, s, 0);
    rig_backward_input(&rig, s, 0);
    rig_backward_weight(&rig, s, 0);
    const double value = reference_stage_objective(&reference);
    if (shape->is_last) {
        double *losses = rig_losses(&rig);
        assert_true(fabs(losses[0] - value) <= 1e-6 * fabs(value));
        test_free(losses);
    }
    const double *gradients =
        read_widened(&rig, dpr_stage_gradients(rig.stage[s]), shape->parameters);
    for (int t = 0; t < DPR_TENSORS; t++) {
        const dpr_tensor_place_t *place = &rig.layout[s].tensor[t];
        for (int i = 0; i < place->copies; i++) {
            const size_t at = place->offset + (size_t)i * place->stride;
            expect_slopes(&reference, dpr_tensor_name((dpr_tensor_t)t), gradients + at,
                          reference.parameters + at, place->count);
        }
    }
    if (!shape->is_first) {
        const size_t activation = shape->activation_bytes / sizeof(float);
        expect_slopes(&reference, "the input",
                      read_widened(&rig, rig.buffers[s][0].grad_out, activation), reference.input,
                      activation);
    }
    rig_close(&rig);
    fixture_release(f);
}

static void a_single_stage_has_the_slopes_of_the_loss(void **state)
{
    check_stage(*state, 1, 0);
}

static void a_first_stage_has_the_slopes_of_its_output(void **state)
{
    check_stage(*state, 3, 0);
    check_stage(*state, 7, 0); /* of one block */
}

static void a_middle_stage_has_the_slopes_of_its_output(void **state)
{
    check_stage(*state, 3, 1);
    check_stage(*state, 7, 3);
}

static void a_last_stage_has_the_slopes_of_the_loss(void **state)
{
    check_stage(*state, 3, 2);
    check_stage(*state, 7, 6);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_stage_has_the_slopes_of_the_loss),
        cmocka_unit_test(a_first_stage_has_the_slopes_of_its_output),
        cmocka_unit_test(a_middle_stage_has_the_slopes_of_its_output),
        cmocka_unit_test(a_last_stage_has_the_slopes_of_the_loss),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
