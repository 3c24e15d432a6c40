/*
 * The optimizer: its settings, the learning rate step by step, and what it hands to the kernels.
 * Device and kernels are stand-ins that run at once and keep what they were given.
 */
#include "data_testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_impl.h"
#include "runtime/optimizer.h"

static dpr_optimizer_config_t default_config(void)
{
    dpr_optimizer_config_t config;
    dpr_optimizer_config_default(&config);
    return config;
}

/* ---- Settings ---- */

static void the_default_settings_are_valid(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = default_config();
    assert_ok(dpr_optimizer_config_check(&config));
}

static void settings_out_of_range_are_named(void **state)
{
    (void)state;
    const struct {
        size_t offset;
        float value;
        const char *text;
    } cases[] = {
        {offsetof(dpr_optimizer_config_t, learning_rate), -1e-3f, "--lr -0.001"},
        {offsetof(dpr_optimizer_config_t, learning_rate), NAN, "--lr"},
        {offsetof(dpr_optimizer_config_t, learning_rate), INFINITY, "--lr inf"},
        {offsetof(dpr_optimizer_config_t, beta1), 1.0f, "--beta1 1 is out of range"},
        {offsetof(dpr_optimizer_config_t, beta2), -0.5f, "--beta2 -0.5"},
        {offsetof(dpr_optimizer_config_t, epsilon), 0.0f, "--epsilon 0"},
        {offsetof(dpr_optimizer_config_t, momentum), 1.5f, "--momentum 1.5"},
        {offsetof(dpr_optimizer_config_t, weight_decay), -1.0f, "--weight-decay -1"},
        {offsetof(dpr_optimizer_config_t, clip_norm), NAN, "--clip"},
        {offsetof(dpr_optimizer_config_t, min_lr_fraction), 1.5f, "--min-lr 1.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dpr_optimizer_config_t config = default_config();
        memcpy((char *)&config + cases[i].offset, &cases[i].value, sizeof(float));
        assert_fails(dpr_optimizer_config_check(&config), DPR_ERR_INVALID, cases[i].text);
    }
    dpr_optimizer_config_t config = default_config();
    config.warmup_steps = -1;
    assert_fails(dpr_optimizer_config_check(&config), DPR_ERR_INVALID, "--warmup -1");
}

static void names_and_parsing_agree(void **state)
{
    (void)state;
    dpr_optimizer_kind_t kind;
    dpr_lr_schedule_t schedule;
    assert_ok(dpr_optimizer_kind_parse(dpr_optimizer_kind_name(DPR_OPTIMIZER_SGD), &kind));
    assert_int_equal(kind, DPR_OPTIMIZER_SGD);
    assert_ok(dpr_optimizer_kind_parse("adamw", &kind));
    assert_int_equal(kind, DPR_OPTIMIZER_ADAMW);
    assert_ok(dpr_lr_schedule_parse(dpr_lr_schedule_name(DPR_LR_CONSTANT), &schedule));
    assert_int_equal(schedule, DPR_LR_CONSTANT);
    assert_ok(dpr_lr_schedule_parse("cosine", &schedule));
    assert_int_equal(schedule, DPR_LR_COSINE);
    assert_fails(dpr_optimizer_kind_parse("adam", &kind), DPR_ERR_INVALID, "give adamw or sgd");
    assert_fails(dpr_lr_schedule_parse("", &schedule), DPR_ERR_INVALID, "constant or cosine");
}

/* ---- Learning rate ---- */

/* 4 steps of warm-up to 1, then 8 of cosine down to 0.2. */
static dpr_optimizer_config_t small_schedule(void)
{
    dpr_optimizer_config_t config = default_config();
    config.learning_rate = 1.0f;
    config.warmup_steps = 4;
    config.min_lr_fraction = 0.2f;
    return config;
}

static void the_warm_up_is_linear_and_ends_at_the_full_rate(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = small_schedule();
    assert_float_equal(dpr_learning_rate(&config, 0, 12), 0.25f, 1e-7f);
    assert_float_equal(dpr_learning_rate(&config, 1, 12), 0.5f, 1e-7f);
    assert_float_equal(dpr_learning_rate(&config, 2, 12), 0.75f, 1e-7f);
    assert_true(dpr_learning_rate(&config, 3, 12) == 1.0f);
}

static void the_cosine_starts_full_halves_halfway_and_ends_at_the_floor(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = small_schedule();
    assert_true(dpr_learning_rate(&config, 4, 12) == 1.0f);
    assert_float_equal(dpr_learning_rate(&config, 5, 12), 0.2f + 0.4f * (1.0f + cosf(0.392699f)),
                       1e-6f);
    assert_float_equal(dpr_learning_rate(&config, 8, 12), 0.6f, 1e-6f);
    assert_float_equal(dpr_learning_rate(&config, 11, 12), 0.2f + 0.4f * (1.0f + cosf(2.748894f)),
                       1e-6f);
    assert_float_equal(dpr_learning_rate(&config, 12, 12), 0.2f, 1e-7f);
    assert_float_equal(dpr_learning_rate(&config, 1000, 12), 0.2f, 1e-7f);
}

static void a_constant_rate_stays_after_the_warm_up(void **state)
{
    (void)state;
    dpr_optimizer_config_t config = small_schedule();
    config.schedule = DPR_LR_CONSTANT;
    assert_float_equal(dpr_learning_rate(&config, 0, 12), 0.25f, 1e-7f);
    assert_true(dpr_learning_rate(&config, 4, 12) == 1.0f);
    assert_true(dpr_learning_rate(&config, 11, 12) == 1.0f);
    assert_true(dpr_learning_rate(&config, 50, 12) == 1.0f);
}

static void no_warm_up_starts_at_the_full_rate(void **state)
{
    (void)state;
    dpr_optimizer_config_t config = small_schedule();
    config.warmup_steps = 0;
    assert_true(dpr_learning_rate(&config, 0, 12) == 1.0f);
    assert_true(dpr_learning_rate(&config, 1, 12) < 1.0f);
    assert_true(dpr_learning_rate(&config, 0, 1) == 1.0f);
}

static void a_run_shorter_than_its_warm_up_never_divides_by_zero(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = small_schedule();
    assert_float_equal(dpr_learning_rate(&config, 1, 2), 0.5f, 1e-7f);
    assert_true(dpr_learning_rate(&config, 3, 4) == 1.0f);
    assert_float_equal(dpr_learning_rate(&config, 4, 4), 0.2f, 1e-7f);
}

/* ---- Stand-ins ---- */

static size_t allocated_bytes;
static dpr_status_t fill_status;

static dpr_status_t fake_alloc(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes,
                               void **memory)
{
    (void)device;
    assert_int_equal(kind, DPR_MEMORY_DEVICE);
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(*memory, 0x5a, bytes);
    allocated_bytes = bytes;
    return DPR_OK;
}

static void fake_free(dpr_device_t *device, dpr_memory_kind_t kind, void *memory)
{
    (void)device;
    assert_int_equal(kind, DPR_MEMORY_DEVICE);
    allocated_bytes = 0;
    free(memory);
}

static dpr_status_t fake_fill(dpr_stream_t *stream, void *memory, int byte, size_t bytes)
{
    (void)stream;
    memset(memory, byte, bytes);
    return fill_status;
}

static dpr_status_t fake_synchronize(dpr_stream_t *stream)
{
    (void)stream;
    return DPR_OK;
}

static const dpr_device_ops_t fake_ops = {
    .kind = "fake",
    .alloc = fake_alloc,
    .free = fake_free,
    .stream_fill = fake_fill,
    .stream_synchronize = fake_synchronize,
};
static dpr_device_t fake_device = {.ops = &fake_ops};
static dpr_stream_t fake_stream = {.device = &fake_device};

/* The last call of either kind. */
static struct {
    size_t count;
    size_t decayed;
    dpr_adamw_t adamw;
    float learning_rate;
    float momentum;
    float weight_decay;
    const float *factor;
    const float *gradient;
    float *m;
    float *v;
    float *parameter;
} call;

static dpr_status_t fake_adamw(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                               size_t decayed, const dpr_adamw_t *settings, const float *factor,
                               const float *gradient, float *m, float *v, float *parameter,
                               void *working)
{
    assert_null(working);
    (void)kernels;
    assert_ptr_equal(stream, &fake_stream);
    memset(&call, 0, sizeof call);
    call.count = count;
    call.decayed = decayed;
    call.adamw = *settings;
    call.factor = factor;
    call.gradient = gradient;
    call.m = m;
    call.v = v;
    call.parameter = parameter;
    return DPR_OK;
}

static dpr_status_t fake_sgd(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                             size_t decayed, float learning_rate, float momentum,
                             float weight_decay, const float *factor, const float *gradient,
                             float *v, float *parameter, void *working)
{
    assert_null(working);
    (void)kernels;
    assert_ptr_equal(stream, &fake_stream);
    memset(&call, 0, sizeof call);
    call.count = count;
    call.decayed = decayed;
    call.learning_rate = learning_rate;
    call.momentum = momentum;
    call.weight_decay = weight_decay;
    call.factor = factor;
    call.gradient = gradient;
    call.v = v;
    call.parameter = parameter;
    return DPR_ERR_DEVICE; /* to see that it is passed on */
}
static dpr_kernels_t fake_kernels = {.kind = "fake", .adamw = fake_adamw, .sgd = fake_sgd};

/* ---- State and steps ---- */

enum { PARAMETERS = 101, DECAYED = 77 };

static dpr_optimizer_t *open_optimizer(const dpr_optimizer_config_t *config)
{
    dpr_optimizer_t *optimizer = NULL;
    fill_status = DPR_OK;
    assert_ok(
        dpr_optimizer_create(config, &fake_device, &fake_stream, PARAMETERS, DECAYED, &optimizer));
    return optimizer;
}

static void the_state_starts_at_zero_and_has_the_size_that_is_told(void **state)
{
    (void)state;
    dpr_optimizer_config_t config = default_config();
    for (int kind = DPR_OPTIMIZER_ADAMW; kind <= DPR_OPTIMIZER_SGD; kind++) {
        config.kind = (dpr_optimizer_kind_t)kind;
        dpr_optimizer_t *optimizer = open_optimizer(&config);
        const size_t bytes = dpr_optimizer_bytes(&config, PARAMETERS);
        const float *memory = dpr_optimizer_state(optimizer);
        assert_int_equal(bytes, allocated_bytes);
        assert_true(bytes >= (kind == DPR_OPTIMIZER_ADAMW ? 2u : 1u) * PARAMETERS * sizeof(float));
        for (size_t i = 0; i < bytes / sizeof(float); i++) {
            assert_true(memory[i] == 0.0f);
        }
        dpr_optimizer_destroy(optimizer);
        assert_int_equal(allocated_bytes, 0);
    }
    dpr_optimizer_destroy(NULL);
}

static void a_failed_creation_releases_its_memory(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = default_config();
    dpr_optimizer_t *optimizer = NULL;
    fill_status = DPR_ERR_DEVICE;
    assert_int_equal(
        dpr_optimizer_create(&config, &fake_device, &fake_stream, PARAMETERS, DECAYED, &optimizer),
        DPR_ERR_DEVICE);
    assert_null(optimizer);
    assert_int_equal(allocated_bytes, 0);
}

/* Step 0 is t = 1: its corrections are 1 - beta. */
static void adamw_counts_its_corrections_from_one(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = small_schedule();
    const float factor = 1.0f;
    float gradients[PARAMETERS];
    float parameters[PARAMETERS];
    dpr_optimizer_t *optimizer = open_optimizer(&config);
    assert_ok(dpr_optimizer_step(optimizer, &fake_kernels, &fake_stream, 0, 12, &factor, gradients,
                                 parameters, NULL));
    assert_true(call.adamw.correction1 == 1.0f - config.beta1);
    assert_true(call.adamw.correction2 == 1.0f - config.beta2);
    assert_true(call.adamw.learning_rate == 0.25f);
    assert_ok(dpr_optimizer_step(optimizer, &fake_kernels, &fake_stream, 2, 12, &factor, gradients,
                                 parameters, NULL));
    assert_float_equal(call.adamw.correction1, 0.271f, 1e-6f);
    assert_float_equal(call.adamw.correction2, 0.002997001f, 1e-7f);
    assert_true(call.adamw.learning_rate == 0.75f);
    dpr_optimizer_destroy(optimizer);
}

static void adamw_is_given_everything_where_it_belongs(void **state)
{
    (void)state;
    const dpr_optimizer_config_t config = default_config();
    const float factor = 1.0f;
    float gradients[PARAMETERS];
    float parameters[PARAMETERS];
    dpr_optimizer_t *optimizer = open_optimizer(&config);
    float *memory = dpr_optimizer_state(optimizer);
    assert_ok(dpr_optimizer_step(optimizer, &fake_kernels, &fake_stream, 5, 100, &factor, gradients,
                                 parameters, NULL));
    assert_int_equal(call.count, PARAMETERS);
    assert_int_equal(call.decayed, DECAYED);
    assert_true(call.adamw.beta1 == config.beta1 && call.adamw.beta2 == config.beta2);
    assert_true(call.adamw.epsilon == config.epsilon);
    assert_true(call.adamw.weight_decay == config.weight_decay);
    assert_ptr_equal(call.factor, &factor);
    assert_ptr_equal(call.gradient, gradients);
    assert_ptr_equal(call.parameter, parameters);
    assert_ptr_equal(call.m, memory);
    assert_true(call.v >= memory + PARAMETERS);
    assert_true((char *)(call.v + PARAMETERS) <= (char *)memory + allocated_bytes);
    assert_int_equal((uintptr_t)call.v % 256, 0);
    dpr_optimizer_destroy(optimizer);
}

static void sgd_is_given_everything_where_it_belongs(void **state)
{
    (void)state;
    dpr_optimizer_config_t config = small_schedule();
    const float factor = 1.0f;
    float gradients[PARAMETERS];
    float parameters[PARAMETERS];
    config.kind = DPR_OPTIMIZER_SGD;
    config.momentum = 0.7f;
    dpr_optimizer_t *optimizer = open_optimizer(&config);
    assert_int_equal(dpr_optimizer_step(optimizer, &fake_kernels, &fake_stream, 1, 12, &factor,
                                        gradients, parameters, NULL),
                     DPR_ERR_DEVICE);
    assert_int_equal(call.count, PARAMETERS);
    assert_int_equal(call.decayed, DECAYED);
    assert_true(call.learning_rate == 0.5f);
    assert_true(call.momentum == 0.7f && call.weight_decay == config.weight_decay);
    assert_ptr_equal(call.factor, &factor);
    assert_ptr_equal(call.gradient, gradients);
    assert_ptr_equal(call.parameter, parameters);
    assert_ptr_equal(call.v, dpr_optimizer_state(optimizer));
    dpr_optimizer_destroy(optimizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_settings_are_valid),
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(names_and_parsing_agree),
        cmocka_unit_test(the_warm_up_is_linear_and_ends_at_the_full_rate),
        cmocka_unit_test(the_cosine_starts_full_halves_halfway_and_ends_at_the_floor),
        cmocka_unit_test(a_constant_rate_stays_after_the_warm_up),
        cmocka_unit_test(no_warm_up_starts_at_the_full_rate),
        cmocka_unit_test(a_run_shorter_than_its_warm_up_never_divides_by_zero),
        cmocka_unit_test(the_state_starts_at_zero_and_has_the_size_that_is_told),
        cmocka_unit_test(a_failed_creation_releases_its_memory),
        cmocka_unit_test(adamw_counts_its_corrections_from_one),
        cmocka_unit_test(adamw_is_given_everything_where_it_belongs),
        cmocka_unit_test(sgd_is_given_everything_where_it_belongs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
