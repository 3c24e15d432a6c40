/* Prints, draws and writes what a training run found. */
#include "apps/train_output.h"

#include <stdio.h>
#include <string.h>

#include "apps/program.h"
#include "base/log.h"
#include "runtime/drawing.h"
#include "runtime/page.h"
#include "runtime/run_file.h"
#include "runtime/trace.h"

/* Each can be written, and no two are one. */
static dpr_status_t check_files(const train_output_t *output)
{
    const struct {
        const char *option;
        const char *path;
    } files[] = {{"report", output->report},
                 {"trace", output->trace},
                 {"html", output->html},
                 {"save", output->save}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (size_t j = 0; j < i && files[i].path != NULL; j++) {
            if (files[j].path != NULL && strcmp(files[i].path, files[j].path) == 0 &&
                strcmp(files[i].path, "/dev/null") != 0) {
                return dpr_fail(DPR_ERR_INVALID,
                                "--%s and --%s are both to go to %s: expected different files",
                                files[j].option, files[i].option, files[i].path);
            }
        }
        DPR_TRY(program_check_writable(files[i].option, files[i].path));
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
    return check_files(output);
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

/* All that can be written is; returns the first error. */
static dpr_status_t write_explanation(const train_output_t *output, bool terminal,
                                      const dpr_explanation_t *explanation)
{
    dpr_status_t status = output->ascii ? draw(output, terminal, explanation) : DPR_OK;
    if (output->trace != NULL) {
        status = program_first_error(status, write_trace(output->trace, explanation));
    }
    if (output->html != NULL) {
        status = program_first_error(status, dpr_page_write(explanation->run, output->html));
    }
    if (output->save != NULL) {
        status = program_first_error(status, dpr_run_file_write(explanation->run, output->save));
    }
    return status;
}

dpr_status_t train_output_write(const train_output_t *output, bool quiet, bool terminal,
                                const dpr_train_report_t *report)
{
    dpr_status_t status = DPR_OK;
    if (!quiet) {
        printf("\n");
        status = dpr_train_report_print(report, output->details, stdout);
    }
    if (output->report != NULL) {
        status = program_first_error(status, dpr_train_report_write_json(report, output->report));
    }
    if (report->explanation != NULL) {
        return program_first_error(status,
                                   write_explanation(output, terminal, report->explanation));
    }
    return output->ascii || output->trace != NULL || output->html != NULL || output->save != NULL
               ? dpr_fail(DPR_ERR_DATA, "there is no explained step to draw or to save")
               : status;
}
