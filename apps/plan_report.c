/* dualpipe_plan report: options, reading and drawing. The tables are plan_report_tables.c's. */
#include "apps/plan_report.h"

#include <math.h>
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "apps/plan_view.h"
#include "base/log.h"
#include "runtime/drawing.h"
#include "runtime/page.h"
#include "runtime/run_file.h"
#include "runtime/trace.h"

enum { MOST_RUNS = 2, MOST_PARTS = 2 * MOST_RUNS };

typedef struct options {
    const char *paths[MOST_RUNS];
    int count;
    const char *trace; /* paths, or NULL */
    const char *html;
    plan_drawing_t drawing;
    plan_format_t format;
} options_t;

static dpr_status_t take_path(char *text, void *into)
{
    options_t *options = into;
    if (options->count == MOST_RUNS) {
        return dpr_fail(DPR_ERR_INVALID, "'%s': expected one saved run, or two to compare", text);
    }
    options->paths[options->count++] = text;
    return DPR_OK;
}

static const option_row_t own_options[] = {
    {"ascii", "WIDTH",
     "Draw the timelines, all on one time axis, as wide as the terminal (100 columns where there "
     "is none) or as given",
     OPTION_BY(plan_take_drawing, options_t, drawing), .flags = OPTION_ARG_OPTIONAL},
    {"html", "FILE.html", "Write the run as a page for a browser; of one run only",
     OPTION_FIELD(options_t, html)},
    {"trace", "FILE.json", "Write the timelines as a Chrome trace, which Perfetto draws",
     OPTION_FIELD(options_t, trace)},
    {0},
};

static const char doc[] =
    "Explains a saved run: step time and bubbles as predicted and as measured, the error in its "
    "parts, why each rank was idle, and the critical path. With a second run, compares the two: B "
    "beside A, and what B has more."
    "\vExamples:\n"
    "  dualpipe_plan simulate --schedule 1f1b --ranks 4 --micro-batches 8 --save a.json\n"
    "  dualpipe_plan simulate --schedule zb1p --ranks 4 --micro-batches 8 --save b.json\n"
    "  dualpipe_plan report a.json --ascii --html a.html\n"
    "  dualpipe_plan report a.json b.json";

static dpr_status_t check_options(const options_t *options)
{
    if (options->count == 0) {
        return dpr_fail(DPR_ERR_INVALID, "a saved run is missing: expected FILE.json, as --save of "
                                         "simulate writes it");
    }
    if (options->drawing.wanted && options->format != PLAN_FORMAT_TEXT) {
        return dpr_fail(DPR_ERR_INVALID, "--ascii draws text: give it without --json and --csv");
    }
    if (options->html != NULL && options->count > 1) {
        return dpr_fail(DPR_ERR_INVALID, "--html draws one run, %d were given", options->count);
    }
    return DPR_OK;
}

/* ---- Drawing ---- */

const dpr_run_side_t *plan_reported_side(const plan_reported_t *reported)
{
    return reported->run->is_measured ? &reported->analysis.measured
                                      : &reported->analysis.predicted;
}

typedef struct part {
    char label[320];
    const dpr_run_side_t *side;
} part_t;

/* Every timeline of every run; the file is in its label where there are two. */
static int find_parts(const plan_reported_t *reported, int count, part_t parts[MOST_PARTS])
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        const struct {
            const char *name;
            const dpr_run_side_t *side;
        } sides[] = {{"predicted", &reported[i].analysis.predicted},
                     {"measured", &reported[i].analysis.measured}};
        for (int s = 0; s < (reported[i].run->is_measured ? 2 : 1); s++) {
            snprintf(parts[found].label, sizeof parts[found].label, "%s%s%s",
                     count > 1 ? reported[i].path : "", count > 1 ? ", " : "", sides[s].name);
            parts[found++].side = sides[s].side;
        }
    }
    return found;
}

static dpr_status_t write_trace(const part_t *parts, int count, const char *path)
{
    dpr_trace_part_t traced[MOST_PARTS];
    for (int i = 0; i < count; i++) {
        traced[i] = (dpr_trace_part_t){.timeline = parts[i].side->timeline,
                                       .label = parts[i].label,
                                       .ledger = &parts[i].side->ledger};
    }
    return dpr_trace_write(traced, count, path);
}

/* All begin at the left, and a second is as wide in each. */
static dpr_status_t draw(const part_t *parts, int count, int width)
{
    dpr_drawing_options_t drawing = {
        .width = width > 0 ? width : dpr_drawing_terminal_width(stdout),
        .has_colour = dpr_drawing_terminal_has_colour(stdout),
    };
    double longest = 0.0;
    for (int i = 0; i < count; i++) {
        longest = fmax(longest, parts[i].side->ledger.span_sec);
    }
    for (int i = 0; i < count; i++) {
        drawing.from_sec = parts[i].side->ledger.start_sec;
        drawing.to_sec = drawing.from_sec + longest;
        printf("\n%s\n", parts[i].label);
        DPR_TRY(dpr_drawing_print(parts[i].side->timeline, &drawing, stdout));
    }
    return DPR_OK;
}

static dpr_status_t draw_all(const options_t *options, const plan_reported_t *reported)
{
    part_t parts[MOST_PARTS];
    const int count = find_parts(reported, options->count, parts);
    if (options->trace != NULL) {
        DPR_TRY(write_trace(parts, count, options->trace));
    }
    if (options->html != NULL) {
        DPR_TRY(dpr_page_write(reported[0].run, options->html));
    }
    return options->drawing.wanted ? draw(parts, count, options->drawing.width) : DPR_OK;
}

/* ---- The command ---- */

static dpr_status_t report(const options_t *options, const plan_reported_t *reported)
{
    if (options->count == 1) {
        DPR_TRY(plan_report_one(&reported[0], options->format));
    } else {
        DPR_TRY(plan_report_two(&reported[0], &reported[1], options->format));
    }
    return draw_all(options, reported);
}

static dpr_status_t run(void *arguments)
{
    const options_t *options = arguments;
    DPR_TRY(check_options(options));
    dpr_saved_run_t *saved[MOST_RUNS] = {NULL};
    plan_reported_t reported[MOST_RUNS] = {0};
    dpr_status_t status = DPR_OK;
    for (int i = 0; i < options->count; i++) {
        DPR_TRY_GOTO(dpr_run_file_read(options->paths[i], &saved[i]), destroy_runs);
        reported[i].path = options->paths[i];
        reported[i].run = dpr_saved_run_get(saved[i]);
        DPR_TRY_GOTO(dpr_run_analyse(reported[i].run, &reported[i].analysis), destroy_runs);
    }
    status = report(options, reported);
destroy_runs:
    for (int i = 0; i < options->count; i++) {
        dpr_run_analysis_free(&reported[i].analysis);
        dpr_saved_run_destroy(saved[i]);
    }
    return status;
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_report_command = {
    .name = "report",
    .summary = "draw, explain or compare saved runs",
    .line = {.tables = tables,
             .args_doc = "A.json [B.json]",
             .doc = doc,
             .take_argument = take_path},
    .options_bytes = sizeof(options_t),
    .run = run,
};
