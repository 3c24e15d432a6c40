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

static dpr_status_t play(dpr_pipeline_t *pipeline, const play_t *play, int slot, float loss_scale)
{
    const dpr_executor_batch_t batch = {
        .inputs = pipeline->inputs[slot],
        .labels = pipeline->labels[slot],
        .results = pipeline->stats + play->graph->stages,
        .input_stride = pipeline->input_stride,
        .label_stride = pipeline->label_stride,
        .loss_scale = loss_scale,
    };
    DPR_TRY(dpr_stream_fill(pipeline->compute, pipeline->stats, 0,
                            pipeline->stats_count * sizeof(double)));
    return dpr_executor_enqueue(play->executor, &batch);
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

dpr_status_t dpr_pipeline_forward_backward(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    pipeline->evaluated = false;
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        if (pipeline->stages[s] != NULL) {
            DPR_TRY(dpr_stream_fill(pipeline->compute, dpr_stage_gradients(pipeline->stages[s]), 0,
                                    pipeline->shapes[s].parameters * sizeof(float)));
        }
    }
    DPR_TRY(play(pipeline, &pipeline->train, slot, loss_scale));
    DPR_TRY(dpr_event_record(pipeline->played, pipeline->compute));
    DPR_TRY(reduce_replicas(pipeline));
    return dpr_event_record(pipeline->reduced, pipeline->compute);
}

/* Sums the statistics over the ranks and starts their way to the host. */
static dpr_status_t share_stats(dpr_pipeline_t *pipeline)
{
    const size_t bytes = pipeline->stats_count * sizeof(double);
    DPR_TRY(dpr_group_allreduce_sum(pipeline->world, pipeline->stats, pipeline->stats_count,
                                    DPR_ELEMENT_DOUBLE, reduction_cost(pipeline, bytes),
                                    pipeline->compute));
    return dpr_stream_copy(pipeline->compute, pipeline->stats_host, pipeline->stats, bytes);
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

static dpr_status_t apply_gradients(dpr_pipeline_t *pipeline, long step)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    const dpr_optimizer_config_t *config = pipeline->options.optimizer;
    DPR_TRY(kernels->clip_factor(kernels, pipeline->compute, pipeline->train.graph->stages,
                                 pipeline->stats, config->clip_norm, pipeline->clip_factor));
    for (int s = 0; s < pipeline->train.graph->stages; s++) {
        if (pipeline->stages[s] != NULL) {
            DPR_TRY(dpr_optimizer_step(pipeline->optimizers[s], kernels, pipeline->compute, step,
                                       pipeline->options.total_steps, pipeline->clip_factor,
                                       dpr_stage_gradients(pipeline->stages[s]),
                                       dpr_stage_parameters(pipeline->stages[s]),
                                       dpr_stage_working(pipeline->stages[s])));
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_pipeline_update(dpr_pipeline_t *pipeline, long step)
{
    DPR_TRY(measure_gradients(pipeline));
    DPR_TRY(share_stats(pipeline));
    if (pipeline->options.optimizer != NULL) {
        DPR_TRY(apply_gradients(pipeline, step));
    }
    return dpr_event_record(pipeline->updated, pipeline->compute);
}

dpr_status_t dpr_pipeline_evaluate(dpr_pipeline_t *pipeline, int slot, float loss_scale)
{
    pipeline->evaluated = true;
    DPR_TRY(play(pipeline, &pipeline->eval, slot, loss_scale));
    return share_stats(pipeline);
}

dpr_status_t dpr_pipeline_synchronize(dpr_pipeline_t *pipeline)
{
    dpr_status_t first = dpr_stream_synchronize(pipeline->compute);
    const dpr_status_t loaded = dpr_stream_synchronize(pipeline->load);
    first = first == DPR_OK ? loaded : first;
    for (int32_t c = 0; c < pipeline->train.graph->channel_count; c++) {
        if (pipeline->train.links[c].stream != NULL) {
            const dpr_status_t status = dpr_stream_synchronize(pipeline->train.links[c].stream);
            first = first == DPR_OK ? status : first;
        }
    }
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
