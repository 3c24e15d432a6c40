/* Lowered CSV files: their sends and receives are read, held against what the actions need, and put
 * into the channels in the order in which the file has them. */
#include "tests/schedule/lowering.h"
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"

/* Two ranks, two micro-batches, everything posted as it is produced and consumed. */
static const char sender[] = "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0RECV_B1,0B0,0B1\n";   /* rank 0 */
static const char receiver[] = "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n"; /* rank 1 */

static dpr_program_t parse_two(const char *first, const char *second)
{
    char text[1024];
    snprintf(text, sizeof text, "%s%s", first, second);
    return parse_program(text);
}

static void expect_error(const char *first, const char *second, const char *message)
{
    char text[1024];
    char captured[CAPTURED_MAX];
    dpr_program_t program;
    dpr_status_t status;
    snprintf(text, sizeof text, "%s%s", first, second);
    CAPTURE(status, captured, dpr_csv_parse(text, strlen(text), "low.csv", &program));
    assert_string_equal(captured, message);
    assert_int_equal(status, DPR_ERR_PARSE);
}

/* ---- What is read ---- */

static void sends_and_receives_are_kept_in_order(void **state)
{
    (void)state;
    static const char *const expected[] = {"0SEND_F0", "0SEND_F1", "0RECV_B0", "0RECV_B1",
                                           "1RECV_F0", "1RECV_F1", "1SEND_B0", "1SEND_B1"};
    dpr_program_t program = parse_two(sender, receiver);
    dpr_program_t plain = parse_program("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
    assert_int_equal(program.post_count, 8);
    for (size_t i = 0; i < 8; i++) {
        char text[32];
        assert_string_equal(dpr_post_format(program.posts[i], text, sizeof text), expected[i]);
        assert_int_equal(program.posts[i].rank, i / 4);
    }
    assert_int_equal(program.stages, 2);
    assert_int_equal(program.micro_batches, 2);
    assert_false(dpr_program_equal(&program, &plain)); /* but for the posts they are */
    program.post_count = 0;
    assert_true(dpr_program_equal(&program, &plain));
    dpr_program_free(&plain);
    dpr_program_free(&program);
}

static void sharding_is_passed_over_with_one_notice(void **state)
{
    (void)state;
    static const char text[] = "0UNSHARD,0F0,0B0,0RESHARD,0REDUCE_GRAD\n0UNSHARD0\n";
    dpr_program_t program;
    dpr_status_t status;
    char captured[CAPTURED_MAX];
    CAPTURE(status, captured, dpr_csv_parse(text, strlen(text), "low.csv", &program));
    assert_int_equal(status, DPR_OK);
    assert_int_equal(dpr_program_size(&program), 2);
    assert_int_equal(program.ranks, 2);
    assert_int_equal(program.post_count, 0);
    assert_string_equal(captured,
                        "low.csv: passed over 4 UNSHARD, RESHARD and REDUCE_GRAD cells: stages are "
                        "never sharded here, and gradients are reduced after the schedule");
    dpr_program_free(&program);
}

static void expect_same_graph(const dpr_graph_t *a, const dpr_graph_t *b)
{
    const size_t transfers = (size_t)(a->node_count - a->compute_count);
    assert_int_equal(a->node_count, b->node_count);
    assert_int_equal(a->edge_count, b->edge_count);
    assert_memory_equal(a->edges, b->edges, (size_t)a->edge_count * sizeof *a->edges);
    assert_memory_equal(a->send_messages, b->send_messages, transfers * sizeof(int32_t));
    assert_memory_equal(a->recv_messages, b->recv_messages, transfers * sizeof(int32_t));
}

/* Lowered as its graph has it, a program has the graph of its compute actions alone, and so have
 * its forwards. */
static void expect_lowered_equal(const dpr_program_t *program)
{
    size_t length;
    dpr_graph_t *graph = make_graph(program);
    char *text = write_lowered(program, graph, &length);
    dpr_program_t lowered, forwards, lowered_forwards;
    assert_int_equal(dpr_csv_parse(text, length, "low.csv", &lowered), DPR_OK);
    assert_int_equal(lowered.post_count, 2 * (graph->node_count - graph->compute_count));
    dpr_graph_t *again = make_graph(&lowered);
    expect_same_graph(graph, again);
    dpr_graph_destroy(again);
    dpr_graph_destroy(graph);
    assert_int_equal(dpr_program_forward_only(program, &forwards), DPR_OK);
    assert_int_equal(dpr_program_forward_only(&lowered, &lowered_forwards), DPR_OK);
    graph = make_graph(&forwards);
    again = make_graph(&lowered_forwards);
    assert_int_equal(lowered_forwards.post_count, 2 * (graph->node_count - graph->compute_count));
    expect_same_graph(graph, again);
    dpr_graph_destroy(again);
    dpr_graph_destroy(graph);
    dpr_program_free(&lowered_forwards);
    dpr_program_free(&forwards);
    dpr_program_free(&lowered);
    free(text);
}

static void every_schedule_lowered_has_the_same_graph(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 6; ranks++) {
            for (int m = 1; m <= 4 * ranks; m++) {
                if (schedules[i].allows(ranks, m)) {
                    dpr_program_t program = make_program(schedules[i].name, ranks, m);
                    expect_lowered_equal(&program);
                    dpr_program_free(&program);
                }
            }
        }
    }
}

static void random_programs_lowered_have_the_same_graph(void **state)
{
    (void)state;
    dice_t dice = {.seed = 77};
    for (int i = 0; i < 200; i++) {
        dpr_program_t program = random_program(&dice);
        expect_lowered_equal(&program);
        dpr_program_free(&program);
    }
}

/* ---- What is refused ---- */

static void malformed_cells_say_what_was_expected(void **state)
{
    (void)state;
    expect_error("0F0,0SEND0\n", "",
                 "low.csv:1:6: expected F, B, I or W, SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, "
                 "RESHARD or REDUCE_GRAD, found 'SEND0'");
    expect_error("0F0,0SEND_F\n", "",
                 "low.csv:1:12: expected a micro-batch number, found end of line");
    expect_error("0F0,SEND_F0\n", "",
                 "low.csv:1:5: expected an action such as 2F0 or (0F7;7B3)OVERLAP_F_B, found "
                 "'SEND_F0'");
    expect_error("0F0,0RECV_B65536\n", "",
                 "low.csv:1:12: expected a micro-batch number of at most 65535, found '65536'");
    expect_error("0F0,0UNSHARDED\n", "",
                 "low.csv:1:13: expected ',' or the end of the line, found 'ED'");
    expect_error("0UNSHARD\n", "", "low.csv:2:1: expected at least one action, found end of file");
}

static void missing_posts_are_named_at_the_action_that_needs_them(void **state)
{
    (void)state;
    expect_error("0F0,0SEND_F0,0F1,0RECV_B0,0RECV_B1,0B0,0B1\n", receiver,
                 "low.csv:1:14: expected 0SEND_F1 on this line after this action, found '0F1'");
    expect_error("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0B1\n", receiver,
                 "low.csv:1:40: expected 0RECV_B1 on this line before this action, found '0B1'");
    expect_error(sender, "1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n",
                 "low.csv:2:10: expected 1RECV_F0 on this line before this action, found '1F0'");
    expect_error(sender, "1RECV_F0,1RECV_F1,1F0,1B0,1F1,1B1,1SEND_B1\n",
                 "low.csv:2:23: expected 1SEND_B0 on this line after this action, found '1B0'");
    expect_error("0F0,0SEND_F0,(0F1;0B0)OVERLAP_F_B,0SEND_F1,0RECV_B1,0B1\n", receiver,
                 "low.csv:1:14: expected 0RECV_B0 on this line before this action, found '(0F1'");
}

static void posts_that_nothing_needs_are_refused_where_they_stand(void **state)
{
    (void)state;
    static const char plain[] = "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1";
    char line[256];
    snprintf(line, sizeof line, "%s,1SEND_F1\n", plain);
    expect_error(sender, line,
                 "low.csv:2:53: expected no such send: what 1F1 makes does not go to another "
                 "rank, found '1SEND_F1'");
    snprintf(line, sizeof line, "1RECV_B0,%s\n", plain);
    expect_error(sender, line,
                 "low.csv:2:1: expected no such receive: what 1B0 takes does not come from another "
                 "rank, found '1RECV_B0'");
    snprintf(line, sizeof line, "%s,1SEND_B0\n", plain);
    expect_error(sender, line,
                 "low.csv:2:53: expected each send and receive once, found '1SEND_B0'");
    snprintf(line, sizeof line, "%s,0SEND_F0\n", plain);
    expect_error(sender, line,
                 "low.csv:2:53: expected only sends and receives of this line's actions (0F0 is "
                 "not one), found '0SEND_F0'");
    snprintf(line, sizeof line, "%s,1SEND_B2\n", plain);
    expect_error(sender, line,
                 "low.csv:2:53: expected only sends and receives of this line's actions (1B2 is "
                 "not one), found '1SEND_B2'");
    snprintf(line, sizeof line, "%s,7RECV_F0\n", plain);
    expect_error(sender, line,
                 "low.csv:2:53: expected only sends and receives of this line's actions (7F0 is "
                 "not one), found '7RECV_F0'");
    expect_error("0F0,0SEND_F0\n", "1RECV_F0,1F0,1SEND_B0\n",
                 "low.csv:2:14: expected only sends and receives of this line's actions (1B0 is "
                 "not one), found '1SEND_B0'");
    expect_error("0F0,1F0,0SEND_F0\n", "",
                 "low.csv:1:9: expected no such send: what 0F0 makes does not go to another "
                 "rank, found '0SEND_F0'");
}

static void posts_on_the_wrong_side_of_their_action_are_refused(void **state)
{
    (void)state;
    expect_error("0SEND_F0,0F0,0F1,0SEND_F1,0RECV_B0,0RECV_B1,0B0,0B1\n", receiver,
                 "low.csv:1:1: expected it after 0F0, found '0SEND_F0'");
    expect_error("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0B1,0RECV_B1\n", receiver,
                 "low.csv:1:44: expected it before 0B1, found '0RECV_B1'");
    expect_error(sender, "1RECV_F0,1RECV_F1,1F0,1SEND_B0,1B0,1F1,1B1,1SEND_B1\n",
                 "low.csv:2:23: expected it after 1B0, found '1SEND_B0'");
}

/* The line of an error is the rank's, whatever the lines before it hold. */
static void lines_are_counted_over_ranks_without_work(void **state)
{
    (void)state;
    expect_error("\n\r\n0F0,0SEND_F0\n \n", "1F0\n",
                 "low.csv:5:1: expected 1RECV_F0 on this line before this action, found '1F0'");
}

static void an_incomplete_program_is_left_to_the_program_check(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,0SEND_F0,0B0\n1F0\n");
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_program_check(&program));
    assert_int_equal(status, DPR_ERR_PROGRAM);
    assert_contains(captured, "1F0 has no backward");
    dpr_program_free(&program);
}

/* ---- What the order of the posts does ---- */

static void expect_deadlock(const char *first, const char *second, const char *message)
{
    dpr_program_t program = parse_two(first, second);
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, NULL, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_string_equal(captured, message);
    dpr_program_free(&program);
}

static void a_swapped_pair_of_receives_is_shown_as_a_cycle(void **state)
{
    (void)state;
    expect_deadlock(sender, "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n",
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 0 -> 1: activation of 0F1 waits for rank 0 -> 1: activation of 0F0 "
                    "(rank 0 sends it after that one)\n"
                    "  rank 0 -> 1: activation of 0F0 waits for rank 0 -> 1: activation of 0F1 "
                    "(rank 1 receives it after that one)\n"
                    "to break the circle, post the messages of a channel in the same order at both "
                    "ends");
}

static void a_swapped_pair_of_sends_is_shown_as_a_cycle(void **state)
{
    (void)state;
    expect_deadlock(sender, "1RECV_F0,1RECV_F1,1F0,1B0,1F1,1B1,1SEND_B1,1SEND_B0\n",
                    "the program would deadlock; these wait for each other:\n"
                    "  rank 1 -> 0: gradient of 1B1 waits for rank 1 -> 0: gradient of 1B0 "
                    "(rank 0 receives it after that one)\n"
                    "  rank 1 -> 0: gradient of 1B0 waits for rank 1 -> 0: gradient of 1B1 "
                    "(rank 1 sends it after that one)\n"
                    "to break the circle, post the messages of a channel in the same order at both "
                    "ends");
}

/* Both ends agree on an order that is not the order of production: that is the channel's. */
static void an_order_that_both_ends_agree_on_is_the_channels(void **state)
{
    (void)state;
    dpr_program_t program = parse_two("0F0,0F1,0SEND_F1,0SEND_F0,0RECV_B0,0RECV_B1,0B0,0B1\n",
                                      "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n");
    dpr_graph_t *graph = make_graph(&program);
    const dpr_channel_t *channel = &graph->channels[0];
    assert_int_equal(channel->kind, DPR_NODE_SEND_ACT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(graph->nodes[graph->send_messages[channel->first + i]].micro_batch, 1 - i);
        assert_int_equal(graph->nodes[graph->recv_messages[channel->first + i]].micro_batch, 1 - i);
    }
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

/* The same order is not possible where the first action needs what would come second: its input
 * cannot come before a message that is made later. */
static void an_order_that_keeps_an_action_from_its_input_is_a_cycle(void **state)
{
    (void)state;
    dpr_program_t program = parse_two("0F0,0RECV_B0,0B0,0F1,0SEND_F1,0SEND_F0,0RECV_B1,0B1\n",
                                      "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n");
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_create(&program, NULL, &graph));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    assert_contains(captured, "activation of 0F0 waits for rank 0 -> 1: activation of 0F1 (rank 1 "
                              "receives it after that one)");
    dpr_program_free(&program);
}

/* A program whose posts no reader has checked. */
static void expect_refused_posts(dpr_post_t post, bool drop_last, const char *message)
{
    dpr_program_t program = parse_two(sender, receiver);
    dpr_graph_t *graph;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    if (drop_last) {
        program.post_count--;
    } else {
        assert_int_equal(dpr_program_append_post(&program, post), DPR_OK);
    }
    CAPTURE(status, captured, dpr_graph_build(&program, NULL, &graph));
    assert_int_equal(status, DPR_ERR_PROGRAM);
    assert_string_equal(captured, message);
    dpr_program_free(&program);
}

static void a_graph_is_not_built_from_posts_that_do_not_fit(void **state)
{
    (void)state;
    expect_refused_posts((dpr_post_t){0, DPR_POST_SEND_F, 0, 0}, false,
                         "rank 0: 0SEND_F0: expected each send and receive once");
    expect_refused_posts((dpr_post_t){1, DPR_POST_SEND_F, 0, 0}, false,
                         "rank 1: 0SEND_F0: none of the rank's actions needs it");
    expect_refused_posts((dpr_post_t){1, DPR_POST_SEND_F, 1, 0}, false,
                         "rank 1: 1SEND_F0: none of the rank's actions needs it");
    expect_refused_posts((dpr_post_t){0, DPR_POST_RECV_F, 0, 0}, false,
                         "rank 0: 0RECV_F0: none of the rank's actions needs it");
    expect_refused_posts((dpr_post_t){0, DPR_POST_SEND_F, 0, 2}, false,
                         "rank 0: 0SEND_F2: none of the rank's actions needs it");
    expect_refused_posts((dpr_post_t){0}, true,
                         "rank 1 posts 1 of the 2 gradients to rank 0 that its actions need");
}

/* ---- Mutations ---- */

/* Swaps, drops, doubles or respells a few cells, so that most mutants still parse as cells. */
static size_t mutate_cells(dice_t *dice, char *text, size_t length)
{
    static const char bytes[] = "0123BFSEND_RECV,\n";
    for (int changes = 1 + dice_roll(dice, 3); changes > 0 && length > 24; changes--) {
        const size_t at = (size_t)dice_roll(dice, (int)length - 12);
        const size_t run = 1 + (size_t)dice_roll(dice, 11);
        switch (dice_roll(dice, 3)) {
        case 0:
            text[at] = bytes[dice_roll(dice, (int)sizeof bytes - 1)];
            break;
        case 1:
            memmove(text + at, text + at + run, length - at - run);
            length -= run;
            break;
        default:
            memmove(text + at + run, text + at, length - at);
            length += run;
            break;
        }
    }
    return length;
}

static void ten_thousand_mutated_files_give_a_program_or_an_error(void **state)
{
    (void)state;
    dice_t dice = {.seed = 31};
    dpr_program_t program = make_program("dualpipe", 4, 8);
    dpr_graph_t *graph = make_graph(&program);
    size_t length;
    char *text = write_lowered(&program, graph, &length);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    int built = 0, refused = 0;
    for (int i = 0; i < 10000; i++) {
        char *work = malloc(length + 64);
        memcpy(work, text, length);
        const size_t mutated = mutate_cells(&dice, work, length);
        work = realloc(work, mutated);
        char captured[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, captured, dpr_csv_parse(work, mutated, "fuzz", &program));
        if (status == DPR_OK) {
            CAPTURE(status, captured, dpr_graph_create(&program, NULL, &graph));
            if (status == DPR_OK) {
                built++;
                dpr_graph_destroy(graph);
            }
            dpr_program_free(&program);
        } else {
            refused++;
            assert_int_equal(status, DPR_ERR_PARSE);
            assert_contains(captured, "fuzz:");
            assert_contains(captured, ": expected ");
        }
        free(work);
    }
    assert_true(built > 20 && refused > 5000);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_and_receives_are_kept_in_order),
        cmocka_unit_test(sharding_is_passed_over_with_one_notice),
        cmocka_unit_test(every_schedule_lowered_has_the_same_graph),
        cmocka_unit_test(random_programs_lowered_have_the_same_graph),
        cmocka_unit_test(malformed_cells_say_what_was_expected),
        cmocka_unit_test(missing_posts_are_named_at_the_action_that_needs_them),
        cmocka_unit_test(posts_that_nothing_needs_are_refused_where_they_stand),
        cmocka_unit_test(posts_on_the_wrong_side_of_their_action_are_refused),
        cmocka_unit_test(lines_are_counted_over_ranks_without_work),
        cmocka_unit_test(an_incomplete_program_is_left_to_the_program_check),
        cmocka_unit_test(a_swapped_pair_of_receives_is_shown_as_a_cycle),
        cmocka_unit_test(a_swapped_pair_of_sends_is_shown_as_a_cycle),
        cmocka_unit_test(an_order_that_both_ends_agree_on_is_the_channels),
        cmocka_unit_test(an_order_that_keeps_an_action_from_its_input_is_a_cycle),
        cmocka_unit_test(a_graph_is_not_built_from_posts_that_do_not_fit),
        cmocka_unit_test(ten_thousand_mutated_files_give_a_program_or_an_error),
    };
    return cmocka_run_group_tests_name("csv_lowered", tests, NULL, NULL);
}
