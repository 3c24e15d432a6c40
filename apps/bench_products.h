/*
 * The bound of a step: the same matrix products in the same order on the same parameters, by the
 * library alone.
 */
#ifndef DPR_APPS_BENCH_PRODUCTS_H
#define DPR_APPS_BENCH_PRODUCTS_H

#include "apps/bench_rig.h"
#include "kernels/plain_product.h"

/*
 * Enqueues one product and nothing else. On the host: one call of OpenBLAS. Elsewhere the seam's
 * product without an epilogue (linear_backward_input), of the same size whatever is transposed, and
 * never accumulating.
 */
dpr_status_t bench_plain_product(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                 const dpr_plain_product_t *product, const void *a, const void *b,
                                 void *c);

static inline double bench_product_flops(const dpr_plain_product_t *product)
{
    return 2.0 * product->m * (double)product->n * product->k;
}

/* A rank's share of a step's products, with its own stream and scratch. */
typedef struct bench_products bench_products_t;

dpr_status_t bench_products_open(bench_rig_t *rig, bench_products_t **products);
void bench_products_close(bench_products_t *products); /* NULL is allowed */

/*
 * Plays this rank's products of one step, with the pipeline idle; *sec is what they took by the
 * device's clock and *flops how many operations they were. Destroys the stages' gradients, which
 * the next step clears.
 */
dpr_status_t bench_products_play(bench_products_t *products, double *sec, double *flops);

#endif
