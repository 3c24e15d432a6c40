/*
 * The linear layer: a product with what cuBLASLt fuses with it, and, for the shapes and alignments
 * that it has no fused algorithm for, a plain product with kernels of our own around it.
 */
#include <stdint.h>

#include "kernels/cuda/cuda_product.h"

/* y, or pre, begins as the bias and the residual, and the product is added to it. */
static dpr_status_t forward_apart(const dpr_cuda_products_t *products, const dpr_cuda_site_t *site,
                                  dpr_cuda_product_t product, dpr_epilogue_t epilogue,
                                  const void *other, void *y)
{
    bool done;
    const void *residual = epilogue == DPR_EPILOGUE_RESIDUAL ? other : NULL;
    void *sum = epilogue == DPR_EPILOGUE_GELU ? product.aux : y;
    DPR_TRY(dpr_cuda_start_rows(site, product.m, product.n, product.bias, residual, sum));
    product.fusion = DPR_CUDA_PLAIN;
    product.bias = NULL;
    product.aux = NULL;
    product.c = sum;
    product.d = sum;
    DPR_TRY(dpr_cuda_product_run(products, site, &product, &done));
    return epilogue == DPR_EPILOGUE_GELU
               ? dpr_cuda_gelu(site, (size_t)product.m * (size_t)product.n, sum, y)
               : DPR_OK;
}

dpr_status_t dpr_cuda_linear_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows, int in,
                                     int out, const void *x, const void *w, const void *b,
                                     dpr_epilogue_t epilogue, void *other, void *y)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    const bool gelu = epilogue == DPR_EPILOGUE_GELU;
    const dpr_cuda_products_t *products = dpr_cuda_products(kernels);
    const dpr_cuda_product_t product = {.m = rows,
                                        .n = out,
                                        .k = in,
                                        .fusion = gelu ? DPR_CUDA_GELU_AUX_BIAS : DPR_CUDA_BIAS,
                                        .a = x,
                                        .b = w,
                                        .c = epilogue == DPR_EPILOGUE_RESIDUAL ? other : NULL,
                                        .d = y,
                                        .bias = (void *)(uintptr_t)b,
                                        .aux = gelu ? other : NULL};
    bool done;
    DPR_TRY(dpr_cuda_product_run(products, &site, &product, &done));
    return done ? DPR_OK : forward_apart(products, &site, product, epilogue, other, y);
}

dpr_status_t dpr_cuda_linear_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int in, int out, const void *dy, const void *w,
                                            const void *pre, void *dx)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    const dpr_cuda_products_t *products = dpr_cuda_products(kernels);
    dpr_cuda_product_t product = {.m = rows,
                                  .n = in,
                                  .k = out,
                                  .transpose_b = true,
                                  .fusion = pre != NULL ? DPR_CUDA_DGELU : DPR_CUDA_PLAIN,
                                  .a = dy,
                                  .b = w,
                                  .d = dx,
                                  .aux = (void *)(uintptr_t)pre};
    bool done;
    DPR_TRY(dpr_cuda_product_run(products, &site, &product, &done));
    if (done) {
        return DPR_OK;
    }
    product.fusion = DPR_CUDA_PLAIN;
    product.aux = NULL;
    DPR_TRY(dpr_cuda_product_run(products, &site, &product, &done));
    return dpr_cuda_gelu_slope(&site, (size_t)rows * (size_t)in, pre, dx);
}

dpr_status_t dpr_cuda_linear_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                             int in, int out, const void *x, const void *dy,
                                             float *dw, float *db)
{
    dpr_cuda_site_t site;
    DPR_TRY(dpr_cuda_site_of(kernels, stream, &site));
    const dpr_cuda_products_t *products = dpr_cuda_products(kernels);
    dpr_cuda_product_t product = {.m = in,
                                  .n = out,
                                  .k = rows,
                                  .transpose_a = true,
                                  .float_output = true,
                                  .fusion = DPR_CUDA_BIAS_GRADIENT,
                                  .a = x,
                                  .b = dy,
                                  .c = dw,
                                  .d = dw,
                                  .bias = site.lane->scratch};
    bool done = false;
    /* The library stores the bias gradient, and ours accumulates. */
    if ((size_t)out * sizeof(float) <= DPR_CUDA_SCRATCH_BYTES) {
        DPR_TRY(dpr_cuda_product_run(products, &site, &product, &done));
    }
    if (done) {
        return dpr_cuda_add(&site, (size_t)out, site.lane->scratch, db);
    }
    product.fusion = DPR_CUDA_PLAIN;
    product.bias = NULL;
    DPR_TRY(dpr_cuda_product_run(products, &site, &product, &done));
    return dpr_cuda_column_sums(&site, rows, out, dy, db);
}
