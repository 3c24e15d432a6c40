/*
 * IDX files: the arrays in which the MNIST family of data sets comes, plain or gzip-compressed.
 *
 *     byte 0, 1   0
 *     byte 2      type of an element; 0x08, unsigned byte, is the one read here
 *     byte 3      number of dimensions D
 *     4 D bytes   the dimensions, slowest first, each a big-endian 32-bit number
 *     the rest    the elements, nothing after them
 */
#ifndef DPR_RUNTIME_IDX_H
#define DPR_RUNTIME_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { DPR_IDX_MAX_DIMENSIONS = 4 };

/* An array of bytes, slowest dimension first. Owned (dpr_idx_free). */
typedef struct dpr_idx {
    int dimensions;
    size_t extent[DPR_IDX_MAX_DIMENSIONS];
    size_t count; /* elements: the product of the extents */
    uint8_t *data;
} dpr_idx_t;

/*
 * Reads the file at `path`, which must hold `dimensions` dimensions (1 to DPR_IDX_MAX_DIMENSIONS),
 * none of them 0. Nothing is allocated that the file's size does not warrant. Errors, logged with
 * the path, what was found and what was expected: DPR_ERR_IO where the file cannot be opened or
 * read; DPR_ERR_DATA where it is no IDX file, has other elements or dimensions, is truncated, goes
 * on after its last element, or is damaged as a gzip file; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_idx_read(const char *path, int dimensions, dpr_idx_t *idx);

void dpr_idx_free(dpr_idx_t *idx); /* a zeroed one is allowed */

#endif
