/* The stand-in's streams, events and host functions: what is ordered, and what is not. */
#include "standin_testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include <cuda.h>

enum { SEEDS = 40 };

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

static void one_stream_keeps_its_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fresh(seed);
        cudaStream_t stream = stream_new();
        _Atomic int counter = 0;
        int at[50];
        for (int i = 0; i < 50; i++) {
            enqueue(stream, &counter, &at[i]);
        }
        OK(cudaStreamSynchronize(stream));
        for (int i = 0; i < 50; i++) {
            assert_int_equal(at[i], i);
        }
        OK(cudaStreamDestroy(stream));
        assert_clean();
    }
}

/* A producer in one stream and a consumer in another; whether the consumer came first. */
static bool consumer_first(uint64_t seed, bool wait)
{
    fresh(seed);
    cudaStream_t a = stream_new();
    cudaStream_t b = stream_new();
    cudaEvent_t event = event_new();
    _Atomic int counter = 0;
    int produced;
    int consumed;
    enqueue(a, &counter, &produced);
    OK(cudaEventRecord(event, a));
    if (wait) {
        OK(cudaStreamWaitEvent(b, event, 0));
    }
    enqueue(b, &counter, &consumed);
    OK(cudaStreamSynchronize(a));
    OK(cudaStreamSynchronize(b));
    OK(cudaEventDestroy(event));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    assert_clean();
    return consumed < produced;
}

static void a_missing_wait_shows_for_some_seed(void **state)
{
    (void)state;
    int wrong = 0;
    int right = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        assert_false(consumer_first(seed, true));
        if (consumer_first(seed, false)) {
            wrong++;
        } else {
            right++;
        }
    }
    assert_true(wrong > 0);
    assert_true(right > 0);
    assert_false(consumer_first(0, false)); /* in the order of the calls */
}

static void a_wait_keeps_the_record_that_it_was_given(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fresh(seed);
        cudaStream_t a = stream_new();
        cudaStream_t b = stream_new();
        cudaEvent_t event = event_new();
        _Atomic int counter = 0;
        int first;
        int second;
        int waiting;
        OK(cudaStreamWaitEvent(b, event, 0)); /* never recorded: holds nothing */
        enqueue(a, &counter, &first);
        OK(cudaEventRecord(event, a));
        OK(cudaStreamWaitEvent(b, event, 0));
        enqueue(b, &counter, &waiting);
        cudaEvent_t done = event_new();
        OK(cudaEventRecord(done, b));
        OK(cudaStreamWaitEvent(a, done, 0)); /* the second record can only come afterwards */
        enqueue(a, &counter, &second);
        OK(cudaEventRecord(event, a));
        OK(cudaEventSynchronize(event));
        assert_int_equal(first, 0);
        assert_int_equal(waiting, 1);
        assert_int_equal(second, 2);
        OK(cudaEventDestroy(done));
        OK(cudaEventDestroy(event));
        OK(cudaStreamDestroy(a));
        OK(cudaStreamDestroy(b));
        assert_clean();
    }
}

static void a_host_that_does_not_wait_sees_stale_data(void **state)
{
    (void)state;
    int stale = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fresh(seed);
        cudaStream_t stream = stream_new();
        _Atomic int counter = 7;
        int at = -1;
        enqueue(stream, &counter, &at);
        const cudaError_t answer = cudaStreamQuery(stream);
        assert_true(answer == cudaSuccess || answer == cudaErrorNotReady);
        stale += answer == cudaErrorNotReady;
        OK(cudaStreamSynchronize(stream));
        assert_int_equal(at, 7);
        OK(cudaStreamQuery(stream));
        OK(cudaStreamDestroy(stream));
    }
    assert_true(stale > 0);
}

static void events_have_times_and_states(void **state)
{
    (void)state;
    fresh(3);
    cudaStream_t stream = stream_new();
    cudaEvent_t start;
    cudaEvent_t end;
    float msec = -1;
    OK(cudaEventCreate(&start));
    OK(cudaEventCreate(&end));
    OK(cudaEventQuery(start)); /* never recorded */
    OK(cudaEventSynchronize(start));
    assert_int_equal(cudaEventElapsedTime(&msec, start, end), cudaErrorInvalidResourceHandle);
    assert_misuse("not both recorded");
    OK(cudaEventRecord(start, stream));
    OK(cudaEventRecord(end, stream));
    OK(cudaEventSynchronize(end));
    OK(cudaEventElapsedTime(&msec, start, end));
    assert_true(msec >= 0);
    OK(cudaEventDestroy(end));
    end = event_new();
    OK(cudaEventRecord(end, stream));
    OK(cudaStreamSynchronize(stream));
    assert_int_equal(cudaEventElapsedTime(&msec, start, end), cudaErrorInvalidResourceHandle);
    assert_misuse("without timing");
    OK(cudaEventDestroy(start));
    OK(cudaEventDestroy(end));
    OK(cudaStreamDestroy(stream));
    assert_clean();
}

static void call_cuda(void *argument)
{
    *(cudaError_t *)argument = cudaStreamSynchronize(NULL);
}

static void stale_and_foreign_handles_are_misuse(void **state)
{
    (void)state;
    fresh(5);
    cudaStream_t stream = stream_new();
    cudaEvent_t event = event_new();
    OK(cudaEventDestroy(event));
    assert_int_equal(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_misuse("event 1 was destroyed");
    assert_int_equal(cudaEventQuery((cudaEvent_t)(void *)stream), cudaErrorInvalidResourceHandle);
    assert_misuse("is no event");

    OK(cudaSetDevice(1));
    _Atomic int counter = 0;
    int at;
    const step_t step = {&counter, &at};
    assert_int_equal(standin_enqueue(stream, "kernel", take_number, &step, sizeof(step)),
                     cudaErrorInvalidResourceHandle);
    assert_misuse("of device 0, and device 1 is current");
    cudaEvent_t other = event_new();
    assert_int_equal(cudaEventRecord(other, stream), cudaErrorInvalidResourceHandle);
    assert_misuse("event 2 is of device 1");
    OK(cudaStreamWaitEvent(stream, other, 0)); /* across devices is fine */
    OK(cudaEventDestroy(other));
    OK(cudaSetDevice(0));

    cudaError_t answer = cudaSuccess;
    OK(cudaLaunchHostFunc(stream, call_cuda, &answer));
    OK(cudaStreamSynchronize(stream));
    assert_int_equal(answer, cudaErrorNotPermitted);
    assert_misuse("must not call CUDA");
    OK(cudaStreamDestroy(stream));
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    assert_misuse("stream 1 was destroyed");
    assert_clean();
}

static void the_default_stream_waits_for_blocking_streams(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fresh(seed);
        cudaStream_t stream;
        OK(cudaStreamCreate(&stream));
        _Atomic int counter = 0;
        int at[3];
        enqueue(stream, &counter, &at[0]);
        enqueue(NULL, &counter, &at[1]);
        enqueue(stream, &counter, &at[2]);
        OK(cudaDeviceSynchronize());
        assert_true(at[0] < at[1] && at[1] < at[2]);
        OK(cudaStreamDestroy(stream));
        assert_clean();
    }
}

static void a_stream_waits_for_a_value_that_the_host_writes(void **state)
{
    (void)state;
    CUresult (*wait_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
    void *found;
    enum cudaDriverEntryPointQueryResult status;
    fresh(9);
    OK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &found, 12000, cudaEnableDefault,
                                        &status));
    assert_int_equal(status, cudaDriverEntryPointSuccess);
    *(void **)&wait_value = found;
    cudaStream_t stream = stream_new();
    _Atomic uint32_t *word = pinned_new(sizeof(*word));
    atomic_store(word, 4);
    _Atomic int counter = 0;
    int at;
    assert_int_equal(wait_value(stream, (CUdeviceptr)(uintptr_t)word, 5, CU_STREAM_WAIT_VALUE_GEQ),
                     CUDA_SUCCESS);
    enqueue(stream, &counter, &at);
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    assert_int_equal(atomic_load(&counter), 0);
    atomic_store(word, 5);
    OK(cudaStreamSynchronize(stream));
    assert_int_equal(atomic_load(&counter), 1);
    assert_int_equal(wait_value(stream, (CUdeviceptr)(uintptr_t)word, 6, 0), CUDA_SUCCESS);
    OK(cudaFreeHost((void *)word)); /* while the stream waits for it */
    OK(cudaStreamSynchronize(stream));
    assert_misuse("waits for a value in memory that was freed");
    assert_int_equal(wait_value(stream, (CUdeviceptr)(uintptr_t)&at, 5, 0),
                     CUDA_ERROR_INVALID_VALUE);
    assert_misuse("cuStreamWaitValue32");
    OK(cudaStreamDestroy(stream));
    assert_clean();
}

enum { THREADS = 8, OPS = 5000 };

static void *enqueue_many(void *argument)
{
    _Atomic int *counter = argument;
    cudaStream_t stream = stream_new();
    int at[8];
    for (int i = 0; i < OPS; i++) {
        enqueue(stream, counter, &at[i % 8]);
    }
    OK(cudaStreamSynchronize(stream));
    OK(cudaStreamDestroy(stream));
    return NULL;
}

static void many_threads_enqueue_at_once(void **state)
{
    (void)state;
    fresh(11);
    _Atomic int counter = 0;
    pthread_t threads[THREADS];
    struct timespec start;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, enqueue_many, &counter), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double sec =
        (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    print_message("%.0f operations a second\n", THREADS * OPS / sec);
    assert_int_equal(atomic_load(&counter), THREADS * OPS);
    assert_int_equal(standin_operations(), THREADS * OPS);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stream_keeps_its_order),
        cmocka_unit_test(a_missing_wait_shows_for_some_seed),
        cmocka_unit_test(a_wait_keeps_the_record_that_it_was_given),
        cmocka_unit_test(a_host_that_does_not_wait_sees_stale_data),
        cmocka_unit_test(events_have_times_and_states),
        cmocka_unit_test(stale_and_foreign_handles_are_misuse),
        cmocka_unit_test(the_default_stream_waits_for_blocking_streams),
        cmocka_unit_test(a_stream_waits_for_a_value_that_the_host_writes),
        cmocka_unit_test(many_threads_enqueue_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
