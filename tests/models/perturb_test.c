/* Stragglers and jitter as passes over the costs. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "models/perturb.h"
#include "models/simulate.h"
#include "tests/models/extremes.h"

static double *make_costs(const dpr_graph_t *graph)
{
    const dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    double *cost;
    assert_int_equal(dpr_calloc((size_t)graph->node_count * 2, sizeof *cost, &cost), DPR_OK);
    dpr_uniform_costs_fill(&costs, graph, cost);
    return cost;
}

static void stragglers_are_parsed(void **state)
{
    (void)state;
    double factor[4] = {0};
    assert_int_equal(dpr_straggler_parse("3=1.5,0=0.25", 4, factor), DPR_OK);
    const double expected[4] = {0.25, 0.0, 0.0, 1.5};
    assert_memory_equal(factor, expected, sizeof expected);
}

static void bad_stragglers_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",         "3",        "3=",      "=2",    "x=2",
        "3=x",      "3=1.5x",   "4=2",     "-1=2",  "3=0",
        "3=-1",     "3=nan",    "3=inf",   "3=1e4", "3=1,",
        "3 =2",     "+1=2",     "3=2;1=2", " 1=2",  "99999999999999999999=2",
        "3=0.0009", "3=1000.1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        double factor[4] = {0};
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message, dpr_straggler_parse(texts[i], 4, factor));
        if (status != DPR_ERR_INVALID) {
            print_error("accepted '%s'\n", texts[i]);
            fail();
        }
        assert_contains(message, "expected");
    }
    double factor[4] = {0};
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_straggler_parse("1=2,4=2", 4, factor));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "straggler '4=2': expected a rank from 0 to 3");
    /* 1=2 is kept from before, so the rank is named again */
    CAPTURE(status, message, dpr_straggler_parse("1=1", 4, factor));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "rank 1 has a factor already");
}

/* gpipe: each phase lasts the sum of the stages and M - 1 times the slowest. */
static void a_straggler_sets_the_pace_of_its_pipeline(void **state)
{
    (void)state;
    enum { P = 4, M = 8 };
    for (int slow = 0; slow < P; slow++) {
        dpr_program_t program = make_program("gpipe", P, M);
        dpr_graph_t *graph = make_graph(&program);
        double *cost = make_costs(graph);
        double factor[P] = {1.0, 1.0, 1.0, 1.0};
        factor[slow] = 2.0;
        dpr_perturb_stragglers(graph, factor, cost);
        const double span = dpr_simulate_makespan(graph, cost, cost + graph->node_count);
        assert_close(span, (P + 1) * (1.0 + 2.0) + (M - 1) * 2.0 * (1.0 + 2.0));
        free(cost);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
}

static void a_straggler_leaves_other_ranks_and_transfers_alone(void **state)
{
    (void)state;
    dpr_program_t program = make_program("dualpipe", 4, 8);
    dpr_graph_t *graph = make_graph(&program);
    double *cost = make_costs(graph);
    for (int32_t n = 0; n < graph->node_count; n++) {
        cost[n] = 1.0 + n;
    }
    const double factor[4] = {1.0, 3.0, 1.0, 1.0};
    dpr_perturb_stragglers(graph, factor, cost);
    for (int32_t n = 0; n < graph->node_count; n++) {
        const bool slow = n < graph->compute_count && graph->nodes[n].rank == 1;
        assert_close(cost[n], (1.0 + n) * (slow ? 3.0 : 1.0));
    }
    const double kinds[DPR_NODE_KINDS] = {[DPR_NODE_W] = 2.0, [DPR_NODE_SEND_GRAD] = 5.0};
    for (int32_t n = 0; n < graph->node_count; n++) {
        cost[n] = 1.0;
    }
    dpr_perturb_kinds(graph, kinds, cost);
    for (int32_t n = 0; n < graph->node_count; n++) {
        assert_close(cost[n], kinds[graph->nodes[n].kind]);
    }
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void no_jitter_changes_nothing(void **state)
{
    (void)state;
    dpr_program_t program = make_program("1f1b", 3, 5);
    dpr_graph_t *graph = make_graph(&program);
    double *cost = make_costs(graph);
    double *perturbed = cost + graph->node_count;
    dpr_perturb_jitter(graph, 0.0, 7, 3, cost, perturbed);
    assert_memory_equal(cost, perturbed, (size_t)graph->node_count * sizeof *cost);
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

/* The factor's mean is 1 and its standard deviation the variation, within 5 standard errors. */
static void jitter_has_the_mean_and_variation_that_were_asked_for(void **state)
{
    (void)state;
    dpr_program_t program = make_program("1f1b", 4, 16);
    dpr_graph_t *graph = make_graph(&program);
    const int32_t nodes = graph->node_count;
    double *cost = make_costs(graph);
    const double variations[] = {0.05, 0.3, 0.8};
    for (size_t v = 0; v < sizeof variations / sizeof variations[0]; v++) {
        double sum = 0.0;
        double squares = 0.0;
        enum { DRAWS = 400 };
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            for (int32_t n = 0; n < nodes; n++) {
                cost[n] = 2.0;
            }
            dpr_perturb_jitter(graph, variations[v], 11, draw, cost, cost); /* in place */
            for (int32_t n = 0; n < nodes; n++) {
                sum += cost[n] / 2.0;
                squares += cost[n] / 2.0 * cost[n] / 2.0;
            }
        }
        const double count = (double)nodes * DRAWS;
        const double mean = sum / count;
        const double deviation = sqrt(squares / count - mean * mean);
        assert_true(fabs(mean - 1.0) < 5.0 * variations[v] / sqrt(count));
        assert_true(fabs(deviation / variations[v] - 1.0) < 0.05);
    }
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void draws_seeds_and_nodes_are_independent(void **state)
{
    (void)state;
    dpr_program_t program = make_program("1f1b", 2, 4);
    dpr_graph_t *graph = make_graph(&program);
    const int32_t nodes = graph->node_count;
    double *cost = make_costs(graph);
    double *a = cost + nodes;
    double *b;
    assert_int_equal(dpr_calloc((size_t)nodes, sizeof *b, &b), DPR_OK);
    for (int32_t n = 0; n < nodes; n++) {
        cost[n] = 1.0;
    }
    dpr_perturb_jitter(graph, 0.5, 1, 0, cost, a);
    dpr_perturb_jitter(graph, 0.5, 1, 0, cost, b);
    assert_memory_equal(a, b, (size_t)nodes * sizeof *a);
    dpr_perturb_jitter(graph, 0.5, 1, 1, cost, b);
    int same = 0;
    for (int32_t n = 0; n < nodes; n++) {
        same += a[n] == b[n];
        same += n > 0 && a[n] == a[n - 1];
    }
    dpr_perturb_jitter(graph, 0.5, 2, 0, cost, b);
    for (int32_t n = 0; n < nodes; n++) {
        same += a[n] == b[n];
    }
    assert_int_equal(same, 0);
    free(b);
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stragglers_are_parsed),
        cmocka_unit_test(bad_stragglers_are_refused),
        cmocka_unit_test(a_straggler_sets_the_pace_of_its_pipeline),
        cmocka_unit_test(a_straggler_leaves_other_ranks_and_transfers_alone),
        cmocka_unit_test(no_jitter_changes_nothing),
        cmocka_unit_test(jitter_has_the_mean_and_variation_that_were_asked_for),
        cmocka_unit_test(draws_seeds_and_nodes_are_independent),
    };
    return cmocka_run_group_tests_name("perturb", tests, NULL, NULL);
}
