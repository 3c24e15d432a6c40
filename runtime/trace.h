/*
 * Traces: timelines as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing draw.
 *
 *     process  a rank of a timeline             "measured: rank 2"
 *     thread   its compute stream, and one      "compute", "act to 3", "grad from 3"
 *              for each end of a channel
 *     slice    an op; a message moving, and     "1F3", "act 1F3", "wait"
 *              a side waiting for the other
 *     flow     a transfer, from the op that     0F3 --> (act 0F3) --> 1F3
 *              made it to the one that needed it
 *     counter  saved sets of activations held   "activations held"
 *
 * Times are microseconds from the start of the step. Format: "Trace Event Format" (Google, 2016),
 * the JSON object form.
 */
#ifndef DPR_RUNTIME_TRACE_H
#define DPR_RUNTIME_TRACE_H

#include <stdio.h>

#include "models/ledger.h"

/* One timeline of a trace. */
typedef struct dpr_trace_part {
    const dpr_timeline_t *timeline; /* not owned */
    const char *label;              /* UTF-8, before "rank 2" in the process's name; NULL: none */
    const dpr_ledger_t *ledger;     /* NULL, or the timeline's: idle intervals get slices, too */
} dpr_trace_part_t;

/*
 * Writes the parts, each rank a process of its own, to `out`. Errors: DPR_ERR_INVALID where a time
 * is not finite or a label is not UTF-8; DPR_ERR_MEMORY; DPR_ERR_IO.
 */
dpr_status_t dpr_trace_print(const dpr_trace_part_t *parts, int count, FILE *out);

/* The same into a file. Errors: those of dpr_trace_print; DPR_ERR_IO names the path. */
dpr_status_t dpr_trace_write(const dpr_trace_part_t *parts, int count, const char *path);

#endif
