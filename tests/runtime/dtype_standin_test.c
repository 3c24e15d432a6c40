/*
 * Training in every number format on the stand-in for CUDA: gradients are those of one process in
 * fp32 on the host as far as the format goes, and every rank holds the device memory that was
 * predicted, to the byte, working copies and workspaces included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "rig.h"
#include "runtime/reference.h"
#include "schedule/generators.h"
#include "standin.h"

/* Compute capability 8.0: the kernels take small workspaces, so that the test is quick. */
static void fresh_gpus(uint64_t seed)
{
    const standin_options_t options = {.seed = seed, .compute_major = 8};
    standin_reset(&options);
}

static void expect_clean(void)
{
    char text[1024];
    if (standin_misuses() > 0) {
        fail_msg("misuse of CUDA: %s", standin_misuse_text(text, sizeof text));
    }
    if (standin_leaks(text, sizeof text) > 0) {
        fail_msg("left behind: %s", text);
    }
}

typedef struct planned {
    dpr_pipeline_memory_t rank[RIG_MAX_RANKS];
} planned_t;

static void keep_plan(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    planned_t *planned = user;
    dpr_pipeline_memory(pipeline, &planned->rank[rank]);
}

/* Without workspaces, which only the GPU knows, the prediction needs no device at all. */
static void expect_held_as_predicted(const rig_config_t *config, const planned_t *planned,
                                     const rig_result_t *result)
{
    static const dpr_optimizer_config_t adamw = {.kind = DPR_OPTIMIZER_ADAMW};
    const dpr_memory_spec_t spec = {.program = config->program,
                                    .graph = config->graph,
                                    .model = config->model,
                                    .optimizer = &adamw};
    dpr_pipeline_memory_t predicted[RIG_MAX_RANKS];
    assert_int_equal(dpr_memory_predict(&spec, predicted), DPR_OK);
    for (int r = 0; r < config->program->ranks; r++) {
        const size_t workspaces = planned->rank[r].workspace_bytes;
        assert_true(workspaces > 0);
        assert_int_equal(planned->rank[r].total_bytes, predicted[r].total_bytes + workspaces);
        assert_int_equal(result->held_bytes[r], planned->rank[r].total_bytes);
    }
}

static void train_in(const char *schedule, int ranks, int micro_batches, dpr_dtype_t dtype,
                     rig_comm_t comm)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result, reference;
    planned_t planned;
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, &program), DPR_OK);
    rig_config_default(&config, &program);
    config.clock = DPR_CLOCK_WALL;
    config.device = RIG_CUDA;
    config.comm = comm;
    config.model.dtype = dtype;
    config.steps = 2;
    config.inspect = keep_plan;
    config.user = &planned;
    fresh_gpus(1);
    rig_run(&config, &result);
    if (result.status != DPR_OK) {
        fail_msg("%s in %s: %s", schedule, dpr_dtype_name(dtype), result.messages);
    }
    rig_run_reference(&config, &reference);
    const double difference = rig_gradient_difference(&config, &result, &reference);
    if (!(difference <= dpr_reference_tolerance(dtype))) {
        fail_msg("%s in %s: gradients differ by %.3g", schedule, dpr_dtype_name(dtype), difference);
    }
    assert_true(result.replicas_equal);
    expect_held_as_predicted(&config, &planned, &result);
    print_message("%s on %d ranks in %s: gradients differ by %.2e\n", schedule, ranks,
                  dpr_dtype_name(dtype), difference);
    rig_result_free(&reference);
    rig_result_free(&result);
    dpr_program_free(&program);
    expect_clean();
}

static void train_in_all(const char *schedule, int ranks, int micro_batches)
{
    for (int dtype = DPR_DTYPE_FP32; dtype <= DPR_DTYPE_BF16; dtype++) {
        train_in(schedule, ranks, micro_batches, (dpr_dtype_t)dtype, RIG_NCCL);
    }
}

static void one_stage_a_rank(void **state)
{
    (void)state;
    train_in_all("1f1b", 2, 4);
}

static void replicas_and_two_compute_streams(void **state)
{
    (void)state;
    train_in_all("dualpipe", 4, 8);
}

static void split_backward_over_mpis_stand_in(void **state)
{
    (void)state;
    train_in("zbv", 2, 4, DPR_DTYPE_BF16, RIG_LOCAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stage_a_rank),
        cmocka_unit_test(replicas_and_two_compute_streams),
        cmocka_unit_test(split_backward_over_mpis_stand_in),
    };
    return cmocka_run_group_tests_name("dtype_standin", tests, NULL, NULL);
}
