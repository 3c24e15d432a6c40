/* What verify rejects, and the counterexample that it prints for each. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void expect_deadlock(const char *text, const dpr_graph_options_t *options,
                            const char *expected)
{
    dpr_program_t program = parse_program(text);
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, options, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_string_equal(captured, expected);
    dpr_program_free(&program);
}

static void a_circle_of_ranks_waiting_for_each_other(void **state)
{
    (void)state;
    expect_deadlock("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", NULL,
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 1: 1F1 waits for rank 0 -> 1: activation of 0F1 (its input)\n"
                    "  rank 0 -> 1: activation of 0F1 waits for rank 0: 0F1 (which produces it)\n"
                    "  rank 0: 0F1 waits for rank 0: 0B0 (the action before it)\n"
                    "  rank 0: 0B0 waits for rank 1 -> 0: gradient of 1B0 (its input)\n"
                    "  rank 1 -> 0: gradient of 1B0 waits for rank 1: 1B0 (which produces it)\n"
                    "  rank 1: 1B0 waits for rank 1: 1F1 (3 actions before it)\n"
                    "to break the circle, change the order of the actions of one of these ranks");
}

static void a_consumer_before_its_producer_on_one_rank(void **state)
{
    (void)state;
    expect_deadlock("1F0,0F0\n", NULL,
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 0: 1F0 waits for rank 0: 0F0 (its input, which the rank's own list has "
                    "only later)\n"
                    "  rank 0: 0F0 waits for rank 0: 1F0 (the action before it)\n"
                    "to break the circle, change the order of the actions of one of these ranks");
    expect_deadlock("0F0,1F0,0B0,1B0\n", NULL,
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 0: 0B0 waits for rank 0: 1B0 (its input, which the rank's own list has "
                    "only later)\n"
                    "  rank 0: 1B0 waits for rank 0: 0B0 (the action before it)\n"
                    "to break the circle, change the order of the actions of one of these ranks");
}

static void too_few_receive_slots(void **state)
{
    (void)state;
    const dpr_graph_options_t options = {.recv_slots = 1};
    expect_deadlock("0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n", &options,
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 1: 1F1 waits for rank 0 -> 1: activation of 0F1 (its input)\n"
                    "  rank 0 -> 1: activation of 0F1 waits for rank 1: 1B0 (receive buffer: rank "
                    "1 must first run 1B0, which frees slot 0 of 1)\n"
                    "  rank 1: 1B0 waits for rank 1: 1F1 (2 actions before it)\n"
                    "to break the circle, give the channels more slots, or let the schedule decide "
                    "(recv_slots and send_slots 0)");
}

static void too_few_send_slots(void **state)
{
    (void)state;
    const dpr_graph_options_t options = {.recv_slots = 0, .send_slots = 1};
    expect_deadlock("0F0,0F1,0F2,0F3,0F4\n1F0,2F4,1F1,1F2,1F3,2F0,2F1,2F2,2F3\n1F4\n", &options,
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 2: 1F4 waits for rank 0 -> 2: activation of 0F4 (its input)\n"
                    "  rank 0 -> 2: activation of 0F4 waits for rank 0: 0F4 (which produces it)\n"
                    "  rank 0: 0F4 waits for rank 0: 0F3 (the action before it)\n"
                    "  rank 0: 0F3 waits for rank 0 -> 1: activation of 0F2 (send buffer: its "
                    "output needs slot 0 of 1, which that transfer frees)\n"
                    "  rank 0 -> 1: activation of 0F2 waits for rank 1: 1F1 (receive buffer: rank "
                    "1 must first run 1F1, which frees slot 0 of 1)\n"
                    "  rank 1: 1F1 waits for rank 1: 2F4 (the action before it)\n"
                    "  rank 1: 2F4 waits for rank 2 -> 1: activation of 1F4 (its input)\n"
                    "  rank 2 -> 1: activation of 1F4 waits for rank 2: 1F4 (which produces it)\n"
                    "to break the circle, give the channels more slots, or let the schedule decide "
                    "(recv_slots and send_slots 0)");
}

static void a_swapped_pair_of_receives(void **state)
{
    (void)state;
    dpr_program_t program = make_program("1f1b", 2, 4);
    dpr_graph_t *graph = make_graph(&program);
    const int32_t first = graph->channels[0].first;
    const int32_t message = graph->recv_messages[first + 1];
    graph->recv_messages[first + 1] = graph->recv_messages[first + 2];
    graph->recv_messages[first + 2] = message;
    assert_int_equal(dpr_graph_connect(graph), DPR_OK);
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_verify(graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_string_equal(
        captured,
        "the program would deadlock; these wait for each other:\n"
        "  rank 0 -> 1: activation of 0F2 waits for rank 0 -> 1: activation of 0F1 (rank 0 sends "
        "it after that one)\n"
        "  rank 0 -> 1: activation of 0F1 waits for rank 0 -> 1: activation of 0F2 (rank 1 "
        "receives it after that one)\n"
        "to break the circle, post the messages of a channel in the same order at both ends");
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void expect_unmatched(int32_t *messages, int32_t at, int32_t instead, dpr_graph_t *graph,
                             const char *expected)
{
    const int32_t message = messages[at];
    messages[at] = instead;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_connect(graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_string_equal(captured, expected);
    messages[at] = message;
    assert_int_equal(dpr_graph_connect(graph), DPR_OK);
    assert_int_equal(dpr_graph_verify(graph), DPR_OK);
}

static void a_message_that_only_one_side_posts(void **state)
{
    (void)state;
    dpr_program_t program = make_program("1f1b", 3, 4);
    dpr_graph_t *graph = make_graph(&program);
    const int32_t first = graph->channels[0].first;
    static const char never_sent[] =
        "rank 0 -> 1: activation of 0F1: rank 1 waits to receive it, but rank 0 never sends it";
    static const char never_received[] =
        "rank 0 -> 1: activation of 0F1: rank 0 waits to send it, but rank 1 never receives it";
    expect_unmatched(graph->send_messages, first + 1, -1, graph, never_sent);
    expect_unmatched(graph->recv_messages, first + 1, -1, graph, never_received);
    /* posted twice, and so another one not at all */
    expect_unmatched(graph->send_messages, first + 1, graph->send_messages[first], graph,
                     never_sent);
    /* a node that is no message of the channel */
    expect_unmatched(graph->send_messages, first + 1, 0, graph, never_sent);
    expect_unmatched(graph->recv_messages, first + 1, graph->node_count - 1, graph, never_received);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void the_counterexample_stays_short_in_a_long_program(void **state)
{
    (void)state;
    dpr_program_t program = make_program("gpipe", 8, 512);
    const dpr_graph_options_t options = {.recv_slots = 100};
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, &options, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    int lines = 1;
    for (const char *c = captured; *c != '\0'; c++) {
        lines += *c == '\n';
    }
    assert_in_range(lines, 4, 6);
    assert_contains(captured, "frees slot ");
    assert_contains(captured, " of 100)");
    dpr_program_free(&program);
}

/* A ring of ranks, each waiting for the next: as long as the ring, and cut where it is too long. */
static void a_long_circle_is_cut(void **state)
{
    (void)state;
    enum { RANKS = 40 };
    dpr_program_t program;
    assert_int_equal(dpr_program_init(&program, "ring", RANKS, 2, RANKS), DPR_OK);
    for (int r = 0; r < RANKS; r++) {
        /* runs stage 1 of its own micro-batch, then stage 0 of the next rank's */
        assert_int_equal(dpr_program_append(&program, r, dpr_action(DPR_ACTION_F, 1, r)), DPR_OK);
        assert_int_equal(
            dpr_program_append(&program, r, dpr_action(DPR_ACTION_F, 0, (r + 1) % RANKS)), DPR_OK);
    }
    dpr_program_finish(&program);
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, NULL, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_contains(captured, "... and 96 more steps");
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_circle_of_ranks_waiting_for_each_other),
        cmocka_unit_test(a_consumer_before_its_producer_on_one_rank),
        cmocka_unit_test(too_few_receive_slots),
        cmocka_unit_test(too_few_send_slots),
        cmocka_unit_test(a_swapped_pair_of_receives),
        cmocka_unit_test(a_message_that_only_one_side_posts),
        cmocka_unit_test(the_counterexample_stays_short_in_a_long_program),
        cmocka_unit_test(a_long_circle_is_cut),
    };
    return cmocka_run_group_tests_name("deadlock", tests, NULL, NULL);
}
