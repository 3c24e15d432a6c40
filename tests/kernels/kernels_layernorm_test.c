/* Layer normalisation of a backend: against the double reference, and against differences. */
#include "fixture.h"
#include "reference.h"

#include <math.h>
#include <string.h>

typedef struct norm {
    int rows_int, columns_int;
    size_t rows, columns;
    array_t *x, *gamma, *beta, *y, *mean, *rstd;
} norm_t;

static norm_t make_norm(fixture_t *f, int rows, int columns)
{
    norm_t n = {
        .rows_int = rows, .columns_int = columns, .rows = (size_t)rows, .columns = (size_t)columns};
    n.x = fixture_random_elements(f, n.rows * n.columns, 1, 2.0);
    n.gamma = fixture_random(f, n.columns, 2, 1.5);
    n.beta = fixture_random(f, n.columns, 3, 1.0);
    n.y = fixture_random_elements(f, n.rows * n.columns, 4, 1e3);
    n.mean = fixture_random(f, n.rows, 5, 1e3);
    n.rstd = fixture_random(f, n.rows, 6, 1e3);
    return n;
}

static void run_forward(fixture_t *f, const norm_t *n)
{
    REQUIRE(f->kernels->layernorm_forward(f->kernels, f->stream, n->rows_int, n->columns_int,
                                          f32(n->x), f32(n->gamma), f32(n->beta), f32(n->y),
                                          f32(n->mean), f32(n->rstd)));
}

static void check_forward(fixture_t *f, int rows, int columns)
{
    const norm_t n = make_norm(f, rows, columns);
    run_forward(f, &n);
    double *y = fixture_scratch(f, n.rows * n.columns);
    double *mean = fixture_scratch(f, n.rows);
    double *rstd = fixture_scratch(f, n.rows);
    reference_layernorm(n.rows, n.columns, fixture_widen(f, n.x), fixture_widen(f, n.gamma),
                        fixture_widen(f, n.beta), y, mean, rstd);
    expect_close(f, "y", n.y, y, 1e-6, 2e-6);
    expect_close(f, "mean", n.mean, mean, 1e-6, 1e-7);
    expect_close(f, "rstd", n.rstd, rstd, 1e-6, 0.0);
    fixture_release(f);
}

static void check_backward(fixture_t *f, int rows, int columns, bool in_place)
{
    const norm_t n = make_norm(f, rows, columns);
    const size_t count = n.rows * n.columns;
    array_t *dy = fixture_random_elements(f, count, 7, 1.0);
    array_t *residual = fixture_random_elements(f, count, 8, 1.0);
    array_t *dx = in_place ? residual : fixture_random_elements(f, count, 9, 1e3);
    array_t *dgamma = fixture_random(f, n.columns, 10, 1.0);
    array_t *dbeta = fixture_random(f, n.columns, 11, 1.0);
    double *want_dx = fixture_scratch(f, count);
    double *want_dgamma = fixture_widen(f, dgamma);
    double *want_dbeta = fixture_widen(f, dbeta);
    const double *added = fixture_widen(f, residual);
    reference_layernorm_backward(n.rows, n.columns, fixture_widen(f, dy), fixture_widen(f, n.x),
                                 fixture_widen(f, n.gamma), want_dx, want_dgamma, want_dbeta);
    for (size_t i = 0; i < count; i++) {
        want_dx[i] += added[i];
    }
    run_forward(f, &n);
    REQUIRE(f->kernels->layernorm_backward_input(f->kernels, f->stream, rows, columns, f32(dy),
                                                 f32(n.x), f32(n.gamma), f32(n.mean), f32(n.rstd),
                                                 f32(residual), f32(dx)));
    REQUIRE(f->kernels->layernorm_backward_weight(f->kernels, f->stream, rows, columns, f32(dy),
                                                  f32(n.x), f32(n.mean), f32(n.rstd), f32(dgamma),
                                                  f32(dbeta)));
    /* One column: the true gradient is 0, times a rstd of 300. Two: may be nearly equal. */
    expect_close(f, "dx", dx, want_dx, 1e-4, columns <= 2 ? 1e-3 : 1e-5);
    expect_close(f, "dgamma", dgamma, want_dgamma, 1e-6, 1e-5);
    expect_close(f, "dbeta", dbeta, want_dbeta, 1e-6, 1e-5);
    fixture_release(f);
}

static void agrees_with_the_reference(void **state)
{
    fixture_t *f = *state;
    static const int rows[] = {1, 2, 7, 33};
    static const int columns[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 257};
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
                check_forward(f, rows[r], columns[c]);
                check_backward(f, rows[r], columns[c], false);
                check_backward(f, rows[r], columns[c], true);
            }
        }
    }
}

static void constant_rows_become_beta(void **state)
{
    fixture_t *f = *state;
    static const float constants[] = {0.0F, 0.1F, -3.3F, 1e4F, -1e4F, 12345.678F, 1e30F};
    enum { ROWS = sizeof constants / sizeof constants[0], COLUMNS = 37 };
    const norm_t n = make_norm(f, ROWS, COLUMNS);
    for (size_t i = 0; i < n.rows * n.columns; i++) {
        host_set(n.x, i, constants[i / COLUMNS]);
    }
    fixture_upload(f, n.x);
    run_forward(f, &n);
    fixture_download(f, n.y);
    fixture_download(f, n.rstd);
    for (size_t i = 0; i < n.rows * n.columns; i++) {
        host_set(n.x, i, host_f32(n.beta)[i % COLUMNS]); /* as y is rounded */
        assert_true(host_get(n.y, i) == host_get(n.x, i));
    }
    for (size_t r = 0; r < n.rows; r++) {
        assert_true(fabs((double)host_f32(n.rstd)[r] - 1.0 / sqrt(1e-5)) < 1e-3);
    }
    fixture_release(f);
}

/* A mean of 1e4 beside a spread of 1: what is lost is the float mean's rounding, no more. */
static void a_large_mean_costs_no_more_than_its_rounding(void **state)
{
    fixture_t *f = *state;
    const norm_t n = make_norm(f, 3, 300);
    for (size_t i = 0; i < n.rows * n.columns; i++) {
        host_set(n.x, i, host_get(n.x, i) + 1e4F);
    }
    fixture_upload(f, n.x);
    run_forward(f, &n);
    double *y = fixture_scratch(f, n.rows * n.columns);
    double *mean = fixture_scratch(f, n.rows);
    double *rstd = fixture_scratch(f, n.rows);
    reference_layernorm(n.rows, n.columns, fixture_widen(f, n.x), fixture_widen(f, n.gamma),
                        fixture_widen(f, n.beta), y, mean, rstd);
    expect_close(f, "y", n.y, y, 0.0, 1e4 * 0x1p-24 * 1.5);
    expect_close(f, "rstd", n.rstd, rstd, 1e-5, 0.0);
    fixture_release(f);
}

/* Squares beyond the largest float, and far below 1. */
static void magnitude_cancels(void **state)
{
    fixture_t *f = *state;
    static const float scales[] = {1e15F, 1e30F, 1e-1F};
    for (size_t k = 0; k < sizeof scales / sizeof scales[0]; k++) {
        const norm_t n = make_norm(f, 3, 40);
        for (size_t i = 0; i < n.rows * n.columns; i++) {
            host_set(n.x, i, host_get(n.x, i) * scales[k]);
        }
        fixture_upload(f, n.x);
        run_forward(f, &n);
        double *y = fixture_scratch(f, n.rows * n.columns);
        double *mean = fixture_scratch(f, n.rows);
        double *rstd = fixture_scratch(f, n.rows);
        reference_layernorm(n.rows, n.columns, fixture_widen(f, n.x), fixture_widen(f, n.gamma),
                            fixture_widen(f, n.beta), y, mean, rstd);
        expect_close(f, "y", n.y, y, 1e-6, 2e-6);
        expect_close(f, "mean", n.mean, mean, 1e-6, 1e-7 * (double)scales[k]);
        expect_close(f, "rstd", n.rstd, rstd, 1e-6, 0.0);
        fixture_release(f);
    }
}

typedef struct objective {
    size_t rows, columns;
    double *x, *gamma, *beta, *dy, *residual, *y, *mean, *rstd;
} objective_t;

/* dy * layernorm(x), and residual * x for the skip connection beside it. */
static double objective(void *argument)
{
    objective_t *o = argument;
    reference_layernorm(o->rows, o->columns, o->x, o->gamma, o->beta, o->y, o->mean, o->rstd);
    double sum = 0.0;
    for (size_t i = 0; i < o->rows * o->columns; i++) {
        sum += o->dy[i] * o->y[i] + o->residual[i] * o->x[i];
    }
    return sum;
}

static double *differences(fixture_t *f, objective_t *o, double *variable, size_t count)
{
    double *slopes = fixture_scratch(f, count);
    for (size_t i = 0; i < count; i++) {
        slopes[i] = reference_derivative(objective, o, &variable[i]);
    }
    return slopes;
}

static void gradients_are_the_slopes_of_the_forward(void **state)
{
    fixture_t *f = *state;
    const norm_t n = make_norm(f, 3, 7);
    const size_t count = n.rows * n.columns;
    array_t *dy = fixture_random_elements(f, count, 7, 1.0);
    array_t *residual = fixture_random_elements(f, count, 8, 1.0);
    array_t *dx = fixture_elements(f, count);
    array_t *dgamma = fixture_floats(f, n.columns);
    array_t *dbeta = fixture_floats(f, n.columns);
    objective_t o = {.rows = n.rows,
                     .columns = n.columns,
                     .x = fixture_widen(f, n.x),
                     .gamma = fixture_widen(f, n.gamma),
                     .beta = fixture_widen(f, n.beta),
                     .dy = fixture_widen(f, dy),
                     .residual = fixture_widen(f, residual),
                     .y = fixture_scratch(f, count),
                     .mean = fixture_scratch(f, n.rows),
                     .rstd = fixture_scratch(f, n.rows)};
    run_forward(f, &n);
    REQUIRE(f->kernels->layernorm_backward_input(f->kernels, f->stream, 3, 7, f32(dy), f32(n.x),
                                                 f32(n.gamma), f32(n.mean), f32(n.rstd),
                                                 f32(residual), f32(dx)));
    REQUIRE(f->kernels->layernorm_backward_weight(f->kernels, f->stream, 3, 7, f32(dy), f32(n.x),
                                                  f32(n.mean), f32(n.rstd), f32(dgamma),
                                                  f32(dbeta)));
    expect_close(f, "dx", dx, differences(f, &o, o.x, count), 1e-5, 2e-6);
    expect_close(f, "dgamma", dgamma, differences(f, &o, o.gamma, n.columns), 1e-5, 2e-6);
    expect_close(f, "dbeta", dbeta, differences(f, &o, o.beta, n.columns), 1e-5, 2e-6);
    fixture_release(f);
}

static void a_nan_spoils_its_row_alone(void **state)
{
    fixture_t *f = *state;
    const norm_t n = make_norm(f, 3, 21);
    host_set(n.x, 21 + 20, NAN);
    fixture_upload(f, n.x);
    run_forward(f, &n);
    fixture_download(f, n.y);
    for (size_t i = 0; i < n.rows * n.columns; i++) {
        assert_int_equal(isnan(host_get(n.y, i)) != 0, i / 21 == 1);
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
        cmocka_unit_test(agrees_with_the_reference),
        cmocka_unit_test(constant_rows_become_beta),
        cmocka_unit_test(a_large_mean_costs_no_more_than_its_rounding),
        cmocka_unit_test(magnitude_cancels),
        cmocka_unit_test(gradients_are_the_slopes_of_the_forward),
        cmocka_unit_test(a_nan_spoils_its_row_alone),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
