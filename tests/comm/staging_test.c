/*
 * Staging over the stand-in: that pinned memory is used and given back, long sums in pieces with
 * device memory, and every call of CUDA failing once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "comm/staging.h"
#include "comm_testing.h"
#include "standin.h"

enum { RANKS = 2, BYTES = 1000, SEEDS = 5, FUNCTIONS_MAX = 128, LOG_BYTES = 4096 };

/* One element more than two slots, in memory of the device itself. */
static void long_sum(rank_test_t *test)
{
    static const int all[] = {0, 1};
    const size_t count = 2 * DPR_COMM_STAGING_SUM_BYTES / sizeof(float) + 1;
    const size_t bytes = count * sizeof(float);
    float *values = make_memory(test, bytes);
    void *memory = NULL;
    dpr_comm_group_t *group = make_group(test, all, RANKS);
    dpr_stream_t *stream = make_stream(test);
    CHECK(test, dpr_device_alloc(test->device, DPR_MEMORY_DEVICE, bytes, &memory) == DPR_OK);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(i % 1000) + (float)test->rank;
    }
    CHECK(test, dpr_stream_copy(stream, memory, values, bytes) == DPR_OK);
    CHECK(test,
          dpr_group_allreduce_sum(group, memory, count, DPR_ELEMENT_FLOAT, 0.0, stream) == DPR_OK);
    CHECK(test, dpr_stream_copy(stream, values, memory, bytes) == DPR_OK);
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += values[i] != 2.0f * (float)(i % 1000) + 1.0f;
    }
    CHECK(test, wrong == 0);
    dpr_stream_destroy(stream);
    dpr_group_close(group);
    dpr_device_free(test->device, DPR_MEMORY_DEVICE, memory);
    free_memory(test, values);
}

static void a_long_sum_goes_in_pieces(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_int_equal(suite_run(long_sum, DPR_CLOCK_WALL, seed, 1), 0);
    }
}

/* The same number of pieces on neither side: all learn of it at the first. */
static void long_mismatch(rank_test_t *test)
{
    static const int all[] = {0, 1};
    const size_t slot = DPR_COMM_STAGING_SUM_BYTES / sizeof(float);
    const size_t count = test->rank == 0 ? slot + 1 : 3 * slot;
    float *values = make_memory(test, count * sizeof *values);
    dpr_comm_group_t *group = make_group(test, all, RANKS);
    dpr_stream_t *stream = make_stream(test);
    memset(values, 0, count * sizeof *values);
    expect_errors(true);
    CHECK(test,
          dpr_group_allreduce_sum(group, values, count, DPR_ELEMENT_FLOAT, 0.0, stream) == DPR_OK);
    CHECK(test, dpr_stream_synchronize(stream) == DPR_ERR_MISMATCH);
    meet(test);
    expect_errors(false);
    dpr_stream_destroy(stream);
    dpr_group_close(group);
    free_memory(test, values);
}

static void different_counts_of_pieces_are_a_mismatch(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_int_equal(suite_run(long_mismatch, DPR_CLOCK_WALL, seed, 1), 0);
    }
}

/*
 * ---- Every call fails once, on one of the two ranks ----
 *
 * Here nothing ends the other rank's wait for an operation that was never enqueued; a job is
 * aborted then. So each failure has a process of its own, which ends where a job would.
 */

typedef struct drill {
    const char *names[FUNCTIONS_MAX]; /* the same addresses in every process */
    unsigned long calls[FUNCTIONS_MAX];
    int count;
    standin_failure_t failure;
    bool happened;
    dpr_status_t statuses[RANKS];
    bool said[RANKS];
} drill_t;

static drill_t *drill; /* shared memory */

typedef struct parts {
    dpr_comm_channel_t *channel;
    dpr_comm_group_t *group;
    dpr_stream_t *stream;
    unsigned char *buffer;
    float *sum;
} parts_t;

static dpr_status_t play_parts(rank_test_t *test, parts_t *it)
{
    static const int all[] = {0, 1};
    DPR_TRY(dpr_channel_open(test->comm, 0, 1, BYTES, &it->channel));
    DPR_TRY(dpr_group_open(test->comm, all, RANKS, &it->group));
    fill_message(it->buffer, BYTES, (message_t){test->rank, 1, 0, 0});
    DPR_TRY(test->rank == 0 ? dpr_channel_send(it->channel, it->buffer, BYTES, 0.0, it->stream)
                            : dpr_channel_recv(it->channel, it->buffer, BYTES, 0.0, it->stream));
    it->sum[0] = (float)(1 + test->rank);
    return dpr_group_allreduce_sum(it->group, it->sum, 1, DPR_ELEMENT_FLOAT, 0.0, it->stream);
}

static void close_parts(rank_test_t *test, parts_t *it)
{
    dpr_stream_destroy(it->stream);
    dpr_channel_close(it->channel);
    dpr_group_close(it->group);
    free_memory(test, it->buffer);
    free_memory(test, it->sum);
}

static dpr_status_t run_parts(rank_test_t *test, parts_t *it)
{
    const dpr_status_t status = play_parts(test, it);
    return dpr_comm_agree(test->comm, status, NULL) == DPR_OK ? dpr_stream_synchronize(it->stream)
                                                              : status;
}

static void drill_scenario(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    dpr_log_capture_t capture;
    parts_t it = {.stream = make_stream(test),
                  .buffer = make_memory(test, BYTES),
                  .sum = make_memory(test, sizeof(float))};
    meet(test);
    if (test->rank == 0) {
        standin_inject(&drill->failure);
    }
    meet(test);
    dpr_log_capture_begin(&capture, text, sizeof text);
    const dpr_status_t status = run_parts(test, &it);
    dpr_log_capture_end(&capture);
    drill->statuses[test->rank] = status;
    drill->said[test->rank] = strlen(text) > 0;
    if (dpr_comm_agree(test->comm, status, NULL) != DPR_OK) {
        drill->happened = standin_failed();
        meet(test);
        _exit(test->failures);
    }
    CHECK(test, holds_message(it.buffer, BYTES, (message_t){0, 1, 0, 0}));
    CHECK(test, it.sum[0] == 3.0f);
    if (test->rank == 0) {
        drill->happened = standin_failed();
        drill->count = standin_functions(drill->names, FUNCTIONS_MAX);
        for (int i = 0; i < drill->count; i++) {
            drill->calls[i] = standin_calls(drill->names[i]);
        }
        standin_inject(NULL);
    }
    meet(test);
    close_parts(test, &it);
}

/* Returns what went wrong in a process of its own. */
static int run_apart(uint64_t seed)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        (void)alarm(30); /* a hang ends it */
        const bool begun = suite_begin("local+cuda", RANKS) == DPR_OK;
        _exit(begun ? suite_run(drill_scenario, DPR_CLOCK_WALL, seed, 1) : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool is_a_work_call(const char *function)
{
    static const char *const names[] = {"cudaHostAlloc",       "cudaHostGetDevicePointer",
                                        "cudaMemcpyAsync",     "cudaLaunchHostFunc",
                                        "cuStreamWaitValue32", "cudaEventCreateWithFlags"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(function, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void drill_call(const char *function, unsigned long call)
{
    drill->failure = (standin_failure_t){.function = function, .call = call};
    drill->happened = false;
    const int wrong = run_apart(call);
    const bool fine = drill->statuses[0] == DPR_OK && drill->statuses[1] == DPR_OK;
    if (wrong != 0) {
        fail_msg("call %lu of %s fails, and then: %#x", call, function, (unsigned)wrong);
    }
    if (fine && drill->happened && is_a_work_call(function)) {
        fail_msg("call %lu of %s fails, and nobody says so", call, function);
    }
    if (!fine && !drill->said[0] && !drill->said[1]) {
        fail_msg("call %lu of %s fails without a message", call, function);
    }
}

static void every_call_fails_once(void **state)
{
    (void)state;
    enum { OFTEN = 30 };
    int failed = 0;
    drill_t counted;
    drill = mmap(NULL, sizeof *drill, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(drill != MAP_FAILED);
    drill->failure = (standin_failure_t){.function = "cudaMemcpyAsync", .call = 0};
    assert_int_equal(run_apart(0), 0);
    counted = *drill;
    for (int i = 0; i < counted.count; i++) {
        for (unsigned long call = 1; call <= counted.calls[i] && call <= OFTEN; call++) {
            drill_call(counted.names[i], call);
            failed += drill->happened ? 1 : 0;
        }
    }
    print_message("%d calls failed once each\n", failed);
    assert_true(failed > 30);
    (void)munmap(drill, sizeof *drill);
}

int main(void)
{
    const struct CMUnitTest apart[] = {
        cmocka_unit_test(every_call_fails_once), /* first: it forks before there are threads */
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_sum_goes_in_pieces),
        cmocka_unit_test(different_counts_of_pieces_are_a_mismatch),
    };
    const int failed = cmocka_run_group_tests_name("staging_failures", apart, NULL, NULL);
    if (suite_begin("local+cuda", RANKS) != DPR_OK) {
        return 1;
    }
    return failed + cmocka_run_group_tests_name("staging", tests, NULL, NULL);
}
