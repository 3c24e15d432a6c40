/* The scheduler's requests: cost tables, and what is refused. */
#include "auto_testing.h"

#include <string.h>

#include "base/log.h"
#include "models/compare.h"

/* ---- Cost tables ---- */

/* A table that says what the uniform costs say of the placement's own stages. */
static void fill_table(dpr_cost_table_t *table, const dpr_uniform_costs_t *costs)
{
    const double row[] = {costs->f, NAN, costs->i, costs->w};
    const int P = table->ranks;
    for (int i = 0; i < P * table->stages; i++) {
        memcpy(&table->compute[4 * i], row, sizeof row);
    }
    for (int i = 0; i < P * P; i++) {
        table->latency_sec[i] = costs->wire / 2.0;
        table->bandwidth_bytes_per_sec[i] = 2.0 * 1000.0 / costs->wire;
    }
}

static void a_table_of_equal_costs_is_the_uniform_ones(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, 8);
    set_costs(&request, triples[2], 0.125);
    dpr_program_t program;
    const dpr_auto_report_t uniform = run(&request, &program);
    dpr_program_free(&program);
    dpr_cost_table_t table;
    assert_int_equal(dpr_cost_table_init(&table, 4, 8), DPR_OK);
    const dpr_uniform_costs_t own = dpr_costs_of_cut(&request.costs, 4, 8);
    fill_table(&table, &own);
    request.table = &table;
    request.message_bytes = 1000;
    const dpr_auto_report_t tabled = run(&request, &program);
    assert_near(tabled.lower_bound_sec, uniform.lower_bound_sec);
    assert_near(tabled.list_sec, uniform.list_sec);
    assert_false(rival_of(&tabled, "dualpipe")->runs); /* another placement: the table knows not */
    assert_true(rival_of(&tabled, "zbv")->runs);
    dpr_program_free(&program);
    /* any: the table is of V's stages alone, and its limit counts whole ones */
    request.placement = DPR_AUTO_ANY;
    request.activations = 5;
    const dpr_auto_report_t any = run(&request, &program);
    assert_near(any.makespan_sec, tabled.makespan_sec);
    assert_int_equal(any.activations, 10);
    assert_string_equal(any.placement, "v");
    assert_false(rival_of(&any, "dualpipe")->runs);
    dpr_program_free(&program);
    dpr_cost_table_free(&table);
}

static void a_slow_stage_is_planned_for(void **state)
{
    (void)state;
    dpr_cost_table_t table;
    assert_int_equal(dpr_cost_table_init(&table, 4, 4), DPR_OK);
    const dpr_uniform_costs_t costs = {1.0, 1.2, 0.8, -1.0, -1.0, 0.125};
    fill_table(&table, &costs);
    table.compute[(1 * 4 + 1) * 4] = 1.5; /* F of stage 1 */
    dpr_auto_request_t request = request_of(DPR_AUTO_ONE_TO_ONE, 4, 8);
    request.table = &table;
    request.message_bytes = 1000;
    dpr_program_t program;
    const dpr_auto_report_t report = run(&request, &program);
    /* rank 1: F of stage 0 and a wire before its work of 8 x 3.5 */
    assert_true(report.lower_bound_sec >= 1.125 + 8 * 3.5 - 1e-9);
    dpr_program_free(&program);
    /* any: both placements of four stages; without F of stage 3 on rank 0 not from both ends */
    request.placement = DPR_AUTO_ANY;
    run(&request, &program);
    dpr_program_free(&program);
    table.compute[(0 * 4 + 3) * 4] = NAN;
    const dpr_auto_report_t any = run(&request, &program);
    assert_string_equal(any.placement, "one-to-one");
    assert_false(rival_of(&any, "dualpipe")->runs);
    dpr_program_free(&program);
    table.compute[(2 * 4 + 2) * 4 + 3] = NAN; /* W of stage 2 */
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_auto_schedule(&request, &program, NULL));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "rank 2, stage 2");
    assert_contains(text, "W");
    dpr_cost_table_free(&table);
}

/* Fused ops that cost less than their parts help the fixed schedules; the bound must know. */
static void cheap_fused_ops_stay_above_the_bound(void **state)
{
    (void)state;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 8);
        request.costs.b = 1.2;
        request.costs.fb = 1.5;
        dpr_program_t program;
        const dpr_auto_report_t report = run(&request, &program);
        assert_string_equal(report.rivals[report.best_fixed].name, report.fixed);
        dpr_program_free(&program);
    }
}

/* ---- What is refused ---- */

static void expect_refusal(const dpr_auto_request_t *request, const char *part)
{
    dpr_program_t program;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_auto_schedule(request, &program, NULL));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, part);
}

static void impossible_limits_are_refused_with_the_least(void **state)
{
    (void)state;
    static const int32_t limits[] = {4, 1, 4, 4};
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, 8);
    request.activations = 1;
    expect_refusal(&request, "placement v needs at least 2");
    request.rank_activations = limits;
    expect_refusal(&request, "rank 1: a limit of 1");
    request = request_of(DPR_AUTO_ONE_TO_ONE, 4, 8);
    request.activations = -1;
    expect_refusal(&request, "placement one-to-one needs at least 1");
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 0, 8);
    expect_refusal(&request, "0 ranks: expected 1 to 256");
    request = request_of(DPR_AUTO_V, 257, 8);
    expect_refusal(&request, "257 ranks");
    request = request_of(DPR_AUTO_V, 4, 0);
    expect_refusal(&request, "0 micro-batches");
    request = request_of(DPR_AUTO_V, 256, 513);
    expect_refusal(&request, "at most 512 micro-batches");
    request = request_of(DPR_AUTO_ANY, 256, 1025);
    expect_refusal(&request, "at most 1024 micro-batches");
    request = request_of(DPR_AUTO_ANY, 4, 8);
    request.activations = -1;
    expect_refusal(&request, "placement one-to-one needs at least 1");
    request = request_of(DPR_AUTO_ANY, 0, 8);
    expect_refusal(&request, "0 ranks: expected 1 to 256");
    request = request_of((dpr_auto_placement_t)7, 4, 8);
    expect_refusal(&request, "unknown placement 7");
    request = request_of(DPR_AUTO_BIDIRECTIONAL, 3, 8);
    expect_refusal(&request, "both must be even");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.costs.w = NAN;
    expect_refusal(&request, "a cost is nan");
    request.costs.w = 1e300;
    expect_refusal(&request, "expected at most 1e300");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.budget_sec = -1.0;
    expect_refusal(&request, "a budget of -1 seconds");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.iterations = -5;
    expect_refusal(&request, "-5 iterations");
}

static void edges_are_planned(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 5}, {2, 1}, {3, 2}, {5, 7}, {6, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int p = 0; p < DPR_AUTO_BIDIRECTIONAL; p++) {
            dpr_auto_request_t request =
                request_of((dpr_auto_placement_t)p, sizes[i][0], sizes[i][1]);
            request.iterations = 500;
            dpr_program_t program;
            run(&request, &program);
            dpr_program_free(&program);
            set_costs(&request, (const double[3]){0.0, 0.0, 0.0}, 0.0);
            const dpr_auto_report_t report = run(&request, &program);
            assert_true(report.makespan_sec == 0.0 && report.lower_bound_sec == 0.0);
            dpr_program_free(&program);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_of_equal_costs_is_the_uniform_ones),
        cmocka_unit_test(a_slow_stage_is_planned_for),
        cmocka_unit_test(cheap_fused_ops_stay_above_the_bound),
        cmocka_unit_test(impossible_limits_are_refused_with_the_least),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(edges_are_planned),
    };
    return cmocka_run_group_tests_name("auto requests", tests, NULL, NULL);
}
