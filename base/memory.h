/*
 * Checked allocation of host memory for plain data (never in the step loop).
 */
#ifndef DPR_BASE_MEMORY_H
#define DPR_BASE_MEMORY_H

#include <stddef.h>

#include "base/status.h"

/*
 * Allocates `count` zeroed elements of `size` bytes. On success sets *out (release with free()).
 * count * size may be 0: *out is then a unique pointer. Errors: DPR_ERR_MEMORY, logged, also on
 * overflow of the product.
 */
dpr_status_t dpr_calloc(size_t count, size_t size, void *out);

/*
 * Makes room for at least `needed` elements of `size` bytes in a growable array: *array (may be
 * NULL) and *capacity are updated together, new elements are not initialised. `array` is the
 * address of the array pointer. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_reserve(void *array, size_t *capacity, size_t needed, size_t size);

#endif
