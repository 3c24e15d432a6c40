/*
 * The runtime on cuda devices over NCCL, under the software stand-in: every schedule computes what
 * one process computes on the host, and the same bits whatever the order in which a GPU might have
 * run it, on one compute stream or two, enqueued or recorded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "cuda_testing.h"
#include "runtime/reference.h"

enum { SCHEDULES_MAX = 32 };

typedef void (*check_fn_t)(rig_config_t *config, uint64_t first_seed);

/* Runs `check` on every schedule at P = 2, 4, 8; short: at 2 and 4. Each begins at another seed. */
static void on_every_schedule(check_fn_t check)
{
    const char *names[SCHEDULES_MAX];
    const int count = cuda_schedules(names, SCHEDULES_MAX);
    const int most_ranks = cuda_tests_are_short() ? 4 : 8;
    int checked = 0;
    for (int i = 0; i < count; i++) {
        for (int ranks = 2; ranks <= most_ranks; ranks *= 2) {
            const int micro_batches = cuda_micro_batches(names[i], ranks);
            dpr_program_t program;
            rig_config_t config;
            if (micro_batches == 0) {
                continue;
            }
            cuda_generate(names[i], ranks, micro_batches, &program);
            cuda_config_default(&config, &program);
            check(&config, 1 + (uint64_t)checked);
            dpr_program_free(&program);
            checked++;
        }
    }
    print_message("%d schedules and sizes\n", checked);
    assert_true(checked >= count);
}

/* `first` is a run of `config`. */
static void check_against_reference(const rig_config_t *config, const rig_result_t *first,
                                    double tolerance)
{
    rig_result_t reference;
    rig_run_reference(config, &reference);
    const double difference = rig_gradient_difference(config, first, &reference);
    print_message("%-18s P=%d M=%d %s: gradients differ by %.2e\n", config->program->name,
                  config->program->ranks, config->program->micro_batches,
                  dpr_dtype_name(config->model.dtype), difference);
    assert_true(difference <= tolerance);
    assert_true(rig_loss_difference(first, &reference) <= tolerance);
    rig_result_free(&reference);
}

/*
 * The first run is in order, on one compute stream and enqueued, and near the reference; the others
 * are whatever the contract allows, every second one recorded and played again, and have its bits.
 */
static void check_seeds(rig_config_t *config, uint64_t first_seed, double tolerance)
{
    const uint64_t seeds = cuda_seeds(1, 1);
    rig_result_t in_order;
    config->overlap = DPR_OVERLAP_OFF;
    cuda_run_checked(config, 0, &in_order);
    check_against_reference(config, &in_order, tolerance);
    config->one_slot = true;
    config->poison = true;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        rig_result_t shuffled;
        config->record = seed % 2 == 0;
        config->overlap = seed % 8 == 7 ? DPR_OVERLAP_OFF : DPR_OVERLAP_AUTO;
        config->graph.recv_ahead = (int32_t)(seed % 3);
        cuda_run_checked(config, seed, &shuffled);
        cuda_expect_same(&in_order, &shuffled);
        rig_result_free(&shuffled);
    }
    rig_result_free(&in_order);
}

static void check_fp32(rig_config_t *config, uint64_t first_seed)
{
    config->steps = 2;
    check_seeds(config, first_seed, 1e-5);
}

/* Without updates: Adam divides by what it multiplies, and makes the same step of a gradient that
 * is all rounding. */
static void check_bf16(rig_config_t *config, uint64_t first_seed)
{
    config->model.dtype = DPR_DTYPE_BF16;
    config->update = false;
    config->steps = 2;
    check_seeds(config, first_seed + 1, 2e-2);
}

static void every_schedule_and_seed_computes_what_one_process_does_in_fp32(void **state)
{
    (void)state;
    on_every_schedule(check_fp32);
}

static void every_schedule_and_seed_computes_what_one_process_does_in_bf16(void **state)
{
    (void)state;
    on_every_schedule(check_bf16);
}

static void check_runs_equal(rig_config_t *a, rig_config_t *b)
{
    rig_result_t first, second;
    cuda_run_checked(a, 0, &first);
    cuda_run_checked(b, 3, &second);
    cuda_expect_same(&first, &second);
    rig_result_free(&first);
    rig_result_free(&second);
}

/* Each of two slots, played three times; and made anew for each loss scale. */
static void recorded_steps_are_enqueued_steps(void **state)
{
    (void)state;
    static const char *const schedules[] = {"gpipe", "zb1p", "interleaved-1f1b", "dualpipe",
                                            "dualpipev"};
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        dpr_program_t program;
        rig_config_t enqueued, recorded;
        cuda_generate(schedules[i], 2, 4, &program);
        cuda_config_default(&enqueued, &program);
        enqueued.steps = 6;
        recorded = enqueued;
        recorded.record = true;
        check_runs_equal(&enqueued, &recorded);
        enqueued.steps = recorded.steps = 4;
        enqueued.doubling_scale = recorded.doubling_scale = true;
        check_runs_equal(&enqueued, &recorded);
        dpr_program_free(&program);
    }
}

static void one_rank_is_recorded_without_transfers(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t enqueued, recorded;
    cuda_generate("dualpipev", 1, 3, &program);
    cuda_config_default(&enqueued, &program);
    enqueued.comm = RIG_LOCAL;
    recorded = enqueued;
    recorded.record = true;
    check_runs_equal(&enqueued, &recorded);
    dpr_program_free(&program);
}

/* As with MPI through pinned memory: the transfers are operations of the host. */
static void transfers_by_the_host_give_the_same_bits(void **state)
{
    (void)state;
    static const char *const schedules[] = {"1f1b", "dualpipe", "dualpipev"};
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t nccl, local;
        cuda_generate(schedules[i], 4, 8, &program);
        cuda_config_default(&config, &program);
        config.poison = true;
        cuda_run_checked(&config, 5, &nccl);
        config.comm = RIG_LOCAL;
        cuda_run_checked(&config, 6, &local);
        cuda_expect_same(&nccl, &local);
        rig_result_free(&nccl);
        rig_result_free(&local);
        dpr_program_free(&program);
    }
}

/* An argument names the one test to run. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_and_seed_computes_what_one_process_does_in_fp32),
        cmocka_unit_test(every_schedule_and_seed_computes_what_one_process_does_in_bf16),
        cmocka_unit_test(recorded_steps_are_enqueued_steps),
        cmocka_unit_test(one_rank_is_recorded_without_transfers),
        cmocka_unit_test(transfers_by_the_host_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
