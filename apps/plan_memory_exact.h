/*
 * dualpipe_plan memory --exact: what a run of dualpipe_train holds on its device, to the byte, by
 * the runtime's own prediction (runtime/memory_plan.h), without the kernels' workspaces, which only
 * the GPU knows.
 */
#ifndef DPR_APPS_PLAN_MEMORY_EXACT_H
#define DPR_APPS_PLAN_MEMORY_EXACT_H

#include "apps/plan_model.h"
#include "apps/plan_table.h"

/* The columns of one rank's row. */
enum { PLAN_EXACT_COLUMNS = 10 };
extern const plan_column_t plan_exact_columns[PLAN_EXACT_COLUMNS];

/* Whether the model is one that dualpipe_train runs. Errors: DPR_ERR_INVALID, naming the option. */
dpr_status_t plan_exact_check(const plan_model_t *model);

/*
 * Adds the rank that holds most to `largest`, and every rank to `ranks`; both have the columns
 * above. `limit` 0: none. The model is completed and checked. Errors: those of dpr_memory_predict.
 */
dpr_status_t plan_exact_count(const plan_model_t *model, const dpr_program_t *program,
                              const char *name, uint64_t limit, plan_table_t *largest,
                              plan_table_t *ranks);

#endif
