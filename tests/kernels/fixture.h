/*
 * What the kernels' tests run on: a device with its kernels, chosen by name, so that every backend
 * is held to the same suite, and arrays on it whose surroundings are watched.
 */
#ifndef DPR_TESTS_KERNELS_FIXTURE_H
#define DPR_TESTS_KERNELS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"

/* Memory on the device and its copy on the host. Guards before and behind it are checked whenever
 * it is downloaded. */
typedef struct array {
    void *device;
    void *host;
    size_t bytes;
    bool bf16;          /* its elements; else float, or whatever the test knows */
    void *device_block; /* guard, data, guard */
    void *host_block;
    size_t offset; /* of the data within the block */
    struct array *next;
} array_t;

typedef struct fixture {
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_stream_t *stream;
    size_t misalign_bytes; /* arrays begin so many bytes behind a multiple of 256; in bf16 half as
                              many, the same number of elements */
    array_t *arrays;
    struct scratch *scratch;
} fixture_t;

/*
 * For main(): chooses the device by argv[1]: "host" (also without arguments), "host-chaos", or
 * "cuda", "cuda-tf32", "cuda-bf16"; under the stand-in, "-plain" behind those makes it a cuBLASLt
 * without epilogues. Returns 0 to go on, or the exit status: 77, skipped, where this build or
 * machine has no such device.
 */
int fixture_select(int argc, char **argv);

/* cmocka's setup and teardown: *state is a fixture_t *. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Fails the test unless the status is DPR_OK. */
#define REQUIRE(expr) assert_int_equal((expr), DPR_OK)

/* Arrays live until fixture_release or the teardown. They start as zeros on both sides. */
array_t *fixture_floats(fixture_t *fixture, size_t count);
array_t *fixture_elements(fixture_t *fixture, size_t count); /* of the kernels' dtype */
array_t *fixture_doubles(fixture_t *fixture, size_t count);
array_t *fixture_ints(fixture_t *fixture, size_t count);
array_t *fixture_bytes(fixture_t *fixture, size_t bytes);
void fixture_upload(fixture_t *fixture, array_t *array);
/* Waits for the stream, too. */
void fixture_download(fixture_t *fixture, array_t *array);
/* Frees all arrays and scratch, after checking the guards. */
void fixture_release(fixture_t *fixture);

/* Host memory of `count` zeroed doubles, until fixture_release. */
double *fixture_scratch(fixture_t *fixture, size_t count);

static inline float *f32(array_t *array)
{
    return array->device;
}

static inline float *host_f32(array_t *array)
{
    return array->host;
}

/* Element i of the host's copy; bf16 rounds to nearest even. */
float host_get(const array_t *array, size_t i);
void host_set(array_t *array, size_t i, float value);
size_t array_count(const array_t *array); /* of floats or elements */

/* Fills with uniform numbers in [-range, range), different for every `stream`, and uploads. */
array_t *fixture_random(fixture_t *fixture, size_t count, uint64_t stream, double range);
array_t *fixture_random_elements(fixture_t *fixture, size_t count, uint64_t stream, double range);

/* How far off a number of the kernels' dtype may be by being rounded once: 2^-24 or 2^-8 of it. */
double fixture_rounding(const fixture_t *fixture);

/* How far off a sum of n products of numbers below 1 may be because products round their inputs:
 * in tf32, to 10 bits; else 0. */
double fixture_terms_error(const fixture_t *fixture, size_t n);
/* The nearest number that products of the kernels' dtype take as it is. */
float fixture_exact(const fixture_t *fixture, float value);

/* The host's copy as doubles. */
double *fixture_widen(fixture_t *fixture, const array_t *array);

/* Downloads and compares: |got - want| <= absolute + relative |want|, NaN equals NaN alone. Of
 * elements in bf16, one rounding more is allowed. */
void expect_close(fixture_t *fixture, const char *what, array_t *got, const double *want,
                  double relative, double absolute);

#endif
