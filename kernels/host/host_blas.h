/*
 * OpenBLAS behind two products of row-major matrices, and the check that it is a build which
 * several streams may call at once.
 */
#ifndef DPR_KERNELS_HOST_HOST_BLAS_H
#define DPR_KERNELS_HOST_HOST_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/*
 * Decides whether an OpenBLAS may be used: `parallel` and `build` are its openblas_get_parallel()
 * and openblas_get_config(). Errors: DPR_ERR_UNSUPPORTED, logged, with the package to install.
 */
dpr_status_t dpr_host_blas_accept(int parallel, const char *build);

/* Checks the OpenBLAS of this process and sets it to one thread a call. */
dpr_status_t dpr_host_blas_setup(void);

/* c[m][n] = a b, or, where `accumulate`, c += a b. a is [m][k], or [k][m] where `transpose_a`; b is
 * [k][n], or [n][k] where `transpose_b`. c shares no memory with a and b. */
typedef struct dpr_host_product {
    int m;
    int n;
    int k;
    bool transpose_a;
    bool transpose_b;
    bool accumulate;
} dpr_host_product_t;

void dpr_host_blas_multiply(const dpr_host_product_t *product, const float *a, const float *b,
                            float *c);

#endif
