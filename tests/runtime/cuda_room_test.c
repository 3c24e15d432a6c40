/*
 * What NCCL takes of a GPU is reckoned with by a pipeline: products are told how many
 * multiprocessors the rank's channels leave them, and memory is judged with NCCL's buffers beside
 * what the rank holds itself. Under the stand-in, whose GPUs have 132 multiprocessors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cuda_testing.h"
#include "lt_standin.h"
#include "standin.h"

enum { CTAS = DPR_COMM_NCCL_CTAS, MULTIPROCESSORS = 132 };

static void configure(const char *schedule, int ranks, rig_comm_t comm, dpr_program_t *program,
                      rig_config_t *config)
{
    cuda_generate(schedule, ranks, 2 * ranks, program);
    cuda_config_default(config, program);
    config->comm = comm;
    config->steps = 1;
    config->no_eval = true;
}

/* Both ranks of two have the same channels, so it does not matter whose product was the last. */
static void expect_target(const char *schedule, int ranks, rig_comm_t comm, int expected)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    configure(schedule, ranks, comm, &program, &config);
    cuda_run_checked(&config, 1, &result);
    assert_int_equal(standin_lt_multiprocessors(), expected);
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void products_are_cut_for_what_channels_leave(void **state)
{
    (void)state;
    expect_target("1f1b", 2, RIG_NCCL, MULTIPROCESSORS - 2 * CTAS);     /* act there, grad back */
    expect_target("dualpipe", 2, RIG_NCCL, MULTIPROCESSORS - 4 * CTAS); /* both ways */
    expect_target("1f1b", 2, RIG_LOCAL, 0);                             /* all: no CTAs */
    expect_target("gpipe", 1, RIG_NCCL, 0);
}

/* What this rank may hold itself, of `memory_bytes`, in a run of 1F1B on two ranks: 3 links. */
static rig_result_t run_with_memory(size_t memory_bytes, rig_comm_t comm)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    standin_reset(&(standin_options_t){
        .devices = 2, .memory_bytes = memory_bytes, .compute_major = 8, .quiet = true});
    configure("1f1b", 2, comm, &program, &config);
    rig_run(&config, &result);
    dpr_program_free(&program);
    return result;
}

static void memory_is_judged_with_the_buffers_of_nccl(void **state)
{
    (void)state;
    const size_t mib = (size_t)1 << 20;
    const size_t reserve = 3 * (size_t)CTAS * 4 * 4 * mib;
    rig_result_t result = run_with_memory(reserve + mib, RIG_NCCL); /* the workspace alone is 5 */
    assert_int_equal(result.status, DPR_ERR_MEMORY);
    assert_non_null(strstr(result.messages, "its device has free 1048576 beside about 201326592 "
                                            "for the nccl communicators"));
    rig_result_free(&result);
    result = run_with_memory(reserve + 16 * mib, RIG_NCCL);
    assert_int_equal(result.status, DPR_OK);
    rig_result_free(&result);
    result = run_with_memory(16 * mib, RIG_LOCAL); /* nothing is kept for a transport that takes
                                                      nothing */
    assert_int_equal(result.status, DPR_OK);
    rig_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_cut_for_what_channels_leave),
        cmocka_unit_test(memory_is_judged_with_the_buffers_of_nccl),
    };
    return cmocka_run_group_tests_name("cuda_room", tests, NULL, NULL);
}
