/*
 * What the executor says of itself: the names of its commands, its waits by number; and F&B on two
 * streams, which gives the bits of one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "models/simulate.h"
#include "rig.h"
#include "runtime/measure.h"
#include "schedule/generators.h"

enum { CHAOS_SEEDS = 6 };

typedef struct test_case {
    const char *schedule;
    int ranks;
    int micro_batches;
} test_case_t;

/* Those that have F&B, and one that has none. */
static const test_case_t cases[] = {
    {"dualpipe", 2, 4},  {"dualpipe", 4, 10}, {"dualpipev", 1, 3},
    {"dualpipev", 2, 5}, {"dualpipev", 4, 8}, {"1f1b", 2, 4},
};

enum { CASES = sizeof cases / sizeof cases[0] };

static void start(const test_case_t *test, dpr_program_t *program, rig_config_t *config)
{
    assert_int_equal(
        dpr_schedule_generate(test->schedule, test->ranks, test->micro_batches, program), DPR_OK);
    rig_config_default(config, program);
}

static void run_checked(const rig_config_t *config, rig_result_t *result)
{
    rig_run(config, result);
    if (result->status != DPR_OK) {
        print_error("%s\n", result->messages);
    }
    assert_int_equal(result->status, DPR_OK);
}

static void check_same(const rig_result_t *a, const rig_result_t *b)
{
    assert_true(a->parameters_hash == b->parameters_hash);
    assert_true(b->replicas_equal);
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_true(a->evaluated_loss == b->evaluated_loss);
}

static void two_streams_give_the_bits_of_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t one;
        start(&cases[i], &program, &config);
        config.overlap = DPR_OVERLAP_OFF;
        run_checked(&config, &one);
        config.overlap = DPR_OVERLAP_ON;
        config.poison = true;
        for (uint64_t seed = 0; seed < CHAOS_SEEDS; seed++) {
            rig_result_t two;
            config.chaos_seed = seed;
            run_checked(&config, &two);
            check_same(&one, &two);
            rig_result_free(&two);
        }
        rig_result_free(&one);
        dpr_program_free(&program);
    }
}

/* The cost of F&B is charged once, whatever its streams. */
static void two_streams_keep_the_simulated_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t result;
        dpr_timeline_t simulated;
        start(&cases[i], &program, &config);
        config.overlap = DPR_OVERLAP_ON;
        run_checked(&config, &result);
        assert_int_equal(dpr_timeline_init(&simulated, result.graph), DPR_OK);
        dpr_simulate(result.graph, result.cost, &simulated);
        assert_true(dpr_timeline_difference(&result.timelines[1], &simulated) <= 1e-9);
        dpr_timeline_free(&simulated);
        rig_result_free(&result);
        dpr_program_free(&program);
    }
}

/* ---- Names ---- */

typedef struct names {
    int rank;
    char text[8192];
} names_t;

static void keep_names(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    names_t *names = user;
    const dpr_executor_t *executor = dpr_pipeline_executor(pipeline);
    for (int32_t i = 0; rank == names->rank && i < dpr_executor_command_count(executor); i++) {
        strcat(names->text, dpr_executor_command_name(executor, i));
        strcat(names->text, "\n");
    }
}

static void names_of(const test_case_t *test, int rank, names_t *names)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    start(test, &program, &config);
    *names = (names_t){.rank = rank};
    config.steps = 1;
    config.inspect = keep_names;
    config.user = names;
    run_checked(&config, &result);
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void commands_are_named_after_their_ops(void **state)
{
    (void)state;
    names_t names;
    names_of(&(test_case_t){"gpipe", 2, 2}, 0, &names);
    assert_string_equal(names.text, "F s0 m0\n"
                                    "F s0 m1\n"
                                    "send act s0 m0 to 1\n"
                                    "send act s0 m1 to 1\n"
                                    "recv grad s1 m0 from 1\n"
                                    "B s0 m0\n"
                                    "recv grad s1 m1 from 1\n"
                                    "B s0 m1\n");
    names_of(&(test_case_t){"gpipe", 2, 2}, 1, &names);
    assert_non_null(strstr(names.text, "recv act s0 m1 from 0\n"));
    assert_non_null(strstr(names.text, "send grad s1 m1 to 0\n"));
    names_of(&(test_case_t){"dualpipe", 2, 4}, 0, &names);
    assert_non_null(strstr(names.text, "\nF s1 m3 & B s0 m0\n"));
    assert_non_null(strstr(names.text, "\nI s0 m1\n"));
    assert_non_null(strstr(names.text, "\nW s0 m1\n"));
}

/* ---- Waits ---- */

typedef struct tally {
    const dpr_graph_t *graph;
    int kinds[5];
    bool in_order;
} tally_t;

static void tally_waits(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    tally_t *tally = user;
    const dpr_executor_t *executor = dpr_pipeline_executor(pipeline);
    int32_t last = 0;
    if (rank != 0) {
        return;
    }
    tally->in_order = true;
    for (int32_t number = 1; number <= dpr_executor_wait_count(executor); number++) {
        dpr_executor_wait_t wait;
        dpr_executor_wait(executor, number, &wait);
        tally->kinds[wait.kind]++;
        if (wait.kind <= DPR_EXECUTOR_WAIT_JOIN) {
            tally->in_order = tally->in_order && wait.command >= last;
            last = wait.command;
        }
    }
}

/* What rank 0 waits for according to the graph: sources on rank 0, one side of the edge a transfer.
 */
static int expected_edges(const dpr_graph_t *graph, int *forward_backwards)
{
    int edges = 0;
    *forward_backwards = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        *forward_backwards += node->kind == DPR_NODE_FB && node->rank == 0;
        for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
            const dpr_node_t *from = &graph->nodes[graph->edges[e].from];
            const bool here = node->rank == 0 || node->peer == 0;
            const bool from_here = from->rank == 0 || from->peer == 0;
            edges += here && from_here && from->channel != node->channel;
        }
    }
    return edges;
}

static void every_wait_has_a_number(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    int forward_backwards;
    start(&(test_case_t){"dualpipe", 4, 8}, &program, &config);
    for (int overlap = 0; overlap < 2; overlap++) {
        tally_t tally = {0};
        config.steps = 1;
        config.overlap = overlap ? DPR_OVERLAP_ON : DPR_OVERLAP_OFF;
        config.inspect = tally_waits;
        config.user = &tally;
        run_checked(&config, &result);
        const int edges = expected_edges(result.graph, &forward_backwards);
        assert_true(tally.in_order && forward_backwards > 0);
        assert_int_equal(tally.kinds[DPR_EXECUTOR_WAIT_EDGE], edges);
        assert_int_equal(tally.kinds[DPR_EXECUTOR_WAIT_FORK], overlap * forward_backwards);
        assert_int_equal(tally.kinds[DPR_EXECUTOR_WAIT_JOIN], overlap * forward_backwards);
        assert_int_equal(tally.kinds[DPR_EXECUTOR_WAIT_ALL_JOIN], 4); /* to and from rank 1 */
        assert_int_equal(tally.kinds[DPR_EXECUTOR_WAIT_ALL_FORK], 2); /* from: who sends waits */
        rig_result_free(&result);
    }
    dpr_program_free(&program);
}

/* ---- Recordings ---- */

static void a_step_that_cannot_be_recorded_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        test_case_t test;
        const char *reason;
    } refused[] = {{{"1f1b", 2, 4}, "--comm local"}, {{"1f1b", 1, 4}, "host device"}};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t result;
        start(&refused[i].test, &program, &config);
        config.record = true;
        rig_run(&config, &result);
        assert_int_equal(result.status, DPR_ERR_UNSUPPORTED);
        assert_non_null(strstr(result.messages, refused[i].reason));
        rig_result_free(&result);
        dpr_program_free(&program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_streams_give_the_bits_of_one),
        cmocka_unit_test(two_streams_keep_the_simulated_time),
        cmocka_unit_test(commands_are_named_after_their_ops),
        cmocka_unit_test(every_wait_has_a_number),
        cmocka_unit_test(a_step_that_cannot_be_recorded_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
