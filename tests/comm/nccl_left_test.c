/*
 * Openings that NCCL does not let go of, over the stand-in: an opening rank gives up after its
 * patience, frees or leaves behind the thread that is inside NCCL, and says so, and what that
 * thread holds goes when it comes out. The linker sends the calls below through this file (--wrap),
 * which refuses them, or holds them up, as the system or NCCL may.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cuda_runtime_api.h>
#include <errno.h>
#include <nccl.h>

#include "base/log.h"
#include "comm/nccl/nccl_testing.h"
#include "comm_testing.h"
#include "standin.h"

enum { RANKS = 3, BYTES = 1000, SEEDS = 1, LOG_BYTES = 2048, SLOW_MS = 1500 };

static const double patience_sec = 0.05; /* a rank that gives up allows one second of grace more */

/* ---- What the system and NCCL do ---- */

static _Thread_local bool refuse_threads;
static atomic_bool hold_receives; /* until a communicator is aborted, as NCCL when it connects */
static atomic_bool aborted;
static atomic_bool free_slowly; /* once */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
ncclResult_t __real_ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer,
                             ncclComm_t comm, cudaStream_t stream);
ncclResult_t __wrap_ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer,
                             ncclComm_t comm, cudaStream_t stream);
ncclResult_t __real_ncclCommAbort(ncclComm_t comm);
ncclResult_t __wrap_ncclCommAbort(ncclComm_t comm);
cudaError_t __real_cudaFree(void *memory);
cudaError_t __wrap_cudaFree(void *memory);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    return refuse_threads ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

ncclResult_t __wrap_ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer,
                             ncclComm_t comm, cudaStream_t stream)
{
    if (!atomic_load(&hold_receives)) {
        return __real_ncclRecv(buffer, count, type, peer, comm, stream);
    }
    while (!atomic_load(&aborted)) {
        sleep_ms(1);
    }
    return ncclInternalError; /* the handle is gone */
}

ncclResult_t __wrap_ncclCommAbort(ncclComm_t comm)
{
    const ncclResult_t result = __real_ncclCommAbort(comm);
    atomic_store(&aborted, true);
    return result;
}

cudaError_t __wrap_cudaFree(void *memory)
{
    if (atomic_exchange(&free_slowly, false)) {
        sleep_ms(SLOW_MS);
    }
    return __real_cudaFree(memory);
}

/* ---- Openings ---- */

/* Opens the channel from rank 0 to rank 1 on all ranks, which must fail; `text` is what was said.
 */
static dpr_status_t fail_to_open(rank_test_t *test, char *text)
{
    dpr_log_capture_t capture;
    dpr_comm_channel_t *channel = NULL;
    dpr_comm_nccl_set_patience(test->comm, patience_sec);
    dpr_log_capture_begin(&capture, text, LOG_BYTES);
    const dpr_status_t status = dpr_channel_open(test->comm, 0, 1, BYTES, &channel);
    dpr_log_capture_end(&capture);
    CHECK(test, status != DPR_OK && channel == NULL);
    return status;
}

static bool says(const char *text, const char *what)
{
    return strstr(text, what) != NULL;
}

typedef struct busy {
    dpr_stream_t *stream;
    unsigned char *memory;
} busy_t;

/* The stand-in takes a thread that waits while nothing happens for a deadlock, too early here. */
static void *keep_busy(void *argument)
{
    const busy_t *busy = argument;
    for (int i = 0; i < SLOW_MS / 50; i++) {
        (void)dpr_stream_fill(busy->stream, busy->memory, 0, BYTES);
        (void)dpr_stream_synchronize(busy->stream);
        sleep_ms(50);
    }
    return NULL;
}

/* Rank 1 cannot start the thread that would meet rank 0, which gives up and leaves its own in
 * ncclCommInitRankConfig. Where no thread can be started to abort a channel, the caller does it. */
static void open_without_a_peer(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    pthread_t thread;
    busy_t busy = {.stream = make_stream(test), .memory = make_memory(test, BYTES)};
    dpr_comm_channel_t *other = make_channel(test, 1, 2, BYTES);
    meet(test);
    if (test->rank == 2) {
        CHECK(test, pthread_create(&thread, NULL, keep_busy, &busy) == 0);
    }
    refuse_threads = test->rank == 1;
    CHECK(test, fail_to_open(test, text) == DPR_ERR_COMM); /* rank 0's, on all */
    if (test->rank == 0) {
        CHECK(test, says(text, "rank 0: cannot open the channel from rank 0 to rank 1: gave up "
                               "waiting for its other ranks"));
    } else if (test->rank == 1) {
        CHECK(test, says(text, "rank 1: cannot start a thread to open the channel from rank 0"));
    } else {
        CHECK(test, pthread_join(thread, NULL) == 0);
    }
    dpr_comm_interrupt(test->comm);
    refuse_threads = false;
    meet(test);
    dpr_channel_close(other);
    dpr_stream_destroy(busy.stream);
    free_memory(test, busy.memory);
}

/* Rank 1's thread is inside its first receive when it gives up: aborting frees it. */
static void open_held_up_in_the_first_operation(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    if (test->rank == 0) {
        atomic_store(&aborted, false);
        atomic_store(&hold_receives, true);
    }
    meet(test);
    CHECK(test, fail_to_open(test, text) == DPR_ERR_COMM);
    CHECK(test, test->rank != 1 || says(text, "rank 1: cannot open the channel from rank 0"));
    meet(test);
    atomic_store(&hold_receives, false);
}

/* Both have met and exchanged a message, but one is not done before the patience is: it leaves its
 * thread behind, which aborts what it has made when it comes to its end. */
static void open_too_late(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    static atomic_int gave_up;
    if (test->rank == 0) {
        atomic_store(&gave_up, 0);
        atomic_store(&free_slowly, true);
    }
    meet(test);
    (void)fail_to_open(test, text);
    atomic_fetch_add(&gave_up, says(text, "gave up waiting for its other ranks") ? 1 : 0);
    meet(test);
    CHECK(test, atomic_load(&gave_up) == 1 && !atomic_load(&free_slowly));
    meet(test);
}

static void run(scenario_fn_t scenario)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        assert_int_equal(suite_run(scenario, DPR_CLOCK_WALL, seed, 1), 0);
    }
}

static void a_rank_whose_peer_does_not_come_gives_up(void **state)
{
    (void)state;
    run(open_without_a_peer);
}

static void a_first_operation_that_blocks_is_freed_by_an_abort(void **state)
{
    (void)state;
    run(open_held_up_in_the_first_operation);
}

static void what_is_ready_too_late_is_aborted(void **state)
{
    (void)state;
    run(open_too_late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_whose_peer_does_not_come_gives_up),
        cmocka_unit_test(a_first_operation_that_blocks_is_freed_by_an_abort),
        cmocka_unit_test(what_is_ready_too_late_is_aborted),
    };
    if (suite_begin("nccl", RANKS) != DPR_OK) {
        return 1;
    }
    suite_let_ranks_be_left_behind();
    return cmocka_run_group_tests_name("nccl_left", tests, NULL, NULL);
}
