/*
 * Measuring a run: each step's span and this rank's busy time, kept for every step; at the end the
 * ranks' samples are put together, and one step's whole timeline.
 */
#ifndef DPR_RUNTIME_MEASURE_H
#define DPR_RUNTIME_MEASURE_H

#include "runtime/executor.h"
#include "runtime/pipeline.h"

/* One step on one rank: seconds on that rank's clock. */
typedef struct dpr_step_sample {
    double first_start_sec;
    double last_end_sec;
    double busy_sec; /* of the compute stream */
} dpr_step_sample_t;

void dpr_step_sample_take(const dpr_graph_t *graph, const dpr_record_t *records, int32_t count,
                          dpr_step_sample_t *sample);

/* The samples of all ranks from a timeline: samples[rank * steps + step]. */
void dpr_step_samples_of(const dpr_timeline_t *timeline, long steps, long step,
                         dpr_step_sample_t *samples);

/*
 * What many steps say of all ranks together. Over the steps, medians: of the span, and of each
 * rank's busy time and bubble ratio; the mean bubble ratio is the mean of the ranks'. The spread of
 * the span is its 10th and 90th percentile.
 */
typedef struct dpr_measurement {
    int ranks;
    long steps;
    double span_sec;
    double span_p10_sec;
    double span_p90_sec;
    double bubble_ratio;
    double *busy_sec;          /* [ranks] */
    double *rank_bubble_ratio; /* [ranks] */
} dpr_measurement_t;

/*
 * Gathers `steps` samples of every rank and summarises them on every rank; collective. offset_sec
 * is added to this rank's times to bring them to rank 0's clock.
 */
dpr_status_t dpr_measure_gather(dpr_comm_t *comm, const dpr_step_sample_t *samples, long steps,
                                double offset_sec, dpr_measurement_t *measurement);
/* The same of samples that are all here, on one clock: samples[rank * steps + step]. */
dpr_status_t dpr_measure_summarize(const dpr_step_sample_t *samples, int ranks, long steps,
                                   dpr_measurement_t *measurement);
/* The step nearest to what the samples were summarised to: in its span, as a ratio of it, and in
 * the ranks' bubble ratios on average, added up. -1 where there is no step. */
long dpr_measure_nearest(const dpr_step_sample_t *samples, const dpr_measurement_t *measurement);
void dpr_measurement_free(dpr_measurement_t *measurement);

/*
 * Puts together the timeline of the executor's last step on every rank; collective. Its time zero
 * is the step's first start.
 */
dpr_status_t dpr_measure_timeline(dpr_comm_t *comm, const dpr_executor_t *executor,
                                  double offset_sec, dpr_timeline_t *timeline);

/*
 * The same of `count` records of this rank, however old; count may differ from rank to rank.
 * enqueued_sec[node], which may be NULL, gets when the host enqueued the node, on the timeline's
 * axis, of a transfer the later of its ends; NAN under a virtual clock.
 */
dpr_status_t dpr_measure_join(dpr_comm_t *comm, const dpr_record_t *records, int32_t count,
                              double offset_sec, dpr_timeline_t *timeline, double *enqueued_sec);

/* The largest difference of a start or an end between two timelines of one graph, over b's span. */
double dpr_timeline_difference(const dpr_timeline_t *a, const dpr_timeline_t *b);

/* Median and percentile (0 to 1, linear between ranks) of `count` values, which are sorted in
 * place. */
double dpr_percentile(double *values, size_t count, double fraction);

#endif
