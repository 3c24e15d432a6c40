/* Views of a simulated timeline: trace, page, drawing, ledger and critical path; and saving it. */
#include "apps/plan_view.h"

#include "base/log.h"
#include "runtime/drawing.h"
#include "runtime/page.h"
#include "runtime/run_file.h"
#include "runtime/trace.h"

dpr_status_t plan_take_drawing(const option_row_t *row, char *text, void *into)
{
    plan_drawing_t *drawing = option_place(row, into);
    drawing->wanted = true;
    return text == NULL ? DPR_OK
                        : plan_parse_int(row->name, text, DPR_DRAWING_MIN_WIDTH,
                                         DPR_DRAWING_MAX_WIDTH, &drawing->width);
}

const option_row_t plan_view_options[] = {
    {"ascii", "WIDTH",
     "Draw the timeline, a line a rank, as wide as the terminal (100 columns where there is none) "
     "or as given",
     OPTION_BY(plan_take_drawing, plan_view_t, drawing), .flags = OPTION_ARG_OPTIONAL},
    {"html", "FILE.html",
     "Write the timeline as a page for a browser, with ledger and critical path",
     OPTION_FIELD(plan_view_t, html)},
    {"ledger", NULL, "Say why each rank was idle, and list the critical path (docs/ledger.md)",
     OPTION_FIELD(plan_view_t, ledger)},
    {"save", "FILE.json", "Save the simulation, for dualpipe_plan report to draw or compare",
     OPTION_FIELD(plan_view_t, save)},
    {"trace", "FILE.json", "Write the timeline as a Chrome trace, which Perfetto draws",
     OPTION_FIELD(plan_view_t, trace)},
    {0},
};

dpr_status_t plan_view_check(const plan_view_t *view, bool json)
{
    return view->drawing.wanted && json
               ? dpr_fail(DPR_ERR_INVALID, "give either --ascii or --json, not both")
               : DPR_OK;
}

/* ---- Text ---- */

static void print_ledger(const dpr_ledger_t *ledger)
{
    printf("\n%5s  %10s", "rank", "bubble");
    for (int c = 0; c < DPR_CAUSES; c++) {
        printf("  %10s", dpr_cause_name((dpr_cause_t)c));
    }
    printf("\n");
    double bubble = 0.0;
    for (int rank = 0; rank < ledger->ranks; rank++) {
        printf("%5d  %10.4g", rank, ledger->bubble_sec[rank]);
        for (int c = 0; c < DPR_CAUSES; c++) {
            printf("  %10.4g", dpr_ledger_sec(ledger, rank, (dpr_cause_t)c));
        }
        printf("\n");
        bubble += ledger->bubble_sec[rank];
    }
    const double ratio = ledger->span_sec > 0.0 ? bubble / ledger->ranks / ledger->span_sec : 0.0;
    printf("%5s  %8.2f %%", "mean", 100.0 * ratio);
    for (int c = 0; c < DPR_CAUSES; c++) {
        printf("  %8.2f %%", 100.0 * dpr_ledger_mean_ratio(ledger, (dpr_cause_t)c));
    }
    printf("\n");
}

/* Links that follow each other on one rank are one line. */
static void print_path(const dpr_timeline_t *timeline, const dpr_critical_path_t *path)
{
    printf(
        "\ncritical path  compute %g, wire %g, waits %g; %zu links\n\n%10s  %10s  %5s  %-30s  %s\n",
        path->compute_sec, path->wire_sec, path->wait_sec, path->count, "from", "to", "links",
        "first", "reason");
    for (size_t first = 0, i = 1; i <= path->count; i++) {
        if (i < path->count && path->links[i].reason == DPR_EDGE_ORDER) {
            continue;
        }
        const dpr_path_link_t *link = &path->links[first];
        char name[96];
        printf("%10.6g  %10.6g  %5zu  %-30s  %s\n", timeline->start[link->node],
               timeline->end[path->links[i - 1].node], i - first,
               dpr_node_format(timeline->graph, link->node, name, sizeof name),
               dpr_path_reason_text(link->reason));
        first = i;
    }
}

/* ---- JSON ---- */

static json_t *ledger_to_json(const dpr_ledger_t *ledger)
{
    json_t *ranks = json_array();
    for (int rank = 0; rank < ledger->ranks; rank++) {
        json_t *object = json_pack("{s:i, s:f}", "rank", rank, "bubble", ledger->bubble_sec[rank]);
        for (int c = 0; c < DPR_CAUSES; c++) {
            json_object_set_new(object, dpr_cause_name((dpr_cause_t)c),
                                json_real(dpr_ledger_sec(ledger, rank, (dpr_cause_t)c)));
        }
        json_array_append_new(ranks, object);
    }
    return ranks;
}

static json_t *path_to_json(const dpr_timeline_t *timeline, const dpr_critical_path_t *path)
{
    json_t *links = json_array();
    for (size_t i = 0; i < path->count; i++) {
        const dpr_path_link_t *link = &path->links[i];
        char name[96];
        json_array_append_new(
            links, json_pack("{s:s, s:f, s:f, s:s}", "node",
                             dpr_node_format(timeline->graph, link->node, name, sizeof name),
                             "start", timeline->start[link->node], "end", timeline->end[link->node],
                             "reason", dpr_path_reason_text(link->reason)));
    }
    return links;
}

/* ---- Both ---- */

static dpr_status_t write_files(const plan_view_t *view, const dpr_run_t *run,
                                const dpr_ledger_t *ledger)
{
    const dpr_trace_part_t part = {.timeline = &run->predicted, .ledger = ledger};
    if (view->trace != NULL) {
        DPR_TRY(dpr_trace_write(&part, 1, view->trace));
    }
    if (view->html != NULL) {
        DPR_TRY(dpr_page_write(run, view->html));
    }
    return view->save != NULL ? dpr_run_file_write(run, view->save) : DPR_OK;
}

static dpr_status_t draw(const plan_view_t *view, const dpr_timeline_t *timeline)
{
    const dpr_drawing_options_t drawing = {
        .width = view->drawing.width > 0 ? view->drawing.width : dpr_drawing_terminal_width(stdout),
        .has_colour = dpr_drawing_terminal_has_colour(stdout),
    };
    if (!view->drawing.wanted) {
        return DPR_OK;
    }
    printf("\n");
    return dpr_drawing_print(timeline, &drawing, stdout);
}

/* With `root` the ledger goes there, else to stdout. */
static dpr_status_t show(const plan_view_t *view, const dpr_run_t *run, const dpr_run_side_t *side,
                         json_t *root)
{
    DPR_TRY(write_files(view, run, &side->ledger));
    DPR_TRY(draw(view, &run->predicted));
    if (!view->ledger) {
        return DPR_OK;
    }
    if (root == NULL) {
        print_ledger(&side->ledger);
        print_path(&run->predicted, &side->path);
    } else if (json_object_set_new(root, "ledger", ledger_to_json(&side->ledger)) != 0 ||
               json_object_set_new(root, "critical_path",
                                   path_to_json(&run->predicted, &side->path)) != 0) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot build the JSON of the ledger");
    }
    return DPR_OK;
}

static bool is_asked(const plan_view_t *view)
{
    return view->trace != NULL || view->html != NULL || view->save != NULL ||
           view->drawing.wanted || view->ledger;
}

dpr_status_t plan_view_json(const plan_view_t *view, const dpr_run_t *run, json_t *root)
{
    dpr_run_analysis_t analysis;
    if (!is_asked(view)) {
        return DPR_OK;
    }
    DPR_TRY(dpr_run_analyse(run, &analysis));
    const dpr_status_t status = show(view, run, &analysis.predicted, root);
    dpr_run_analysis_free(&analysis);
    return status;
}

dpr_status_t plan_view_print(const plan_view_t *view, const dpr_run_t *run)
{
    return plan_view_json(view, run, NULL);
}
