/* A stage in double, from its parameters to a number whose derivatives are its gradients. */
#ifndef DPR_TESTS_KERNELS_REFERENCE_STAGE_H
#define DPR_TESTS_KERNELS_REFERENCE_STAGE_H

#include "kernels/stage_layout.h"

typedef struct reference_stage {
    dpr_model_config_t config;
    dpr_stage_layout_t layout;
    double *parameters;     /* as the stage's */
    double *input;          /* samples of a first stage, else the activation [rows][hidden] */
    const int32_t *labels;  /* last stage */
    double loss_scale;      /* last stage */
    const double *gradient; /* otherwise: the gradient of the output */
    double *output;         /* [rows][hidden]: what goes to the next stage or the classifier */
    double *scratch;        /* reference_stage_scratch() doubles */
} reference_stage_t;

size_t reference_stage_scratch(const dpr_model_config_t *config);

/* Last stage: the scaled loss. Otherwise the sum of gradient * output. `stage`: reference_stage_t
 * *. */
double reference_stage_objective(void *stage);

#endif
