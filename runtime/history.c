/* The ring of records, and putting the ranks' together. */
#include "runtime/history.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

struct dpr_history {
    const dpr_executor_t *executor;
    int capacity;
    long seen;
    int32_t commands;
    dpr_record_t *records; /* [capacity][commands] */
    long *step;            /* [capacity] */
};

dpr_status_t dpr_history_create(const dpr_executor_t *executor, int capacity, dpr_history_t **out)
{
    dpr_history_t *history;
    dpr_status_t status;
    DPR_TRY(dpr_calloc(1, sizeof *history, &history));
    history->executor = executor;
    history->capacity = capacity;
    history->commands = dpr_executor_command_count(executor);
    DPR_TRY_GOTO(dpr_calloc((size_t)capacity * (size_t)history->commands, sizeof(dpr_record_t),
                            &history->records),
                 destroy);
    DPR_TRY_GOTO(dpr_calloc((size_t)capacity, sizeof(long), &history->step), destroy);
    *out = history;
    return DPR_OK;

destroy:
    dpr_history_destroy(history);
    return status;
}

void dpr_history_destroy(dpr_history_t *history)
{
    if (history != NULL) {
        free(history->records);
        free(history->step);
        free(history);
    }
}

const dpr_record_t *dpr_history_take(dpr_history_t *history, long step)
{
    const long slot = history->seen++ % history->capacity;
    dpr_record_t *records = history->records + slot * history->commands;
    dpr_executor_collect(history->executor, records);
    history->step[slot] = step;
    return records;
}

int dpr_history_capacity(const dpr_history_t *history)
{
    return history->capacity;
}

int dpr_history_kept(const dpr_history_t *history)
{
    return history->seen < history->capacity ? (int)history->seen : history->capacity;
}

long dpr_history_seen(const dpr_history_t *history)
{
    return history->seen;
}

size_t dpr_history_bytes(const dpr_history_t *history)
{
    return (size_t)history->capacity * (size_t)history->commands * sizeof(dpr_record_t);
}

/* ---- Gathering ---- */

/* The step taken `back` steps before the last (0: the last). */
static long slot_of(const dpr_history_t *history, int back)
{
    return (history->seen - 1 - back) % history->capacity;
}

static dpr_status_t join_step(const dpr_history_t *history, dpr_comm_t *comm,
                              const dpr_clock_fit_t *clock, int back, dpr_timeline_t *timeline,
                              double *enqueued_sec)
{
    const dpr_record_t *records =
        history->records + slot_of(history, back) * (long)history->commands;
    const double begin_sec = history->commands > 0 ? records[0].ready_sec : 0.0;
    return dpr_measure_join(comm, records, history->commands, dpr_clock_offset_at(clock, begin_sec),
                            timeline, enqueued_sec);
}

/* Row k of the durations, and sample k of each rank, is the k-th oldest of the steps. */
static dpr_status_t join_steps(const dpr_history_t *history, dpr_comm_t *comm,
                               const dpr_clock_fit_t *clock, dpr_timeline_t *timeline,
                               dpr_durations_t *durations, dpr_step_sample_t *samples)
{
    for (int k = 0; k < durations->steps; k++) {
        DPR_TRY(join_step(history, comm, clock, durations->steps - 1 - k, timeline, NULL));
        dpr_durations_take(durations, k, timeline);
        dpr_step_samples_of(timeline, durations->steps, k, samples);
    }
    return DPR_OK;
}

/* How many steps before the last the typical one is. */
static dpr_status_t find_typical(const dpr_step_sample_t *samples, int ranks, int steps, int *back)
{
    dpr_measurement_t medians;
    DPR_TRY(dpr_measure_summarize(samples, ranks, steps, &medians));
    *back = steps - 1 - (int)dpr_measure_nearest(samples, &medians);
    dpr_measurement_free(&medians);
    return DPR_OK;
}

dpr_status_t dpr_history_gather(const dpr_history_t *history, dpr_comm_t *comm,
                                const dpr_graph_t *graph, const dpr_clock_fit_t *clock, int steps,
                                dpr_durations_t *out, dpr_timeline_t *typical,
                                double *typical_enqueued_sec, long *typical_step)
{
    assert(steps >= 1 && steps <= dpr_history_kept(history));
    dpr_durations_t durations;
    dpr_timeline_t timeline = {0};
    dpr_step_sample_t *samples = NULL;
    int back;
    dpr_status_t status;
    DPR_TRY(dpr_durations_init(graph, steps, &durations));
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks * (size_t)steps, sizeof *samples, &samples),
                 free_parts);
    DPR_TRY_GOTO(dpr_timeline_init(&timeline, graph), free_parts);
    DPR_TRY_GOTO(join_steps(history, comm, clock, &timeline, &durations, samples), free_parts);
    DPR_TRY_GOTO(find_typical(samples, graph->ranks, steps, &back), free_parts);
    if (typical_step != NULL) {
        *typical_step = history->step[slot_of(history, back)];
    }
    if (typical != NULL) {
        DPR_TRY_GOTO(join_step(history, comm, clock, back, typical, typical_enqueued_sec),
                     free_parts);
    }
    *out = durations;
    durations = (dpr_durations_t){0};

free_parts:
    dpr_timeline_free(&timeline);
    dpr_durations_free(&durations);
    free(samples);
    return status;
}
