/* Prints, draws and writes what a training run found. */
#include "apps/train_output.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/drawing.h"
#include "runtime/page.h"
#include "runtime/run_file.h"
#include "runtime/trace.h"

/* A file that this makes is taken away again, so that a failed run leaves none. */
static dpr_status_t check_path(const char *option, const char *path)
{
    if (path == NULL) {
        return DPR_OK;
    }
    const bool was_there = access(path, F_OK) == 0;
    FILE *file = fopen(path, "a");
    if (file == NULL) {
        return dpr_fail(DPR_ERR_IO, "--%s %s cannot be written: %m", option, path);
    }
    fclose(file);
    if (!was_there) {
        (void)remove(path);
    }
    return DPR_OK;
}

dpr_status_t train_output_check(const train_output_t *output)
{
    if (output->width != 0 &&
        (output->width < DPR_DRAWING_MIN_WIDTH || output->width > DPR_DRAWING_MAX_WIDTH)) {
        return dpr_fail(DPR_ERR_INVALID, "--ascii %d is out of range: give columns, from %d to %d",
                        output->width, DPR_DRAWING_MIN_WIDTH, DPR_DRAWING_MAX_WIDTH);
    }
    DPR_TRY(check_path("report", output->report));
    DPR_TRY(check_path("trace", output->trace));
    DPR_TRY(check_path("html", output->html));
    return check_path("save", output->save);
}

static double end_of(const dpr_run_side_t *side)
{
    return side->ledger.start_sec + side->ledger.span_sec;
}

/* Both on one axis, so that what came later stands further right. */
static dpr_status_t draw(const train_output_t *output, bool terminal,
                         const dpr_explanation_t *explanation)
{
    const dpr_run_t *run = explanation->run;
    const double predicted_end = end_of(&explanation->analysis->predicted);
    const double measured_end = end_of(&explanation->analysis->measured);
    const dpr_drawing_options_t options = {
        .width = output->width > 0 ? output->width : dpr_drawing_terminal_width(stdout),
        .has_colour = terminal && dpr_drawing_terminal_has_colour(stdout),
        .to_sec = predicted_end > measured_end ? predicted_end : measured_end,
    };
    printf("\npredicted\n");
    DPR_TRY(dpr_drawing_print(&run->predicted, &options, stdout));
    printf("\nmeasured, step %ld\n", explanation->step + 1);
    return dpr_drawing_print(&run->measured, &options, stdout);
}

static dpr_status_t write_trace(const char *path, const dpr_explanation_t *explanation)
{
    const dpr_run_analysis_t *analysis = explanation->analysis;
    const dpr_trace_part_t parts[] = {
        {.timeline = &explanation->run->predicted,
         .label = "predicted",
         .ledger = &analysis->predicted.ledger},
        {.timeline = &explanation->run->measured,
         .label = "measured",
         .ledger = &analysis->measured.ledger},
    };
    return dpr_trace_write(parts, 2, path);
}

static dpr_status_t write_explanation(const train_output_t *output, bool terminal,
                                      const dpr_explanation_t *explanation)
{
    if (output->ascii) {
        DPR_TRY(draw(output, terminal, explanation));
    }
    if (output->trace != NULL) {
        DPR_TRY(write_trace(output->trace, explanation));
    }
    if (output->html != NULL) {
        DPR_TRY(dpr_page_write(explanation->run, output->html));
    }
    return output->save != NULL ? dpr_run_file_write(explanation->run, output->save) : DPR_OK;
}

dpr_status_t train_output_write(const train_output_t *output, bool quiet, bool terminal,
                                const dpr_train_report_t *report)
{
    if (!quiet) {
        printf("\n");
        DPR_TRY(dpr_train_report_print(report, output->details, stdout));
    }
    if (output->report != NULL) {
        DPR_TRY(dpr_train_report_write_json(report, output->report));
    }
    if (report->explanation != NULL) {
        return write_explanation(output, terminal, report->explanation);
    }
    return output->ascii || output->trace != NULL || output->html != NULL || output->save != NULL
               ? dpr_fail(DPR_ERR_DATA, "there is no explained step to draw or to save")
               : DPR_OK;
}
