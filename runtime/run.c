/* Runs: checked, and explained by what the models have for any timeline. */
#include "runtime/run.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/log.h"

/* ---- Checks ---- */

static dpr_status_t check_text(const char *what, const char *text)
{
    json_t *value = text != NULL ? json_string(text) : NULL; /* jansson takes UTF-8 alone */
    if (value == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "%s of a run: expected UTF-8 text", what);
    }
    json_decref(value);
    for (const char *c = text; *c != '\0'; c++) { /* a terminal would obey them */
        if ((unsigned char)*c < ' ' || *c == 127) {
            return dpr_fail(DPR_ERR_INVALID,
                            "%s of a run has the control character %d: expected text of one line",
                            what, (unsigned char)*c);
        }
    }
    return DPR_OK;
}

static dpr_status_t check_clock(const char *clock)
{
    static const char *const known[] = {"wall", "core", "model", "simulation"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(clock, known[i]) == 0) {
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "the clock '%s' of a run: expected wall, core, model or simulation", clock);
}

static dpr_status_t check_texts(const dpr_run_t *run)
{
    DPR_TRY(check_text("the schedule", run->schedule));
    DPR_TRY(check_text("the clock", run->clock));
    DPR_TRY(check_clock(run->clock));
    DPR_TRY(check_text("the unit", run->unit));
    for (size_t i = 0; i < run->fact_count; i++) {
        DPR_TRY(check_text("a fact's name", run->facts[i].name));
        char what[64];
        snprintf(what, sizeof what, "the fact '%s'", run->facts[i].name);
        DPR_TRY(check_text(what, run->facts[i].value));
    }
    return run->has_closed_form
               ? check_text("the closed form's condition", run->closed_form.condition)
               : DPR_OK;
}

/* Entries from `least` to DPR_RUN_MOST_SEC; NULL is allowed. */
static dpr_status_t check_array(const dpr_graph_t *graph, const char *what, const double *sec,
                                double least)
{
    for (int32_t n = 0; sec != NULL && n < graph->node_count; n++) {
        if (!(sec[n] >= least && sec[n] <= DPR_RUN_MOST_SEC)) {
            char text[96];
            return dpr_fail(DPR_ERR_INVALID, "%s of %s is %g: expected %g to %g", what,
                            dpr_node_format(graph, n, text, sizeof text), sec[n], least,
                            DPR_RUN_MOST_SEC);
        }
    }
    return DPR_OK;
}

static dpr_status_t check_timeline(const dpr_timeline_t *timeline, const char *which)
{
    const struct {
        const char *what;
        const double *sec;
    } times[] = {{"start", timeline->start},
                 {"end", timeline->end},
                 {"sender_ready", timeline->sender_ready},
                 {"receiver_ready", timeline->receiver_ready}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char what[64];
        snprintf(what, sizeof what, "the %s %s", which, times[i].what);
        DPR_TRY(check_array(timeline->graph, what, times[i].sec, -DPR_RUN_MOST_SEC));
    }
    return DPR_OK;
}

static bool is_within(double value, double least)
{
    return value >= least && value <= DPR_RUN_MOST_SEC;
}

static dpr_status_t check_rest(const dpr_run_t *run)
{
    const dpr_bubble_t *form = &run->closed_form;
    if (run->has_closed_form && !(is_within(form->bubble_sec, -DPR_RUN_MOST_SEC) &&
                                  is_within(form->busy_sec, -DPR_RUN_MOST_SEC) &&
                                  is_within(form->bubble_ratio, -DPR_RUN_MOST_SEC))) {
        return dpr_fail(DPR_ERR_INVALID, "the closed form of a run: expected finite numbers");
    }
    if (!is_within(run->message_bytes, 0.0)) {
        return dpr_fail(DPR_ERR_INVALID, "a run's messages of %g bytes: expected at least 0",
                        run->message_bytes);
    }
    for (size_t i = 0; i < run->link_count; i++) {
        const dpr_run_link_t *link = &run->links[i];
        if (link->source < 0 || link->source >= run->graph->ranks || link->destination < 0 ||
            link->destination >= run->graph->ranks || !is_within(link->latency_sec, 0.0) ||
            !(is_within(link->bandwidth_bytes_per_sec, 0.0) &&
              link->bandwidth_bytes_per_sec > 0.0)) {
            return dpr_fail(DPR_ERR_INVALID,
                            "the link from rank %d to %d of a run has latency %g and bandwidth %g: "
                            "expected ranks below %d and finite numbers",
                            link->source, link->destination, link->latency_sec,
                            link->bandwidth_bytes_per_sec, run->graph->ranks);
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_run_check(const dpr_run_t *run)
{
    DPR_TRY(check_texts(run));
    DPR_TRY(check_rest(run));
    DPR_TRY(check_array(run->graph, "the cost", run->cost, 0.0));
    DPR_TRY(check_array(run->graph, "the expected cost", run->expected_cost, 0.0));
    DPR_TRY(check_array(run->graph, "the delay", run->delay_sec, 0.0));
    DPR_TRY(check_timeline(&run->predicted, "predicted"));
    if (!run->is_measured) {
        return DPR_OK;
    }
    DPR_TRY(check_array(run->graph, "the measured cost", run->measured_cost, 0.0));
    DPR_TRY(
        check_array(run->graph, "the time of enqueueing", run->enqueued_sec, -DPR_RUN_MOST_SEC));
    return check_timeline(&run->measured, "measured");
}

/* ---- Analysis ---- */

/* What was made before a failure is the caller's to free. */
static dpr_status_t explain(const dpr_timeline_t *timeline, const double *cost,
                            const double *enqueued_sec, dpr_run_side_t *side)
{
    side->timeline = timeline;
    DPR_TRY(dpr_timeline_summarize(timeline, &side->summary));
    DPR_TRY(dpr_ledger_init(timeline, cost, enqueued_sec, &side->ledger));
    return dpr_critical_path_init(timeline, &side->path);
}

dpr_status_t dpr_run_analyse(const dpr_run_t *run, dpr_run_analysis_t *analysis)
{
    const double *expected = run->expected_cost != NULL ? run->expected_cost : run->cost;
    const dpr_prediction_t prediction = {
        .timeline = &run->predicted, .cost = run->cost, .delay_sec = run->delay_sec};
    dpr_run_analysis_t made = {0};
    dpr_status_t status;
    DPR_TRY(dpr_run_check(run));
    DPR_TRY_GOTO(explain(&run->predicted, expected, NULL, &made.predicted), free_made);
    if (run->is_measured) {
        DPR_TRY_GOTO(explain(&run->measured, expected, run->enqueued_sec, &made.measured),
                     free_made);
        DPR_TRY_GOTO(
            dpr_prediction_error_init(&prediction, &run->measured, run->enqueued_sec, &made.error),
            free_made);
    }
    *analysis = made;
    return DPR_OK;
free_made:
    dpr_run_analysis_free(&made);
    return status;
}

static void free_side(dpr_run_side_t *side)
{
    dpr_timeline_summary_free(&side->summary);
    dpr_ledger_free(&side->ledger);
    dpr_critical_path_free(&side->path);
}

void dpr_run_analysis_free(dpr_run_analysis_t *analysis)
{
    free_side(&analysis->predicted);
    free_side(&analysis->measured);
    dpr_prediction_error_free(&analysis->error);
    *analysis = (dpr_run_analysis_t){0};
}

/* ---- Activations held ---- */

size_t dpr_run_held(const dpr_timeline_t *timeline, int32_t rank, dpr_run_held_t *held)
{
    const dpr_graph_t *graph = timeline->graph;
    size_t count = 0;
    int sets = 0;
    for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
        const int kind = graph->nodes[n].kind;
        if (kind == DPR_NODE_F || kind == DPR_NODE_FB) {
            held[count++] = (dpr_run_held_t){.sec = timeline->start[n], .sets = ++sets};
        }
        if (kind == DPR_NODE_B || kind == DPR_NODE_W || kind == DPR_NODE_FB ||
            graph->forward_only) {
            held[count++] = (dpr_run_held_t){.sec = timeline->end[n], .sets = --sets};
        }
    }
    return count;
}
