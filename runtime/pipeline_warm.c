/*
 * A pipeline's kernels, each used once before the first message. On a GPU the first use of a kernel
 * or of a product's shape loads code and makes plans, which may wait for all that the device has to
 * do. In a step that would be receives, whose senders wait in the same way; in a recording it is
 * not allowed at all. And, once channels and groups are open, each sum over the ranks.
 */
#include "runtime/pipeline_impl.h"

/* Where one micro-batch of the stage, of those that run here, keeps its buffers. */
static dpr_stage_buffers_t buffers_of(const dpr_pipeline_t *pipeline, int stage, const float *input)
{
    const dpr_graph_t *graph = pipeline->train.graph;
    const dpr_cell_t *cell = graph->cells + (size_t)stage * (size_t)graph->micro_batches;
    for (int m = 0; m + 1 < graph->micro_batches && cell->rank != pipeline->rank; m++) {
        cell++;
    }
#define AT(kind)                                                                                   \
    dpr_arena_address(&pipeline->train.arena, pipeline->arena_base, cell->buffer[DPR_BUFFER_##kind])
    return (dpr_stage_buffers_t){.input = input,
                                 .labels = pipeline->labels[0],
                                 .act_in = AT(ACT_IN),
                                 .act_out = AT(ACT_OUT),
                                 .grad_in = AT(GRAD_IN),
                                 .grad_out = AT(GRAD_OUT),
                                 .saved = AT(SAVED),
                                 .wstate = AT(WSTATE),
                                 .result = pipeline->stats + graph->stages};
#undef AT
}

/* Zeros are a batch like any other. */
static dpr_status_t clear(dpr_pipeline_t *pipeline)
{
    const size_t micro_batches = (size_t)pipeline->train.graph->micro_batches;
    dpr_stream_t *stream = pipeline->compute;
    for (int slot = 0; slot < 2 && pipeline->any_inputs; slot++) {
        DPR_TRY(dpr_stream_fill(stream, pipeline->inputs[slot], 0,
                                micro_batches * pipeline->input_stride * sizeof(float)));
    }
    if (pipeline->labels[0] != NULL) {
        DPR_TRY(dpr_stream_fill(stream, pipeline->labels[0], 0,
                                micro_batches * pipeline->label_stride * sizeof(int32_t)));
    }
    DPR_TRY(dpr_stream_fill(stream, pipeline->stats, 0, pipeline->stats_count * sizeof(double)));
    return dpr_stream_fill(stream, pipeline->arena_base, 0, pipeline->memory.arena_bytes);
}

static dpr_status_t pass(dpr_pipeline_t *pipeline, int stage, const float *input,
                         dpr_stream_t *stream)
{
    const dpr_stage_buffers_t buffers = buffers_of(pipeline, stage, input);
    DPR_TRY(dpr_stage_forward(pipeline->stages[stage], stream, &buffers, 1.0F));
    DPR_TRY(dpr_stage_backward_input(pipeline->stages[stage], stream, &buffers));
    DPR_TRY(dpr_stage_backward_weight(pipeline->stages[stage], stream, &buffers));
    return dpr_stage_backward(pipeline->stages[stage], stream, &buffers);
}

/* The first stage's products read a batch where it is, and a plan is for an alignment. So there is
 * a pass for each that a micro-batch has: the lowest bit of its address. */
static dpr_status_t pass_each_alignment(dpr_pipeline_t *pipeline, dpr_stream_t *stream)
{
    const size_t micro_batches = (size_t)pipeline->train.graph->micro_batches;
    uintptr_t seen = 0;
    for (size_t i = 0; i < 2 * micro_batches && pipeline->any_inputs; i++) {
        const size_t m = i % micro_batches;
        const float *input = pipeline->inputs[i / micro_batches] + m * pipeline->input_stride;
        const uintptr_t alignment = (uintptr_t)input & -(uintptr_t)input;
        if (pipeline->needs_inputs[m] && (seen & alignment) == 0) {
            seen |= alignment;
            DPR_TRY(pass(pipeline, 0, input, stream));
        }
    }
    return DPR_OK;
}

/* On gradients of zero, so that not even rounding can change a parameter. */
static dpr_status_t update(dpr_pipeline_t *pipeline, int stage)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    dpr_stream_t *stream = pipeline->compute;
    float *gradients = dpr_stage_gradients(pipeline->stages[stage]);
    const size_t count = pipeline->shapes[stage].parameters;
    DPR_TRY(dpr_stream_fill(stream, gradients, 0, count * sizeof(float)));
    DPR_TRY(kernels->sum_squares(kernels, stream, count, gradients, &pipeline->stats[stage]));
    DPR_TRY(kernels->clip_factor(kernels, stream, pipeline->train.graph->stages, pipeline->stats,
                                 1.0F, pipeline->clip_factor));
    return pipeline->options.optimizer == NULL
               ? DPR_OK
               : dpr_optimizer_rehearse(pipeline->optimizers[stage], kernels, stream,
                                        pipeline->clip_factor, gradients,
                                        dpr_stage_parameters(pipeline->stages[stage]),
                                        dpr_stage_working(pipeline->stages[stage]));
}

dpr_status_t pipeline_warm_up(dpr_pipeline_t *pipeline)
{
    dpr_stream_t *const streams[] = {pipeline->compute, pipeline->second};
    const int stages = pipeline->train.graph->stages;
    DPR_TRY(clear(pipeline));
    DPR_TRY(dpr_stream_synchronize(pipeline->compute));
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        for (int s = 0; s < stages && streams[i] != NULL; s++) {
            if (pipeline->stages[s] != NULL) {
                DPR_TRY(s == 0 ? pass_each_alignment(pipeline, streams[i])
                               : pass(pipeline, s, NULL, streams[i]));
            }
        }
        if (streams[i] != NULL) {
            DPR_TRY(dpr_stream_synchronize(streams[i]));
        }
    }
    for (int s = 0; s < stages; s++) {
        if (pipeline->stages[s] != NULL) {
            DPR_TRY(update(pipeline, s));
        }
    }
    return dpr_stream_synchronize(pipeline->compute);
}

/*
 * A transport on the device connects its ranks anew where a sum's size makes it take another
 * algorithm (nccl_open.c), which allocates. So each sum of a step is taken once of zeros. A rank
 * that cannot leaves the others waiting on the device, so all know before they wait for that.
 */
dpr_status_t pipeline_warm_sums(dpr_pipeline_t *pipeline)
{
    dpr_comm_t *comm = pipeline->options.comm;
    if (pipeline->comm_needs.device_bytes == 0) {
        return DPR_OK;
    }
    const dpr_status_t enqueued = dpr_comm_agree(comm, pipeline_enqueue_sums(pipeline), NULL);
    if (enqueued != DPR_OK) {
        dpr_comm_interrupt(comm);
        return enqueued;
    }
    return dpr_comm_agree(comm, dpr_stream_synchronize(pipeline->compute), NULL);
}
