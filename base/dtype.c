/* Number formats by name and size. */
#include "base/dtype.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"

static const char *const names[] = {
    [DPR_DTYPE_FP32] = "fp32", [DPR_DTYPE_TF32] = "tf32", [DPR_DTYPE_BF16] = "bf16"};

const char *dpr_dtype_name(dpr_dtype_t dtype)
{
    return names[dtype];
}

dpr_status_t dpr_dtype_parse(const char *text, dpr_dtype_t *dtype)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], text) == 0) {
            *dtype = (dpr_dtype_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "number format '%s': expected fp32, tf32 or bf16", text);
}

uint32_t dpr_dtype_bytes(dpr_dtype_t dtype)
{
    return dtype == DPR_DTYPE_BF16 ? 2 : 4;
}
