/*
 * The executor: what a pipelined run computes is what one process computes, under every schedule,
 * and when it computes it is what the simulation says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/simulate.h"
#include "rig.h"
#include "runtime/measure.h"
#include "schedule/generators.h"

/* Fewer where DPR_TEST_SHORT is set, which is for sanitizers. */
enum { CHAOS_SEEDS = 20, SHORT_CHAOS_SEEDS = 4 };

typedef struct test_case {
    const char *schedule;
    int ranks;
    int micro_batches;
} test_case_t;

static const test_case_t cases[] = {
    {"gpipe", 1, 3},     {"gpipe", 2, 4},     {"gpipe", 4, 5},      {"gpipe", 8, 8},
    {"1f1b", 1, 3},      {"1f1b", 2, 5},      {"1f1b", 4, 8},       {"1f1b", 8, 11},
    {"zb1p", 1, 2},      {"zb1p", 2, 4},      {"zb1p", 4, 6},       {"zb1p", 8, 10},
    {"dualpipe", 2, 4},  {"dualpipe", 4, 10}, {"dualpipe", 8, 20},  {"dualpipev", 1, 3},
    {"dualpipev", 2, 5}, {"dualpipev", 4, 8}, {"dualpipev", 8, 16},
};

enum { CASES = sizeof cases / sizeof cases[0] };

static void generate(const test_case_t *test, dpr_program_t *program)
{
    assert_int_equal(
        dpr_schedule_generate(test->schedule, test->ranks, test->micro_batches, program), DPR_OK);
}

static void run_checked(const rig_config_t *config, rig_result_t *result)
{
    rig_run(config, result);
    if (result->status != DPR_OK) {
        print_error("%s\n", result->messages);
    }
    assert_int_equal(result->status, DPR_OK);
}

static void three_steps_agree_with_one_process(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t pipelined, reference;
        generate(&cases[i], &program);
        rig_config_default(&config, &program);
        run_checked(&config, &pipelined);
        rig_run_reference(&config, &reference);
        const double gradients = rig_gradient_difference(&config, &pipelined, &reference);
        const double losses = rig_loss_difference(&pipelined, &reference);
        print_message("%-10s P=%d M=%d: gradients differ by %.2e, losses by %.2e\n",
                      cases[i].schedule, cases[i].ranks, cases[i].micro_batches, gradients, losses);
        assert_true(gradients <= 1e-5);
        assert_true(losses <= 1e-5);
        assert_true(pipelined.replicas_equal);
        rig_result_free(&pipelined);
        rig_result_free(&reference);
        dpr_program_free(&program);
    }
}

static void two_runs_give_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t first, second;
        generate(&cases[i], &program);
        rig_config_default(&config, &program);
        run_checked(&config, &first);
        config.clock = DPR_CLOCK_WALL; /* the clock must not matter either */
        run_checked(&config, &second);
        assert_true(first.parameters_hash == second.parameters_hash);
        assert_memory_equal(first.loss, second.loss, sizeof first.loss);
        rig_result_free(&first);
        rig_result_free(&second);
        dpr_program_free(&program);
    }
}

/* Chaos delays and reorders all that the device leaves free, poison makes stale reads NaN. */
static void chaos_does_not_change_a_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t calm;
        generate(&cases[i], &program);
        rig_config_default(&config, &program);
        run_checked(&config, &calm);
        config.poison = true;
        const uint64_t seeds = getenv("DPR_TEST_SHORT") != NULL ? SHORT_CHAOS_SEEDS : CHAOS_SEEDS;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            rig_result_t chaotic_result;
            config.chaos_seed = seed;
            config.graph.recv_ahead = (int32_t)(seed % 3);
            run_checked(&config, &chaotic_result);
            assert_true(calm.parameters_hash == chaotic_result.parameters_hash);
            assert_true(chaotic_result.replicas_equal);
            rig_result_free(&chaotic_result);
        }
        rig_result_free(&calm);
        dpr_program_free(&program);
    }
}

static void model_clock_equals_the_simulation(void **state)
{
    (void)state;
    static const dpr_uniform_costs_t costs[] = {
        {.f = 1.0, .i = 1.0, .w = 1.0, .b = -1.0, .fb = -1.0, .wire = 0.0},
        {.f = 1.0, .i = 1.2, .w = 0.8, .b = 1.9, .fb = 2.5, .wire = 0.3},
        {.f = 0.7e-3, .i = 1.3e-3, .w = 0.4e-3, .b = -1.0, .fb = -1.0, .wire = 2.1e-3},
    };
    for (size_t i = 0; i < CASES; i++) {
        for (size_t c = 0; c < sizeof costs / sizeof costs[0]; c++) {
            dpr_program_t program;
            rig_config_t config;
            rig_result_t result;
            dpr_timeline_t simulated;
            generate(&cases[i], &program);
            rig_config_default(&config, &program);
            config.costs = costs[c];
            run_checked(&config, &result);
            assert_int_equal(dpr_timeline_init(&simulated, result.graph), DPR_OK);
            dpr_simulate(result.graph, result.cost, &simulated);
            for (int k = 0; k < config.steps; k++) {
                assert_true(dpr_timeline_difference(&result.timelines[k], &simulated) <= 1e-9);
            }
            dpr_timeline_free(&simulated);
            rig_result_free(&result);
            dpr_program_free(&program);
        }
    }
}

/* The least number of micro-batches from 2P up that the schedule runs on P ranks, 0 where none. */
static int some_micro_batches(const dpr_schedule_t *schedule, int ranks)
{
    for (int m = 2 * ranks; m <= 4 * ranks; m++) {
        if (schedule->allows(ranks, m)) {
            return m;
        }
    }
    return 0;
}

static void check_schedule(const test_case_t *test)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t pipelined, reference;
    dpr_timeline_t simulated;
    generate(test, &program);
    rig_config_default(&config, &program);
    config.costs =
        (dpr_uniform_costs_t){.f = 1.0, .i = 1.2, .w = 0.8, .b = 1.9, .fb = 2.5, .wire = 0.3};
    run_checked(&config, &pipelined);
    rig_run_reference(&config, &reference);
    assert_true(rig_gradient_difference(&config, &pipelined, &reference) <= 1e-5);
    assert_true(rig_loss_difference(&pipelined, &reference) <= 1e-5);
    assert_true(pipelined.replicas_equal);
    assert_int_equal(dpr_timeline_init(&simulated, pipelined.graph), DPR_OK);
    dpr_simulate(pipelined.graph, pipelined.cost, &simulated);
    assert_true(dpr_timeline_difference(&pipelined.timelines[0], &simulated) <= 1e-9);
    dpr_timeline_free(&simulated);
    rig_result_free(&pipelined);
    rig_result_free(&reference);
    dpr_program_free(&program);
}

static void every_schedule_there_is_computes_and_keeps_time(void **state)
{
    (void)state;
    static const int ranks[] = {2, 3, 4, 8};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    int checked = 0;
    for (size_t s = 0; s < count; s++) {
        for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
            const int micro_batches = some_micro_batches(&schedules[s], ranks[r]);
            if (micro_batches > 0) {
                check_schedule(&(test_case_t){schedules[s].name, ranks[r], micro_batches});
                checked++;
            }
        }
    }
    print_message("%d schedules and sizes\n", checked);
    assert_true(checked >= 3 * (int)count); /* only P = 3 is closed to some */
}

/* The difference that the test above relies on is not blind. */
static void a_wrong_cost_shows_in_the_timeline(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    dpr_timeline_t simulated;
    generate(&(test_case_t){"dualpipe", 4, 8}, &program);
    rig_config_default(&config, &program);
    run_checked(&config, &result);
    assert_int_equal(dpr_timeline_init(&simulated, result.graph), DPR_OK);
    result.cost[result.graph->compute_count / 2] += 1e-3;
    dpr_simulate(result.graph, result.cost, &simulated);
    assert_true(dpr_timeline_difference(&result.timelines[0], &simulated) > 1e-6);
    dpr_timeline_free(&simulated);
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* The pass has no backward, other buffers and another order, and still the same losses. */
static void an_evaluation_is_the_same_on_any_number_of_ranks(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t alone;
    generate(&(test_case_t){"gpipe", 1, 16}, &program);
    rig_config_default(&config, &program);
    config.model.blocks = 16;
    config.steps = 1;
    run_checked(&config, &alone);
    dpr_program_free(&program);
    assert_true(alone.evaluated_loss > 0.0 && alone.evaluated_loss < alone.loss[0]);
    assert_true(alone.evaluated_correct > 0.0);
    static const test_case_t others[] = {
        {"1f1b", 4, 16}, {"zb1p", 8, 16}, {"dualpipe", 4, 16}, {"dualpipev", 8, 16}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        rig_result_t other;
        generate(&others[i], &program);
        config.program = &program;
        config.poison = true;
        run_checked(&config, &other);
        assert_true(fabs(other.evaluated_loss - alone.evaluated_loss) <=
                    1e-5 * alone.evaluated_loss);
        assert_true(other.evaluated_correct == alone.evaluated_correct);
        rig_result_free(&other);
        dpr_program_free(&program);
    }
    rig_result_free(&alone);
}

static void slot_counts_do_not_change_results(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t usual;
    generate(&(test_case_t){"dualpipev", 4, 9}, &program);
    rig_config_default(&config, &program);
    run_checked(&config, &usual);
    static const dpr_graph_options_t options[] = {
        {.recv_ahead = 0, .send_slots = 1}, {.recv_ahead = 1}, {.recv_ahead = 7, .send_slots = 5}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        rig_result_t other;
        config.graph = options[i];
        run_checked(&config, &other);
        assert_true(usual.parameters_hash == other.parameters_hash);
        rig_result_free(&other);
    }
    rig_result_free(&usual);
    dpr_program_free(&program);
}

static void unequal_stages_work(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t pipelined, reference;
    generate(&(test_case_t){"dualpipe", 4, 8}, &program);
    rig_config_default(&config, &program);
    config.model.blocks = 7; /* stages of 1, 2, 2 and 2 blocks */
    run_checked(&config, &pipelined);
    rig_run_reference(&config, &reference);
    const double difference = rig_gradient_difference(&config, &pipelined, &reference);
    print_message("stages of unequal size: gradients differ by %.2e\n", difference);
    assert_true(difference <= 1e-5);
    assert_true(pipelined.replicas_equal);
    rig_result_free(&pipelined);
    rig_result_free(&reference);
    dpr_program_free(&program);
}

static void too_few_blocks_are_refused_on_every_rank(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    generate(&(test_case_t){"dualpipev", 2, 4}, &program);
    rig_config_default(&config, &program);
    config.model.blocks = 3;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_ERR_INVALID);
    assert_non_null(strstr(result.messages, "block"));
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* "chaos" runs the long test alone, so that it can run beside the others; no argument runs those.
 */
int main(int argc, char **argv)
{
    static const char long_test[] = "chaos_does_not_change_a_bit";
    if (argc > 1 && strcmp(argv[1], "chaos") == 0) {
        cmocka_set_test_filter(long_test);
    } else {
        cmocka_set_skip_filter(long_test);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_steps_agree_with_one_process),
        cmocka_unit_test(two_runs_give_the_same_bits),
        cmocka_unit_test(chaos_does_not_change_a_bit),
        cmocka_unit_test(model_clock_equals_the_simulation),
        cmocka_unit_test(every_schedule_there_is_computes_and_keeps_time),
        cmocka_unit_test(a_wrong_cost_shows_in_the_timeline),
        cmocka_unit_test(an_evaluation_is_the_same_on_any_number_of_ranks),
        cmocka_unit_test(slot_counts_do_not_change_results),
        cmocka_unit_test(unequal_stages_work),
        cmocka_unit_test(too_few_blocks_are_refused_on_every_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
