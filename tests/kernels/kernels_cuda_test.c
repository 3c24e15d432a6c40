/*
 * What is special to the cuda kernels, on the stand-in for CUDA: which products come with
 * epilogues, plans that are made once, streams side by side, and shapes at the limits of the
 * kernels' variants.
 */
#include "fixture.h"
#include "reference.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "lt_standin.h"
#include "standin.h"

enum { ROWS = 8, IN = 16, OUT = 24, FLOATS = 4096 };

static void forward(fixture_t *f, dpr_stream_t *stream, int rows, int in, int out)
{
    array_t *x = fixture_elements(f, (size_t)rows * (size_t)in);
    array_t *w = fixture_elements(f, (size_t)in * (size_t)out);
    array_t *b = fixture_elements(f, (size_t)out);
    array_t *y = fixture_elements(f, (size_t)rows * (size_t)out);
    REQUIRE(f->kernels->linear_forward(f->kernels, stream, rows, in, out, x->device, w->device,
                                       b->device, DPR_EPILOGUE_NONE, NULL, y->device));
    REQUIRE(dpr_stream_synchronize(stream));
    fixture_release(f);
}

/* One of every product that a layer has. */
static void all_products(fixture_t *f, size_t rows, size_t in, size_t out)
{
    dpr_kernels_t *k = f->kernels;
    const int r = (int)rows;
    const int i = (int)in;
    const int o = (int)out;
    array_t *x = fixture_elements(f, rows * in);
    array_t *w = fixture_elements(f, in * out);
    array_t *b = fixture_elements(f, out);
    array_t *y = fixture_elements(f, rows * out);
    array_t *other = fixture_elements(f, rows * out);
    array_t *dx = fixture_elements(f, rows * in);
    array_t *dw = fixture_floats(f, in * out);
    array_t *db = fixture_floats(f, out);
    for (int e = DPR_EPILOGUE_NONE; e <= DPR_EPILOGUE_RESIDUAL; e++) {
        REQUIRE(k->linear_forward(k, f->stream, r, i, o, x->device, w->device, b->device,
                                  (dpr_epilogue_t)e, e == DPR_EPILOGUE_NONE ? NULL : other->device,
                                  y->device));
    }
    REQUIRE(
        k->linear_backward_input(k, f->stream, r, i, o, y->device, w->device, NULL, dx->device));
    REQUIRE(k->linear_backward_input(k, f->stream, r, i, o, y->device, w->device, x->device,
                                     dx->device));
    REQUIRE(
        k->linear_backward_weight(k, f->stream, r, i, o, x->device, y->device, f32(dw), f32(db)));
    fixture_release(f);
}

static void expect_products(unsigned long fused, unsigned long plain)
{
    unsigned long with_epilogue;
    unsigned long without;
    standin_lt_count(&with_epilogue, &without);
    assert_int_equal(with_epilogue, fused);
    assert_int_equal(without, plain);
}

static void aligned_products_come_with_epilogues_and_others_without(void **state)
{
    fixture_t *f = *state;
    standin_lt_allow(true, true);
    all_products(f, ROWS, IN, OUT);
    expect_products(5, 1); /* the gradient without a GELU has nothing to fuse */
    standin_lt_allow(true, true);
    all_products(f, 5, 7, 9);
    expect_products(0, 6);
    standin_lt_allow(true, true);
    f->misalign_bytes = 4;
    all_products(f, ROWS, IN, OUT);
    expect_products(0, 6);
    f->misalign_bytes = 0;
}

/* One buffer alone that is not aligned, after a plan was made for those that are. */
static void the_alignment_of_every_buffer_counts(void **state)
{
    fixture_t *f = *state;
    enum { BUFFERS = 5 };
    static const size_t counts[BUFFERS] = {ROWS * IN, IN * OUT, OUT, ROWS * OUT, ROWS * OUT};
    float *aligned[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        aligned[i] = f32(fixture_floats(f, counts[i] + 1));
    }
    for (int shifted = -1; shifted < BUFFERS; shifted++) {
        for (int e = DPR_EPILOGUE_GELU; e <= DPR_EPILOGUE_RESIDUAL; e++) {
            float *b[BUFFERS];
            for (int i = 0; i < BUFFERS; i++) {
                b[i] = aligned[i] + (i == shifted ? 1 : 0);
            }
            standin_lt_allow(true, true);
            REQUIRE(f->kernels->linear_forward(f->kernels, f->stream, ROWS, IN, OUT, b[0], b[1],
                                               b[2], (dpr_epilogue_t)e, b[3], b[4]));
            const unsigned long fused = shifted < 0;
            expect_products(fused, 1 - fused);
        }
    }
    fixture_release(f);
}

static void a_plan_is_made_once(void **state)
{
    fixture_t *f = *state;
    standin_lt_allow(true, true);
    all_products(f, ROWS, IN, OUT);
    standin_inject(NULL); /* counts anew */
    all_products(f, ROWS, IN, OUT);
    assert_int_equal(standin_calls("cublasLtMatmul"), 6);
    assert_int_equal(standin_calls("cublasLtMatmulAlgoGetHeuristic"), 0);
    assert_int_equal(standin_calls("cublasLtMatmulDescInit"), 0);
}

static void more_shapes_than_plans_replace_each_other(void **state)
{
    fixture_t *f = *state;
    for (int round = 0; round < 2; round++) {
        for (int out = 1; out <= 200; out++) {
            forward(f, f->stream, 2, 3, out);
        }
    }
}

static void expect_message(const char *message, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strstr(message, *words) == NULL) {
            fail_msg("the message does not say '%s': %s", *words, message);
        }
    }
}

static void without_any_algorithm_the_shape_is_named(void **state)
{
    fixture_t *f = *state;
    char message[1024];
    dpr_log_capture_t capture;
    array_t *x = fixture_floats(f, FLOATS);
    standin_lt_allow(false, false);
    dpr_log_capture_begin(&capture, message, sizeof message);
    const dpr_status_t status = f->kernels->linear_backward_input(
        f->kernels, f->stream, 3, 11, 13, f32(x), f32(x) + 100, NULL, f32(x) + 500);
    dpr_log_capture_end(&capture);
    assert_int_equal(status, DPR_ERR_DEVICE);
    expect_message(message,
                   (const char *const[]){"cublasLtMatmulAlgoGetHeuristic", "[3][11]", "[3][13]",
                                         "[13][11]", "CUBLAS_STATUS_NOT_SUPPORTED", NULL});
    standin_lt_allow(true, true);
    fixture_release(f);
}

static void a_stream_must_be_prepared(void **state)
{
    fixture_t *f = *state;
    char message[1024];
    dpr_log_capture_t capture;
    dpr_stream_t *stream;
    array_t *x = fixture_floats(f, 8);
    REQUIRE(dpr_stream_create(f->device, "other", 0, &stream));
    dpr_log_capture_begin(&capture, message, sizeof message);
    assert_int_equal(f->kernels->convert(f->kernels, stream, 4, f32(x), f32(x) + 4),
                     DPR_ERR_INVALID);
    dpr_log_capture_end(&capture);
    expect_message(message, (const char *const[]){"not prepared", NULL});
    size_t before;
    size_t after;
    size_t peak;
    dpr_device_memory_usage(f->device, &before, &peak);
    REQUIRE(f->kernels->prepare(f->kernels, stream));
    dpr_device_memory_usage(f->device, &after, &peak);
    assert_int_equal(after - before, f->kernels->workspace_bytes);
    REQUIRE(f->kernels->prepare(f->kernels, stream)); /* again: nothing */
    dpr_device_memory_usage(f->device, &after, &peak);
    assert_int_equal(after - before, f->kernels->workspace_bytes);
    REQUIRE(f->kernels->convert(f->kernels, stream, 4, f32(x), f32(x) + 4));
    dpr_stream_destroy(stream);
    fixture_release(f);
}

static void the_workspace_suits_the_gpu(void **state)
{
    (void)state;
    static const struct {
        int major;
        size_t mib;
    } expected[] = {{8, 4 + 1}, {9, 32 + 1}, {10, 32 + 1}, {12, 12 + 1}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        dpr_device_t *device;
        dpr_kernels_t *kernels;
        standin_reset(&(standin_options_t){.compute_major = expected[i].major});
        REQUIRE(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
        REQUIRE(dpr_cuda_kernels_create(device, DPR_DTYPE_FP32, &kernels));
        assert_int_equal(kernels->workspace_bytes, expected[i].mib << 20);
        dpr_kernels_destroy(kernels);
        dpr_device_destroy(device);
        assert_int_equal(standin_leaks(NULL, 0), 0);
    }
    standin_reset(NULL);
}

/* A product is cut for the multiprocessors that are left; each number has plans of its own, so what
 * was planned for another is neither used nor lost. */
static void products_are_told_what_is_left_to_them(void **state)
{
    (void)state;
    static const int taken[] = {0, 20, 20, 0, 1000};
    static const int targets[] = {0, 112, 112, 0, 1}; /* of 132; at least one */
    static const unsigned long planned[] = {1, 1, 0, 0, 1};
    fixture_t *f = *state;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        const unsigned long before = standin_calls("cublasLtMatmulAlgoGetHeuristic");
        REQUIRE(f->kernels->leave(f->kernels, taken[i]));
        forward(f, f->stream, 24, 40, 56); /* a shape of its own */
        assert_int_equal(standin_lt_multiprocessors(), targets[i]);
        assert_int_equal(standin_calls("cublasLtMatmulAlgoGetHeuristic") - before, planned[i]);
    }
    REQUIRE(f->kernels->leave(f->kernels, 0));
}

/* One stream's share of a step, from a thread of its own. */
typedef struct share {
    fixture_t *f;
    dpr_stream_t *stream;
    array_t *x, *w, *b, *pre, *h, *dw, *db;
    dpr_status_t status;
} share_t;

static share_t make_share(fixture_t *f, dpr_stream_t *stream, uint64_t seed)
{
    return (share_t){.f = f,
                     .stream = stream,
                     .x = fixture_random(f, 33 * 40, seed, 1.0),
                     .w = fixture_random(f, 40 * 24, seed + 1, 1.0),
                     .b = fixture_random(f, 24, seed + 2, 1.0),
                     .pre = fixture_floats(f, 33 * 24),
                     .h = fixture_floats(f, 33 * 24),
                     .dw = fixture_floats(f, 40 * 24),
                     .db = fixture_floats(f, 24)};
}

static void *compute_share(void *argument)
{
    share_t *s = argument;
    dpr_kernels_t *k = s->f->kernels;
    s->status = DPR_OK;
    for (int i = 0; i < 20 && s->status == DPR_OK; i++) {
        s->status = k->linear_forward(k, s->stream, 33, 40, 24, f32(s->x), f32(s->w), f32(s->b),
                                      DPR_EPILOGUE_GELU, f32(s->pre), f32(s->h));
        if (s->status == DPR_OK) {
            s->status = k->linear_backward_weight(k, s->stream, 33, 40, 24, f32(s->x), f32(s->h),
                                                  f32(s->dw), f32(s->db));
        }
    }
    return NULL;
}

static void compute_together(fixture_t *f, dpr_stream_t *second, array_t **gradients)
{
    share_t a = make_share(f, f->stream, 10);
    share_t b = make_share(f, second, 20);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compute_share, &b), 0);
    compute_share(&a);
    assert_int_equal(pthread_join(thread, NULL), 0);
    REQUIRE(a.status);
    REQUIRE(b.status);
    REQUIRE(dpr_stream_synchronize(second));
    gradients[0] = a.dw;
    gradients[1] = a.db;
    gradients[2] = b.dw;
    gradients[3] = b.db;
    for (int i = 0; i < 4; i++) {
        fixture_download(f, gradients[i]);
    }
}

static void two_streams_do_not_disturb_each_other(void **state)
{
    fixture_t *f = *state;
    dpr_stream_t *second;
    REQUIRE(dpr_stream_create(f->device, "second", 0, &second));
    REQUIRE(f->kernels->prepare(f->kernels, second));
    array_t *alone[4];
    array_t *together[4];
    share_t a = make_share(f, f->stream, 10);
    share_t b = make_share(f, f->stream, 20);
    compute_share(&a);
    compute_share(&b);
    alone[0] = a.dw;
    alone[1] = a.db;
    alone[2] = b.dw;
    alone[3] = b.db;
    compute_together(f, second, together);
    for (int i = 0; i < 4; i++) {
        fixture_download(f, alone[i]);
        assert_memory_equal(alone[i]->host, together[i]->host, alone[i]->bytes);
    }
    fixture_release(f);
    dpr_stream_destroy(second);
}

/* Rows that do not fit the registers, that just do, and that take a whole block. */
static void long_rows_are_normalised(void **state)
{
    fixture_t *f = *state;
    static const size_t lengths[] = {2048, 8192, 8196, 8199};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const size_t n = lengths[i];
        array_t *x = fixture_random(f, n, 1, 2.0);
        array_t *gamma = fixture_random(f, n, 2, 1.0);
        array_t *beta = fixture_random(f, n, 3, 1.0);
        array_t *dy = fixture_random(f, n, 4, 1.0);
        array_t *residual = fixture_floats(f, n);
        array_t *y = fixture_floats(f, n);
        array_t *dx = fixture_floats(f, n);
        array_t *mean = fixture_floats(f, 1);
        array_t *rstd = fixture_floats(f, 1);
        double *want = fixture_scratch(f, n);
        double *want_dx = fixture_scratch(f, n);
        double *unused = fixture_scratch(f, 2 * n);
        double want_mean;
        double want_rstd;
        REQUIRE(f->kernels->layernorm_forward(f->kernels, f->stream, 1, (int)n, f32(x), f32(gamma),
                                              f32(beta), f32(y), f32(mean), f32(rstd)));
        REQUIRE(f->kernels->layernorm_backward_input(f->kernels, f->stream, 1, (int)n, f32(dy),
                                                     f32(x), f32(gamma), f32(mean), f32(rstd),
                                                     f32(residual), f32(dx)));
        reference_layernorm(1, n, fixture_widen(f, x), fixture_widen(f, gamma),
                            fixture_widen(f, beta), want, &want_mean, &want_rstd);
        reference_layernorm_backward(1, n, fixture_widen(f, dy), fixture_widen(f, x),
                                     fixture_widen(f, gamma), want_dx, unused, unused + n);
        expect_close(f, "y", y, want, 1e-6, 2e-6);
        expect_close(f, "dx", dx, want_dx, 1e-5, 1e-6);
        fixture_release(f);
    }
}

/* More rows than one chunk, and more columns than the scratch holds for several. */
static void check_columns(fixture_t *f, size_t rows, size_t in, size_t columns)
{
    array_t *dy = fixture_random(f, rows * columns, 1, 1.0);
    array_t *x = fixture_random(f, rows * in, 2, 1.0);
    array_t *dw = fixture_floats(f, in * columns);
    array_t *db = fixture_floats(f, columns);
    array_t *first = fixture_floats(f, columns);
    double *want = fixture_scratch(f, columns);
    for (size_t i = 0; i < rows * columns; i++) {
        want[i % columns] += (double)host_f32(dy)[i];
    }
    REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, (int)rows, (int)in,
                                               (int)columns, f32(x), f32(dy), f32(dw), f32(db)));
    REQUIRE(f->kernels->linear_backward_weight(f->kernels, f->stream, (int)rows, (int)in,
                                               (int)columns, f32(x), f32(dy), f32(dw), f32(first)));
    expect_close(f, "db", db, want, 1e-6, 1e-7 * (double)rows);
    fixture_download(f, first);
    assert_memory_equal(first->host, db->host, db->bytes);
    fixture_release(f);
}

static void columns_of_any_number_are_summed(void **state)
{
    fixture_t *f = *state;
    check_columns(f, 300, 1, 8); /* one element a row of x is not aligned: no epilogue */
    check_columns(f, 257, 1, 37);
    check_columns(f, 300, 8, 8);
    check_columns(f, 2, 4, 270000); /* a bias gradient that the scratch has no room for */
}

static void losses_of_more_rows_than_blocks_are_summed(void **state)
{
    fixture_t *f = *state;
    enum { MANY = 1500, CLASSES = 8 };
    array_t *logits = fixture_random(f, MANY * CLASSES, 1, 3.0);
    array_t *labels = fixture_ints(f, MANY);
    array_t *result = fixture_doubles(f, 2);
    double want[2];
    for (size_t i = 0; i < MANY; i++) {
        ((int32_t *)labels->host)[i] = (int32_t)(i % CLASSES);
    }
    fixture_upload(f, labels);
    reference_softmax_cross_entropy(MANY, CLASSES, fixture_widen(f, logits), labels->host, 1.0,
                                    NULL, want);
    REQUIRE(f->kernels->softmax_cross_entropy(f->kernels, f->stream, MANY, CLASSES, f32(logits),
                                              labels->device, 1.0F, f32(logits), result->device));
    fixture_download(f, result);
    const double *got = result->host;
    assert_true(fabs(got[0] - want[0]) <= 1e-6 * want[0]);
    assert_true(got[1] == want[1]);
    fixture_release(f);
}

static void a_copy_in_float_is_made_where_it_is_asked_for(void **state)
{
    fixture_t *f = *state;
    array_t *p = fixture_random(f, 37, 1, 1.0);
    array_t *g = fixture_random(f, 37, 2, 1.0);
    array_t *v = fixture_floats(f, 37);
    array_t *m = fixture_floats(f, 37);
    array_t *factor = fixture_random(f, 1, 3, 1.0);
    array_t *copy = fixture_floats(f, 37);
    const dpr_adamw_t settings = {.learning_rate = 0.1F, .correction1 = 1.0F, .correction2 = 1.0F};
    REQUIRE(f->kernels->sgd(f->kernels, f->stream, 37, 9, 0.1F, 0.9F, 0.0F, f32(factor), f32(g),
                            f32(v), f32(p), f32(copy)));
    fixture_download(f, p);
    fixture_download(f, copy);
    assert_memory_equal(p->host, copy->host, p->bytes);
    REQUIRE(f->kernels->adamw(f->kernels, f->stream, 37, 9, &settings, f32(factor), f32(g), f32(m),
                              f32(v), f32(p), f32(copy)));
    fixture_download(f, p);
    fixture_download(f, copy);
    assert_memory_equal(p->host, copy->host, p->bytes);
    fixture_release(f);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned_products_come_with_epilogues_and_others_without),
        cmocka_unit_test(the_alignment_of_every_buffer_counts),
        cmocka_unit_test(a_plan_is_made_once),
        cmocka_unit_test(products_are_told_what_is_left_to_them),
        cmocka_unit_test(more_shapes_than_plans_replace_each_other),
        cmocka_unit_test(without_any_algorithm_the_shape_is_named),
        cmocka_unit_test(a_stream_must_be_prepared),
        cmocka_unit_test(two_streams_do_not_disturb_each_other),
        cmocka_unit_test(long_rows_are_normalised),
        cmocka_unit_test(columns_of_any_number_are_summed),
        cmocka_unit_test(losses_of_more_rows_than_blocks_are_summed),
        cmocka_unit_test(a_copy_in_float_is_made_where_it_is_asked_for),
    };
    const struct CMUnitTest devices[] = {
        cmocka_unit_test(the_workspace_suits_the_gpu),
    };
    const int failed = cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
    return failed + cmocka_run_group_tests(devices, NULL, NULL);
}
