/* The bare product on the host: OpenBLAS on a stream. */
#include "kernels/plain_product.h"

#include "kernels/host/host_blas.h"
#include "kernels/host/host_kernels.h"

typedef struct product_args {
    dpr_host_product_t product;
    const float *a;
    const float *b;
    float *c;
} product_args_t;

static void multiply(const void *arguments)
{
    const product_args_t *args = arguments;
    dpr_host_blas_multiply(&args->product, args->a, args->b, args->c);
}

dpr_status_t dpr_host_plain_product(dpr_stream_t *stream, const dpr_plain_product_t *product,
                                    const float *a, const float *b, float *c)
{
    const product_args_t args = {.product = {.m = product->m,
                                             .n = product->n,
                                             .k = product->k,
                                             .transpose_a = product->transpose_a,
                                             .transpose_b = product->transpose_b,
                                             .accumulate = product->accumulate},
                                 .a = a,
                                 .b = b,
                                 .c = c};
    DPR_HOST_LAUNCH(stream, multiply, args);
}
