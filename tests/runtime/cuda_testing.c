/* The rig under the stand-in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_testing.h"
#include "schedule/generators.h"
#include "standin.h"

void cuda_config_default(rig_config_t *config, const dpr_program_t *program)
{
    rig_config_default(config, program);
    config->device = RIG_CUDA;
    config->comm = RIG_NCCL;
    config->clock = DPR_CLOCK_WALL;
}

void cuda_run(const rig_config_t *config, uint64_t seed, bool quiet, double deadlock_sec,
              cuda_outcome_t *outcome)
{
    const standin_options_t options = {.seed = seed,
                                       .devices = config->program->ranks,
                                       .memory_bytes = (size_t)2 << 30, /* and for NCCL */
                                       .deadlock_sec = deadlock_sec,
                                       .compute_major = 8, /* 4 MiB of workspace, not 32 */
                                       .quiet = quiet};
    char leaks[512];
    if (config->record) {
        dpr_comm_nccl_record_environment(); /* as a program's main does */
    }
    *outcome = (cuda_outcome_t){0};
    standin_reset(&options);
    rig_run(config, &outcome->result);
    standin_drain();
    outcome->misuses = standin_misuses();
    outcome->deadlocks = standin_deadlocks();
    outcome->leaks = standin_leaks(leaks, sizeof leaks);
    (void)standin_misuse_text(outcome->text, sizeof outcome->text - sizeof leaks - 2);
    if (outcome->leaks > 0) {
        strcat(outcome->text, "; left: ");
        strcat(outcome->text, leaks);
    }
}

void cuda_run_checked(const rig_config_t *config, uint64_t seed, rig_result_t *result)
{
    cuda_outcome_t outcome;
    cuda_run(config, seed, false, 0.0, &outcome);
    if (outcome.result.status != DPR_OK || outcome.misuses > 0 || outcome.leaks > 0) {
        print_error("%s, seed %llu: status %s, %d misuses, %d leaks: %s\n%s\n",
                    config->program->name, (unsigned long long)seed,
                    dpr_status_name(outcome.result.status), outcome.misuses, outcome.leaks,
                    outcome.text, outcome.result.messages);
    }
    assert_int_equal(outcome.result.status, DPR_OK);
    assert_int_equal(outcome.misuses, 0);
    assert_int_equal(outcome.leaks, 0);
    assert_true(outcome.result.replicas_equal);
    *result = outcome.result;
}

void cuda_expect_same(const rig_result_t *a, const rig_result_t *b)
{
    assert_true(a->parameters_hash == b->parameters_hash);
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_true(a->evaluated_loss == b->evaluated_loss);
    assert_true(a->evaluated_correct == b->evaluated_correct);
}

bool cuda_tests_are_short(void)
{
    const char *text = getenv("DPR_TEST_SHORT");
    return text != NULL && text[0] != '\0' && strcmp(text, "0") != 0;
}

uint64_t cuda_seeds(uint64_t usual, uint64_t short_count)
{
    const char *text = getenv("DPR_STANDIN_SEEDS");
    if (text != NULL && strtoull(text, NULL, 10) > 0) {
        return strtoull(text, NULL, 10);
    }
    return cuda_tests_are_short() ? short_count : usual;
}

int cuda_micro_batches(const char *schedule, int ranks)
{
    for (int m = ranks; m <= 4 * ranks; m++) {
        if (dpr_schedule_allows(schedule, ranks, m)) {
            return m;
        }
    }
    return 0;
}

int cuda_schedules(const char **names, int capacity)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    assert_true((int)count <= capacity);
    for (size_t i = 0; i < count; i++) {
        names[i] = schedules[i].name;
    }
    return (int)count;
}

void cuda_generate(const char *schedule, int ranks, int micro_batches, dpr_program_t *program)
{
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, program), DPR_OK);
}
