/*
 * Random numbers by counter: the value at (seed, stream, index) depends on nothing else, so weights
 * and shuffles come out the same whatever rank, thread or order asks for them.
 *
 * The mixer is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", OOPSLA 2014), applied to each word of the key in turn.
 */
#ifndef DPR_BASE_RANDOM_H
#define DPR_BASE_RANDOM_H

#include <stdint.h>

static inline uint64_t dpr_random_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* 64 random bits at (seed, stream, index). */
static inline uint64_t dpr_random_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    return dpr_random_mix(dpr_random_mix(dpr_random_mix(seed) ^ stream) ^ index);
}

/* Uniform in [0, 1). */
static inline double dpr_random_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(dpr_random_bits(seed, stream, index) >> 11) * 0x1p-53;
}

/* Standard normal (Box-Muller, one of the pair). */
double dpr_random_normal(uint64_t seed, uint64_t stream, uint64_t index);

#endif
