/*
 * What a simulated timeline looks like, and why its ranks were idle: --trace, --ascii, --ledger,
 * --html; and --save, which keeps it for dualpipe_plan report.
 */
#ifndef DPR_APPS_PLAN_VIEW_H
#define DPR_APPS_PLAN_VIEW_H

#include <jansson.h>

#include "apps/option_table.h"
#include "runtime/run.h"

/* --ascii[=WIDTH] */
typedef struct plan_drawing {
    bool wanted;
    int width; /* columns; 0: the terminal's */
} plan_drawing_t;

/* Reads it into a plan_drawing_t: an option_take_fn_t. */
dpr_status_t plan_take_drawing(const option_row_t *row, char *text, void *into);

typedef struct plan_view {
    const char *trace; /* paths, or NULL */
    const char *html;
    const char *save;
    plan_drawing_t drawing;
    bool ledger;
} plan_view_t;

/* The options, of a plan_view_t. */
extern const option_row_t plan_view_options[];

/* Errors: DPR_ERR_INVALID where a drawing was asked for and the output is JSON. */
dpr_status_t plan_view_check(const plan_view_t *view, bool json);

/*
 * Writes the files, and prints the drawing and the ledger of the run's prediction to stdout, each
 * where it was asked for. Errors: those of dpr_run_analyse, dpr_trace_write, dpr_page_write,
 * dpr_run_file_write and dpr_drawing_print.
 */
dpr_status_t plan_view_print(const plan_view_t *view, const dpr_run_t *run);

/* The files as above, and the ledger as keys "ledger" and "critical_path" of `root`. */
dpr_status_t plan_view_json(const plan_view_t *view, const dpr_run_t *run, json_t *root);

#endif
