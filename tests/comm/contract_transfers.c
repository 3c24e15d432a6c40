/* What a channel promises: order, sizes, rendezvous, and no allocation on the way. */
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

/* In one order, the ring's channels by their senders, rank 0 sends first and receives last. */
static bool receives_first(const rank_test_t *test)
{
    return suite_needs_one_order() && test->rank > 0;
}

/* The messages that go round a ring, and those of them that are under way at once. */
typedef struct ring {
    unsigned char **out;
    unsigned char **in;
    const size_t *bytes;
    int first;
    int end;
} ring_t;

static void send_some(rank_test_t *test, const neighbours_t *it, const ring_t *ring)
{
    for (int i = ring->first; i < ring->end; i++) {
        fill_message(ring->out[i], ring->bytes[i], (message_t){test->rank, it->next, 0, i});
        CHECK(test, dpr_channel_send(it->out, ring->out[i], ring->bytes[i], 0.0, it->out_stream) ==
                        DPR_OK);
    }
}

static void receive_some(rank_test_t *test, const neighbours_t *it, const ring_t *ring)
{
    for (int i = ring->first; i < ring->end; i++) {
        CHECK(test,
              dpr_channel_recv(it->in, ring->in[i], ring->bytes[i], 0.0, it->in_stream) == DPR_OK);
    }
}

static void exchange_some(rank_test_t *test, const neighbours_t *it, const ring_t *ring)
{
    if (receives_first(test)) {
        receive_some(test, it, ring);
        send_some(test, it, ring);
    } else {
        send_some(test, it, ring);
        receive_some(test, it, ring);
    }
    CHECK(test, dpr_stream_synchronize(it->in_stream) == DPR_OK);
    for (int i = ring->first; i < ring->end; i++) {
        CHECK(test, holds_message(ring->in[i], ring->bytes[i],
                                  (message_t){it->before, test->rank, 0, i}));
    }
    CHECK(test, dpr_stream_synchronize(it->out_stream) == DPR_OK);
}

/* `count` messages of the sizes given go round the ring and arrive whole and in order. */
static void ring_exchange(rank_test_t *test, const neighbours_t *it, const size_t *bytes, int count)
{
    enum { MOST = 512 };
    unsigned char *out[MOST];
    unsigned char *in[MOST];
    ring_t ring = {.out = out, .in = in, .bytes = bytes};
    for (int i = 0; i < count; i++) {
        out[i] = make_memory(test, bytes[i]);
        in[i] = make_memory(test, bytes[i]);
    }
    settle(test);
    for (; ring.first < count; ring.first = ring.end) {
        ring.end = ring.first + suite_most_ahead(count - ring.first);
        exchange_some(test, it, &ring);
    }
    settle(test);
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
    const bool waits = !suite_sends_end_early();
    settle(test);
    if (test->rank == 0) {
        CHECK(test, dpr_channel_send(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
        CHECK(test, dpr_event_record(done, stream) == DPR_OK);
        sleep_ms(50);
        CHECK(test, !waits || !dpr_event_query(done)); /* nothing enqueued on the other side */
    }
    meet(test);
    if (test->rank == 1) {
        hold_stream(test, stream, &holder);
        CHECK(test, dpr_channel_recv(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
    }
    meet(test);
    if (test->rank == 0) {
        sleep_ms(50);
        CHECK(test, !waits || !dpr_event_query(done)); /* enqueued there, but not reached */
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
    settle(test);
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
    settle(test);
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    CHECK(test, test->rank != 0 || *byte == 42);
    dpr_stream_destroy(stream);
    dpr_event_destroy(done);
    dpr_channel_close(channel);
    free_memory(test, byte);
}

/* Every rank to every other on several channels at once, sends enqueued before receives everywhere:
 * no message may wait for one of another channel. Where the backend needs one order, that of the
 * channels, on one channel from rank to rank; where streams are few, channels share them. */
typedef struct direction {
    message_t message;
    dpr_comm_channel_t *channel;
    dpr_stream_t *stream;
    bool is_last; /* on its stream */
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
    if (it->is_last) {
        dpr_stream_destroy(it->stream);
    }
    dpr_channel_close(it->channel);
    free_memory(test, it->buffer);
}

/* Opens the channels in their order; returns how many this rank is an end of. */
static int open_directions(rank_test_t *test, direction_t *all, int kinds)
{
    const int pairs = test->size * test->size;
    const int ends = 2 * (test->size - 1) * kinds;
    const int streams = suite_most_streams(ends);
    int count = 0;
    for (int i = 0; i < pairs * kinds; i++) {
        const message_t message = {i / test->size % test->size, i % test->size, i / pairs, 0};
        if (message.source == message.destination) {
            continue;
        }
        dpr_comm_channel_t *channel =
            make_channel(test, message.source, message.destination, DIRECTION_BYTES);
        if (channel != NULL) {
            all[count] = (direction_t){
                .message = message,
                .channel = channel,
                .stream = count < streams ? make_stream(test) : all[count - streams].stream,
                .is_last = count + streams >= ends,
                .buffer = make_memory(test, DIRECTION_MESSAGES * DIRECTION_BYTES)};
            count++;
        }
    }
    return count;
}

static void enqueue_directions(rank_test_t *test, direction_t *all, int count)
{
    const bool in_order = suite_needs_one_order();
    for (int sends = 1; sends >= (in_order ? 1 : 0); sends--) {
        for (int i = 0; i < count; i++) {
            if (in_order || (all[i].message.source == test->rank) == sends) {
                enqueue_direction(test, &all[i]);
            }
        }
    }
}

void scenario_all_directions(rank_test_t *test)
{
    const int kinds = suite_needs_one_order() ? 1 : DIRECTION_KINDS;
    direction_t *all = calloc((size_t)(test->size * test->size * kinds), sizeof *all);
    const int count = open_directions(test, all, kinds);
    CHECK(test, count == 2 * (test->size - 1) * kinds);
    settle(test);
    enqueue_directions(test, all, count);
    settle(test);
    for (int i = 0; i < count; i++) {
        finish_direction(test, &all[i]);
    }
    free(all);
}

/* More operations than either queue holds, far ahead of the other side (on GPUs not so far). */
void scenario_more_than_the_ring(rank_test_t *test)
{
    enum { MESSAGES = 5000 };
    const int ahead = suite_most_ahead(MESSAGES);
    int *buffer = make_memory(test, MESSAGES * sizeof *buffer);
    dpr_comm_channel_t *channel = make_channel(test, 0, 1, sizeof *buffer);
    dpr_stream_t *stream = make_stream(test);
    settle(test);
    if (test->rank == 1) {
        sleep_ms(20);
    }
    for (int i = 0; i < MESSAGES; i++) {
        CHECK(test, i == 0 || i % ahead != 0 || dpr_stream_synchronize(stream) == DPR_OK);
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
    settle(test);
    dpr_stream_destroy(stream);
    dpr_channel_close(channel);
    free_memory(test, buffer);
}

/* A message to the next and one from the one before. */
static void enqueue_neighbours(rank_test_t *test, const neighbours_t *it, unsigned char *out,
                               unsigned char *in)
{
    for (int sends = receives_first(test) ? 0 : 1, i = 0; i < 2; i++, sends = !sends) {
        CHECK(test, (sends ? dpr_channel_send(it->out, out, 4096, 0.0, it->out_stream)
                           : dpr_channel_recv(it->in, in, 4096, 0.0, it->in_stream)) == DPR_OK);
    }
}

void scenario_no_allocation(rank_test_t *test)
{
    enum { ROUNDS = 700 };
    static const int pair[] = {0, 1};
    const int ahead = suite_most_ahead(ROUNDS);
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
        enqueue_neighbours(test, &it, out, in);
        if (group != NULL) {
            CHECK(test, dpr_group_allreduce_sum(group, sum, 1000, DPR_ELEMENT_FLOAT, 0.0,
                                                group_stream) == DPR_OK);
        }
        if ((i + 1) % ahead == 0) {
            CHECK(test, dpr_stream_synchronize(it.out_stream) == DPR_OK);
            CHECK(test, dpr_stream_synchronize(it.in_stream) == DPR_OK);
            CHECK(test, dpr_stream_synchronize(group_stream) == DPR_OK);
        }
    }
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
