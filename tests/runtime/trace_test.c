/* The trace is JSON, and says what the timeline says: ops, messages, flows and counters. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "models/simulate.h"
#include "runtime/trace.h"
#include "tests/schedule/schedule_testing.h"

typedef struct traced {
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_timeline_t timeline;
    dpr_ledger_t ledger;
} traced_t;

static traced_t make_traced(dpr_program_t program, double wire)
{
    traced_t traced = {.program = program};
    traced.graph = make_graph(&traced.program);
    const dpr_uniform_costs_t costs = {.f = 1, .i = 1, .w = 0.5, .b = -1, .fb = -1, .wire = wire};
    double *cost;
    assert_int_equal(dpr_calloc((size_t)traced.graph->node_count, sizeof *cost, &cost), DPR_OK);
    dpr_uniform_costs_fill(&costs, traced.graph, cost);
    assert_int_equal(dpr_timeline_init(&traced.timeline, traced.graph), DPR_OK);
    dpr_simulate(traced.graph, cost, &traced.timeline);
    assert_int_equal(dpr_ledger_init(&traced.timeline, cost, NULL, &traced.ledger), DPR_OK);
    free(cost);
    return traced;
}

static void free_traced(traced_t *traced)
{
    dpr_ledger_free(&traced->ledger);
    dpr_timeline_free(&traced->timeline);
    dpr_graph_destroy(traced->graph);
    dpr_program_free(&traced->program);
}

/* Prints, parses, and returns the root; the events are its traceEvents. */
static json_t *load(const dpr_trace_part_t *parts, int count)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    assert_int_equal(dpr_trace_print(parts, count, out), DPR_OK);
    fclose(out);
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        fail_msg("not JSON: line %d: %s", error.line, error.text);
    }
    free(text);
    assert_true(json_is_array(json_object_get(root, "traceEvents")));
    return root;
}

static double number(const json_t *event, const char *key)
{
    const json_t *value = json_object_get(event, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static int whole(const json_t *event, const char *key)
{
    const json_t *value = json_object_get(event, key);
    assert_true(json_is_integer(value));
    return (int)json_integer_value(value);
}

static const char *string(const json_t *event, const char *key)
{
    const char *value = json_string_value(json_object_get(event, key));
    assert_non_null(value);
    return value;
}

static bool is_phase(const json_t *event, const char *phase)
{
    return strcmp(string(event, "ph"), phase) == 0;
}

static json_t *events_of(json_t *root)
{
    return json_object_get(root, "traceEvents");
}

static int count_phase(json_t *root, const char *phase, const char *category)
{
    size_t i;
    json_t *event;
    int count = 0;
    json_array_foreach(events_of(root), i, event)
    {
        count += is_phase(event, phase) &&
                 (category == NULL || strcmp(string(event, "cat"), category) == 0);
    }
    return count;
}

/* The one slice of that name in a process, on any thread or on one (tid >= 0). */
static json_t *find_slice(json_t *root, int pid, int tid, const char *name)
{
    size_t i;
    json_t *event;
    json_t *found = NULL;
    json_array_foreach(events_of(root), i, event)
    {
        if (is_phase(event, "X") && whole(event, "pid") == pid &&
            (tid < 0 || whole(event, "tid") == tid) && strcmp(string(event, "name"), name) == 0) {
            assert_null(found);
            found = event;
        }
    }
    assert_non_null(found);
    return found;
}

/* The name of a thread, or of a process with `what` "process_name". */
static const char *name_of(json_t *root, const char *what, int pid, int tid)
{
    size_t i;
    json_t *event;
    json_array_foreach(events_of(root), i, event)
    {
        if (is_phase(event, "M") && strcmp(string(event, "name"), what) == 0 &&
            whole(event, "pid") == pid && whole(event, "tid") == tid) {
            return string(json_object_get(event, "args"), "name");
        }
    }
    fail_msg("no %s of %d, %d", what, pid, tid);
    return NULL;
}

static void ops_and_messages_stand_at_their_times(void **state)
{
    (void)state;
    traced_t traced = make_traced(parse_program("0F0,0B0\n1F0,1B0\n"), 0.25);
    json_t *root = load(&(dpr_trace_part_t){.timeline = &traced.timeline}, 1);
    const json_t *op = find_slice(root, 1, 0, "1B0");
    assert_near(number(op, "ts"), 2.25e6);
    assert_near(number(op, "dur"), 1.5e6);
    assert_string_equal(string(op, "cat"), "B");
    assert_string_equal(name_of(root, "process_name", 1, 0), "rank 1");
    assert_string_equal(name_of(root, "thread_name", 1, 0), "compute");
    const json_t *sent = find_slice(root, 0, -1, "act 0F0");
    const json_t *received = find_slice(root, 1, -1, "act 0F0");
    assert_string_equal(name_of(root, "thread_name", 0, whole(sent, "tid")), "act to 1");
    assert_string_equal(name_of(root, "thread_name", 1, whole(received, "tid")), "act from 0");
    assert_near(number(sent, "ts"), 1e6);
    assert_near(number(received, "ts"), 1e6);
    assert_near(number(received, "dur"), 0.25e6);
    assert_near(number(json_object_get(sent, "args"), "sender_ready_us"), 1e6);
    assert_near(number(json_object_get(sent, "args"), "receiver_ready_us"), 0.0);
    assert_near(number(json_object_get(sent, "args"), "done_us"), 1.25e6);
    /* the receiver waited, the sender did not */
    const json_t *wait = find_slice(root, 1, whole(received, "tid"), "wait");
    assert_near(number(wait, "ts"), 0.0);
    assert_near(number(wait, "dur"), 1e6);
    assert_int_equal(count_phase(root, "X", "wait"), 2);
    json_decref(root);
    free_traced(&traced);
}

static bool is_inside(const json_t *event, const json_t *slice)
{
    const double at = number(event, "ts");
    const double start = number(slice, "ts");
    return whole(event, "pid") == whole(slice, "pid") &&
           whole(event, "tid") == whole(slice, "tid") && at >= start - 1e-5 &&
           at <= start + number(slice, "dur") + 1e-5;
}

static bool is_in_some_op(json_t *root, const json_t *event)
{
    size_t i;
    json_t *slice;
    json_array_foreach(events_of(root), i, slice)
    {
        if (is_phase(slice, "X") && is_inside(event, slice)) {
            return true;
        }
    }
    return false;
}

/* Every transfer has one start at its sender and one finish at its receiver, in this order. */
static void assert_flows(json_t *root, const dpr_graph_t *graph, int pid, int first)
{
    size_t i;
    json_t *event;
    const int count = graph->node_count;
    int *starts = calloc((size_t)count, sizeof *starts);
    int *ends = calloc((size_t)count, sizeof *ends);
    double *at = calloc((size_t)count, sizeof *at);
    assert_true(starts != NULL && ends != NULL && at != NULL);
    json_array_foreach(events_of(root), i, event)
    {
        const bool is_start = is_phase(event, "s");
        if (!is_start && !is_phase(event, "f")) {
            continue;
        }
        const int node = whole(event, "id") - first;
        if (node < 0 || node >= count) {
            continue; /* another part's */
        }
        assert_true(node >= graph->compute_count);
        const dpr_node_t *transfer = &graph->nodes[node];
        assert_int_equal(whole(event, "pid") - pid, is_start ? transfer->rank : transfer->peer);
        assert_int_equal(whole(event, "tid"), 0);
        assert_true(is_in_some_op(root, event));
        assert_true(is_start || number(event, "ts") >= at[node]);
        at[node] = number(event, "ts");
        (is_start ? starts : ends)[node]++;
    }
    for (int n = graph->compute_count; n < count; n++) {
        assert_int_equal(starts[n], 1);
        assert_int_equal(ends[n], 1);
    }
    free(starts);
    free(ends);
    free(at);
}

static void assert_counters(json_t *root, const dpr_graph_t *graph)
{
    for (int rank = 0; rank < graph->ranks; rank++) {
        size_t i;
        json_t *event;
        int most = 0;
        int last = -1;
        json_array_foreach(events_of(root), i, event)
        {
            if (is_phase(event, "C") && whole(event, "pid") == rank) {
                last = whole(json_object_get(event, "args"), "sets");
                most = last > most ? last : most;
            }
        }
        assert_int_equal(most, dpr_graph_peak_activations(graph, rank));
        assert_int_equal(last, 0);
    }
}

/* Slices of one thread may not cross: a viewer would drop one of them. */
static void assert_slices_do_not_cross(json_t *root)
{
    size_t i;
    size_t j;
    json_t *one;
    json_t *other;
    json_array_foreach(events_of(root), i, one)
    {
        if (!is_phase(one, "X")) {
            continue;
        }
        const double start = number(one, "ts");
        const double end = start + number(one, "dur");
        json_array_foreach(events_of(root), j, other)
        {
            if (j <= i || !is_phase(other, "X") || whole(one, "pid") != whole(other, "pid") ||
                whole(one, "tid") != whole(other, "tid")) {
                continue;
            }
            const double from = number(other, "ts");
            assert_true(from >= end - 1e-5 || from + number(other, "dur") <= start + 1e-5);
        }
    }
}

static void every_schedule_has_all_its_events(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t s = 0; s < count; s++) {
        if (!schedules[s].allows(4, 8)) {
            continue;
        }
        traced_t traced = make_traced(make_program(schedules[s].name, 4, 8), 0.1);
        const dpr_trace_part_t part = {.timeline = &traced.timeline, .ledger = &traced.ledger};
        json_t *root = load(&part, 1);
        const dpr_graph_t *graph = traced.graph;
        const int transfers = graph->node_count - graph->compute_count;
        assert_int_equal(count_phase(root, "X", "transfer"), 2 * transfers);
        assert_int_equal(count_phase(root, "X", "F") + count_phase(root, "X", "B") +
                             count_phase(root, "X", "I") + count_phase(root, "X", "W") +
                             count_phase(root, "X", "FB"),
                         graph->compute_count);
        assert_int_equal(count_phase(root, "X", "idle"), traced.ledger.idle_count);
        assert_flows(root, graph, 0, 0);
        assert_counters(root, graph);
        assert_slices_do_not_cross(root);
        json_decref(root);
        free_traced(&traced);
    }
}

/* A receive that was posted while the message before it still moved waits from that one's end. */
static void waits_of_one_end_do_not_cross(void **state)
{
    (void)state;
    traced_t traced = make_traced(make_program("1f1b", 4, 8), 0.1);
    for (int32_t n = 0; n < traced.graph->node_count; n++) {
        traced.timeline.receiver_ready[n] = 0.0;
    }
    json_t *root = load(&(dpr_trace_part_t){.timeline = &traced.timeline}, 1);
    assert_slices_do_not_cross(root);
    json_decref(root);
    free_traced(&traced);
}

static void parts_are_processes_of_their_own(void **state)
{
    (void)state;
    traced_t traced = make_traced(make_program("1f1b", 2, 3), 0.0);
    const dpr_trace_part_t parts[] = {
        {.timeline = &traced.timeline, .label = "predicted"},
        {.timeline = &traced.timeline, .label = "\"measured\"\n\\", .ledger = &traced.ledger}};
    json_t *root = load(parts, 2);
    assert_string_equal(name_of(root, "process_name", 1, 0), "predicted: rank 1");
    assert_string_equal(name_of(root, "process_name", 3, 0), "\"measured\"\n\\: rank 1");
    assert_flows(root, traced.graph, 0, 0);
    assert_flows(root, traced.graph, 2, traced.graph->node_count);
    const json_t *drain = find_slice(root, 3, 1, "drain");
    const dpr_idle_t *idle = &traced.ledger.idle[traced.ledger.idle_count - 1];
    assert_near(number(drain, "dur"), 1e6 * (idle->end_sec - idle->start_sec));
    assert_near(number(json_object_get(drain, "args"), "drain_us"), number(drain, "dur"));
    json_decref(root);
    free_traced(&traced);
}

static void what_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    traced_t traced = make_traced(make_program("1f1b", 2, 3), 0.0);
    dpr_trace_part_t part = {.timeline = &traced.timeline};
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_trace_write(&part, 1, "/no/such/folder/trace.json"));
    assert_int_equal(status, DPR_ERR_IO);
    assert_contains(message, "/no/such/folder/trace.json: No such file");
    CAPTURE(status, message, dpr_trace_write(&part, 1, "/dev/full"));
    assert_int_equal(status, DPR_ERR_IO);
    part.label = "\xff";
    CAPTURE(status, message, dpr_trace_write(&part, 1, "/dev/null"));
    assert_int_equal(status, DPR_ERR_INVALID);
    part.label = NULL;
    traced.timeline.end[1] = INFINITY;
    CAPTURE(status, message, dpr_trace_write(&part, 1, "/dev/null"));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "rank 0: 0F1 at inf seconds");
    free_traced(&traced);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_and_messages_stand_at_their_times),
        cmocka_unit_test(every_schedule_has_all_its_events),
        cmocka_unit_test(waits_of_one_end_do_not_cross),
        cmocka_unit_test(parts_are_processes_of_their_own),
        cmocka_unit_test(what_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
