/* Softmax cross-entropy of a backend: against the double reference, and against differences. */
#include "fixture.h"
#include "reference.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

static const float scale = 0.0625F;

typedef struct batch {
    int rows_int, classes_int;
    size_t rows, classes;
    array_t *logits, *labels, *dlogits, *result;
} batch_t;

static int32_t *labels_of(const batch_t *batch)
{
    return batch->labels->host;
}

static batch_t make_batch(fixture_t *f, int rows, int classes, double range)
{
    batch_t b = {
        .rows_int = rows, .classes_int = classes, .rows = (size_t)rows, .classes = (size_t)classes};
    b.logits = fixture_random_elements(f, b.rows * b.classes, 1, range);
    b.dlogits = fixture_random_elements(f, b.rows * b.classes, 2, 1e3);
    b.labels = fixture_ints(f, b.rows);
    b.result = fixture_doubles(f, 2);
    for (size_t r = 0; r < b.rows; r++) {
        /* Every fifth row is left out. */
        labels_of(&b)[r] =
            r % 5 == 4 ? -1 : (int32_t)(dpr_random_uniform(7, 3, r) * (double)classes);
    }
    fixture_upload(f, b.labels);
    return b;
}

static void run(fixture_t *f, const batch_t *b, array_t *dlogits)
{
    REQUIRE(f->kernels->softmax_cross_entropy(f->kernels, f->stream, b->rows_int, b->classes_int,
                                              f32(b->logits), b->labels->device, scale,
                                              f32(dlogits), b->result->device));
    fixture_download(f, b->result);
}

static void check(fixture_t *f, int rows, int classes, double range, bool in_place)
{
    const batch_t b = make_batch(f, rows, classes, range);
    double *want = fixture_scratch(f, b.rows * b.classes);
    double want_result[2];
    reference_softmax_cross_entropy(b.rows, b.classes, fixture_widen(f, b.logits), labels_of(&b),
                                    (double)scale, want, want_result);
    array_t *dlogits = in_place ? b.logits : b.dlogits;
    run(f, &b, dlogits);
    const double *result = b.result->host;
    /* exp's argument, a difference of logits, is rounded to float. */
    expect_close(f, "dlogits", dlogits, want, 2e-6 + range * 1.2e-7, 1e-8);
    assert_true(fabs(result[0] - want_result[0]) <= 1e-6 * (1.0 + fabs(want_result[0])));
    assert_true(result[1] == want_result[1]);
    fixture_release(f);
}

static void agrees_with_the_reference(void **state)
{
    fixture_t *f = *state;
    static const int rows[] = {1, 6, 33};
    static const int classes[] = {1, 2, 3, 10, 15, 16, 17, 65, 300};
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            for (size_t c = 0; c < sizeof classes / sizeof classes[0]; c++) {
                check(f, rows[r], classes[c], 5.0, false);
                check(f, rows[r], classes[c], 5.0, true);
                check(f, rows[r], classes[c], 1e4, false);
            }
        }
    }
}

typedef struct objective {
    const batch_t *batch;
    double *logits;
} objective_t;

static double objective(void *argument)
{
    const objective_t *o = argument;
    double result[2];
    reference_softmax_cross_entropy(o->batch->rows, o->batch->classes, o->logits,
                                    labels_of(o->batch), (double)scale, NULL, result);
    return result[0];
}

static void gradient_is_the_slope_of_the_loss(void **state)
{
    fixture_t *f = *state;
    const batch_t b = make_batch(f, 6, 5, 2.0);
    objective_t o = {.batch = &b, .logits = fixture_widen(f, b.logits)};
    double *slopes = fixture_scratch(f, b.rows * b.classes);
    for (size_t i = 0; i < b.rows * b.classes; i++) {
        slopes[i] = reference_derivative(objective, &o, &o.logits[i]);
    }
    run(f, &b, b.dlogits);
    expect_close(f, "dlogits", b.dlogits, slopes, 1e-5, 1e-8);
    fixture_release(f);
}

static void of_equal_logits_the_first_counts(void **state)
{
    fixture_t *f = *state;
    batch_t b = make_batch(f, 3, 4, 1.0);
    memset(b.logits->host, 0, b.logits->bytes);
    labels_of(&b)[0] = 0;
    labels_of(&b)[1] = 1;
    labels_of(&b)[2] = 2;
    fixture_upload(f, b.logits);
    fixture_upload(f, b.labels);
    run(f, &b, b.dlogits);
    const double *result = b.result->host;
    assert_true(result[1] == 1.0);
    assert_true(fabs(result[0] - (double)scale * 3.0 * log(4.0)) < 1e-7);
    fixture_release(f);
}

static void bad_values_become_nan_in_their_row(void **state)
{
    fixture_t *f = *state;
    batch_t b = make_batch(f, 4, 18, 1.0);
    host_set(b.logits, 18 + 17, NAN); /* row 1 */
    labels_of(&b)[1] = 2;
    labels_of(&b)[2] = 18; /* no such class */
    host_set(b.logits, 3 * 18, NAN);
    labels_of(&b)[3] = -1; /* left out, so its NaN is nobody's */
    fixture_upload(f, b.logits);
    fixture_upload(f, b.labels);
    run(f, &b, b.dlogits);
    fixture_download(f, b.dlogits);
    for (size_t i = 0; i < b.rows * b.classes; i++) {
        assert_int_equal(isnan(host_get(b.dlogits, i)) != 0, i / 18 == 1 || i / 18 == 2);
    }
    const double *result = b.result->host;
    assert_true(isnan(result[0]));
    assert_true(result[1] <= 1.0);
    fixture_release(f);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_reference),
        cmocka_unit_test(gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(of_equal_logits_the_first_counts),
        cmocka_unit_test(bad_values_become_nan_in_their_row),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
