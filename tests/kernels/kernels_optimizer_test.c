/* Norm, clipping and updates of a backend, against double arithmetic. */
#include "fixture.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

static const size_t counts[] = {1, 7, 16, 17, 4095, 4096, 4097, 10001};

enum { COUNTS = sizeof counts / sizeof counts[0], STEPS = 50 };

static double squares_of(fixture_t *f, array_t *x, size_t count)
{
    array_t *result = fixture_doubles(f, 1);
    REQUIRE(f->kernels->sum_squares(f->kernels, f->stream, count, f32(x), result->device));
    fixture_download(f, result);
    return *(const double *)result->host;
}

static void sum_of_squares_is_exact_to_double(void **state)
{
    fixture_t *f = *state;
    for (int i = 0; i < COUNTS; i++) {
        double at_offset[2];
        for (size_t offset = 0; offset <= 4; offset += 4) {
            f->misalign_bytes = offset;
            array_t *x = fixture_random(f, counts[i], 1, 1e3);
            const double *values = fixture_widen(f, x);
            double want = 0.0;
            for (size_t k = 0; k < counts[i]; k++) {
                want += values[k] * values[k];
            }
            at_offset[offset / 4] = squares_of(f, x, counts[i]);
            assert_true(fabs(at_offset[offset / 4] - want) <= 1e-12 * want);
            fixture_release(f);
        }
        assert_true(at_offset[0] == at_offset[1]); /* the order depends on the count only */
    }
}

static void sum_of_squares_shows_a_nan(void **state)
{
    fixture_t *f = *state;
    array_t *x = fixture_random(f, 5000, 1, 1.0);
    host_f32(x)[4999] = NAN;
    fixture_upload(f, x);
    assert_true(isnan(squares_of(f, x, 5000)));
    assert_int_equal(isnan(squares_of(f, x, 4999)), 0);
    fixture_release(f);
}

static void squares_may_exceed_the_largest_float(void **state)
{
    fixture_t *f = *state;
    f->misalign_bytes = 0;
    array_t *x = fixture_floats(f, 1000);
    for (size_t i = 0; i < 1000; i++) {
        host_f32(x)[i] = 0x1p120F;
    }
    fixture_upload(f, x);
    assert_true(squares_of(f, x, 1000) == 1000.0 * 0x1p240);
    fixture_release(f);
}

/* Rounded to nearest even in bf16; ties, the largest and what is no number among them. */
static void conversion_rounds_to_nearest_even(void **state)
{
    fixture_t *f = *state;
    static const float special[] = {0x1.01p0F,       0x1.03p0F, 0x1.010002p0F, -0x1.01p0F,
                                    0x1.fffffep127F, INFINITY,  -INFINITY,     NAN,
                                    0x1p-149F,       -0.0F};
    enum { SPECIAL = sizeof special / sizeof special[0] };
    for (size_t offset = 0; offset <= 4; offset += 4) {
        for (int i = 0; i < COUNTS; i++) {
            f->misalign_bytes = offset;
            array_t *x = fixture_random(f, counts[i], 1, 10.0);
            array_t *y = fixture_elements(f, counts[i]);
            array_t *want = fixture_elements(f, counts[i]);
            for (size_t k = 0; k < SPECIAL && k < counts[i]; k++) {
                host_f32(x)[k] = special[k];
            }
            fixture_upload(f, x);
            REQUIRE(f->kernels->convert(f->kernels, f->stream, counts[i], f32(x), y->device));
            fixture_download(f, y);
            for (size_t k = 0; k < counts[i]; k++) {
                host_set(want, k, host_f32(x)[k]);
                assert_true(host_get(y, k) == host_get(want, k) ||
                            (isnan(host_get(y, k)) && isnan(host_get(want, k))));
            }
            fixture_release(f);
        }
    }
}

static float clip(fixture_t *f, const double *squares, int count, float max_norm)
{
    array_t *device = fixture_doubles(f, (size_t)count);
    array_t *factor = fixture_floats(f, 1);
    memcpy(device->host, squares, device->bytes);
    fixture_upload(f, device);
    REQUIRE(f->kernels->clip_factor(f->kernels, f->stream, count, device->device, max_norm,
                                    f32(factor)));
    fixture_download(f, factor);
    const float value = host_f32(factor)[0];
    fixture_release(f);
    return value;
}

static void clipping_scales_long_gradients_down_to_the_limit(void **state)
{
    fixture_t *f = *state;
    const double five[] = {9.0, 16.0}; /* a norm of 5 */
    assert_true(clip(f, five, 2, 1.0F) == 0.2F);
    assert_true(clip(f, five, 2, 5.0F) == 1.0F);
    assert_true(clip(f, five, 2, 6.0F) == 1.0F);
    assert_true(clip(f, five, 1, 1.5F) == 0.5F);
    assert_true(clip(f, five, 2, 0.0F) == 1.0F);
    assert_true(clip(f, five, 2, -1.0F) == 1.0F);
    const double zero[] = {0.0};
    assert_true(clip(f, zero, 1, 1.0F) == 1.0F);
    const double broken[] = {1.0, NAN};
    assert_true(isnan(clip(f, broken, 2, 1.0F)));
}

/* One optimizer's arrays, and the same in double. */
typedef struct state {
    size_t count, decayed;
    array_t *gradient, *m, *v, *parameter, *factor;
    array_t *working; /* in bf16; else NULL */
    double *want_m, *want_v, *want_parameter;
} state_t;

static state_t make_state(fixture_t *f, size_t count, size_t decayed)
{
    state_t s = {.count = count, .decayed = decayed};
    s.gradient = fixture_floats(f, count);
    s.m = fixture_floats(f, count);
    s.v = fixture_floats(f, count);
    s.parameter = fixture_random(f, count, 1, 1.0);
    s.factor = fixture_floats(f, 1);
    s.working = f->kernels->dtype == DPR_DTYPE_BF16 ? fixture_elements(f, count) : NULL;
    s.want_m = fixture_scratch(f, count);
    s.want_v = fixture_scratch(f, count);
    s.want_parameter = fixture_widen(f, s.parameter);
    return s;
}

static void *working_of(const state_t *s)
{
    return s->working != NULL ? s->working->device : NULL;
}

/* The copy that products read is the parameter, rounded. */
static void expect_copy(fixture_t *f, const state_t *s)
{
    if (s->working == NULL) {
        return;
    }
    fixture_download(f, s->parameter);
    fixture_download(f, s->working);
    for (size_t i = 0; i < s->count; i++) {
        const float copied = host_get(s->working, i);
        host_set(s->working, i, host_get(s->parameter, i));
        assert_true(copied == host_get(s->working, i));
    }
}

/* A new gradient and factor for step t. */
static void next_gradient(fixture_t *f, state_t *s, int t)
{
    for (size_t i = 0; i < s->count; i++) {
        host_f32(s->gradient)[i] =
            (float)dpr_random_normal(3, (uint64_t)t, i) * (i % 3 == 0 ? 1e-3F : 1.0F);
    }
    host_f32(s->factor)[0] = t % 4 == 0 ? 0.5F : 1.0F;
    fixture_upload(f, s->gradient);
    fixture_upload(f, s->factor);
}

static void reference_adamw(const state_t *s, const dpr_adamw_t *a)
{
    const double beta1 = (double)a->beta1;
    const double beta2 = (double)a->beta2;
    for (size_t i = 0; i < s->count; i++) {
        const double g = (double)host_f32(s->factor)[0] * (double)host_f32(s->gradient)[i];
        s->want_m[i] = beta1 * s->want_m[i] + (1.0 - beta1) * g;
        s->want_v[i] = beta2 * s->want_v[i] + (1.0 - beta2) * g * g;
        const double step = s->want_m[i] / (double)a->correction1 /
                            (sqrt(s->want_v[i] / (double)a->correction2) + (double)a->epsilon);
        const double decay = i < s->decayed ? (double)a->weight_decay : 0.0;
        s->want_parameter[i] -= (double)a->learning_rate * (step + decay * s->want_parameter[i]);
    }
}

static void check_adamw(fixture_t *f, size_t count, size_t decayed)
{
    state_t s = make_state(f, count, decayed);
    for (int t = 1; t <= STEPS; t++) {
        const dpr_adamw_t settings = {.learning_rate = 1e-2F,
                                      .beta1 = 0.9F,
                                      .beta2 = 0.999F,
                                      .epsilon = 1e-8F,
                                      .weight_decay = 0.1F,
                                      .correction1 = (float)(1.0 - pow(0.9, t)),
                                      .correction2 = (float)(1.0 - pow(0.999, t))};
        next_gradient(f, &s, t);
        REQUIRE(f->kernels->adamw(f->kernels, f->stream, count, decayed, &settings, f32(s.factor),
                                  f32(s.gradient), f32(s.m), f32(s.v), f32(s.parameter),
                                  working_of(&s)));
        reference_adamw(&s, &settings);
    }
    expect_close(f, "m", s.m, s.want_m, 1e-5, 1e-7);
    expect_close(f, "v", s.v, s.want_v, 1e-5, 1e-12);
    expect_close(f, "parameter", s.parameter, s.want_parameter, 1e-5, 2e-6);
    expect_copy(f, &s);
    fixture_release(f);
}

static void adamw_follows_the_double_reference(void **state)
{
    fixture_t *f = *state;
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        check_adamw(f, 1, 0);
        check_adamw(f, 1, 1);
        check_adamw(f, 37, 0);
        check_adamw(f, 37, 18);
        check_adamw(f, 1001, 1001);
    }
}

static void reference_sgd(const state_t *s, double rate, double momentum, double weight_decay)
{
    for (size_t i = 0; i < s->count; i++) {
        const double g = (double)host_f32(s->factor)[0] * (double)host_f32(s->gradient)[i];
        const double decay = i < s->decayed ? weight_decay : 0.0;
        s->want_v[i] = momentum * s->want_v[i] + g + decay * s->want_parameter[i];
        s->want_parameter[i] -= rate * s->want_v[i];
    }
}

static void check_sgd(fixture_t *f, size_t count, size_t decayed)
{
    const float rate = 1e-2F;
    const float momentum = 0.9F;
    const float weight_decay = 0.1F;
    state_t s = make_state(f, count, decayed);
    for (int t = 1; t <= STEPS; t++) {
        next_gradient(f, &s, t);
        REQUIRE(f->kernels->sgd(f->kernels, f->stream, count, decayed, rate, momentum, weight_decay,
                                f32(s.factor), f32(s.gradient), f32(s.v), f32(s.parameter),
                                working_of(&s)));
        reference_sgd(&s, (double)rate, (double)momentum, (double)weight_decay);
    }
    expect_close(f, "v", s.v, s.want_v, 1e-5, 1e-5);
    expect_close(f, "parameter", s.parameter, s.want_parameter, 1e-5, 5e-6);
    expect_copy(f, &s);
    fixture_release(f);
}

static void sgd_follows_the_double_reference(void **state)
{
    fixture_t *f = *state;
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        check_sgd(f, 1, 0);
        check_sgd(f, 1, 1);
        check_sgd(f, 37, 0);
        check_sgd(f, 37, 18);
        check_sgd(f, 1001, 1001);
    }
}

static void a_nan_gradient_shows_in_its_parameter_alone(void **state)
{
    fixture_t *f = *state;
    f->misalign_bytes = 0;
    const dpr_adamw_t settings = {.learning_rate = 1e-2F,
                                  .beta1 = 0.9F,
                                  .beta2 = 0.999F,
                                  .epsilon = 1e-8F,
                                  .correction1 = 0.1F,
                                  .correction2 = 0.001F};
    state_t adamw = make_state(f, 40, 20);
    state_t sgd = make_state(f, 40, 20);
    next_gradient(f, &adamw, 1);
    host_f32(adamw.gradient)[33] = NAN;
    fixture_upload(f, adamw.gradient);
    REQUIRE(f->kernels->adamw(f->kernels, f->stream, 40, 20, &settings, f32(adamw.factor),
                              f32(adamw.gradient), f32(adamw.m), f32(adamw.v), f32(adamw.parameter),
                              NULL));
    REQUIRE(f->kernels->sgd(f->kernels, f->stream, 40, 20, 1e-2F, 0.9F, 0.0F, f32(adamw.factor),
                            f32(adamw.gradient), f32(sgd.v), f32(sgd.parameter), NULL));
    fixture_download(f, adamw.parameter);
    fixture_download(f, sgd.parameter);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(isnan(host_f32(adamw.parameter)[i]) != 0, i == 33);
        assert_int_equal(isnan(host_f32(sgd.parameter)[i]) != 0, i == 33);
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
        cmocka_unit_test(sum_of_squares_is_exact_to_double),
        cmocka_unit_test(sum_of_squares_shows_a_nan),
        cmocka_unit_test(squares_may_exceed_the_largest_float),
        cmocka_unit_test(conversion_rounds_to_nearest_even),
        cmocka_unit_test(clipping_scales_long_gradients_down_to_the_limit),
        cmocka_unit_test(adamw_follows_the_double_reference),
        cmocka_unit_test(sgd_follows_the_double_reference),
        cmocka_unit_test(a_nan_gradient_shows_in_its_parameter_alone),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
