/*
 * One matrix product with nothing around it: what benchmarks hold the kernels against. It goes
 * straight to the library that the kernels use, on a stream like them, so that both run on the same
 * cores under the same clock.
 */
#ifndef DPR_KERNELS_PLAIN_PRODUCT_H
#define DPR_KERNELS_PLAIN_PRODUCT_H

#include "device/device.h"

/* c [m][n] = a b, or c += a b where `accumulate`; row-major and dense. a is [m][k], or [k][m] where
 * `transpose_a`; b is [k][n], or [n][k] where `transpose_b`. 2 m n k floating-point operations. */
typedef struct dpr_plain_product {
    int m;
    int n;
    int k;
    bool transpose_a;
    bool transpose_b;
    bool accumulate;
} dpr_plain_product_t;

/*
 * Enqueues the product in fp32 by one call of OpenBLAS, on a stream of a host device; the table of
 * dpr_host_kernels_create must exist, which sets OpenBLAS up. Pointers are device memory and must
 * stay valid until the stream has passed; c overlaps neither a nor b. Errors: what enqueuing
 * reports.
 */
dpr_status_t dpr_host_plain_product(dpr_stream_t *stream, const dpr_plain_product_t *product,
                                    const float *a, const float *b, float *c);

#endif
