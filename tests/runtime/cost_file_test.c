/* Cost models: the three forms of file, what each makes a node cost, round trips, and every way to
 * err. */
#include "data_testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cost_file.h"
#include "schedule/generators.h"

#define assert_same(got, expected) assert_true((got) == (expected))
#define assert_near(got, expected) assert_true(fabs((got) - (expected)) <= 1e-12 * fabs(expected))

static dpr_cost_model_t parse(const char *text)
{
    dpr_cost_model_t model;
    assert_ok(dpr_cost_model_parse("test.json", text, &model));
    return model;
}

/* dualpipe on 4 ranks: F, B, I, W, FB and transfers all occur. */
static dpr_graph_t *make_graph(void)
{
    dpr_program_t program;
    dpr_graph_t *graph;
    assert_ok(dpr_schedule_generate("dualpipe", 4, 8, &program));
    assert_ok(dpr_graph_create(&program, NULL, &graph));
    dpr_program_free(&program);
    return graph;
}

static double *fill(const dpr_cost_model_t *model, const dpr_graph_t *graph, size_t message_bytes)
{
    double *cost = calloc((size_t)graph->node_count, sizeof *cost);
    assert_ok(dpr_cost_model_fill(model, graph, message_bytes, cost));
    return cost;
}

/* ---- Uniform ---- */

static void costs_on_the_command_line_are_parsed(void **state)
{
    (void)state;
    dpr_cost_model_t model;
    assert_ok(dpr_cost_model_read("F=1e-3,I=2e-3,W=3e-3,wire=1e-4", &model));
    assert_int_equal(model.kind, DPR_COST_MODEL_UNIFORM);
    assert_same(model.uniform.f, 1e-3);
    assert_same(model.uniform.w, 3e-3);
    assert_same(model.uniform.wire, 1e-4);
    assert_same(dpr_uniform_b(&model.uniform), 5e-3);
    dpr_cost_model_free(&model);
}

static void a_name_that_is_neither_file_nor_costs_says_what_would_do(void **state)
{
    dpr_cost_model_t model;
    assert_fails(dpr_cost_model_read(path_in(*state, "none.json"), &model), DPR_ERR_IO,
                 "there is no such file; give a cost file or costs such as F=1e-3");
}

static void a_file_is_read_by_its_name_even_with_an_equals_sign(void **state)
{
    static const char text[] = "{\"uniform\": {\"F\": 1, \"I\": 2, \"W\": 3}}";
    dpr_cost_model_t model;
    assert_ok(dpr_cost_model_read(write_file(*state, "F=3", text, sizeof text - 1), &model));
    assert_same(model.uniform.w, 3.0);
    assert_fails(dpr_cost_model_read(*state, &model), DPR_ERR_IO, "Is a directory");
    assert_fails(dpr_cost_model_read(write_file(*state, "zero", text, sizeof text), &model),
                 DPR_ERR_PARSE, "zero byte");
}

static void units_scale_the_costs(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        double sec;
    } units[] = {{"", 1.0},
                 {"\"unit\": \"s\",", 1.0},
                 {"\"unit\": \"ms\",", 1e-3},
                 {"\"unit\": \"us\",", 1e-6}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "{%s \"uniform\": {\"F\": 4, \"I\": 2, \"W\": 3.5, \"FB\": 9}}",
                 units[i].unit);
        dpr_cost_model_t model = parse(text);
        assert_near(model.uniform.f, 4.0 * units[i].sec);
        assert_near(model.uniform.w, 3.5 * units[i].sec);
        assert_near(dpr_uniform_b(&model.uniform), 5.5 * units[i].sec);
        assert_near(dpr_uniform_fb(&model.uniform), 9.0 * units[i].sec);
        assert_same(model.uniform.wire, 0.0);
        dpr_cost_model_free(&model);
    }
}

/* ---- What nodes cost ---- */

/* Stage s: F = 10 + s, I = 1 + s, W = 0.5, B = I + W but for stage 3, whose B is 7; FB of (0, 3) is
 * 90, of others F + B. */
static const char stages_text[] =
    "{\"comment\": \"made up\",\n"
    " \"stages\": [{\"F\": 10, \"I\": 1, \"W\": 0.5},\n"
    "             {\"F\": 11, \"I\": 2, \"W\": 0.5},\n"
    "             {\"F\": 12, \"I\": 3, \"W\": 0.5},\n"
    "             {\"F\": 13, \"I\": 4, \"W\": 0.5, \"B\": 7}],\n"
    " \"FB\": [[null, null, null, 90], [null, null, null, null],\n"
    "        [null, null, null, null], [null, null, null, null]],\n"
    " \"link\": {\"latency_sec\": 0.25, \"bandwidth_bytes_per_sec\": 1000}}\n";

static double expected_b(int stage)
{
    return stage == 3 ? 7.0 : 1.5 + stage;
}

static double expected_cost(const dpr_node_t *node)
{
    switch ((dpr_node_kind_t)node->kind) {
    case DPR_NODE_F:
        return 10.0 + node->stage;
    case DPR_NODE_B:
        return expected_b(node->stage);
    case DPR_NODE_I:
        return 1.0 + node->stage;
    case DPR_NODE_W:
        return 0.5;
    case DPR_NODE_FB:
        return node->stage == 0 && node->b_stage == 3
                   ? 90.0
                   : 10.0 + node->stage + expected_b(node->b_stage);
    case DPR_NODE_SEND_ACT:
    case DPR_NODE_SEND_GRAD:
        break;
    }
    return 0.25 + 500.0 / 1000.0;
}

static void every_node_costs_what_its_stage_says(void **state)
{
    (void)state;
    dpr_graph_t *graph = make_graph();
    dpr_cost_model_t model = parse(stages_text);
    double *cost = fill(&model, graph, 500);
    bool seen[DPR_NODE_KINDS] = {false};
    bool seen_own_fb = false;
    for (int32_t n = 0; n < graph->node_count; n++) {
        assert_same(cost[n], expected_cost(&graph->nodes[n]));
        seen[graph->nodes[n].kind] = true;
        seen_own_fb = seen_own_fb || cost[n] == 90.0;
    }
    for (int kind = 0; kind < DPR_NODE_KINDS; kind++) {
        assert_true(seen[kind]);
    }
    assert_true(seen_own_fb);
    free(cost);
    dpr_cost_model_free(&model);
    dpr_graph_destroy(graph);
}

static void uniform_costs_and_equal_stages_are_the_same(void **state)
{
    (void)state;
    dpr_graph_t *graph = make_graph();
    dpr_cost_model_t uniform = parse("{\"uniform\": {\"F\": 2, \"I\": 1, \"W\": 3}}");
    dpr_cost_model_t stages =
        parse("{\"stages\": [{\"F\": 2, \"I\": 1, \"W\": 3}, {\"F\": 2, \"I\": 1, \"W\": 3},"
              "{\"F\": 2, \"I\": 1, \"W\": 3}, {\"F\": 2, \"I\": 1, \"W\": 3}]}");
    double *a = fill(&uniform, graph, 1 << 20);
    double *b = fill(&stages, graph, 1 << 20);
    assert_memory_equal(a, b, (size_t)graph->node_count * sizeof *a);
    free(a);
    free(b);
    dpr_cost_model_free(&uniform);
    dpr_cost_model_free(&stages);
    dpr_graph_destroy(graph);
}

static void a_model_that_does_not_fit_the_program_is_refused(void **state)
{
    (void)state;
    dpr_graph_t *graph = make_graph();
    double *cost = calloc((size_t)graph->node_count, sizeof *cost);
    dpr_cost_model_t three = parse("{\"stages\": [{\"F\": 1}, {\"F\": 1}, {\"F\": 1}]}");
    dpr_cost_model_t no_w =
        parse("{\"stages\": [{\"F\": 1, \"B\": 2, \"I\": 1}, {\"F\": 1, \"B\": 2},"
              "{\"F\": 1, \"B\": 2}, {\"F\": 1, \"B\": 2}]}");
    dpr_cost_model_t ranks = parse("{\"table\": {\"ranks\": 2, \"stages\": 4}}");
    assert_fails(dpr_cost_model_fill(&three, graph, 1, cost), DPR_ERR_INVALID,
                 "the cost model is for 3 stages, but the program has 4");
    assert_fails(dpr_cost_model_fill(&no_w, graph, 1, cost), DPR_ERR_INVALID,
                 "the cost model has no cost for");
    assert_fails(dpr_cost_model_fill(&ranks, graph, 1, cost), DPR_ERR_INVALID, "2");
    dpr_cost_model_free(&three);
    dpr_cost_model_free(&no_w);
    dpr_cost_model_free(&ranks);
    free(cost);
    dpr_graph_destroy(graph);
}

/* ---- Round trips ---- */

/* The same number, or both unknown. */
static void assert_same_numbers(const double *a, const double *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(a[i] == b[i] || (isnan(a[i]) && isnan(b[i])));
    }
}

static dpr_cost_model_t round_trip(const char *folder, const dpr_cost_model_t *model)
{
    dpr_cost_model_t read;
    const char *path = path_in(folder, "written.json");
    assert_ok(dpr_cost_model_write(model, path));
    assert_ok(dpr_cost_model_read(path, &read));
    assert_int_equal(read.kind, model->kind);
    return read;
}

static void a_table_reads_back_bit_by_bit(void **state)
{
    enum { RANKS = 3, STAGES = 4 };
    dpr_cost_model_t model = {.kind = DPR_COST_MODEL_TABLE};
    assert_ok(dpr_cost_table_init(&model.table, RANKS, STAGES));
    for (int i = 0; i < RANKS * STAGES * 4; i += i % 5 + 1) { /* gaps stay gaps */
        model.table.compute[i] = 1e-3 / (3.0 + i);
    }
    model.table.fb[STAGES * STAGES + 1] = 0.1;
    model.table.fb[3] = 1.0 / 3.0;
    for (int l = 1; l < RANKS * RANKS; l += 2) {
        model.table.latency_sec[l] = 1e-6 / l;
        model.table.bandwidth_bytes_per_sec[l] = l == 3 ? INFINITY : 1e10 / l;
    }
    dpr_cost_model_t read = round_trip(*state, &model);
    assert_int_equal(read.table.ranks, RANKS);
    assert_int_equal(read.table.stages, STAGES);
    assert_same_numbers(read.table.compute, model.table.compute, RANKS * STAGES * 4);
    assert_same_numbers(read.table.fb, model.table.fb, RANKS * STAGES * STAGES);
    assert_same_numbers(read.table.latency_sec, model.table.latency_sec, RANKS * RANKS);
    assert_same_numbers(read.table.bandwidth_bytes_per_sec, model.table.bandwidth_bytes_per_sec,
                        RANKS * RANKS);
    dpr_cost_model_free(&model);
    dpr_cost_model_free(&read);
}

static void stages_read_back_bit_by_bit(void **state)
{
    dpr_cost_model_t model = parse(stages_text);
    dpr_cost_model_t read = round_trip(*state, &model);
    assert_int_equal(read.table.stages, 4);
    assert_same_numbers(read.table.compute, model.table.compute, 16);
    assert_same_numbers(read.table.fb, model.table.fb, 16);
    assert_same_numbers(read.table.latency_sec, model.table.latency_sec, 1);
    assert_same_numbers(read.table.bandwidth_bytes_per_sec, model.table.bandwidth_bytes_per_sec, 1);
    dpr_cost_model_free(&model);
    dpr_cost_model_free(&read);
}

static void uniform_costs_read_back_bit_by_bit(void **state)
{
    dpr_cost_model_t model = parse("{\"unit\": \"us\", \"uniform\": {\"F\": 0.3, \"I\": 0.7, "
                                   "\"W\": 123.456, \"wire\": 1e-9}}");
    dpr_cost_model_t read = round_trip(*state, &model);
    assert_same_numbers(&read.uniform.f, &model.uniform.f, 1);
    assert_same_numbers(&read.uniform.w, &model.uniform.w, 1);
    assert_same(read.uniform.wire, model.uniform.wire);
    assert_same(dpr_uniform_fb(&read.uniform), dpr_uniform_fb(&model.uniform));
    dpr_cost_model_free(&model);
    dpr_cost_model_free(&read);
}

static void a_file_that_cannot_be_written_is_named(void **state)
{
    const dpr_cost_model_t model = {.kind = DPR_COST_MODEL_UNIFORM};
    assert_fails(dpr_cost_model_write(&model, path_in(*state, "no/such/folder.json")), DPR_ERR_IO,
                 "no/such/folder.json");
}

/* ---- Errors ---- */

typedef struct bad_text {
    const char *text;
    const char *says;
} bad_text_t;

static void check_refused(const bad_text_t *cases, size_t count, dpr_status_t status)
{
    dpr_cost_model_t model;
    for (size_t i = 0; i < count; i++) {
        assert_fails(dpr_cost_model_parse("c.json", cases[i].text, &model), status, cases[i].says);
    }
}

static void text_that_is_no_json_names_the_line_and_column(void **state)
{
    (void)state;
    static const bad_text_t cases[] = {
        {"", "c.json:1:"},
        {"{\n \"uniform\": {\n \"F\": 1,,\n}}", "c.json:3:9: malformed JSON"},
        {"{\"uniform\": {\"F\": 1, \"F\": 2}}", "duplicate"},
        {"{\"uniform\": {\"F\": NaN}}", "c.json:1:"},
        {"{\"uniform\": {\"F\": 1e999}}", "c.json:1:"},
        {"{} trailing", "c.json:1:"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0], DPR_ERR_PARSE);
}

static void a_wrong_form_names_the_line_and_the_key(void **state)
{
    (void)state;
    static const bad_text_t cases[] = {
        {"[]", "c.json:1: expected an object of unit, comment, uniform"},
        {"\n\n{}", "c.json:3: expected one of \"uniform\", \"stages\" and \"table\""},
        {"{\"uniform\": {}, \"stages\": []}", "expected one of"},
        {"{\n\"uniforms\": {}}", "c.json:2: uniforms: unknown key; expected unit,"},
        {"{\"unit\": \"s\",\n\"uniform\": {\"F\": 1,\n\"I\": 1}}",
         "c.json:2: uniform: 'W' is missing"},
        {"{\"uniform\": {\"F\": 1,\n\"I\": -1, \"W\": 1}}",
         "c.json:2: uniform.I: expected a number of at least 0"},
        {"{\"uniform\": {\"F\": 1,\n\"I\": 1,\n\"W\": \"1\"}}", "c.json:3: uniform.W: expected"},
        {"{\"uniform\": {\"F\": 1, \"I\": 1, \"W\": 1,\n\"f\": 1}}",
         "c.json:2: uniform.f: unknown key; expected F, I, W, B, FB, wire"},
        {"{\"uniform\": 3}", "uniform: expected an object"},
        {"{\n\"comment\": 3}", "c.json:2: comment: expected a string"},
        {"{\n\"unit\": \"hours\", \"uniform\": {\"F\": 1, \"I\": 1, \"W\": 1}}",
         "c.json:2: unit: expected \"s\", \"ms\" or \"us\""},
        {"{\"uniform\": {\"F\": 1, \"I\": 1, \"W\": 1},\n\"link\": {}}",
         "c.json:2: link: belongs beside \"stages\" only"},
        {"{\"uniform\": {\"F\": 1, \"I\": 1, \"W\": 1},\n\n\"FB\": []}", "c.json:3: FB: belongs"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0], DPR_ERR_DATA);
}

static void bad_stages_name_the_line_and_the_key(void **state)
{
    (void)state;
    static const bad_text_t cases[] = {
        {"{\"stages\": {}}", "stages: expected an array"},
        {"{\"stages\": []}", "stages: 0 entries, expected 1 to"},
        {"{\"stages\": [{\"F\": 1},\n{\"F\": 2},\n{\"F\": 3, \"B\": null}]}",
         "c.json:3: stages[2].B: expected a number"},
        {"{\"stages\": [{\"F\": 1},\n{\"F\": 2,\n\"G\": \"}]{[\\\"\"}]}",
         "c.json:3: stages[1].G: unknown key; expected F, I, W, B"},
        {"{\"stages\": [[{\"F\": 1}, {}],\n3]}", "c.json:1: stages[0]: expected an object"},
        {"{\"stages\": [{\"F\": 1},\n3]}", "c.json:2: stages[1]: expected an object"},
        {"{\"stages\": [{}],\n\"FB\": [[1], [2]]}", "c.json:2: FB: 2 entries, expected 1"},
        {"{\"stages\": [{}, {}],\n\"FB\": [[1, 2],\n[1]]}",
         "c.json:3: FB[1]: 1 entries, expected 2"},
        {"{\"stages\": [{}, {}],\n\"FB\": [[1, 2],\n[1,\n-2]]}", "c.json:4: FB[1][1]: expected"},
        {"{\"stages\": [{}],\n\"link\": {\"latency\": 1}}",
         "c.json:2: link.latency: unknown key; expected latency_sec, bandwidth_bytes_per_sec"},
        {"{\"stages\": [{}],\n\"link\": {}}", "c.json:2: link: 'latency_sec' is missing"},
        {"{\"stages\": [{}],\n\"link\": {\"latency_sec\": 0,\n\"bandwidth_bytes_per_sec\": 0}}",
         "c.json:3: link.bandwidth_bytes_per_sec: expected a number above 0"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0], DPR_ERR_DATA);
}

static void bad_tables_name_the_line_and_the_key(void **state)
{
    (void)state;
    static const bad_text_t cases[] = {
        {"{\"table\": {\"stages\": 1}}", "table: 'ranks' is missing"},
        {"{\"table\": {\"ranks\": 0, \"stages\": 1}}",
         "table.ranks: expected a whole number from 1"},
        {"{\"table\": {\"ranks\": 1.5, \"stages\": 1}}", "table.ranks: expected a whole number"},
        {"{\"table\": {\"ranks\": 4096,\n\"stages\": 8192}}",
         "c.json:2: table.stages: 4096 ranks and 8192 stages make too large a table"},
        {"{\"table\": {\"ranks\": 2, \"stages\": 1, \"compute\": [\n{\"rank\": 2, \"stage\": 0}]}}",
         "c.json:2: table.compute[0].rank: expected a whole number from 0 to 1"},
        {"{\"table\": {\"ranks\": 1, \"stages\": 2, \"compute\": [{\"rank\": 0, \"stage\": 1, "
         "\"F\": 1},\n{\"rank\": 0, \"stage\": 2}]}}",
         "c.json:2: table.compute[1].stage: expected a whole number from 0 to 1"},
        {"{\"table\": {\"ranks\": 1, \"stages\": 1, \"FB\": [{\"rank\": 0, \"f_stage\": 0, "
         "\"b_stage\": 0}]}}",
         "table.FB[0]: 'cost' is missing"},
        {"{\"table\": {\"ranks\": 1, \"stages\": 1, \"FB\": [{\"rank\": 0, \"f_stage\": 0}]}}",
         "table.FB[0]: 'b_stage' is missing"},
        {"{\"table\": {\"ranks\": 1, \"stages\": 1, \"links\": 1}}",
         "table.links: expected an array"},
        {"{\"table\": {\"ranks\": 1, \"stages\": 1, \"links\": [{\"source\": 0, \"destination\": "
         "1}]}}",
         "table.links[0].destination: expected a whole number from 0 to 0"},
    };
    check_refused(cases, sizeof cases / sizeof cases[0], DPR_ERR_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_on_the_command_line_are_parsed),
        cmocka_unit_test(a_name_that_is_neither_file_nor_costs_says_what_would_do),
        cmocka_unit_test(a_file_is_read_by_its_name_even_with_an_equals_sign),
        cmocka_unit_test(units_scale_the_costs),
        cmocka_unit_test(every_node_costs_what_its_stage_says),
        cmocka_unit_test(uniform_costs_and_equal_stages_are_the_same),
        cmocka_unit_test(a_model_that_does_not_fit_the_program_is_refused),
        cmocka_unit_test(a_table_reads_back_bit_by_bit),
        cmocka_unit_test(stages_read_back_bit_by_bit),
        cmocka_unit_test(uniform_costs_read_back_bit_by_bit),
        cmocka_unit_test(a_file_that_cannot_be_written_is_named),
        cmocka_unit_test(text_that_is_no_json_names_the_line_and_column),
        cmocka_unit_test(a_wrong_form_names_the_line_and_the_key),
        cmocka_unit_test(bad_stages_name_the_line_and_the_key),
        cmocka_unit_test(bad_tables_name_the_line_and_the_key),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
