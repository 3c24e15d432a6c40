/*
 * --verify over NCCL under the stand-in: the reference's products are cut for as many
 * multiprocessors as the run's, so that cuBLASLt is asked for the same algorithms. Two ranks, whose
 * channels are as many, as threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "lt_standin.h"
#include "runtime/trainer.h"
#include "standin.h"

enum { RANKS = 2, MULTIPROCESSORS = 132, STEPS = 2 };

typedef struct rank_run {
    const dpr_train_config_t *config;
    dpr_comm_t *bootstrap;
    dpr_status_t status;
    dpr_verify_report_t verified; /* on rank 0 */
} rank_run_t;

static dpr_status_t train(rank_run_t *run, const dpr_device_choice_t *choice, dpr_comm_t *comm)
{
    dpr_trainer_t *trainer;
    dpr_train_report_t report;
    DPR_TRY(dpr_trainer_create(run->config, choice, comm, &trainer));
    const dpr_status_t status = dpr_trainer_run(trainer, NULL, NULL, &report);
    run->verified = report.verify;
    dpr_train_report_free(&report);
    dpr_trainer_destroy(trainer);
    return status;
}

static dpr_status_t play(rank_run_t *run)
{
    dpr_device_choice_t choice;
    dpr_comm_t *comm;
    DPR_TRY(dpr_device_choose(run->config, run->bootstrap, &choice));
    DPR_TRY(dpr_comm_nccl_create(run->bootstrap, choice.comm_ctas, &comm));
    const dpr_status_t status = train(run, &choice, comm);
    dpr_comm_destroy(comm);
    return status;
}

static void *rank_main(void *argument)
{
    rank_run_t *run = argument;
    run->status = play(run);
    dpr_comm_destroy(run->bootstrap);
    return NULL;
}

static void run_all(const dpr_train_config_t *config, rank_run_t *runs)
{
    dpr_comm_t *comms[RANKS];
    pthread_t threads[RANKS];
    assert_int_equal(dpr_comm_local_create(RANKS, comms), DPR_OK);
    for (int r = 0; r < RANKS; r++) {
        runs[r] = (rank_run_t){.config = config, .bootstrap = comms[r]};
        assert_int_equal(pthread_create(&threads[r], NULL, rank_main, &runs[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(pthread_join(threads[r], NULL), 0);
    }
}

/* A channel each way, of DPR_COMM_NCCL_CTAS. */
static void the_reference_asks_for_the_algorithms_of_the_run(void **state)
{
    (void)state;
    dpr_train_config_t config;
    rank_run_t runs[RANKS];
    char text[1024];
    int least;
    int most;
    dpr_cuda_environment();
    standin_reset(&(standin_options_t){
        .devices = RANKS, .compute_major = 8, .memory_bytes = (size_t)1 << 31});
    standin_lt_allow(true, true);
    dpr_train_config_default(&config);
    config.schedule = "1f1b";
    config.data = "synthetic:train=64,test=16,features=16,classes=4";
    config.micro_batches = 2 * RANKS;
    config.micro_batch_size = 4;
    config.hidden = 16;
    config.ffn = 32;
    config.blocks = RANKS;
    config.steps = STEPS;
    config.device = "cuda";
    config.calibrate_steps = 1;
    config.verify = true;
    run_all(&config, runs);
    standin_drain();
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(runs[r].status, DPR_OK);
    }
    assert_int_equal(runs[0].verified.steps, STEPS);
    standin_lt_targets(&least, &most);
    assert_int_equal(least, MULTIPROCESSORS - 2 * DPR_COMM_NCCL_CTAS);
    assert_int_equal(most, least);
    assert_int_equal(standin_misuses(), 0);
    assert_int_equal(standin_leaks(text, sizeof text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_asks_for_the_algorithms_of_the_run),
    };
    return cmocka_run_group_tests_name("cuda_verify", tests, NULL, NULL);
}
