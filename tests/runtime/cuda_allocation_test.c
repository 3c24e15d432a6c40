/*
 * A step on cuda devices allocates nothing, whichever way its transfers go: by NCCL, or staged
 * through pinned memory. Counted under the stand-in are its malloc and the like, in the whole
 * process, and its calls of CUDA that give or take memory. Under sanitizers, which bring their own
 * malloc, there is nothing to test here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "allocations.h"
#include "cuda_testing.h"
#include "standin.h"

static const char *const cuda_functions[] = {
    "cudaMalloc",
    "cudaMallocHost",
    "cudaHostAlloc",
    "cudaMallocAsync",
    "cudaFree",
    "cudaFreeHost",
    "cudaFreeAsync",
    "cudaHostRegister",
    "cudaStreamCreateWithPriority",
    "cudaEventCreate",
    "cudaEventCreateWithFlags",
};

static size_t count_both(void)
{
    size_t count = allocations_so_far();
    for (size_t i = 0; i < sizeof cuda_functions / sizeof cuda_functions[0]; i++) {
        count += (size_t)standin_calls(cuda_functions[i]);
    }
    return count;
}

/* The first step may: it fills pools. */
static void expect_none(const char *schedule, rig_comm_t comm)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    cuda_generate(schedule, 4, 8, &program);
    cuda_config_default(&config, &program);
    config.comm = comm;
    config.steps = 4;
    config.count = count_both;
    cuda_run_checked(&config, 0, &result);
    assert_true(count_both() > 0); /* the counters are at work */
    for (int k = 1; k < config.steps; k++) {
        print_message("%s over %s, step %d: %zu allocations\n", schedule,
                      comm == RIG_NCCL ? "NCCL" : "pinned memory", k, result.counted[k]);
        assert_int_equal(result.counted[k], 0);
    }
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void a_step_over_nccl_allocates_nothing(void **state)
{
    (void)state;
    expect_none("1f1b", RIG_NCCL);
    expect_none("dualpipe", RIG_NCCL);
}

static void a_step_over_pinned_memory_allocates_nothing(void **state)
{
    (void)state;
    expect_none("1f1b", RIG_LOCAL);
    expect_none("dualpipe", RIG_LOCAL);
}

int main(void)
{
    if (!allocations_are_counted()) {
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_over_nccl_allocates_nothing),
        cmocka_unit_test(a_step_over_pinned_memory_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
