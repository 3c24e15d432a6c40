/*
 * Calibration: what each kind of op costs on each stage and what each link costs, measured before
 * the training that is then predicted from it.
 *
 * Links: exchanges between the two ends of every channel, one pair at a time while all others
 * sleep: latency from empty messages, bandwidth from messages of the real size. Ops: the real
 * program is played on the real buffers, its gradients thrown away and the update rehearsed, so
 * that caches, neighbours and interleaving are those of the run; each kind's cost on each stage is
 * the mean over the micro-batches and steps of the middle half of what was seen (which leaves out
 * what the operating system interrupted). Under the wall clock the links' latencies are corrected
 * by the same steps.
 */
#ifndef DPR_RUNTIME_CALIBRATE_H
#define DPR_RUNTIME_CALIBRATE_H

#include "models/costs.h"
#include "runtime/clock_fit.h"
#include "runtime/pipeline.h"
#include "runtime/predict.h"

/* Fills the links of `table` (initialised for the pipeline's ranks and stages), the same on all
 * ranks. Collective; nothing else may run. */
dpr_status_t dpr_calibrate_links(dpr_comm_t *comm, const dpr_graph_t *graph, size_t message_bytes,
                                 dpr_cost_table_t *table);

/*
 * Plays `steps` steps (after two that are not counted) with `loss_scale`, rehearsing the update, on
 * batch buffer `slot`, which must be loaded. Fills the table's op costs and `durations` (release
 * with dpr_durations_free), the same on all ranks; under the wall clock the ranks' clocks are
 * compared before and after, which is left in `exchanges` (zeros under a virtual clock).
 * Collective. Errors: those of the pipeline, DPR_ERR_MEMORY.
 */
dpr_status_t dpr_calibrate_ops(dpr_pipeline_t *pipeline, dpr_comm_t *comm, dpr_device_t *device,
                               int slot, float loss_scale, int steps, dpr_cost_table_t *table,
                               dpr_durations_t *durations, dpr_clock_sample_t exchanges[2]);

/*
 * The same table from durations that are known: each op's and link's mean, a link's as pure
 * latency. Links between ranks that exchange nothing stay NAN.
 */
dpr_status_t dpr_calibrate_from_durations(const dpr_durations_t *durations,
                                          dpr_cost_table_t *table);

#endif
