/* A pipeline's step seen from outside: whether one is under way, and what it waits for. Reads
 * atomics and events alone, so that any thread may ask. */
#include <math.h>
#include <stdio.h>

#include "runtime/pipeline_impl.h"

uint64_t dpr_pipeline_activity(const dpr_pipeline_t *pipeline)
{
    return atomic_load_explicit(&pipeline->activity.count, memory_order_acquire);
}

static bool reached(const dpr_event_t *event, double since_sec)
{
    return dpr_event_query(event) && (since_sec == -INFINITY || dpr_event_sec(event) >= since_sec);
}

/* What comes after the program on the compute stream. Only the replicas' sum is part of a
 * recording; what is enqueued after one has its events' latest records. */
static const char *describe_rest(const dpr_pipeline_t *pipeline, pipeline_phase_t phase,
                                 double since_sec)
{
    const bool evaluates = phase >= PHASE_EVALUATE;
    if (!evaluates && phase >= PHASE_REDUCED && !reached(pipeline->reduced, since_sec)) {
        return "waits in the sum of the replicas' gradients";
    }
    if ((phase >= PHASE_SHARED && !evaluates) || phase == PHASE_EVALUATED) {
        if (!dpr_event_query(pipeline->shared)) {
            return "waits in the sum of the statistics over all ranks";
        }
    }
    if (phase == PHASE_UPDATED && !dpr_event_query(pipeline->updated)) {
        return "compute is in the optimizer's step";
    }
    return "has ended all that was enqueued, and its scheduler enqueues nothing more";
}

static const play_t *play_of(const dpr_pipeline_t *pipeline, pipeline_phase_t phase)
{
    return phase >= PHASE_EVALUATE ? &pipeline->eval : &pipeline->train;
}

const char *dpr_pipeline_enqueuing(const dpr_pipeline_t *pipeline)
{
    const pipeline_phase_t phase =
        (pipeline_phase_t)atomic_load_explicit(&pipeline->activity.phase, memory_order_acquire);
    return dpr_executor_enqueuing(play_of(pipeline, phase)->executor);
}

void dpr_pipeline_describe_waits(const dpr_pipeline_t *pipeline, char *text, size_t size)
{
    const pipeline_activity_t *activity = &pipeline->activity;
    const pipeline_phase_t phase =
        (pipeline_phase_t)atomic_load_explicit(&activity->phase, memory_order_acquire);
    const double since_sec = atomic_load_explicit(&activity->since_sec, memory_order_acquire);
    const dpr_executor_t *executor = play_of(pipeline, phase)->executor;
    if (dpr_executor_describe_waits(executor, since_sec, text, size) == 0) {
        snprintf(text, size, "%s", describe_rest(pipeline, phase, since_sec));
    }
}
