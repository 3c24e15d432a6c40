/*
 * What the tests of the CUDA device share. Each test file that needs no more than the seam is built
 * twice: over the stand-in (tests/cuda_standin), where every check runs under several seeds and
 * must leave no misuse and nothing alive behind, and over CUDA itself, where it is skipped without
 * a GPU.
 *
 * Tests never read device memory from the CPU: they copy it out.
 */
#ifndef DPR_TESTS_DEVICE_CUDA_TESTING_H
#define DPR_TESTS_DEVICE_CUDA_TESTING_H

#include "device_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { EXIT_NO_GPU = 77, SEEDS = 20 };

#ifdef DPR_TEST_STANDIN

#include "standin.h"

static inline void cuda_begin(uint64_t seed)
{
    standin_reset(&(standin_options_t){.seed = seed, .devices = 4});
}

static inline void cuda_end(void)
{
    char text[2048];
    standin_drain(); /* a stream may be destroyed before its work is over */
    if (standin_misuses() > 0) {
        fail_msg("misuse of CUDA: %s", standin_misuse_text(text, sizeof text));
    }
    if (standin_leaks(text, sizeof text) > 0) {
        fail_msg("left alive: %s", text);
    }
}

/* For a check that provokes what the stand-in calls misuse. */
static inline void cuda_forgive(void)
{
    assert_true(standin_misuses() > 0);
    standin_misuse_clear();
}

#else

static inline void cuda_forgive(void)
{
}

static inline void cuda_begin(uint64_t seed)
{
    (void)seed;
}

static inline void cuda_end(void)
{
}

#endif

/* Runs a check once per seed. */
static inline void cuda_run(void (*check)(dpr_device_t *device))
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        dpr_device_t *device = NULL;
        cuda_begin(seed);
        assert_ok(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
        check(device);
        dpr_device_destroy(device);
        cuda_end();
    }
}

#define CUDA_TEST(name)                                                                            \
    static void name(dpr_device_t *device);                                                        \
    static void name##_test(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        cuda_run(name);                                                                            \
    }                                                                                              \
    static void name(dpr_device_t *device)

static inline bool cuda_is_there(void)
{
    char reason[256];
    cuda_begin(0);
    if (dpr_cuda_device_count(reason, sizeof reason) > 0) {
        return true;
    }
    printf("skipped: %s\n", reason);
    return false;
}

static inline void *open_memory(dpr_device_t *device, dpr_memory_kind_t kind, size_t bytes)
{
    void *memory = NULL;
    assert_ok(dpr_device_alloc(device, kind, bytes, &memory));
    return memory;
}

/* What `call` logs is kept in `text` instead. */
#define LOGGED(text, status, call)                                                                 \
    do {                                                                                           \
        dpr_log_capture_t capture_;                                                                \
        dpr_log_capture_begin(&capture_, (text), sizeof(text));                                    \
        (status) = (call);                                                                         \
        dpr_log_capture_end(&capture_);                                                            \
    } while (0)

#endif
