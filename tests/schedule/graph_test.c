/* The op graph: its nodes, edges, channels and order. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const dpr_edge_t *find_edge(const dpr_graph_t *graph, int32_t node, dpr_edge_kind_t kind)
{
    for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
        if (graph->edges[e].kind == (int32_t)kind) {
            return &graph->edges[e];
        }
    }
    return NULL;
}

static const dpr_cell_t *cell_of(const dpr_graph_t *graph, int stage, int micro_batch)
{
    return &graph->cells[stage * graph->micro_batches + micro_batch];
}

static void expect_text(const dpr_graph_t *graph, int32_t node, const char *expected)
{
    char text[96];
    assert_string_equal(dpr_node_format(graph, node, text, sizeof text), expected);
}

static void a_small_program_becomes_the_graph_drawn_by_hand(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,0F1,0I0,0W0,0B1\n1F0,(1F1;1B0)OVERLAP_F_B,1B1\n");
    dpr_graph_t *graph = make_graph(&program);
    assert_int_equal(graph->compute_count, 8);
    assert_int_equal(graph->node_count, 12);
    assert_int_equal(graph->channel_count, 2);
    expect_text(graph, 0, "rank 0: 0F0");
    expect_text(graph, 6, "rank 1: (1F1;1B0)OVERLAP_F_B");
    expect_text(graph, 8, "rank 0 -> 1: activation of 0F0");
    expect_text(graph, 9, "rank 0 -> 1: activation of 0F1");
    expect_text(graph, 10, "rank 1 -> 0: gradient of 1B0");
    expect_text(graph, 11, "rank 1 -> 0: gradient of 1B1");

    assert_int_equal(find_edge(graph, 1, DPR_EDGE_ORDER)->from, 0);
    assert_null(find_edge(graph, 5, DPR_EDGE_ORDER));
    assert_int_equal(find_edge(graph, 6, DPR_EDGE_DATA)->from,
                     9); /* its backward is the last stage */
    assert_int_equal(find_edge(graph, 2, DPR_EDGE_DATA)->from, 10);
    assert_null(find_edge(graph, 3, DPR_EDGE_DATA));
    assert_int_equal(find_edge(graph, 9, DPR_EDGE_DATA)->from, 1);
    assert_int_equal(find_edge(graph, 9, DPR_EDGE_SEND_ORDER)->from, 8);
    assert_int_equal(find_edge(graph, 9, DPR_EDGE_RECV_ORDER)->from, 8);
    assert_int_equal(find_edge(graph, 10, DPR_EDGE_DATA)->from, 6);
    assert_null(find_edge(graph, 10, DPR_EDGE_SEND_ORDER));

    const dpr_cell_t *cell = cell_of(graph, 1, 0);
    assert_int_equal(cell->rank, 1);
    assert_int_equal(cell->forward, 5);
    assert_int_equal(cell->backward, 6);
    assert_int_equal(cell->weight, 6);
    assert_int_equal(cell->send_act, -1);
    assert_int_equal(cell->send_grad, 10);
    cell = cell_of(graph, 0, 0);
    assert_int_equal(cell->backward, 2);
    assert_int_equal(cell->weight, 3);
    assert_int_equal(cell->send_act, 8);
    assert_int_equal(cell->send_grad, -1);
    assert_int_equal(cell->buffer[DPR_BUFFER_ACT_IN].pool, -1);
    assert_int_equal(cell->buffer[DPR_BUFFER_GRAD_OUT].pool, -1);
    assert_int_equal(cell_of(graph, 1, 0)->buffer[DPR_BUFFER_ACT_OUT].pool, -1);
    assert_int_equal(cell_of(graph, 1, 0)->buffer[DPR_BUFFER_GRAD_IN].pool, -1);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void what_stays_on_a_rank_needs_no_transfer_and_is_one_buffer(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,1F0,1B0,0B0\n");
    dpr_graph_t *graph = make_graph(&program);
    assert_int_equal(graph->node_count, 4);
    assert_int_equal(graph->channel_count, 0);
    const dpr_cell_t *low = cell_of(graph, 0, 0);
    const dpr_cell_t *high = cell_of(graph, 1, 0);
    assert_true(low->buffer[DPR_BUFFER_ACT_OUT].pool >= 0);
    assert_memory_equal(&low->buffer[DPR_BUFFER_ACT_OUT], &high->buffer[DPR_BUFFER_ACT_IN],
                        sizeof(dpr_buffer_t));
    assert_memory_equal(&low->buffer[DPR_BUFFER_GRAD_IN], &high->buffer[DPR_BUFFER_GRAD_OUT],
                        sizeof(dpr_buffer_t));
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void buffers_that_are_reused_are_waited_for(void **state)
{
    (void)state;
    /* one slot at either end: 0F1 waits for the transfer of 0F0, that of 0F1 for 1B0 */
    dpr_program_t program = parse_program("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
    const dpr_graph_options_t one = {.recv_slots = 1, .send_slots = 1};
    dpr_graph_t *graph;
    assert_int_equal(dpr_graph_create(&program, &one, &graph), DPR_OK);
    expect_text(graph, find_edge(graph, 1, DPR_EDGE_SEND_BUFFER)->from,
                "rank 0 -> 1: activation of 0F0");
    const int32_t second = cell_of(graph, 0, 1)->send_act;
    expect_text(graph, find_edge(graph, second, DPR_EDGE_RECV_BUFFER)->from, "rank 1: 1B0");
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void receive_slots_are_the_fewest_and_ahead_adds_to_them(void **state)
{
    (void)state;
    /* rank 1 holds at most two activations at once */
    dpr_program_t program = parse_program("0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n"
                                          "1F0,1F1,1B0,1F2,1B1,1F3,1B2,1B3\n");
    static const int32_t expected[] = {2, 3, 4, 4};
    for (int ahead = 0; ahead < 4; ahead++) {
        const dpr_graph_options_t options = {.recv_ahead = ahead};
        dpr_graph_t *graph;
        assert_int_equal(dpr_graph_create(&program, &options, &graph), DPR_OK);
        assert_int_equal(graph->channels[0].recv_slots, expected[ahead]);
        assert_int_equal(graph->pools[graph->channels[0].recv_pool].slots, expected[ahead]);
        dpr_graph_destroy(graph);
    }
    /* and with one fewer it would deadlock */
    const dpr_graph_options_t fewer = {.recv_slots = 1};
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, &fewer, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    dpr_program_free(&program);
}

/* Rank 1 takes its second activation only after 2F5, which follows from the last op of rank 0. */
static const char runs_ahead[] = "0F0,0F1,0F2,0F3,0F4,0F5\n"
                                 "1F0,2F5,1F1,1F2,1F3,1F4,2F0,2F1,2F2,2F3,2F4\n"
                                 "1F5\n";

static void send_slots_grow_where_the_sender_must_run_ahead(void **state)
{
    (void)state;
    dpr_program_t program = parse_program(runs_ahead);
    dpr_graph_options_t options = {.recv_ahead = 0};
    dpr_graph_t *graph;
    assert_int_equal(dpr_graph_create(&program, &options, &graph), DPR_OK);
    assert_int_equal(graph->channels[0].recv_slots, 1);
    assert_int_equal(graph->channels[0].send_slots, 4);
    assert_int_equal(graph->pools[graph->channels[0].send_pool].slots, 4);
    assert_int_equal(graph->channels[1].send_slots, 1); /* it has but one message */
    dpr_graph_destroy(graph);

    options.send_slots = 2;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, &options, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    dpr_program_free(&program);
}

static void send_slots_stay_at_two_where_no_number_helps(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,0B0,0F1,0B1,0F2,0B2\n1F1,1B1,1F0,1B0,1F2,1B2\n");
    dpr_graph_t *graph;
    assert_int_equal(dpr_graph_build(&program, NULL, &graph), DPR_OK);
    assert_int_equal(graph->channels[0].send_slots, 2);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void negative_options_are_refused(void **state)
{
    (void)state;
    dpr_program_t program = make_program("gpipe", 2, 2);
    static const dpr_graph_options_t bad[] = {
        {.recv_slots = -1}, {.recv_ahead = -1}, {.send_slots = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dpr_graph_t *graph;
        assert_int_equal(dpr_graph_create(&program, &bad[i], &graph), DPR_ERR_INVALID);
    }
    dpr_program_free(&program);
}

static void expect_order(const dpr_graph_t *graph)
{
    int32_t *place = malloc((size_t)graph->node_count * sizeof *place);
    for (int32_t n = 0; n < graph->node_count; n++) {
        place[n] = -1;
    }
    for (int32_t i = 0; i < graph->node_count; i++) {
        const int32_t node = graph->order[i];
        assert_in_range(node, 0, graph->node_count - 1);
        assert_int_equal(place[node], -1);
        place[node] = i;
    }
    for (int32_t n = 0; n < graph->node_count; n++) {
        for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
            assert_true(place[graph->edges[e].from] < place[n]);
        }
    }
    free(place);
}

/* Channels in order, messages in the order of their producers, the same at both ends. */
static void expect_channels(const dpr_graph_t *graph)
{
    int32_t next = graph->compute_count;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        if (c > 0) {
            const dpr_channel_t *before = channel - 1;
            const int64_t key =
                ((int64_t)channel->source * graph->ranks + channel->destination) * 8;
            const int64_t last = ((int64_t)before->source * graph->ranks + before->destination) * 8;
            assert_true(last + before->kind < key + channel->kind);
        }
        assert_true(channel->count > 0);
        assert_true(channel->source != channel->destination);
        int32_t producer = -1;
        for (int32_t i = channel->first; i < channel->first + channel->count; i++) {
            assert_int_equal(graph->send_messages[i], next);
            assert_int_equal(graph->recv_messages[i], next);
            const dpr_node_t *node = &graph->nodes[next];
            assert_int_equal(node->channel, c);
            assert_int_equal(node->rank, channel->source);
            assert_int_equal(node->peer, channel->destination);
            assert_int_equal(node->kind, channel->kind);
            const int32_t from = find_edge(graph, next, DPR_EDGE_DATA)->from;
            assert_int_equal(graph->nodes[from].rank, channel->source);
            assert_true(producer < from);
            producer = from;
            next++;
        }
    }
    assert_int_equal(next, graph->node_count);
}

static void the_order_respects_every_edge_of_every_schedule(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int m = 1; m <= 3 * ranks; m++) {
                if (schedules[i].allows(ranks, m)) {
                    dpr_program_t program = make_program(schedules[i].name, ranks, m);
                    dpr_graph_t *graph = make_graph(&program);
                    expect_order(graph);
                    expect_channels(graph);
                    dpr_graph_destroy(graph);
                    dpr_program_free(&program);
                }
            }
        }
    }
}

/* What could run with unbounded buffers runs with the slots that the graph chooses. */
static void any_program_with_an_order_verifies_with_chosen_slots(void **state)
{
    (void)state;
    dice_t dice = {.seed = 7};
    for (int i = 0; i < 3000; i++) {
        dpr_program_t program = random_program(&dice);
        assert_int_equal(dpr_program_check(&program), DPR_OK);
        const dpr_graph_options_t options = {.recv_ahead = dice_roll(&dice, 4)};
        dpr_graph_t *graph = NULL;
        assert_int_equal(dpr_graph_create(&program, &options, &graph), DPR_OK);
        expect_order(graph);
        expect_channels(graph);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
}

static void connecting_again_changes_nothing(void **state)
{
    (void)state;
    dpr_program_t program = make_program("dualpipe", 4, 10);
    dpr_graph_t *graph = make_graph(&program);
    const size_t bytes = (size_t)graph->edge_count * sizeof *graph->edges;
    const int32_t count = graph->edge_count;
    dpr_edge_t *edges = malloc(bytes);
    memcpy(edges, graph->edges, bytes);
    assert_int_equal(dpr_graph_connect(graph), DPR_OK);
    assert_null(graph->order); /* to be proved again */
    assert_int_equal(graph->edge_count, count);
    assert_memory_equal(graph->edges, edges, bytes);
    assert_int_equal(dpr_graph_verify(graph), DPR_OK);
    expect_order(graph);
    free(edges);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_program_becomes_the_graph_drawn_by_hand),
        cmocka_unit_test(what_stays_on_a_rank_needs_no_transfer_and_is_one_buffer),
        cmocka_unit_test(buffers_that_are_reused_are_waited_for),
        cmocka_unit_test(receive_slots_are_the_fewest_and_ahead_adds_to_them),
        cmocka_unit_test(send_slots_grow_where_the_sender_must_run_ahead),
        cmocka_unit_test(send_slots_stay_at_two_where_no_number_helps),
        cmocka_unit_test(negative_options_are_refused),
        cmocka_unit_test(the_order_respects_every_edge_of_every_schedule),
        cmocka_unit_test(any_program_with_an_order_verifies_with_chosen_slots),
        cmocka_unit_test(connecting_again_changes_nothing),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
