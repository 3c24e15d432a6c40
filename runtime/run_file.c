/* Saved runs, read: every value is checked before anything is built from it. */
#include "runtime/run_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/json_reader.h"
#include "schedule/csv.h"

enum { VERSION = 1 };

struct dpr_saved_run {
    dpr_run_t run;
    json_t *root; /* what the run's texts point into */
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_run_fact_t *facts;
    dpr_run_link_t *links;
    double *cost;
    double *expected_cost;
    double *delay_sec;
    double *measured_cost;
    double *enqueued_sec;
};

typedef struct reader {
    dpr_json_source_t source;
    dpr_saved_run_t *saved;
} reader_t;

static const json_t *member(const reader_t *reader, const char *key)
{
    return json_object_get(reader->saved->root, key);
}

/* ---- Values ---- */

static dpr_status_t read_text(const reader_t *reader, const json_t *object, const char *where,
                              const char *key, const char **text)
{
    const char *found = json_string_value(json_object_get(object, key));
    if (found == NULL) {
        return dpr_json_fail(&reader->source, dpr_json_key(where, key).text, "expected a text");
    }
    *text = found;
    return DPR_OK;
}

/* A number from `least` to DPR_RUN_MOST_SEC. */
static dpr_status_t read_number(const reader_t *reader, const char *where, const json_t *value,
                                double least, double *number)
{
    const double found = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(found >= least && found <= DPR_RUN_MOST_SEC)) {
        return dpr_json_fail(&reader->source, where, "expected a number from %g to %g", least,
                             DPR_RUN_MOST_SEC);
    }
    *number = found;
    return DPR_OK;
}

/* Exactly `count` numbers. */
static dpr_status_t read_numbers(const reader_t *reader, const char *where, const json_t *array,
                                 int32_t count, double least, double *numbers)
{
    if (!json_is_array(array)) {
        return dpr_json_fail(&reader->source, where, "expected an array of %d numbers", count);
    }
    if (json_array_size(array) != (size_t)count) {
        return dpr_json_fail(&reader->source, where, "%zu entries, expected %d, one a node",
                             json_array_size(array), count);
    }
    for (size_t i = 0; i < (size_t)count; i++) {
        const json_t *value = json_array_get(array, i);
        const double found = json_is_number(value) ? json_number_value(value) : NAN;
        if (!(found >= least && found <= DPR_RUN_MOST_SEC)) {
            return read_number(reader, dpr_json_index(where, i).text, value, least, &numbers[i]);
        }
        numbers[i] = found;
    }
    return DPR_OK;
}

/* The array `key` of a number a node; *numbers stays NULL where it is null and may be. */
static dpr_status_t read_by_node(const reader_t *reader, const char *key, bool is_optional,
                                 double least, double **numbers)
{
    const json_t *array = member(reader, key);
    const int32_t count = reader->saved->graph->node_count;
    if (is_optional && (array == NULL || json_is_null(array))) {
        return DPR_OK;
    }
    DPR_TRY(dpr_calloc((size_t)count, sizeof **numbers, numbers));
    return read_numbers(reader, key, array, count, least, *numbers);
}

/* ---- The head ---- */

static dpr_status_t check_format(const reader_t *reader)
{
    const char *format = json_string_value(member(reader, "format"));
    int version = 0;
    if (format == NULL || strcmp(format, "dualpipe-run") != 0) {
        return dpr_json_fail(&reader->source, "",
                             "not a saved run: expected an object with \"format\": "
                             "\"dualpipe-run\", as --save writes it");
    }
    DPR_TRY(dpr_json_integer(&reader->source, "", reader->saved->root, "version", 0, 1 << 30,
                             &version));
    if (version != VERSION) {
        return dpr_json_fail(&reader->source, "version", "saved run of version %d, expected %d",
                             version, VERSION);
    }
    return dpr_json_check_object(
        &reader->source, "", reader->saved->root,
        "format, version, schedule, clock, unit, facts, program, posts, graph, message_bytes, "
        "links, closed_form, cost, expected_cost, delay, predicted, measured, measured_cost, "
        "enqueued");
}

static dpr_status_t read_facts(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    const json_t *facts = member(reader, "facts");
    DPR_TRY(dpr_json_check_array(&reader->source, "facts", facts, 0));
    const size_t count = json_array_size(facts);
    DPR_TRY(dpr_calloc(count, sizeof *saved->facts, &saved->facts));
    for (size_t i = 0; i < count; i++) {
        const dpr_json_path_t where = dpr_json_index("facts", i);
        json_t *fact = json_array_get(facts, i);
        DPR_TRY(dpr_json_check_object(&reader->source, where.text, fact, "name, value"));
        DPR_TRY(read_text(reader, fact, where.text, "name", &saved->facts[i].name));
        DPR_TRY(read_text(reader, fact, where.text, "value", &saved->facts[i].value));
    }
    saved->run.facts = saved->facts;
    saved->run.fact_count = count;
    return DPR_OK;
}

static dpr_status_t read_head(const reader_t *reader)
{
    dpr_run_t *run = &reader->saved->run;
    const json_t *root = reader->saved->root;
    DPR_TRY(check_format(reader));
    DPR_TRY(read_text(reader, root, "", "schedule", &run->schedule));
    DPR_TRY(read_text(reader, root, "", "clock", &run->clock));
    DPR_TRY(read_text(reader, root, "", "unit", &run->unit));
    return read_facts(reader);
}

/* ---- Program and graph ---- */

static dpr_status_t read_post(const reader_t *reader, size_t index, json_t *value)
{
    dpr_program_t *program = &reader->saved->program;
    const int most[4] = {program->ranks - 1, DPR_POST_KINDS - 1, program->stages - 1,
                         program->micro_batches - 1};
    int number[4];
    const dpr_json_path_t where = dpr_json_index("posts", index);
    DPR_TRY(dpr_json_check_array(&reader->source, where.text, value, 4));
    for (size_t i = 0; i < 4; i++) {
        const json_t *entry = json_array_get(value, i);
        const json_int_t found = json_is_integer(entry) ? json_integer_value(entry) : -1;
        if (found < 0 || found > most[i]) {
            return dpr_json_fail(&reader->source, dpr_json_index(where.text, i).text,
                                 "expected a whole number from 0 to %d", most[i]);
        }
        number[i] = (int)found;
    }
    return dpr_program_append_post(program, (dpr_post_t){.rank = number[0],
                                                         .kind = number[1],
                                                         .stage = number[2],
                                                         .micro_batch = number[3]});
}

/* Of each (stage, micro-batch) there is an action, so few actions with large numbers are refused
 * before memory is taken for what lies between. */
static dpr_status_t check_cells(const reader_t *reader)
{
    const dpr_program_t *program = &reader->saved->program;
    const size_t cells = (size_t)program->stages * (size_t)program->micro_batches;
    if (cells > dpr_program_size(program)) {
        return dpr_json_fail(&reader->source, "program",
                             "%zu actions, expected at least one for each of %d stages and %d "
                             "micro-batches",
                             dpr_program_size(program), program->stages, program->micro_batches);
    }
    return DPR_OK;
}

static dpr_status_t read_program(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    const char *text = NULL;
    size_t index;
    json_t *post;
    char name[256];
    DPR_TRY(read_text(reader, saved->root, "", "program", &text));
    snprintf(name, sizeof name, "%s: program", reader->source.name);
    DPR_TRY(dpr_csv_parse(text, strlen(text), name, &saved->program));
    snprintf(saved->program.name, sizeof saved->program.name, "%s", saved->run.schedule);
    DPR_TRY(check_cells(reader));
    json_t *posts = json_object_get(saved->root, "posts");
    DPR_TRY(dpr_json_check_array(&reader->source, "posts", posts, 0));
    if (saved->program.post_count > 0 && json_array_size(posts) > 0) {
        return dpr_json_fail(&reader->source, "posts",
                             "expected the sends and receives here or in the program, not in both");
    }
    json_array_foreach(posts, index, post)
    {
        DPR_TRY(read_post(reader, index, post));
    }
    saved->run.program = &saved->program;
    return DPR_OK;
}

/* Builds the graph; what is wrong with the program is said with the file's name. */
static dpr_status_t create_graph(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    char reason[4096];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const dpr_status_t status =
        dpr_graph_create(&saved->program, &saved->run.options, &saved->graph);
    dpr_log_capture_end(&capture);
    if (status != DPR_OK) {
        const size_t length = strlen(reason);
        reason[length - (length > 0 && reason[length - 1] == '\n')] = '\0';
        return dpr_fail(status, "%s: program: %s", reader->source.name, reason);
    }
    saved->run.graph = saved->graph;
    return DPR_OK;
}

static dpr_status_t read_graph(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    dpr_graph_options_t *options = &saved->run.options;
    json_t *graph = json_object_get(saved->root, "graph");
    const dpr_json_source_t *source = &reader->source;
    const char *const where = "graph";
    int nodes = 0;
    int compute_nodes = 0;
    DPR_TRY(dpr_json_check_object(source, where, graph,
                                  "recv_slots, recv_ahead, send_slots, compute_nodes, nodes"));
    DPR_TRY(dpr_json_integer(source, where, graph, "recv_slots", 0, DPR_MAX_MICRO_BATCHES,
                             &options->recv_slots));
    DPR_TRY(dpr_json_integer(source, where, graph, "recv_ahead", 0, DPR_MAX_MICRO_BATCHES,
                             &options->recv_ahead));
    DPR_TRY(dpr_json_integer(source, where, graph, "send_slots", 0, DPR_MAX_MICRO_BATCHES,
                             &options->send_slots));
    DPR_TRY(dpr_json_integer(source, where, graph, "compute_nodes", 0, INT32_MAX, &compute_nodes));
    DPR_TRY(dpr_json_integer(source, where, graph, "nodes", 0, INT32_MAX, &nodes));
    DPR_TRY(create_graph(reader));
    if (saved->graph->compute_count != compute_nodes || saved->graph->node_count != nodes) {
        return dpr_json_fail(
            source, where, "%d ops and %d nodes were saved, the program has %d and %d",
            compute_nodes, nodes, saved->graph->compute_count, saved->graph->node_count);
    }
    return DPR_OK;
}

/* ---- Times ---- */

static dpr_status_t read_timeline(const reader_t *reader, const char *key, dpr_timeline_t *timeline)
{
    const dpr_graph_t *graph = reader->saved->graph;
    const int32_t ops = graph->compute_count;
    json_t *object = json_object_get(reader->saved->root, key);
    DPR_TRY(dpr_json_check_object(&reader->source, key, object,
                                  "start, end, sender_ready, receiver_ready"));
    DPR_TRY(dpr_timeline_init(timeline, graph));
    const struct {
        const char *key;
        double *sec;
        int32_t from;
    } arrays[] = {{"start", timeline->start, 0},
                  {"end", timeline->end, 0},
                  {"sender_ready", timeline->sender_ready, ops},
                  {"receiver_ready", timeline->receiver_ready, ops}};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        DPR_TRY(read_numbers(
            reader, dpr_json_key(key, arrays[i].key).text, json_object_get(object, arrays[i].key),
            graph->node_count - arrays[i].from, -DPR_RUN_MOST_SEC, arrays[i].sec + arrays[i].from));
    }
    for (int32_t n = 0; n < ops; n++) {
        timeline->sender_ready[n] = timeline->start[n];
        timeline->receiver_ready[n] = timeline->start[n];
    }
    return DPR_OK;
}

static dpr_status_t read_times(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    dpr_run_t *run = &saved->run;
    DPR_TRY(read_by_node(reader, "cost", false, 0.0, &saved->cost));
    DPR_TRY(read_by_node(reader, "expected_cost", true, 0.0, &saved->expected_cost));
    DPR_TRY(read_by_node(reader, "delay", true, 0.0, &saved->delay_sec));
    DPR_TRY(read_timeline(reader, "predicted", &run->predicted));
    run->cost = saved->cost;
    run->expected_cost = saved->expected_cost;
    run->delay_sec = saved->delay_sec;
    if (member(reader, "measured") == NULL || json_is_null(member(reader, "measured"))) {
        return DPR_OK;
    }
    DPR_TRY(read_timeline(reader, "measured", &run->measured));
    DPR_TRY(read_by_node(reader, "measured_cost", true, 0.0, &saved->measured_cost));
    DPR_TRY(read_by_node(reader, "enqueued", true, -DPR_RUN_MOST_SEC, &saved->enqueued_sec));
    run->is_measured = true;
    run->measured_cost = saved->measured_cost;
    run->enqueued_sec = saved->enqueued_sec;
    return DPR_OK;
}

/* ---- Links and the closed form ---- */

static dpr_status_t read_link(const reader_t *reader, size_t index, json_t *value,
                              dpr_run_link_t *link)
{
    const dpr_json_path_t where = dpr_json_index("links", index);
    const dpr_json_source_t *source = &reader->source;
    const int last = reader->saved->program.ranks - 1;
    DPR_TRY(dpr_json_check_object(source, where.text, value,
                                  "source, destination, latency, bandwidth"));
    DPR_TRY(dpr_json_integer(source, where.text, value, "source", 0, last, &link->source));
    DPR_TRY(
        dpr_json_integer(source, where.text, value, "destination", 0, last, &link->destination));
    DPR_TRY(read_number(reader, dpr_json_key(where.text, "latency").text,
                        json_object_get(value, "latency"), 0.0, &link->latency_sec));
    return read_number(reader, dpr_json_key(where.text, "bandwidth").text,
                       json_object_get(value, "bandwidth"), 1e-100, &link->bandwidth_bytes_per_sec);
}

static dpr_status_t read_links(const reader_t *reader)
{
    dpr_saved_run_t *saved = reader->saved;
    const json_t *links = member(reader, "links");
    DPR_TRY(read_number(reader, "message_bytes", member(reader, "message_bytes"), 0.0,
                        &saved->run.message_bytes));
    DPR_TRY(dpr_json_check_array(&reader->source, "links", links, 0));
    const size_t count = json_array_size(links);
    DPR_TRY(dpr_calloc(count, sizeof *saved->links, &saved->links));
    for (size_t i = 0; i < count; i++) {
        DPR_TRY(read_link(reader, i, json_array_get(links, i), &saved->links[i]));
    }
    saved->run.links = saved->links;
    saved->run.link_count = count;
    return DPR_OK;
}

static dpr_status_t read_exactness(const reader_t *reader, const json_t *form,
                                   dpr_exactness_t *exactness)
{
    const char *name = "";
    DPR_TRY(read_text(reader, form, "closed_form", "exactness", &name));
    for (int i = DPR_EXACT; i <= DPR_APPROXIMATE; i++) {
        if (strcmp(name, dpr_exactness_name((dpr_exactness_t)i)) == 0) {
            *exactness = (dpr_exactness_t)i;
            return DPR_OK;
        }
    }
    return dpr_json_fail(&reader->source, "closed_form.exactness",
                         "expected exact, lower bound, upper bound or approximate");
}

static dpr_status_t read_form(const reader_t *reader)
{
    json_t *form = json_object_get(reader->saved->root, "closed_form");
    dpr_bubble_t *found = &reader->saved->run.closed_form;
    if (form == NULL || json_is_null(form)) {
        return DPR_OK;
    }
    DPR_TRY(dpr_json_check_object(&reader->source, "closed_form", form,
                                  "bubble, busy, bubble_ratio, exactness, condition"));
    const struct {
        const char *key;
        double *number;
    } numbers[] = {{"bubble", &found->bubble_sec},
                   {"busy", &found->busy_sec},
                   {"bubble_ratio", &found->bubble_ratio}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        DPR_TRY(read_number(reader, dpr_json_key("closed_form", numbers[i].key).text,
                            json_object_get(form, numbers[i].key), -DPR_RUN_MOST_SEC,
                            numbers[i].number));
    }
    DPR_TRY(read_exactness(reader, form, &found->exactness));
    DPR_TRY(read_text(reader, form, "closed_form", "condition", &found->condition));
    reader->saved->run.has_closed_form = true;
    return DPR_OK;
}

/* ---- The file ---- */

static dpr_status_t read_run(const reader_t *reader)
{
    DPR_TRY(read_head(reader));
    DPR_TRY(read_program(reader));
    DPR_TRY(read_graph(reader));
    DPR_TRY(read_links(reader));
    DPR_TRY(read_form(reader));
    DPR_TRY(read_times(reader));
    return dpr_run_check(&reader->saved->run);
}

dpr_status_t dpr_run_file_parse(const char *text, const char *name, dpr_saved_run_t **saved)
{
    dpr_saved_run_t *made;
    DPR_TRY(dpr_calloc(1, sizeof *made, &made));
    const reader_t reader = {.source = {.name = name, .text = text}, .saved = made};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_json_parse(&reader.source, &made->root), destroy_made);
    DPR_TRY_GOTO(read_run(&reader), destroy_made);
    *saved = made;
    return DPR_OK;
destroy_made:
    dpr_saved_run_destroy(made);
    return status;
}

dpr_status_t dpr_run_file_read(const char *path, dpr_saved_run_t **saved)
{
    char *text;
    DPR_TRY(dpr_json_read_file(path, &text));
    const dpr_status_t status = dpr_run_file_parse(text, path, saved);
    free(text);
    return status;
}

const dpr_run_t *dpr_saved_run_get(const dpr_saved_run_t *saved)
{
    return &saved->run;
}

void dpr_saved_run_destroy(dpr_saved_run_t *saved)
{
    if (saved == NULL) {
        return;
    }
    dpr_timeline_free(&saved->run.predicted);
    dpr_timeline_free(&saved->run.measured);
    dpr_graph_destroy(saved->graph);
    dpr_program_free(&saved->program);
    free(saved->facts);
    free(saved->links);
    free(saved->cost);
    free(saved->expected_cost);
    free(saved->delay_sec);
    free(saved->measured_cost);
    free(saved->enqueued_sec);
    json_decref(saved->root);
    free(saved);
}
