/*
 * Runs of the rig on cuda devices over NCCL under the software stand-in, with what the stand-in has
 * to say about them: the outcome of a seed.
 */
#ifndef DPR_TESTS_RUNTIME_CUDA_TESTING_H
#define DPR_TESTS_RUNTIME_CUDA_TESTING_H

#include "rig.h"

/* As rig_config_default, for cuda devices over NCCL. */
void cuda_config_default(rig_config_t *config, const dpr_program_t *program);

typedef struct cuda_outcome {
    rig_result_t result; /* release with rig_result_free */
    int misuses;
    int deadlocks;
    int leaks;
    char text[1024]; /* of the first misuse, and of the leaks */
} cuda_outcome_t;

/* Resets the stand-in with `seed` (quiet: it writes nothing to stderr) and runs. Deadlocks are
 * declared after `deadlock_sec` without progress; 0: the stand-in's choice. */
void cuda_run(const rig_config_t *config, uint64_t seed, bool quiet, double deadlock_sec,
              cuda_outcome_t *outcome);

/* The same, failing the test unless all went well. */
void cuda_run_checked(const rig_config_t *config, uint64_t seed, rig_result_t *result);

/* Fails the test unless both have the same bits. */
void cuda_expect_same(const rig_result_t *a, const rig_result_t *b);

/* How many seeds a test tries: DPR_STANDIN_SEEDS where it is set, else `usual`, or `short_count`
 * where DPR_TEST_SHORT is set. */
uint64_t cuda_seeds(uint64_t usual, uint64_t short_count);
bool cuda_tests_are_short(void);

/* The least micro-batches from P up that a schedule runs on P ranks, 0 where none. */
int cuda_micro_batches(const char *schedule, int ranks);

/* Every schedule there is, "auto" and files aside. */
int cuda_schedules(const char **names, int capacity);

void cuda_generate(const char *schedule, int ranks, int micro_batches, dpr_program_t *program);

#endif
