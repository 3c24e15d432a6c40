/* A saved run comes back as it was, and no file, however bad, does more than be refused. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/run_file.h"
#include "tests/runtime/run_testing.h"

/* The run as text; release with free(). */
static char *save(const dpr_run_t *run)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    assert_int_equal(dpr_run_file_print(run, out), DPR_OK);
    fclose(out);
    return text;
}

static void assert_same_array(const dpr_graph_t *graph, const double *a, const double *b)
{
    assert_true((a == NULL) == (b == NULL));
    if (a != NULL) {
        assert_memory_equal(a, b, (size_t)graph->node_count * sizeof *a);
    }
}

static void assert_same_timeline(const dpr_timeline_t *a, const dpr_timeline_t *b)
{
    assert_same_array(a->graph, a->start, b->start);
    assert_same_array(a->graph, a->end, b->end);
    assert_same_array(a->graph, a->sender_ready, b->sender_ready);
    assert_same_array(a->graph, a->receiver_ready, b->receiver_ready);
}

static void assert_same_head(const dpr_run_t *a, const dpr_run_t *b)
{
    assert_string_equal(a->schedule, b->schedule);
    assert_string_equal(a->clock, b->clock);
    assert_string_equal(a->unit, b->unit);
    assert_int_equal(a->fact_count, b->fact_count);
    for (size_t i = 0; i < a->fact_count; i++) {
        assert_string_equal(a->facts[i].name, b->facts[i].name);
        assert_string_equal(a->facts[i].value, b->facts[i].value);
    }
    assert_int_equal(a->link_count, b->link_count);
    for (size_t i = 0; i < a->link_count; i++) {
        assert_int_equal(a->links[i].source, b->links[i].source);
        assert_int_equal(a->links[i].destination, b->links[i].destination);
        assert_true(a->links[i].latency_sec == b->links[i].latency_sec);
        assert_true(a->links[i].bandwidth_bytes_per_sec == b->links[i].bandwidth_bytes_per_sec);
    }
    assert_true(a->message_bytes == b->message_bytes);
    assert_int_equal(a->has_closed_form, b->has_closed_form);
    if (a->has_closed_form) {
        assert_true(a->closed_form.bubble_sec == b->closed_form.bubble_sec);
        assert_true(a->closed_form.busy_sec == b->closed_form.busy_sec);
        assert_true(a->closed_form.bubble_ratio == b->closed_form.bubble_ratio);
        assert_int_equal(a->closed_form.exactness, b->closed_form.exactness);
        assert_string_equal(a->closed_form.condition, b->closed_form.condition);
    }
}

static void assert_same(const dpr_run_t *a, const dpr_run_t *b)
{
    assert_same_head(a, b);
    assert_true(dpr_program_equal(a->program, b->program));
    assert_memory_equal(&a->options, &b->options, sizeof a->options);
    assert_int_equal(a->graph->node_count, b->graph->node_count);
    assert_memory_equal(a->graph->nodes, b->graph->nodes,
                        (size_t)a->graph->node_count * sizeof *a->graph->nodes);
    assert_same_array(a->graph, a->cost, b->cost);
    assert_same_array(a->graph, a->expected_cost, b->expected_cost);
    assert_same_array(a->graph, a->delay_sec, b->delay_sec);
    assert_same_timeline(&a->predicted, &b->predicted);
    assert_int_equal(a->is_measured, b->is_measured);
    if (a->is_measured) {
        assert_same_timeline(&a->measured, &b->measured);
        assert_same_array(a->graph, a->measured_cost, b->measured_cost);
        assert_same_array(a->graph, a->enqueued_sec, b->enqueued_sec);
    }
}

/* Saves, reads and compares; saves again and compares the texts. */
static void assert_comes_back(const dpr_run_t *run)
{
    char *text = save(run);
    dpr_saved_run_t *saved;
    assert_int_equal(dpr_run_file_parse(text, "text", &saved), DPR_OK);
    assert_same(run, dpr_saved_run_get(saved));
    char *again = save(dpr_saved_run_get(saved));
    assert_string_equal(text, again);
    dpr_saved_run_destroy(saved);
    free(text);
    free(again);
}

static void a_run_comes_back_as_it_was(void **state)
{
    (void)state;
    dice_t dice = {.seed = 11};
    const dpr_graph_options_t options = {.recv_slots = 10, .recv_ahead = 1, .send_slots = 8};
    const char *const schedules[] = {"gpipe", "1f1b", "zb1p", "dualpipe", "dualpipev", "zbv"};
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        run_fixture_t fixture;
        make_run(&fixture, make_program(schedules[i], 4, 10), NULL);
        assert_comes_back(&fixture.run);
        free_run(&fixture);
        make_measured_run(&fixture, make_program(schedules[i], 4, 10), &options, &dice);
        assert_comes_back(&fixture.run);
        free_run(&fixture);
    }
}

static void random_and_lowered_programs_come_back(void **state)
{
    (void)state;
    dice_t dice = {.seed = 12};
    const dpr_graph_options_t unbounded = {.recv_slots = DPR_MAX_MICRO_BATCHES,
                                           .send_slots = DPR_MAX_MICRO_BATCHES};
    run_fixture_t fixture;
    for (int i = 0; i < 50; i++) {
        dpr_program_t program = random_program(&dice);
        make_measured_run(&fixture, program, &unbounded, &dice);
        assert_comes_back(&fixture.run);
        free_run(&fixture);
    }
    make_measured_run(&fixture,
                      parse_program("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B1,0B1,0RECV_B0,0B0\n"
                                    "1RECV_F0,1F0,1RECV_F1,1F1,1B1,1SEND_B1,1B0,1SEND_B0\n"),
                      NULL, &dice);
    assert_true(fixture.program.post_count > 0);
    assert_comes_back(&fixture.run);
    free_run(&fixture);
}

/* ---- Bad files ---- */

/* Refused with `status`, and a message that has `part`. */
static void assert_refused(const char *text, dpr_status_t status, const char *part)
{
    char messages[CAPTURED_MAX];
    dpr_status_t found;
    dpr_saved_run_t *saved = NULL;
    CAPTURE(found, messages, dpr_run_file_parse(text, "bad.json", &saved));
    assert_int_equal(found, status);
    assert_null(saved);
    assert_contains(messages, part);
    assert_contains(messages, "bad.json");
}

static json_t *load(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    return root;
}

/* The text with the member at "key" or "key.key" replaced, or removed where `value` is NULL. */
static char *replace(const char *text, const char *path, json_t *value)
{
    json_t *root = load(text);
    json_t *object = root;
    const char *dot = strchr(path, '.');
    if (dot != NULL) {
        char key[64] = "";
        memcpy(key, path, (size_t)(dot - path));
        object = json_object_get(root, key);
        path = dot + 1;
    }
    assert_int_equal(value != NULL ? json_object_set_new(object, path, value)
                                   : json_object_del(object, path),
                     0);
    char *replaced = json_dumps(root, JSON_REAL_PRECISION(17));
    assert_non_null(replaced);
    json_decref(root);
    return replaced;
}

static void assert_refused_with(const char *text, const char *path, json_t *value,
                                dpr_status_t status, const char *part)
{
    char *replaced = replace(text, path, value);
    assert_refused(replaced, status, part);
    free(replaced);
}

static char *measured_text(void)
{
    dice_t dice = {.seed = 13};
    run_fixture_t fixture;
    make_measured_run(&fixture, make_program("1f1b", 2, 3), NULL, &dice);
    char *text = save(&fixture.run);
    free_run(&fixture);
    return text;
}

static void a_bad_file_is_refused_with_its_place(void **state)
{
    (void)state;
    char *text = measured_text();
    assert_refused("{}", DPR_ERR_DATA, "not a saved run");
    assert_refused("[1, 2]", DPR_ERR_DATA, "not a saved run");
    assert_refused("nonsense", DPR_ERR_PARSE, "malformed JSON");
    assert_refused_with(text, "version", json_integer(2), DPR_ERR_DATA, "version 2, expected 1");
    assert_refused_with(text, "colour", json_integer(2), DPR_ERR_DATA, "colour: unknown key");
    assert_refused_with(text, "schedule", json_integer(2), DPR_ERR_DATA,
                        "schedule: expected a text");
    assert_refused_with(text, "cost", json_pack("[f]", 1.0), DPR_ERR_DATA, "cost: 1 entries");
    assert_refused_with(text, "graph.nodes", json_integer(1), DPR_ERR_DATA, "graph: 12 ops and 1");
    assert_refused_with(text, "graph.send_slots", json_integer(1 << 20), DPR_ERR_DATA,
                        "graph.send_slots: expected a whole number from 0 to 65536");
    assert_refused_with(text, "measured.end", NULL, DPR_ERR_DATA,
                        "measured.end: expected an array");
    assert_refused_with(text, "program", json_string("1000F60000\n"), DPR_ERR_DATA,
                        "1 actions, expected at least one");
    assert_refused_with(text, "program", json_string("0F0,x\n"), DPR_ERR_PARSE,
                        "bad.json: program:1:5");
    assert_refused_with(text, "program", json_string("0F0,0F0\n"), DPR_ERR_PROGRAM, "0F0");
    assert_refused_with(text, "posts", json_pack("[[i,i,i,i]]", 0, 4, 0, 0), DPR_ERR_DATA,
                        "posts[0][1]: expected a whole number from 0 to 3");
    assert_refused_with(text, "links", json_pack("[{s:i}]", "source", 2), DPR_ERR_DATA,
                        "links[0].source: expected a whole number from 0 to 1");
    assert_refused_with(text, "closed_form.exactness", json_string("maybe"), DPR_ERR_DATA,
                        "closed_form.exactness: expected exact");
    free(text);
}

static void a_time_out_of_range_is_refused(void **state)
{
    (void)state;
    char *text = measured_text();
    json_t *root = load(text);
    json_t *starts = json_deep_copy(json_object_get(json_object_get(root, "measured"), "start"));
    json_array_set_new(starts, 3, json_real(1e200));
    assert_refused_with(text, "measured.start", starts, DPR_ERR_DATA,
                        "measured.start[3]: expected a number from -1e+100 to 1e+100");
    json_t *costs = json_deep_copy(json_object_get(root, "cost"));
    json_array_set_new(costs, 2, json_real(-1.0));
    assert_refused_with(text, "cost", costs, DPR_ERR_DATA,
                        "cost[2]: expected a number from 0 to 1e+100");
    json_decref(root);
    free(text);
}

/* What happens is a refusal, or a run that can be explained. */
static void try_text(const char *text)
{
    char messages[CAPTURED_MAX];
    dpr_status_t status;
    dpr_saved_run_t *saved = NULL;
    CAPTURE(status, messages, dpr_run_file_parse(text, "hostile.json", &saved));
    if (status == DPR_OK) {
        dpr_run_analysis_t analysis;
        assert_int_equal(dpr_run_analyse(dpr_saved_run_get(saved), &analysis), DPR_OK);
        dpr_run_analysis_free(&analysis);
        dpr_saved_run_destroy(saved);
    } else {
        assert_true(strlen(messages) > 0);
    }
}

static void a_cut_file_is_refused(void **state)
{
    (void)state;
    char *text = measured_text();
    const size_t length = strlen(text);
    for (size_t cut = 0; cut + 2 < length; cut += 37) {
        char *part = strndup(text, cut);
        assert_refused(part, DPR_ERR_PARSE, "malformed JSON");
        free(part);
    }
    free(text);
}

static json_t *hostile_value(int which)
{
    switch (which) {
    case 0:
        return json_null();
    case 1:
        return json_true();
    case 2:
        return json_string("\\u0000<script>%s%n");
    case 3:
        return json_integer(-1);
    case 4:
        return json_integer(INT64_MAX);
    case 5:
        return json_real(1e308);
    case 6:
        return json_array();
    case 7:
        return json_object();
    case 8:
        return json_pack("[[[[]]]]");
    case 9:
        return json_pack("[i,s,f]", 1, "x", 2.0);
    default:
        return NULL;
    }
}

static void a_value_of_another_kind_is_survived(void **state)
{
    (void)state;
    static const char *const paths[] = {"format",
                                        "version",
                                        "schedule",
                                        "clock",
                                        "unit",
                                        "facts",
                                        "program",
                                        "posts",
                                        "graph",
                                        "message_bytes",
                                        "links",
                                        "closed_form",
                                        "cost",
                                        "expected_cost",
                                        "predicted",
                                        "measured",
                                        "measured_cost",
                                        "enqueued",
                                        "graph.recv_slots",
                                        "graph.recv_ahead",
                                        "graph.send_slots",
                                        "graph.nodes",
                                        "predicted.start",
                                        "predicted.sender_ready",
                                        "measured.end",
                                        "closed_form.busy",
                                        "closed_form.condition"};
    char *text = measured_text();
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        for (int which = 0; which <= 10; which++) {
            char *replaced = replace(text, paths[p], hostile_value(which));
            try_text(replaced);
            free(replaced);
        }
    }
    free(text);
}

/* Posts in range, but of the wrong op, twice, or missing. */
static void posts_of_other_ops_are_survived(void **state)
{
    (void)state;
    dice_t dice = {.seed = 15};
    run_fixture_t fixture;
    make_measured_run(&fixture,
                      parse_program("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B1,0B1,0RECV_B0,0B0\n"
                                    "1RECV_F0,1F0,1RECV_F1,1F1,1B1,1SEND_B1,1B0,1SEND_B0\n"),
                      NULL, &dice);
    char *text = save(&fixture.run);
    free_run(&fixture);
    for (int i = 0; i < 500; i++) {
        json_t *root = load(text);
        json_t *posts = json_deep_copy(json_object_get(root, "posts"));
        for (int changes = 1 + dice_roll(&dice, 3); changes > 0; changes--) {
            const size_t at = (size_t)dice_roll(&dice, (int)json_array_size(posts));
            json_t *post = json_pack("[i,i,i,i]", dice_roll(&dice, 2), dice_roll(&dice, 4),
                                     dice_roll(&dice, 2), dice_roll(&dice, 2));
            switch (dice_roll(&dice, 3)) {
            case 0:
                json_array_set_new(posts, at, post);
                break;
            case 1:
                json_array_insert_new(posts, at, post);
                break;
            default:
                json_array_remove(posts, at);
                json_decref(post);
            }
        }
        char *replaced = replace(text, "posts", posts);
        try_text(replaced);
        free(replaced);
        json_decref(root);
    }
    free(text);
}

static void flipped_bytes_are_survived(void **state)
{
    (void)state;
    dice_t dice = {.seed = 14};
    char *text = measured_text();
    const int length = (int)strlen(text);
    static const char bytes[] = "0123456789-.eE\"[]{},:\\ FBIWx\x80";
    for (int i = 0; i < 3000; i++) {
        char *changed = strdup(text);
        for (int flips = 1 + dice_roll(&dice, 3); flips > 0; flips--) {
            changed[dice_roll(&dice, length)] = bytes[dice_roll(&dice, (int)sizeof bytes - 1)];
        }
        try_text(changed);
        free(changed);
    }
    free(text);
}

static void what_cannot_be_saved_is_said(void **state)
{
    (void)state;
    char messages[CAPTURED_MAX];
    dpr_status_t status;
    run_fixture_t fixture;
    const char *const path = "/nonexistent/run.json";
    make_run(&fixture, make_program("1f1b", 2, 3), NULL);
    CAPTURE(status, messages, dpr_run_file_write(&fixture.run, path));
    assert_int_equal(status, DPR_ERR_IO);
    assert_contains(messages, path);
    fixture.facts[1].value = "\xff";
    CAPTURE(status, messages, dpr_run_file_write(&fixture.run, path));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(messages, "the fact 'data' of a run: expected UTF-8 text");
    fixture.facts[1].value = "";
    fixture.run.predicted.end[1] = NAN;
    CAPTURE(status, messages, dpr_run_file_write(&fixture.run, path));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(messages, "rank 0: 0F1");
    free_run(&fixture);
    dpr_saved_run_t *saved;
    CAPTURE(status, messages, dpr_run_file_read(path, &saved));
    assert_int_equal(status, DPR_ERR_IO);
    assert_contains(messages, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_comes_back_as_it_was),
        cmocka_unit_test(random_and_lowered_programs_come_back),
        cmocka_unit_test(a_bad_file_is_refused_with_its_place),
        cmocka_unit_test(a_time_out_of_range_is_refused),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(a_value_of_another_kind_is_survived),
        cmocka_unit_test(posts_of_other_ops_are_survived),
        cmocka_unit_test(flipped_bytes_are_survived),
        cmocka_unit_test(what_cannot_be_saved_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
