/*
 * Stream capture. A capturing stream keeps the set of graph nodes that its next operation depends
 * on (its frontier); recording an event copies the set, waiting for the event adds it to the other
 * stream's. What capture forbids makes the capture invalid, as in CUDA.
 */
#include "internal.h"

#include <stdlib.h>

static capture_t *captures; /* under way */
static uint64_t ids;

/* ---- frontiers ---- */

bool frontier_add(frontier_t *to, graph_node_t *node)
{
    for (int i = 0; i < to->count; i++) {
        if (to->nodes[i] == node) {
            return true;
        }
    }
    if (to->count == to->capacity) {
        const int capacity = to->capacity > 0 ? 2 * to->capacity : 8;
        graph_node_t **grown = realloc(to->nodes, (size_t)capacity * sizeof(graph_node_t *));
        if (grown == NULL) {
            return false;
        }
        to->nodes = grown;
        to->capacity = capacity;
    }
    to->nodes[to->count++] = node;
    return true;
}

bool frontier_join(frontier_t *to, const frontier_t *from)
{
    for (int i = 0; i < from->count; i++) {
        if (!frontier_add(to, from->nodes[i])) {
            return false;
        }
    }
    return true;
}

void frontier_clear(frontier_t *frontier)
{
    free(frontier->nodes);
    *frontier = (frontier_t){.nodes = NULL};
}

/* ---- what is allowed ---- */

cudaError_t capture_check_call(const char *function)
{
    bool refused = false;
    for (capture_t *capture = captures; capture != NULL; capture = capture->next) {
        const bool mine = pthread_equal(capture->owner, pthread_self()) != 0;
        if (capture->mode == cudaStreamCaptureModeGlobal ||
            (capture->mode == cudaStreamCaptureModeThreadLocal && mine)) {
            standin_misuse("%s: forbidden while stream %lu captures", function,
                           capture->origin->object.number);
            capture->invalid = true;
            refused = true;
        }
    }
    return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t capture_check_stream(struct CUstream_st *stream, const char *function)
{
    if (stream->capture == NULL) {
        return cudaSuccess;
    }
    standin_misuse("%s: stream %lu is capturing", function, stream->object.number);
    capture_invalidate(stream);
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t capture_check_event(struct CUevent_st *event, const char *function)
{
    if (event->captured == 0) {
        return cudaSuccess;
    }
    standin_misuse("%s: event %lu was last recorded in a capture", function, event->object.number);
    for (capture_t *capture = captures; capture != NULL; capture = capture->next) {
        capture->invalid = capture->invalid || capture->id == event->captured;
    }
    return cudaErrorCapturedEvent;
}

bool capture_any_on_device(int device)
{
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        const struct CUstream_st *stream = (const void *)object;
        if (object->kind == OBJECT_STREAM && stream->device == device && stream->capture != NULL) {
            return true;
        }
    }
    return false;
}

void capture_invalidate(struct CUstream_st *stream)
{
    stream->capture->invalid = true;
}

/* ---- what is captured ---- */

cudaError_t capture_add(op_t *op)
{
    struct CUstream_st *stream = op->stream;
    if (stream->capture->invalid) {
        op_destroy(op);
        return cudaErrorStreamCaptureInvalidated;
    }
    graph_node_t *node = graph_append(stream->capture->graph, op, &stream->frontier);
    if (node == NULL) {
        return cudaErrorMemoryAllocation;
    }
    frontier_clear(&stream->frontier);
    return frontier_add(&stream->frontier, node) ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t capture_record(struct CUevent_st *event, struct CUstream_st *stream)
{
    if (stream->capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    record_release(event->latest);
    event->latest = NULL;
    event->captured = stream->capture->id;
    frontier_clear(&event->frontier);
    return frontier_join(&event->frontier, &stream->frontier) ? cudaSuccess
                                                              : cudaErrorMemoryAllocation;
}

static capture_t *find(uint64_t id)
{
    capture_t *capture = captures;
    while (capture != NULL && capture->id != id) {
        capture = capture->next;
    }
    return capture;
}

cudaError_t capture_wait(struct CUstream_st *stream, struct CUevent_st *event)
{
    if (event->captured == 0) {
        if (event->latest == NULL) {
            return cudaSuccess;
        }
        standin_misuse("cudaStreamWaitEvent: stream %lu is capturing, event %lu was recorded "
                       "outside of the capture",
                       stream->object.number, event->object.number);
        capture_invalidate(stream);
        return cudaErrorStreamCaptureIsolation;
    }
    capture_t *capture = find(event->captured);
    if (capture == NULL) {
        return capture_check_event(event, "cudaStreamWaitEvent");
    }
    if (stream->capture != NULL && stream->capture != capture) {
        standin_misuse("cudaStreamWaitEvent: stream %lu and event %lu are of two captures",
                       stream->object.number, event->object.number);
        capture_invalidate(stream);
        capture->invalid = true;
        return cudaErrorStreamCaptureMerge;
    }
    if (capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    if (stream == standin_devices[stream->device].default_stream) {
        standin_misuse("cudaStreamWaitEvent: the default stream cannot be captured");
        capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
    }
    stream->capture = capture;
    return frontier_join(&stream->frontier, &event->frontier) ? cudaSuccess
                                                              : cudaErrorMemoryAllocation;
}

/* ---- beginning and end ---- */

/* Locked. */
static cudaError_t begin(cudaStream_t handle, enum cudaStreamCaptureMode mode)
{
    struct CUstream_st *stream;
    const cudaError_t error = stream_get_for_work(handle, "cudaStreamBeginCapture", &stream);
    if (error != cudaSuccess) {
        return error;
    }
    if (stream == standin_devices[stream->device].default_stream) {
        standin_misuse("cudaStreamBeginCapture: the default stream cannot be captured");
        return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->capture != NULL) {
        standin_misuse("cudaStreamBeginCapture: stream %lu is capturing", stream->object.number);
        return cudaErrorIllegalState;
    }
    capture_t *capture = calloc(1, sizeof(*capture));
    struct CUgraph_st *graph = graph_create();
    if (capture == NULL || graph == NULL) {
        free(capture);
        return cudaErrorMemoryAllocation;
    }
    *capture = (capture_t){.id = ++ids,
                           .mode = mode,
                           .graph = graph,
                           .origin = stream,
                           .owner = pthread_self(),
                           .next = captures};
    captures = capture;
    stream->capture = capture;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    ENTER("cudaStreamBeginCapture");
    standin_lock();
    const cudaError_t error = begin(stream, mode);
    standin_unlock();
    return standin_return(error);
}

static cudaError_t check_end(const struct CUstream_st *stream)
{
    const capture_t *capture = stream->capture;
    if (capture == NULL) {
        standin_misuse("cudaStreamEndCapture: stream %lu is not capturing", stream->object.number);
        return cudaErrorIllegalState;
    }
    if (capture->origin != stream) {
        standin_misuse("cudaStreamEndCapture: the capture was begun in stream %lu, not in %lu",
                       capture->origin->object.number, stream->object.number);
        return cudaErrorStreamCaptureUnmatched;
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        pthread_equal(capture->owner, pthread_self()) == 0) {
        standin_misuse("cudaStreamEndCapture: the capture was begun by another thread");
        return cudaErrorStreamCaptureWrongThread;
    }
    return cudaSuccess;
}

/* Every stream of the capture leaves it. */
static void dissolve(capture_t *capture)
{
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        struct CUstream_st *stream = (void *)object;
        if (object->kind == OBJECT_STREAM && stream->capture == capture) {
            stream->capture = NULL;
            frontier_clear(&stream->frontier);
        }
    }
    capture_t **link = &captures;
    while (*link != capture) {
        link = &(*link)->next;
    }
    *link = capture->next;
    free(capture);
}

/* Locked. */
static cudaError_t end(cudaStream_t handle, cudaGraph_t *result)
{
    struct CUstream_st *stream;
    cudaError_t error = stream_get(handle, "cudaStreamEndCapture", &stream);
    error = error == cudaSuccess ? check_end(stream) : error;
    if (error != cudaSuccess) {
        return error;
    }
    capture_t *capture = stream->capture;
    struct CUgraph_st *graph = capture->graph;
    if (capture->invalid) {
        error = cudaErrorStreamCaptureInvalidated;
    } else if (!graph_is_joined(graph, &stream->frontier)) {
        standin_misuse("cudaStreamEndCapture: a stream's work was not joined to stream %lu",
                       stream->object.number);
        error = cudaErrorStreamCaptureUnjoined;
    }
    dissolve(capture);
    if (error != cudaSuccess) {
        graph_drop(graph);
        object_bury(&graph->object);
        graph = NULL;
    }
    *result = graph;
    return error;
}

/* Made to fail, it has ended the capture, as it does when CUDA reports a failure of it. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    const cudaError_t verdict = standin_enter("cudaStreamEndCapture");
    standin_lock();
    cudaError_t error = end(stream, graph);
    if (verdict != cudaSuccess && error == cudaSuccess) {
        graph_drop(*graph);
        object_bury(&(*graph)->object);
        *graph = NULL;
    }
    standin_unlock();
    return standin_return(verdict != cudaSuccess ? verdict : error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status)
{
    struct CUstream_st *stream;
    ENTER("cudaStreamIsCapturing");
    standin_lock();
    const cudaError_t error = stream_get(handle, "cudaStreamIsCapturing", &stream);
    if (error == cudaSuccess) {
        *status = stream->capture == NULL    ? cudaStreamCaptureStatusNone
                  : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                             : cudaStreamCaptureStatusActive;
    }
    standin_unlock();
    return standin_return(error);
}
