/* Checked allocation of host memory. */
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

dpr_status_t dpr_calloc(size_t count, size_t size, void *out)
{
    void *memory = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (memory == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot allocate %zu elements of %zu bytes of host memory",
                        count, size);
    }
    memcpy(out, &memory, sizeof memory);
    return DPR_OK;
}

dpr_status_t dpr_reserve(void *array, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity) {
        return DPR_OK;
    }
    size_t grown = *capacity < 16 ? 16 : *capacity;
    while (grown < needed) {
        if (grown > SIZE_MAX / 2 / size) {
            return dpr_fail(DPR_ERR_MEMORY, "array of %zu elements of %zu bytes is too large",
                            needed, size);
        }
        grown *= 2;
    }
    void *memory;
    memcpy(&memory, array, sizeof memory);
    memory = realloc(memory, grown * size);
    if (memory == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot grow an array to %zu elements of %zu bytes", grown,
                        size);
    }
    memcpy(array, &memory, sizeof memory);
    *capacity = grown;
    return DPR_OK;
}
