/*
 * Products of row-major matrices by cuBLASLt, with what its epilogues can fuse with them.
 *
 * A product's plan (descriptors, layouts and the algorithm that the library's heuristic proposes)
 * is made when its shape, epilogue and alignment are first met on a lane, and then kept. That there
 * is no algorithm is kept, too: the caller then takes a plain product and kernels of its own.
 */
#ifndef DPR_KERNELS_CUDA_CUDA_PRODUCT_H
#define DPR_KERNELS_CUDA_CUDA_PRODUCT_H

#include <cublasLt.h>
#include <stdbool.h>

#include "kernels/cuda/cuda_kernels.h"

typedef enum dpr_cuda_fusion {
    DPR_CUDA_PLAIN,
    DPR_CUDA_BIAS,          /* plus the bias, in every row */
    DPR_CUDA_GELU_AUX_BIAS, /* aux = the product plus the bias, d = gelu(aux) */
    DPR_CUDA_DGELU,         /* times gelu'(aux) */
    DPR_CUDA_BIAS_GRADIENT, /* bias = the column sums of b */
} dpr_cuda_fusion_t;

/*
 * d[m][n] = a b, plus c where there is one (which may be d). a is [m][k], or [k][m] where
 * transpose_a; b is [k][n], or [n][k] where transpose_b. a, b, bias and aux are of the dtype of
 * the site; d and c, too, or float where float_output, and then so is a bias gradient. bias is
 * [n], aux [m][n].
 */
typedef struct dpr_cuda_product {
    int m;
    int n;
    int k;
    bool transpose_a;
    bool transpose_b;
    bool float_output;
    dpr_cuda_fusion_t fusion;
    const void *a;
    const void *b;
    const void *c; /* NULL: none */
    void *d;
    void *bias;
    void *aux;
} dpr_cuda_product_t;

/* Products of one device; shared by its lanes, and by threads, as cuBLASLt's handle may be. */
typedef struct dpr_cuda_products {
    cublasLtHandle_t handle;
    dpr_dtype_t dtype;
    size_t workspace_bytes;  /* of every lane */
    int32_t multiprocessors; /* to target; 0: all that the device has */
} dpr_cuda_products_t;

/* For the current device. Errors: DPR_ERR_DEVICE. */
dpr_status_t dpr_cuda_products_open(dpr_cuda_products_t *products, dpr_dtype_t dtype,
                                    size_t workspace_bytes);
void dpr_cuda_products_close(dpr_cuda_products_t *products);

/* Those of a table of kernels. */
const dpr_cuda_products_t *dpr_cuda_products(const dpr_kernels_t *kernels);

/* An empty set of plans; release it with free(). Errors: DPR_ERR_MEMORY. */
dpr_status_t dpr_cuda_plans_create(struct dpr_cuda_plans **plans);

/*
 * Enqueues the product where the library has an algorithm for it; *done says whether. Errors:
 * DPR_ERR_DEVICE, also where there is none for a plain product.
 */
dpr_status_t dpr_cuda_product_run(const dpr_cuda_products_t *products, const dpr_cuda_site_t *site,
                                  const dpr_cuda_product_t *product, bool *done);

#endif
