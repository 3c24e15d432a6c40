/*
 * What only the host backend has: the choice of OpenBLAS's build, and the accuracy of its
 * elementary functions, measured over their range.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernels/host/host_blas.h"
#include "kernels/host/host_math.h"
#include "kernels/kernels.h"
#include "reference.h"

/* openblas_get_parallel()'s answers. */
enum { SERIAL = 0, PTHREAD = 1, OPENMP = 2 };

static void expect_refusal(int parallel, const char *build_kind)
{
    char message[1024];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, message, sizeof message);
    const dpr_status_t status = dpr_host_blas_accept(parallel, "OpenBLAS 9.9 TEST");
    dpr_log_capture_end(&capture);
    assert_int_equal(status, DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(message, build_kind));
    assert_non_null(strstr(message, "OpenBLAS 9.9 TEST"));
    assert_non_null(strstr(message, "libopenblas-pthread-dev"));
}

static void only_the_pthread_build_of_openblas_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(dpr_host_blas_accept(PTHREAD, "OpenBLAS 9.9 TEST"), DPR_OK);
    expect_refusal(SERIAL, "serial build");
    expect_refusal(OPENMP, "OpenMP build");
    expect_refusal(7, "unknown kind of parallel build");
}

/* The distance between floats at `value`. */
static double ulp(double value)
{
    const float magnitude = fabsf((float)value);
    return (double)nextafterf(magnitude, INFINITY) - (double)magnitude;
}

static double worst_exp(void)
{
    double worst = 0.0;
    for (float x = -87.0F; x <= 88.0F; x += 1e-4F) {
        const double want = exp((double)x);
        worst = fmax(worst, fabs((double)dpr_expf(x) - want) / ulp(want));
    }
    return worst;
}

/* The tanh that the GELU is made of, 2 gate - 1, against double tanh: largest absolute error in ulp
 * of 1, the size that enters 1 + tanh. */
static double worst_tanh(void)
{
    double worst = 0.0;
    for (float a = -9.0F; a <= 9.0F; a += 1e-5F) {
        const double u =
            0.79788456080286535588 * (double)a * (1.0 + 0.044715 * (double)a * (double)a);
        const double got = 2.0 * (double)dpr_gelu_terms(a).gate - 1.0;
        worst = fmax(worst, fabs(got - tanh(u)) / 0x1p-23);
    }
    return worst;
}

static void exp_and_tanh_are_accurate_to_the_documented_ulps(void **state)
{
    (void)state;
    const double exp_error = worst_exp();
    const double tanh_error = worst_tanh();
    printf("exp: %.2f ulp, tanh: %.2f ulp\n", exp_error, tanh_error);
    assert_true(exp_error < 1.0);
    assert_true(tanh_error < 2.0);
}

static void gelu_and_its_slope_are_accurate_everywhere(void **state)
{
    (void)state;
    double worst = 0.0;
    double worst_slope = 0.0;
    for (float a = -12.0F; a <= 12.0F; a += 1e-5F) {
        const double size = fmax(1.0, fabs((double)a));
        worst = fmax(worst, fabs((double)dpr_gelu(a) - reference_gelu((double)a)) / size);
        worst_slope =
            fmax(worst_slope, fabs((double)dpr_gelu_slope(a) - reference_gelu_slope((double)a)));
    }
    printf("gelu: %.2f ulp, gelu': %.2f ulp\n", worst / 0x1p-23, worst_slope / 0x1p-23);
    assert_true(worst < 1.5 * 0x1p-23);
    assert_true(worst_slope < 2.0 * 0x1p-23);
}

static void nan_stays_nan(void **state)
{
    (void)state;
    assert_true(isnan(dpr_expf(NAN)));
    assert_true(isnan(dpr_gelu(NAN)));
    assert_true(isnan(dpr_gelu_slope(NAN)));
    assert_true(isnan(dpr_expf(-NAN)));
    assert_true(isnan(dpr_gelu(-NAN)));
    /* One with low bits set, which the scaling by 2^k must not take for an exponent. */
    const uint32_t bits = UINT32_C(0x7fc001ff);
    float marked;
    memcpy(&marked, &bits, sizeof marked);
    assert_true(isnan(dpr_expf(marked)));
    assert_true(isnan(dpr_gelu(marked)));
    assert_true(isnan(dpr_gelu_slope(marked)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_pthread_build_of_openblas_is_accepted),
        cmocka_unit_test(exp_and_tanh_are_accurate_to_the_documented_ulps),
        cmocka_unit_test(gelu_and_its_slope_are_accurate_everywhere),
        cmocka_unit_test(nan_stays_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
