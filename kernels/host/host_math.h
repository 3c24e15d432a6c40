/*
 * Elementary functions and reductions of the host kernels, written so that the compiler turns the
 * loops around them into vector code, with results that do not depend on how wide its vectors are.
 */
#ifndef DPR_KERNELS_HOST_HOST_MATH_H
#define DPR_KERNELS_HOST_HOST_MATH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Reductions add into this many partial sums, element i into sum i modulo DPR_LANES, and fold those
 * pairwise at the end.
 */
enum { DPR_LANES = 16 };

/* Sums along columns take this many columns at a time, whose sums fit the vector registers. */
enum { DPR_COLUMN_PANEL = 64 };

static inline double dpr_lanes_fold(const double *lanes)
{
    double folded[DPR_LANES / 2];
    for (int i = 0; i < DPR_LANES / 2; i++) {
        folded[i] = lanes[i] + lanes[i + DPR_LANES / 2];
    }
    for (int width = DPR_LANES / 4; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            folded[i] += folded[i + width];
        }
    }
    return folded[0];
}

static inline double dpr_lanes_sum(size_t n, const float *restrict x)
{
    double lanes[DPR_LANES] = {0};
    size_t i = 0;
    for (; i + DPR_LANES <= n; i += DPR_LANES) {
        for (size_t l = 0; l < DPR_LANES; l++) {
            lanes[l] += (double)x[i + l];
        }
    }
    for (size_t l = 0; i + l < n; l++) {
        lanes[l] += (double)x[i + l];
    }
    return dpr_lanes_fold(lanes);
}

/*
 * e^x for x in [-87, 88]; NaN gives NaN. The usual reduction (Cody and Waite, "Software Manual for
 * the Elementary Functions", 1980, chapter 6): x = k ln 2 + r with |r| <= ln(2) / 2, e^x = 2^k e^r.
 * e^r is 1 + r + r^2 q(r) with q of degree 4, whose coefficients are a Remez fit of the relative
 * error made for this file (3.1e-9). Against double, over all floats of the range: at most 0.99
 * ulp.
 */
static inline float dpr_expf(float x)
{
    const float shift = 0x1.8p23F; /* adding it rounds to an integer, found in the low bits */
    const float shifted = x * 1.44269504F + shift;
    const float k = shifted - shift;
    const float r = (x - k * 0x1.63p-1F) + k * 0x1.bd0106p-13F; /* ln 2 in two parts */
    const float q =
        (((0.00138144657F * r + 0.00836878045F) * r + 0.0416683942F) * r + 0.166665201F) * r +
        0.499999934F;
    const float power = 1.0F + (r + r * r * q);
    uint32_t bits;
    uint32_t shifted_bits;
    memcpy(&bits, &power, sizeof bits);
    memcpy(&shifted_bits, &shifted, sizeof shifted_bits);
    bits += shifted_bits << 23;
    float result;
    memcpy(&result, &bits, sizeof result);
    return x != x ? x : result; /* the bits of a NaN are no number to add to */
}

/*
 * GELU, a (1 + tanh(u)) / 2 with u = sqrt(2/pi) (a + 0.044715 a^3), by the identity
 * (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), which has no cancellation where tanh is near -1. Beyond
 * |a| = 8 the float tanh is +-1, so a is cut there: nothing overflows, and what would be denormal
 * (slow) is 0.
 *
 * Against double tanh, over all floats from 1e-6 to 10 and their negatives, in units of 2^-23:
 * tanh(u) as 2 gate - 1 is off by at most 1.8, gelu(a) by 1.3 max(1, |a|), gelu'(a) by 1.9.
 */
typedef struct dpr_gelu_terms {
    float cut;  /* a within [-8, 8] */
    float gate; /* (1 + tanh(u)) / 2 */
    float rest; /* e^-2u: 1 - gate is rest * gate */
} dpr_gelu_terms_t;

#define DPR_GELU_LINEAR 1.59576912F  /* 2 sqrt(2/pi) */
#define DPR_GELU_CUBIC  0.071354816F /* 2 sqrt(2/pi) 0.044715 */

static inline dpr_gelu_terms_t dpr_gelu_terms(float a)
{
    const float above = a < -8.0F ? -8.0F : a;
    const float cut = above > 8.0F ? 8.0F : above;
    const float rest = dpr_expf(-cut * (DPR_GELU_LINEAR + DPR_GELU_CUBIC * cut * cut));
    const float gate = 1.0F / (1.0F + rest);
    return (dpr_gelu_terms_t){.cut = cut, .gate = a < -8.0F ? 0.0F : gate, .rest = rest};
}

static inline float dpr_gelu(float a)
{
    return a * dpr_gelu_terms(a).gate;
}

/* The derivative: gate + a gate (1 - gate) 2 du/da. */
static inline float dpr_gelu_slope(float a)
{
    const dpr_gelu_terms_t t = dpr_gelu_terms(a);
    const float slope = DPR_GELU_LINEAR + 3.0F * DPR_GELU_CUBIC * t.cut * t.cut;
    return t.gate + t.cut * slope * (t.gate * t.gate * t.rest);
}

#endif
