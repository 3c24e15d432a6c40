/*
 * What communicators may take of a GPU: CTAs for half of its multiprocessors, or an opening is
 * refused on every rank with the way out; what they are said to need; and the NCCL that is needed,
 * also for recordings.
 * Over the stand-in, whose GPUs have 132 multiprocessors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "comm/nccl/nccl_impl.h"
#include "comm_testing.h"

enum { RANKS = 3, BYTES = 1000, LOG_BYTES = 2048 };

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

/* Runs the scenario with a variable of the environment set. */
static void run_with(const char *variable, const char *value, scenario_fn_t scenario)
{
    char before[32] = "";
    const char *set = getenv(variable);
    snprintf(before, sizeof before, "%s", set != NULL ? set : "");
    assert_int_equal(setenv(variable, value, 1), 0);
    assert_int_equal(suite_run(scenario, DPR_CLOCK_WALL, 1, 1), 0);
    assert_int_equal(set != NULL ? setenv(variable, before, 1) : unsetenv(variable), 0);
}

/* The next channel from rank 0 to rank 1 is refused on every rank, with these words on the two that
 * it is for. */
static void expect_no_room(rank_test_t *test, const char *const *words)
{
    char text[LOG_BYTES];
    CHECK(test, try_channel(test, text, sizeof text) == DPR_ERR_UNSUPPORTED);
    for (const char *const *word = words; *word != NULL; word++) {
        if (strstr(text, test->rank < 2 ? *word : "rank 0 cannot use NCCL") == NULL) {
            fprintf(stderr, "not said: %s: %s\n", *word, text);
            test->failures++;
        }
    }
}

/* 17 CTAs are 32 for a channel, as NCCL rounds them, and 17 for a group: two channels fit into half
 * of the multiprocessors, a group beside one channel does, and nothing beside two. */
static void open_what_fits(rank_test_t *test)
{
    static const int all[] = {0, 1, 2};
    dpr_comm_channel_t *first = make_channel(test, 0, 1, BYTES);
    dpr_comm_channel_t *second = make_channel(test, 1, 0, BYTES);
    expect_no_room(test,
                   (const char *const[]){"3 NCCL communicators could hold 96 of the GPU's 132",
                                         "--comm-ctas, which is 2", "--comm mpi", NULL});
    dpr_channel_close(first); /* nothing of it runs any more */
    dpr_comm_group_t *group = make_group(test, all, 3);
    expect_no_room(test, (const char *const[]){"3 NCCL communicators could hold 81", NULL});
    meet(test);
    dpr_channel_close(second);
    dpr_group_close(group);
}

static void ctas_for_more_than_half_of_the_multiprocessors_are_refused(void **state)
{
    (void)state;
    run_with("NCCL_MIN_CTAS", "17", open_what_fits);
}

/* Exactly half is not more. */
static void open_half(rank_test_t *test)
{
    static const int all[] = {0, 1, 2};
    dpr_group_close(make_group(test, all, 3));
}

static void open_more_than_half(rank_test_t *test)
{
    static const int all[] = {0, 1, 2};
    dpr_comm_group_t *group = NULL;
    expect_errors(true);
    CHECK(test, dpr_group_open(test->comm, all, 3, &group) == DPR_ERR_UNSUPPORTED);
    meet(test);
    expect_errors(false);
}

static void exactly_half_is_allowed(void **state)
{
    (void)state;
    run_with("NCCL_MIN_CTAS", "66", open_half);
    run_with("NCCL_MIN_CTAS", "67", open_more_than_half);
}

static void an_old_nccl_is_refused(void **state)
{
    (void)state;
    char text[LOG_BYTES];
    dpr_log_capture_t capture;
    assert_int_equal(dpr_nccl_check_version(22200), DPR_OK);
    dpr_log_capture_begin(&capture, text, sizeof text);
    assert_int_equal(dpr_nccl_check_version(22105), DPR_ERR_UNSUPPORTED);
    dpr_log_capture_end(&capture);
    assert_non_null(strstr(text, "NCCL 2.21 is too old"));
    assert_non_null(strstr(text, "--comm mpi"));
}

/* Recorded steps need more: a NCCL that keeps them in order, and the variable that tells it to. */
static void expect_no_record(int version, const char *word)
{
    char text[LOG_BYTES];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, text, sizeof text);
    assert_int_equal(dpr_nccl_check_record(version), DPR_ERR_UNSUPPORTED);
    dpr_log_capture_end(&capture);
    assert_non_null(strstr(text, word));
    assert_non_null(strstr(text, "leave --cuda-graph out"));
}

static void recordings_need_a_nccl_that_keeps_their_order(void **state)
{
    static const char order[] = "NCCL_LAUNCH_ORDER_IMPLICIT";
    static const char mixing[] = "NCCL_GRAPH_MIXING_SUPPORT";
    (void)state;
    assert_int_equal(unsetenv(order), 0);
    assert_int_equal(unsetenv(mixing), 0);
    expect_no_record(22600, "NCCL_LAUNCH_ORDER_IMPLICIT=1, and it is not set");
    dpr_comm_nccl_record_environment();
    assert_string_equal(getenv(mixing), "0");
    assert_int_equal(dpr_nccl_check_record(22600), DPR_OK);
    expect_no_record(22505, "NCCL 2.25 is too old");
    assert_int_equal(dpr_nccl_check_record(NCCL_VERSION_CODE), DPR_OK); /* this build's */
    assert_int_equal(setenv(order, "0", 1), 0);
    dpr_comm_nccl_record_environment(); /* the user's word stands */
    expect_no_record(22600, "and it is 0");
    assert_int_equal(unsetenv(order), 0);
    assert_int_equal(unsetenv(mixing), 0);
}

static size_t bytes_needed(rank_test_t *test, int channels, int groups, int multiprocessors)
{
    dpr_comm_needs_t needs;
    dpr_comm_needs(test->comm, channels, groups, &needs);
    CHECK(test, needs.multiprocessors == multiprocessors);
    return needs.device_bytes;
}

/* 2 CTAs, 4 buffers of 4 MiB each; a group's operations do not run beside kernels. */
static void ask_for_needs(rank_test_t *test)
{
    const size_t mib = (size_t)1 << 20;
    CHECK(test, bytes_needed(test, 0, 0, 0) == 0);
    CHECK(test, bytes_needed(test, 1, 0, 2) == 32 * mib);
    CHECK(test, bytes_needed(test, 8, 2, 16) == 320 * mib);
}

static void with_smaller_buffers(rank_test_t *test)
{
    CHECK(test, bytes_needed(test, 3, 1, 6) == (size_t)4 * 2 * 4 * 1024);
}

static void what_communicators_need_is_known_before(void **state)
{
    (void)state;
    assert_int_equal(suite_run(ask_for_needs, DPR_CLOCK_WALL, 1, 1), 0);
    run_with("NCCL_BUFFSIZE", "1024", with_smaller_buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctas_for_more_than_half_of_the_multiprocessors_are_refused),
        cmocka_unit_test(exactly_half_is_allowed),
        cmocka_unit_test(an_old_nccl_is_refused),
        cmocka_unit_test(recordings_need_a_nccl_that_keeps_their_order),
        cmocka_unit_test(what_communicators_need_is_known_before),
    };
    if (suite_begin("nccl", RANKS) != DPR_OK) {
        return 1;
    }
    return cmocka_run_group_tests_name("nccl_room", tests, NULL, NULL);
}
