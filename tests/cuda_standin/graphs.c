/*
 * Graphs: what a capture has collected, made executable, launched. A launch is one operation in
 * its stream; when it is picked, the nodes without predecessors arrive, and it is complete when all
 * nodes are. Launches of one executable graph follow one another, in whatever streams.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* The record that one external record or wait uses in one launch. */
struct launch_record {
    record_t *record;
    int node;
    launch_record_t *next;
};

static pool_t launch_record_pool = {.size = sizeof(launch_record_t)};

struct CUgraph_st *graph_create(void)
{
    return object_create(OBJECT_GRAPH, sizeof(struct CUgraph_st));
}

void graph_drop(struct CUgraph_st *graph)
{
    for (int i = 0; i < graph->count; i++) {
        op_destroy(graph->nodes[i]->op);
        frontier_clear(&graph->nodes[i]->predecessors);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    graph->nodes = NULL;
    graph->count = 0;
    graph->capacity = 0;
}

static bool grow(struct CUgraph_st *graph)
{
    if (graph->count < graph->capacity) {
        return true;
    }
    const int capacity = graph->capacity > 0 ? 2 * graph->capacity : 64;
    graph_node_t **grown = realloc(graph->nodes, (size_t)capacity * sizeof(graph_node_t *));
    if (grown == NULL) {
        return false;
    }
    graph->nodes = grown;
    graph->capacity = capacity;
    return true;
}

graph_node_t *graph_append(struct CUgraph_st *graph, op_t *op, const frontier_t *predecessors)
{
    graph_node_t *node = calloc(1, sizeof(*node));
    if (node == NULL || !grow(graph) || !frontier_join(&node->predecessors, predecessors)) {
        free(node);
        op_destroy(op);
        return NULL;
    }
    node->op = op;
    node->index = graph->count;
    graph->nodes[graph->count++] = node;
    return node;
}

bool graph_is_joined(struct CUgraph_st *graph, const frontier_t *frontier)
{
    for (int i = 0; i < frontier->count; i++) {
        frontier->nodes[i]->seen = true;
    }
    bool joined = true;
    for (int i = graph->count; i-- > 0;) { /* a node's predecessors come before it */
        const graph_node_t *node = graph->nodes[i];
        joined = joined && node->seen;
        for (int p = 0; p < node->predecessors.count; p++) {
            node->predecessors.nodes[p]->seen = true;
        }
    }
    return joined;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle)
{
    cudaError_t verdict = standin_enter("cudaGraphDestroy");
    standin_lock();
    struct CUgraph_st *graph = object_find(handle, OBJECT_GRAPH, "cudaGraphDestroy");
    if (graph == NULL) {
        verdict = cudaErrorInvalidValue;
    } else {
        graph_drop(graph);
        object_bury(&graph->object);
    }
    standin_unlock();
    return standin_return(verdict);
}

/* ---- executable graphs ---- */

static bool copy_op(op_t *to, const op_t *from)
{
    *to = *from;
    if (from->kind == OP_NCCL) {
        to->part = nccl_part_copy(from->part);
        return to->part != NULL;
    }
    return from->large == NULL || op_set_argument(to, from->large, from->bytes);
}

static bool add_successor(exec_node_t *node, int successor)
{
    int *grown = realloc(node->successors, (size_t)(node->successors_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    grown[node->successors_count++] = successor;
    node->successors = grown;
    return true;
}

static bool fill(struct CUgraphExec_st *exec, const struct CUgraph_st *graph)
{
    for (int i = 0; i < graph->count; i++) {
        const graph_node_t *from = graph->nodes[i];
        exec_node_t *node = &exec->nodes[i];
        node->exec = exec;
        if (!copy_op(&node->op, from->op)) {
            return false;
        }
        node->op.node = node;
        node->predecessors = from->predecessors.count;
        for (int p = 0; p < from->predecessors.count; p++) {
            if (!add_successor(&exec->nodes[from->predecessors.nodes[p]->index], i)) {
                return false;
            }
        }
    }
    return true;
}

void graph_drop_exec(struct CUgraphExec_st *exec)
{
    for (int i = 0; i < exec->count; i++) {
        op_clear(&exec->nodes[i].op);
        free(exec->nodes[i].successors);
    }
    free(exec->nodes);
    exec->nodes = NULL;
    exec->count = 0;
    record_release(exec->latest);
    exec->latest = NULL;
}

/* Captured kernels have their streams' priorities, which the graph forgets unless told not to. */
static void check_priorities(const struct CUgraph_st *graph, unsigned long long flags)
{
    const struct CUstream_st *first = NULL;
    for (int i = 0; i < graph->count; i++) {
        const op_t *op = graph->nodes[i]->op;
        if (op->kind != OP_RUN && op->kind != OP_NCCL) {
            continue;
        }
        first = first == NULL ? op->stream : first;
        if (op->stream->priority != first->priority &&
            (flags & cudaGraphInstantiateFlagUseNodePriority) == 0) {
            standin_misuse("cudaGraphInstantiate: streams of priorities %d and %d were captured, "
                           "but cudaGraphInstantiateFlagUseNodePriority is not set",
                           first->priority, op->stream->priority);
            return;
        }
    }
}

/* Locked. */
static cudaError_t instantiate(cudaGraphExec_t *result, cudaGraph_t handle,
                               unsigned long long flags)
{
    const struct CUgraph_st *graph = object_find(handle, OBJECT_GRAPH, "cudaGraphInstantiate");
    if (graph == NULL) {
        return cudaErrorInvalidValue;
    }
    check_priorities(graph, flags);
    struct CUgraphExec_st *exec = object_create(OBJECT_EXEC, sizeof(*exec));
    if (exec == NULL) {
        return cudaErrorMemoryAllocation;
    }
    /* Aligned as operations are. */
    const size_t bytes = (size_t)(graph->count > 0 ? graph->count : 1) * sizeof(exec_node_t);
    exec->nodes = aligned_alloc(16, bytes);
    if (exec->nodes == NULL) {
        object_bury(&exec->object);
        return cudaErrorMemoryAllocation;
    }
    memset(exec->nodes, 0, bytes);
    exec->count = graph->count;
    if (!fill(exec, graph)) {
        graph_drop_exec(exec);
        object_bury(&exec->object);
        return cudaErrorMemoryAllocation;
    }
    *result = exec;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    ENTER("cudaGraphInstantiate");
    if (exec == NULL ||
        (flags & ~(unsigned long long)cudaGraphInstantiateFlagUseNodePriority) != 0) {
        standin_misuse("cudaGraphInstantiate: flags 0x%llx", flags);
        return standin_return(cudaErrorInvalidValue);
    }
    standin_lock();
    const cudaError_t error = instantiate(exec, graph, flags);
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle)
{
    cudaError_t verdict = standin_enter("cudaGraphExecDestroy");
    standin_lock();
    struct CUgraphExec_st *exec = object_find(handle, OBJECT_EXEC, "cudaGraphExecDestroy");
    if (exec == NULL) {
        verdict = cudaErrorInvalidValue;
    } else {
        object_bury(&exec->object);
        exec->doomed = exec->pending > 0;
        if (!exec->doomed) {
            graph_drop_exec(exec);
        }
    }
    standin_unlock();
    return standin_return(verdict);
}

/* ---- launches ---- */

/* Where the launch stands in others' order is settled by the call, not when it runs: its events'
 * records are the latest from now on, and its NCCL operations have their turn. */
static cudaError_t settle_order(op_t *launch, struct CUgraphExec_st *exec)
{
    for (int i = 0; i < exec->count; i++) {
        op_t *op = &exec->nodes[i].op;
        if (op->kind == OP_NCCL) {
            nccl_part_launch(op);
        }
        if (op->kind != OP_RECORD && op->kind != OP_WAIT) {
            continue;
        }
        if (!op->event->object.alive) {
            standin_misuse("cudaGraphLaunch: event %lu was destroyed before",
                           op->event->object.number);
            continue;
        }
        launch_record_t *entry = pool_take(&launch_record_pool);
        record_t *record =
            op->kind == OP_RECORD ? event_renew(op->event, op->stream) : op->event->latest;
        if (entry == NULL || (op->kind == OP_RECORD && record == NULL)) {
            return cudaErrorMemoryAllocation;
        }
        *entry = (launch_record_t){.record = record != NULL ? record_hold(record) : NULL,
                                   .node = i,
                                   .next = launch->launch_records};
        launch->launch_records = entry;
    }
    return cudaSuccess;
}

/* Locked. */
static cudaError_t launch(cudaGraphExec_t handle, cudaStream_t stream_handle)
{
    struct CUstream_st *stream;
    struct CUgraphExec_st *exec = object_find(handle, OBJECT_EXEC, "cudaGraphLaunch");
    cudaError_t error = stream_get_for_work(stream_handle, "cudaGraphLaunch", &stream);
    if (exec == NULL || error != cudaSuccess) {
        return exec == NULL ? cudaErrorInvalidValue : error;
    }
    if (stream->capture != NULL) {
        standin_misuse("cudaGraphLaunch: the stand-in knows no graphs in graphs");
        capture_invalidate(stream);
        return cudaErrorNotSupported;
    }
    op_t *op = op_create(OP_GRAPH, "cudaGraphLaunch", stream);
    op_t *mark = op_create(OP_RECORD, "the end of a launch", stream);
    record_t *record = record_create();
    if (op == NULL || mark == NULL || record == NULL) {
        return cudaErrorMemoryAllocation;
    }
    if (exec->latest != NULL && !exec->latest->done) {
        op_t *wait = op_create(OP_WAIT, "the launch before", stream);
        if (wait == NULL) {
            return cudaErrorMemoryAllocation;
        }
        wait->record = record_hold(exec->latest);
        op_enqueue(wait);
    }
    record->stream = stream;
    record_release(exec->latest);
    exec->latest = record_hold(record);
    exec->pending++;
    op->exec = exec;
    mark->record = record;
    error = settle_order(op, exec);
    op_enqueue(op);
    op_enqueue(mark);
    return error;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    ENTER("cudaGraphLaunch");
    standin_lock();
    const cudaError_t error = launch(exec, stream);
    standin_unlock();
    return standin_return(error);
}

static void finish(struct CUgraphExec_st *exec)
{
    exec->pending--;
    if (exec->doomed && exec->pending == 0) {
        graph_drop_exec(exec);
    }
    op_complete(exec->launch);
}

void graph_arrive(op_t *launched)
{
    struct CUgraphExec_st *exec = launched->exec;
    exec->launch = launched;
    exec->left = exec->count;
    for (int i = 0; i < exec->count; i++) {
        exec_node_t *node = &exec->nodes[i];
        node->left = node->predecessors;
        node->op.state = OP_QUEUED;
        node->op.skip = launched->skip;
        node->op.order = scheduler_next_order();
    }
    while (launched->launch_records != NULL) {
        launch_record_t *entry = launched->launch_records;
        launched->launch_records = entry->next;
        exec->nodes[entry->node].op.record = entry->record;
        pool_give(&launch_record_pool, entry);
    }
    if (exec->count == 0) {
        finish(exec);
        return;
    }
    for (int i = 0; i < exec->count; i++) {
        if (exec->nodes[i].predecessors == 0) {
            op_arrive(&exec->nodes[i].op);
        }
    }
}

void graph_node_done(exec_node_t *node)
{
    struct CUgraphExec_st *exec = node->exec;
    node->op.state = OP_QUEUED;
    if (node->op.kind == OP_RECORD || node->op.kind == OP_WAIT) {
        record_release(node->op.record);
        node->op.record = NULL;
    }
    for (int i = 0; i < node->successors_count; i++) {
        exec_node_t *next = &exec->nodes[node->successors[i]];
        if (--next->left == 0) {
            op_arrive(&next->op);
        }
    }
    if (--exec->left == 0) {
        finish(exec);
    }
}
