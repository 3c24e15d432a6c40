/* A page's data: what dpr_page_print puts where the frame has @DATA@. */
#ifndef DPR_RUNTIME_PAGE_IMPL_H
#define DPR_RUNTIME_PAGE_IMPL_H

#include <stdio.h>

#include "runtime/run.h"

/*
 * Writes one JSON object that is safe inside a <script> element: no text in it holds a "<".
 * model.js has what its keys mean. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t page_print_data(const dpr_run_t *run, const dpr_run_analysis_t *analysis, FILE *out);

#endif
