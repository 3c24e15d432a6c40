/*
 * Every call of CUDA that the device makes is failed once: a small job that uses all of the device
 * runs once as it is, to learn what is called and how often, and then once for each call, which
 * fails. Its error must come back, nothing may hang, stay alive or be misused.
 */
#include "cuda_testing.h"

enum { FUNCTIONS_MAX = 128, CALLS_MAX = 60 };

typedef struct job {
    dpr_device_t *device;
    dpr_stream_t *main;
    dpr_stream_t *side;
    dpr_event_t *fork;
    dpr_event_t *join;
    dpr_event_t *outside;
    dpr_recording_t *recording;
    void *memory;
    void *pinned;
} job_t;

static dpr_status_t open_job(job_t *job)
{
    dpr_device_info_t info;
    DPR_TRY(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &job->device));
    dpr_device_info(job->device, &info);
    DPR_TRY(dpr_stream_create(job->device, "main", 0, &job->main));
    DPR_TRY(dpr_stream_create(job->device, "side", 1, &job->side));
    DPR_TRY(dpr_event_create(job->device, &job->fork));
    DPR_TRY(dpr_event_create(job->device, &job->join));
    DPR_TRY(dpr_event_create(job->device, &job->outside));
    DPR_TRY(dpr_device_alloc(job->device, DPR_MEMORY_DEVICE, 256, &job->memory));
    return dpr_device_alloc(job->device, DPR_MEMORY_PINNED, 256, &job->pinned);
}

static dpr_status_t enqueue(job_t *job)
{
    DPR_TRY(dpr_stream_wait_event(job->main, job->outside));
    DPR_TRY(dpr_stream_fill(job->main, job->memory, 3, 256));
    DPR_TRY(dpr_event_record(job->fork, job->main));
    DPR_TRY(dpr_stream_wait_event(job->side, job->fork));
    DPR_TRY(dpr_stream_copy(job->side, job->pinned, job->memory, 256));
    DPR_TRY(dpr_event_record(job->join, job->side));
    return dpr_stream_wait_event(job->main, job->join);
}

static dpr_status_t record(job_t *job)
{
    DPR_TRY(dpr_recording_begin(job->main));
    const dpr_status_t status = enqueue(job);
    const dpr_status_t ended = dpr_recording_end(job->main, &job->recording);
    assert_true(status == DPR_OK || ended != DPR_OK); /* a spoilt recording does not come to be */
    DPR_TRY(status);
    return ended;
}

static dpr_status_t work(job_t *job, counted_t *operations)
{
    dpr_device_clock_rebase(job->device);
    DPR_TRY(dpr_event_record(job->outside, job->side));
    DPR_TRY(enqueue(job));
    DPR_TRY(dpr_stream_host_op(job->main, counted_start, operations));
    DPR_TRY(dpr_stream_host_op(job->side, counted_start, operations));
    DPR_TRY(dpr_event_synchronize(job->join));
    DPR_TRY(record(job));
    DPR_TRY(dpr_recording_play(job->recording, job->main));
    DPR_TRY(dpr_recording_play(job->recording, job->main));
    (void)dpr_event_query(job->join);
    DPR_TRY(dpr_stream_synchronize(job->main));
    DPR_TRY(dpr_stream_synchronize(job->side));
    const double sec = dpr_event_sec(job->join);
    return sec == sec ? DPR_OK : DPR_ERR_DEVICE;
}

static void close_job(job_t *job)
{
    dpr_recording_destroy(job->recording);
    dpr_stream_destroy(job->main);
    dpr_stream_destroy(job->side);
    dpr_event_destroy(job->fork);
    dpr_event_destroy(job->join);
    dpr_event_destroy(job->outside);
    if (job->device != NULL) {
        dpr_device_free(job->device, DPR_MEMORY_DEVICE, job->memory);
        dpr_device_free(job->device, DPR_MEMORY_PINNED, job->pinned);
    }
    dpr_device_destroy(job->device);
}

static dpr_status_t run_job(char *text, size_t size)
{
    job_t job = {.device = NULL};
    counted_t operations = {.status = DPR_OK};
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, text, size);
    dpr_status_t status = open_job(&job);
    if (status == DPR_OK) {
        status = work(&job, &operations);
    }
    close_job(&job);
    dpr_log_capture_end(&capture);
    assert_true(status != DPR_OK || operations.starts == 2);
    return status;
}

/* Calls whose failure is no failure of the job: releases (reported, and the object is gone), what
 * is only told, a time that is taken anew, questions whose answer an error is. */
static bool may_be_survived(const char *function)
{
    static const char *const names[] = {
        "cudaEventDestroy",       "cudaStreamDestroy",     "cudaFree",
        "cudaFreeHost",           "cudaGraphDestroy",      "cudaGraphExecDestroy",
        "cudaMemGetInfo",         "cudaDeviceGetPCIBusId", "cudaDriverGetVersion",
        "cudaRuntimeGetVersion",  "cudaGetErrorName",      "cudaGetErrorString",
        "cudaGetLastError",       "cudaEventQuery",        "cudaStreamSynchronize",
        "cudaEventSynchronize",   "cudaEventRecord",       "cudaGetDriverEntryPointByVersion",
        "cudaGetDriverEntryPoint"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(function, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void fail_call(const char *function, unsigned long call, uint64_t seed)
{
    char text[4096];
    const standin_failure_t failure = {.function = function, .call = call};
    standin_reset(&(standin_options_t){
        .seed = seed, .devices = 1, .deadlock_sec = 2.0, .quiet = true, .failure = failure});
    const dpr_status_t status = run_job(text, sizeof text);
    const bool happened = standin_failed();
    char leaks[1024] = "";
    standin_drain();
    if (status == DPR_OK && happened && !may_be_survived(function)) {
        fail_msg("call %lu of %s fails, and nobody says so", call, function);
    }
    if (status != DPR_OK && strlen(text) == 0) {
        fail_msg("call %lu of %s fails with %s and no message", call, function,
                 dpr_status_name(status));
    }
    /* A recording whose joining wait has failed ends unjoined; CUDA tells us so once more. */
    if (standin_misuses() > 0 &&
        strstr(standin_misuse_text(leaks, sizeof leaks), "was not joined") == NULL) {
        fail_msg("call %lu of %s fails, then misuse: %s", call, function,
                 standin_misuse_text(leaks, sizeof leaks));
    }
    if (standin_leaks(leaks, sizeof leaks) > 0) {
        fail_msg("call %lu of %s fails and leaves: %s", call, function, leaks);
    }
}

/* Of calls made very often, the first and some of the later ones. */
static void every_call_fails_once(void **state)
{
    (void)state;
    char text[4096];
    const char *names[FUNCTIONS_MAX];
    unsigned long calls[FUNCTIONS_MAX];
    standin_reset(&(standin_options_t){.devices = 1});
    assert_ok(run_job(text, sizeof text));
    assert_string_equal(text, "");
    const int count = standin_functions(names, FUNCTIONS_MAX);
    assert_in_range(count, 20, FUNCTIONS_MAX);
    for (int i = 0; i < count; i++) {
        calls[i] = standin_calls(names[i]);
    }
    int failed = 0;
    for (int i = 0; i < count; i++) {
        for (unsigned long call = 1; call <= calls[i] && call <= CALLS_MAX; call++) {
            fail_call(names[i], call, call);
            failed++;
        }
    }
    print_message("%d calls of %d functions failed once each\n", failed, count);
}

static void without_stream_memory_operations_only_host_operations_are_refused(void **state)
{
    (void)state;
    char text[1024];
    dpr_status_t status;
    dpr_device_t *device = NULL;
    counted_t counted = {.status = DPR_OK};
    const standin_failure_t failure = {
        .function = "cuStreamWaitValue32", .call = 1, .error = cudaErrorNotSupported};
    standin_reset(&(standin_options_t){.devices = 1, .failure = failure});
    LOGGED(text, status, dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
    assert_ok(status);
    assert_non_null(strstr(text, "no stream memory operations"));
    dpr_stream_t *stream = open_stream(device, "stream");
    LOGGED(text, status, dpr_stream_host_op(stream, counted_start, &counted));
    assert_int_equal(status, DPR_ERR_UNSUPPORTED);
    assert_non_null(strstr(text, "--comm nccl"));
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(counted.starts, 0);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
    cuda_end();
}

/* The device breaks while operations are enqueued and one is under way: no hang, all events pass.
 */
static void a_broken_device_does_not_hang(void **state)
{
    (void)state;
    char text[4096];
    dpr_log_capture_t capture;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        dpr_device_t *device = NULL;
        counted_t counted = {.status = DPR_OK};
        const standin_failure_t failure = {.function = "async:cudaMemsetAsync", .call = 1};
        standin_reset(&(standin_options_t){
            .seed = seed, .devices = 1, .quiet = true, .deadlock_sec = 2.0, .failure = failure});
        dpr_log_capture_begin(&capture, text, sizeof text);
        assert_ok(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
        dpr_stream_t *stream = open_stream(device, "stream");
        dpr_event_t *event = open_event(device);
        void *memory = open_memory(device, DPR_MEMORY_DEVICE, 64);
        dpr_status_t status = dpr_stream_fill(stream, memory, 0, 64);
        for (int i = 0; i < 3000 && status == DPR_OK; i++) {
            status = dpr_stream_host_op(stream, counted_start, &counted);
        }
        if (status == DPR_OK) {
            status = dpr_event_record(event, stream);
        }
        assert_int_equal(dpr_stream_synchronize(stream), DPR_ERR_DEVICE);
        assert_true(dpr_event_query(event));
        assert_int_equal(counted.starts, 0);
        dpr_stream_destroy(stream);
        dpr_event_destroy(event);
        dpr_device_free(device, DPR_MEMORY_DEVICE, memory);
        dpr_device_destroy(device);
        dpr_log_capture_end(&capture);
        assert_non_null(strstr(text, "stream stream failed"));
        cuda_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(without_stream_memory_operations_only_host_operations_are_refused),
        cmocka_unit_test(a_broken_device_does_not_hang),
    };
    return cmocka_run_group_tests_name("cuda_failures", tests, NULL, NULL);
}
