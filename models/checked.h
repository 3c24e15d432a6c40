/* Sums and products of sizes that remember whether one of them left the range of int64_t. */
#ifndef DPR_MODELS_CHECKED_H
#define DPR_MODELS_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

typedef struct checked {
    bool overflow;
} checked_t;

static inline uint64_t checked_add(checked_t *checked, uint64_t a, uint64_t b)
{
    uint64_t sum;
    checked->overflow |= __builtin_add_overflow(a, b, &sum) || sum > INT64_MAX;
    return sum;
}

static inline uint64_t checked_multiply(checked_t *checked, uint64_t a, uint64_t b)
{
    uint64_t product;
    checked->overflow |= __builtin_mul_overflow(a, b, &product) || product > INT64_MAX;
    return product;
}

/* The next multiple of `alignment` (at least 1). */
static inline uint64_t checked_align(checked_t *checked, uint64_t bytes, uint64_t alignment)
{
    return checked_add(checked, bytes, alignment - 1) / alignment * alignment;
}

#endif
