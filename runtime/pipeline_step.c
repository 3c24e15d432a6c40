/* The pipeline's steps: what is enqueued, in which order. */
#include <math.h>

#include "runtime/pipeline_impl.h"

dpr_status_t dpr_pipeline_load(dpr_pipeline_t *pipeline, int slot, const float *inputs,
                               const int32_t *labels)
{
    const size_t micro_batches = (size_t)pipeline->train.graph->micro_batches;
    if (pipeline->any_inputs) {
        DPR_TRY(dpr_stream_copy(pipeline->load, pipeline->inputs[slot], inputs,
                                micro_batches * pipeline->input_stride * sizeof(float)));
    }
    if (pipeline->any_labels) {
        DPR_TRY(dpr_stream_copy(pipeline->load, pipeline->labels[slot], labels,
                                micro_batches * pipeline->label_stride * sizeof(int32_t)));
    }
    return DPR_OK;
}

/* ---- Where the step stands, for pipeline_watch.c ---- */

static void begin(dpr_pipeline_t *pipeline, pipeline_phase_t phase)
{
    pipeline_activity_t *activity = &pipeline->activity;
    const uint64_t count = atomic_load_explicit(&activity->count, memory_order_relaxed);
    atomic_store_explicit(&activity->phase, (int)phase, memory_order_release);
    atomic_store_explicit(&activity->since_sec,
                          pipeline->options.record && phase == PHASE_TRAIN
                              ? dpr_device_wall_sec(pipeline->options.device)
                              : -INFINITY,
                          memory_order_release);
    atomic_store_explicit(&activity->count, count + 1 + (count & 1), memory_order_release);
}

static void reach(dpr_pipeline_t *pipeline, pipeline_phase_t phase)
{
    atomic_store_explicit(&pipeline->activity.phase, (int)phase, memory_order_release);
}

static void end(dpr_pipeline_t *pipeline)
{
    pipeline_activity_t *activity = &pipeline->activity;
    const uint64_t count = atomic_load_explicit(&activity->count, memory_order_relaxed);
    atomic_store_explicit(&activity->count, count + (count & 1), memory_order_release);
}

/* ---- Parts of a step ---- */

static dpr_executor_batch_t batch_of(const dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    return (dpr_executor_batch_t){
        .inputs = pipeline->inputs[slot],
        .labels = pipeline->labels[slot],
        .results = pipeline->stats + pipeline->train.graph->stages,
        .input_stride = pipeline->input_stride,
        .label_stride = pipeline->label_stride,
        .loss_scale = loss_scale,
    };
}

static dpr_status_t clear_stats(dpr_pipeline_t *pipeline)
{
    return dpr_stream_fill(pipeline->compute, pipeline->stats, 0,
                           pipeline->stats_count * sizeof(double));
}

static dpr_status_t clear_gradients(dpr_pipeline_t *pipeline)
{
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        if (pipeline->stages[s] != NULL) {
            DPR_TRY(dpr_stream_fill(pipeline->compute, dpr_stage_gradients(pipeline->stages[s]), 0,
                                    pipeline->shapes[s].parameters * sizeof(float)));
        }
    }
    return DPR_OK;
}

static double reduction_cost(const dpr_pipeline_t *pipeline, size_t bytes)
{
    return pipeline->reduction_latency_sec + pipeline->reduction_sec_per_byte * (double)bytes;
}

/* The group of ranks that hold stage s, where it has a replica here; else NULL. */
static dpr_comm_group_t *replica_group(const dpr_pipeline_t *pipeline, int stage)
{
    const int32_t *holders = &pipeline->holders[2 * stage];
    for (int i = 0; holders[1] >= 0 && i < pipeline->replica_count; i++) {
        const replica_group_t *replica = &pipeline->replicas[i];
        if (replica->ranks[0] == holders[0] && replica->ranks[1] == holders[1]) {
            return replica->group;
        }
    }
    return NULL;
}

/* Stage by stage in ascending order on every rank, so that two groups never wait for one another.
 */
static dpr_status_t reduce_replicas(dpr_pipeline_t *pipeline)
{
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        dpr_comm_group_t *group = replica_group(pipeline, s);
        if (pipeline->stages[s] == NULL || group == NULL) {
            continue;
        }
        const size_t count = pipeline->shapes[s].parameters;
        DPR_TRY(dpr_group_allreduce_sum(
            group, dpr_stage_gradients(pipeline->stages[s]), count, DPR_ELEMENT_FLOAT,
            reduction_cost(pipeline, count * sizeof(float)), pipeline->compute));
    }
    return DPR_OK;
}

static dpr_status_t enqueue_step(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    dpr_device_t *device = pipeline->options.device;
    dpr_executor_t *executor = pipeline->train.executor;
    const dpr_executor_batch_t batch = batch_of(pipeline, slot, loss_scale);
    DPR_TRY(clear_gradients(pipeline));
    DPR_TRY(clear_stats(pipeline));
    DPR_TRY(pipeline->options.record ? dpr_executor_enqueue_joined(executor, &batch)
                                     : dpr_executor_enqueue(executor, &batch));
    DPR_TRY(dpr_event_record(pipeline->played, pipeline->compute));
    dpr_device_range_begin(device, "sum of replicas' gradients");
    const dpr_status_t status = reduce_replicas(pipeline);
    dpr_device_range_end(device);
    DPR_TRY(status);
    return dpr_event_record(pipeline->reduced, pipeline->compute);
}

/* A recording that was begun is ended, whatever happened in between. */
static dpr_status_t record_step(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    recorded_step_t *recorded = &pipeline->recorded[slot];
    dpr_recording_destroy(recorded->recording);
    *recorded = (recorded_step_t){.loss_scale = loss_scale};
    DPR_TRY(dpr_recording_begin(pipeline->compute));
    const dpr_status_t enqueued = enqueue_step(pipeline, slot, loss_scale);
    const dpr_status_t ended = dpr_recording_end(pipeline->compute, &recorded->recording);
    if (enqueued != DPR_OK && ended == DPR_OK) {
        dpr_recording_destroy(recorded->recording);
        recorded->recording = NULL;
    }
    return enqueued != DPR_OK ? enqueued : ended;
}

static dpr_status_t play_step(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    const recorded_step_t *recorded = &pipeline->recorded[slot];
    if (recorded->recording == NULL || recorded->loss_scale != loss_scale) {
        DPR_TRY(record_step(pipeline, slot, loss_scale));
    }
    dpr_executor_playing(pipeline->train.executor);
    return dpr_recording_play(recorded->recording, pipeline->compute);
}

dpr_status_t dpr_pipeline_forward_backward(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    pipeline->evaluated = false;
    begin(pipeline, PHASE_TRAIN);
    DPR_TRY(pipeline->options.record ? play_step(pipeline, slot, loss_scale)
                                     : enqueue_step(pipeline, slot, loss_scale));
    reach(pipeline, PHASE_REDUCED);
    return DPR_OK;
}

/* Sums the statistics over the ranks and starts their way to the host. */
static dpr_status_t share_stats(dpr_pipeline_t *pipeline)
{
    const size_t bytes = pipeline->stats_count * sizeof(double);
    DPR_TRY(dpr_group_allreduce_sum(pipeline->world, pipeline->stats, pipeline->stats_count,
                                    DPR_ELEMENT_DOUBLE, reduction_cost(pipeline, bytes),
                                    pipeline->compute));
    DPR_TRY(dpr_event_record(pipeline->shared, pipeline->compute));
    return dpr_stream_copy(pipeline->compute, pipeline->stats_host, pipeline->stats, bytes);
}

dpr_status_t pipeline_enqueue_sums(dpr_pipeline_t *pipeline)
{
    DPR_TRY(clear_gradients(pipeline));
    DPR_TRY(clear_stats(pipeline));
    DPR_TRY(reduce_replicas(pipeline));
    return share_stats(pipeline);
}

static dpr_status_t measure_gradients(dpr_pipeline_t *pipeline)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        if (pipeline->holders[2 * s] == pipeline->rank) {
            DPR_TRY(kernels->sum_squares(kernels, pipeline->compute, pipeline->shapes[s].parameters,
                                         dpr_stage_gradients(pipeline->stages[s]),
                                         &pipeline->stats[s]));
        }
    }
    return DPR_OK;
}

/* In place of a step's number: the update is only rehearsed. */
enum { REHEARSAL = -1 };

static dpr_status_t step_stage(dpr_pipeline_t *pipeline, int stage, long step)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    dpr_optimizer_t *optimizer = pipeline->optimizers[stage];
    const float *gradients = dpr_stage_gradients(pipeline->stages[stage]);
    float *parameters = dpr_stage_parameters(pipeline->stages[stage]);
    void *working = dpr_stage_working(pipeline->stages[stage]);
    return step == REHEARSAL
               ? dpr_optimizer_rehearse(optimizer, kernels, pipeline->compute,
                                        pipeline->clip_factor, gradients, parameters, working)
               : dpr_optimizer_step(optimizer, kernels, pipeline->compute, step,
                                    pipeline->options.total_steps, pipeline->clip_factor, gradients,
                                    parameters, working);
}

static dpr_status_t apply_gradients(dpr_pipeline_t *pipeline, long step)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    const dpr_optimizer_config_t *config = pipeline->options.optimizer;
    DPR_TRY(kernels->clip_factor(kernels, pipeline->compute, pipeline->train.graph->stages,
                                 pipeline->stats, config->clip_norm, pipeline->clip_factor));
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        if (pipeline->stages[s] != NULL) {
            DPR_TRY(step_stage(pipeline, s, step));
        }
    }
    return DPR_OK;
}

static dpr_status_t enqueue_update(dpr_pipeline_t *pipeline, long step)
{
    DPR_TRY(measure_gradients(pipeline));
    DPR_TRY(share_stats(pipeline));
    reach(pipeline, PHASE_SHARED);
    if (pipeline->options.optimizer != NULL) {
        DPR_TRY(apply_gradients(pipeline, step));
    }
    DPR_TRY(dpr_event_record(pipeline->updated, pipeline->compute));
    reach(pipeline, PHASE_UPDATED);
    return DPR_OK;
}

dpr_status_t dpr_pipeline_update(dpr_pipeline_t *pipeline, long step)
{
    dpr_device_range_begin(pipeline->options.device, "update");
    const dpr_status_t status = enqueue_update(pipeline, step);
    dpr_device_range_end(pipeline->options.device);
    return status;
}

dpr_status_t dpr_pipeline_rehearse_update(dpr_pipeline_t *pipeline)
{
    return dpr_pipeline_update(pipeline, REHEARSAL);
}

dpr_status_t dpr_pipeline_evaluate(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    const dpr_executor_batch_t batch = batch_of(pipeline, slot, loss_scale);
    pipeline->evaluated = true;
    begin(pipeline, PHASE_EVALUATE);
    DPR_TRY(clear_stats(pipeline));
    DPR_TRY(dpr_executor_enqueue(pipeline->eval.executor, &batch));
    DPR_TRY(share_stats(pipeline));
    reach(pipeline, PHASE_EVALUATED);
    return DPR_OK;
}

dpr_status_t dpr_pipeline_synchronize(dpr_pipeline_t *pipeline)
{
    dpr_status_t first = dpr_stream_synchronize(pipeline->compute);
    if (pipeline->second != NULL) {
        const dpr_status_t status = dpr_stream_synchronize(pipeline->second);
        first = first == DPR_OK ? status : first;
    }
    const dpr_status_t loaded = dpr_stream_synchronize(pipeline->load);
    first = first == DPR_OK ? loaded : first;
    for (int32_t c = 0; c < pipeline->train.graph->channel_count; c++) {
        if (pipeline->train.links[c].stream != NULL) {
            const dpr_status_t status = dpr_stream_synchronize(pipeline->train.links[c].stream);
            first = first == DPR_OK ? status : first;
        }
    }
    end(pipeline);
    return first;
}

void dpr_pipeline_result(const dpr_pipeline_t *pipeline, dpr_pipeline_result_t *result)
{
    const double *stats = pipeline->stats_host;
    const int stages = pipeline->train.graph->stages;
    *result = (dpr_pipeline_result_t){0};
    for (int m = 0; m < pipeline->train.graph->micro_batches; m++) {
        result->loss += stats[stages + 2 * m];
        result->correct += stats[stages + 2 * m + 1];
    }
    if (pipeline->evaluated) {
        return;
    }
    double squares = 0.0;
    for (int s = 0; s < stages; s++) {
        squares += stats[s];
    }
    result->gradient_norm = sqrt(squares);
    result->reduction_sec = dpr_event_sec(pipeline->reduced) - dpr_event_sec(pipeline->played);
    result->update_sec = dpr_event_sec(pipeline->updated) - dpr_event_sec(pipeline->reduced);
}
