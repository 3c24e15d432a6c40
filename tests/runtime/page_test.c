/* The page says what the run says, needs nothing from outside, and no text gets out of its place.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/page.h"
#include "tests/runtime/run_testing.h"

/* The page as text; release with free(). */
static char *draw(const dpr_run_t *run)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    assert_int_equal(dpr_page_print(run, out), DPR_OK);
    fclose(out);
    assert_int_equal(strlen(text), length);
    return text;
}

/* The JSON in the page. */
static json_t *data_of(const char *page)
{
    static const char mark[] = "<script type=\"application/json\" id=\"data\">";
    const char *begin = strstr(page, mark);
    assert_non_null(begin);
    begin += strlen(mark);
    const char *end = strstr(begin, "</script>");
    assert_non_null(end);
    json_error_t error;
    json_t *root = json_loadb(begin, (size_t)(end - begin), JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        fail_msg("not JSON: line %d: %s", error.line, error.text);
    }
    return root;
}

static double number_at(const json_t *array, size_t index)
{
    const json_t *value = json_array_get(array, index);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void assert_near_relative(double value, double expected)
{
    assert_true(fabs(value - expected) <= 1e-9 * fmax(1.0, fabs(expected)));
}

static void assert_numbers(const json_t *array, const double *expected, int32_t count)
{
    assert_int_equal(json_array_size(array), count);
    for (int32_t i = 0; i < count; i++) {
        assert_near_relative(number_at(array, (size_t)i), expected[i]);
    }
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        count++;
    }
    return count;
}

/* ---- What it says ---- */

static void assert_side(const json_t *side, const dpr_run_side_t *expected)
{
    const dpr_timeline_t *timeline = expected->timeline;
    const dpr_graph_t *graph = timeline->graph;
    const int32_t ops = graph->compute_count;
    const int32_t transfers = graph->node_count - ops;
    assert_numbers(json_object_get(side, "start"), timeline->start, graph->node_count);
    assert_numbers(json_object_get(side, "end"), timeline->end, graph->node_count);
    assert_numbers(json_object_get(side, "senderReady"), timeline->sender_ready + ops, transfers);
    assert_numbers(json_object_get(side, "receiverReady"), timeline->receiver_ready + ops,
                   transfers);
    assert_numbers(json_object_get(side, "ledger"), expected->ledger.sec,
                   graph->ranks * DPR_CAUSES);
    assert_numbers(json_object_get(side, "bubble"), expected->ledger.bubble_sec, graph->ranks);
    assert_int_equal(json_array_size(json_object_get(side, "idle")), expected->ledger.idle_count);
    const json_t *path = json_object_get(side, "path");
    assert_int_equal(json_array_size(path), expected->path.count);
    for (size_t i = 0; i < expected->path.count; i++) {
        const json_t *link = json_array_get(path, i);
        assert_true(number_at(link, 0) == expected->path.links[i].node);
        assert_true(number_at(link, 1) == expected->path.links[i].reason);
    }
}

static void the_page_says_what_the_run_says(void **state)
{
    (void)state;
    dice_t dice = {.seed = 21};
    run_fixture_t fixture;
    dpr_run_analysis_t analysis;
    make_measured_run(&fixture, make_program("dualpipe", 4, 8), NULL, &dice);
    assert_int_equal(dpr_run_analyse(&fixture.run, &analysis), DPR_OK);
    char *page = draw(&fixture.run);
    json_t *data = data_of(page);
    const json_t *sides = json_object_get(data, "sides");
    assert_int_equal(json_array_size(sides), 2);
    assert_side(json_array_get(sides, 0), &analysis.predicted);
    assert_side(json_array_get(sides, 1), &analysis.measured);
    const json_t *span = json_object_get(json_object_get(data, "error"), "span");
    assert_near_relative(json_number_value(json_object_get(span, "cost")),
                         analysis.error.span_sec.cost);
    assert_int_equal(json_array_size(json_object_get(data, "kind")), fixture.graph->node_count);
    for (int32_t n = 0; n < fixture.graph->node_count; n++) {
        const dpr_node_t *node = &fixture.graph->nodes[n];
        assert_true(number_at(json_object_get(data, "kind"), (size_t)n) == node->kind);
        assert_true(number_at(json_object_get(data, "rank"), (size_t)n) == node->rank);
        assert_true(number_at(json_object_get(data, "bMicroBatch"), (size_t)n) ==
                    node->b_micro_batch);
    }
    assert_numbers(json_object_get(data, "measuredCost"), fixture.measured_cost,
                   fixture.graph->node_count);
    json_decref(data);
    free(page);
    dpr_run_analysis_free(&analysis);
    free_run(&fixture);
}

static void a_simulation_has_one_timeline_and_no_error(void **state)
{
    (void)state;
    run_fixture_t fixture;
    make_run(&fixture, make_program("zb1p", 3, 5), NULL);
    char *page = draw(&fixture.run);
    json_t *data = data_of(page);
    assert_int_equal(json_array_size(json_object_get(data, "sides")), 1);
    assert_true(json_is_null(json_object_get(data, "error")));
    assert_true(json_is_null(json_object_get(data, "closedForm")));
    json_decref(data);
    free(page);
    free_run(&fixture);
}

/* Up to the peak that the graph's buffers give, and back to none. */
static void the_sets_held_peak_as_the_graph_says(void **state)
{
    (void)state;
    static const char *const schedules[] = {"gpipe", "1f1b", "zb1p", "zbv", "dualpipe"};
    for (size_t s = 0; s < sizeof schedules / sizeof schedules[0]; s++) {
        run_fixture_t fixture;
        make_run(&fixture, make_program(schedules[s], 4, 8), NULL);
        char *page = draw(&fixture.run);
        json_t *data = data_of(page);
        const json_t *side = json_array_get(json_object_get(data, "sides"), 0);
        for (int32_t r = 0; r < 4; r++) {
            const json_t *held = json_array_get(json_object_get(side, "held"), (size_t)r);
            const size_t count = json_array_size(held);
            double peak = 0.0;
            for (size_t i = 1; i < count; i += 2) {
                peak = fmax(peak, number_at(held, i));
            }
            assert_true(peak == dpr_graph_peak_activations(fixture.graph, r));
            assert_true(number_at(held, count - 1) == 0.0);
        }
        json_decref(data);
        free(page);
        free_run(&fixture);
    }
}

/* ---- What it must not do ---- */

static void no_text_gets_out_of_its_place(void **state)
{
    (void)state;
    static const char hostile[] = "</script><script>hacked()</script><!-- <img src=x> & \"'";
    run_fixture_t fixture;
    make_run(&fixture, make_program("1f1b", 2, 3), NULL);
    char *plain = draw(&fixture.run);
    fixture.run.schedule = hostile;
    fixture.facts[0].name = hostile;
    fixture.facts[1].value = hostile;
    char *page = draw(&fixture.run);
    assert_int_equal(count_of(page, "<script"), count_of(plain, "<script"));
    assert_int_equal(count_of(page, "</script"), count_of(plain, "</script"));
    assert_int_equal(count_of(page, "<!--"), count_of(plain, "<!--"));
    assert_null(strstr(page, "<img"));
    assert_contains(page, "<title>&lt;/script&gt;&lt;script&gt;hacked()&lt;/script&gt;&lt;!-- "
                          "&lt;img src=x&gt; &amp; &quot;&#39;, 2 ranks, 3 micro-batches</title>");
    json_t *data = data_of(page);
    assert_string_equal(json_string_value(json_object_get(data, "schedule")), hostile);
    json_decref(data);
    free(plain);
    free(page);
    free_run(&fixture);
}

static void nothing_is_loaded_from_outside(void **state)
{
    (void)state;
    static const char *const loaders[] = {"http:", "https:", " src=",   "<link",    "@import",
                                          "url(",  "fetch(", "import",  "XMLHttp",  "innerHTML",
                                          "eval(", "//cdn",  "<object", "WebSocket"};
    run_fixture_t fixture;
    make_run(&fixture, make_program("1f1b", 2, 3), NULL);
    char *page = draw(&fixture.run);
    for (size_t i = 0; i < sizeof loaders / sizeof loaders[0]; i++) {
        if (strstr(page, loaders[i]) != NULL) {
            fail_msg("the page has '%s'", loaders[i]);
        }
    }
    assert_contains(page, "default-src 'none'");
    assert_null(strstr(page, "@DATA@"));
    free(page);
    free_run(&fixture);
}

static void what_cannot_be_drawn_is_said(void **state)
{
    (void)state;
    char messages[CAPTURED_MAX];
    dpr_status_t status;
    run_fixture_t fixture;
    const char *const path = "/nonexistent/page.html";
    make_run(&fixture, make_program("1f1b", 2, 3), NULL);
    CAPTURE(status, messages, dpr_page_write(&fixture.run, path));
    assert_int_equal(status, DPR_ERR_IO);
    assert_contains(messages, path);
    fixture.run.predicted.start[0] = -INFINITY;
    CAPTURE(status, messages, dpr_page_write(&fixture.run, path));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(messages, "the predicted start of rank 0: 0F0 is -inf");
    free_run(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_says_what_the_run_says),
        cmocka_unit_test(a_simulation_has_one_timeline_and_no_error),
        cmocka_unit_test(the_sets_held_peak_as_the_graph_says),
        cmocka_unit_test(no_text_gets_out_of_its_place),
        cmocka_unit_test(nothing_is_loaded_from_outside),
        cmocka_unit_test(what_cannot_be_drawn_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
