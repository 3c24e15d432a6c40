/* Many draws: the statistics, and that threads do not show in them. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "models/montecarlo.h"
#include "models/parallel.h"
#include "models/perturb.h"
#include "models/simulate.h"
#include "tests/models/extremes.h"

typedef struct rig {
    dpr_program_t program;
    dpr_graph_t *graph;
    double *cost;
    double *perturbed;
    double *end;
} rig_t;

static rig_t make_rig(const char *schedule, int P, int M)
{
    const dpr_uniform_costs_t costs = {
        .f = 1.0, .i = 1.2, .w = 0.8, .b = -1.0, .fb = -1.0, .wire = 0.1};
    rig_t rig = {.program = make_program(schedule, P, M)};
    rig.graph = make_graph(&rig.program);
    const size_t nodes = (size_t)rig.graph->node_count;
    assert_int_equal(dpr_calloc(3 * nodes, sizeof(double), &rig.cost), DPR_OK);
    rig.perturbed = rig.cost + nodes;
    rig.end = rig.perturbed + nodes;
    dpr_uniform_costs_fill(&costs, rig.graph, rig.cost);
    return rig;
}

static void free_rig(rig_t *rig)
{
    free(rig->cost);
    dpr_graph_destroy(rig->graph);
    dpr_program_free(&rig->program);
}

static void percentiles_are_by_nearest_rank(void **state)
{
    (void)state;
    double values[20];
    for (int i = 0; i < 20; i++) {
        values[i] = 20.0 - i;
    }
    dpr_distribution_t found;
    dpr_distribution_of(values, 20, &found);
    assert_close(found.mean, 10.5);
    assert_close(found.deviation, sqrt(35.0));
    assert_close(found.min, 1.0);
    assert_close(found.max, 20.0);
    assert_close(found.median, 10.0);
    assert_close(found.p95, 19.0); /* 19 of 20 are 95% */
    double more[21];
    for (int i = 0; i < 21; i++) {
        more[i] = i + 1.0;
    }
    dpr_distribution_of(more, 21, &found);
    assert_close(found.median, 11.0);
    assert_close(found.p95, 20.0);
    double one[1] = {-3.0};
    dpr_distribution_of(one, 1, &found);
    assert_close(found.p95, -3.0);
    assert_close(found.mean, -3.0);
    assert_true(found.deviation == 0.0);
    double large[2] = {1e308, 1.5e308};
    dpr_distribution_of(large, 2, &found);
    assert_close(found.mean, 1.25e308);
    assert_close(found.deviation, 0.5e308 / sqrt(2.0));
}

static void draws_are_those_of_the_jitter(void **state)
{
    (void)state;
    rig_t rig = make_rig("zb1p", 4, 9);
    enum { DRAWS = 57 };
    double spans[DRAWS];
    for (int d = 0; d < DRAWS; d++) {
        dpr_perturb_jitter(rig.graph, 0.2, 5, (uint64_t)d, rig.cost, rig.perturbed);
        spans[d] = dpr_simulate_makespan(rig.graph, rig.perturbed, rig.end);
    }
    dpr_distribution_t expected;
    dpr_distribution_of(spans, DRAWS, &expected);
    const dpr_montecarlo_options_t options = {DRAWS, 0.2, 5, 1};
    dpr_montecarlo_t found;
    assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &found), DPR_OK);
    assert_memory_equal(&found.span_sec, &expected, sizeof expected);
    free_rig(&rig);
}

static void the_number_of_threads_does_not_show(void **state)
{
    (void)state;
    rig_t rig = make_rig("dualpipe", 4, 12);
    dpr_montecarlo_options_t options = {101, 0.3, 9, 1};
    dpr_montecarlo_t one;
    assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &one), DPR_OK);
    for (int threads = 0; threads < 6; threads++) {
        options.threads = threads;
        dpr_montecarlo_t many;
        assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &many), DPR_OK);
        assert_memory_equal(&one, &many, sizeof one);
    }
    options.seed = 10;
    dpr_montecarlo_t other;
    assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &other), DPR_OK);
    assert_true(other.span_sec.mean != one.span_sec.mean);
    free_rig(&rig);
}

static void without_jitter_every_draw_is_the_simulation(void **state)
{
    (void)state;
    rig_t rig = make_rig("1f1b", 5, 7);
    const double span = dpr_simulate_makespan(rig.graph, rig.cost, rig.end);
    const dpr_montecarlo_options_t options = {3, 0.0, 0, 2};
    dpr_montecarlo_t found;
    assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &found), DPR_OK);
    assert_true(found.span_sec.min == span && found.span_sec.max == span);
    assert_close(found.span_sec.mean, span);
    /* 7 F, I + W of 1, 1.2, 0.8 on each rank */
    assert_close(found.bubble_ratio.median, 1.0 - 21.0 / span);
    free_rig(&rig);
}

/* The span is convex in the costs: jitter of mean 1 cannot make it shorter on average. */
static void jitter_makes_steps_longer_on_average(void **state)
{
    (void)state;
    rig_t rig = make_rig("1f1b", 8, 16);
    const double span = dpr_simulate_makespan(rig.graph, rig.cost, rig.end);
    double before = span;
    for (int i = 1; i <= 3; i++) {
        const dpr_montecarlo_options_t options = {500, 0.1 * i, 4, 0};
        dpr_montecarlo_t found;
        assert_int_equal(dpr_montecarlo_run(rig.graph, rig.cost, &options, &found), DPR_OK);
        assert_true(found.span_sec.mean > before);
        assert_true(found.span_sec.p95 > found.span_sec.median);
        before = found.span_sec.mean;
    }
    free_rig(&rig);
}

static dpr_status_t fail_at(void *context, int worker, int64_t index)
{
    (void)worker;
    const int64_t *from = context;
    return index >= *from ? dpr_fail(DPR_ERR_DATA, "piece %d", (int)index) : DPR_OK;
}

static void a_failing_piece_is_heard_on_the_calling_thread(void **state)
{
    (void)state;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    int64_t from = 0;
    CAPTURE(status, message, dpr_parallel_for(1, 10, fail_at, &from));
    assert_int_equal(status, DPR_ERR_DATA);
    assert_string_equal(message, "piece 0");
    from = 40;
    CAPTURE(status, message, dpr_parallel_for(3, 1000, fail_at, &from));
    assert_int_equal(status, DPR_ERR_DATA);
    assert_contains(message, "piece 4");
    from = 1000;
    assert_int_equal(dpr_parallel_for(4, 1000, fail_at, &from), DPR_OK);
    assert_int_equal(dpr_parallel_threads(5, 3), 3);
    assert_int_equal(dpr_parallel_threads(5, 0), 1);
    assert_int_equal(dpr_parallel_threads(10000, 100000), DPR_MAX_THREADS);
    assert_true(dpr_parallel_threads(0, 100000) >= 1);
}

static void extreme_inputs_are_errors_or_sane_results(void **state)
{
    (void)state;
    rig_t rig = make_rig("1f1b", 3, 4);
    dice_t dice = {.seed = 21};
    int accepted = 0;
    for (int i = 0; i < 3000; i++) {
        const double fill = extreme_real(&dice);
        for (int32_t n = 0; n < rig.graph->node_count; n++) {
            rig.cost[n] = dice_roll(&dice, 4) == 0 ? extreme_real(&dice) : fill;
        }
        dpr_montecarlo_options_t options = {extreme_int(&dice), extreme_real(&dice), 1,
                                            extreme_int(&dice)};
        if (options.draws > 64 && options.draws <= DPR_MAX_DRAWS) {
            options.draws = 64; /* allowed, but slow */
        }
        char message[CAPTURED_MAX];
        dpr_montecarlo_t found;
        dpr_status_t status;
        CAPTURE(status, message, dpr_montecarlo_run(rig.graph, rig.cost, &options, &found));
        if (status == DPR_OK) {
            accepted++;
            assert_sane(found.span_sec.mean);
            assert_sane(found.span_sec.deviation);
            assert_sane(found.span_sec.p95);
            assert_true(found.bubble_ratio.max <= 1.0);
        } else {
            assert_int_equal(status, DPR_ERR_INVALID);
            assert_true(strlen(message) > 0);
        }
    }
    assert_true(accepted > 0);
    free_rig(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_by_nearest_rank),
        cmocka_unit_test(draws_are_those_of_the_jitter),
        cmocka_unit_test(the_number_of_threads_does_not_show),
        cmocka_unit_test(without_jitter_every_draw_is_the_simulation),
        cmocka_unit_test(jitter_makes_steps_longer_on_average),
        cmocka_unit_test(a_failing_piece_is_heard_on_the_calling_thread),
        cmocka_unit_test(extreme_inputs_are_errors_or_sane_results),
    };
    return cmocka_run_group_tests_name("montecarlo", tests, NULL, NULL);
}
