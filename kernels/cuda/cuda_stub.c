/* Stands in for the CUDA kernels in a build without CUDA. */
#include "base/log.h"
#include "kernels/kernels.h"

dpr_status_t dpr_cuda_kernels_create(dpr_device_t *device, dpr_dtype_t dtype,
                                     dpr_kernels_t **kernels)
{
    (void)device;
    (void)dtype;
    (void)kernels;
    return dpr_fail(DPR_ERR_UNSUPPORTED, "no CUDA kernels: this build has no CUDA; use the host "
                                         "device, or build where the CUDA Toolkit is installed");
}
