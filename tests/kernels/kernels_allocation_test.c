/*
 * A step allocates nothing once it has been run: not the kernels, not the stage, not OpenBLAS
 * beneath them. Under sanitizers, which bring their own malloc, there is nothing to test here.
 */
#include "allocations.h"
#include "stage_rig.h"

/* Wide enough that OpenBLAS does not take the way it has for small products. */
static const dpr_model_config_t model = {.input = 200,
                                         .hidden = 256,
                                         .ffn = 512,
                                         .classes = 10,
                                         .blocks = 2,
                                         .micro_batch_size = 32,
                                         .seed = 1};

/* Where the optimizer's state is irrelevant, its buffers may be. */
static void optimize(rig_t *rig, array_t *m, array_t *v, array_t *squares, array_t *factor)
{
    fixture_t *f = rig->fixture;
    dpr_kernels_t *kernels = f->kernels;
    const dpr_stage_shape_t *shape = &rig->layout[0].shape;
    const dpr_adamw_t settings = {.learning_rate = 1e-3F,
                                  .beta1 = 0.9F,
                                  .beta2 = 0.999F,
                                  .epsilon = 1e-8F,
                                  .correction1 = 1.0F,
                                  .correction2 = 1.0F};
    float *parameters = dpr_stage_parameters(rig->stage[0]);
    float *gradients = dpr_stage_gradients(rig->stage[0]);
    REQUIRE(
        kernels->sum_squares(kernels, f->stream, shape->parameters, gradients, squares->device));
    REQUIRE(kernels->clip_factor(kernels, f->stream, 1, squares->device, 1.0F, f32(factor)));
    REQUIRE(kernels->adamw(kernels, f->stream, shape->parameters, shape->decayed, &settings,
                           f32(factor), gradients, f32(m), f32(v), parameters, NULL));
    REQUIRE(kernels->sgd(kernels, f->stream, shape->parameters, shape->decayed, 1e-3F, 0.9F, 0.0F,
                         f32(factor), gradients, f32(v), parameters, NULL));
}

static void a_warm_step_allocates_nothing(void **state)
{
    fixture_t *f = *state;
    rig_t rig;
    rig_open(&rig, f, &model, 1, 2);
    const size_t count = rig.layout[0].shape.parameters;
    array_t *m = fixture_floats(f, count);
    array_t *v = fixture_floats(f, count);
    array_t *squares = fixture_doubles(f, 1);
    array_t *factor = fixture_floats(f, 1);
    size_t before = 0;
    for (int step = 0; step < 4; step++) {
        if (step == 1) {
            before = allocations_so_far();
        }
        rig_train(&rig);
        REQUIRE(dpr_stage_forward_backward(rig.stage[0], &rig.buffers[0][0], rig.stage[0],
                                           &rig.buffers[0][1], f->stream, NULL, rig.loss_scale));
        optimize(&rig, m, v, squares, factor);
        REQUIRE(dpr_stream_synchronize(f->stream));
    }
    assert_true(before > 0); /* the counter is at work */
    assert_int_equal(allocations_so_far() - before, 0);
    rig_close(&rig);
    fixture_release(f);
}

int main(int argc, char **argv)
{
    if (!allocations_are_counted()) {
        return EXIT_SKIPPED;
    }
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_warm_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
