/*
 * Extreme inputs for property tests: numbers that break formulas when nobody looks.
 */
#ifndef DPR_TESTS_EXTREMES_H
#define DPR_TESTS_EXTREMES_H

#include <float.h>
#include <limits.h>
#include <math.h>

#include "base/random.h"
#include "tests/schedule/schedule_testing.h"

static inline double extreme_real(dice_t *dice)
{
    const double values[] = {0.0,  -0.0,  1.0,     -1.0,    NAN,    INFINITY, -INFINITY,
                             1e-9, 1e308, DBL_MAX, DBL_MIN, 5e-324, -1e308,   0.5,
                             1e15, 1e21,  3.7,     1e-300,  2.0,    0.1};
    return values[dice_roll(dice, (int)(sizeof values / sizeof values[0]))];
}

static inline int extreme_int(dice_t *dice)
{
    const int values[] = {0,       1,           -1,      2,     4,    8,    3,  64, INT_MAX,
                          INT_MIN, INT_MAX - 1, 1 << 20, 65536, 4096, 4097, 16, 5};
    return values[dice_roll(dice, (int)(sizeof values / sizeof values[0]))];
}

/* A result: finite and at least 0. */
#define assert_sane(value)                                                                         \
    do {                                                                                           \
        const double value_ = (value);                                                             \
        if (!isfinite(value_) || value_ < 0.0) {                                                   \
            print_error("%s is %g\n", #value, value_);                                             \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* Equal but for rounding. */
#define assert_close(a, b)                                                                         \
    do {                                                                                           \
        const double a_ = (a);                                                                     \
        const double b_ = (b);                                                                     \
        if (!(fabs(a_ - b_) <= 1e-9 * fmax(fabs(a_), fabs(b_)))) {                                 \
            print_error("%s is %.17g, %s is %.17g\n", #a, a_, #b, b_);                             \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

#endif
