/* The stand-in's stream capture and graphs. */
#include "standin_testing.h"

#include <pthread.h>
#include <stdatomic.h>

#include <nccl.h>

enum { SEEDS = 40, LAUNCHES = 3 };

typedef struct step {
    _Atomic int *counter;
    int *at;
} step_t;

static void take_number(void *argument)
{
    const step_t *step = argument;
    *step->at = atomic_fetch_add(step->counter, 1);
}

static void enqueue(cudaStream_t stream, _Atomic int *counter, int *at)
{
    const step_t step = {counter, at};
    OK(standin_enqueue(stream, "take_number", take_number, &step, sizeof(step)));
}

/* Two streams and two events. */
typedef struct rig {
    cudaStream_t a;
    cudaStream_t b;
    cudaEvent_t fork;
    cudaEvent_t join;
    _Atomic int counter;
    int at[4];
} rig_t;

static void rig_open(rig_t *rig, uint64_t seed)
{
    fresh(seed);
    *rig = (rig_t){.a = stream_new(), .b = stream_new(), .fork = event_new(), .join = event_new()};
}

static void rig_close(rig_t *rig)
{
    standin_drain();
    OK(cudaEventDestroy(rig->fork));
    OK(cudaEventDestroy(rig->join));
    OK(cudaStreamDestroy(rig->a));
    OK(cudaStreamDestroy(rig->b));
    assert_clean();
}

/*      a: 0 ──┬── 1 ──┬── 3
 *      b:     └── 2 ──┘            */
static void capture_diamond(rig_t *rig, cudaGraphExec_t *exec)
{
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamBeginCapture(rig->a, cudaStreamCaptureModeThreadLocal));
    enqueue(rig->a, &rig->counter, &rig->at[0]);
    OK(cudaEventRecord(rig->fork, rig->a));
    OK(cudaStreamWaitEvent(rig->b, rig->fork, 0));
    OK(cudaStreamIsCapturing(rig->b, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    enqueue(rig->a, &rig->counter, &rig->at[1]);
    enqueue(rig->b, &rig->counter, &rig->at[2]);
    OK(cudaEventRecord(rig->join, rig->b));
    OK(cudaStreamWaitEvent(rig->a, rig->join, 0));
    enqueue(rig->a, &rig->counter, &rig->at[3]);
    OK(cudaStreamEndCapture(rig->a, &graph));
    OK(cudaStreamIsCapturing(rig->b, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    OK(cudaGraphInstantiate(exec, graph, 0));
    OK(cudaGraphDestroy(graph));
}

static void nodes_run_by_their_edges_at_every_launch(void **state)
{
    (void)state;
    int orders[2] = {0, 0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        rig_t rig;
        cudaGraphExec_t exec;
        rig_open(&rig, seed);
        capture_diamond(&rig, &exec);
        assert_int_equal(atomic_load(&rig.counter), 0); /* nothing has run */
        for (int launch = 0; launch < LAUNCHES; launch++) {
            OK(cudaGraphLaunch(exec, launch % 2 == 0 ? rig.a : rig.b));
        }
        OK(cudaStreamSynchronize(rig.a));
        OK(cudaStreamSynchronize(rig.b));
        assert_int_equal(atomic_load(&rig.counter), 4 * LAUNCHES);
        assert_int_equal(rig.at[0], 4 * (LAUNCHES - 1)); /* launches follow one another */
        assert_int_equal(rig.at[3], 4 * LAUNCHES - 1);
        orders[rig.at[1] < rig.at[2]]++;
        OK(cudaGraphExecDestroy(exec));
        assert_int_equal(cudaGraphLaunch(exec, rig.a), cudaErrorInvalidValue);
        assert_misuse("executable graph 1 was destroyed");
        rig_close(&rig);
    }
    assert_true(orders[0] > 0 && orders[1] > 0);
}

/* Under CUDA the kernels of both would run at the priority of the stream of the launch. */
static void a_graph_that_forgets_priorities_is_noticed(void **state)
{
    (void)state;
    for (unsigned long long flags = 0; flags <= cudaGraphInstantiateFlagUseNodePriority;
         flags += cudaGraphInstantiateFlagUseNodePriority) {
        rig_t rig;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        rig_open(&rig, 1);
        OK(cudaStreamDestroy(rig.b));
        OK(cudaStreamCreateWithPriority(&rig.b, cudaStreamNonBlocking, -1));
        OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeThreadLocal));
        enqueue(rig.a, &rig.counter, &rig.at[0]);
        OK(cudaEventRecord(rig.fork, rig.a));
        OK(cudaStreamWaitEvent(rig.b, rig.fork, 0));
        enqueue(rig.b, &rig.counter, &rig.at[1]);
        OK(cudaEventRecord(rig.join, rig.b));
        OK(cudaStreamWaitEvent(rig.a, rig.join, 0));
        OK(cudaStreamEndCapture(rig.a, &graph));
        OK(cudaGraphInstantiate(&exec, graph, flags));
        if (flags == 0) {
            assert_misuse("priorities 0 and -1");
        }
        OK(cudaGraphExecDestroy(exec));
        OK(cudaGraphDestroy(graph));
        rig_close(&rig);
    }
}

static void unjoined_work_is_refused(void **state)
{
    (void)state;
    rig_t rig;
    cudaGraph_t graph = NULL;
    rig_open(&rig, 1);
    OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeRelaxed));
    OK(cudaEventRecord(rig.fork, rig.a));
    OK(cudaStreamWaitEvent(rig.b, rig.fork, 0));
    enqueue(rig.b, &rig.counter, &rig.at[0]);
    assert_int_equal(cudaStreamEndCapture(rig.b, &graph), cudaErrorStreamCaptureUnmatched);
    assert_misuse("was begun in stream 1, not in 2");
    assert_int_equal(cudaStreamEndCapture(rig.a, &graph), cudaErrorStreamCaptureUnjoined);
    assert_misuse("not joined");
    assert_null(graph);
    enqueue(rig.b, &rig.counter, &rig.at[0]); /* both streams are as before */
    OK(cudaStreamSynchronize(rig.b));
    assert_int_equal(atomic_load(&rig.counter), 1);
    rig_close(&rig);
}

typedef cudaError_t (*forbidden_fn_t)(rig_t *rig);

static cudaError_t call_stream_synchronize(rig_t *rig)
{
    return cudaStreamSynchronize(rig->a);
}

static cudaError_t call_other_query(rig_t *rig)
{
    return cudaStreamQuery(rig->b);
}

static cudaError_t call_malloc(rig_t *rig)
{
    void *memory;
    (void)rig;
    return cudaMalloc(&memory, 8);
}

static cudaError_t call_event_query(rig_t *rig)
{
    OK(cudaEventRecord(rig->fork, rig->a));
    return cudaEventQuery(rig->fork);
}

static cudaError_t call_device_synchronize(rig_t *rig)
{
    (void)rig;
    return cudaDeviceSynchronize();
}

static cudaError_t call_isolated_wait(rig_t *rig)
{
    OK(cudaEventRecord(rig->join, rig->b));
    return cudaStreamWaitEvent(rig->a, rig->join, 0);
}

static void what_capture_forbids_invalidates_it(void **state)
{
    (void)state;
    static const struct {
        forbidden_fn_t call;
        cudaError_t error;
    } cases[] = {
        {call_stream_synchronize, cudaErrorStreamCaptureUnsupported},
        {call_other_query, cudaErrorStreamCaptureUnsupported},
        {call_malloc, cudaErrorStreamCaptureUnsupported},
        {call_event_query, cudaErrorCapturedEvent},
        {call_device_synchronize, cudaErrorStreamCaptureUnsupported},
        {call_isolated_wait, cudaErrorStreamCaptureIsolation},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_t rig;
        cudaGraph_t graph = NULL;
        rig_open(&rig, i);
        OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeGlobal));
        enqueue(rig.a, &rig.counter, &rig.at[0]);
        assert_int_equal(cases[i].call(&rig), cases[i].error);
        assert_int_equal(standin_misuses(), 1);
        standin_misuse_clear();
        assert_int_equal(cudaMemsetAsync(NULL, 0, 0, rig.a), cudaSuccess);
        assert_int_equal(cudaStreamEndCapture(rig.a, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        rig_close(&rig);
    }
}

static void a_relaxed_capture_allows_what_is_only_unsafe(void **state)
{
    (void)state;
    rig_t rig;
    cudaGraph_t graph;
    void *memory;
    rig_open(&rig, 2);
    OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeRelaxed));
    OK(cudaMalloc(&memory, 8));
    OK(cudaStreamSynchronize(rig.b));
    OK(cudaStreamEndCapture(rig.a, &graph));
    OK(cudaGraphDestroy(graph));
    OK(cudaFree(memory));
    rig_close(&rig);
}

static void *end_elsewhere(void *argument)
{
    rig_t *rig = argument;
    cudaGraph_t graph;
    assert_int_equal(cudaStreamEndCapture(rig->a, &graph), cudaErrorStreamCaptureWrongThread);
    OK(cudaStreamQuery(rig->b)); /* the capture forbids it to its own thread alone */
    return NULL;
}

static void a_capture_belongs_to_its_thread(void **state)
{
    (void)state;
    rig_t rig;
    pthread_t thread;
    cudaGraph_t graph;
    rig_open(&rig, 3);
    OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(pthread_create(&thread, NULL, end_elsewhere, &rig), 0);
    pthread_join(thread, NULL);
    assert_misuse("by another thread");
    OK(cudaStreamEndCapture(rig.a, &graph));
    OK(cudaGraphDestroy(graph));
    rig_close(&rig);
}

static void events_inside_keep_to_the_capture_unless_external(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        rig_t rig;
        cudaEvent_t start;
        cudaEvent_t end;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        float msec = -1;
        rig_open(&rig, seed);
        OK(cudaEventCreate(&start));
        OK(cudaEventCreate(&end));
        assert_int_equal(cudaEventRecordWithFlags(start, rig.a, cudaEventRecordExternal),
                         cudaErrorIllegalState);
        assert_misuse("does not capture");
        OK(cudaStreamBeginCapture(rig.a, cudaStreamCaptureModeThreadLocal));
        OK(cudaEventRecordWithFlags(start, rig.a, cudaEventRecordExternal));
        enqueue(rig.a, &rig.counter, &rig.at[0]);
        OK(cudaEventRecordWithFlags(end, rig.a, cudaEventRecordExternal));
        OK(cudaEventRecord(rig.fork, rig.a));
        OK(cudaStreamEndCapture(rig.a, &graph));
        OK(cudaGraphInstantiate(&exec, graph, 0));
        OK(cudaGraphDestroy(graph));
        OK(cudaEventQuery(end)); /* not yet recorded */
        OK(cudaGraphLaunch(exec, rig.a));
        OK(cudaGraphLaunch(exec, rig.a));
        OK(cudaStreamWaitEvent(rig.b, end, 0)); /* the launches' latest record */
        enqueue(rig.b, &rig.counter, &rig.at[1]);
        OK(cudaStreamSynchronize(rig.b));
        assert_int_equal(rig.at[1], 2);
        OK(cudaEventElapsedTime(&msec, start, end));
        assert_true(msec >= 0);
        assert_int_equal(cudaEventQuery(rig.fork), cudaErrorCapturedEvent);
        assert_misuse("last recorded in a capture");
        OK(cudaStreamSynchronize(rig.a));
        OK(cudaGraphExecDestroy(exec));
        OK(cudaEventDestroy(start));
        OK(cudaEventDestroy(end));
        rig_close(&rig);
    }
}

/* One rank of two: captures a transfer, then plays it. */
typedef struct side {
    int rank;
    ncclUniqueId id;
} side_t;

static void *play_transfer(void *argument)
{
    const side_t *side = argument;
    ncclComm_t comm;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaSetDevice(side->rank));
    cudaStream_t stream = stream_new();
    int *value = device_new(sizeof(*value));
    int *host = pinned_new(sizeof(*host));
    assert_int_equal(ncclCommInitRank(&comm, 2, side->id, side->rank), ncclSuccess);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    if (side->rank == 0) {
        OK(cudaMemcpyAsync(value, host, sizeof(*value), cudaMemcpyHostToDevice, stream));
        assert_int_equal(ncclSend(value, 1, ncclInt, 1, comm, stream), ncclSuccess);
    } else {
        assert_int_equal(ncclRecv(value, 1, ncclInt, 0, comm, stream), ncclSuccess);
        OK(cudaMemcpyAsync(host, value, sizeof(*value), cudaMemcpyDeviceToHost, stream));
    }
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    for (int i = 0; i < 5; i++) {
        if (side->rank == 0) {
            *host = i;
        }
        OK(cudaGraphLaunch(exec, stream));
        OK(cudaStreamSynchronize(stream));
        assert_int_equal(*host, i);
    }
    for (int i = 0; i < 5; i++) { /* several ahead */
        OK(cudaGraphLaunch(exec, stream));
    }
    OK(cudaStreamSynchronize(stream));
    assert_int_equal(ncclCommDestroy(comm), ncclSuccess);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaFree(value));
    OK(cudaFreeHost(host));
    OK(cudaStreamDestroy(stream));
    return NULL;
}

static void transfers_are_captured(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        side_t sides[2] = {{.rank = 0}, {.rank = 1}};
        pthread_t threads[2];
        fresh(seed);
        assert_int_equal(ncclGetUniqueId(&sides[0].id), ncclSuccess);
        sides[1].id = sides[0].id;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, play_transfer, &sides[i]), 0);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_clean();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_run_by_their_edges_at_every_launch),
        cmocka_unit_test(a_graph_that_forgets_priorities_is_noticed),
        cmocka_unit_test(unjoined_work_is_refused),
        cmocka_unit_test(what_capture_forbids_invalidates_it),
        cmocka_unit_test(a_relaxed_capture_allows_what_is_only_unsafe),
        cmocka_unit_test(a_capture_belongs_to_its_thread),
        cmocka_unit_test(events_inside_keep_to_the_capture_unless_external),
        cmocka_unit_test(transfers_are_captured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
