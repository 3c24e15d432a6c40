/* Saved runs, written number by number: a run of a million ops needs no tree in memory. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/run_file.h"
#include "schedule/csv.h"

/* `,"key":`, but for the comma on the first of an object. */
static void put_key(FILE *out, const char *key, bool is_first)
{
    fprintf(out, "%s\"%s\":", is_first ? "" : ",\n", key);
}

static dpr_status_t put_text(FILE *out, const char *text)
{
    json_t *value = json_string(text);
    char *dumped = value != NULL ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    if (dumped == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot write a text of a saved run");
    }
    fputs(dumped, out);
    free(dumped);
    return DPR_OK;
}

/* %.17g gives back the same number when it is read. */
static void put_numbers(FILE *out, const double *values, int32_t count)
{
    fputc('[', out);
    for (int32_t i = 0; i < count; i++) {
        fprintf(out, "%s%.17g", i > 0 ? "," : "", values[i]);
    }
    fputc(']', out);
}

static void put_array(FILE *out, const char *key, const double *values, int32_t count)
{
    put_key(out, key, false);
    if (values == NULL) {
        fputs("null", out);
    } else {
        put_numbers(out, values, count);
    }
}

/* ---- Parts ---- */

static dpr_status_t put_facts(const dpr_run_t *run, FILE *out)
{
    put_key(out, "facts", false);
    fputc('[', out);
    for (size_t i = 0; i < run->fact_count; i++) {
        fputs(i > 0 ? ",\n  {\"name\":" : "\n  {\"name\":", out);
        DPR_TRY(put_text(out, run->facts[i].name));
        fputs(",\"value\":", out);
        DPR_TRY(put_text(out, run->facts[i].value));
        fputc('}', out);
    }
    fputc(']', out);
    return DPR_OK;
}

static dpr_status_t put_program(const dpr_run_t *run, FILE *out)
{
    char *csv = NULL;
    size_t length = 0;
    FILE *text = open_memstream(&csv, &length);
    if (text == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot write the program of a saved run");
    }
    dpr_status_t status = dpr_csv_write(run->program, text);
    if (fclose(text) != 0 && status == DPR_OK) {
        status = dpr_fail(DPR_ERR_MEMORY, "cannot write the program of a saved run");
    }
    if (status == DPR_OK) {
        put_key(out, "program", false);
        status = put_text(out, csv);
    }
    free(csv);
    return status;
}

static void put_posts(const dpr_program_t *program, FILE *out)
{
    put_key(out, "posts", false);
    fputc('[', out);
    for (size_t i = 0; i < program->post_count; i++) {
        const dpr_post_t *post = &program->posts[i];
        fprintf(out, "%s[%d,%d,%d,%d]", i > 0 ? "," : "", post->rank, post->kind, post->stage,
                post->micro_batch);
    }
    fputc(']', out);
}

static void put_links(const dpr_run_t *run, FILE *out)
{
    put_key(out, "message_bytes", false);
    fprintf(out, "%.17g", run->message_bytes);
    put_key(out, "links", false);
    fputc('[', out);
    for (size_t i = 0; i < run->link_count; i++) {
        const dpr_run_link_t *link = &run->links[i];
        fprintf(out,
                "%s\n  {\"source\":%d,\"destination\":%d,\"latency\":%.17g,\"bandwidth\":%.17g}",
                i > 0 ? "," : "", link->source, link->destination, link->latency_sec,
                link->bandwidth_bytes_per_sec);
    }
    fputc(']', out);
}

static dpr_status_t put_form(const dpr_run_t *run, FILE *out)
{
    const dpr_bubble_t *form = &run->closed_form;
    put_key(out, "closed_form", false);
    if (!run->has_closed_form) {
        fputs("null", out);
        return DPR_OK;
    }
    fprintf(out, "{\"bubble\":%.17g,\"busy\":%.17g,\"bubble_ratio\":%.17g,\"exactness\":\"%s\",",
            form->bubble_sec, form->busy_sec, form->bubble_ratio,
            dpr_exactness_name(form->exactness));
    fputs("\"condition\":", out);
    DPR_TRY(put_text(out, form->condition));
    fputc('}', out);
    return DPR_OK;
}

static void put_timeline(const dpr_timeline_t *timeline, const char *key, FILE *out)
{
    const dpr_graph_t *graph = timeline->graph;
    const int32_t transfers = graph->node_count - graph->compute_count;
    put_key(out, key, false);
    fputc('{', out);
    put_key(out, "start", true);
    put_numbers(out, timeline->start, graph->node_count);
    put_array(out, "end", timeline->end, graph->node_count);
    put_array(out, "sender_ready", timeline->sender_ready + graph->compute_count, transfers);
    put_array(out, "receiver_ready", timeline->receiver_ready + graph->compute_count, transfers);
    fputc('}', out);
}

static void put_measurement(const dpr_run_t *run, FILE *out)
{
    if (run->is_measured) {
        put_timeline(&run->measured, "measured", out);
    } else {
        put_key(out, "measured", false);
        fputs("null", out);
    }
    const int32_t count = run->graph->node_count;
    put_array(out, "measured_cost", run->is_measured ? run->measured_cost : NULL, count);
    put_array(out, "enqueued", run->is_measured ? run->enqueued_sec : NULL, count);
}

/* ---- The file ---- */

static dpr_status_t put_head(const dpr_run_t *run, FILE *out)
{
    put_key(out, "format", true);
    fputs("\"dualpipe-run\"", out);
    put_key(out, "version", false);
    fputc('1', out);
    put_key(out, "schedule", false);
    DPR_TRY(put_text(out, run->schedule));
    put_key(out, "clock", false);
    DPR_TRY(put_text(out, run->clock));
    put_key(out, "unit", false);
    return put_text(out, run->unit);
}

static void put_graph(const dpr_run_t *run, FILE *out)
{
    put_key(out, "graph", false);
    fprintf(out, "{\"recv_slots\":%d,\"recv_ahead\":%d,\"send_slots\":%d,", run->options.recv_slots,
            run->options.recv_ahead, run->options.send_slots);
    fprintf(out, "\"compute_nodes\":%d,\"nodes\":%d}", run->graph->compute_count,
            run->graph->node_count);
}

dpr_status_t dpr_run_file_print(const dpr_run_t *run, FILE *out)
{
    const int32_t count = run->graph->node_count;
    DPR_TRY(dpr_run_check(run));
    fputc('{', out);
    DPR_TRY(put_head(run, out));
    DPR_TRY(put_facts(run, out));
    DPR_TRY(put_program(run, out));
    put_posts(run->program, out);
    put_graph(run, out);
    put_links(run, out);
    DPR_TRY(put_form(run, out));
    put_array(out, "cost", run->cost, count);
    put_array(out, "expected_cost", run->expected_cost, count);
    put_array(out, "delay", run->delay_sec, count);
    put_timeline(&run->predicted, "predicted", out);
    put_measurement(run, out);
    fputs("}\n", out);
    return ferror(out) ? dpr_fail(DPR_ERR_IO, "cannot write the saved run: %s", strerror(errno))
                       : DPR_OK;
}

dpr_status_t dpr_run_file_write(const dpr_run_t *run, const char *path)
{
    DPR_TRY(dpr_run_check(run)); /* before there is a file */
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "cannot write the run to %s: %s", path, strerror(errno));
    }
    dpr_status_t status = dpr_run_file_print(run, out);
    if (fclose(out) != 0 && status == DPR_OK) {
        status = dpr_fail(DPR_ERR_IO, "cannot write the run to %s: %s", path, strerror(errno));
    }
    return status;
}
