/*
 * The families beyond one-way and DualPipe: as drawn, free of deadlock, as idle and as frugal as
 * their generators' headers say. Costs are integers or halves, so simulated times are exact.
 */
#include "tests/schedule/schedule_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/costs.h"
#include "models/simulate.h"
#include "schedule/csv.h"

/* What a program costs. A rank's own pause: from its first start to its last end, less busy time.
 */
typedef struct measured {
    double bubble; /* of every rank, over the span of all */
    double longest_pause;
    int least_peak; /* saved sets of one stage */
    int most_peak;
} measured_t;

static double own_pause(const dpr_timeline_t *timeline, const dpr_timeline_summary_t *summary,
                        int rank)
{
    const int32_t *begin = timeline->graph->rank_begin;
    return timeline->end[begin[rank + 1] - 1] - timeline->start[begin[rank]] -
           summary->busy_sec[rank];
}

static measured_t measure(const char *schedule, int ranks, int micro_batches,
                          dpr_uniform_costs_t costs)
{
    dpr_program_t program = make_program(schedule, ranks, micro_batches);
    dpr_graph_t *graph = make_graph(&program);
    double *cost = calloc((size_t)graph->node_count, sizeof *cost);
    assert_non_null(cost);
    dpr_uniform_costs_fill(&costs, graph, cost);
    dpr_timeline_t timeline;
    dpr_timeline_summary_t summary;
    assert_int_equal(dpr_timeline_init(&timeline, graph), DPR_OK);
    dpr_simulate(graph, cost, &timeline);
    assert_int_equal(dpr_timeline_summarize(&timeline, &summary), DPR_OK);
    measured_t found = {.bubble = summary.bubble_sec[0], .least_peak = INT32_MAX};
    for (int r = 0; r < ranks; r++) {
        assert_true(summary.bubble_sec[r] == found.bubble); /* all run the same set of actions */
        const double pause = own_pause(&timeline, &summary, r);
        const int peak = dpr_graph_peak_activations(graph, r);
        found.longest_pause = pause > found.longest_pause ? pause : found.longest_pause;
        found.least_peak = peak < found.least_peak ? peak : found.least_peak;
        found.most_peak = peak > found.most_peak ? peak : found.most_peak;
    }
    dpr_timeline_summary_free(&summary);
    dpr_timeline_free(&timeline);
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    return found;
}

static const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;

static dpr_uniform_costs_t split_costs(double f, double i, double w)
{
    return (dpr_uniform_costs_t){.f = f, .i = i, .w = w, .b = -1.0, .fb = -1.0, .wire = 0.0};
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static double max_double(double a, double b)
{
    return a > b ? a : b;
}

static void expect_program(const char *schedule, int ranks, int micro_batches, const char *text)
{
    dpr_program_t program = make_program(schedule, ranks, micro_batches);
    dpr_program_t expected = parse_program(text);
    assert_true(dpr_program_equal(&program, &expected));
    dpr_program_free(&program);
    dpr_program_free(&expected);
}

static void small_programs_are_as_drawn(void **state)
{
    (void)state;
    expect_program("interleaved-1f1b", 2, 4,
                   "0F0,0F1,2F0,2F1,0F2,2B0,0F3,2B1,2F2,0B0,2F3,0B1,2B2,2B3,0B2,0B3\n"
                   "1F0,1F1,3F0,3B0,3F1,3B1,1F2,1B0,1F3,1B1,3F2,3B2,3F3,3B3,1B2,1B3\n");
    expect_program("zb2p", 2, 4,
                   "0F0,0F1,0F2,0I0,0W0,0F3,0I1,0W1,0I2,0W2,0I3,0W3\n"
                   "1F0,1I0,1F1,1I1,1F2,1I2,1W0,1F3,1I3,1W1,1W2,1W3\n");
    expect_program("zbv", 2, 4,
                   "0F0,0F1,0F2,3F0,3I0,3W0,3F1,3I1,3W1,0F3,0I0,0W0,3F2,3I2,3W2,0I1,0W1,3F3,3I3,"
                   "3W3,0I2,0W2,0I3,0W3\n"
                   "1F0,2F0,1F1,2F1,2I0,2W0,1F2,1I0,1W0,2F2,2I1,2W1,1F3,1I1,1W1,2F3,2I2,2W2,1I2,"
                   "2I3,1I3,1W2,2W3,1W3\n");
    expect_program("v-half", 3, 3,
                   "0F0,0F1,5F0,5I0,5W0,0F2,5F1,5I1,0I0,5W1,0W0,5F2,5I2,0I1,5W2,0W1,0I2,0W2\n"
                   "1F0,4F0,1F1,4I0,4F1,4W0,1F2,1I0,4I1,1W0,4F2,4W1,1I1,4I2,1W1,4W2,1I2,1W2\n"
                   "2F0,3F0,2F1,3F1,3I0,2I0,3W0,2W0,2F2,3F2,3I1,2I1,3W1,2W1,3I2,2I2,3W2,2W2\n");
    expect_program("v-min", 3, 3,
                   "0F0,0F1,5F0,5I0,5W0,0F2,5F1,5I1,0I0,5W1,0W0,5F2,5I2,0I1,5W2,0W1,0I2,0W2\n"
                   "1F0,4F0,1F1,4I0,4W0,4F1,1F2,1I0,4I1,4W1,1W0,4F2,1I1,4I2,4W2,1W1,1I2,1W2\n"
                   "2F0,3F0,2F1,3I0,3F1,3W0,2I0,2F2,2W0,3I1,3F2,3W1,2I1,2W1,3I2,3W2,2I2,2W2\n");
    /* the example on four ranks of Li and Hoefler 2021 */
    expect_program("chimera", 4, 4,
                   "0F0,0F1,3F2,3B2,3F3,3B3,0B0,0B1\n1F0,2F2,1F1,2F3,2B2,1B0,2B3,1B1\n"
                   "1F2,2F0,1F3,2F1,2B0,1B2,2B1,1B3\n0F2,0F3,3F0,3B0,3F1,3B1,0B2,0B3\n");
}

static void expect_stages_on(const dpr_program_t *program, int rank, int count, const int *stages)
{
    int32_t holders[2 * 64];
    assert_true(program->stages <= 64);
    assert_int_equal(dpr_program_holders(program, holders), DPR_OK);
    int held = 0;
    for (int s = 0; s < program->stages; s++) {
        held += holders[2 * s] == rank || holders[2 * s + 1] == rank ? 1 : 0;
    }
    assert_int_equal(held, count);
    for (int i = 0; i < count; i++) {
        assert_true(holders[2 * stages[i]] == rank || holders[2 * stages[i] + 1] == rank);
    }
}

static void stages_are_placed_as_each_family_says(void **state)
{
    (void)state;
    static const char *const folded[] = {"zbv", "v-half", "v-min", "dualpipev"};
    for (int r = 0; r < 4; r++) {
        dpr_program_t program = make_program("interleaved-1f1b:3", 4, 8);
        expect_stages_on(&program, r, 3, (const int[]){r, 4 + r, 8 + r});
        dpr_program_free(&program);
        program = make_program("chimera", 4, 8);
        expect_stages_on(&program, r, 2, (const int[]){r, 3 - r});
        dpr_program_free(&program);
        program = make_program("zb2p", 4, 8);
        expect_stages_on(&program, r, 1, &r);
        dpr_program_free(&program);
        for (size_t i = 0; i < sizeof folded / sizeof folded[0]; i++) {
            program = make_program(folded[i], 4, 8);
            expect_stages_on(&program, r, 2, (const int[]){r, 7 - r});
            dpr_program_free(&program);
        }
    }
}

/* Up to 16 ranks tests/schedule/generators_test.c tries every M. */
static void many_ranks_are_free_of_deadlock_and_survive_the_round_trip(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int P = 17; P <= 32; P++) {
            const int sizes[] = {1, 2, P - 1, P, P + 1, 2 * P - 1, 2 * P, 2 * P + 2, 3 * P};
            for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
                if (!schedules[i].allows(P, sizes[j])) {
                    continue;
                }
                dpr_program_t program = make_program(schedules[i].name, P, sizes[j]);
                assert_int_equal(dpr_program_check(&program), DPR_OK);
                dpr_graph_destroy(make_graph(&program));
                char *text = NULL;
                size_t length;
                FILE *out = open_memstream(&text, &length);
                assert_non_null(out);
                assert_int_equal(dpr_csv_write(&program, out), DPR_OK);
                fclose(out);
                dpr_program_t again;
                assert_int_equal(dpr_csv_parse(text, length, "again", &again), DPR_OK);
                assert_true(dpr_program_equal(&program, &again));
                free(text);
                dpr_program_free(&again);
                dpr_program_free(&program);
            }
        }
    }
}

static void interleaving_divides_the_bubble_by_v(void **state)
{
    (void)state;
    for (int P = 1; P <= 12; P++) {
        for (int v = 1; v <= 4; v++) {
            for (int M = P; M <= 3 * P; M += P) {
                char name[32];
                snprintf(name, sizeof name, "interleaved-1f1b:%d", v);
                /* of one stage; of a rank's v stages together F = vf, B = v(i + w) */
                for (int f = 1; f <= 3; f++) {
                    const measured_t found = measure(name, P, M, split_costs(f, 1.0, 1.0));
                    const double F = v * f;
                    const double B = v * 2.0;
                    assert_true(found.bubble * v == (P - 1) * (F + B));
                }
                const measured_t found = measure(name, P, M, unit);
                if (v > 1) {
                    assert_int_equal(found.most_peak,
                                     min_int(2 * (P - 1) + (v - 1) * P + 1, v * M));
                    assert_int_equal(found.least_peak, min_int((v - 1) * P + 1, v * M));
                }
            }
        }
    }
}

static void interleaving_of_one_stage_is_1f1b(void **state)
{
    (void)state;
    for (int P = 1; P <= 8; P++) {
        dpr_program_t one = make_program("interleaved-1f1b:1", P, 2 * P);
        dpr_program_t plain = make_program("1f1b", P, 2 * P);
        assert_true(dpr_program_equal(&one, &plain));
        dpr_program_free(&one);
        dpr_program_free(&plain);
    }
}

static void the_number_of_stages_is_part_of_the_name(void **state)
{
    (void)state;
    dpr_program_t program = make_program("interleaved-1f1b:3", 4, 8);
    assert_string_equal(program.name, "interleaved-1f1b:3");
    assert_int_equal(program.stages, 12);
    dpr_program_free(&program);
    program = make_program("interleaved-1f1b:2", 4, 8);
    dpr_program_t plain = make_program("interleaved-1f1b", 4, 8);
    assert_string_equal(program.name, plain.name);
    assert_true(dpr_program_equal(&program, &plain));
    dpr_program_free(&program);
    dpr_program_free(&plain);
    assert_ptr_equal(dpr_schedule_find("interleaved-1f1b:7"),
                     dpr_schedule_find("interleaved-1f1b"));
    assert_int_equal(dpr_schedule_stages_per_rank("interleaved-1f1b:7"), 7);
    assert_int_equal(dpr_schedule_stages_per_rank("interleaved-1f1b"), 2);
    assert_int_equal(dpr_schedule_stages_per_rank("dualpipev"), 2);
    assert_int_equal(dpr_schedule_stages_per_rank("zb2p"), 1);
}

static void a_wrong_number_of_stages_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int ranks;
        const char *message;
    } cases[] = {
        {"interleaved-1f1b:0", 4, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:", 4, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:-1", 4, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:2x", 4, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:8193", 1, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:99999999999999999999", 4, "expected 1 to 8192 stages per rank"},
        {"interleaved-1f1b:4097", 2, "at most 8192 stages"},
        {"zb2p:2", 4, "unknown schedule 'zb2p:2'"},
        {":2", 4, "unknown schedule ':2'"},
        {"interleaved-1f1b:2", 5, "M a multiple of P; nearest: 5 or 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dpr_program_t program;
        char captured[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, captured,
                dpr_schedule_generate(cases[i].name, cases[i].ranks, 8, &program));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_contains(captured, cases[i].message);
        if (i < 6) {
            assert_null(dpr_schedule_find(cases[i].name));
        }
    }
}

static void zb2p_never_waits_where_all_costs_are_equal(void **state)
{
    (void)state;
    for (int P = 1; P <= 32; P += P < 16 ? 1 : 8) {
        for (int M = 1; M <= 3 * P; M++) {
            const measured_t found = measure("zb2p", P, M, unit);
            const bool is_steady = M >= 2 * P - 1;
            assert_true((found.longest_pause == 0.0) == is_steady);
            assert_true(!is_steady || found.bubble == P - 1.0);
            assert_int_equal(found.least_peak, min_int(2 * P - 1, M));
            assert_int_equal(found.most_peak, min_int(2 * P - 1, M));
        }
    }
}

static void zb2p_waits_as_its_paper_says(void **state)
{
    (void)state;
    /* W <= F and W <= I */
    static const double costs[][3] = {
        {1, 1.25, 0.75}, {1, 1, 0.5},   {2, 1, 1},   {1, 2, 1}, {2, 3, 1},       {1, 1, 0},
        {0.5, 2, 0.25},  {1, 0.5, 0.5}, {3, 1, 0.5}, {3, 3, 2}, {1.5, 1.5, 1.5}, {2, 1.5, 1.25}};
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        const double F = costs[i][0], I = costs[i][1], W = costs[i][2];
        for (int P = 1; P <= 12; P++) {
            for (int M = 2 * P - 1; M <= 3 * P + 1; M++) {
                const measured_t found = measure("zb2p", P, M, split_costs(F, I, W));
                assert_true(found.longest_pause == (P - 1) * max_double(0, F + I - 2 * W));
                assert_true(found.bubble == (P - 1) * (F + max_double(0, I - 2 * W)));
            }
        }
    }
}

static void zbv_never_waits_where_all_costs_are_equal(void **state)
{
    (void)state;
    for (int P = 1; P <= 32; P += P < 16 ? 1 : 8) {
        for (int M = 1; M <= 3 * P; M++) {
            const measured_t found = measure("zbv", P, M, unit);
            const bool is_steady = M >= 2 * P - 1;
            assert_true((found.longest_pause == 0.0) == is_steady);
            assert_true(!is_steady || found.bubble == P - 1.0);
            assert_true(found.most_peak == min_int(2 * P, 2 * M));
            assert_true(!is_steady || found.least_peak == 2 * P);
        }
    }
}

/* Whatever M, no rank holds more than `limit`; from M = 2P on the most loaded one holds as many. */
static void expect_limit(const char *schedule, int P, int limit)
{
    for (int M = 1; M <= 2 * P + 3; M += P > 16 && M > 1 && M < 2 * P ? P / 2 : 1) {
        const measured_t found = measure(schedule, P, M, unit);
        assert_true(found.most_peak <= limit);
        assert_true(M < 2 * P || found.most_peak == limit);
    }
}

static void v_half_holds_half_of_1f1b(void **state)
{
    (void)state;
    for (int P = 1; P <= 32; P++) {
        expect_limit("v-half", P, 2 * ((P + 2) / 2));
    }
}

static void v_min_holds_a_third_of_1f1b(void **state)
{
    (void)state;
    for (int P = 1; P <= 32; P++) {
        expect_limit("v-min", P, 2 * ((P + 4) / 3));
    }
}

/* The costs of a stage are 1, so bubbles are in units of one stage's F. 1f1b has 6 (P - 1). */
static void controllable_schedules_wait_as_promised(void **state)
{
    (void)state;
    for (int P = 2; P <= 24; P++) {
        for (int M = 1; M <= 4 * P; M += P > 8 ? P / 2 : 1) {
            const double v_half = measure("v-half", P, M, unit).bubble;
            assert_true(M < P || v_half == 3 * P - (P % 2 == 0 ? 3 : 4));
            assert_true(measure("v-min", P, M, unit).bubble == 4 * P - (P % 3 == 0 ? 4 : 5));
        }
    }
    assert_true(measure("v-half", 1, 4, unit).bubble == 0.0);
    assert_true(measure("v-min", 1, 4, unit).bubble == 0.0);
}

/* What one more micro-batch adds to the bubble of the steady state. */
static double growth(const char *schedule, int P, dpr_uniform_costs_t costs)
{
    return (measure(schedule, P, 8 * P, costs).bubble - measure(schedule, P, 6 * P, costs).bubble) /
           (2 * P);
}

static void controllable_schedules_wait_in_the_steady_state_only_as_promised(void **state)
{
    (void)state;
    static const double all[] = {0.5, 1, 1.5, 2.5};
    for (int i = 0; i < 64; i++) {
        const double F = all[i % 4], I = all[i / 4 % 4], W = all[i / 16];
        const double busy = 2 * (F + I + W);
        for (int P = 4; P <= 8; P += P == 4 ? 1 : 3) { /* 4, 5, 8 */
            const double waits = max_double(busy, 6 * max_double(F, I)) - busy;
            assert_true(growth("v-min", P, split_costs(F, I, W)) == waits);
            const bool is_balanced = W + 2 * I >= 2 * F && W + 2 * F >= 2 * I;
            assert_true(!is_balanced || growth("v-half", P, split_costs(F, I, W)) == 0.0);
        }
    }
}

/* Each unit of P micro-batches after the first adds a hole as long as F and B differ. */
static void chimera_pays_for_the_difference_of_f_and_b(void **state)
{
    (void)state;
    static const double costs[][2] = {{1, 1}, {1, 2}, {2, 1}, {1, 1.5}, {1, 3}};
    for (int P = 2; P <= 16; P += 2) {
        for (int units = 1; units <= 4; units++) {
            for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
                const double F = costs[i][0], B = costs[i][1];
                const double longer = max_double(F, B);
                const double difference = max_double(F - B, B - F);
                const measured_t found =
                    measure("chimera", P, units * P, split_costs(F, B - 0.5, 0.5));
                assert_true(found.bubble == (P - 2) * (longer + (units - 1) * difference));
                assert_int_equal(found.least_peak, P / 2 + 1);
                assert_int_equal(found.most_peak, P);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_programs_are_as_drawn),
        cmocka_unit_test(stages_are_placed_as_each_family_says),
        cmocka_unit_test(many_ranks_are_free_of_deadlock_and_survive_the_round_trip),
        cmocka_unit_test(interleaving_divides_the_bubble_by_v),
        cmocka_unit_test(interleaving_of_one_stage_is_1f1b),
        cmocka_unit_test(the_number_of_stages_is_part_of_the_name),
        cmocka_unit_test(a_wrong_number_of_stages_is_refused),
        cmocka_unit_test(zb2p_never_waits_where_all_costs_are_equal),
        cmocka_unit_test(zb2p_waits_as_its_paper_says),
        cmocka_unit_test(zbv_never_waits_where_all_costs_are_equal),
        cmocka_unit_test(v_half_holds_half_of_1f1b),
        cmocka_unit_test(v_min_holds_a_third_of_1f1b),
        cmocka_unit_test(controllable_schedules_wait_as_promised),
        cmocka_unit_test(controllable_schedules_wait_in_the_steady_state_only_as_promised),
        cmocka_unit_test(chimera_pays_for_the_difference_of_f_and_b),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
