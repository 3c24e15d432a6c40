/* The critical path, and the parts of a prediction's error. */
#include "models/prediction_error.h"

#include "base/log.h"
#include "models/critical_path.h"
#include "models/simulate.h"
#include "tests/models/ledger_testing.h"

/* ---- The critical path ---- */

static void the_path_of_a_step_is_its_round_trip(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    dpr_critical_path_t path;
    assert_int_equal(dpr_critical_path_init(&run.timeline, &path), DPR_OK);
    const int32_t nodes[] = {find_node(run.graph, DPR_NODE_F, 0, 0),
                             find_node(run.graph, DPR_NODE_SEND_ACT, 0, 0),
                             find_node(run.graph, DPR_NODE_F, 1, 0),
                             find_node(run.graph, DPR_NODE_B, 1, 0),
                             find_node(run.graph, DPR_NODE_SEND_GRAD, 1, 0),
                             find_node(run.graph, DPR_NODE_B, 0, 0)};
    const int reasons[] = {DPR_PATH_BEGINS, DPR_EDGE_DATA, DPR_EDGE_DATA,
                           DPR_EDGE_ORDER,  DPR_EDGE_DATA, DPR_EDGE_DATA};
    assert_int_equal(path.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(path.links[i].node, nodes[i]);
        assert_int_equal(path.links[i].reason, reasons[i]);
    }
    assert_near(path.compute_sec, 6.0);
    assert_near(path.wire_sec, 1.0);
    assert_near(path.wait_sec, 0.0);
    dpr_critical_path_free(&path);
    free_run(&run);
}

/* F1 of rank 1 waits for the op before it and for its input until the same moment. */
static void of_equal_edges_the_path_takes_the_order_on_the_rank(void **state)
{
    (void)state;
    run_t run = play_text("0F0,0F1\n1F0,1F1\n", NULL, 0.0);
    dpr_critical_path_t path;
    assert_int_equal(dpr_critical_path_init(&run.timeline, &path), DPR_OK);
    assert_int_equal(path.count, 4);
    assert_int_equal(path.links[3].node, find_node(run.graph, DPR_NODE_F, 1, 1));
    assert_int_equal(path.links[3].reason, DPR_EDGE_ORDER);
    assert_int_equal(path.links[2].node, find_node(run.graph, DPR_NODE_F, 1, 0));
    dpr_critical_path_free(&path);
    free_run(&run);
}

static bool has_edge(const dpr_graph_t *graph, int32_t from, int32_t to, int32_t kind)
{
    for (int32_t e = graph->edge_begin[to]; e < graph->edge_begin[to + 1]; e++) {
        if (graph->edges[e].from == from && graph->edges[e].kind == kind) {
            return true;
        }
    }
    return false;
}

static void a_path_is_connected_and_as_long_as_the_span(void **state)
{
    (void)state;
    dice_t dice = {.seed = 8};
    for (int i = 0; i < PROGRAMS; i++) {
        run_t run = any_run(&dice, i % 2 == 1);
        dpr_critical_path_t path;
        assert_int_equal(dpr_critical_path_init(&run.timeline, &path), DPR_OK);
        assert_true(path.count > 0);
        assert_int_equal(path.links[0].reason, DPR_PATH_BEGINS);
        assert_int_equal(run.graph->edge_begin[path.links[0].node],
                         run.graph->edge_begin[path.links[0].node + 1]);
        for (size_t l = 1; l < path.count; l++) {
            const dpr_path_link_t *link = &path.links[l];
            assert_true(has_edge(run.graph, path.links[l - 1].node, link->node, link->reason));
            assert_true(link->wait_sec >= 0.0 && (i % 2 == 1 || link->wait_sec == 0.0));
        }
        assert_true(fabs(path.compute_sec + path.wire_sec + path.wait_sec - run.ledger.span_sec) <=
                    1e-12 * run.ledger.span_sec);
        dpr_critical_path_free(&path);
        free_run(&run);
    }
}

/* ---- The prediction's error ---- */

/* Which parts an error may have. */
typedef struct expected {
    bool cost;
    bool wire;
    bool host;
    bool order;
} expected_t;

static void assert_parts(const dpr_error_parts_t *parts, expected_t expected, double rounding)
{
    assert_true(fabs(parts->predicted - parts->measured -
                     (parts->cost + parts->wire + parts->host + parts->order)) <= rounding);
    assert_true(expected.cost || fabs(parts->cost) <= rounding);
    assert_true(expected.wire || fabs(parts->wire) <= rounding);
    assert_true(expected.host || fabs(parts->host) <= rounding);
    assert_true(expected.order || fabs(parts->order) <= rounding);
}

/* With `rounding` 0 the parts that are not expected must be exactly 0. */
static void assert_error(const run_t *run, const double *enqueued, expected_t expected,
                         double rounding)
{
    dpr_timeline_t predicted;
    dpr_prediction_error_t error;
    assert_int_equal(dpr_timeline_init(&predicted, run->graph), DPR_OK);
    dpr_simulate(run->graph, run->cost, &predicted);
    const dpr_prediction_t prediction = {.timeline = &predicted, .cost = run->cost};
    assert_int_equal(dpr_prediction_error_init(&prediction, &run->timeline, enqueued, &error),
                     DPR_OK);
    assert_parts(&error.span_sec, expected, rounding);
    assert_parts(&error.bubble_ratio, expected, rounding);
    double sum = 0.0;
    for (int rank = 0; rank < error.ranks; rank++) {
        assert_parts(&error.rank_bubble_sec[rank], expected, rounding);
        assert_parts(&error.rank_bubble_ratio[rank], expected, rounding);
        assert_true(error.rank_bubble_sec[rank].measured == run->ledger.bubble_sec[rank]);
        sum +=
            fabs(error.rank_bubble_ratio[rank].measured - error.rank_bubble_ratio[rank].predicted);
    }
    assert_near(error.mean_absolute_bubble_error, sum / error.ranks);
    assert_true(error.span_sec.measured == run->ledger.span_sec);
    dpr_prediction_error_free(&error);
    dpr_timeline_free(&predicted);
}

/* Changes what some compute ops (1), transfers (2) or starts (4) took, and no others. */
static void change(run_t *run, dice_t *dice, int which)
{
    for (int32_t n = 0; n < run->graph->node_count; n++) {
        const bool is_transfer = n >= run->graph->compute_count;
        run->taken[n] = run->cost[n];
        run->delay[n] = 0.0;
        if ((which & (is_transfer ? 2 : 1)) != 0) {
            run->taken[n] *= dice_real(dice, 0.5, 2.0);
        }
        if ((which & 4) != 0) {
            run->delay[n] = dice_real(dice, 0.0, 0.3);
        }
    }
    play(run);
}

/* A start that was late is the host's doing where the op was enqueued no earlier. */
static void an_error_is_split_by_what_was_different(void **state)
{
    (void)state;
    dice_t dice = {.seed = 9};
    for (int i = 0; i < PROGRAMS / 2; i++) {
        run_t run = any_run(&dice, false);
        assert_error(&run, NULL, (expected_t){0}, 0.0);
        assert_error(&run, run.timeline.start, (expected_t){0}, 1e-12 * run.ledger.span_sec);
        for (int which = 1; which < 8; which++) {
            expected_t expected = {.cost = (which & 1) != 0, .wire = (which & 2) != 0};
            change(&run, &dice, which);
            const double rounding = 1e-12 * run.ledger.span_sec + 1e-12;
            expected.order = (which & 4) != 0;
            assert_error(&run, NULL, expected, rounding);
            expected.host = expected.order;
            expected.order = false;
            assert_error(&run, run.timeline.start, expected, rounding);
        }
        free_run(&run);
    }
}

/* Starts that are as late as predicted are no error, and then only what is later still. */
static void predicted_delays_are_no_error(void **state)
{
    (void)state;
    dice_t dice = {.seed = 10};
    for (int i = 0; i < PROGRAMS / 10; i++) {
        run_t run = any_run(&dice, false);
        dpr_timeline_t predicted;
        dpr_prediction_error_t error;
        change(&run, &dice, 4);
        assert_int_equal(dpr_timeline_init(&predicted, run.graph), DPR_OK);
        dpr_simulate_delayed(run.graph, run.cost, run.delay, NULL, &predicted);
        const dpr_prediction_t prediction = {
            .timeline = &predicted, .cost = run.cost, .delay_sec = run.delay};
        assert_int_equal(dpr_prediction_error_init(&prediction, &run.timeline, NULL, &error),
                         DPR_OK);
        assert_parts(&error.span_sec, (expected_t){0}, 0.0);
        assert_parts(&error.bubble_ratio, (expected_t){0}, 0.0);
        dpr_prediction_error_free(&error);
        dpr_timeline_free(&predicted);
        free_run(&run);
    }
}

/* rank 0  F0 ........ B0, which starts late by 0.125: 0.0625 of it before it was enqueued
 * rank 1  .... F0 B0 .... */
static void known_errors_have_known_parts(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    const int32_t last = find_node(run.graph, DPR_NODE_B, 0, 0);
    const char *name;
    dpr_timeline_t predicted;
    dpr_prediction_error_t error;
    assert_int_equal(dpr_timeline_init(&predicted, run.graph), DPR_OK);
    dpr_simulate(run.graph, run.cost, &predicted);
    const dpr_prediction_t prediction = {.timeline = &predicted, .cost = run.cost};
    run.taken[find_node(run.graph, DPR_NODE_B, 1, 0)] += 0.75;
    run.taken[find_node(run.graph, DPR_NODE_SEND_GRAD, 1, 0)] -= 0.25;
    run.delay[last] = 0.125;
    play(&run);
    for (int32_t n = 0; n < run.graph->node_count; n++) {
        run.enqueued[n] = -100.0; /* before the step began */
    }
    run.enqueued[last] = run.timeline.start[last] - 0.0625;
    assert_int_equal(dpr_prediction_error_init(&prediction, &run.timeline, run.enqueued, &error),
                     DPR_OK);
    assert_near(error.span_sec.predicted, 7.0);
    assert_near(error.span_sec.measured, 7.625);
    assert_near(error.span_sec.cost, -0.75);
    assert_near(error.span_sec.wire, 0.25);
    assert_near(error.span_sec.host, -0.0625);
    assert_near(error.span_sec.order, -0.0625);
    assert_near(dpr_error_largest_part(&error.span_sec, &name), -0.75);
    assert_string_equal(name, "cost");
    assert_near(error.rank_bubble_sec[0].cost, -0.75);
    assert_near(error.rank_bubble_sec[1].cost, 0.0); /* busy for as much longer as the span is */
    assert_near(error.rank_bubble_sec[1].wire, 0.25);
    assert_near(error.rank_bubble_sec[1].host, -0.0625);
    assert_near(error.rank_bubble_sec[1].order, -0.0625);
    assert_near(dpr_error_largest_part(&error.rank_bubble_sec[1], &name), 0.25);
    assert_string_equal(name, "wire");
    assert_near(error.rank_bubble_ratio[0].predicted, 4.0 / 7.0);
    assert_near(error.rank_bubble_ratio[0].cost, 4.0 / 7.0 - 4.75 / 7.75);
    assert_near(error.rank_bubble_ratio[1].cost, 4.0 / 7.0 - 4.0 / 7.75);
    dpr_prediction_error_free(&error);
    dpr_timeline_free(&predicted);
    free_run(&run);
}

static void timelines_that_cannot_be_compared_are_refused(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    run_t other = play_text(THERE_AND_BACK, NULL, 0.5);
    const dpr_prediction_t prediction = {.timeline = &run.timeline, .cost = run.cost};
    char message[CAPTURED_MAX];
    dpr_prediction_error_t error;
    dpr_status_t status;
    CAPTURE(status, message, dpr_prediction_error_init(&prediction, &other.timeline, NULL, &error));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "different graphs");
    dpr_timeline_t copy;
    assert_int_equal(dpr_timeline_init(&copy, run.graph), DPR_OK);
    copy.end[2] = NAN;
    CAPTURE(status, message, dpr_prediction_error_init(&prediction, &copy, NULL, &error));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "the measured timeline has rank 1: 1F0 from 0 to nan");
    dpr_timeline_free(&copy);
    free_run(&other);
    free_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_path_of_a_step_is_its_round_trip),
        cmocka_unit_test(of_equal_edges_the_path_takes_the_order_on_the_rank),
        cmocka_unit_test(a_path_is_connected_and_as_long_as_the_span),
        cmocka_unit_test(an_error_is_split_by_what_was_different),
        cmocka_unit_test(predicted_delays_are_no_error),
        cmocka_unit_test(known_errors_have_known_parts),
        cmocka_unit_test(timelines_that_cannot_be_compared_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
