/* What a training run leaves behind on rank 0: the printed report, drawings and files. */
#ifndef DPR_APPS_TRAIN_OUTPUT_H
#define DPR_APPS_TRAIN_OUTPUT_H

#include "runtime/report.h"

typedef struct train_output {
    const char *report; /* paths, or NULL */
    const char *trace;
    const char *html;
    const char *save;
    bool details;
    bool ascii;
    int width; /* of the drawing; 0: the terminal's */
} train_output_t;

/* Whether all of it can be written, to be known before an hour of training, not after. Errors:
 * DPR_ERR_INVALID and DPR_ERR_IO, logged with the option. */
dpr_status_t train_output_check(const train_output_t *output);

/* Prints to stdout unless `quiet`, in colour only where a person's terminal is at its end, and
 * writes the files. Errors: those of what is written. */
dpr_status_t train_output_write(const train_output_t *output, bool quiet, bool terminal,
                                const dpr_train_report_t *report);

#endif
