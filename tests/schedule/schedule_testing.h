/*
 * What the tests of schedules and of models share: graphs in one call, messages as text, random
 * numbers in order, and random programs that are valid by construction.
 */
#ifndef DPR_TESTS_SCHEDULE_TESTING_H
#define DPR_TESTS_SCHEDULE_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schedule/generators.h"
#include "schedule/graph.h"

/* Random numbers one after the other. */
typedef struct dice {
    uint64_t seed;
    uint64_t count;
} dice_t;

/* Uniform in 0 .. sides - 1. */
int dice_roll(dice_t *dice, int sides);

/* Uniform in [low, high). */
double dice_real(dice_t *dice, double low, double high);

/* A generated program, and the graph of a program, which must both succeed. */
dpr_program_t make_program(const char *schedule, int ranks, int micro_batches);
dpr_graph_t *make_graph(const dpr_program_t *program);

/* Parses a program of which the text is well-formed. */
dpr_program_t parse_program(const char *text);

/*
 * A program that some order of execution can run with unbounded buffers: stages on random ranks,
 * some on two, and random actions of those that could run next. With or without backwards.
 */
dpr_program_t random_program(dice_t *dice);

/* The status of an expression, and its messages in text[]. */
enum { CAPTURED_MAX = 8192 };
#define CAPTURE(status, text, expr)                                                                \
    do {                                                                                           \
        dpr_log_capture_t capture_;                                                                \
        dpr_log_capture_begin(&capture_, text, CAPTURED_MAX);                                      \
        (status) = (expr);                                                                         \
        dpr_log_capture_end(&capture_);                                                            \
    } while (0)

/* cmocka's own compares as float. */
#define assert_near(value, expected) assert_true(fabs((value) - (expected)) <= 1e-9)

#define assert_contains(text, part) assert_contains_at(text, part, __FILE__, __LINE__)
void assert_contains_at(const char *text, const char *part, const char *file, int line);

#endif
