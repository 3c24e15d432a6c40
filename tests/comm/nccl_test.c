/*
 * What the NCCL backend does beyond the contract of the seam (comm_contract.c), over the stand-in:
 * where it may be used, what a watchdog does, measuring, and every call of CUDA and NCCL failing
 * once on one rank. What a GPU has room for is in nccl_room_test.c, aborts that could hang are in
 * nccl_abort_test.c.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <nccl.h>

#include "base/log.h"
#include "comm/nccl/nccl_testing.h"
#include "comm_testing.h"
#include "standin.h"

enum { RANKS = 3, BYTES = 1000, SEEDS = 5, FUNCTIONS_MAX = 128, LOG_BYTES = 2048 };

static void run(scenario_fn_t scenario)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_int_equal(suite_run(scenario, DPR_CLOCK_WALL, seed, 1), 0);
    }
}

#define NCCL_TEST(name)                                                                            \
    static void name(rank_test_t *test);                                                           \
    static void name##_test(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(name);                                                                                 \
    }                                                                                              \
    static void name(rank_test_t *test)

NCCL_TEST(a_communicator_says_what_carries_it)
{
    char text[128];
    char small[8];
    dpr_comm_describe(test->comm, text, sizeof text);
    CHECK(test, strncmp(text, "NCCL 2.", 7) == 0 && strstr(text, " over local") != NULL);
    dpr_comm_describe(test->comm, small, sizeof small);
    CHECK(test, strlen(small) == sizeof small - 1);
    CHECK(test, strcmp(dpr_comm_kind(test->comm), "nccl") == 0);
    CHECK(test, dpr_comm_check(test->comm) == DPR_OK);
}

/* The harness asks for 2. */
NCCL_TEST(each_channel_and_group_has_its_own_bounded_communicator)
{
    static const int all[] = {0, 1, 2};
    standin_communicator_t list[16];
    dpr_comm_channel_t *there = make_channel(test, 0, 1, BYTES);
    dpr_comm_channel_t *back = make_channel(test, 1, 0, BYTES);
    dpr_comm_group_t *group = make_group(test, all, 3);
    dpr_comm_group_t *alone = make_group(test, &all[1], 1);
    CHECK(test, (alone != NULL) == (test->rank == 1));
    meet(test);
    const int count = standin_communicators(list, 16);
    CHECK(test, count == 2 + 2 + 3);
    for (int i = 0; i < count && i < 16; i++) {
        CHECK(test, list[i].min_ctas == 2 && list[i].max_ctas == 2 && list[i].blocking);
        CHECK(test, list[i].ranks == (i < 4 ? 2 : 3));
    }
    meet(test);
    dpr_channel_close(there);
    dpr_channel_close(back);
    dpr_group_close(group);
    dpr_group_close(alone);
}

static dpr_status_t try_channel(rank_test_t *test, char *text, size_t size)
{
    dpr_log_capture_t capture;
    dpr_comm_channel_t *channel = NULL;
    dpr_log_capture_begin(&capture, text, size);
    const dpr_status_t status = dpr_channel_open(test->comm, 0, 1, BYTES, &channel);
    dpr_log_capture_end(&capture);
    CHECK(test, channel == NULL);
    return status;
}

NCCL_TEST(two_ranks_on_one_gpu_are_refused_with_the_way_out)
{
    char text[LOG_BYTES];
    dpr_device_t *same = NULL;
    if (test->rank == 2) {
        CHECK(test, dpr_cuda_device_create(1, DPR_CLOCK_WALL, &same) == DPR_OK);
        dpr_comm_set_device(test->comm, same);
    }
    CHECK(test, try_channel(test, text, sizeof text) == DPR_ERR_UNSUPPORTED);
    CHECK(test, strstr(text, "ranks 1 and 2 are both on GPU ") != NULL);
    CHECK(test, strstr(text, "at most 2 ranks on this node") != NULL);
    CHECK(test, strstr(text, "--comm mpi") != NULL);
    dpr_comm_set_device(test->comm, test->device);
    dpr_device_destroy(same);
}

NCCL_TEST(a_host_device_is_refused_on_every_rank)
{
    char text[LOG_BYTES];
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    dpr_device_t *host = NULL;
    if (test->rank == 0) {
        CHECK(test, dpr_host_device_create(&options, &host) == DPR_OK);
        dpr_comm_set_device(test->comm, host);
    }
    CHECK(test, try_channel(test, text, sizeof text) == DPR_ERR_UNSUPPORTED);
    CHECK(test, strstr(text, test->rank == 0 ? "use --comm mpi" : "rank 0 cannot use") != NULL);
    dpr_comm_set_device(test->comm, test->device);
    dpr_device_destroy(host);
}

NCCL_TEST(one_communicator_is_for_one_gpu)
{
    char text[LOG_BYTES];
    dpr_device_t *other = NULL;
    dpr_channel_close(make_channel(test, 0, 1, BYTES));
    CHECK(test, dpr_cuda_device_create(4 + test->rank, DPR_CLOCK_WALL, &other) == DPR_OK);
    dpr_comm_set_device(test->comm, other);
    CHECK(test, try_channel(test, text, sizeof text) == DPR_ERR_UNSUPPORTED);
    CHECK(test, strstr(text, "cannot go to GPU") != NULL || strstr(text, "cannot use") != NULL);
    dpr_comm_set_device(test->comm, test->device);
    dpr_device_destroy(other);
}

/* In each direction, from both sides, with a channel and without. */
NCCL_TEST(a_link_is_measured_over_its_channel)
{
    dpr_link_measure_t measure = {0};
    dpr_link_measure_t all[RANKS];
    for (int opened = 0; opened < 2; opened++) {
        dpr_comm_channel_t *channel = opened ? make_channel(test, 1, 0, BYTES) : NULL;
        const unsigned long before = standin_calls("ncclSend");
        meet(test);
        if (test->rank < 2) {
            CHECK(test,
                  dpr_comm_measure_link(test->comm, 1 - test->rank, BYTES, 6, &measure) == DPR_OK);
        }
        CHECK(test, dpr_comm_allgather(test->comm, &measure, sizeof measure, all) == DPR_OK);
        CHECK(test, (standin_calls("ncclSend") > before) == opened);
        if (test->rank < 2) {
            CHECK(test, all[0].small_sec == all[1].small_sec && measure.small_sec >= 0.0);
            CHECK(test, all[0].large_sec == all[1].large_sec && measure.large_sec >= 0.0);
            CHECK(test, all[0].offset_sec == -all[1].offset_sec);
        }
        meet(test);
        dpr_channel_close(channel);
    }
    expect_errors(true);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    if (test->rank < 2) {
        CHECK(test, dpr_comm_measure_link(test->comm, 1 - test->rank, BYTES, 6 + test->rank,
                                          &measure) == DPR_ERR_MISMATCH);
    }
    meet(test);
    expect_errors(false);
    dpr_channel_close(channel);
}

/* Polls check() until it finds something. */
static dpr_status_t await_fault(rank_test_t *test, char *text, size_t size)
{
    dpr_log_capture_t capture;
    dpr_status_t status = DPR_OK;
    dpr_log_capture_begin(&capture, text, size);
    while (status == DPR_OK) {
        status = dpr_comm_check(test->comm);
        sleep_ms(1);
    }
    CHECK(test, dpr_comm_check(test->comm) == status); /* again, but not told again */
    dpr_log_capture_end(&capture);
    return status;
}

NCCL_TEST(a_fault_is_found_and_names_its_channel)
{
    char text[LOG_BYTES];
    unsigned char *buffer = make_memory(test, BYTES);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    dpr_stream_t *stream = make_stream(test);
    meet(test);
    if (test->rank == 0) {
        standin_inject(&(standin_failure_t){.function = "async:ncclSend", .call = 1});
        CHECK(test, dpr_channel_send(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
    } else if (test->rank == 1) {
        CHECK(test, dpr_channel_recv(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
    }
    if (channel != NULL) {
        CHECK(test, await_fault(test, text, sizeof text) == DPR_ERR_COMM);
        const char *said = strstr(text, "the channel from rank 0 to rank 1");
        CHECK(test, said != NULL && strstr(said + 1, "the channel") == NULL);
    }
    meet(test);
    dpr_comm_interrupt(test->comm);
    CHECK(test, dpr_stream_synchronize(stream) == (channel != NULL ? DPR_ERR_COMM : DPR_OK));
    dpr_channel_close(channel);
    dpr_stream_destroy(stream);
    free_memory(test, buffer);
}

static void *interrupt_soon(void *comm)
{
    sleep_ms(5);
    dpr_comm_interrupt(comm);
    return NULL;
}

/* Rank 1 receives from nobody, and a watchdog of its own interrupts. */
NCCL_TEST(an_interrupt_ends_what_is_under_way)
{
    static const int pair[] = {1, 2};
    pthread_t watchdog;
    unsigned char *buffer = make_memory(test, BYTES);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    dpr_comm_group_t *group = make_group(test, pair, 2);
    dpr_stream_t *stream = make_stream(test);
    dpr_stream_t *idle = make_stream(test);
    if (test->rank == 1) {
        CHECK(test, dpr_channel_recv(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
        CHECK(test, pthread_create(&watchdog, NULL, interrupt_soon, test->comm) == 0);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_ERR_COMM);
        CHECK(test, dpr_stream_synchronize(idle) == DPR_OK);
        pthread_join(watchdog, NULL);
        expect_errors(true);
        CHECK(test, dpr_channel_recv(channel, buffer, BYTES, 0.0, idle) == DPR_ERR_COMM);
        CHECK(test, dpr_group_allreduce_sum(group, buffer, 2, DPR_ELEMENT_FLOAT, 0.0, idle) ==
                        DPR_ERR_COMM);
        expect_errors(false);
        CHECK(test, dpr_comm_check(test->comm) == DPR_OK);
        dpr_comm_interrupt(test->comm); /* once more does no harm */
    }
    meet(test);
    dpr_comm_interrupt(test->comm);
    dpr_channel_close(channel);
    dpr_group_close(group);
    dpr_stream_destroy(stream);
    dpr_stream_destroy(idle);
    free_memory(test, buffer);
}

/* Interrupting while another thread enqueues: each operation works or says that it was interrupted,
 * and the handle does not go while somebody is inside. */
NCCL_TEST(an_interrupt_beside_the_enqueuing_thread)
{
    pthread_t watchdog;
    unsigned char *buffer = make_memory(test, 1);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, 1);
    dpr_stream_t *stream = make_stream(test);
    meet(test);
    expect_errors(true);
    if (channel != NULL) {
        dpr_status_t status = DPR_OK;
        CHECK(test, pthread_create(&watchdog, NULL, interrupt_soon, test->comm) == 0);
        while (status == DPR_OK && dpr_stream_enqueued(stream) < 2000) {
            status = test->rank == 0 ? dpr_channel_send(channel, buffer, 1, 0.0, stream)
                                     : dpr_channel_recv(channel, buffer, 1, 0.0, stream);
            sleep_ms(0);
        }
        CHECK(test, status == DPR_ERR_COMM ||
                        (status == DPR_OK && dpr_stream_synchronize(stream) == DPR_ERR_COMM));
        pthread_join(watchdog, NULL);
        (void)dpr_stream_synchronize(stream);
    }
    meet(test);
    expect_errors(false);
    dpr_comm_interrupt(test->comm);
    dpr_channel_close(channel);
    dpr_stream_destroy(stream);
    free_memory(test, buffer);
}

/* ---- Every call fails once, on rank 0 ---- */

static struct {
    const char *names[FUNCTIONS_MAX];
    unsigned long calls[FUNCTIONS_MAX];
    int count;
    standin_failure_t failure;
    dpr_status_t statuses[RANKS];
    bool said[RANKS];
} drill;

typedef struct parts {
    dpr_comm_channel_t *channel;
    dpr_comm_group_t *group;
    dpr_stream_t *stream;
    unsigned char *buffer;
    float *sum;
} parts_t;

static dpr_status_t play_parts(rank_test_t *test, parts_t *it)
{
    static const int all[] = {0, 1, 2};
    dpr_link_measure_t measure;
    DPR_TRY(dpr_channel_open(test->comm, 0, 1, BYTES, &it->channel));
    DPR_TRY(dpr_group_open(test->comm, all, RANKS, &it->group));
    if (test->rank < 2) {
        DPR_TRY(dpr_comm_measure_link(test->comm, 1 - test->rank, BYTES, 2, &measure));
    }
    if (test->rank == 0) {
        fill_message(it->buffer, BYTES, (message_t){0, 1, 0, 0});
        DPR_TRY(dpr_channel_send(it->channel, it->buffer, BYTES, 0.0, it->stream));
    } else if (test->rank == 1) {
        DPR_TRY(dpr_channel_recv(it->channel, it->buffer, BYTES, 0.0, it->stream));
    }
    it->sum[0] = (float)test->rank;
    return dpr_group_allreduce_sum(it->group, it->sum, 1, DPR_ELEMENT_FLOAT, 0.0, it->stream);
}

/* As a watchdog would: waits until the stream is through, a fault is found, or others gave up. */
static dpr_status_t finish_parts(rank_test_t *test, parts_t *it, dpr_event_t *end)
{
    DPR_TRY(dpr_event_record(end, it->stream));
    for (int i = 0; i < 100; i++) {
        if (dpr_event_query(end)) {
            return dpr_stream_synchronize(it->stream);
        }
        DPR_TRY(dpr_comm_check(test->comm));
        sleep_ms(1);
    }
    return dpr_fail(DPR_ERR_COMM, "rank %d: no patience left", test->rank);
}

/* A NCCL that fails with no error of its own (one rank stops enqueuing) shows as a wait. */
static void drill_scenario(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    dpr_log_capture_t capture;
    parts_t it = {.stream = make_stream(test),
                  .buffer = make_memory(test, BYTES),
                  .sum = make_memory(test, sizeof(float))};
    dpr_event_t *end = make_event(test);
    dpr_comm_nccl_set_patience(test->comm, 0.1);
    memset(it.buffer, 0, BYTES);
    meet(test);
    if (test->rank == 0) {
        standin_inject(&drill.failure);
    }
    meet(test);
    dpr_log_capture_begin(&capture, text, sizeof text);
    dpr_status_t status = play_parts(test, &it);
    if (status == DPR_OK) {
        status = finish_parts(test, &it, end);
    }
    drill.statuses[test->rank] = status;
    dpr_log_capture_end(&capture);
    drill.said[test->rank] = strlen(text) > 0;
    if (dpr_comm_agree(test->comm, status, NULL) != DPR_OK) {
        dpr_comm_interrupt(test->comm);
        expect_errors(true);
    } else {
        CHECK(test, test->rank != 1 || holds_message(it.buffer, BYTES, (message_t){0, 1, 0, 0}));
        CHECK(test, it.sum[0] == 3.0f);
    }
    (void)dpr_stream_synchronize(it.stream);
    meet(test);
    dpr_channel_close(it.channel);
    dpr_group_close(it.group);
    dpr_stream_destroy(it.stream);
    dpr_event_destroy(end);
    free_memory(test, it.buffer);
    free_memory(test, it.sum);
}

/* What is only released or asked, or synchronized once more at the end. */
static bool may_be_survived(const char *function)
{
    static const char *const names[] = {
        "cudaEventDestroy",      "cudaStreamDestroy",     "cudaFree",
        "cudaGetLastError",      "cudaGetErrorName",      "ncclGetErrorString",
        "cudaGetErrorString",    "cudaEventQuery",        "cudaFreeHost",
        "cudaMemGetInfo",        "cudaDriverGetVersion",  "cudaRuntimeGetVersion",
        "cudaDeviceGetPCIBusId", "cudaStreamSynchronize", "ncclCommDestroy",
        "ncclCommAbort",         "ncclCommGetAsyncError"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(function, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void drill_call(const char *function, unsigned long call)
{
    drill.failure =
        (standin_failure_t){.function = function, .call = call, .on_device = true, .device = 0};
    const int failures = suite_run(drill_scenario, DPR_CLOCK_WALL, call, 1);
    expect_errors(false);
    bool all_fine = true;
    for (int rank = 0; rank < RANKS; rank++) {
        all_fine = all_fine && drill.statuses[rank] == DPR_OK;
    }
    if (failures > 0) {
        fail_msg("call %lu of %s fails: %d things went wrong", call, function, failures);
    }
    if (all_fine && standin_failed() && !may_be_survived(function)) {
        fail_msg("call %lu of %s fails, and nobody says so", call, function);
    }
    if (drill.statuses[0] != DPR_OK && !drill.said[0]) {
        fail_msg("call %lu of %s fails without a message", call, function);
    }
}

static void count_calls(rank_test_t *test)
{
    drill_scenario(test);
    meet(test);
    if (test->rank == 0) {
        drill.count = standin_functions(drill.names, FUNCTIONS_MAX);
        for (int i = 0; i < drill.count; i++) {
            drill.calls[i] = standin_calls(drill.names[i]);
        }
    }
    meet(test);
}

/* Of calls that are made often (polls), the first only; calls are counted on rank 0's GPU. */
static void every_call_fails_once_on_one_rank(void **state)
{
    (void)state;
    enum { OFTEN = 40 };
    int failed = 0;
    int functions = 0;
    suite_let_ranks_be_left_behind();
    drill.failure = (standin_failure_t){.function = "ncclSend", .call = 0, .on_device = true};
    assert_int_equal(suite_run(count_calls, DPR_CLOCK_WALL, 0, 1), 0);
    for (int i = 0; i < drill.count; i++) {
        const unsigned long calls = drill.calls[i] / RANKS < OFTEN ? drill.calls[i] : 3;
        functions += drill.calls[i] > 0 ? 1 : 0;
        for (unsigned long call = 1; call <= calls; call++) {
            drill_call(drill.names[i], call);
            if (!standin_failed()) { /* rank 0 makes fewer */
                break;
            }
            failed++;
        }
    }
    print_message("%d calls of %d functions failed once each\n", failed, functions);
    assert_true(failed > functions / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_communicator_says_what_carries_it_test),
        cmocka_unit_test(each_channel_and_group_has_its_own_bounded_communicator_test),
        cmocka_unit_test(two_ranks_on_one_gpu_are_refused_with_the_way_out_test),
        cmocka_unit_test(a_host_device_is_refused_on_every_rank_test),
        cmocka_unit_test(one_communicator_is_for_one_gpu_test),
        cmocka_unit_test(a_link_is_measured_over_its_channel_test),
        cmocka_unit_test(a_fault_is_found_and_names_its_channel_test),
        cmocka_unit_test(an_interrupt_ends_what_is_under_way_test),
        cmocka_unit_test(an_interrupt_beside_the_enqueuing_thread_test),
        cmocka_unit_test(every_call_fails_once_on_one_rank),
    };
    if (suite_begin("nccl", RANKS) != DPR_OK) {
        return 1;
    }
    return cmocka_run_group_tests_name("nccl", tests, NULL, NULL);
}
