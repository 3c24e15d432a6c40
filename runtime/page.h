/*
 * Pages: a run as one HTML file that needs nothing else, no network and no library.
 *
 *     runtime/page/frame.html  the frame; @TITLE@, @STYLE@, @DATA@ and @SCRIPT@ are filled in
 *     runtime/page/style.css   light and dark
 *     runtime/page/model.js    the data, named        \
 *     runtime/page/looks.js    colours and patterns    |
 *     runtime/page/timeline.js timelines on a canvas   | one script, in this order
 *     runtime/page/panels.js   tables and bars         |
 *     runtime/page/main.js     mouse and keyboard     /
 *
 * The build embeds these files. The data is JSON in the page; docs/drawings.md says what it shows.
 */
#ifndef DPR_RUNTIME_PAGE_H
#define DPR_RUNTIME_PAGE_H

#include <stdio.h>

#include "runtime/run.h"

/*
 * Writes the page of a run to `out`: its predicted timeline and, where it has one, the measured
 * below it on one time axis, with ledgers, activations held and the prediction's error. Errors:
 * those of dpr_run_analyse; DPR_ERR_IO.
 */
dpr_status_t dpr_page_print(const dpr_run_t *run, FILE *out);

/* The same into a file. Errors: also DPR_ERR_IO, logged with the path. */
dpr_status_t dpr_page_write(const dpr_run_t *run, const char *path);

#endif
