/*
 * Aborts that could hang, over the stand-in: NCCL frees memory when it aborts, which waits for all
 * that runs on the GPU, so a rank's communicators must be aborted together, and one that hangs
 * nevertheless is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "comm/nccl/nccl_impl.h"
#include "comm/nccl/nccl_testing.h"
#include "comm_testing.h"
#include "standin.h"

enum { RANKS = 3, BYTES = 1000, SEEDS = 5, LOG_BYTES = 2048 };

static void run(scenario_fn_t scenario)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_int_equal(suite_run(scenario, DPR_CLOCK_WALL, seed, 1), 0);
    }
}

/* Rank 1 receives from nobody on two channels and in a group: an abort of one alone would wait for
 * the others' operations, which nobody would end. */
static void abort_several(rank_test_t *test)
{
    enum { LINKS = 3 };
    static const int pair[] = {1, 2};
    unsigned char *buffer = make_memory(test, LINKS * BYTES);
    dpr_stream_t *streams[LINKS] = {make_stream(test), make_stream(test), make_stream(test)};
    dpr_comm_channel_t *channels[] = {make_channel(test, 0, 1, BYTES),
                                      make_channel(test, 2, 1, BYTES)};
    dpr_comm_group_t *group = make_group(test, pair, 2);
    memset(buffer, 0, LINKS * BYTES);
    if (test->rank == 1) {
        for (int i = 0; i < 2; i++) {
            CHECK(test, dpr_channel_recv(channels[i], buffer + i * BYTES, BYTES, 0.0, streams[i]) ==
                            DPR_OK);
        }
        CHECK(test, dpr_group_allreduce_sum(group, buffer + 2 * BYTES, 2, DPR_ELEMENT_FLOAT, 0.0,
                                            streams[2]) == DPR_OK);
        dpr_comm_interrupt(test->comm);
        for (int i = 0; i < LINKS; i++) {
            CHECK(test, dpr_stream_synchronize(streams[i]) == DPR_ERR_COMM);
        }
    }
    meet(test);
    dpr_comm_interrupt(test->comm);
    for (int i = 0; i < 2; i++) {
        dpr_channel_close(channels[i]);
    }
    dpr_group_close(group);
    for (int i = 0; i < LINKS; i++) {
        dpr_stream_destroy(streams[i]);
    }
    free_memory(test, buffer);
}

static int alive_on(int device)
{
    standin_communicator_t list[16];
    const int count = standin_communicators(list, 16);
    int alive = 0;
    for (int i = 0; i < count && i < 16; i++) {
        alive += list[i].device == device ? 1 : 0;
    }
    return alive;
}

/* On rank 1's GPU runs what is not this communicator's, and NCCL waits for it. */
static void abort_beside_a_stranger(rank_test_t *test)
{
    char text[LOG_BYTES] = "";
    dpr_log_capture_t capture;
    dpr_comm_t *stranger = NULL;
    dpr_comm_channel_t *strange = NULL;
    unsigned char *buffer = make_memory(test, BYTES);
    dpr_stream_t *stream = make_stream(test);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    memset(buffer, 0, BYTES);
    CHECK(test, dpr_comm_nccl_create(dpr_comm_nccl(test->comm)->bootstrap, 2, &stranger) == DPR_OK);
    dpr_comm_set_device(stranger, test->device);
    CHECK(test, dpr_channel_open(stranger, 0, 1, BYTES, &strange) == DPR_OK);
    if (test->rank == 1) {
        CHECK(test, dpr_channel_recv(strange, buffer, BYTES, 0.0, stream) == DPR_OK);
        dpr_comm_nccl_set_abort_patience(test->comm, 0.05);
        dpr_log_capture_begin(&capture, text, sizeof text);
        dpr_comm_interrupt(test->comm);
        dpr_log_capture_end(&capture);
        CHECK(test, strstr(text, "rank 1: NCCL has not aborted 1 communicator after 0 s") != NULL);
        CHECK(test, dpr_comm_nccl(test->comm)->stuck && alive_on(1) > 0);
        dpr_comm_interrupt(stranger);
        CHECK(test, !dpr_comm_nccl(stranger)->stuck);
        while (alive_on(1) > 0) { /* the thread that was left behind goes on */
            sleep_ms(1);
        }
        dpr_comm_nccl(test->comm)->stuck = false; /* so that what it kept is freed */
    }
    meet(test);
    dpr_comm_interrupt(test->comm);
    dpr_comm_interrupt(stranger);
    dpr_channel_close(strange);
    dpr_channel_close(channel);
    dpr_comm_destroy(stranger);
    dpr_stream_destroy(stream);
    free_memory(test, buffer);
}

static void what_waits_in_several_communicators_is_aborted_together(void **state)
{
    (void)state;
    run(abort_several);
}

static void an_abort_that_hangs_is_left_behind(void **state)
{
    (void)state;
    run(abort_beside_a_stranger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_in_several_communicators_is_aborted_together),
        cmocka_unit_test(an_abort_that_hangs_is_left_behind),
    };
    if (suite_begin("nccl", RANKS) != DPR_OK) {
        return 1;
    }
    return cmocka_run_group_tests_name("nccl_abort", tests, NULL, NULL);
}
