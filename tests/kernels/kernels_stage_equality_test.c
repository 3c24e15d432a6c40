/*
 * What a stage promises to the bit: the same results however the model is cut, the backward split
 * and passes interleaved.
 */
#include <string.h>

#include "stage_rig.h"

static const dpr_model_config_t model = {.input = 11,
                                         .hidden = 24,
                                         .ffn = 40,
                                         .classes = 5,
                                         .blocks = 9,
                                         .micro_batch_size = 7,
                                         .seed = 42};

enum { MICRO_BATCHES = 3 };

static void cutting_the_model_into_stages_changes_no_bit(void **state)
{
    fixture_t *f = *state;
    static const int cuts[] = {1, 2, 4, 8};
    float *initial = NULL;
    float *gradients = NULL;
    double *losses = NULL;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        rig_t rig;
        rig_open(&rig, f, &model, cuts[i], MICRO_BATCHES);
        const size_t bytes = rig.whole.shape.parameters * sizeof(float);
        float *parameters = rig_gather_parameters(&rig);
        rig_train(&rig);
        float *got = rig_gather_gradients(&rig);
        double *got_losses = rig_losses(&rig);
        if (i == 0) {
            initial = parameters;
            gradients = got;
            losses = got_losses;
        } else {
            assert_memory_equal(initial, parameters, bytes);
            assert_memory_equal(gradients, got, bytes);
            assert_memory_equal(losses, got_losses, MICRO_BATCHES * sizeof *losses);
            test_free(parameters);
            test_free(got);
            test_free(got_losses);
        }
        rig_close(&rig);
        fixture_release(f);
    }
    test_free(initial);
    test_free(gradients);
    test_free(losses);
}

/* What every other order is compared with. */
static void open_trained(rig_t *rig, fixture_t *f, int stages)
{
    rig_open(rig, f, &model, stages, MICRO_BATCHES);
    rig_train(rig);
}

static void backward_is_input_then_weight_to_the_bit(void **state)
{
    fixture_t *f = *state;
    for (int stages = 1; stages <= 3; stages++) {
        rig_t fused;
        rig_t split;
        open_trained(&fused, f, stages);
        rig_open(&split, f, &model, stages, MICRO_BATCHES);
        for (int m = 0; m < MICRO_BATCHES; m++) {
            for (int s = 0; s < stages; s++) {
                rig_forward(&split, s, m);
            }
            for (int s = stages - 1; s >= 0; s--) {
                rig_backward_input(&split, s, m);
            }
        }
        for (int s = 0; s < stages;
             s++) { /* every W long after its I, as zero-bubble schedules do */
            for (int m = 0; m < MICRO_BATCHES; m++) {
                rig_backward_weight(&split, s, m);
            }
        }
        rig_expect_equal(&fused, &split);
        rig_close(&fused);
        rig_close(&split);
        fixture_release(f);
    }
}

/* Nine blocks in two or four stages: the stages that meet have different numbers of blocks. */
static void overlapped_passes_are_their_parts_to_the_bit(void **state)
{
    fixture_t *f = *state;
    for (int stages = 1; stages <= 4; stages++) {
        rig_t apart;
        rig_t overlapped;
        open_trained(&apart, f, stages);
        rig_open(&overlapped, f, &model, stages, MICRO_BATCHES);
        for (int s = 0; s < stages; s++) {
            rig_forward(&overlapped, s, 0);
        }
        for (int m = 1; m < MICRO_BATCHES; m++) {
            for (int s = 0; s < stages; s++) {
                const int b =
                    stages - 1 - s; /* the last stage's backward beside the first's forward */
                dpr_stage_buffers_t f_buffers = overlapped.buffers[s][m];
                f_buffers.wstate = NULL;
                REQUIRE(dpr_stage_forward_backward(
                    overlapped.stage[s], &f_buffers, overlapped.stage[b],
                    &overlapped.buffers[b][m - 1], f->stream, NULL, overlapped.loss_scale));
            }
        }
        for (int s = stages - 1; s >= 0; s--) {
            rig_backward(&overlapped, s, MICRO_BATCHES - 1);
        }
        rig_expect_equal(&apart, &overlapped);
        rig_close(&apart);
        rig_close(&overlapped);
        fixture_release(f);
    }
}

static void gradients_accumulate_over_micro_batches(void **state)
{
    fixture_t *f = *state;
    rig_t rig;
    rig_open(&rig, f, &model, 1, 1);
    rig_forward(&rig, 0, 0);
    rig_backward(&rig, 0, 0);
    float *once = rig_gather_gradients(&rig);
    rig_backward_weight(&rig, 0, 0); /* again, from what the backward left */
    float *twice = rig_gather_gradients(&rig);
    for (size_t i = 0; i < rig.whole.shape.parameters; i++) {
        const float difference = twice[i] - 2.0F * once[i];
        assert_true(difference <= 1e-6F && difference >= -1e-6F);
    }
    test_free(once);
    test_free(twice);
    rig_close(&rig);
    fixture_release(f);
}

static void one_seed_gives_one_model(void **state)
{
    fixture_t *f = *state;
    dpr_model_config_t other = model;
    other.seed++;
    rig_t rigs[3];
    float *parameters[3];
    for (int i = 0; i < 3; i++) {
        rig_open(&rigs[i], f, i < 2 ? &model : &other, 2, 1);
        rig_train(&rigs[i]);
        parameters[i] = rig_gather_parameters(&rigs[i]);
    }
    const size_t bytes = rigs[0].whole.shape.parameters * sizeof(float);
    assert_memory_equal(parameters[0], parameters[1], bytes);
    assert_memory_not_equal(parameters[0], parameters[2], bytes);
    rig_expect_equal(&rigs[0], &rigs[1]);
    for (int i = 0; i < 3; i++) {
        test_free(parameters[i]);
        rig_close(&rigs[i]);
    }
    fixture_release(f);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cutting_the_model_into_stages_changes_no_bit),
        cmocka_unit_test(backward_is_input_then_weight_to_the_bit),
        cmocka_unit_test(overlapped_passes_are_their_parts_to_the_bit),
        cmocka_unit_test(gradients_accumulate_over_micro_batches),
        cmocka_unit_test(one_seed_gives_one_model),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
