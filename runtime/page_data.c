/* The data of a page: the graph's nodes and what the analysis says of them, as flat arrays. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/page_impl.h"

/* Of times, enough for a picture: a nanosecond of a step of a second. */
#define NUMBER "%.10g"

static void put_key(FILE *out, const char *key)
{
    fprintf(out, ",\n\"%s\":", key);
}

/* As JSON in ASCII without a "<", so that no text can end the script or begin a comment. */
static dpr_status_t put_text(FILE *out, const char *text)
{
    json_t *value = json_string(text);
    char *dumped = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    json_decref(value);
    if (dumped == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot write a text of the page");
    }
    for (const char *at = dumped; *at != '\0'; at++) {
        if (*at == '<') {
            fputs("\\u003c", out);
        } else {
            fputc(*at, out);
        }
    }
    free(dumped);
    return DPR_OK;
}

static void put_numbers(FILE *out, const char *key, const double *values, int32_t count)
{
    put_key(out, key);
    if (values == NULL) {
        fputs("null", out);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        fprintf(out, "%c" NUMBER, i > 0 ? ',' : '[', values[i]);
    }
    fputs(count > 0 ? "]" : "[]", out);
}

/* ---- The graph ---- */

static void put_kinds(const dpr_graph_t *graph, FILE *out)
{
    put_key(out, "kind");
    for (int32_t n = 0; n < graph->node_count; n++) {
        fprintf(out, "%c%d", n > 0 ? ',' : '[', graph->nodes[n].kind);
    }
    fputs(graph->node_count > 0 ? "]" : "[]", out);
}

/* The member at `offset` of every node. */
static void put_member(const dpr_graph_t *graph, const char *key, size_t offset, FILE *out)
{
    put_key(out, key);
    for (int32_t n = 0; n < graph->node_count; n++) {
        int32_t value;
        memcpy(&value, (const char *)&graph->nodes[n] + offset, sizeof value);
        fprintf(out, "%c%d", n > 0 ? ',' : '[', value);
    }
    fputs(graph->node_count > 0 ? "]" : "[]", out);
}

static void put_nodes(const dpr_graph_t *graph, FILE *out)
{
    put_kinds(graph, out);
    put_member(graph, "rank", offsetof(dpr_node_t, rank), out);
    put_member(graph, "peer", offsetof(dpr_node_t, peer), out);
    put_member(graph, "channel", offsetof(dpr_node_t, channel), out);
    put_member(graph, "stage", offsetof(dpr_node_t, stage), out);
    put_member(graph, "microBatch", offsetof(dpr_node_t, micro_batch), out);
    put_member(graph, "bStage", offsetof(dpr_node_t, b_stage), out);
    put_member(graph, "bMicroBatch", offsetof(dpr_node_t, b_micro_batch), out);
}

static void put_graph(const dpr_graph_t *graph, FILE *out)
{
    fprintf(out, ",\n\"ranks\":%d,\"stages\":%d,\"microBatches\":%d,\"computeCount\":%d",
            graph->ranks, graph->stages, graph->micro_batches, graph->compute_count);
    put_key(out, "rankBegin");
    for (int32_t r = 0; r <= graph->ranks; r++) {
        fprintf(out, "%c%d", r > 0 ? ',' : '[', graph->rank_begin[r]);
    }
    fputc(']', out);
    put_nodes(graph, out);
}

/* ---- One timeline ---- */

static void put_ledger(const dpr_ledger_t *ledger, FILE *out)
{
    put_numbers(out, "ledger", ledger->sec, ledger->ranks * DPR_CAUSES);
    put_numbers(out, "late", ledger->late_sec, ledger->ranks);
    put_key(out, "idle");
    fputc('[', out);
    for (size_t i = 0; i < ledger->idle_count; i++) {
        const dpr_idle_t *idle = &ledger->idle[i];
        fprintf(out, "%s[%d,%d,%d," NUMBER "," NUMBER, i > 0 ? ",\n" : "", idle->rank, idle->op,
                idle->release, idle->start_sec, idle->end_sec);
        for (int c = 0; c < DPR_CAUSES; c++) {
            fprintf(out, "," NUMBER, idle->sec[c]);
        }
        fputc(']', out);
    }
    fputc(']', out);
}

static void put_path(const dpr_critical_path_t *path, FILE *out)
{
    put_key(out, "pathParts");
    fprintf(out, "[" NUMBER "," NUMBER "," NUMBER "]", path->compute_sec, path->wire_sec,
            path->wait_sec);
    put_key(out, "path");
    fputc('[', out);
    for (size_t i = 0; i < path->count; i++) {
        const dpr_path_link_t *link = &path->links[i];
        fprintf(out, "%s[%d,%d," NUMBER "]", i > 0 ? "," : "", link->node, link->reason,
                link->wait_sec);
    }
    fputc(']', out);
}

static dpr_status_t put_held(const dpr_timeline_t *timeline, FILE *out)
{
    const dpr_graph_t *graph = timeline->graph;
    dpr_run_held_t *held;
    DPR_TRY(dpr_calloc(2 * (size_t)graph->compute_count, sizeof *held, &held));
    put_key(out, "held");
    for (int32_t r = 0; r < graph->ranks; r++) {
        const size_t count = dpr_run_held(timeline, r, held);
        fputs(r > 0 ? ",\n[" : "[[", out);
        for (size_t i = 0; i < count; i++) {
            fprintf(out, "%s" NUMBER ",%d", i > 0 ? "," : "", held[i].sec, held[i].sets);
        }
        fputc(']', out);
    }
    fputc(']', out);
    free(held);
    return DPR_OK;
}

static dpr_status_t put_side(const char *name, const dpr_run_side_t *side, FILE *out)
{
    const dpr_timeline_t *timeline = side->timeline;
    const dpr_graph_t *graph = timeline->graph;
    const int32_t ops = graph->compute_count;
    const int32_t transfers = graph->node_count - ops;
    fprintf(out, "{\"name\":\"%s\",\"from\":" NUMBER ",\"span\":" NUMBER ",\"bubbleRatio\":" NUMBER,
            name, side->ledger.start_sec, side->summary.span_sec, side->summary.bubble_ratio);
    put_numbers(out, "busy", side->summary.busy_sec, graph->ranks);
    put_numbers(out, "bubble", side->summary.bubble_sec, graph->ranks);
    put_numbers(out, "rankBubbleRatio", side->summary.rank_bubble_ratio, graph->ranks);
    put_numbers(out, "start", timeline->start, graph->node_count);
    put_numbers(out, "end", timeline->end, graph->node_count);
    put_numbers(out, "senderReady", timeline->sender_ready + ops, transfers);
    put_numbers(out, "receiverReady", timeline->receiver_ready + ops, transfers);
    put_ledger(&side->ledger, out);
    put_path(&side->path, out);
    DPR_TRY(put_held(timeline, out));
    fputc('}', out);
    return DPR_OK;
}

/* ---- The run ---- */

static void put_parts(const dpr_error_parts_t *parts, FILE *out)
{
    fprintf(out,
            "{\"predicted\":" NUMBER ",\"measured\":" NUMBER ",\"cost\":" NUMBER ",\"wire\":" NUMBER
            ",\"host\":" NUMBER ",\"order\":" NUMBER "}",
            parts->predicted, parts->measured, parts->cost, parts->wire, parts->host, parts->order);
}

static void put_error(const dpr_prediction_error_t *error, FILE *out)
{
    put_key(out, "error");
    if (error->ranks == 0) {
        fputs("null", out);
        return;
    }
    fputs("{\"span\":", out);
    put_parts(&error->span_sec, out);
    fputs(",\"bubbleRatio\":", out);
    put_parts(&error->bubble_ratio, out);
    fputs(",\"rankBubbleRatio\":", out);
    for (int32_t r = 0; r < error->ranks; r++) {
        fputs(r > 0 ? ",\n" : "[", out);
        put_parts(&error->rank_bubble_ratio[r], out);
    }
    fprintf(out, "],\"meanAbsolute\":" NUMBER "}", error->mean_absolute_bubble_error);
}

static dpr_status_t put_form(const dpr_run_t *run, FILE *out)
{
    const dpr_bubble_t *form = &run->closed_form;
    put_key(out, "closedForm");
    if (!run->has_closed_form) {
        fputs("null", out);
        return DPR_OK;
    }
    fprintf(out, "{\"step\":" NUMBER ",\"bubbleRatio\":" NUMBER ",\"exactness\":\"%s\"",
            form->bubble_sec + form->busy_sec, form->bubble_ratio,
            dpr_exactness_name(form->exactness));
    put_key(out, "condition");
    DPR_TRY(put_text(out, form->condition));
    fputc('}', out);
    return DPR_OK;
}

static dpr_status_t put_head(const dpr_run_t *run, FILE *out)
{
    fputs("{\"schedule\":", out);
    DPR_TRY(put_text(out, run->schedule));
    put_key(out, "clock");
    DPR_TRY(put_text(out, run->clock));
    put_key(out, "unit");
    DPR_TRY(put_text(out, run->unit));
    put_key(out, "facts");
    fputc('[', out);
    for (size_t i = 0; i < run->fact_count; i++) {
        fputs(i > 0 ? ",\n[" : "[", out);
        DPR_TRY(put_text(out, run->facts[i].name));
        fputc(',', out);
        DPR_TRY(put_text(out, run->facts[i].value));
        fputc(']', out);
    }
    fputc(']', out);
    return DPR_OK;
}

static void put_names(FILE *out)
{
    put_key(out, "causes");
    for (int c = 0; c < DPR_CAUSES; c++) {
        fprintf(out, "%c[\"%s\",\"%s\"]", c > 0 ? ',' : '[', dpr_cause_name((dpr_cause_t)c),
                dpr_cause_text((dpr_cause_t)c));
    }
    fputc(']', out);
    put_key(out, "reasons"); /* of a path's links; the first is DPR_PATH_BEGINS */
    for (int reason = DPR_PATH_BEGINS; reason <= DPR_EDGE_RECV_BUFFER; reason++) {
        fprintf(out, "%c\"%s\"", reason > DPR_PATH_BEGINS ? ',' : '[',
                dpr_path_reason_text(reason));
    }
    fputc(']', out);
}

dpr_status_t page_print_data(const dpr_run_t *run, const dpr_run_analysis_t *analysis, FILE *out)
{
    const int32_t count = run->graph->node_count;
    DPR_TRY(put_head(run, out));
    put_names(out);
    put_graph(run->graph, out);
    put_numbers(out, "cost", run->cost, count);
    put_numbers(out, "measuredCost", run->is_measured ? run->measured_cost : NULL, count);
    DPR_TRY(put_form(run, out));
    put_error(&analysis->error, out);
    put_key(out, "sides");
    fputc('[', out);
    DPR_TRY(put_side("predicted", &analysis->predicted, out));
    if (run->is_measured) {
        fputs(",\n", out);
        DPR_TRY(put_side("measured", &analysis->measured, out));
    }
    fputs("]}", out);
    return DPR_OK;
}
