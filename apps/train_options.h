/* The command line of dualpipe_train. */
#ifndef DPR_APPS_TRAIN_OPTIONS_H
#define DPR_APPS_TRAIN_OPTIONS_H

#include "apps/train_output.h"
#include "runtime/config.h"

typedef struct train_options {
    dpr_train_config_t config;
    train_output_t output;
    bool quiet;
    bool shown; /* --help or --version has been answered: nothing else to do */
} train_options_t;

/*
 * Parses; strings point into argv. --help, --usage and --version are answered on standard output,
 * once also under a launcher that starts many ranks. Errors: DPR_ERR_INVALID, logged with the
 * option.
 */
dpr_status_t train_options_parse(int argc, char **argv, train_options_t *options);

#endif
