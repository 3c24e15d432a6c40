/* The linear layer of a backend: against the double reference, and its gradients against
 * differences. */
#include "fixture.h"
#include "reference.h"

#include <math.h>
#include <string.h>

typedef struct size {
    int rows;
    int in;
    int out;
} size_triple_t;

/* Ones, odd numbers, either side of vector and panel widths, and a usual shape. */
static const size_triple_t sizes[] = {
    {1, 1, 1},   {1, 7, 5},    {5, 1, 3},    {3, 5, 1},     {2, 15, 17},
    {7, 31, 63}, {17, 33, 65}, {33, 64, 66}, {32, 64, 128}, {31, 130, 257},
    {8, 16, 24}, {16, 32, 8},  {1, 8, 16},   {72, 8, 40},
};

enum { SIZES = sizeof sizes / sizeof sizes[0] };

typedef struct layer {
    size_t rows, in, out;
    array_t *x, *w, *b, *dy;
} layer_t;

static layer_t make_layer(fixture_t *f, const size_triple_t *size, double range)
{
    layer_t layer = {.rows = (size_t)size->rows, .in = (size_t)size->in, .out = (size_t)size->out};
    layer.x = fixture_random_elements(f, layer.rows * layer.in, 1, range);
    layer.w = fixture_random_elements(f, layer.in * layer.out, 2, range);
    layer.b = fixture_random_elements(f, layer.out, 3, range * range);
    layer.dy = fixture_random_elements(f, layer.rows * layer.out, 4, range);
    return layer;
}

/* Rounding of a sum of n products of numbers below 1, generously. */
static double sum_error(const fixture_t *f, size_t n)
{
    return 1e-6 + 1.2e-7 * (double)n + fixture_terms_error(f, n);
}

static double largest_of(const array_t *array)
{
    double largest = 0.0;
    for (size_t i = 0; i < array_count(array); i++) {
        largest = fmax(largest, fabs((double)host_get(array, i)));
    }
    return largest;
}

static double *reference_forward(fixture_t *f, const layer_t *l)
{
    double *y = fixture_scratch(f, l->rows * l->out);
    reference_linear(l->rows, l->in, l->out, fixture_widen(f, l->x), fixture_widen(f, l->w),
                     fixture_widen(f, l->b), y);
    return y;
}

static void check_forward(fixture_t *f, const size_triple_t *size)
{
    const layer_t l = make_layer(f, size, 1.0);
    const size_t count = l.rows * l.out;
    array_t *y = fixture_random_elements(f, count, 5, 1e3); /* stale values must not show */
    array_t *pre = fixture_random_elements(f, count, 6, 1e3);
    array_t *h = fixture_random_elements(f, count, 7, 1e3);
    array_t *residual = fixture_random_elements(f, count, 8, 1.0);
    array_t *sum = fixture_random_elements(f, count, 9, 1e3);
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                       f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_NONE, NULL,
                                       f32(y)));
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                       f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_GELU, f32(pre),
                                       f32(h)));
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                       f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_RESIDUAL,
                                       f32(residual), f32(sum)));
    double *want = reference_forward(f, &l);
    expect_close(f, "y", y, want, 1e-6, sum_error(f, l.in));
    expect_close(f, "pre", pre, want, 1e-6, sum_error(f, l.in));
    const double *added = fixture_widen(f, residual);
    double *want_sum = fixture_scratch(f, count);
    double *want_h = fixture_scratch(f, count);
    for (size_t i = 0; i < count; i++) {
        want_sum[i] = want[i] + added[i];
        want_h[i] = reference_gelu((double)host_get(pre, i));
    }
    /* Either may be rounded on the way: residual + bias, below 2, and pre before gelu. */
    const double rounding = f->kernels->dtype == DPR_DTYPE_BF16 ? fixture_rounding(f) : 0.0;
    expect_close(f, "residual + y", sum, want_sum, 1e-6, sum_error(f, l.in) + 2.0 * rounding);
    expect_close(f, "gelu(pre)", h, want_h, 1e-6, 1e-6 + 1.13 * rounding * largest_of(pre));
    fixture_release(f);
}

static void forward_agrees_with_the_reference(void **state)
{
    fixture_t *f = *state;
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        for (int i = 0; i < SIZES; i++) {
            check_forward(f, &sizes[i]);
        }
    }
}

static void check_backward(fixture_t *f, const size_triple_t *size)
{
    const layer_t l = make_layer(f, size, 1.0);
    array_t *pre = fixture_random_elements(f, l.rows * l.in, 5, 3.0);
    array_t *dx = fixture_random_elements(f, l.rows * l.in, 6, 1e3);
    array_t *dpre = fixture_random_elements(f, l.rows * l.in, 7, 1e3);
    array_t *dw = fixture_random(f, l.in * l.out, 8, 1.0); /* accumulates onto these */
    array_t *db = fixture_random(f, l.out, 9, 1.0);
    double *want_dw = fixture_widen(f, dw);
    double *want_db = fixture_widen(f, db);
    double *want_dx = fixture_scratch(f, l.rows * l.in);
    double *want_dpre = fixture_scratch(f, l.rows * l.in);
    reference_linear_backward(l.rows, l.in, l.out, fixture_widen(f, l.dy), fixture_widen(f, l.x),
                              fixture_widen(f, l.w), want_dx, want_dw, want_db);
    for (size_t i = 0; i < l.rows * l.in; i++) {
        want_dpre[i] = want_dx[i] * reference_gelu_slope((double)host_get(pre, i));
    }
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, size->rows, size->in,
                                              size->out, f32(l.dy), f32(l.w), NULL, f32(dx)));
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, size->rows, size->in,
                                              size->out, f32(l.dy), f32(l.w), f32(pre), f32(dpre)));
    REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, size->rows, size->in,
                                               size->out, f32(l.x), f32(l.dy), f32(dw), f32(db)));
    expect_close(f, "dx", dx, want_dx, 1e-6, sum_error(f, l.out));
    expect_close(f, "dx gelu'(pre)", dpre, want_dpre, 2e-6 + fixture_rounding(f),
                 1.2 * sum_error(f, l.out));
    expect_close(f, "dw", dw, want_dw, 1e-6, sum_error(f, l.rows));
    expect_close(f, "db", db, want_db, 1e-6, sum_error(f, l.rows));
    fixture_release(f);
}

static void backward_agrees_with_the_reference(void **state)
{
    fixture_t *f = *state;
    for (size_t offset = 0; offset <= 4; offset += 4) {
        f->misalign_bytes = offset;
        for (int i = 0; i < SIZES; i++) {
            check_backward(f, &sizes[i]);
        }
    }
}

/* Numbers of 1e14, whose products are far from 1 and far from the largest float. */
static void large_numbers_keep_their_relative_error(void **state)
{
    fixture_t *f = *state;
    static const size_triple_t shapes[] = {{5, 19, 35}, {8, 16, 24}};
    const double square = 1e28;
    f->misalign_bytes = 0;
    for (int i = 0; i < 2; i++) {
        const size_triple_t *size = &shapes[i];
        const layer_t l = make_layer(f, size, 1e14);
        array_t *y = fixture_elements(f, l.rows * l.out);
        array_t *dx = fixture_elements(f, l.rows * l.in);
        array_t *dw = fixture_floats(f, l.in * l.out);
        array_t *db = fixture_floats(f, l.out);
        double *want_dx = fixture_scratch(f, l.rows * l.in);
        double *want_dw = fixture_scratch(f, l.in * l.out);
        double *want_db = fixture_scratch(f, l.out);
        REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                           f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_NONE, NULL,
                                           f32(y)));
        REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, size->rows, size->in,
                                                  size->out, f32(l.dy), f32(l.w), NULL, f32(dx)));
        REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, size->rows, size->in,
                                                   size->out, f32(l.x), f32(l.dy), f32(dw),
                                                   f32(db)));
        reference_linear_backward(l.rows, l.in, l.out, fixture_widen(f, l.dy),
                                  fixture_widen(f, l.x), fixture_widen(f, l.w), want_dx, want_dw,
                                  want_db);
        expect_close(f, "y", y, reference_forward(f, &l), 1e-6, square * sum_error(f, l.in));
        expect_close(f, "dx", dx, want_dx, 1e-6, square * sum_error(f, l.out));
        expect_close(f, "dw", dw, want_dw, 1e-6, square * sum_error(f, l.rows));
        expect_close(f, "db", db, want_db, 1e-6, 1e14 * sum_error(f, l.rows));
        fixture_release(f);
    }
}

/* The sum of dy * (gelu of) (x w + b): its derivatives are what the backward kernels compute. */
typedef struct objective {
    size_t rows, in, out;
    double *x, *w, *b, *dy, *y;
    bool gelu_first; /* of x: linear_backward_input's `pre` */
    double *activated;
} objective_t;

static double objective(void *argument)
{
    objective_t *o = argument;
    for (size_t i = 0; i < o->rows * o->in; i++) {
        o->activated[i] = o->gelu_first ? reference_gelu(o->x[i]) : o->x[i];
    }
    reference_linear(o->rows, o->in, o->out, o->activated, o->w, o->b, o->y);
    double sum = 0.0;
    for (size_t i = 0; i < o->rows * o->out; i++) {
        sum += o->dy[i] * o->y[i];
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
    f->misalign_bytes = 0;
    const size_triple_t size = {3, 5, 4};
    const layer_t l = make_layer(f, &size, 1.0);
    objective_t o = {.rows = l.rows,
                     .in = l.in,
                     .out = l.out,
                     .x = fixture_widen(f, l.x),
                     .w = fixture_widen(f, l.w),
                     .b = fixture_widen(f, l.b),
                     .dy = fixture_widen(f, l.dy),
                     .y = fixture_scratch(f, l.rows * l.out),
                     .activated = fixture_scratch(f, l.rows * l.in)};
    array_t *dx = fixture_elements(f, l.rows * l.in);
    array_t *dpre = fixture_elements(f, l.rows * l.in);
    array_t *dw = fixture_floats(f, l.in * l.out);
    array_t *db = fixture_floats(f, l.out);
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, 3, 5, 4, f32(l.dy), f32(l.w),
                                              NULL, f32(dx)));
    /* x as the pre-activation of a GELU before this layer. */
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, 3, 5, 4, f32(l.dy), f32(l.w),
                                              f32(l.x), f32(dpre)));
    REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, 3, 5, 4, f32(l.x), f32(l.dy),
                                               f32(dw), f32(db)));
    const double error = 1e-6 + fixture_terms_error(f, 5);
    expect_close(f, "dx", dx, differences(f, &o, o.x, l.rows * l.in), 1e-5, error);
    expect_close(f, "dw", dw, differences(f, &o, o.w, l.in * l.out), 1e-5, error);
    expect_close(f, "db", db, differences(f, &o, o.b, l.out), 1e-5, error);
    o.gelu_first = true;
    expect_close(f, "dpre", dpre, differences(f, &o, o.x, l.rows * l.in),
                 1e-5 + fixture_rounding(f), 1.2 * error);
    fixture_release(f);
}

static const float extremes[] = {0.0F,   -0.0F,   1e-30F, -1e-30F, 1.0F,  -1.0F,  4.9F,  -4.9F,
                                 7.999F, -7.999F, 8.001F, -8.001F, 10.0F, -10.0F, 60.0F, -60.0F,
                                 1e4F,   -1e4F,   1e12F,  -1e12F,  1e19F, -1e19F, 1e30F, -1e30F};

enum { EXTREMES = sizeof extremes / sizeof extremes[0] };

/* A [count][extremes] matrix whose rows hold chosen values. */
static array_t *extreme_rows(fixture_t *f, size_t rows)
{
    array_t *array = fixture_elements(f, rows * EXTREMES);
    for (size_t i = 0; i < rows * EXTREMES; i++) {
        host_set(array, i, fixture_exact(f, extremes[i % EXTREMES]));
    }
    fixture_upload(f, array);
    return array;
}

/* [rows][columns] with 1 in the first column, and 0. */
static array_t *first_column(fixture_t *f, size_t rows, size_t columns)
{
    array_t *array = fixture_elements(f, rows * columns);
    for (size_t r = 0; r < rows; r++) {
        host_set(array, r * columns, 1.0F);
    }
    fixture_upload(f, array);
    return array;
}

/* Products with 1, and with 0, hand chosen values to the GELU; `n` for every other size. */
static void check_extremes(fixture_t *f, int n)
{
    const size_t size = (size_t)n;
    array_t *x = first_column(f, size, size);
    array_t *values = extreme_rows(f, size);
    array_t *zero = fixture_elements(f, EXTREMES);
    array_t *pre = fixture_elements(f, size * EXTREMES);
    array_t *h = fixture_elements(f, size * EXTREMES);
    array_t *w = first_column(f, EXTREMES, size);
    array_t *slope = fixture_elements(f, size * EXTREMES);
    double *want = fixture_scratch(f, size * EXTREMES);
    double *want_slope = fixture_scratch(f, size * EXTREMES);
    for (size_t i = 0; i < size * EXTREMES; i++) {
        const double a = (double)host_get(values, i);
        want[i] = a < -50.0 ? 0.0 : a > 50.0 ? a : reference_gelu(a);
        want_slope[i] = a < -50.0 ? 0.0 : a > 50.0 ? 1.0 : reference_gelu_slope(a);
    }
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, n, n, EXTREMES, f32(x), f32(values),
                                       f32(zero), DPR_EPILOGUE_GELU, f32(pre), f32(h)));
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, n, EXTREMES, n, f32(x), f32(w),
                                              f32(values), f32(slope)));
    expect_close(f, "gelu", h, want, 1e-6, 1e-6);
    expect_close(f, "gelu'", slope, want_slope, 1e-6, 1e-6);
    fixture_release(f);
}

static void gelu_holds_for_extreme_values(void **state)
{
    fixture_t *f = *state;
    f->misalign_bytes = 0;
    check_extremes(f, 1);
    check_extremes(f, 8);
}

static void expect_nan_rows(fixture_t *f, const char *what, array_t *array, size_t columns,
                            size_t row)
{
    fixture_download(f, array);
    for (size_t i = 0; i < array_count(array); i++) {
        const bool expected = i / columns == row;
        if ((isnan(host_get(array, i)) != 0) != expected) {
            fail_msg("%s[%zu] is %g although row %zu of the input is NaN", what, i,
                     (double)host_get(array, i), row);
        }
    }
}

static void check_nan(fixture_t *f, const size_triple_t *size)
{
    const layer_t l = make_layer(f, size, 1.0);
    array_t *pre = fixture_elements(f, l.rows * l.out);
    array_t *h = fixture_elements(f, l.rows * l.out);
    array_t *dx = fixture_elements(f, l.rows * l.in);
    array_t *dw = fixture_floats(f, l.in * l.out);
    array_t *db = fixture_floats(f, l.out);
    array_t *pre_in = fixture_random_elements(f, l.rows * l.in, 5, 1.0);
    host_set(l.x, 2 * l.in + 3, NAN);
    for (size_t i = 0; i < l.in; i++) {
        host_set(pre_in, 3 * l.in + i, NAN);
    }
    fixture_upload(f, l.x);
    fixture_upload(f, pre_in);
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                       f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_GELU, f32(pre),
                                       f32(h)));
    REQUIRE(f->kernels->linear_backward_input(f->kernels, f->stream, size->rows, size->in,
                                              size->out, f32(l.dy), f32(l.w), f32(pre_in),
                                              f32(dx)));
    REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, size->rows, size->in,
                                               size->out, f32(l.x), f32(l.dy), f32(dw), f32(db)));
    expect_nan_rows(f, "pre", pre, l.out, 2);
    expect_nan_rows(f, "gelu(pre)", h, l.out, 2);
    expect_nan_rows(f, "dx", dx, l.in, 3);
    expect_nan_rows(f, "dw", dw, l.out, 3);
    expect_nan_rows(f, "db", db, l.out, SIZE_MAX);
    fixture_release(f);
}

static void nan_reaches_all_it_touches_and_no_more(void **state)
{
    fixture_t *f = *state;
    f->misalign_bytes = 0;
    check_nan(f, &(size_triple_t){5, 19, 35});
    check_nan(f, &(size_triple_t){8, 16, 24});
}

static array_t *activate(fixture_t *f, const size_triple_t *size)
{
    const layer_t l = make_layer(f, size, 1.0);
    array_t *pre = fixture_elements(f, l.rows * l.out);
    array_t *h = fixture_elements(f, l.rows * l.out);
    REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, size->rows, size->in, size->out,
                                       f32(l.x), f32(l.w), f32(l.b), DPR_EPILOGUE_GELU, f32(pre),
                                       f32(h)));
    fixture_download(f, h);
    return h;
}

/* cuBLASLt chooses its algorithm by the alignment, the host does not. */
static void same_input_gives_the_same_bits(void **state)
{
    fixture_t *f = *state;
    const size_triple_t size = {31, 130, 257};
    const bool at_any_alignment = strcmp(f->kernels->kind, "host") == 0;
    array_t *first = NULL;
    f->misalign_bytes = 0;
    for (size_t offset = 0; offset <= 8; offset += 4) {
        f->misalign_bytes = offset;
        array_t *h = activate(f, &size);
        array_t *again = activate(f, &size);
        first = first == NULL ? h : first;
        assert_memory_equal(h->host, again->host, h->bytes);
        if (at_any_alignment) {
            assert_memory_equal(h->host, first->host, h->bytes);
        }
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
        cmocka_unit_test(forward_agrees_with_the_reference),
        cmocka_unit_test(backward_agrees_with_the_reference),
        cmocka_unit_test(large_numbers_keep_their_relative_error),
        cmocka_unit_test(gradients_are_the_slopes_of_the_forward),
        cmocka_unit_test(gelu_holds_for_extreme_values),
        cmocka_unit_test(nan_reaches_all_it_touches_and_no_more),
        cmocka_unit_test(same_input_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
