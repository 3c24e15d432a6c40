/* Costs: what --cost accepts, what a table must hold, and what the mean of a cost array is. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>

#include "base/log.h"
#include "models/costs.h"

static void expect_costs(const char *text, double f, double i, double w, double b, double fb,
                         double wire)
{
    dpr_uniform_costs_t costs;
    assert_int_equal(dpr_uniform_costs_parse(text, &costs), DPR_OK);
    assert_near(costs.f, f);
    assert_near(costs.i, i);
    assert_near(costs.w, w);
    assert_near(dpr_uniform_b(&costs), b);
    assert_near(dpr_uniform_fb(&costs), fb);
    assert_near(costs.wire, wire);
}

static void any_subset_in_any_order_and_case(void **state)
{
    (void)state;
    expect_costs("F=1", 1, 1, 1, 2, 3, 0);
    expect_costs("F=2,I=3,W=4", 2, 3, 4, 7, 9, 0);
    expect_costs("w=4,i=3,f=2,b=5", 2, 3, 4, 5, 7, 0);
    expect_costs("FB=2.5,Wire=1e-3,B=0", 1, 1, 1, 0, 2.5, 1e-3);
    expect_costs("fb=0,WIRE=0.5,f=0", 0, 1, 1, 2, 0, 0.5);
}

static void expect_refused(const char *text, const char *part)
{
    dpr_uniform_costs_t costs = {.f = 42.0};
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_uniform_costs_parse(text, &costs));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(captured, part);
    assert_near(costs.f, 42.0); /* not set on failure */
}

static void what_is_not_a_cost_is_named(void **state)
{
    (void)state;
    expect_refused("", "cost '': expected name=value, names are F, I, W, B, FB and wire");
    expect_refused("F", "cost 'F': expected name=value");
    expect_refused("F=1,", "cost '': expected name=value");
    expect_refused("F=1,X=2", "cost 'X=2': unknown name, expected one of F, I, W, B, FB and wire");
    expect_refused("F=1,f=2", "cost 'f=2': F stands there twice");
    expect_refused("F=-1", "cost 'F=-1': expected a finite number, 0 or more");
    expect_refused("F=nan", "expected a finite number");
    expect_refused("F=inf", "expected a finite number");
    expect_refused("F=1e999", "expected a finite number");
    expect_refused("F=", "expected a finite number");
    expect_refused("F=1x", "cost 'F=1x': expected a finite number");
    expect_refused("F=1 ", "expected a finite number");
    expect_refused("F=1000000000000000000000000000000000000000000000000000000000000000000000000",
                   "expected name=value");
}

/* 0F0 0F1 0B0 0I1 0W1, then 1F0 (1F1;1B0) 1B1 */
static const char every_kind[] = "0F0,0F1,0B0,0I1,0W1\n1F0,(1F1;1B0)OVERLAP_F_B,1B1\n";

static void uniform_costs_go_by_kind(void **state)
{
    (void)state;
    dpr_program_t program = parse_program(every_kind);
    dpr_graph_t *graph = make_graph(&program);
    dpr_uniform_costs_t costs;
    assert_int_equal(dpr_uniform_costs_parse("F=1,B=2,I=3,W=4,FB=5,wire=6", &costs), DPR_OK);
    double cost[12];
    dpr_uniform_costs_fill(&costs, graph, cost);
    static const double expected[12] = {1, 1, 2, 3, 4, 1, 5, 2, 6, 6, 6, 6};
    for (int i = 0; i < 12; i++) {
        assert_near(cost[i], expected[i]);
    }
    dpr_uniform_costs_t mean;
    dpr_uniform_costs_mean(graph, cost, &mean);
    assert_memory_equal(&mean, &costs, sizeof mean);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void means_are_per_kind_and_what_does_not_occur_is_derived(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,0B0\n1F0,1B0\n");
    dpr_graph_t *graph = make_graph(&program);
    const double whole[] = {1.0, 4.0, 3.0, 6.0, 0.5, 1.5};
    dpr_uniform_costs_t mean;
    dpr_uniform_costs_mean(graph, whole, &mean);
    assert_near(mean.f, 2.0);
    assert_near(mean.b, 5.0);
    assert_near(mean.i, 2.5);
    assert_near(mean.w, 2.5);
    assert_near(mean.fb, 7.0);
    assert_near(mean.wire, 1.0);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);

    program = parse_program("0F0,0I0,0W0\n");
    graph = make_graph(&program);
    const double split[] = {1.0, 2.0, 4.0};
    dpr_uniform_costs_mean(graph, split, &mean);
    assert_near(mean.i, 2.0);
    assert_near(mean.w, 4.0);
    assert_near(mean.b, 6.0);
    assert_near(mean.fb, 7.0);
    assert_near(mean.wire, 0.0);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static double *compute_cost(dpr_cost_table_t *table, int rank, int stage)
{
    return &table->compute[(rank * table->stages + stage) * 4];
}

/* F, B, I, W of (rank, stage): 10, 20, 30, 40 plus the rank; the link from 0 to 1 and back. */
static void fill_table(dpr_cost_table_t *table)
{
    assert_int_equal(dpr_cost_table_init(table, 2, 2), DPR_OK);
    for (int rank = 0; rank < 2; rank++) {
        for (int kind = 0; kind < 4; kind++) {
            compute_cost(table, rank, rank)[kind] = 10.0 * (kind + 1) + rank;
        }
    }
    table->fb[(1 * 2 + 1) * 2 + 1] = 99.0;
    table->latency_sec[0 * 2 + 1] = 0.5;
    table->bandwidth_bytes_per_sec[0 * 2 + 1] = 100.0;
    table->latency_sec[1 * 2 + 0] = 0.25;
    table->bandwidth_bytes_per_sec[1 * 2 + 0] = INFINITY;
}

static void a_table_goes_by_rank_stage_and_link(void **state)
{
    (void)state;
    dpr_program_t program = parse_program(every_kind);
    dpr_graph_t *graph = make_graph(&program);
    dpr_cost_table_t table;
    fill_table(&table);
    double cost[12];
    assert_int_equal(dpr_cost_table_fill(&table, graph, 50, cost), DPR_OK);
    static const double expected[12] = {10, 10, 20, 30, 40, 11, 99, 21, 1.0, 1.0, 0.25, 0.25};
    for (int i = 0; i < 12; i++) {
        assert_near(cost[i], expected[i]);
    }
    /* B and FB follow from their parts where they were not measured */
    compute_cost(&table, 0, 0)[1] = NAN;
    table.fb[(1 * 2 + 1) * 2 + 1] = NAN;
    assert_int_equal(dpr_cost_table_fill(&table, graph, 50, cost), DPR_OK);
    assert_near(cost[2], 70.0);
    assert_near(cost[6], 32.0);
    free(table.fb);
    table.fb = NULL;
    assert_int_equal(dpr_cost_table_fill(&table, graph, 50, cost), DPR_OK);
    assert_near(cost[6], 32.0);
    dpr_cost_table_free(&table);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void expect_missing(const dpr_graph_t *graph, const dpr_cost_table_t *table,
                           const char *message)
{
    double cost[12];
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_cost_table_fill(table, graph, 50, cost));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_string_equal(captured, message);
}

static void what_a_table_lacks_is_named(void **state)
{
    (void)state;
    dpr_program_t program = parse_program(every_kind);
    dpr_graph_t *graph = make_graph(&program);
    dpr_cost_table_t table;
    fill_table(&table);
    compute_cost(&table, 0, 0)[0] = NAN;
    expect_missing(graph, &table,
                   "rank 0, stage 0: the cost table has no F, which the program needs");
    dpr_cost_table_free(&table);

    fill_table(&table);
    compute_cost(&table, 0, 0)[3] = NAN;
    expect_missing(graph, &table,
                   "rank 0, stage 0: the cost table has no W, which the program needs");
    compute_cost(&table, 0, 0)[1] = NAN;
    expect_missing(graph, &table,
                   "rank 0, stage 0: the cost table has no B, which the program needs");
    dpr_cost_table_free(&table);

    fill_table(&table);
    table.fb[(1 * 2 + 1) * 2 + 1] = NAN;
    compute_cost(&table, 1, 1)[1] = NAN;
    compute_cost(&table, 1, 1)[2] = NAN;
    expect_missing(graph, &table,
                   "rank 1: the cost table has no FB of stages 1 and 1, nor the F and B to sum, "
                   "which the program needs");
    dpr_cost_table_free(&table);

    fill_table(&table);
    table.latency_sec[1] = NAN;
    expect_missing(graph, &table,
                   "the cost table has no latency and bandwidth from rank 0 to rank 1, which the "
                   "program needs");
    dpr_cost_table_free(&table);

    assert_int_equal(dpr_cost_table_init(&table, 3, 2), DPR_OK);
    expect_missing(graph, &table,
                   "the cost table is of 3 ranks and 2 stages, the program of 2 and 2");
    dpr_cost_table_free(&table);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_subset_in_any_order_and_case),
        cmocka_unit_test(what_is_not_a_cost_is_named),
        cmocka_unit_test(uniform_costs_go_by_kind),
        cmocka_unit_test(means_are_per_kind_and_what_does_not_occur_is_derived),
        cmocka_unit_test(a_table_goes_by_rank_stage_and_link),
        cmocka_unit_test(what_a_table_lacks_is_named),
    };
    return cmocka_run_group_tests_name("costs", tests, NULL, NULL);
}
