/* What becomes of a channel's wrong use and failed transfers: errors on both sides, and no hang. */
#include <string.h>

#include "comm/mpi/mpi_testing.h"
#include "comm_testing.h"

/* Rank 0 sends bytes[0], rank 1 receives bytes[1]; the others have no channel. */
static dpr_status_t enqueue(rank_test_t *test, dpr_comm_channel_t *channel, unsigned char *buffer,
                            const size_t bytes[2], dpr_stream_t *stream)
{
    return channel == NULL   ? DPR_OK
           : test->rank == 0 ? dpr_channel_send(channel, buffer, bytes[0], 0.0, stream)
                             : dpr_channel_recv(channel, buffer, bytes[1], 0.0, stream);
}

/* A message from rank 0 to rank 1 on a new stream, and how it ends there. */
static void send_on_new_stream(rank_test_t *test, dpr_comm_channel_t *channel,
                               unsigned char *buffer, const size_t bytes[2], dpr_status_t end)
{
    dpr_stream_t *stream = make_stream(test);
    settle(test);
    CHECK(test, enqueue(test, channel, buffer, bytes, stream) == DPR_OK);
    CHECK(test, dpr_stream_synchronize(stream) == (channel != NULL ? end : DPR_OK));
    settle(test);
    dpr_stream_destroy(stream);
}

/* Both sides learn of it, neither hangs, and the channel stays in step for new streams. */
static void mismatch_once(rank_test_t *test, dpr_comm_channel_t *channel, size_t send_bytes,
                          size_t receive_bytes)
{
    unsigned char *buffer = make_memory(test, 5000);
    send_on_new_stream(test, channel, buffer, (const size_t[]){send_bytes, receive_bytes},
                       DPR_ERR_MISMATCH);
    fill_message(buffer, 100, (message_t){0, 1, test->rank, 5});
    send_on_new_stream(test, channel, buffer, (const size_t[]){100, 100}, DPR_OK);
    CHECK(test, channel == NULL || holds_message(buffer, 100, (message_t){0, 1, 0, 5}));
    free_memory(test, buffer);
}

void scenario_size_mismatch(rank_test_t *test)
{
    static const size_t sizes[][2] = {{100, 60}, {60, 100},    {0, 8},
                                      {8, 0},    {4500, 4000}, {1, 4999}};
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, 5000);
    const int before = errors_logged();
    expect_errors(true);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mismatch_once(test, channel, sizes[i][0], sizes[i][1]);
    }
    if (test->is_mpi) { /* a payload in several messages is cut short after the first */
        meet(test);
        dpr_comm_mpi_set_chunk_bytes(test->comm, 1000);
        meet(test);
        mismatch_once(test, channel, 3500, 4500);
        mismatch_once(test, channel, 1000, 4500);
        meet(test);
        dpr_comm_mpi_set_chunk_bytes(test->comm, 1 << 30);
    }
    CHECK(test, channel == NULL || errors_logged() > before);
    meet(test);
    expect_errors(false);
    dpr_channel_close(channel);
}

/* A failed stream skips its operations; enqueuing many more than the ring holds must not hang. */
void scenario_failed_stream_does_not_hang(rank_test_t *test)
{
    enum { BYTES = 16 };
    unsigned char *buffer = make_memory(test, BYTES);
    memset(buffer, 0, BYTES);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    dpr_stream_t *stream = make_stream(test);
    expect_errors(true);
    settle(test);
    for (size_t i = 0; i < 5000; i++) {
        const size_t bytes[2] = {i == 0 ? 16 : 8, 8};
        CHECK(test, enqueue(test, channel, buffer, bytes, stream) == DPR_OK);
        if (i == 0) {
            settle(test); /* from here on the failure needs nobody's enqueuing */
        }
    }
    CHECK(test, (dpr_stream_synchronize(stream) == DPR_OK) == (channel == NULL));
    meet(test);
    expect_errors(false);
    dpr_stream_destroy(stream);
    dpr_channel_close(channel);
    free_memory(test, buffer);
}

void scenario_wrong_use(rank_test_t *test)
{
    unsigned char buffer[16] = {0};
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, 8);
    dpr_comm_channel_t *none = NULL;
    dpr_stream_t *stream = make_stream(test);
    meet(test);
    expect_errors(true);
    CHECK(test, dpr_channel_open(test->comm, 0, 0, 8, &none) == DPR_ERR_INVALID);
    CHECK(test, dpr_channel_open(test->comm, 0, test->size, 8, &none) == DPR_ERR_INVALID);
    CHECK(test, dpr_channel_open(test->comm, -1, 0, 8, &none) == DPR_ERR_INVALID);
    if (test->rank == 0) {
        CHECK(test, dpr_channel_send(channel, buffer, 9, 0.0, stream) == DPR_ERR_INVALID);
        CHECK(test, dpr_channel_recv(channel, buffer, 8, 0.0, stream) == DPR_ERR_INVALID);
    } else if (test->rank == 1) {
        CHECK(test, dpr_channel_recv(channel, buffer, 9, 0.0, stream) == DPR_ERR_INVALID);
        CHECK(test, dpr_channel_send(channel, buffer, 8, 0.0, stream) == DPR_ERR_INVALID);
    }
    CHECK(test, none == NULL);
    meet(test);
    expect_errors(false);
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    dpr_stream_destroy(stream);
    dpr_channel_close(channel);
    dpr_channel_close(NULL);
    dpr_group_close(NULL);
}

/* Destroying the communicator closes them; with MPI that is at the end of the suite (suite_end),
 * for the device must outlive them. */
void scenario_left_open(rank_test_t *test)
{
    const int all[] = {0, 1};
    if (!test->is_mpi) {
        (void)make_channel(test, 0, 1, 64);
        (void)make_group(test, all, 2);
    }
}
