/* Reads cost models and applies them. */
#include "runtime/cost_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/json_reader.h"

/* What a table keeps for a rank and stage, in its order. */
enum { KIND_F, KIND_B, KIND_I, KIND_W, KINDS };
enum { MAX_TABLE_ENTRIES = 1 << 27 }; /* FB costs: a gigabyte of them */
static const char *const kind_keys[KINDS] = {"F", "B", "I", "W"};

typedef struct reader {
    dpr_json_source_t source;
    double unit_sec;
} reader_t;

/* ---- Reading: parts ---- */

/* The number under `key`, in units of `scale`; left as it is where it is absent and not required.
 */
static dpr_status_t read_cost(const reader_t *reader, const char *where, const json_t *object,
                              const char *key, double scale, bool required, double *cost)
{
    const json_t *value = json_object_get(object, key);
    double number;
    if (value == NULL && required) {
        return dpr_json_fail(&reader->source, where, "'%s' is missing", key);
    }
    if (value == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_json_number(&reader->source, dpr_json_key(where, key).text, value, &number));
    *cost = number * scale;
    return DPR_OK;
}

/* F, B, I and W into compute[KINDS]. */
static dpr_status_t read_compute(const reader_t *reader, const char *where, const json_t *object,
                                 double *compute)
{
    for (int kind = 0; kind < KINDS; kind++) {
        DPR_TRY(read_cost(reader, where, object, kind_keys[kind], reader->unit_sec, false,
                          &compute[kind]));
    }
    return DPR_OK;
}

static dpr_status_t read_link(const reader_t *reader, const char *where, const json_t *object,
                              double *latency_sec, double *bandwidth)
{
    static const char key[] = "bandwidth_bytes_per_sec";
    *bandwidth = INFINITY;
    DPR_TRY(read_cost(reader, where, object, "latency_sec", 1.0, true, latency_sec));
    DPR_TRY(read_cost(reader, where, object, key, 1.0, false, bandwidth));
    if (*bandwidth == 0.0) {
        return dpr_json_fail(&reader->source, dpr_json_key(where, key).text,
                             "expected a number above 0");
    }
    return DPR_OK;
}

static double *fb_at(const dpr_cost_table_t *table, int rank, int f_stage, int b_stage)
{
    const size_t stages = (size_t)table->stages;
    return &table->fb[((size_t)rank * stages + (size_t)f_stage) * stages + (size_t)b_stage];
}

/* ---- Reading: the three forms ---- */

static dpr_status_t read_uniform(const reader_t *reader, json_t *object, dpr_cost_model_t *model)
{
    dpr_uniform_costs_t *costs = &model->uniform;
    const struct {
        const char *key;
        bool required;
        double *cost;
    } keys[] = {
        {"F", true, &costs->f},  {"I", true, &costs->i},    {"W", true, &costs->w},
        {"B", false, &costs->b}, {"FB", false, &costs->fb}, {"wire", false, &costs->wire},
    };
    DPR_TRY(dpr_json_check_object(&reader->source, "uniform", object, "F, I, W, B, FB, wire"));
    model->kind = DPR_COST_MODEL_UNIFORM;
    *costs = (dpr_uniform_costs_t)DPR_UNIFORM_COSTS_DEFAULT;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        DPR_TRY(read_cost(reader, "uniform", object, keys[i].key, reader->unit_sec,
                          keys[i].required, keys[i].cost));
    }
    return DPR_OK;
}

/* "FB" beside "stages": a square of numbers and nulls. */
static dpr_status_t read_fb_square(const reader_t *reader, const json_t *rows,
                                   dpr_cost_table_t *table)
{
    const size_t stages = (size_t)table->stages;
    DPR_TRY(dpr_json_check_array(&reader->source, "FB", rows, stages));
    for (size_t f = 0; f < stages; f++) {
        const json_t *row = json_array_get(rows, f);
        const dpr_json_path_t where = dpr_json_index("FB", f);
        DPR_TRY(dpr_json_check_array(&reader->source, where.text, row, stages));
        for (size_t b = 0; b < stages; b++) {
            const json_t *value = json_array_get(row, b);
            double cost = NAN;
            if (!json_is_null(value)) {
                DPR_TRY(dpr_json_number(&reader->source, dpr_json_index(where.text, b).text, value,
                                        &cost));
            }
            *fb_at(table, 0, (int)f, (int)b) = cost * reader->unit_sec;
        }
    }
    return DPR_OK;
}

static dpr_status_t read_stages(const reader_t *reader, json_t *root, dpr_cost_model_t *model)
{
    const json_t *stages = json_object_get(root, "stages");
    const json_t *fb = json_object_get(root, "FB");
    json_t *link = json_object_get(root, "link");
    dpr_cost_table_t *table = &model->table;
    model->kind = DPR_COST_MODEL_STAGES;
    DPR_TRY(dpr_json_check_array(&reader->source, "stages", stages, 0));
    const size_t count = json_array_size(stages);
    if (count < 1 || count > DPR_MAX_STAGES) {
        return dpr_json_fail(&reader->source, "stages", "%zu entries, expected 1 to %d", count,
                             DPR_MAX_STAGES);
    }
    DPR_TRY(dpr_cost_table_init(table, 1, (int)count));
    for (size_t s = 0; s < count; s++) {
        json_t *stage = json_array_get(stages, s);
        const dpr_json_path_t where = dpr_json_index("stages", s);
        DPR_TRY(dpr_json_check_object(&reader->source, where.text, stage, "F, I, W, B"));
        DPR_TRY(read_compute(reader, where.text, stage, &table->compute[s * KINDS]));
    }
    if (fb != NULL) {
        DPR_TRY(read_fb_square(reader, fb, table));
    } else {
        free(table->fb);
        table->fb = NULL;
    }
    if (link == NULL) {
        table->latency_sec[0] = 0.0;
        table->bandwidth_bytes_per_sec[0] = INFINITY;
        return DPR_OK;
    }
    DPR_TRY(dpr_json_check_object(&reader->source, "link", link,
                                  "latency_sec, bandwidth_bytes_per_sec"));
    return read_link(reader, "link", link, &table->latency_sec[0],
                     &table->bandwidth_bytes_per_sec[0]);
}

static dpr_status_t read_table_compute(const reader_t *reader, const char *where, json_t *entry,
                                       dpr_cost_table_t *table)
{
    int rank;
    int stage;
    DPR_TRY(dpr_json_check_object(&reader->source, where, entry, "rank, stage, F, I, W, B"));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "rank", 0, table->ranks - 1, &rank));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "stage", 0, table->stages - 1, &stage));
    const size_t cell = (size_t)rank * (size_t)table->stages + (size_t)stage;
    return read_compute(reader, where, entry, &table->compute[cell * KINDS]);
}

static dpr_status_t read_table_fb(const reader_t *reader, const char *where, json_t *entry,
                                  dpr_cost_table_t *table)
{
    const int last = table->stages - 1;
    int rank;
    int f_stage;
    int b_stage;
    DPR_TRY(dpr_json_check_object(&reader->source, where, entry, "rank, f_stage, b_stage, cost"));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "rank", 0, table->ranks - 1, &rank));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "f_stage", 0, last, &f_stage));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "b_stage", 0, last, &b_stage));
    return read_cost(reader, where, entry, "cost", reader->unit_sec, true,
                     fb_at(table, rank, f_stage, b_stage));
}

static dpr_status_t read_table_link(const reader_t *reader, const char *where, json_t *entry,
                                    dpr_cost_table_t *table)
{
    const int last = table->ranks - 1;
    int source;
    int destination;
    DPR_TRY(dpr_json_check_object(&reader->source, where, entry,
                                  "source, destination, latency_sec, bandwidth_bytes_per_sec"));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "source", 0, last, &source));
    DPR_TRY(dpr_json_integer(&reader->source, where, entry, "destination", 0, last, &destination));
    const size_t link = (size_t)source * (size_t)table->ranks + (size_t)destination;
    return read_link(reader, where, entry, &table->latency_sec[link],
                     &table->bandwidth_bytes_per_sec[link]);
}

typedef dpr_status_t (*read_entry_fn_t)(const reader_t *reader, const char *where, json_t *entry,
                                        dpr_cost_table_t *table);

/* The array under "table"."key", if it is there, entry by entry. */
static dpr_status_t read_entries(const reader_t *reader, const json_t *object, const char *key,
                                 read_entry_fn_t read_entry, dpr_cost_table_t *table)
{
    const json_t *entries = json_object_get(object, key);
    const dpr_json_path_t where = dpr_json_key("table", key);
    if (entries == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_json_check_array(&reader->source, where.text, entries, 0));
    for (size_t i = 0; i < json_array_size(entries); i++) {
        DPR_TRY(read_entry(reader, dpr_json_index(where.text, i).text, json_array_get(entries, i),
                           table));
    }
    return DPR_OK;
}

static dpr_status_t read_table(const reader_t *reader, json_t *object, dpr_cost_model_t *model)
{
    dpr_cost_table_t *table = &model->table;
    int ranks;
    int stages;
    model->kind = DPR_COST_MODEL_TABLE;
    DPR_TRY(dpr_json_check_object(&reader->source, "table", object,
                                  "ranks, stages, compute, FB, links"));
    DPR_TRY(dpr_json_integer(&reader->source, "table", object, "ranks", 1, DPR_MAX_RANKS, &ranks));
    DPR_TRY(
        dpr_json_integer(&reader->source, "table", object, "stages", 1, DPR_MAX_STAGES, &stages));
    if ((double)ranks * stages * stages > MAX_TABLE_ENTRIES) {
        return dpr_json_fail(&reader->source, "table.stages",
                             "%d ranks and %d stages make too large a table", ranks, stages);
    }
    DPR_TRY(dpr_cost_table_init(table, ranks, stages));
    DPR_TRY(read_entries(reader, object, "compute", read_table_compute, table));
    DPR_TRY(read_entries(reader, object, "FB", read_table_fb, table));
    return read_entries(reader, object, "links", read_table_link, table);
}

/* ---- Reading: the whole ---- */

static dpr_status_t read_unit(reader_t *reader, const json_t *root)
{
    static const struct {
        const char *name;
        double sec;
    } units[] = {{"s", 1.0}, {"ms", 1e-3}, {"us", 1e-6}};
    const json_t *unit = json_object_get(root, "unit");
    reader->unit_sec = 1.0;
    if (unit == NULL) {
        return DPR_OK;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (json_is_string(unit) && strcmp(json_string_value(unit), units[i].name) == 0) {
            reader->unit_sec = units[i].sec;
            return DPR_OK;
        }
    }
    return dpr_json_fail(&reader->source, "unit", "expected \"s\", \"ms\" or \"us\"");
}

static dpr_status_t read_root(reader_t *reader, json_t *root, dpr_cost_model_t *model)
{
    DPR_TRY(dpr_json_check_object(&reader->source, "", root,
                                  "unit, comment, uniform, stages, FB, link, table"));
    const json_t *comment = json_object_get(root, "comment");
    if (comment != NULL && !json_is_string(comment)) {
        return dpr_json_fail(&reader->source, "comment", "expected a string");
    }
    DPR_TRY(read_unit(reader, root));
    json_t *uniform = json_object_get(root, "uniform");
    json_t *stages = json_object_get(root, "stages");
    json_t *table = json_object_get(root, "table");
    if ((uniform != NULL) + (stages != NULL) + (table != NULL) != 1) {
        return dpr_json_fail(&reader->source, "",
                             "expected one of \"uniform\", \"stages\" and \"table\"");
    }
    if (stages != NULL) {
        return read_stages(reader, root, model);
    }
    const char *stray = json_object_get(root, "FB") != NULL     ? "FB"
                        : json_object_get(root, "link") != NULL ? "link"
                                                                : NULL;
    if (stray != NULL) {
        return dpr_json_fail(&reader->source, stray, "belongs beside \"stages\" only");
    }
    return uniform != NULL ? read_uniform(reader, uniform, model)
                           : read_table(reader, table, model);
}

dpr_status_t dpr_cost_model_parse(const char *name, const char *text, dpr_cost_model_t *model)
{
    reader_t reader = {.source = {.name = name, .text = text}};
    dpr_cost_model_t read = {0};
    json_t *root;
    DPR_TRY(dpr_json_parse(&reader.source, &root));
    const dpr_status_t status = read_root(&reader, root, &read);
    json_decref(root);
    if (status != DPR_OK) {
        dpr_cost_model_free(&read);
        return status;
    }
    *model = read;
    return DPR_OK;
}

dpr_status_t dpr_cost_model_read(const char *text, dpr_cost_model_t *model)
{
    if (access(text, F_OK) == 0) {
        char *content;
        DPR_TRY(dpr_json_read_file(text, &content));
        const dpr_status_t status = dpr_cost_model_parse(text, content, model);
        free(content);
        return status;
    }
    if (strchr(text, '=') == NULL) {
        return dpr_fail(DPR_ERR_IO,
                        "--cost-model '%s': there is no such file; give a cost file or costs such "
                        "as F=1e-3,I=1e-3,W=1e-3,wire=1e-4",
                        text);
    }
    dpr_cost_model_t parsed = {.kind = DPR_COST_MODEL_UNIFORM};
    DPR_TRY(dpr_uniform_costs_parse(text, &parsed.uniform));
    *model = parsed;
    return DPR_OK;
}

void dpr_cost_model_free(dpr_cost_model_t *model)
{
    dpr_cost_table_free(&model->table);
    *model = (dpr_cost_model_t){0};
}

/* ---- Applying ---- */

/* B that was not given is I + W. */
static double stage_cost(const dpr_cost_table_t *table, int kind, int32_t stage)
{
    const double *compute = &table->compute[(size_t)stage * KINDS];
    if (kind == KIND_B && isnan(compute[KIND_B])) {
        return compute[KIND_I] + compute[KIND_W];
    }
    return compute[kind];
}

static double stages_node_cost(const dpr_cost_table_t *table, const dpr_node_t *node,
                               size_t message_bytes)
{
    if (dpr_node_is_transfer(node)) {
        return table->latency_sec[0] + (double)message_bytes / table->bandwidth_bytes_per_sec[0];
    }
    if (node->kind != DPR_NODE_FB) {
        return stage_cost(table, node->kind, node->stage);
    }
    if (table->fb != NULL && !isnan(*fb_at(table, 0, node->stage, node->b_stage))) {
        return *fb_at(table, 0, node->stage, node->b_stage);
    }
    return stage_cost(table, KIND_F, node->stage) + stage_cost(table, KIND_B, node->b_stage);
}

static dpr_status_t fill_from_stages(const dpr_cost_table_t *table, const dpr_graph_t *graph,
                                     size_t message_bytes, double *cost)
{
    if (table->stages != graph->stages) {
        return dpr_fail(DPR_ERR_INVALID, "the cost model is for %d stages, but the program has %d",
                        (int)table->stages, (int)graph->stages);
    }
    for (int32_t n = 0; n < graph->node_count; n++) {
        cost[n] = stages_node_cost(table, &graph->nodes[n], message_bytes);
        if (isnan(cost[n])) {
            char text[96];
            return dpr_fail(DPR_ERR_INVALID,
                            "the cost model has no cost for %s; give every stage F, and I and W "
                            "or, for programs that use only B, B",
                            dpr_node_format(graph, n, text, sizeof text));
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_cost_model_fill(const dpr_cost_model_t *model, const dpr_graph_t *graph,
                                 size_t message_bytes, double *cost)
{
    const dpr_cost_table_t *table = &model->table;
    if (model->kind == DPR_COST_MODEL_UNIFORM) {
        dpr_uniform_costs_fill(&model->uniform, graph, cost);
        return DPR_OK;
    }
    if (model->kind == DPR_COST_MODEL_STAGES) {
        return fill_from_stages(table, graph, message_bytes, cost);
    }
    return dpr_cost_table_fill(table, graph, message_bytes, cost);
}
