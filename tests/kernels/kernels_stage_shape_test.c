/* What a stage says of itself before it exists: its parts, sizes and costs, and what it refuses. */
#include "fixture.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "kernels/stage_layout.h"

static const dpr_model_config_t model = {.input = 784,
                                         .hidden = 30,
                                         .ffn = 50,
                                         .classes = 10,
                                         .blocks = 10,
                                         .micro_batch_size = 6,
                                         .seed = 1};

static dpr_stage_shape_t shape_of(const dpr_model_config_t *config, int stages, int stage)
{
    dpr_stage_shape_t shape;
    REQUIRE(dpr_stage_shape(config, stages, stage, &shape));
    return shape;
}

static void blocks_are_divided_evenly_and_completely(void **state)
{
    (void)state;
    for (int blocks = 1; blocks <= 20; blocks++) {
        for (int stages = 1; stages <= blocks; stages++) {
            dpr_model_config_t config = model;
            config.blocks = blocks;
            int next = 0;
            for (int s = 0; s < stages; s++) {
                const dpr_stage_shape_t shape = shape_of(&config, stages, s);
                assert_int_equal(shape.first_block, next);
                assert_in_range(shape.blocks, blocks / stages, (blocks + stages - 1) / stages);
                assert_int_equal(shape.is_first, s == 0);
                assert_int_equal(shape.is_last, s == stages - 1);
                next += shape.blocks;
            }
            assert_int_equal(next, blocks);
        }
    }
}

static void parameters_and_products_are_counted(void **state)
{
    (void)state;
    const size_t matrices = 2 * 30 * 50;
    const size_t vectors = 30 + 30 + 50 + 30;
    const double block_flops = 2.0 * 2.0 * 6 * 30 * 50;
    const double projection_flops = 2.0 * 6 * 784 * 30;
    const double classifier_flops = 2.0 * 6 * 30 * 10;

    const dpr_stage_shape_t first = shape_of(&model, 4, 0); /* 2 blocks */
    assert_int_equal(first.parameters, 784 * 30 + 30 + 2 * (matrices + vectors));
    assert_int_equal(first.decayed, 784 * 30 + 2 * matrices);
    assert_true(first.forward_flops == projection_flops + 2 * block_flops);
    assert_true(first.input_flops == 2 * block_flops);
    assert_true(first.weight_flops == first.forward_flops);

    const dpr_stage_shape_t middle = shape_of(&model, 4, 1); /* 3 blocks */
    assert_int_equal(middle.parameters, 3 * (matrices + vectors));
    assert_int_equal(middle.decayed, 3 * matrices);
    assert_true(middle.forward_flops == 3 * block_flops);
    assert_true(middle.input_flops == middle.forward_flops);
    assert_true(middle.weight_flops == middle.forward_flops);

    const dpr_stage_shape_t last = shape_of(&model, 4, 3); /* 3 blocks */
    assert_int_equal(last.parameters, 30 * 10 + 10 + 3 * (matrices + vectors));
    assert_int_equal(last.decayed, 30 * 10 + 3 * matrices);
    assert_true(last.forward_flops == classifier_flops + 3 * block_flops);
    assert_true(last.input_flops == last.forward_flops);

    assert_int_equal(first.activation_bytes, 6 * 30 * 4); /* exactly, not rounded up */
}

/* Bytes of [6][columns] floats rounded up to 64. */
static size_t rounded(size_t columns)
{
    return (6 * columns * 4 + 63) / 64 * 64;
}

static void buffers_hold_what_the_picture_shows(void **state)
{
    (void)state;
    const size_t saved_block = rounded(30) + 2 * rounded(50) + 2 * rounded(1);
    const size_t wstate_block = rounded(50) + rounded(30);
    const dpr_stage_shape_t only = shape_of(&model, 1, 0);
    assert_int_equal(only.saved_bytes, 11 * rounded(30) + 10 * saved_block + rounded(10));
    assert_int_equal(only.wstate_bytes, 11 * rounded(30) + 10 * wstate_block);
    const dpr_stage_shape_t first = shape_of(&model, 10, 0);
    assert_int_equal(first.saved_bytes, rounded(30) + saved_block);
    assert_int_equal(first.wstate_bytes, rounded(30) + wstate_block);
    const dpr_stage_shape_t middle = shape_of(&model, 10, 4);
    assert_int_equal(middle.saved_bytes, saved_block);
    assert_int_equal(middle.wstate_bytes, wstate_block);
    const dpr_stage_shape_t last = shape_of(&model, 10, 9);
    assert_int_equal(last.saved_bytes, rounded(30) + saved_block + rounded(10));
    assert_int_equal(last.wstate_bytes, rounded(30) + wstate_block);
}

static void tensors_fill_the_parameters_without_gap_or_overlap(void **state)
{
    (void)state;
    for (int s = 0; s < 3; s++) {
        dpr_stage_layout_t layout;
        REQUIRE(dpr_stage_layout(&model, 3, s, &layout));
        const size_t count = layout.shape.parameters;
        unsigned char *owner = test_calloc(count, 1);
        for (int t = 0; t < DPR_TENSORS; t++) {
            const dpr_tensor_place_t *place = &layout.tensor[t];
            for (int i = 0; i < place->copies; i++) {
                const size_t at = place->offset + (size_t)i * place->stride;
                const bool matrix = t <= DPR_TENSOR_CLASSIFIER_WEIGHT;
                assert_int_equal(at < layout.shape.decayed, matrix);
                for (size_t k = at; k < at + place->count; k++) {
                    assert_true(k < count && owner[k] == 0);
                    owner[k] = 1;
                }
            }
        }
        assert_null(memchr(owner, 0, count));
        test_free(owner);
    }
}

static double deviation(const float *values, size_t count)
{
    double squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        squares += (double)values[i] * (double)values[i];
    }
    return sqrt(squares / (double)count);
}

static void weights_start_with_the_documented_spread(void **state)
{
    (void)state;
    const dpr_model_config_t config = {.input = 300,
                                       .hidden = 200,
                                       .ffn = 400,
                                       .classes = 100,
                                       .blocks = 2,
                                       .micro_batch_size = 1,
                                       .seed = 5};
    dpr_stage_layout_t layout;
    REQUIRE(dpr_stage_layout(&config, 1, 0, &layout));
    float *values = test_malloc(layout.shape.parameters * sizeof *values);
    dpr_stage_initial_parameters(&config, &layout, values);
    const double want[DPR_TENSORS] = {
        [DPR_TENSOR_PROJECTION_WEIGHT] = 1.0 / sqrt(300.0),
        [DPR_TENSOR_W1] = 1.0 / sqrt(200.0),
        [DPR_TENSOR_W2] = 1.0 / sqrt(400.0 * 2.0 * 2.0),
        [DPR_TENSOR_CLASSIFIER_WEIGHT] = 0.1 / sqrt(200.0),
        [DPR_TENSOR_GAMMA] = 1.0,
    };
    for (int t = 0; t < DPR_TENSORS; t++) {
        const dpr_tensor_place_t *place = &layout.tensor[t];
        const double got = deviation(values + place->offset, place->count);
        if (fabs(got - want[t]) > 0.02 * want[t]) {
            fail_msg("%s: deviation %g, should be %g", dpr_tensor_name((dpr_tensor_t)t), got,
                     want[t]);
        }
    }
    /* Two blocks are not copies of each other. */
    const dpr_tensor_place_t *w1 = &layout.tensor[DPR_TENSOR_W1];
    assert_memory_not_equal(values + w1->offset, values + w1->offset + w1->stride,
                            w1->count * sizeof *values);
    test_free(values);
}

static void expect_refusal(const dpr_model_config_t *config, int stages, int stage,
                           const char *const *words)
{
    char message[1024];
    dpr_log_capture_t capture;
    dpr_stage_shape_t shape = {.parameters = 77};
    dpr_log_capture_begin(&capture, message, sizeof message);
    const dpr_status_t status = dpr_stage_shape(config, stages, stage, &shape);
    dpr_log_capture_end(&capture);
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_int_equal(shape.parameters, 77); /* set only on success */
    for (; *words != NULL; words++) {
        if (strstr(message, *words) == NULL) {
            fail_msg("the message does not say '%s': %s", *words, message);
        }
    }
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void impossible_stages_are_refused_with_what_would_do(void **state)
{
    (void)state;
    expect_refusal(&model, 11, 0,
                   WORDS("10 blocks", "11 stages", "at least 11 blocks", "at most 10 stages"));
    expect_refusal(&model, 4, 4, WORDS("stage 4", "0 to 3"));
    expect_refusal(&model, 4, -1, WORDS("stage -1"));
    expect_refusal(&model, 0, 0, WORDS("number of stages is 0"));
    dpr_model_config_t config = model;
    config.hidden = 0;
    expect_refusal(&config, 1, 0, WORDS("hidden is 0", "at least 1"));
    config = model;
    config.micro_batch_size = -3;
    expect_refusal(&config, 1, 0, WORDS("micro-batch size is -3"));
    config = model;
    config.hidden = INT_MAX;
    config.ffn = INT_MAX;
    expect_refusal(&config, 2, 1, WORDS("too large", "stage 1 of 2"));
    config = model;
    config.micro_batch_size = INT_MAX; /* parameters would fit, activations do not */
    config.blocks = 1 << 30;
    expect_refusal(&config, 1, 0, WORDS("too large"));
}

static void a_refused_stage_leaves_nothing_behind(void **state)
{
    fixture_t *f = *state;
    char message[1024];
    dpr_log_capture_t capture;
    size_t before;
    size_t after;
    size_t peak;
    dpr_stage_t *stage = NULL;
    dpr_model_config_t config = model;
    dpr_device_memory_usage(f->device, &before, &peak);
    dpr_log_capture_begin(&capture, message, sizeof message);
    assert_int_equal(dpr_stage_create(&config, 11, 0, f->device, f->kernels, f->stream, &stage),
                     DPR_ERR_INVALID);
    config.hidden = 1 << 28; /* can be counted, but not allocated */
    config.ffn = 1 << 28;
    assert_int_equal(dpr_stage_create(&config, 1, 0, f->device, f->kernels, f->stream, &stage),
                     DPR_ERR_MEMORY);
    dpr_log_capture_end(&capture);
    dpr_device_memory_usage(f->device, &after, &peak);
    assert_null(stage);
    assert_int_equal(before, after);
    dpr_stage_destroy(NULL);
    dpr_kernels_destroy(NULL);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_divided_evenly_and_completely),
        cmocka_unit_test(parameters_and_products_are_counted),
        cmocka_unit_test(buffers_hold_what_the_picture_shows),
        cmocka_unit_test(tensors_fill_the_parameters_without_gap_or_overlap),
        cmocka_unit_test(weights_start_with_the_documented_spread),
        cmocka_unit_test(impossible_stages_are_refused_with_what_would_do),
        cmocka_unit_test(a_refused_stage_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
