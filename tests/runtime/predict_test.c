/* Durations taken from steps, and what is predicted from them. */
#include "runtime/predict.h"

#include <stdlib.h>

#include "models/simulate.h"
#include "tests/models/ledger_testing.h"

static dpr_durations_t durations_of(const dpr_graph_t *graph, int steps)
{
    dpr_durations_t durations;
    assert_int_equal(dpr_durations_init(graph, steps, &durations), DPR_OK);
    return durations;
}

/* Any step, with late starts and all, is predicted as it was from itself alone. */
static void a_step_taken_comes_back(void **state)
{
    (void)state;
    dice_t dice = {.seed = 21};
    for (int i = 0; i < PROGRAMS / 4; i++) {
        run_t run = any_run(&dice, true);
        const size_t nodes = (size_t)run.graph->node_count;
        double *cost = malloc(nodes * sizeof *cost);
        double *delay_sec = malloc(nodes * sizeof *delay_sec);
        dpr_durations_t durations = durations_of(run.graph, 1);
        dpr_measurement_t prediction;
        dpr_durations_take(&durations, 0, &run.timeline);
        assert_int_equal(dpr_predict(&durations, 3, 7, &prediction, cost, delay_sec), DPR_OK);
        for (size_t n = 0; n < nodes; n++) {
            assert_near(cost[n], run.taken[n]);
            assert_near(delay_sec[n], run.delay[n]);
        }
        dpr_timeline_summary_t summary;
        assert_int_equal(dpr_timeline_summarize(&run.timeline, &summary), DPR_OK);
        for (int rank = 0; rank < prediction.ranks; rank++) {
            assert_near(prediction.busy_sec[rank], summary.busy_sec[rank]);
        }
        dpr_timeline_summary_free(&summary);
        dpr_measurement_free(&prediction);
        dpr_durations_free(&durations);
        free(cost);
        free(delay_sec);
        free_run(&run);
    }
}

/* On one rank a draw is one of the steps: step k takes k + 1 times as long as the first. */
static void the_typical_draw_is_the_nearest_to_what_is_promised(void **state)
{
    (void)state;
    enum { STEPS = 7 };
    run_t run = play_text("0F0,0F1,0B0,0B1\n", NULL, 0.0);
    const size_t nodes = (size_t)run.graph->node_count;
    double cost[8], delay_sec[8];
    assert_true(nodes <= 8);
    dpr_durations_t durations = durations_of(run.graph, STEPS);
    for (int k = 0; k < STEPS; k++) {
        for (size_t n = 0; n < nodes; n++) {
            run.taken[n] = (k + 1) * run.cost[n];
            run.delay[n] = 0.25 * (k + 1);
        }
        play(&run);
        dpr_durations_take(&durations, k, &run.timeline);
    }
    for (uint64_t seed = 1; seed < 20; seed++) {
        dpr_measurement_t prediction;
        double span = 0.0;
        assert_int_equal(dpr_predict(&durations, 101, seed, &prediction, cost, delay_sec), DPR_OK);
        for (size_t n = 0; n < nodes; n++) {
            assert_near(delay_sec[n], 0.25 * cost[0]);
            span += cost[n] + delay_sec[n];
        }
        span -= delay_sec[0]; /* a span begins with its first op */
        assert_near(span, prediction.span_sec);
        assert_near(prediction.rank_bubble_ratio[0], 3 * 0.25 / (6.0 + 3 * 0.25));
        dpr_measurement_free(&prediction);
    }
    dpr_durations_free(&durations);
    free_run(&run);
}

/* Starts that are late cost a chain of ranks more than one of them, and the prediction knows. */
static void late_starts_are_predicted(void **state)
{
    (void)state;
    run_t run = play_text("0F0,0B0\n1F0,1B0\n", NULL, 0.0);
    dpr_durations_t durations = durations_of(run.graph, 1);
    dpr_measurement_t prediction;
    const double before_sec = run.ledger.span_sec;
    for (int32_t n = 0; n < run.graph->node_count; n++) {
        run.delay[n] = 0.125;
    }
    play(&run);
    dpr_durations_take(&durations, 0, &run.timeline);
    assert_int_equal(dpr_predict(&durations, 1, 1, &prediction, NULL, NULL), DPR_OK);
    /* F, send, F, B, send, B: of six delays in a row the first is before the span */
    assert_near(prediction.span_sec, before_sec + 5 * 0.125);
    dpr_measurement_free(&prediction);
    dpr_durations_free(&durations);
    free_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_taken_comes_back),
        cmocka_unit_test(the_typical_draw_is_the_nearest_to_what_is_promised),
        cmocka_unit_test(late_starts_are_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
