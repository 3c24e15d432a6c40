/* Number formats of a model's activations and products. */
#ifndef DPR_BASE_DTYPE_H
#define DPR_BASE_DTYPE_H

#include <stdint.h>

#include "base/status.h"

typedef enum dpr_dtype {
    DPR_DTYPE_FP32,
    DPR_DTYPE_TF32, /* stored as fp32; products round their inputs to 10 bits of mantissa */
    DPR_DTYPE_BF16, /* stored as bfloat16; parameters have fp32 masters */
} dpr_dtype_t;

const char *dpr_dtype_name(dpr_dtype_t dtype); /* "fp32", "tf32" or "bf16" */

/* Errors: DPR_ERR_INVALID, logged with the choices. */
dpr_status_t dpr_dtype_parse(const char *text, dpr_dtype_t *dtype);

/* Bytes of one activation number: 4 or 2. */
uint32_t dpr_dtype_bytes(dpr_dtype_t dtype);

#endif
