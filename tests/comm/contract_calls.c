/* What the blocking calls promise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm_testing.h"

enum { RANKS_MAX = 64 };

static size_t gathered_bytes(int rank)
{
    return rank % 3 == 1 ? 0 : (size_t)(rank * 1777 + 5);
}

static void check_gather(rank_test_t *test, int root)
{
    size_t bytes[RANKS_MAX];
    size_t total = 0;
    for (int rank = 0; rank < test->size; rank++) {
        bytes[rank] = gathered_bytes(rank);
        total += bytes[rank];
    }
    unsigned char *mine = calloc(bytes[test->rank] + 1, 1);
    unsigned char *all = calloc(total + 1, 1);
    fill_message(mine, bytes[test->rank], (message_t){test->rank, root, 0, 0});
    CHECK(test, dpr_comm_gather(test->comm, root, mine, bytes, test->rank == root ? all : NULL) ==
                    DPR_OK);
    size_t at = 0;
    for (int rank = 0; rank < test->size && test->rank == root; rank++) {
        CHECK(test, holds_message(all + at, bytes[rank], (message_t){rank, root, 0, 0}));
        at += bytes[rank];
    }
    CHECK(test, all[total] == 0);
    free(mine);
    free(all);
}

static void check_allgather(rank_test_t *test, size_t bytes)
{
    const size_t size = (size_t)test->size;
    unsigned char *mine = calloc(bytes + 1, 1);
    unsigned char *all = calloc(size * bytes + 1, 1);
    fill_message(mine, bytes, (message_t){test->rank, 0, 1, 0});
    CHECK(test, dpr_comm_allgather(test->comm, mine, bytes, all) == DPR_OK);
    for (size_t rank = 0; rank < size; rank++) {
        CHECK(test, holds_message(all + rank * bytes, bytes, (message_t){(int)rank, 0, 1, 0}));
    }
    free(mine);
    free(all);
}

static void check_barrier(rank_test_t *test)
{
    struct timespec left;
    struct timespec latest;
    double times[2 * RANKS_MAX];
    sleep_ms(test->rank == 0 ? 30 : 0);
    clock_gettime(CLOCK_MONOTONIC, &left);
    meet(test);
    clock_gettime(CLOCK_MONOTONIC, &latest);
    const double mine[2] = {(double)left.tv_sec + 1e-9 * (double)left.tv_nsec,
                            (double)latest.tv_sec + 1e-9 * (double)latest.tv_nsec};
    CHECK(test, dpr_comm_allgather(test->comm, mine, sizeof mine, times) == DPR_OK);
    for (int rank = 0; rank < test->size; rank++) { /* all ranks are on this node here */
        CHECK(test, times[2 * rank] <= mine[1]);
    }
}

static void check_description(rank_test_t *test)
{
    char text[128] = "";
    char all[RANKS_MAX][sizeof text];
    dpr_comm_describe(test->comm, text, sizeof text);
    CHECK(test, strlen(text) >= 3 && strchr(text, '\n') == NULL);
    CHECK(test, dpr_comm_allgather(test->comm, text, sizeof text, all) == DPR_OK);
    for (int rank = 0; rank < test->size; rank++) {
        CHECK(test, strcmp(all[rank], text) == 0);
    }
}

void scenario_blocking_calls(rank_test_t *test)
{
    check_description(test);
    CHECK(test, dpr_comm_node_size(test->comm) >= 1);
    CHECK(test, dpr_comm_node_rank(test->comm) < dpr_comm_node_size(test->comm));
    check_barrier(test);
    check_allgather(test, 0);
    check_allgather(test, 1);
    check_allgather(test, 70001);
    for (int root = 0; root < test->size; root++) {
        check_gather(test, root);
    }
}

/* A rank waits in a barrier while its streams still receive: the calls must not stop transfers. */
void scenario_calls_beside_transfers(rank_test_t *test)
{
    int *value = make_memory(test, sizeof *value);
    *value = test->rank == 0 ? 77 : 0;
    holder_t holder;
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, sizeof *value);
    dpr_stream_t *stream = make_stream(test);
    settle(test);
    if (test->rank == 0) {
        hold_stream(test, stream, &holder);
        CHECK(test, dpr_channel_send(channel, value, sizeof *value, 0.0, stream) == DPR_OK);
        sleep_ms(20); /* the others are in the barrier, rank 1 with its receive under way */
        release_stream(&holder);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
        meet(test);
    } else {
        CHECK(test, channel == NULL ||
                        dpr_channel_recv(channel, value, sizeof *value, 0.0, stream) == DPR_OK);
        meet(test);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
        CHECK(test, channel == NULL || *value == 77);
    }
    dpr_stream_destroy(stream);
    dpr_channel_close(channel);
    free_memory(test, value);
}

void scenario_agree(rank_test_t *test)
{
    int culprit = -1;
    CHECK(test, dpr_comm_agree(test->comm, DPR_OK, &culprit) == DPR_OK);
    CHECK(test, culprit == -1);
    const dpr_status_t mine = test->rank == test->size - 1   ? DPR_ERR_IO
                              : test->rank == test->size / 2 ? DPR_ERR_DATA
                                                             : DPR_OK;
    const int lowest = test->size == 1 ? 0 : test->size / 2;
    const dpr_status_t expected = lowest == test->size - 1 ? DPR_ERR_IO : DPR_ERR_DATA;
    CHECK(test, dpr_comm_agree(test->comm, mine, &culprit) == expected);
    CHECK(test, culprit == lowest);
    CHECK(test, dpr_comm_agree(test->comm, mine, NULL) == expected);
}

/* When this rank's wall clock was zero, by the node's clock. */
static double clock_zero_sec(rank_test_t *test)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - dpr_device_wall_sec(test->device);
}

void scenario_measure_link(rank_test_t *test)
{
    const int peer = test->rank ^ 1;
    dpr_link_measure_t measure = {0};
    dpr_link_measure_t all[RANKS_MAX] = {{0}};
    double zeros[RANKS_MAX];
    sleep_ms(test->rank);
    dpr_device_clock_rebase(test->device); /* so that the offsets are not all nothing */
    const double zero = clock_zero_sec(test);
    for (int pair = 0; pair + 1 < test->size; pair += 2) {
        if (test->rank == pair || test->rank == pair + 1) {
            CHECK(test, dpr_comm_measure_link(test->comm, peer, 100000, 20, &measure) == DPR_OK);
            CHECK(test, measure.small_sec > 0.0 && measure.small_sec < 1.0);
            CHECK(test, measure.large_sec > 0.0 && measure.large_sec < 1.0);
        }
        meet(test);
    }
    CHECK(test, dpr_comm_allgather(test->comm, &measure, sizeof measure, all) == DPR_OK);
    CHECK(test, dpr_comm_allgather(test->comm, &zero, sizeof zero, zeros) == DPR_OK);
    if (peer < test->size) {
        CHECK(test, measure.small_sec == all[peer].small_sec);
        CHECK(test, measure.large_sec == all[peer].large_sec);
        CHECK(test, measure.offset_sec == -all[peer].offset_sec);
        const double offset = zero - zeros[peer];
        CHECK(test, fabs(measure.offset_sec - offset) < measure.small_sec + 1e-3);
    }
    meet(test);
    expect_errors(true);
    CHECK(test, dpr_comm_measure_link(test->comm, test->rank, 8, 20, &measure) == DPR_ERR_INVALID);
    CHECK(test, dpr_comm_measure_link(test->comm, test->size, 8, 20, &measure) == DPR_ERR_INVALID);
    if (test->rank < 2) {
        CHECK(test, dpr_comm_measure_link(test->comm, peer, 8, 20 + test->rank, &measure) ==
                        DPR_ERR_MISMATCH);
    }
    meet(test);
    expect_errors(false);
}

/* Ranks that do not open the same get an error on every one of them, not a hang. */
void scenario_opening_disagrees(rank_test_t *test)
{
    const bool odd_one = test->rank == test->size - 1;
    const int ranks[] = {0, 1};
    dpr_comm_channel_t *channel = NULL;
    dpr_comm_group_t *group = NULL;
    expect_errors(true);
    CHECK(test, dpr_channel_open(test->comm, 0, 1, odd_one ? 8 : 9, &channel) == DPR_ERR_MISMATCH);
    CHECK(test, dpr_channel_open(test->comm, odd_one, !odd_one, 8, &channel) == DPR_ERR_MISMATCH);
    CHECK(test, dpr_group_open(test->comm, ranks + odd_one, 1, &group) == DPR_ERR_MISMATCH);
    CHECK(test, (odd_one ? dpr_channel_open(test->comm, 0, 1, 8, &channel)
                         : dpr_group_open(test->comm, ranks, 2, &group)) == DPR_ERR_MISMATCH);
    CHECK(test, dpr_group_open(test->comm, ranks, 0, &group) == DPR_ERR_INVALID);
    CHECK(test, channel == NULL && group == NULL);
    meet(test);
    expect_errors(false);
    channel = make_channel(test, 0, 1, 8); /* and the next that is the same everywhere works */
    dpr_channel_close(channel);
}
