/* Communication: closed forms against the graph's own transfers, what the links must bear, and
 * reductions. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "models/communication.h"
#include "models/simulate.h"
#include "tests/schedule/schedule_testing.h"

static const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;

/* ---- Counts ---- */

static int64_t counted(const dpr_graph_t *graph, int source, int destination, int kind)
{
    int64_t messages = 0;
    for (int32_t n = graph->compute_count; n < graph->node_count; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        messages += node->rank == source && node->peer == destination && node->kind == kind;
    }
    return messages;
}

static void check_links(const char *schedule, int P, int M, const dpr_graph_t *graph)
{
    for (int a = 0; a < P; a++) {
        for (int b = 0; b < P; b++) {
            if (P > 8 && abs(a - b) > 2 && abs(a - b) != P - 1) {
                continue; /* the total below leaves nothing for these */
            }
            for (int kind = DPR_NODE_SEND_ACT; kind <= DPR_NODE_SEND_GRAD; kind++) {
                int64_t messages = -1;
                assert_int_equal(
                    dpr_traffic_closed_form(schedule, P, M, a, b, (dpr_node_kind_t)kind, &messages),
                    DPR_OK);
                assert_int_equal(messages, counted(graph, a, b, kind));
            }
        }
    }
}

static void check_counts(const char *schedule, int P, int M)
{
    enum { BYTES = 1000003 };
    dpr_program_t program = make_program(schedule, P, M);
    dpr_graph_t *graph = make_graph(&program);
    dpr_traffic_counts_t counts;
    assert_int_equal(dpr_traffic_count(graph, BYTES, &counts), DPR_OK);
    int64_t total = -1;
    assert_int_equal(dpr_traffic_total_closed_form(schedule, P, M, &total), DPR_OK);
    assert_int_equal(total, graph->node_count - graph->compute_count);
    assert_int_equal(total, counts.total.messages);
    assert_int_equal(total * BYTES, counts.total.bytes);
    check_links(schedule, P, M, graph);
    int64_t sums[3] = {0};
    for (int r = 0; r < P; r++) {
        sums[0] += counts.sent[r].messages;
        sums[1] += counts.received[r].messages;
        assert_int_equal(counts.sent[r].bytes, counts.sent[r].messages * BYTES);
        assert_int_equal(counts.received[r].bytes, counts.received[r].messages * BYTES);
    }
    for (int c = 0; c < counts.channels; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        assert_int_equal(counts.channel[c].messages,
                         counted(graph, channel->source, channel->destination, channel->kind));
        assert_int_equal(counts.channel[c].bytes, counts.channel[c].messages * BYTES);
        sums[2] += counts.channel[c].messages;
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sums[i], total);
    }
    dpr_traffic_free(&counts);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void closed_forms_equal_the_counted_messages_of_every_channel(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    const int ranks[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32};
    for (size_t s = 0; s < count; s++) {
        int checked = 0;
        for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
            const int P = ranks[i];
            for (int M = 1; M <= 3 * P; M += P <= 4 ? 1 : P / 2) {
                if (schedules[s].allows(P, M)) {
                    check_counts(schedules[s].name, P, M);
                    checked++;
                }
            }
        }
        assert_true(checked > 0);
    }
}

static void a_random_program_is_counted_by_its_placement(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        dice_t dice = {seed, 0};
        dpr_program_t program = random_program(&dice);
        dpr_graph_t *graph = make_graph(&program);
        int64_t crossings = 0;
        for (int s = 0; s + 1 < graph->stages; s++) {
            for (int m = 0; m < graph->micro_batches; m++) {
                crossings += graph->cells[s * graph->micro_batches + m].rank !=
                             graph->cells[(s + 1) * graph->micro_batches + m].rank;
            }
        }
        dpr_traffic_counts_t counts;
        assert_int_equal(dpr_traffic_count(graph, 8, &counts), DPR_OK);
        assert_int_equal(counts.total.messages, graph->forward_only ? crossings : 2 * crossings);
        dpr_traffic_free(&counts);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
}

static void sizes_that_cannot_be_counted_are_refused(void **state)
{
    (void)state;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    dpr_program_t program = make_program("1f1b", 2, 4); /* 8 messages */
    dpr_graph_t *graph = make_graph(&program);
    dpr_traffic_counts_t counts = {.ranks = 77};
    CAPTURE(status, text, dpr_traffic_count(graph, -1, &counts));
    assert_int_equal(status, DPR_ERR_INVALID);
    CAPTURE(status, text, dpr_traffic_count(graph, INT64_MAX / 8 + 1, &counts));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "2^63");
    assert_int_equal(counts.ranks, 77); /* set only on success */
    assert_int_equal(dpr_traffic_count(graph, INT64_MAX / 8, &counts), DPR_OK);
    dpr_traffic_free(&counts);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    int64_t messages;
    CAPTURE(status, text, dpr_traffic_total_closed_form("nonsense", 4, 8, &messages));
    assert_int_equal(status, DPR_ERR_INVALID);
    CAPTURE(status, text,
            dpr_traffic_closed_form("dualpipe", 3, 8, 0, 1, DPR_NODE_SEND_ACT, &messages));
    assert_int_equal(status, DPR_ERR_INVALID);
}

/* ---- Wire time ---- */

static double makespan(const dpr_graph_t *graph, const dpr_uniform_costs_t *costs, double wire)
{
    dpr_uniform_costs_t with = *costs;
    with.wire = wire;
    double *cost = calloc((size_t)graph->node_count, sizeof *cost);
    double *end = calloc((size_t)graph->node_count, sizeof *end);
    assert_non_null(cost);
    assert_non_null(end);
    dpr_uniform_costs_fill(&with, graph, cost);
    const double result = dpr_simulate_makespan(graph, cost, end);
    free(cost);
    free(end);
    return result;
}

static void hidden_wire_time_is_the_largest_within_the_tolerance(void **state)
{
    (void)state;
    dice_t dice = {11, 0};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (int round = 0; round < 60; round++) {
        const dpr_schedule_t *schedule = &schedules[dice_roll(&dice, (int)count)];
        const int P = 2 * (1 + dice_roll(&dice, 4));
        const int M = P * (2 + dice_roll(&dice, 2));
        assert_true(schedule->allows(P, M));
        dpr_program_t program = make_program(schedule->name, P, M);
        dpr_graph_t *graph = make_graph(&program);
        const dpr_uniform_costs_t costs = {.f = dice_real(&dice, 0.1, 2.0),
                                           .i = dice_real(&dice, 0.1, 2.0),
                                           .w = dice_real(&dice, 0.1, 2.0),
                                           .b = -1.0,
                                           .fb = -1.0};
        const double tolerance = dice_real(&dice, 0.005, 0.3);
        const double limit = makespan(graph, &costs, 0.0) * (1.0 + tolerance);
        double wire = -1.0;
        assert_int_equal(dpr_wire_hidden(graph, &costs, tolerance, &wire), DPR_OK);
        assert_true(wire > 0.0);
        assert_true(makespan(graph, &costs, wire) <= limit);
        assert_true(makespan(graph, &costs, wire * (1.0 + 1e-6)) > limit);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
}

/* gpipe on two ranks with wire <= F: (M + 1)(F + B) + 2 wire. */
static void hidden_wire_time_of_two_ranks_is_known(void **state)
{
    (void)state;
    dpr_program_t program = make_program("gpipe", 2, 4);
    dpr_graph_t *graph = make_graph(&program);
    double wire = -1.0;
    assert_int_equal(dpr_wire_hidden(graph, &unit, 0.1, &wire), DPR_OK);
    assert_true(fabs(wire - 0.1 * 15.0 / 2.0) < 1e-8);
    assert_int_equal(dpr_wire_hidden(graph, &unit, 0.0, &wire), DPR_OK);
    assert_true(wire >= 0.0 && wire < 1e-12);
    char text[CAPTURED_MAX];
    dpr_status_t status;
    const double bad[] = {-0.1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        CAPTURE(status, text, dpr_wire_hidden(graph, &unit, bad[i], &wire));
        assert_int_equal(status, DPR_ERR_INVALID);
    }
    const double costs[] = {NAN, INFINITY, -0.1, 1e308};
    for (int i = 0; i < 4; i++) {
        dpr_uniform_costs_t with = unit;
        with.f = costs[i];
        CAPTURE(status, text, dpr_wire_hidden(graph, &with, 0.1, &wire));
        assert_int_equal(status, DPR_ERR_INVALID);
    }
    const dpr_uniform_costs_t nothing = {.f = 0.0, .b = 0.0, .fb = 0.0};
    assert_int_equal(dpr_wire_hidden(graph, &nothing, 0.1, &wire), DPR_OK);
    assert_true(isinf(wire));
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    program = make_program("gpipe", 1, 4);
    graph = make_graph(&program);
    assert_int_equal(dpr_wire_hidden(graph, &unit, 0.1, &wire), DPR_OK);
    assert_true(isinf(wire));
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void bandwidth_follows_from_bytes_wire_and_latency(void **state)
{
    (void)state;
    assert_true(dpr_wire_bandwidth(1000, 0.5, 0.0) == 2000.0);
    assert_true(dpr_wire_bandwidth(1000, 0.5, 0.25) == 4000.0);
    assert_true(isinf(dpr_wire_bandwidth(1000, 0.5, 0.5)));
    assert_true(isinf(dpr_wire_bandwidth(1000, 0.0, 0.0)));
    assert_true(dpr_wire_bandwidth(1000, INFINITY, 0.5) == 0.0);
    assert_true(dpr_wire_bandwidth(0, 0.5, 0.75) == 0.0);
}

/* 16 on one rank against 15 + 2 wire on two. */
static void crossover_with_a_program_that_sends_nothing_is_known(void **state)
{
    (void)state;
    dpr_program_t alone = make_program("gpipe", 1, 4);
    dpr_program_t pair = make_program("gpipe", 2, 4);
    dpr_graph_t *a = make_graph(&pair);
    dpr_graph_t *b = make_graph(&alone);
    const dpr_uniform_costs_t slow = {.f = 1.9, .i = 1.0, .w = 1.1, .b = -1.0, .fb = -1.0};
    dpr_wire_crossover_t crossover;
    assert_int_equal(dpr_wire_crossover(a, &unit, b, &slow, 5.0, &crossover), DPR_OK);
    assert_true(fabs(crossover.wire_sec - 0.5) < 1e-8);
    assert_int_equal(crossover.before, -1);
    assert_int_equal(crossover.beyond, 1);
    assert_int_equal(dpr_wire_crossover(b, &slow, a, &unit, 5.0, &crossover), DPR_OK);
    assert_true(fabs(crossover.wire_sec - 0.5) < 1e-8);
    assert_int_equal(crossover.before, 1);
    assert_int_equal(crossover.beyond, -1);
    assert_int_equal(dpr_wire_crossover(a, &unit, b, &slow, 0.4, &crossover), DPR_OK);
    assert_true(isnan(crossover.wire_sec));
    assert_int_equal(crossover.beyond, -1);
    assert_int_equal(dpr_wire_crossover(a, &unit, a, &unit, 5.0, &crossover), DPR_OK);
    assert_true(isnan(crossover.wire_sec));
    assert_int_equal(crossover.before, 0);
    char text[CAPTURED_MAX];
    dpr_status_t status;
    const double bad[] = {-0.1, 0.0, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        CAPTURE(status, text, dpr_wire_crossover(a, &unit, b, &slow, bad[i], &crossover));
        assert_int_equal(status, DPR_ERR_INVALID);
    }
    dpr_graph_destroy(a);
    dpr_graph_destroy(b);
    dpr_program_free(&alone);
    dpr_program_free(&pair);
}

static void schedules_change_places_at_the_crossover(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    const int P = 4;
    const int M = 8;
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i + 1; j < count; j++) {
            if (!schedules[i].allows(P, M) || !schedules[j].allows(P, M)) {
                continue;
            }
            dpr_program_t programs[2] = {make_program(schedules[i].name, P, M),
                                         make_program(schedules[j].name, P, M)};
            dpr_graph_t *a = make_graph(&programs[0]);
            dpr_graph_t *b = make_graph(&programs[1]);
            dpr_wire_crossover_t at;
            assert_int_equal(dpr_wire_crossover(a, &unit, b, &unit, 10.0, &at), DPR_OK);
            if (!isnan(at.wire_sec)) {
                found++;
                const double before = at.wire_sec * (1.0 - 1e-6);
                const double after = at.wire_sec * (1.0 + 1e-6);
                const double lead[2] = {makespan(a, &unit, before) - makespan(b, &unit, before),
                                        makespan(a, &unit, after) - makespan(b, &unit, after)};
                assert_int_equal(at.before, -at.beyond);
                assert_true(lead[0] * at.beyond <= 1e-9);
                assert_true(lead[1] * at.beyond > 0.0);
            }
            dpr_graph_destroy(a);
            dpr_graph_destroy(b);
            dpr_program_free(&programs[0]);
            dpr_program_free(&programs[1]);
        }
    }
    assert_true(found > 0);
}

/* ---- Reductions ---- */

static void replicas_reduce_what_a_ring_takes(void **state)
{
    (void)state;
    const int64_t bytes[4] = {1000, 2000, 4000, 8000};
    dpr_reduction_t replica[4];
    dpr_reduction_t all[4];
    dpr_program_t program = make_program("dualpipe", 4, 8);
    dpr_graph_t *graph = make_graph(&program);
    assert_int_equal(dpr_reduction_count(graph, bytes, 3, replica, all), DPR_OK);
    for (int r = 0; r < 4; r++) {
        const double held = (double)(bytes[r] + bytes[3 - r]);
        assert_int_equal(replica[r].stages, 2);
        assert_int_equal(replica[r].messages, 2 * 2);
        assert_true(fabs(replica[r].bytes - held) < 1e-6); /* 2 (2 - 1) / 2 */
        assert_int_equal(all[r].stages, 2);
        assert_int_equal(all[r].messages, 2 * 2 * 5);
        assert_true(fabs(all[r].bytes - held * 10.0 / 6.0) < 1e-6);
    }
    dpr_graph_destroy(graph);
    dpr_program_free(&program);

    program = make_program("1f1b", 4, 8);
    graph = make_graph(&program);
    assert_int_equal(dpr_reduction_count(graph, bytes, 1, replica, all), DPR_OK);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(replica[r].stages + all[r].stages, 0);
        assert_true(replica[r].bytes == 0.0 && all[r].bytes == 0.0);
    }
    assert_int_equal(dpr_reduction_count(graph, bytes, 4, replica, all), DPR_OK);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(replica[r].messages, 0);
        assert_int_equal(all[r].messages, 6);
        assert_true(fabs(all[r].bytes - 1.5 * (double)bytes[r]) < 1e-6);
    }
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_reduction_count(graph, bytes, 0, replica, all));
    assert_int_equal(status, DPR_ERR_INVALID);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_forms_equal_the_counted_messages_of_every_channel),
        cmocka_unit_test(a_random_program_is_counted_by_its_placement),
        cmocka_unit_test(sizes_that_cannot_be_counted_are_refused),
        cmocka_unit_test(hidden_wire_time_is_the_largest_within_the_tolerance),
        cmocka_unit_test(hidden_wire_time_of_two_ranks_is_known),
        cmocka_unit_test(bandwidth_follows_from_bytes_wire_and_latency),
        cmocka_unit_test(crossover_with_a_program_that_sends_nothing_is_known),
        cmocka_unit_test(schedules_change_places_at_the_crossover),
        cmocka_unit_test(replicas_reduce_what_a_ring_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
