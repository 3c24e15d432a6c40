/* Creates and destroys a pipeline: graphs, stages, arena, executors; pipeline_links.c makes its
 * streams, channels and groups. */
#include "runtime/pipeline_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Whether a step can be recorded where it moves data between ranks; the device has its own say. */
static dpr_status_t check_record(const dpr_pipeline_options_t *options)
{
    const char *comm = dpr_comm_kind(options->comm);
    if (!options->record || options->program->ranks == 1) {
        return DPR_OK;
    }
    if (strcmp(comm, "nccl") == 0) {
        return dpr_comm_nccl_check_record(options->comm);
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "--cuda-graph cannot record a step whose transfers are operations of the host, "
                    "as those of --comm %s are; use --comm nccl, or leave --cuda-graph out",
                    comm);
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
    DPR_TRY(check_record(options));
    DPR_TRY(create_shapes(options, &shapes));
    free(shapes);
    DPR_TRY(create_graphs(options, &train, &eval));
    dpr_graph_destroy(train);
    dpr_graph_destroy(eval);
    return DPR_OK;
}

/* ---- Memory ---- */

/* Kernels run on one compute stream, or two. */
static size_t workspace_bytes(const dpr_pipeline_t *pipeline)
{
    return (pipeline->has_second ? 2 : 1) * pipeline->options.kernels->workspace_bytes;
}

static dpr_status_t lay_out_memory(dpr_pipeline_t *pipeline)
{
    const dpr_memory_parts_t parts = {.train = pipeline->train.graph,
                                      .eval = pipeline->eval.graph,
                                      .shapes = pipeline->shapes,
                                      .holders = pipeline->holders,
                                      .model = &pipeline->options.model,
                                      .optimizer = pipeline->options.optimizer,
                                      .workspace_bytes = workspace_bytes(pipeline)};
    DPR_TRY(dpr_arena_init(&pipeline->train.arena, pipeline->train.graph, pipeline->rank,
                           pipeline->shapes));
    DPR_TRY(dpr_arena_init(&pipeline->eval.arena, pipeline->eval.graph, pipeline->rank,
                           pipeline->shapes));
    return dpr_memory_of_rank(&parts, pipeline->rank, &pipeline->memory);
}

/* What the communicator will take of the device once this rank's channels and groups are open. */
static void find_comm_needs(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *graph = pipeline->train.graph;
    const int32_t *holders = pipeline->holders;
    int channels = 0;
    int groups = graph->ranks > 1 ? 1 : 0; /* of all ranks */
    for (int32_t c = 0; c < graph->channel_count; c++) {
        channels += graph->channels[c].source == pipeline->rank ||
                            graph->channels[c].destination == pipeline->rank
                        ? 1
                        : 0;
    }
    for (int s = 0; s < graph->stages; s++) { /* one for each other rank with the same stages */
        bool is_new = holders[2 * s + 1] >= 0 &&
                      (holders[2 * s] == pipeline->rank || holders[2 * s + 1] == pipeline->rank);
        for (int t = 0; t < s && is_new; t++) {
            is_new = holders[2 * t] != holders[2 * s] || holders[2 * t + 1] != holders[2 * s + 1];
        }
        groups += is_new ? 1 : 0;
    }
    dpr_comm_needs(pipeline->options.comm, channels, groups, &pipeline->comm_needs);
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
                                    .optimizer = options->optimizer,
                                    .workspace_bytes = workspace_bytes(pipeline)};
    char fitting[1024];
    char reserve[96] = "";
    if (status == DPR_ERR_MEMORY && pipeline->comm_needs.device_bytes > 0) {
        snprintf(reserve, sizeof reserve, " beside about %zu for the %s communicators",
                 pipeline->comm_needs.device_bytes, dpr_comm_kind(options->comm));
    }
    dpr_memory_describe_fitting(&spec, limit_bytes, fitting, sizeof fitting);
    return dpr_fail(status,
                    "rank %d cannot hold its part of schedule %s: %zu bytes needed (%zu buffers, "
                    "%zu parameters and gradients, %zu optimizer, %zu batches, %zu the rest), %s "
                    "%zu%s; start more ranks, or lower --micro-batch-size, --hidden or --ffn; %s",
                    pipeline->rank, options->program->name, need->total_bytes, need->arena_bytes,
                    need->stage_bytes, need->optimizer_bytes, need->batch_bytes, need->rest_bytes,
                    limit, limit_bytes, reserve, fitting);
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
    const size_t reserve = pipeline->comm_needs.device_bytes;
    if (info.memory_bytes > 0 &&
        (reserve >= info.memory_bytes || need > info.memory_bytes - reserve)) {
        return refuse_memory(pipeline, DPR_ERR_MEMORY,
                             reserve < info.memory_bytes ? info.memory_bytes - reserve : 0,
                             "its device has free");
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

/* ---- Executors ---- */

static dpr_status_t create_executor(dpr_pipeline_t *pipeline, play_t *play)
{
    const dpr_executor_parts_t parts = {
        .graph = play->graph,
        .rank = pipeline->rank,
        .device = pipeline->options.device,
        .compute = pipeline->compute,
        .second = pipeline->second,
        .links = play->links,
        .stages = pipeline->stages,
        .arena = &play->arena,
        .arena_base = pipeline->arena_base,
        .cost = play->cost,
        .poison = pipeline->options.poison,
        .drop_wait = play == &pipeline->train ? pipeline->options.drop_wait : 0,
    };
    return dpr_executor_create(&parts, &play->executor);
}

/* ---- The whole ---- */

/* Whether F&B runs here, and on two streams. */
static bool wants_second(const dpr_pipeline_options_t *options, const dpr_graph_t *graph, int rank)
{
    const bool overlap =
        options->overlap == DPR_OVERLAP_ON ||
        (options->overlap == DPR_OVERLAP_AUTO && !dpr_device_memory_on_host(options->device));
    for (int32_t n = graph->rank_begin[rank]; overlap && n < graph->rank_begin[rank + 1]; n++) {
        if (graph->nodes[n].kind == DPR_NODE_FB) {
            return true;
        }
    }
    return false;
}

/* What this rank will need and hold, nothing of it allocated on the device yet. */
static dpr_status_t plan_local(dpr_pipeline_t *pipeline)
{
    const dpr_pipeline_options_t *options = &pipeline->options;
    const size_t stages = (size_t)options->program->stages;
    DPR_TRY(check_record(options));
    DPR_TRY(create_graphs(options, &pipeline->train.graph, &pipeline->eval.graph));
    pipeline->has_second = wants_second(options, pipeline->train.graph, pipeline->rank);
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
    find_comm_needs(pipeline);
    return check_memory(pipeline);
}

/* Before the first product: its plan depends on this. Groups sum in the compute stream's order, so
 * none of their operations runs beside a product. */
static dpr_status_t leave_to_transfers(dpr_pipeline_t *pipeline)
{
    dpr_kernels_t *kernels = pipeline->options.kernels;
    return kernels->leave != NULL ? kernels->leave(kernels, pipeline->comm_needs.multiprocessors)
                                  : DPR_OK;
}

/* Everything on this rank alone: what can fail here must be known before channels are opened. */
static dpr_status_t create_local(dpr_pipeline_t *pipeline)
{
    DPR_TRY(pipeline_create_streams(pipeline));
    DPR_TRY(allocate(pipeline));
    DPR_TRY(create_stages(pipeline));
    DPR_TRY(leave_to_transfers(pipeline));
    return dpr_device_memory_on_host(pipeline->options.device) ? DPR_OK
                                                               : pipeline_warm_up(pipeline);
}

static dpr_status_t create_shared(dpr_pipeline_t *pipeline)
{
    DPR_TRY(pipeline_create_links(pipeline));
    DPR_TRY(pipeline_create_groups(pipeline));
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
    if (status == DPR_OK) {
        status = pipeline_warm_sums(pipeline);
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
    pipeline_destroy_links(pipeline);
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

void dpr_pipeline_comm_needs(const dpr_pipeline_t *pipeline, dpr_comm_needs_t *needs)
{
    *needs = pipeline->comm_needs;
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
