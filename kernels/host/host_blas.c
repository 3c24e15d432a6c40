/* OpenBLAS: which builds are refused and why, and the one call that the kernels make. */
#include "kernels/host/host_blas.h"

#include <cblas.h>

#include "base/log.h"

/*
 * Streams are threads, and each calls OpenBLAS for itself.
 *   serial:  its buffers have no locks, so two threads in it at once compute wrong numbers.
 *   OpenMP:  its number of threads belongs to the calling thread, so one thread a call, set here,
 * does not reach the streams' workers, which would each start a team of all cores. pthread: the
 * number is the process's and the buffers have locks.
 */
dpr_status_t dpr_host_blas_accept(int parallel, const char *build)
{
    if (parallel == OPENBLAS_THREAD) {
        return DPR_OK;
    }
    if (parallel == OPENBLAS_SEQUENTIAL) {
        return dpr_fail(
            DPR_ERR_UNSUPPORTED,
            "host kernels: %s is the serial build, which gives wrong results when several "
            "streams call it; install libopenblas-pthread-dev and make it the one in "
            "use (update-alternatives --config libopenblas.so.0-<architecture>)",
            build);
    }
    return dpr_fail(
        DPR_ERR_UNSUPPORTED,
        "host kernels: %s is the %s build, which cannot be held to one thread a call from "
        "several streams; install libopenblas-pthread-dev and make it the one in use "
        "(update-alternatives --config libopenblas.so.0-<architecture>)",
        build, parallel == OPENBLAS_OPENMP ? "OpenMP" : "unknown kind of parallel");
}

dpr_status_t dpr_host_blas_setup(void)
{
    DPR_TRY(dpr_host_blas_accept(openblas_get_parallel(), openblas_get_config()));
    openblas_set_num_threads(1);
    return DPR_OK;
}

void dpr_host_blas_multiply(const dpr_host_product_t *product, const float *a, const float *b,
                            float *c)
{
    cblas_sgemm(CblasRowMajor, product->transpose_a ? CblasTrans : CblasNoTrans,
                product->transpose_b ? CblasTrans : CblasNoTrans, product->m, product->n,
                product->k, 1.0F, a, product->transpose_a ? product->m : product->k, b,
                product->transpose_b ? product->k : product->n, product->accumulate ? 1.0F : 0.0F,
                c, product->n);
}
