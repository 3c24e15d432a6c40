/*
 * History: the last steps of a run op by op, in a ring of fixed size that is allocated before the
 * first step. What it holds is enough to re-estimate every cost and to draw a step.
 *
 *     step --take--> ring of `capacity` steps (this rank's records) --gather--> durations, timeline
 *                    an older step gives way; dpr_history_seen says how many there were
 */
#ifndef DPR_RUNTIME_HISTORY_H
#define DPR_RUNTIME_HISTORY_H

#include "runtime/clock_fit.h"
#include "runtime/executor.h"
#include "runtime/predict.h"

typedef struct dpr_history dpr_history_t;

/* The executor is borrowed. Errors: DPR_ERR_MEMORY. */
dpr_status_t dpr_history_create(const dpr_executor_t *executor, int capacity,
                                dpr_history_t **history);
void dpr_history_destroy(dpr_history_t *history); /* NULL is allowed */

/* Takes the records of step `step`, the executor's last, which must be complete; steps are taken in
 * ascending order. Returns them: dpr_executor_command_count records, until overwritten. Allocates
 * nothing. */
const dpr_record_t *dpr_history_take(dpr_history_t *history, long step);

int dpr_history_capacity(const dpr_history_t *history);
int dpr_history_kept(const dpr_history_t *history); /* at most the capacity */
long dpr_history_seen(const dpr_history_t *history);
size_t dpr_history_bytes(const dpr_history_t *history); /* of the ring */

/*
 * Puts the last `steps` steps (1 to kept, the same on all ranks) of all ranks together, on every
 * rank, by rank 0's clock; collective. `durations` gets what every node took in each. The step
 * nearest to the medians (dpr_measure_nearest) goes to `typical`, which is initialised for `graph`,
 * with typical_enqueued_sec[node] as dpr_measure_join has it, and its number to *typical_step;
 * all three may be NULL. Release durations with dpr_durations_free.
 * Errors: DPR_ERR_MEMORY, DPR_ERR_COMM.
 */
dpr_status_t dpr_history_gather(const dpr_history_t *history, dpr_comm_t *comm,
                                const dpr_graph_t *graph, const dpr_clock_fit_t *clock, int steps,
                                dpr_durations_t *durations, dpr_timeline_t *typical,
                                double *typical_enqueued_sec, long *typical_step);

#endif
