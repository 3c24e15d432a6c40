/* Drawings, character by character. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "models/simulate.h"
#include "runtime/drawing.h"
#include "tests/schedule/schedule_testing.h"

typedef struct drawn {
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_timeline_t timeline;
} drawn_t;

static drawn_t make_drawn(dpr_program_t program, const char *costs_text)
{
    drawn_t drawn = {.program = program};
    drawn.graph = make_graph(&drawn.program);
    dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    double *cost;
    assert_int_equal(dpr_uniform_costs_parse(costs_text, &costs), DPR_OK);
    assert_int_equal(dpr_calloc((size_t)drawn.graph->node_count, sizeof *cost, &cost), DPR_OK);
    dpr_uniform_costs_fill(&costs, drawn.graph, cost);
    assert_int_equal(dpr_timeline_init(&drawn.timeline, drawn.graph), DPR_OK);
    dpr_simulate(drawn.graph, cost, &drawn.timeline);
    free(cost);
    return drawn;
}

static void free_drawn(drawn_t *drawn)
{
    dpr_timeline_free(&drawn->timeline);
    dpr_graph_destroy(drawn->graph);
    dpr_program_free(&drawn->program);
}

/* The drawing as text, which the caller frees. */
static char *draw(const drawn_t *drawn, dpr_drawing_options_t options)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    assert_int_equal(dpr_drawing_print(&drawn->timeline, &options, out), DPR_OK);
    fclose(out);
    return text;
}

static void assert_drawing(const drawn_t *drawn, dpr_drawing_options_t options,
                           const char *expected)
{
    char *text = draw(drawn, options);
    assert_string_equal(text, expected);
    free(text);
}

/* 8 columns are the frame; 35 are 7 seconds, 5 columns each. */
static void ops_fill_their_columns(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(parse_program("0F0,0B0\n1F0,1B0\n"), "F=1,B=2,wire=0.6");
    drawn.timeline.end[1] = 7.0; /* a second and 0.8 more, from 5.2 */
    assert_drawing(&drawn, (dpr_drawing_options_t){.width = 44},
                   "rank 0 |F0---.....................B0-------|\n"
                   "rank 1 |........F0---B0--------............|\n"
                   "        0                                 7\n"
                   "         F    B    . idle\n");
    free_drawn(&drawn);
}

static void digits_stand_where_they_fit(void **state)
{
    (void)state;
    /* one rank: F0 .. F11 of 1 each, then the backwards, in an order of its own */
    drawn_t drawn = make_drawn(make_program("gpipe", 1, 12), "F=2,B=1,wire=0");
    char *text = draw(&drawn, (dpr_drawing_options_t){.width = 9 + 72});
    assert_contains(text, "|F0--F1--F2--F3--F4--F5--F6--F7--F8--F9--F10-F11-B");
    free(text);
    text = draw(&drawn, (dpr_drawing_options_t){.width = 9 + 36});
    assert_contains(text, "|F0F1F2F3F4F5F6F7F8F9F-F-B");
    free(text);
    free_drawn(&drawn);
}

static void overlapped_pairs_show_both_micro_batches(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(make_program("dualpipe", 4, 8), "F=1,B=2,I=1,W=1,FB=3,wire=0");
    char *text = draw(&drawn, (dpr_drawing_options_t){.width = 200});
    assert_contains(text, "X");
    for (int32_t n = 0; n < drawn.graph->compute_count; n++) {
        const dpr_node_t *node = &drawn.graph->nodes[n];
        if (node->kind == DPR_NODE_FB) {
            char name[32];
            snprintf(name, sizeof name, "X%d,%d-", node->micro_batch, node->b_micro_batch);
            assert_contains(text, name);
        }
    }
    assert_contains(text, " F    B    I    W    X F&B    . idle\n");
    free(text);
    free_drawn(&drawn);
}

/* Lines of a drawing are as wide as asked, but for the key. */
static void lines_are_as_wide_as_asked(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(make_program("1f1b", 12, 16), "F=1,B=2,wire=0.1");
    const int widths[] = {DPR_DRAWING_MIN_WIDTH, 41, 80, 123, 1000, DPR_DRAWING_MAX_WIDTH};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        char *text = draw(&drawn, (dpr_drawing_options_t){.width = widths[i]});
        const char *line = text;
        for (int rank = 0; rank < 12; rank++) {
            const char *end = strchr(line, '\n');
            char label[32];
            snprintf(label, sizeof label, "rank %2d |", rank);
            assert_memory_equal(line, label, strlen(label));
            assert_int_equal(end - line, widths[i]);
            line = end + 1;
        }
        assert_int_equal(strchr(line, '\n') - line, widths[i] - 1); /* the axis, under the frame */
        free(text);
    }
    free_drawn(&drawn);
}

static void colours_come_and_go_with_each_op(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(parse_program("0F0,0B0\n"), "F=1,B=1");
    assert_drawing(&drawn, (dpr_drawing_options_t){.width = 40, .has_colour = true},
                   "rank 0 |\033[30;48;5;74mF0--------------\033[0m"
                   "\033[30;48;5;214mB0-------------\033[0m|\n"
                   "        0                             2\n"
                   "        \033[30;48;5;74m F \033[0m  \033[30;48;5;214m B \033[0m   . idle\n");
    free_drawn(&drawn);
}

static void a_span_can_be_given(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(parse_program("0F0,0B0\n"), "F=1,B=1");
    assert_drawing(&drawn, (dpr_drawing_options_t){.width = 41, .to_sec = 4.0},
                   "rank 0 |F0------B0------................|\n"
                   "        0                              4\n"
                   "         F    B    . idle\n");
    assert_drawing(&drawn, (dpr_drawing_options_t){.width = 41, .from_sec = 1.5, .to_sec = 2.5},
                   "rank 0 |B0--------------................|\n"
                   "        1.5                          2.5\n"
                   "         F    B    . idle\n");
    free_drawn(&drawn);
}

static void costs_of_nothing_are_drawn(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(make_program("1f1b", 2, 4), "F=0,B=0,wire=0");
    char *text = draw(&drawn, (dpr_drawing_options_t){.width = 40});
    assert_contains(text, "rank 1 |...............................|\n");
    free(text);
    free_drawn(&drawn);
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    drawn_t drawn = make_drawn(parse_program("0F0,0B0\n"), "F=1,B=1");
    const dpr_drawing_options_t bad[] = {
        {.width = DPR_DRAWING_MIN_WIDTH - 1},          {.width = DPR_DRAWING_MAX_WIDTH + 1},
        {.width = 80, .from_sec = 2.0, .to_sec = 1.0}, {.width = 80, .to_sec = INFINITY},
        {.width = 80, .from_sec = NAN, .to_sec = 1.0},
    };
    char message[CAPTURED_MAX];
    dpr_status_t status;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CAPTURE(status, message, dpr_drawing_print(&drawn.timeline, &bad[i], stdout));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_contains(message, "expected");
    }
    drawn.timeline.end[1] = NAN;
    CAPTURE(status, message,
            dpr_drawing_print(&drawn.timeline, &(dpr_drawing_options_t){.width = 80}, stdout));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "rank 0: 0B0 from 1 to nan");
    free_drawn(&drawn);
}

static void a_file_is_no_terminal(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(dpr_drawing_terminal_width(file), DPR_DRAWING_WIDTH);
    assert_false(dpr_drawing_terminal_has_colour(file));
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_fill_their_columns),
        cmocka_unit_test(digits_stand_where_they_fit),
        cmocka_unit_test(overlapped_pairs_show_both_micro_batches),
        cmocka_unit_test(lines_are_as_wide_as_asked),
        cmocka_unit_test(colours_come_and_go_with_each_op),
        cmocka_unit_test(a_span_can_be_given),
        cmocka_unit_test(costs_of_nothing_are_drawn),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(a_file_is_no_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
