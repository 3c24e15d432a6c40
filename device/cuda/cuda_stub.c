/* Stands in for the CUDA device in a build without CUDA. */
#include <stdio.h>

#include "base/log.h"
#include "device/device.h"

dpr_status_t dpr_cuda_device_create(int ordinal, dpr_clock_t clock, dpr_device_t **device)
{
    (void)ordinal;
    (void)clock;
    (void)device;
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "this build has no CUDA device; use the host device, or build where the CUDA "
                    "Toolkit is installed");
}

int dpr_cuda_device_count(char *reason, size_t size)
{
    snprintf(reason, size, "this build has no CUDA");
    return 0;
}

void dpr_cuda_environment(void)
{
}

void dpr_cuda_device_pci(int ordinal, char *pci, size_t size)
{
    (void)ordinal;
    (void)size;
    pci[0] = '\0';
}
