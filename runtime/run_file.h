/*
 * Saved runs: a dpr_run_t as one JSON file, complete enough to draw and explain the run again.
 * docs/drawings.md has the format, which names itself "dualpipe-run" and has a version.
 *
 * The program stands in it as CSV text. The graph is built from that again, so the arrays, which
 * are by node, are as safe as the graph is deterministic; the file holds the graph's size as a
 * check.
 */
#ifndef DPR_RUNTIME_RUN_FILE_H
#define DPR_RUNTIME_RUN_FILE_H

#include <stdio.h>

#include "runtime/run.h"

/* Writes to `out`. Errors: those of dpr_run_check; DPR_ERR_MEMORY; DPR_ERR_IO. */
dpr_status_t dpr_run_file_print(const dpr_run_t *run, FILE *out);

/* The same into a file. Errors: also DPR_ERR_IO, logged with the path. */
dpr_status_t dpr_run_file_write(const dpr_run_t *run, const char *path);

/* A run that was read, with all that it points to. */
typedef struct dpr_saved_run dpr_saved_run_t;

/*
 * Reads a file. Everything is checked, and what comes out passes dpr_run_check; release with
 * dpr_saved_run_destroy. Errors, logged with the file and the line: DPR_ERR_IO; DPR_ERR_PARSE where
 * it is not JSON; DPR_ERR_DATA where it is not a saved run, or of another version; those of
 * dpr_csv_parse and dpr_graph_create where the program is none; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_run_file_read(const char *path, dpr_saved_run_t **saved);

/* The same from a text, which `name` names in messages. */
dpr_status_t dpr_run_file_parse(const char *text, const char *name, dpr_saved_run_t **saved);

/* The run; valid until the saved run is destroyed. */
const dpr_run_t *dpr_saved_run_get(const dpr_saved_run_t *saved);

void dpr_saved_run_destroy(dpr_saved_run_t *saved); /* NULL is allowed */

#endif
