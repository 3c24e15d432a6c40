/*
 * Makes a rank's command list from the graph: the order of enqueuing, and each command's stream,
 * events, waits and buffers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "runtime/executor_impl.h"

/* Where the planning stands. */
typedef struct planner {
    dpr_executor_t *executor;
    const dpr_graph_t *graph;
    int rank;
    int32_t *command_of; /* [node_count]: this rank's command for the node, -1 before it has one */
} planner_t;

static const dpr_cell_t *cell_of(const dpr_graph_t *graph, int32_t stage, int32_t micro_batch)
{
    return &graph->cells[(size_t)stage * (size_t)graph->micro_batches + (size_t)micro_batch];
}

static void *buffer_of(const dpr_executor_t *executor, const dpr_cell_t *cell,
                       dpr_buffer_kind_t kind)
{
    return dpr_arena_address(executor->parts.arena, executor->parts.arena_base, cell->buffer[kind]);
}

static dpr_stage_buffers_t stage_buffers(const dpr_executor_t *executor, const dpr_cell_t *cell)
{
    return (dpr_stage_buffers_t){
        .act_in = buffer_of(executor, cell, DPR_BUFFER_ACT_IN),
        .act_out = buffer_of(executor, cell, DPR_BUFFER_ACT_OUT),
        .grad_in = buffer_of(executor, cell, DPR_BUFFER_GRAD_IN),
        .grad_out = buffer_of(executor, cell, DPR_BUFFER_GRAD_OUT),
        .saved = buffer_of(executor, cell, DPR_BUFFER_SAVED),
        .wstate = buffer_of(executor, cell, DPR_BUFFER_WSTATE),
    };
}

static void add_dying(dpr_executor_t *executor, command_t *command, const dpr_cell_t *cell,
                      dpr_buffer_kind_t kind)
{
    const dpr_buffer_t buffer = cell->buffer[kind];
    if (executor->parts.poison && buffer.pool >= 0) {
        assert(command->dying_count < DYING_MAX);
        command->dying[command->dying_count++] = (dying_buffer_t){
            .memory = buffer_of(executor, cell, kind),
            .bytes = executor->parts.arena->slot_bytes[buffer.pool],
        };
    }
}

/* The buffers of `cell` that `node` is the last to read. */
static void add_dying_cell(dpr_executor_t *executor, command_t *command, const dpr_cell_t *cell)
{
    static const dpr_buffer_kind_t kinds[] = {DPR_BUFFER_ACT_IN, DPR_BUFFER_GRAD_IN,
                                              DPR_BUFFER_SAVED, DPR_BUFFER_WSTATE};
    const int32_t last = cell->weight >= 0 ? cell->weight : cell->forward;
    for (size_t i = 0; command->node == last && i < sizeof kinds / sizeof kinds[0]; i++) {
        add_dying(executor, command, cell, kinds[i]);
    }
}

static void plan_compute(dpr_executor_t *executor, command_t *command)
{
    const dpr_graph_t *graph = executor->parts.graph;
    const dpr_node_t *node = &graph->nodes[command->node];
    const dpr_cell_t *cell = cell_of(graph, node->stage, node->micro_batch);
    command->stream = executor->parts.compute;
    command->stage = executor->parts.stages[node->stage];
    command->buffers = stage_buffers(executor, cell);
    add_dying_cell(executor, command, cell);
    if (node->kind == DPR_NODE_FB) {
        const dpr_cell_t *b_cell = cell_of(graph, node->b_stage, node->b_micro_batch);
        command->b_stage = executor->parts.stages[node->b_stage];
        command->b_buffers = stage_buffers(executor, b_cell);
        add_dying_cell(executor, command, b_cell);
    }
}

static void plan_transfer(dpr_executor_t *executor, command_t *command)
{
    const dpr_graph_t *graph = executor->parts.graph;
    const dpr_node_t *node = &graph->nodes[command->node];
    const dpr_link_t *link = &executor->parts.links[node->channel];
    const bool is_act = node->kind == DPR_NODE_SEND_ACT;
    command->stream = link->stream;
    command->channel = link->channel;
    if (command->role == ROLE_SEND) {
        const dpr_buffer_kind_t kind = is_act ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT;
        const dpr_cell_t *cell = cell_of(graph, node->stage, node->micro_batch);
        command->message = buffer_of(executor, cell, kind);
        add_dying(executor, command, cell, kind);
    } else {
        const int32_t consumer = is_act ? node->stage + 1 : node->stage - 1;
        command->message = buffer_of(executor, cell_of(graph, consumer, node->micro_batch),
                                     is_act ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN);
    }
}

static void name_command(const dpr_graph_t *graph, command_t *command)
{
    static const char *const compute[] = {[DPR_NODE_F] = "F",
                                          [DPR_NODE_B] = "B",
                                          [DPR_NODE_I] = "I",
                                          [DPR_NODE_W] = "W",
                                          [DPR_NODE_FB] = "F"};
    const dpr_node_t *node = &graph->nodes[command->node];
    char *name = command->name;
    if (command->role != ROLE_COMPUTE) {
        const bool is_send = command->role == ROLE_SEND;
        snprintf(name, NAME_BYTES, "%s %s s%d m%d %s %d", is_send ? "send" : "recv",
                 node->kind == DPR_NODE_SEND_ACT ? "act" : "grad", node->stage, node->micro_batch,
                 is_send ? "to" : "from", is_send ? node->peer : node->rank);
    } else if (node->kind == DPR_NODE_FB) {
        snprintf(name, NAME_BYTES, "F s%d m%d & B s%d m%d", node->stage, node->micro_batch,
                 node->b_stage, node->b_micro_batch);
    } else {
        snprintf(name, NAME_BYTES, "%s s%d m%d", compute[node->kind], node->stage,
                 node->micro_batch);
    }
}

static void plan_command(planner_t *planner, int32_t node, role_t role)
{
    dpr_executor_t *executor = planner->executor;
    planner->command_of[node] = executor->command_count;
    command_t *command = &executor->commands[executor->command_count++];
    command->node = node;
    command->role = role;
    if (role == ROLE_COMPUTE) {
        plan_compute(executor, command);
    } else {
        plan_transfer(executor, command);
    }
    name_command(planner->graph, command);
}

/*
 * All ranks enqueue in one order: that of the verified graph, each its own part of it, and a
 * transfer's two ends at the transfer's place. Whatever CUDA or NCCL make wait along the order of
 * enqueuing (streams that share a work queue, launches in order) then only waits for what is
 * earlier in that one order, and cannot close a cycle (docs/nccl.md). Receives are still posted
 * ahead: enqueuing is far ahead of the device, and a receive waits for its slot alone.
 */
static void plan_order(planner_t *planner)
{
    const dpr_graph_t *graph = planner->graph;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const int32_t node = graph->order[i];
        const bool is_transfer = dpr_node_is_transfer(&graph->nodes[node]);
        if (graph->nodes[node].rank == planner->rank) {
            plan_command(planner, node, is_transfer ? ROLE_SEND : ROLE_COMPUTE);
        } else if (is_transfer && graph->nodes[node].peer == planner->rank) {
            plan_command(planner, node, ROLE_RECV);
        }
    }
}

/* A command waits for the edges whose source runs on this rank in another stream. */
static void plan_waits(planner_t *planner)
{
    dpr_executor_t *executor = planner->executor;
    const dpr_graph_t *graph = planner->graph;
    int32_t count = 0;
    for (int32_t i = 0; i < executor->command_count; i++) {
        command_t *command = &executor->commands[i];
        command->wait_begin = count;
        for (int32_t e = graph->edge_begin[command->node]; e < graph->edge_begin[command->node + 1];
             e++) {
            const int32_t source = planner->command_of[graph->edges[e].from];
            if (source >= 0 && executor->commands[source].stream != command->stream) {
                assert(source < i); /* the graph has no cycle, so its event is recorded before */
                executor->waits[count++] = (wait_t){.event = executor->commands[source].end,
                                                    .source = source,
                                                    .number = ++executor->wait_count};
            }
        }
        command->wait_count = count - command->wait_begin;
        if (command->joined != NULL) {
            command->fork_number = executor->wait_count + 1;
            executor->wait_count += 2;
        }
    }
}

/* The streams besides compute's, in the order of their first commands. F&B's second stream is not
 * among them: every F&B forks and joins it. */
static void plan_branches(dpr_executor_t *executor)
{
    for (int32_t i = 0; i < executor->command_count; i++) {
        dpr_stream_t *stream = executor->commands[i].stream;
        bool known = stream == executor->parts.compute;
        for (int32_t b = 0; b < executor->branch_count && !known; b++) {
            known = executor->branches[b].stream == stream;
        }
        if (!known) {
            executor->branches[executor->branch_count++] =
                (branch_t){.stream = stream, .command = i};
        }
    }
    for (int32_t b = 0; b < executor->branch_count; b++) {
        branch_t *branch = &executor->branches[b];
        if (executor->commands[branch->command].wait_count == 0) {
            branch->fork_number = ++executor->wait_count;
        }
        branch->join_number = ++executor->wait_count;
    }
}

static dpr_status_t create_events(dpr_executor_t *executor)
{
    dpr_device_t *device = executor->parts.device;
    for (int32_t i = 0; i < executor->command_count; i++) {
        command_t *command = &executor->commands[i];
        DPR_TRY(dpr_event_create(device, &command->start));
        DPR_TRY(dpr_event_create(device, &command->end));
        if (executor->parts.second != NULL &&
            executor->parts.graph->nodes[command->node].kind == DPR_NODE_FB) {
            DPR_TRY(dpr_event_create(device, &command->joined));
        }
    }
    return dpr_event_create(device, &executor->forked);
}

static dpr_status_t create_branch_events(dpr_executor_t *executor)
{
    for (int32_t b = 0; b < executor->branch_count; b++) {
        DPR_TRY(dpr_event_create(executor->parts.device, &executor->branches[b].joined));
    }
    return DPR_OK;
}

/* This rank's commands and, at most, the waits they will have. */
static void count_local(const dpr_graph_t *graph, int rank, size_t *commands, size_t *waits)
{
    *commands = 0;
    *waits = 0;
    for (int32_t node = 0; node < graph->node_count; node++) {
        if (graph->nodes[node].rank == rank || graph->nodes[node].peer == rank) {
            (*commands)++;
            *waits += (size_t)(graph->edge_begin[node + 1] - graph->edge_begin[node]);
        }
    }
}

static dpr_status_t planner_init(planner_t *planner, dpr_executor_t *executor)
{
    const dpr_graph_t *graph = executor->parts.graph;
    *planner = (planner_t){.executor = executor, .graph = graph, .rank = executor->parts.rank};
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof(int32_t), &planner->command_of));
    for (int32_t i = 0; i < graph->node_count; i++) {
        planner->command_of[i] = -1;
    }
    return DPR_OK;
}

static void planner_free(planner_t *planner)
{
    free(planner->command_of);
}

static size_t message_bytes_of(const dpr_executor_parts_t *parts)
{
    for (int32_t s = 0; s < parts->graph->stages; s++) {
        if (parts->stages[s] != NULL) {
            return dpr_stage_get_shape(parts->stages[s])->activation_bytes;
        }
    }
    return 0;
}

static dpr_status_t plan(dpr_executor_t *executor)
{
    size_t commands, waits;
    planner_t planner;
    dpr_status_t status;
    count_local(executor->parts.graph, executor->parts.rank, &commands, &waits);
    DPR_TRY(dpr_calloc(commands, sizeof(command_t), &executor->commands));
    DPR_TRY(dpr_calloc(waits, sizeof(wait_t), &executor->waits));
    DPR_TRY(dpr_calloc((size_t)executor->parts.graph->channel_count, sizeof(branch_t),
                       &executor->branches));
    DPR_TRY_GOTO(planner_init(&planner, executor), free_planner);
    plan_order(&planner);
    assert((size_t)executor->command_count == commands);
    DPR_TRY_GOTO(create_events(executor), free_planner);
    plan_waits(&planner);
    plan_branches(executor);
    DPR_TRY_GOTO(create_branch_events(executor), free_planner);

free_planner:
    planner_free(&planner);
    return status;
}

dpr_status_t dpr_executor_create(const dpr_executor_parts_t *parts, dpr_executor_t **out)
{
    dpr_executor_t *executor;
    DPR_TRY(dpr_calloc(1, sizeof *executor, &executor));
    executor->parts = *parts;
    executor->message_bytes = message_bytes_of(parts);
    const dpr_status_t status = plan(executor);
    if (status != DPR_OK) {
        dpr_executor_destroy(executor);
        return status;
    }
    *out = executor;
    return DPR_OK;
}

void dpr_executor_destroy(dpr_executor_t *executor)
{
    if (executor == NULL) {
        return;
    }
    for (int32_t i = 0; i < executor->command_count; i++) {
        dpr_event_destroy(executor->commands[i].start);
        dpr_event_destroy(executor->commands[i].end);
        dpr_event_destroy(executor->commands[i].joined);
    }
    for (int32_t b = 0; b < executor->branch_count; b++) {
        dpr_event_destroy(executor->branches[b].joined);
    }
    dpr_event_destroy(executor->forked);
    free(executor->branches);
    free(executor->waits);
    free(executor->commands);
    free(executor);
}
