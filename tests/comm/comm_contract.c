/*
 * The conformance suite of the communication seam: the same tests for every backend.
 *
 *      comm_contract local|nccl|local+cuda N [rounds of chaos [tests to run, as "send_*"]]
 *      [mpirun -np N] comm_contract mpi|mpi+cuda 0 [rounds [tests]]
 *
 * Exit code 0 if all ranks pass all tests, 77 where there are too few GPUs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm_testing.h"

static int chaos_rounds;

enum { EXIT_SKIPPED = 77, CUDA_SEEDS = 3 };

/* What a test needs of the backend, beside ranks and a clock. */
typedef enum needs {
    NEEDS_NOTHING,
    NEEDS_SIZES_TOLD,  /* NCCL cannot tell when the two sides' differ */
    NEEDS_OWN_COUNTER, /* of allocations */
} needs_t;

static void run_with(scenario_fn_t scenario, dpr_clock_t clock, int least_ranks, needs_t needs)
{
    if (suite_size() < least_ranks || (suite_is_on_cuda() && clock != DPR_CLOCK_WALL) ||
        (needs == NEEDS_SIZES_TOLD && suite_is_nccl()) ||
        (needs == NEEDS_OWN_COUNTER && suite_is_on_standin())) {
        skip();
    }
    const uint64_t seeds = suite_is_on_standin() && !suite_is_mpi() ? CUDA_SEEDS : 1;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        assert_int_equal(suite_run(scenario, clock, seed, 1), 0);
    }
}

/* Named for the behaviour protected; the wall clock where times play no part. */
#define TEST_OF(scenario, clock, least_ranks) TEST_IF(NEEDS_NOTHING, scenario, clock, least_ranks)
#define TEST_IF(needs, scenario, clock, least_ranks)                                               \
    static void scenario##_test(void **state)                                                      \
    {                                                                                              \
        (void)state;                                                                               \
        run_with(scenario_##scenario, clock, least_ranks, needs);                                  \
    }
TEST_OF(blocking_calls, DPR_CLOCK_WALL, 1)
TEST_OF(agree, DPR_CLOCK_WALL, 1)
TEST_OF(fifo, DPR_CLOCK_WALL, 2)
TEST_OF(sizes, DPR_CLOCK_WALL, 2)
TEST_OF(chunks, DPR_CLOCK_WALL, 2)
TEST_OF(send_waits_for_receive, DPR_CLOCK_WALL, 2)
TEST_OF(receive_waits_for_send, DPR_CLOCK_WALL, 2)
TEST_OF(all_directions, DPR_CLOCK_WALL, 2)
TEST_OF(more_than_the_ring, DPR_CLOCK_WALL, 2)
TEST_IF(NEEDS_SIZES_TOLD, size_mismatch, DPR_CLOCK_WALL, 2)
TEST_IF(NEEDS_SIZES_TOLD, failed_stream_does_not_hang, DPR_CLOCK_WALL, 2)
TEST_OF(wrong_use, DPR_CLOCK_WALL, 2)
TEST_IF(NEEDS_OWN_COUNTER, no_allocation, DPR_CLOCK_WALL, 2)
TEST_OF(allreduce_bits, DPR_CLOCK_WALL, 2)
TEST_OF(allreduce_long, DPR_CLOCK_WALL, 2)
TEST_OF(groups_overlap, DPR_CLOCK_WALL, 2)
TEST_OF(group_of_one, DPR_CLOCK_MODEL, 1)
TEST_IF(NEEDS_SIZES_TOLD, allreduce_mismatch, DPR_CLOCK_WALL, 2)
TEST_OF(calls_beside_transfers, DPR_CLOCK_WALL, 2)
TEST_OF(measure_link, DPR_CLOCK_WALL, 2)
TEST_OF(opening_disagrees, DPR_CLOCK_WALL, 2)
TEST_OF(left_open, DPR_CLOCK_WALL, 2)

static void virtual_times_are_the_longest_path_test(void **state)
{
    (void)state;
    if (suite_is_on_cuda()) {
        skip();
    }
    for (uint64_t seed = 1; seed <= 10; seed++) {
        assert_int_equal(suite_run(scenario_random_program, DPR_CLOCK_MODEL, 0, seed), 0);
    }
}

static void programs_survive_chaos_test(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (uint64_t)chaos_rounds; seed++) {
        const dpr_clock_t clock =
            seed % 2 == 0 && !suite_is_on_cuda() ? DPR_CLOCK_MODEL : DPR_CLOCK_WALL;
        assert_int_equal(suite_run(scenario_random_program, clock, seed, 100 + seed), 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocking_calls_test),
        cmocka_unit_test(agree_test),
        cmocka_unit_test(fifo_test),
        cmocka_unit_test(sizes_test),
        cmocka_unit_test(chunks_test),
        cmocka_unit_test(send_waits_for_receive_test),
        cmocka_unit_test(receive_waits_for_send_test),
        cmocka_unit_test(all_directions_test),
        cmocka_unit_test(more_than_the_ring_test),
        cmocka_unit_test(size_mismatch_test),
        cmocka_unit_test(failed_stream_does_not_hang_test),
        cmocka_unit_test(wrong_use_test),
        cmocka_unit_test(no_allocation_test),
        cmocka_unit_test(allreduce_bits_test),
        cmocka_unit_test(allreduce_long_test),
        cmocka_unit_test(groups_overlap_test),
        cmocka_unit_test(group_of_one_test),
        cmocka_unit_test(allreduce_mismatch_test),
        cmocka_unit_test(calls_beside_transfers_test),
        cmocka_unit_test(measure_link_test),
        cmocka_unit_test(opening_disagrees_test),
        cmocka_unit_test(virtual_times_are_the_longest_path_test),
        cmocka_unit_test(programs_survive_chaos_test),
        cmocka_unit_test(left_open_test),
    };
    const char *backend = argc > 1 ? argv[1] : "local";
    const int ranks = argc > 2 && strncmp(backend, "mpi", 3) != 0 ? atoi(argv[2]) : 4;
    chaos_rounds = argc > 3 ? atoi(argv[3]) : 20;
    if (getenv("DPR_TEST_SHORT") != NULL) { /* under sanitizers */
        chaos_rounds = (chaos_rounds + 4) / 5;
    }
    if (argc > 4) {
        cmocka_set_test_filter(argv[4]);
    }
    const dpr_status_t begun = suite_begin(backend, ranks);
    if (begun != DPR_OK) {
        return begun == DPR_ERR_UNSUPPORTED ? EXIT_SKIPPED : 1;
    }
    const int failed = cmocka_run_group_tests_name(backend, tests, NULL, NULL);
    return suite_end() == 0 && failed == 0 ? 0 : 1;
}
