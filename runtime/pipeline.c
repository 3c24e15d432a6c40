/* Creates and destroys a pipeline: graphs, stages, streams, channels, arena, executors. */
#include "runtime/pipeline_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

/* ---- What needs no other rank ---- */

static dpr_status_t create_graphs(const dpr_pipeline_options_t *options, dpr_graph_t **train,
                                  dpr_graph_t **eval)
{
    dpr_program_t forwards = {0};
    dpr_status_t status;
    *train = NULL;
    *eval = NULL;
    DPR_TRY(dpr_graph_create(options->program, &options->graph, train));
    DPR_TRY_GOTO(dpr_program_forward_only(options->program, &forwards), free_forwards);
    DPR_TRY_GOTO(dpr_graph_create(&forwards, &options->graph, eval), free_forwards);

free_forwards:
    dpr_program_free(&forwards);
    if (status != DPR_OK) {
        dpr_graph_destroy(*train);
        *train = NULL;
    }
    return status;
}

static dpr_status_t create_shapes(const dpr_pipeline_options_t *options, dpr_stage_shape_t **out)
{
    const int stages = options->program->stages;
    dpr_stage_shape_t *shapes;
    DPR_TRY(dpr_calloc((size_t)stages, sizeof *shapes, &shapes));
    for (int s = 0; s < stages; s++) {
        const dpr_status_t status = dpr_stage_shape(&options->model, stages, s, &shapes[s]);
        if (status != DPR_OK) {
            free(shapes);
            return status;
        }
    }
    *out = shapes;
    return DPR_OK;
}

dpr_status_t dpr_pipeline_check(const dpr_pipeline_options_t *options)
{
    dpr_stage_shape_t *shapes;
    dpr_graph_t *train;
    dpr_graph_t *eval;
    if (options->program->ranks != dpr_comm_size(options->comm)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "the program is for %d ranks but %d were started; start mpirun with -np %d",
                        options->program->ranks, dpr_comm_size(options->comm),
                        options->program->ranks);
    }
    DPR_TRY(create_shapes(options, &shapes));
    free(shapes);
    DPR_TRY(create_graphs(options, &train, &eval));
    dpr_graph_destroy(train);
    dpr_graph_destroy(eval);
    return DPR_OK;
}

/* ---- Memory ---- */

static dpr_status_t lay_out_memory(dpr_pipeline_t *pipeline)
{
    const dpr_memory_parts_t parts = {.train = pipeline->train.graph,
                                      .eval = pipeline->eval.graph,
                                      .shapes = pipeline->shapes,
                                      .holders = pipeline->holders,
                                      .model = &pipeline->options.model,
                                      .optimizer = pipeline->options.optimizer};
    DPR_TRY(dpr_arena_init(&pipeline->train.arena, pipeline->train.graph, pipeline->rank,
                           pipeline->shapes));
    DPR_TRY(dpr_arena_init(&pipeline->eval.arena, pipeline->eval.graph, pipeline->rank,
                           pipeline->shapes));
    return dpr_memory_of_rank(&parts, pipeline->rank, &pipeline->memory);
}

/* Says what is needed, of what, what there is, and which schedules would fit. */
static dpr_status_t refuse_memory(const dpr_pipeline_t *pipeline, dpr_status_t status,
                                  size_t limit_bytes, const char *limit)
{
    const dpr_pipeline_options_t *options = &pipeline->options;
    const dpr_pipeline_memory_t *need = &pipeline->memory;
    const dpr_memory_spec_t spec = {.program = options->program,
                                    .graph = options->graph,
                                    .model = options->model,
                                    .optimizer = options->optimizer};
    char fitting[1024];
    dpr_memory_describe_fitting(&spec, limit_bytes, fitting, sizeof fitting);
    return dpr_fail(status,
                    "rank %d cannot hold its part of schedule %s: %zu bytes needed (%zu buffers, "
                    "%zu parameters and gradients, %zu optimizer, %zu batches, %zu the rest), %s "
                    "%zu; start more ranks, or lower --micro-batch-size, --hidden or --ffn; %s",
                    pipeline->rank, options->program->name, need->total_bytes, need->arena_bytes,
                    need->stage_bytes, need->optimizer_bytes, need->batch_bytes, need->rest_bytes,
                    limit, limit_bytes, fitting);
}

/* Refuses, with the numbers, what the limit does not allow or the device says it cannot hold. */
static dpr_status_t check_memory(const dpr_pipeline_t *pipeline)
{
    const size_t need = pipeline->memory.total_bytes;
    const size_t limit = pipeline->options.memory_limit_bytes;
    dpr_device_info_t info;
    dpr_device_info(pipeline->options.device, &info);
    if (limit > 0 && need > limit) {
        return refuse_memory(pipeline, DPR_ERR_INVALID, limit, "--memory-limit allows");
    }
    if (info.memory_bytes > 0 && need > info.memory_bytes) {
        return refuse_memory(pipeline, DPR_ERR_MEMORY, info.memory_bytes, "its device has free");
    }
    return DPR_OK;
}

static dpr_status_t allocate(dpr_pipeline_t *pipeline)
{
    dpr_device_t *device = pipeline->options.device;
    const size_t micro_batches = (size_t)pipeline->train.graph->micro_batches;
    const size_t stats_bytes = pipeline->stats_count * sizeof(double);
    for (int slot = 0; slot < 2; slot++) {
        if (pipeline->any_inputs) {
            DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_DEVICE,
                                     micro_batches * pipeline->input_stride * sizeof(float),
                                     (void **)&pipeline->inputs[slot]));
        }
        if (pipeline->any_labels) {
            DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_DEVICE,
                                     micro_batches * pipeline->label_stride * sizeof(int32_t),
                                     (void **)&pipeline->labels[slot]));
        }
    }
    DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_DEVICE, stats_bytes, (void **)&pipeline->stats));
    DPR_TRY(
        dpr_device_alloc(device, DPR_MEMORY_PINNED, stats_bytes, (void **)&pipeline->stats_host));
    DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_DEVICE, sizeof(float),
                             (void **)&pipeline->clip_factor));
    return dpr_device_alloc(device, DPR_MEMORY_DEVICE, pipeline->memory.arena_bytes,
                            &pipeline->arena_base);
}

/* ---- Stages ---- */

static bool holds(const dpr_pipeline_t *pipeline, int stage)
{
    const int32_t *holders = &pipeline->holders[2 * stage];
    return holders[0] == pipeline->rank || holders[1] == pipeline->rank;
}

static dpr_status_t find_needs(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *graph = pipeline->train.graph;
    const int micro_batches = graph->micro_batches;
    const dpr_cell_t *first = graph->cells;
    const dpr_cell_t *last = graph->cells + (size_t)(graph->stages - 1) * (size_t)micro_batches;
    DPR_TRY(dpr_calloc((size_t)micro_batches, sizeof(bool), &pipeline->needs_inputs));
    DPR_TRY(dpr_calloc((size_t)micro_batches, sizeof(bool), &pipeline->needs_labels));
    for (int m = 0; m < micro_batches; m++) {
        pipeline->needs_inputs[m] = first[m].rank == pipeline->rank;
        pipeline->needs_labels[m] = last[m].rank == pipeline->rank;
        pipeline->any_inputs = pipeline->any_inputs || pipeline->needs_inputs[m];
        pipeline->any_labels = pipeline->any_labels || pipeline->needs_labels[m];
    }
    return DPR_OK;
}

static dpr_status_t create_stages(dpr_pipeline_t *pipeline)
{
    const dpr_pipeline_options_t *options = &pipeline->options;
    const int stages = pipeline->train.graph->stages;
    for (int s = 0; s < stages; s++) {
        if (!holds(pipeline, s)) {
            continue;
        }
        DPR_TRY(dpr_stage_create(&options->model, stages, s, options->device, options->kernels,
                                 pipeline->compute, &pipeline->stages[s]));
        if (options->optimizer != NULL) {
            DPR_TRY(dpr_optimizer_create(options->optimizer, options->device, pipeline->compute,
                                         pipeline->shapes[s].parameters,
                                         pipeline->shapes[s].decayed, &pipeline->optimizers[s]));
        }
    }
    return DPR_OK;
}

/* ---- Streams, channels, groups ---- */

static dpr_status_t create_link(dpr_pipeline_t *pipeline, const dpr_channel_t *channel,
                                dpr_link_t *link)
{
    DPR_TRY(dpr_channel_open(pipeline->options.comm, channel->source, channel->destination,
                             dpr_pipeline_message_bytes(pipeline), &link->channel));
    if (link->channel == NULL) {
        return DPR_OK;
    }
    const bool is_source = channel->source == pipeline->rank;
    char name[32];
    snprintf(name, sizeof name, "%s-%s-%d", channel->kind == DPR_NODE_SEND_ACT ? "act" : "grad",
             is_source ? "to" : "from", is_source ? channel->destination : channel->source);
    return dpr_stream_create(pipeline->options.device, name, 1, &link->stream);
}

/* An evaluation uses the training graph's links. */
static dpr_status_t share_links(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *train = pipeline->train.graph;
    const dpr_graph_t *eval = pipeline->eval.graph;
    for (int32_t e = 0; e < eval->channel_count; e++) {
        for (int32_t t = 0; t < train->channel_count; t++) {
            if (train->channels[t].source == eval->channels[e].source &&
                train->channels[t].destination == eval->channels[e].destination &&
                train->channels[t].kind == eval->channels[e].kind) {
                pipeline->eval.links[e] = pipeline->train.links[t];
            }
        }
    }
    return DPR_OK;
}

static dpr_status_t create_links(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *graph = pipeline->train.graph;
    DPR_TRY(dpr_calloc((size_t)graph->channel_count, sizeof(dpr_link_t), &pipeline->train.links));
    DPR_TRY(dpr_calloc((size_t)pipeline->eval.graph->channel_count, sizeof(dpr_link_t),
                       &pipeline->eval.links));
    for (int32_t c = 0; c < graph->channel_count; c++) {
        DPR_TRY(create_link(pipeline, &graph->channels[c], &pipeline->train.links[c]));
    }
    return share_links(pipeline);
}

static bool has_replica_group(const dpr_pipeline_t *pipeline, const int ranks[2])
{
    for (int i = 0; i < pipeline->replica_count; i++) {
        const int *known = pipeline->replicas[i].ranks;
        if (known[0] == ranks[0] && known[1] == ranks[1]) {
            return true;
        }
    }
    return false;
}

static dpr_status_t create_groups(dpr_pipeline_t *pipeline)
{
    dpr_comm_t *comm = pipeline->options.comm;
    const int stages = pipeline->train.graph->stages;
    DPR_TRY(dpr_calloc((size_t)stages, sizeof(replica_group_t), &pipeline->replicas));
    for (int s = 0; s < stages; s++) {
        const int pair[2] = {pipeline->holders[2 * s], pipeline->holders[2 * s + 1]};
        if (pair[1] < 0 || has_replica_group(pipeline, pair)) {
            continue;
        }
        replica_group_t *replica = &pipeline->replicas[pipeline->replica_count++];
        replica->ranks[0] = pair[0];
        replica->ranks[1] = pair[1];
        DPR_TRY(dpr_group_open(comm, pair, 2, &replica->group));
    }
    const int size = dpr_comm_size(comm);
    int *all;
    DPR_TRY(dpr_calloc((size_t)size, sizeof *all, &all));
    for (int r = 0; r < size; r++) {
        all[r] = r;
    }
    const dpr_status_t status = dpr_group_open(comm, all, size, &pipeline->world);
    free(all);
    return status;
}

static dpr_status_t create_streams(dpr_pipeline_t *pipeline)
{
    dpr_device_t *device = pipeline->options.device;
    DPR_TRY(dpr_stream_create(device, "compute", 0, &pipeline->compute));
    DPR_TRY(dpr_stream_create(device, "load", 0, &pipeline->load));
    DPR_TRY(dpr_event_create(device, &pipeline->played));
    DPR_TRY(dpr_event_create(device, &pipeline->reduced));
    return dpr_event_create(device, &pipeline->updated);
}

static dpr_status_t create_executor(dpr_pipeline_t *pipeline, play_t *play)
{
    const dpr_executor_parts_t parts = {
        .graph = play->graph,
        .rank = pipeline->rank,
        .device = pipeline->options.device,
        .compute = pipeline->compute,
        .links = play->links,
        .stages = pipeline->stages,
        .arena = &play->arena,
        .arena_base = pipeline->arena_base,
        .cost = play->cost,
        .poison = pipeline->options.poison,
    };
    return dpr_executor_create(&parts, &play->executor);
}

/* ---- The whole ---- */

/* What this rank will need and hold, nothing of it allocated on the device yet. */
static dpr_status_t plan_local(dpr_pipeline_t *pipeline)
{
    const dpr_pipeline_options_t *options = &pipeline->options;
    const size_t stages = (size_t)options->program->stages;
    DPR_TRY(create_graphs(options, &pipeline->train.graph, &pipeline->eval.graph));
    DPR_TRY(create_shapes(options, &pipeline->shapes));
    DPR_TRY(dpr_calloc(2 * stages, sizeof(int32_t), &pipeline->holders));
    DPR_TRY(dpr_program_holders(options->program, pipeline->holders));
    DPR_TRY(dpr_calloc(stages, sizeof(dpr_stage_t *), &pipeline->stages));
    DPR_TRY(dpr_calloc(stages, sizeof(dpr_optimizer_t *), &pipeline->optimizers));
    DPR_TRY(dpr_calloc((size_t)pipeline->train.graph->node_count, sizeof(double),
                       &pipeline->train.cost));
    DPR_TRY(
        dpr_calloc((size_t)pipeline->eval.graph->node_count, sizeof(double), &pipeline->eval.cost));
    DPR_TRY(find_needs(pipeline));
    pipeline->input_stride = (size_t)options->model.micro_batch_size * (size_t)options->model.input;
    pipeline->label_stride = (size_t)options->model.micro_batch_size;
    pipeline->stats_count = stages + 2 * (size_t)options->program->micro_batches;
    DPR_TRY(lay_out_memory(pipeline));
    return check_memory(pipeline);
}

/* Everything on this rank alone: what can fail here must be known before channels are opened. */
static dpr_status_t create_local(dpr_pipeline_t *pipeline)
{
    DPR_TRY(create_streams(pipeline));
    DPR_TRY(allocate(pipeline));
    return create_stages(pipeline);
}

static dpr_status_t create_shared(dpr_pipeline_t *pipeline)
{
    DPR_TRY(create_links(pipeline));
    DPR_TRY(create_groups(pipeline));
    DPR_TRY(create_executor(pipeline, &pipeline->train));
    return create_executor(pipeline, &pipeline->eval);
}

dpr_status_t dpr_pipeline_create(const dpr_pipeline_options_t *options, dpr_pipeline_t **out)
{
    dpr_pipeline_t *pipeline;
    DPR_TRY(dpr_calloc(1, sizeof *pipeline, &pipeline));
    pipeline->options = *options;
    pipeline->rank = dpr_comm_rank(options->comm);
    dpr_status_t status = dpr_comm_agree(options->comm, plan_local(pipeline), NULL);
    if (status == DPR_OK) {
        status = dpr_comm_agree(options->comm, create_local(pipeline), NULL);
    }
    if (status == DPR_OK) {
        status = dpr_comm_agree(options->comm, create_shared(pipeline), NULL);
    }
    if (status != DPR_OK) {
        dpr_pipeline_destroy(pipeline);
        return status;
    }
    pipeline->options.program = NULL; /* only borrowed for the creation */
    *out = pipeline;
    return DPR_OK;
}

static void destroy_play(play_t *play)
{
    dpr_executor_destroy(play->executor);
    dpr_arena_free(&play->arena);
    free(play->links);
    free(play->cost);
}

static void destroy_links(dpr_pipeline_t *pipeline)
{
    for (int32_t c = 0; pipeline->train.links != NULL && c < pipeline->train.graph->channel_count;
         c++) {
        dpr_stream_destroy(pipeline->train.links[c].stream);
        dpr_channel_close(pipeline->train.links[c].channel);
    }
    for (int i = 0; i < pipeline->replica_count; i++) {
        dpr_group_close(pipeline->replicas[i].group);
    }
    dpr_group_close(pipeline->world);
}

static void destroy_stages(dpr_pipeline_t *pipeline)
{
    for (int s = 0; pipeline->train.graph != NULL && s < pipeline->train.graph->stages; s++) {
        if (pipeline->optimizers != NULL) {
            dpr_optimizer_destroy(pipeline->optimizers[s]);
        }
        if (pipeline->stages != NULL) {
            dpr_stage_destroy(pipeline->stages[s]);
        }
    }
    free(pipeline->optimizers);
    free(pipeline->stages);
}

static void free_memory(dpr_pipeline_t *pipeline)
{
    dpr_device_t *device = pipeline->options.device;
    for (int slot = 0; slot < 2; slot++) {
        dpr_device_free(device, DPR_MEMORY_DEVICE, pipeline->inputs[slot]);
        dpr_device_free(device, DPR_MEMORY_DEVICE, pipeline->labels[slot]);
    }
    dpr_device_free(device, DPR_MEMORY_DEVICE, pipeline->stats);
    dpr_device_free(device, DPR_MEMORY_PINNED, pipeline->stats_host);
    dpr_device_free(device, DPR_MEMORY_DEVICE, pipeline->clip_factor);
    dpr_device_free(device, DPR_MEMORY_DEVICE, pipeline->arena_base);
}

void dpr_pipeline_destroy(dpr_pipeline_t *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    dpr_stream_destroy(pipeline->compute);
    dpr_stream_destroy(pipeline->load);
    destroy_links(pipeline);
    dpr_event_destroy(pipeline->played);
    dpr_event_destroy(pipeline->reduced);
    dpr_event_destroy(pipeline->updated);
    destroy_stages(pipeline);
    free_memory(pipeline);
    destroy_play(&pipeline->train);
    destroy_play(&pipeline->eval);
    dpr_graph_destroy(pipeline->train.graph);
    dpr_graph_destroy(pipeline->eval.graph);
    free(pipeline->replicas);
    free(pipeline->needs_inputs);
    free(pipeline->needs_labels);
    free(pipeline->shapes);
    free(pipeline->holders);
    free(pipeline);
}

/* ---- What it holds ---- */

const dpr_graph_t *dpr_pipeline_graph(const dpr_pipeline_t *pipeline)
{
    return pipeline->train.graph;
}

const dpr_graph_t *dpr_pipeline_eval_graph(const dpr_pipeline_t *pipeline)
{
    return pipeline->eval.graph;
}

const dpr_stage_shape_t *dpr_pipeline_shapes(const dpr_pipeline_t *pipeline)
{
    return pipeline->shapes;
}

size_t dpr_pipeline_message_bytes(const dpr_pipeline_t *pipeline)
{
    return pipeline->shapes[0].activation_bytes;
}

dpr_stage_t *dpr_pipeline_stage(const dpr_pipeline_t *pipeline, int stage)
{
    return pipeline->stages[stage];
}

int dpr_pipeline_owner(const dpr_pipeline_t *pipeline, int stage)
{
    return pipeline->holders[2 * stage];
}

const dpr_executor_t *dpr_pipeline_executor(const dpr_pipeline_t *pipeline)
{
    return pipeline->train.executor;
}

void dpr_pipeline_memory(const dpr_pipeline_t *pipeline, dpr_pipeline_memory_t *memory)
{
    *memory = pipeline->memory;
}

bool dpr_pipeline_needs_inputs(const dpr_pipeline_t *pipeline, int micro_batch)
{
    return pipeline->needs_inputs[micro_batch];
}

bool dpr_pipeline_needs_labels(const dpr_pipeline_t *pipeline, int micro_batch)
{
    return pipeline->needs_labels[micro_batch];
}

double *dpr_pipeline_cost(dpr_pipeline_t *pipeline)
{
    return pipeline->train.cost;
}

double *dpr_pipeline_eval_cost(dpr_pipeline_t *pipeline)
{
    return pipeline->eval.cost;
}

void dpr_pipeline_set_reduction_cost(dpr_pipeline_t *pipeline, double latency_sec,
                                     double sec_per_byte)
{
    pipeline->reduction_latency_sec = latency_sec;
    pipeline->reduction_sec_per_byte = sec_per_byte;
}
