/* What a channel promises: order, sizes, rendezvous, errors, and no allocation on the way. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "comm/mpi/mpi_testing.h"
#include "comm_testing.h"

/* A ring of ranks: everyone sends to the next and receives from the one before. */
typedef struct neighbours {
    int next;
    int before;
    dpr_comm_channel_t *out;
    dpr_comm_channel_t *in;
    dpr_stream_t *out_stream;
    dpr_stream_t *in_stream;
} neighbours_t;

static neighbours_t join_neighbours(rank_test_t *test, size_t max_bytes)
{
    neighbours_t it = {.next = (test->rank + 1) % test->size,
                       .before = (test->rank + test->size - 1) % test->size};
    for (int source = 0; source < test->size; source++) {
        const int destination = (source + 1) % test->size;
        dpr_comm_channel_t *channel = make_channel(test, source, destination, max_bytes);
        if (source == test->rank) {
            it.out = channel;
        }
        if (destination == test->rank) {
            it.in = channel;
        }
    }
    it.out_stream = make_stream(test);
    it.in_stream = make_stream(test);
    return it;
}

static void part_neighbours(neighbours_t *it)
{
    dpr_stream_destroy(it->out_stream);
    dpr_stream_destroy(it->in_stream);
    dpr_channel_close(it->out);
    dpr_channel_close(it->in);
}

static void send_all(rank_test_t *test, const neighbours_t *it, unsigned char **buffers,
                     const size_t *bytes, int count)
{
    for (int i = 0; i < count; i++) {
        fill_message(buffers[i], bytes[i], (message_t){test->rank, it->next, 0, i});
        CHECK(test, dpr_channel_send(it->out, buffers[i], bytes[i], 0.0, it->out_stream) == DPR_OK);
    }
}

static void receive_all(rank_test_t *test, const neighbours_t *it, unsigned char **buffers,
                        const size_t *bytes, int count)
{
    for (int i = 0; i < count; i++) {
        CHECK(test, dpr_channel_recv(it->in, buffers[i], bytes[i], 0.0, it->in_stream) == DPR_OK);
    }
    CHECK(test, dpr_stream_synchronize(it->in_stream) == DPR_OK);
    for (int i = 0; i < count; i++) {
        CHECK(test, holds_message(buffers[i], bytes[i], (message_t){it->before, test->rank, 0, i}));
    }
}

/* `count` messages of the sizes given go round the ring and arrive whole and in order. */
static void ring_exchange(rank_test_t *test, const neighbours_t *it, const size_t *bytes, int count)
{
    enum { MOST = 512 };
    unsigned char *out[MOST];
    unsigned char *in[MOST];
    for (int i = 0; i < count; i++) {
        out[i] = make_memory(test, bytes[i]);
        in[i] = make_memory(test, bytes[i]);
    }
    send_all(test, it, out, bytes, count);
    receive_all(test, it, in, bytes, count);
    CHECK(test, dpr_stream_synchronize(it->out_stream) == DPR_OK);
    for (int i = 0; i < count; i++) {
        free_memory(test, out[i]);
        free_memory(test, in[i]);
    }
}

void scenario_fifo(rank_test_t *test)
{
    enum { MESSAGES = 300 };
    size_t bytes[MESSAGES];
    for (uint64_t i = 0; i < MESSAGES; i++) {
        bytes[i] = dpr_random_bits(test->seed, 1, i) % 3000;
    }
    neighbours_t it = join_neighbours(test, 3000);
    ring_exchange(test, &it, bytes, MESSAGES);
    part_neighbours(&it);
}

void scenario_sizes(rank_test_t *test)
{
    static const size_t bytes[] = {0, 1, 4, 0, 4095, 4096, 65537, (3 << 20) + 1, 7, 0};
    neighbours_t it = join_neighbours(test, (3 << 20) + 1);
    ring_exchange(test, &it, bytes, (int)(sizeof bytes / sizeof *bytes));
    part_neighbours(&it);
}

/* MPI counts in int, so a long transfer takes several messages; here "long" starts at 1000 bytes.
 */
void scenario_chunks(rank_test_t *test)
{
    static const size_t bytes[] = {999, 1000, 1001, 0, 2000, 123457, 1};
    if (!test->is_mpi) {
        return;
    }
    neighbours_t it = join_neighbours(test, 123457);
    dpr_comm_mpi_set_chunk_bytes(test->comm, 1000);
    meet(test);
    ring_exchange(test, &it, bytes, (int)(sizeof bytes / sizeof *bytes));
    meet(test);
    dpr_comm_mpi_set_chunk_bytes(test->comm, 1 << 30);
    part_neighbours(&it);
}

/* Four bytes would fit into any eager buffer: the send must wait all the same. */
void scenario_send_waits_for_receive(rank_test_t *test)
{
    enum { BYTES = 4 };
    unsigned char *buffer = make_memory(test, BYTES);
    holder_t holder;
    fill_message(buffer, BYTES, (message_t){0, 1, test->rank, 0});
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
    dpr_stream_t *stream = make_stream(test);
    dpr_event_t *done = make_event(test);
    if (test->rank == 0) {
        CHECK(test, dpr_channel_send(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
        CHECK(test, dpr_event_record(done, stream) == DPR_OK);
        sleep_ms(50);
        CHECK(test, !dpr_event_query(done)); /* nothing is enqueued on the other side */
    }
    meet(test);
    if (test->rank == 1) {
        hold_stream(test, stream, &holder);
        CHECK(test, dpr_channel_recv(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
    }
    meet(test);
    if (test->rank == 0) {
        sleep_ms(50);
        CHECK(test, !dpr_event_query(done)); /* enqueued there, but not reached */
    }
    meet(test);
    if (test->rank == 1) {
        release_stream(&holder);
    }
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    CHECK(test, test->rank != 0 || dpr_event_query(done));
    CHECK(test, test->rank != 1 || holds_message(buffer, BYTES, (message_t){0, 1, 0, 0}));
    dpr_stream_destroy(stream);
    dpr_event_destroy(done);
    dpr_channel_close(channel);
    free_memory(test, buffer);
}

void scenario_receive_waits_for_send(rank_test_t *test)
{
    unsigned char *byte = make_memory(test, 1);
    *byte = test->rank == 1 ? 42 : 0;
    dpr_comm_channel_t *channel = make_channel(test, 1, 0, 1);
    dpr_stream_t *stream = make_stream(test);
    dpr_event_t *done = make_event(test);
    if (test->rank == 0) {
        CHECK(test, dpr_channel_recv(channel, byte, 1, 0.0, stream) == DPR_OK);
        CHECK(test, dpr_event_record(done, stream) == DPR_OK);
        sleep_ms(20);
        CHECK(test, !dpr_event_query(done));
    }
    meet(test);
    if (test->rank == 1) {
        CHECK(test, dpr_channel_send(channel, byte, 1, 0.0, stream) == DPR_OK);
    }
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    CHECK(test, test->rank != 0 || *byte == 42);
    dpr_stream_destroy(stream);
    dpr_event_destroy(done);
    dpr_channel_close(channel);
    free_memory(test, byte);
}

/* Every rank to every other on several channels at once, sends enqueued before receives everywhere:
 * no message may wait for one of another channel. */
typedef struct direction {
    message_t message;
    dpr_comm_channel_t *channel;
    dpr_stream_t *stream;
    unsigned char *buffer;
} direction_t;

enum { DIRECTION_MESSAGES = 20, DIRECTION_BYTES = 700, DIRECTION_KINDS = 2 };

static void enqueue_direction(rank_test_t *test, direction_t *it)
{
    for (int i = 0; i < DIRECTION_MESSAGES; i++) {
        unsigned char *at = it->buffer + (size_t)i * DIRECTION_BYTES;
        if (it->message.source == test->rank) {
            it->message.number = i;
            fill_message(at, DIRECTION_BYTES, it->message);
            CHECK(test,
                  dpr_channel_send(it->channel, at, DIRECTION_BYTES, 0.0, it->stream) == DPR_OK);
        } else {
            CHECK(test,
                  dpr_channel_recv(it->channel, at, DIRECTION_BYTES, 0.0, it->stream) == DPR_OK);
        }
    }
}

static void finish_direction(rank_test_t *test, direction_t *it)
{
    CHECK(test, dpr_stream_synchronize(it->stream) == DPR_OK);
    for (int i = 0; i < DIRECTION_MESSAGES; i++) {
        it->message.number = i;
        CHECK(test, holds_message(it->buffer + (size_t)i * DIRECTION_BYTES, DIRECTION_BYTES,
                                  it->message));
    }
    dpr_stream_destroy(it->stream);
    dpr_channel_close(it->channel);
    free_memory(test, it->buffer);
}

void scenario_all_directions(rank_test_t *test)
{
    const int pairs = test->size * test->size;
    direction_t *all = calloc((size_t)(pairs * DIRECTION_KINDS), sizeof *all);
    int count = 0;
    for (int i = 0; i < pairs * DIRECTION_KINDS; i++) {
        const message_t message = {i / test->size % test->size, i % test->size, i / pairs, 0};
        if (message.source == message.destination) {
            continue;
        }
        dpr_comm_channel_t *channel =
            make_channel(test, message.source, message.destination, DIRECTION_BYTES);
        if (channel != NULL) {
            all[count++] = (direction_t){message, channel, make_stream(test),
                                         make_memory(test, DIRECTION_MESSAGES * DIRECTION_BYTES)};
        }
    }
    for (int sends = 1; sends >= 0; sends--) {
        for (int i = 0; i < count; i++) {
            if ((all[i].message.source == test->rank) == sends) {
                enqueue_direction(test, &all[i]);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        finish_direction(test, &all[i]);
    }
    free(all);
}

/* More operations than either queue holds, far ahead of the other side. */
void scenario_more_than_the_ring(rank_test_t *test)
{
    enum { MESSAGES = 5000 };
    int *buffer = make_memory(test, MESSAGES * sizeof *buffer);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, sizeof *buffer);
    dpr_stream_t *stream = make_stream(test);
    if (test->rank == 1) {
        sleep_ms(20);
    }
    for (int i = 0; i < MESSAGES; i++) {
        if (test->rank == 0) {
            buffer[i] = i;
            CHECK(test,
                  dpr_channel_send(channel, &buffer[i], sizeof *buffer, 0.0, stream) == DPR_OK);
        } else if (test->rank == 1) {
            CHECK(test,
                  dpr_channel_recv(channel, &buffer[i], sizeof *buffer, 0.0, stream) == DPR_OK);
        }
    }
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    for (int i = 0; i < MESSAGES && test->rank == 1; i++) {
        CHECK(test, buffer[i] == i);
    }
    dpr_stream_destroy(stream);
    dpr_channel_close(channel);
    free_memory(test, buffer);
}

/* Both sides learn of it, neither hangs, and the channel stays in step for new streams. */
static void mismatch_once(rank_test_t *test, dpr_comm_channel_t *channel, size_t send_bytes,
                          size_t receive_bytes)
{
    unsigned char *buffer = make_memory(test, 5000);
    if (channel != NULL) {
        dpr_stream_t *stream = make_stream(test);
        CHECK(test, (test->rank == 0 ? dpr_channel_send(channel, buffer, send_bytes, 0.0, stream)
                                     : dpr_channel_recv(channel, buffer, receive_bytes, 0.0,
                                                        stream)) == DPR_OK);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_ERR_MISMATCH);
        dpr_stream_destroy(stream);

        stream = make_stream(test);
        fill_message(buffer, 100, (message_t){0, 1, test->rank, 5});
        CHECK(test,
              (test->rank == 0 ? dpr_channel_send(channel, buffer, 100, 0.0, stream)
                               : dpr_channel_recv(channel, buffer, 100, 0.0, stream)) == DPR_OK);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
        CHECK(test, holds_message(buffer, 100, (message_t){0, 1, 0, 5}));
        dpr_stream_destroy(stream);
    }
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
    for (size_t i = 0; i < 5000 && channel != NULL; i++) {
        CHECK(test,
              (test->rank == 0 ? dpr_channel_send(channel, buffer, i == 0 ? 16 : 8, 0.0, stream)
                               : dpr_channel_recv(channel, buffer, 8, 0.0, stream)) == DPR_OK);
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

void scenario_no_allocation(rank_test_t *test)
{
    enum { ROUNDS = 700 };
    static const int pair[] = {0, 1};
    neighbours_t it = join_neighbours(test, 4096);
    dpr_comm_group_t *group = make_group(test, pair, 2);
    dpr_stream_t *group_stream = make_stream(test);
    unsigned char *out = make_memory(test, 4096);
    unsigned char *in = make_memory(test, 4096);
    float *sum = make_memory(test, 1000 * sizeof *sum);
    memset(out, 0, 4096);
    memset(sum, 0, 1000 * sizeof *sum);
    meet(test);
    const unsigned long before = allocations_so_far();
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(test, dpr_channel_send(it.out, out, 4096, 0.0, it.out_stream) == DPR_OK);
        CHECK(test, dpr_channel_recv(it.in, in, 4096, 0.0, it.in_stream) == DPR_OK);
        if (group != NULL) {
            CHECK(test, dpr_group_allreduce_sum(group, sum, 1000, DPR_ELEMENT_FLOAT, 0.0,
                                                group_stream) == DPR_OK);
        }
    }
    CHECK(test, dpr_stream_synchronize(it.out_stream) == DPR_OK);
    CHECK(test, dpr_stream_synchronize(it.in_stream) == DPR_OK);
    CHECK(test, dpr_stream_synchronize(group_stream) == DPR_OK);
    meet(test);
    CHECK(test, allocations_so_far() == before);
    meet(test);
    dpr_group_close(group);
    dpr_stream_destroy(group_stream);
    part_neighbours(&it);
    free_memory(test, out);
    free_memory(test, in);
    free_memory(test, sum);
}
