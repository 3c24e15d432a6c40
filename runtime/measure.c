/* Samples of steps, gathered and summarised. */
#include "runtime/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void dpr_step_sample_take(const dpr_graph_t *graph, const dpr_record_t *records, int32_t count,
                          dpr_step_sample_t *sample)
{
    *sample = (dpr_step_sample_t){.first_start_sec = INFINITY, .last_end_sec = -INFINITY};
    for (int32_t i = 0; i < count; i++) {
        const dpr_record_t *record = &records[i];
        sample->last_end_sec = fmax(sample->last_end_sec, record->end_sec);
        if (!dpr_node_is_transfer(&graph->nodes[record->node])) {
            sample->first_start_sec = fmin(sample->first_start_sec, record->ready_sec);
            sample->busy_sec += record->end_sec - record->ready_sec;
        }
    }
}

void dpr_step_samples_of(const dpr_timeline_t *timeline, long steps, long step,
                         dpr_step_sample_t *samples)
{
    const dpr_graph_t *graph = timeline->graph;
    for (int r = 0; r < graph->ranks; r++) {
        dpr_step_sample_t sample = {.first_start_sec = INFINITY, .last_end_sec = -INFINITY};
        for (int32_t n = graph->rank_begin[r]; n < graph->rank_begin[r + 1]; n++) {
            sample.busy_sec += timeline->end[n] - timeline->start[n];
            sample.first_start_sec = fmin(sample.first_start_sec, timeline->start[n]);
            sample.last_end_sec = fmax(sample.last_end_sec, timeline->end[n]);
        }
        samples[r * steps + step] = sample;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

double dpr_percentile(double *values, size_t count, double fraction)
{
    if (count == 0) {
        return NAN;
    }
    qsort(values, count, sizeof *values, compare_doubles);
    const double position = fraction * (double)(count - 1);
    const size_t below = (size_t)position;
    const size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (position - (double)below) * (values[above] - values[below]);
}

/* Of step k of all[rank * steps + step], on one clock. */
static double span_of(const dpr_step_sample_t *all, int ranks, long steps, long k)
{
    double first = INFINITY;
    double last = -INFINITY;
    for (int r = 0; r < ranks; r++) {
        const dpr_step_sample_t *sample = &all[(long)r * steps + k];
        first = fmin(first, sample->first_start_sec);
        last = fmax(last, sample->last_end_sec);
    }
    return last - first;
}

/* The share of the span that is not busy; 0 of a span that takes no time. */
static double bubble_ratio(double busy, double span)
{
    return span > 0.0 ? 1.0 - busy / span : 0.0;
}

/* `spans` in step order and `scratch` both have room for `steps`. */
static void summarize(const dpr_step_sample_t *all, const double *spans, double *scratch,
                      dpr_measurement_t *measurement)
{
    const int ranks = measurement->ranks;
    const long steps = measurement->steps;
    for (int r = 0; r < ranks; r++) {
        for (long k = 0; k < steps; k++) {
            scratch[k] = bubble_ratio(all[(long)r * steps + k].busy_sec, spans[k]);
        }
        measurement->rank_bubble_ratio[r] = dpr_percentile(scratch, (size_t)steps, 0.5);
        for (long k = 0; k < steps; k++) {
            scratch[k] = all[(long)r * steps + k].busy_sec;
        }
        measurement->busy_sec[r] = dpr_percentile(scratch, (size_t)steps, 0.5);
    }
    for (int r = 0; r < ranks; r++) {
        measurement->bubble_ratio += measurement->rank_bubble_ratio[r] / ranks;
    }
    for (long k = 0; k < steps; k++) {
        scratch[k] = spans[k];
    }
    measurement->span_sec = dpr_percentile(scratch, (size_t)steps, 0.5);
    measurement->span_p10_sec = dpr_percentile(scratch, (size_t)steps, 0.1);
    measurement->span_p90_sec = dpr_percentile(scratch, (size_t)steps, 0.9);
}

/* Every rank's samples, shifted to rank 0's clock. */
static dpr_status_t gather_samples(dpr_comm_t *comm, const dpr_step_sample_t *samples, long steps,
                                   double offset_sec, dpr_step_sample_t *all)
{
    dpr_step_sample_t *shifted;
    DPR_TRY(dpr_calloc((size_t)steps, sizeof *shifted, &shifted));
    for (long k = 0; k < steps; k++) {
        shifted[k] = samples[k];
        shifted[k].first_start_sec += offset_sec;
        shifted[k].last_end_sec += offset_sec;
    }
    const dpr_status_t status =
        dpr_comm_allgather(comm, shifted, (size_t)steps * sizeof *shifted, all);
    free(shifted);
    return status;
}

dpr_status_t dpr_measure_summarize(const dpr_step_sample_t *samples, int ranks, long steps,
                                   dpr_measurement_t *measurement)
{
    double *spans = NULL;
    double *scratch = NULL;
    dpr_status_t status;
    *measurement = (dpr_measurement_t){.ranks = ranks, .steps = steps};
    DPR_TRY_GOTO(dpr_calloc((size_t)steps, sizeof *spans, &spans), free_scratch);
    DPR_TRY_GOTO(dpr_calloc((size_t)steps, sizeof *scratch, &scratch), free_scratch);
    DPR_TRY_GOTO(dpr_calloc((size_t)ranks, sizeof(double), &measurement->busy_sec), free_scratch);
    DPR_TRY_GOTO(dpr_calloc((size_t)ranks, sizeof(double), &measurement->rank_bubble_ratio),
                 free_scratch);
    if (steps > 0) {
        for (long k = 0; k < steps; k++) {
            spans[k] = span_of(samples, ranks, steps, k);
        }
        summarize(samples, spans, scratch, measurement);
    }

free_scratch:
    free(spans);
    free(scratch);
    if (status != DPR_OK) {
        dpr_measurement_free(measurement);
    }
    return status;
}

dpr_status_t dpr_measure_gather(dpr_comm_t *comm, const dpr_step_sample_t *samples, long steps,
                                double offset_sec, dpr_measurement_t *measurement)
{
    const int ranks = dpr_comm_size(comm);
    dpr_step_sample_t *all;
    DPR_TRY(dpr_calloc((size_t)ranks * (size_t)steps, sizeof *all, &all));
    dpr_status_t status = gather_samples(comm, samples, steps, offset_sec, all);
    if (status == DPR_OK) {
        status = dpr_measure_summarize(all, ranks, steps, measurement);
    }
    free(all);
    return status;
}

long dpr_measure_nearest(const dpr_step_sample_t *samples, const dpr_measurement_t *measurement)
{
    const int ranks = measurement->ranks;
    const long steps = measurement->steps;
    long nearest = -1;
    double least = INFINITY;
    for (long k = 0; k < steps; k++) {
        const double span = span_of(samples, ranks, steps, k);
        double far = span > 0.0 ? fabs(span - measurement->span_sec) / span : 0.0;
        for (int r = 0; r < ranks; r++) {
            const double ratio = bubble_ratio(samples[(long)r * steps + k].busy_sec, span);
            far += fabs(ratio - measurement->rank_bubble_ratio[r]) / ranks;
        }
        if (nearest < 0 || far < least) {
            nearest = k;
            least = far;
        }
    }
    return nearest;
}

void dpr_measurement_free(dpr_measurement_t *measurement)
{
    free(measurement->busy_sec);
    free(measurement->rank_bubble_ratio);
    *measurement = (dpr_measurement_t){0};
}

/* What each rank sends of its step: how many records, and its clock's offset. */
typedef struct record_header {
    int64_t count;
    double offset_sec;
} record_header_t;

/* Of all ranks' records: when each node was enqueued, of a transfer the later of its ends. */
static void add_enqueued(const dpr_record_t *records, int64_t count, double offset_sec,
                         double *enqueued_sec)
{
    for (int64_t i = 0; i < count; i++) {
        double *node_sec = &enqueued_sec[records[i].node];
        *node_sec = fmax(*node_sec, records[i].enqueued_sec + offset_sec); /* of NAN, the other */
    }
}

/* Moves time zero to the earliest start. */
static void start_at_zero(dpr_timeline_t *timeline, double *enqueued_sec)
{
    double first = INFINITY;
    for (int32_t n = 0; n < timeline->graph->compute_count; n++) {
        first = fmin(first, timeline->start[n]);
    }
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        timeline->start[n] -= first;
        timeline->end[n] -= first;
        timeline->sender_ready[n] -= first;
        timeline->receiver_ready[n] -= first;
    }
    for (int32_t n = 0; enqueued_sec != NULL && n < timeline->graph->node_count; n++) {
        enqueued_sec[n] -= first;
    }
}

dpr_status_t dpr_measure_join(dpr_comm_t *comm, const dpr_record_t *mine, int32_t count,
                              double offset_sec, dpr_timeline_t *timeline, double *enqueued_sec)
{
    const int ranks = dpr_comm_size(comm);
    const record_header_t header = {.count = count, .offset_sec = offset_sec};
    record_header_t *headers = NULL;
    dpr_record_t *all = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)ranks, sizeof *headers, &headers), free_records);
    DPR_TRY_GOTO(dpr_comm_allgather(comm, &header, sizeof header, headers), free_records);
    int64_t most = 0;
    for (int r = 0; r < ranks; r++) {
        most = headers[r].count > most ? headers[r].count : most;
    }
    dpr_record_t *padded;
    DPR_TRY_GOTO(dpr_calloc((size_t)most * (size_t)(ranks + 1), sizeof *all, &all), free_records);
    padded = all + most * ranks;
    memcpy(padded, mine, (size_t)count * sizeof *padded);
    DPR_TRY_GOTO(dpr_comm_allgather(comm, padded, (size_t)most * sizeof *padded, all),
                 free_records);
    for (int32_t n = 0; enqueued_sec != NULL && n < timeline->graph->node_count; n++) {
        enqueued_sec[n] = NAN;
    }
    for (int r = 0; r < ranks; r++) {
        const dpr_record_t *records = all + (int64_t)r * most;
        dpr_timeline_add(timeline, records, (int32_t)headers[r].count, headers[r].offset_sec);
        if (enqueued_sec != NULL) {
            add_enqueued(records, headers[r].count, headers[r].offset_sec, enqueued_sec);
        }
    }
    dpr_timeline_join(timeline);
    start_at_zero(timeline, enqueued_sec);

free_records:
    free(headers);
    free(all);
    return status;
}

dpr_status_t dpr_measure_timeline(dpr_comm_t *comm, const dpr_executor_t *executor,
                                  double offset_sec, dpr_timeline_t *timeline)
{
    const int32_t count = dpr_executor_command_count(executor);
    dpr_record_t *records;
    DPR_TRY(dpr_calloc((size_t)count, sizeof *records, &records));
    dpr_executor_collect(executor, records);
    const dpr_status_t status = dpr_measure_join(comm, records, count, offset_sec, timeline, NULL);
    free(records);
    return status;
}

double dpr_timeline_difference(const dpr_timeline_t *a, const dpr_timeline_t *b)
{
    double worst = 0.0;
    double span = 0.0;
    for (int32_t n = 0; n < a->graph->node_count; n++) {
        worst = fmax(worst, fabs(a->start[n] - b->start[n]));
        worst = fmax(worst, fabs(a->end[n] - b->end[n]));
        span = fmax(span, b->end[n]);
    }
    return span > 0.0 ? worst / span : worst;
}
