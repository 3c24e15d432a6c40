/* What the stand-in's own tests share. */
#ifndef DPR_TESTS_CUDA_STANDIN_STANDIN_TESTING_H
#define DPR_TESTS_CUDA_STANDIN_STANDIN_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "standin.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

/* A stand-in with this seed that writes nothing. */
static inline void fresh(uint64_t seed)
{
    standin_reset(&(standin_options_t){.seed = seed, .quiet = true});
}

/* Nothing was misused, and nothing is left. */
static inline void assert_clean(void)
{
    char text[512];
    assert_string_equal(standin_misuse_text(text, sizeof(text)), "");
    assert_int_equal(standin_misuses(), 0);
    standin_leaks(text, sizeof(text));
    assert_string_equal(text, "");
}

/* Exactly what the test provoked was noticed, and its text names `about`. */
static inline void assert_misuse(const char *about)
{
    char text[4096];
    standin_misuse_text(text, sizeof(text));
    if (strstr(text, about) == NULL) {
        print_error("the misuse is not about '%s': '%s'\n", about, text);
        fail();
    }
    standin_misuse_clear();
}

static inline cudaStream_t stream_new(void)
{
    cudaStream_t stream;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static inline cudaEvent_t event_new(void)
{
    cudaEvent_t event;
    OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

static inline void *device_new(size_t bytes)
{
    void *memory;
    OK(cudaMalloc(&memory, bytes));
    return memory;
}

static inline void *pinned_new(size_t bytes)
{
    void *memory;
    OK(cudaMallocHost(&memory, bytes));
    return memory;
}

#endif
