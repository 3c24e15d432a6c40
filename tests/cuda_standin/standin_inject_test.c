/* The stand-in's injected failures: which call fails, and what is left behind. */
#include "standin_testing.h"

#include <pthread.h>

#include <cuda.h>

enum { BYTES = 64, MAX_NAMES = 256 };

static void fail_at(const char *function, unsigned long call, int error)
{
    standin_inject(&(standin_failure_t){.function = function, .call = call, .error = error});
}

static void the_nth_call_fails(void **state)
{
    (void)state;
    void *memory[3];
    fresh(1);
    fail_at("cudaMalloc", 2, cudaErrorMemoryAllocation);
    OK(cudaMalloc(&memory[0], BYTES));
    assert_false(standin_failed());
    assert_int_equal(cudaMalloc(&memory[1], BYTES), cudaErrorMemoryAllocation);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    assert_true(standin_failed());
    OK(cudaMalloc(&memory[2], BYTES));
    assert_int_equal(standin_calls("cudaMalloc"), 3);
    assert_int_equal(standin_calls("cudaFree"), 0);
    OK(cudaFree(memory[0]));
    OK(cudaFree(memory[2]));
    assert_clean();
}

static void calls_may_fail_from_then_on_and_on_one_device(void **state)
{
    (void)state;
    int count;
    fresh(1);
    standin_inject(&(standin_failure_t){.function = "cudaGetDeviceCount",
                                        .call = 2,
                                        .error = cudaErrorInsufficientDriver,
                                        .from_then_on = true,
                                        .on_device = true,
                                        .device = 1});
    for (int i = 0; i < 3; i++) {
        OK(cudaGetDeviceCount(&count));
    }
    OK(cudaSetDevice(1));
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    OK(cudaSetDevice(0));
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(count, 8);
    assert_clean();
}

static void what_fails_to_release_has_released(void **state)
{
    (void)state;
    fresh(1);
    cudaStream_t stream = stream_new();
    cudaEvent_t event = event_new();
    void *device = device_new(BYTES);
    void *pinned = pinned_new(BYTES);
    fail_at("cudaFree", 1, cudaErrorIllegalAddress);
    assert_int_equal(cudaFree(device), cudaErrorIllegalAddress);
    fail_at("cudaFreeHost", 1, 0);
    assert_int_equal(cudaFreeHost(pinned), cudaErrorUnknown);
    fail_at("cudaEventDestroy", 1, 0);
    assert_int_equal(cudaEventDestroy(event), cudaErrorUnknown);
    fail_at("cudaStreamDestroy", 1, 0);
    assert_int_equal(cudaStreamDestroy(stream), cudaErrorUnknown);
    assert_clean();
}

static void set_flag(void *argument)
{
    **(int **)argument = 1;
}

static void what_fails_to_synchronise_has_waited(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        int flag = 0;
        int *at = &flag;
        fresh(seed);
        cudaStream_t stream = stream_new();
        fail_at("cudaStreamSynchronize", 1, 0);
        OK(standin_enqueue(stream, "set_flag", set_flag, &at, sizeof(at)));
        assert_int_equal(cudaStreamSynchronize(stream), cudaErrorUnknown);
        assert_int_equal(flag, 1);
        OK(cudaStreamDestroy(stream));
        assert_clean();
    }
}

static bool is_listed(const char *name)
{
    const char *names[MAX_NAMES];
    const int count = standin_functions(names, MAX_NAMES);
    for (int i = 0; i < count && i < MAX_NAMES; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void every_function_that_was_called_is_listed(void **state)
{
    (void)state;
    fresh(1);
    cudaStream_t stream = stream_new();
    void *device = device_new(BYTES);
    OK(cudaMemsetAsync(device, 0, BYTES, stream));
    OK(cudaStreamSynchronize(stream));
    OK(cudaFree(device));
    OK(cudaStreamDestroy(stream));
    assert_true(is_listed("cudaMemsetAsync"));
    assert_true(is_listed("async:cudaMemsetAsync"));
    assert_false(is_listed("cudaStreamGetFlags"));
    assert_clean();
}

static void an_operation_that_fails_breaks_its_device(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        fresh(seed);
        cudaStream_t stream = stream_new();
        cudaStream_t other = stream_new();
        cudaEvent_t event = event_new();
        unsigned char *device = device_new(BYTES);
        fail_at("async:cudaMemsetAsync", 2, cudaErrorIllegalAddress);
        OK(cudaMemsetAsync(device, 1, BYTES, stream));
        (void)cudaMemsetAsync(device, 2, BYTES, stream);
        (void)cudaEventRecord(event, stream);
        (void)cudaStreamWaitEvent(other, event, 0);
        assert_int_equal(cudaStreamSynchronize(other), cudaErrorIllegalAddress);
        assert_int_equal(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
        assert_int_equal(device[0], 1);
        assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
        assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress); /* it stays */
        assert_int_equal(cudaEventQuery(event), cudaErrorIllegalAddress);
        OK(cudaSetDevice(1)); /* the others work on */
        OK(cudaDeviceSynchronize());
        assert_int_equal(cudaSetDevice(0), cudaErrorIllegalAddress);
        assert_int_equal(cudaFree(device), cudaErrorIllegalAddress);
        assert_int_equal(cudaEventDestroy(event), cudaErrorIllegalAddress);
        assert_int_equal(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
        assert_int_equal(cudaStreamDestroy(other), cudaErrorIllegalAddress);
        assert_clean();
    }
    fresh(0);
    OK(cudaDeviceSynchronize());
}

static void a_driver_may_lack_a_function(void **state)
{
    (void)state;
    void *function;
    enum cudaDriverEntryPointQueryResult result;
    fresh(1);
    fail_at("cudaGetDriverEntryPointByVersion", 1, -1);
    OK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 12000, cudaEnableDefault,
                                        &result));
    assert_int_equal(result, cudaDriverEntryPointSymbolNotFound);
    assert_null(function);
    OK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 7000, cudaEnableDefault,
                                        &result));
    assert_int_equal(result, cudaDriverEntryPointVersionNotSufficent);
    assert_clean();
}

static void no_device_is_an_error_of_its_own(void **state)
{
    (void)state;
    int count = -1;
    standin_reset(&(standin_options_t){.devices = -1});
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    assert_int_equal(count, 0);
    assert_int_equal(cudaSetDevice(0), cudaErrorNoDevice);
    standin_reset(&(standin_options_t){.devices = 2});
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(count, 2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    assert_clean();
}

static void a_host_that_never_answers_is_a_deadlock(void **state)
{
    (void)state;
    CUresult (*wait_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
    void *function;
    enum cudaDriverEntryPointQueryResult result;
    standin_reset(&(standin_options_t){.seed = 2, .deadlock_sec = 0.05, .quiet = true});
    OK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 12000, cudaEnableDefault,
                                        &result));
    *(void **)&wait_value = function;
    cudaStream_t stream = stream_new();
    cudaStream_t other = stream_new();
    cudaEvent_t event = event_new();
    uint32_t *word = pinned_new(sizeof(*word));
    *word = 0;
    assert_int_equal(wait_value(stream, (CUdeviceptr)(uintptr_t)word, 1, 0), CUDA_SUCCESS);
    OK(cudaEventRecord(event, stream));
    OK(cudaStreamWaitEvent(other, event, 0));
    assert_int_equal(cudaStreamSynchronize(other), cudaErrorLaunchTimeout);
    assert_int_equal(standin_deadlocks(), 1);
    assert_misuse("stream 2: waits for event 1 in stream 1");
    assert_int_equal(cudaFreeHost(word), cudaErrorLaunchTimeout);
    assert_int_equal(cudaEventDestroy(event), cudaErrorLaunchTimeout);
    assert_int_equal(cudaStreamDestroy(stream), cudaErrorLaunchTimeout);
    assert_int_equal(cudaStreamDestroy(other), cudaErrorLaunchTimeout);
    assert_clean();
}

/* ---- Calls left out ---- */

enum { ROUNDS = 3, CALLS = 32 };

/* In each round the second stream copies what the first has filled. */
static void pass_on(unsigned char *from, unsigned char *to)
{
    cudaStream_t first = stream_new();
    cudaStream_t second = stream_new();
    cudaEvent_t filled = event_new();
    cudaEvent_t copied = event_new();
    for (int i = 0; i < ROUNDS; i++) {
        OK(cudaStreamWaitEvent(first, copied, 0));
        OK(cudaMemsetAsync(from, 1 + i, BYTES, first));
        OK(cudaEventRecord(filled, first));
        OK(cudaStreamWaitEvent(second, filled, 0));
        OK(cudaMemcpyAsync(to + i * BYTES, from, BYTES, cudaMemcpyDefault, second));
        OK(cudaEventRecord(copied, second));
    }
    OK(cudaStreamSynchronize(first));
    OK(cudaStreamSynchronize(second));
    OK(cudaEventDestroy(filled));
    OK(cudaEventDestroy(copied));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
}

/* Whether all came over under `seed`; `calls` has room for CALLS. */
static bool is_passed_on(uint64_t seed, const standin_omission_t *omission, standin_call_t *calls,
                         int *count)
{
    bool right = true;
    fresh(seed);
    unsigned char *from = device_new(BYTES);
    unsigned char *to = pinned_new(ROUNDS * BYTES);
    standin_watch(calls, CALLS, omission);
    pass_on(from, to);
    *count = standin_watch_end();
    for (int i = 0; i < ROUNDS * BYTES; i++) {
        right = right && to[i] == 1 + i / BYTES;
    }
    OK(cudaFree(from));
    OK(cudaFreeHost(to));
    assert_clean();
    return right;
}

static void calls_that_order_are_listed(void **state)
{
    (void)state;
    standin_call_t calls[CALLS];
    int count;
    assert_true(is_passed_on(3, NULL, calls, &count));
    assert_false(standin_omitted());
    assert_int_equal(count, 4 * ROUNDS);
    for (int i = 0; i < count; i++) {
        assert_string_equal(calls[i].function,
                            i % 2 == 0 ? "cudaStreamWaitEvent" : "cudaEventRecord");
        assert_int_equal(calls[i].device, 0);
        assert_int_equal(calls[i].stream, i % 4 < 2 ? 1 : 2);
        assert_int_equal(calls[i].event, i % 4 == 1 || i % 4 == 2 ? 1 : 2);
    }
}

/* Seeds until one goes wrong. The first wait of all is for an event that was never recorded. */
static void a_call_left_out_succeeds_and_is_missed(void **state)
{
    (void)state;
    standin_call_t calls[CALLS];
    int count;
    for (int i = 0; i < 4 * ROUNDS; i++) {
        const standin_omission_t omission = {.function = i % 2 == 0 ? "cudaStreamWaitEvent"
                                                                    : "cudaEventRecord",
                                             .stream = i % 4 < 2 ? 1 : 2,
                                             .call = 1 + (unsigned long)i / 4};
        const bool needed = i > 0 && i < 4 * ROUNDS - 1; /* the last record has no wait */
        bool right = true;
        for (uint64_t seed = 1; seed <= 200 && right; seed++) {
            right = is_passed_on(seed, &omission, calls, &count);
            assert_true(standin_omitted());
            assert_int_equal(count, 4 * ROUNDS);
        }
        assert_int_equal(right, !needed);
    }
}

static void a_hold_left_out_holds_nothing(void **state)
{
    (void)state;
    const standin_omission_t omission = {.function = "cuStreamWaitValue32", .call = 2};
    fresh(1);
    cudaStream_t stream = stream_new();
    uint32_t *word = pinned_new(sizeof(*word));
    const CUdeviceptr at = (CUdeviceptr)(uintptr_t)word;
    *word = 1;
    standin_watch(NULL, 0, &omission);
    assert_int_equal(cuStreamWaitValue32(stream, at, 1, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
    assert_false(standin_omitted());
    assert_int_equal(cuStreamWaitValue32(stream, at, 2, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
    assert_true(standin_omitted());
    OK(cudaStreamSynchronize(stream)); /* or it would be a deadlock */
    assert_int_equal(standin_watch_end(), 2);
    OK(cudaFreeHost(word));
    OK(cudaStreamDestroy(stream));
    assert_clean();
}

static void errors_have_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(cudaGetErrorName(cudaErrorStreamCaptureUnjoined),
                        "cudaErrorStreamCaptureUnjoined");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    assert_string_equal(cudaGetErrorName((cudaError_t)123456), "unrecognized error code");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nth_call_fails),
        cmocka_unit_test(calls_may_fail_from_then_on_and_on_one_device),
        cmocka_unit_test(what_fails_to_release_has_released),
        cmocka_unit_test(what_fails_to_synchronise_has_waited),
        cmocka_unit_test(every_function_that_was_called_is_listed),
        cmocka_unit_test(an_operation_that_fails_breaks_its_device),
        cmocka_unit_test(a_driver_may_lack_a_function),
        cmocka_unit_test(no_device_is_an_error_of_its_own),
        cmocka_unit_test(a_host_that_never_answers_is_a_deadlock),
        cmocka_unit_test(calls_that_order_are_listed),
        cmocka_unit_test(a_call_left_out_succeeds_and_is_missed),
        cmocka_unit_test(a_hold_left_out_holds_nothing),
        cmocka_unit_test(errors_have_names_and_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
