/* What a stage is made of: shared by stage.c, which owns the memory, and stage_pass.c, which uses
 * it. */
#ifndef DPR_KERNELS_STAGE_IMPL_H
#define DPR_KERNELS_STAGE_IMPL_H

#include "kernels/stage.h"
#include "kernels/stage_layout.h"

struct dpr_stage {
    dpr_model_config_t config;
    dpr_stage_layout_t layout;
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    float *parameters;
    float *gradients;
    void *working; /* the parameters in bf16, in the same order; else NULL */
};

#endif
