/* Traces, written event by event: a timeline of a million ops needs no tree in memory. */
#include "runtime/trace.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

/* Threads of a process: the compute stream, what it waited for, then the ends of channels. */
enum { TID_COMPUTE = 0, TID_IDLE = 1, TID_CHANNELS = 2 };

typedef struct writer {
    FILE *out;
    bool has_events;
    const dpr_timeline_t *timeline;
    const dpr_graph_t *graph;
    const dpr_trace_part_t *part;
    char *label; /* as JSON, without the quotes */
    int first_pid;
    int64_t first_flow;
    int32_t *consumer; /* by transfer number: the op that needs it; -1: none */
} writer_t;

static double us(double sec)
{
    return 1e6 * sec;
}

static int pid_of(const writer_t *w, int32_t rank)
{
    return w->first_pid + rank;
}

/* Of either end: they are in different processes. */
static int tid_of(int32_t channel)
{
    return TID_CHANNELS + channel;
}

/* Begins an event, of which the caller writes the rest up to the closing brace. */
static void begin_event(writer_t *w, char phase, int pid, int tid)
{
    fprintf(w->out, "%s\n{\"ph\":\"%c\",\"pid\":%d,\"tid\":%d", w->has_events ? "," : "", phase,
            pid, tid);
    w->has_events = true;
}

/* ---- Names ---- */

static void name_thread(writer_t *w, int pid, int tid, const char *name)
{
    begin_event(w, 'M', pid, tid);
    fprintf(w->out, ",\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", name);
    begin_event(w, 'M', pid, tid);
    fprintf(w->out, ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%d}}", tid);
}

static void name_rank(writer_t *w, int32_t rank)
{
    const int pid = pid_of(w, rank);
    begin_event(w, 'M', pid, 0);
    fprintf(w->out, ",\"name\":\"process_name\",\"args\":{\"name\":\"%s%srank %d\"}}", w->label,
            w->label[0] != '\0' ? ": " : "", rank);
    begin_event(w, 'M', pid, 0);
    fprintf(w->out, ",\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}}", pid);
    name_thread(w, pid, TID_COMPUTE, "compute");
    if (w->part->ledger != NULL) {
        name_thread(w, pid, TID_IDLE, "idle");
    }
}

static const char *traffic(int32_t kind)
{
    return kind == DPR_NODE_SEND_ACT ? "act" : "grad";
}

static void name_channel(writer_t *w, int32_t c)
{
    const dpr_channel_t *channel = &w->graph->channels[c];
    char name[48];
    snprintf(name, sizeof name, "%s to %d", traffic(channel->kind), channel->destination);
    name_thread(w, pid_of(w, channel->source), tid_of(c), name);
    snprintf(name, sizeof name, "%s from %d", traffic(channel->kind), channel->source);
    name_thread(w, pid_of(w, channel->destination), tid_of(c), name);
}

/* ---- Slices ---- */

/* "0F3", "(0F7;7B3)", "act 0F3": what the op is, without where it runs. */
static const char *op_name(const dpr_node_t *node, char *text, size_t size)
{
    static const char letters[] = {
        [DPR_NODE_F] = 'F', [DPR_NODE_B] = 'B', [DPR_NODE_I] = 'I', [DPR_NODE_W] = 'W'};
    if (node->kind == DPR_NODE_FB) {
        snprintf(text, size, "(%dF%d;%dB%d)", node->stage, node->micro_batch, node->b_stage,
                 node->b_micro_batch);
    } else if (dpr_node_is_transfer(node)) {
        snprintf(text, size, "%s %d%c%d", traffic(node->kind), node->stage,
                 node->kind == DPR_NODE_SEND_ACT ? 'F' : 'B', node->micro_batch);
    } else {
        snprintf(text, size, "%d%c%d", node->stage, letters[node->kind], node->micro_batch);
    }
    return text;
}

/* A slice up to its arguments, which are the caller's. */
static void begin_slice(writer_t *w, int pid, int tid, const char *name, const char *category,
                        double start_sec, double end_sec)
{
    begin_event(w, 'X', pid, tid);
    fprintf(w->out, ",\"name\":\"%s\",\"cat\":\"%s\",\"ts\":%.6f,\"dur\":%.6f,\"args\":{", name,
            category, us(start_sec), us(fmax(0.0, end_sec - start_sec)));
}

static void write_op(writer_t *w, int32_t n)
{
    const dpr_node_t *node = &w->graph->nodes[n];
    static const char *const categories[] = {[DPR_NODE_F] = "F",
                                             [DPR_NODE_B] = "B",
                                             [DPR_NODE_I] = "I",
                                             [DPR_NODE_W] = "W",
                                             [DPR_NODE_FB] = "FB"};
    char name[64];
    begin_slice(w, pid_of(w, node->rank), TID_COMPUTE, op_name(node, name, sizeof name),
                categories[node->kind], w->timeline->start[n], w->timeline->end[n]);
    fprintf(w->out, "\"stage\":%d,\"micro_batch\":%d", node->stage, node->micro_batch);
    if (node->kind == DPR_NODE_FB) {
        fprintf(w->out, ",\"b_stage\":%d,\"b_micro_batch\":%d", node->b_stage, node->b_micro_batch);
    }
    fprintf(w->out, "}}");
}

/* One end of a message: its wait for the other, no earlier than the message before it left, and
 * the bytes moving. Returns when it ended. */
static double write_message(writer_t *w, int32_t n, bool receives, double free_since_sec)
{
    const dpr_timeline_t *timeline = w->timeline;
    const dpr_node_t *node = &w->graph->nodes[n];
    const int pid = pid_of(w, receives ? node->peer : node->rank);
    const int tid = tid_of(node->channel);
    const double ready = receives ? timeline->receiver_ready[n] : timeline->sender_ready[n];
    const double wait = fmax(ready, free_since_sec);
    char name[64];
    if (wait < timeline->start[n]) {
        begin_slice(w, pid, tid, "wait", "wait", wait, timeline->start[n]);
        fprintf(w->out, "\"for\":\"rank %d\"}}", receives ? node->rank : node->peer);
    }
    begin_slice(w, pid, tid, op_name(node, name, sizeof name), "transfer", timeline->start[n],
                timeline->end[n]);
    fprintf(w->out, "\"sender_ready_us\":%.6f,\"receiver_ready_us\":%.6f,\"done_us\":%.6f}}",
            us(timeline->sender_ready[n]), us(timeline->receiver_ready[n]), us(timeline->end[n]));
    return timeline->end[n];
}

static void write_channel(writer_t *w, int32_t c)
{
    const dpr_channel_t *channel = &w->graph->channels[c];
    name_channel(w, c);
    for (int side = 0; side < 2; side++) {
        const int32_t *messages = side == 0 ? w->graph->send_messages : w->graph->recv_messages;
        double free_since = -INFINITY;
        for (int32_t i = channel->first; i < channel->first + channel->count; i++) {
            free_since = write_message(w, messages[i], side == 1, free_since);
        }
    }
}

static void write_idle(writer_t *w, const dpr_idle_t *idle)
{
    int largest = 0;
    for (int c = 1; c < DPR_CAUSES; c++) {
        largest = idle->sec[c] > idle->sec[largest] ? c : largest;
    }
    if (idle->end_sec <= idle->start_sec) {
        return;
    }
    begin_slice(w, pid_of(w, idle->rank), TID_IDLE, dpr_cause_name((dpr_cause_t)largest), "idle",
                idle->start_sec, idle->end_sec);
    const char *separator = "";
    for (int c = 0; c < DPR_CAUSES; c++) {
        if (idle->sec[c] != 0.0) {
            fprintf(w->out, "%s\"%s_us\":%.6f", separator, dpr_cause_name((dpr_cause_t)c),
                    us(idle->sec[c]));
            separator = ",";
        }
    }
    fprintf(w->out, "}}");
}

/* ---- Flows and counters ---- */

static void write_flow_event(writer_t *w, char phase, int pid, int tid, int64_t id, int32_t kind,
                             double sec)
{
    begin_event(w, phase, pid, tid);
    fprintf(w->out, ",\"name\":\"%s\",\"cat\":\"flow\",\"id\":%lld,\"ts\":%.6f%s}", traffic(kind),
            (long long)id, us(sec), phase == 'f' ? ",\"bp\":\"e\"" : "");
}

/* From the middle of the op that made the message, which is inside its slice whatever a viewer
 * takes a slice's end for, to the start of the op that needed it. */
static void write_flow(writer_t *w, int32_t n)
{
    const dpr_node_t *node = &w->graph->nodes[n];
    const dpr_cell_t *cell =
        &w->graph->cells[(size_t)node->stage * (size_t)w->graph->micro_batches +
                         (size_t)node->micro_batch];
    const int32_t producer = node->kind == DPR_NODE_SEND_ACT ? cell->forward : cell->backward;
    const int32_t consumer = w->consumer[n - w->graph->compute_count];
    const double *start = w->timeline->start;
    const int64_t id = w->first_flow + n;
    assert(consumer >= 0); /* the graph has no message that nobody needs */
    const double from = 0.5 * (start[producer] + w->timeline->end[producer]);
    write_flow_event(w, 's', pid_of(w, node->rank), TID_COMPUTE, id, node->kind, from);
    write_flow_event(w, 'f', pid_of(w, node->peer), TID_COMPUTE, id, node->kind, start[consumer]);
}

static void find_consumers(writer_t *w)
{
    const dpr_graph_t *graph = w->graph;
    for (int32_t t = 0; t < graph->node_count - graph->compute_count; t++) {
        w->consumer[t] = -1;
    }
    for (int32_t n = 0; n < graph->compute_count; n++) {
        for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
            const int32_t from = graph->edges[e].from;
            if (graph->edges[e].kind == DPR_EDGE_DATA && from >= graph->compute_count) {
                w->consumer[from - graph->compute_count] = n;
            }
        }
    }
}

static void write_count(writer_t *w, int32_t rank, double sec, int held)
{
    begin_event(w, 'C', pid_of(w, rank), 0);
    fprintf(w->out, ",\"name\":\"activations held\",\"ts\":%.6f,\"args\":{\"sets\":%d}}", us(sec),
            held);
}

/* A saved set is held from the start of its forward to the end of its backward (of the weights). */
static void write_counts(writer_t *w, int32_t rank)
{
    int held = 0;
    for (int32_t n = w->graph->rank_begin[rank]; n < w->graph->rank_begin[rank + 1]; n++) {
        const int kind = w->graph->nodes[n].kind;
        if (kind == DPR_NODE_F || kind == DPR_NODE_FB) {
            write_count(w, rank, w->timeline->start[n], ++held);
        }
        if (kind == DPR_NODE_B || kind == DPR_NODE_W || kind == DPR_NODE_FB ||
            w->graph->forward_only) {
            write_count(w, rank, w->timeline->end[n], --held);
        }
    }
}

/* ---- A part ---- */

static void write_part(writer_t *w)
{
    const dpr_graph_t *graph = w->graph;
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        name_rank(w, rank);
        for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
            write_op(w, n);
        }
        write_counts(w, rank);
    }
    for (int32_t c = 0; c < graph->channel_count; c++) {
        write_channel(w, c);
    }
    for (int32_t n = graph->compute_count; n < graph->node_count; n++) {
        write_flow(w, n);
    }
    for (size_t i = 0; w->part->ledger != NULL && i < w->part->ledger->idle_count; i++) {
        write_idle(w, &w->part->ledger->idle[i]);
    }
}

static dpr_status_t check_times(const dpr_timeline_t *timeline)
{
    const double *const times[] = {timeline->start, timeline->end, timeline->sender_ready,
                                   timeline->receiver_ready};
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
            if (!isfinite(us(times[i][n]))) {
                char text[96];
                return dpr_fail(DPR_ERR_INVALID,
                                "cannot trace %s at %g seconds: expected finite "
                                "times",
                                dpr_node_format(timeline->graph, n, text, sizeof text),
                                times[i][n]);
            }
        }
    }
    return DPR_OK;
}

/* The label as it stands in JSON, without quotes. */
static dpr_status_t quote(const char *label, char **quoted)
{
    json_t *text = json_string(label != NULL ? label : "");
    char *dumped = text != NULL ? json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    json_decref(text);
    if (dumped == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "the label of a trace: expected UTF-8");
    }
    const size_t length = strlen(dumped);
    memmove(dumped, dumped + 1, length - 2);
    dumped[length - 2] = '\0';
    *quoted = dumped;
    return DPR_OK;
}

static dpr_status_t print_part(writer_t *w, const dpr_trace_part_t *part)
{
    w->part = part;
    w->timeline = part->timeline;
    w->graph = part->timeline->graph;
    dpr_status_t status;
    DPR_TRY(check_times(w->timeline));
    DPR_TRY(quote(part->label, &w->label));
    const int32_t transfers = w->graph->node_count - w->graph->compute_count;
    DPR_TRY_GOTO(dpr_calloc((size_t)transfers, sizeof *w->consumer, &w->consumer), free_label);
    find_consumers(w);
    write_part(w);
    w->first_pid += w->graph->ranks;
    w->first_flow += w->graph->node_count;
    free(w->consumer);
free_label:
    free(w->label);
    return status;
}

dpr_status_t dpr_trace_print(const dpr_trace_part_t *parts, int count, FILE *out)
{
    writer_t writer = {.out = out};
    fprintf(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    for (int i = 0; i < count; i++) {
        DPR_TRY(print_part(&writer, &parts[i]));
    }
    fprintf(out, "\n]}\n");
    return ferror(out) ? dpr_fail(DPR_ERR_IO, "cannot write the trace: %s", strerror(errno))
                       : DPR_OK;
}

dpr_status_t dpr_trace_write(const dpr_trace_part_t *parts, int count, const char *path)
{
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "cannot write the trace to %s: %s", path, strerror(errno));
    }
    dpr_status_t status = dpr_trace_print(parts, count, out);
    if (fclose(out) != 0 && status == DPR_OK) {
        status = dpr_fail(DPR_ERR_IO, "cannot write the trace to %s: %s", path, strerror(errno));
    }
    return status;
}
