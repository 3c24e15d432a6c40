/* The normal distribution; the rest is inline. */
#include "base/random.h"

#include <math.h>

double dpr_random_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    const double two_pi = 6.283185307179586;
    const double u = 1.0 - dpr_random_uniform(seed, stream, 2 * index); /* (0, 1]: log is finite */
    const double v = dpr_random_uniform(seed, stream, 2 * index + 1);
    return sqrt(-2.0 * log(u)) * cos(two_pi * v);
}
