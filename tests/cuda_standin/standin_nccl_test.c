/* The stand-in's NCCL: rendezvous, order, collectives, misuse, deadlock, abort. */
#include "standin_testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <nccl.h>

enum { MAX_RANKS = 4, COUNT = 100, SEEDS = 25, INVALID = -1 };

#define DONE(call) assert_int_equal((call), ncclSuccess)

/* What each rank's thread plays. */
typedef struct player {
    int rank;
    int ranks;
    int device;
    ncclUniqueId id;
    ncclUniqueId other_id;
    ncclComm_t comm;
    cudaStream_t stream;
    float *buffer;
    ncclResult_t result;
    void (*play)(struct player *player);
} player_t;

static void *play(void *argument)
{
    player_t *player = argument;
    OK(cudaSetDevice(player->device));
    player->play(player);
    return NULL;
}

static void play_all(int ranks, void (*part)(player_t *player), player_t *players)
{
    ncclUniqueId id;
    ncclUniqueId other;
    pthread_t threads[MAX_RANKS];
    DONE(ncclGetUniqueId(&id));
    DONE(ncclGetUniqueId(&other));
    for (int rank = 0; rank < ranks; rank++) {
        players[rank] = (player_t){.rank = rank,
                                   .ranks = ranks,
                                   .device = players[rank].device == INVALID ? 0 : rank,
                                   .id = id,
                                   .other_id = other,
                                   .play = part};
        assert_int_equal(pthread_create(&threads[rank], NULL, play, &players[rank]), 0);
    }
    for (int rank = 0; rank < ranks; rank++) {
        pthread_join(threads[rank], NULL);
    }
}

static void open_all(player_t *player)
{
    player->stream = stream_new();
    player->buffer = device_new(COUNT * sizeof(float));
    DONE(ncclCommInitRank(&player->comm, player->ranks, player->id, player->rank));
}

static void close_all(player_t *player)
{
    OK(cudaStreamSynchronize(player->stream));
    DONE(ncclCommDestroy(player->comm));
    OK(cudaFree(player->buffer));
    OK(cudaStreamDestroy(player->stream));
}

static void fill(player_t *player, float value)
{
    float values[COUNT];
    for (int i = 0; i < COUNT; i++) {
        values[i] = value + (float)i;
    }
    OK(cudaMemcpy(player->buffer, values, sizeof(values), cudaMemcpyHostToDevice));
}

static void assert_filled(player_t *player, float value)
{
    float values[COUNT];
    OK(cudaStreamSynchronize(player->stream));
    OK(cudaMemcpy(values, player->buffer, sizeof(values), cudaMemcpyDeviceToHost));
    for (int i = 0; i < COUNT; i++) {
        assert_true(values[i] == value + (float)i);
    }
}

static void hand_on(player_t *player)
{
    open_all(player);
    if (player->rank == 0) {
        for (int i = 0; i < 20; i++) {
            fill(player, (float)i);
            DONE(ncclSend(player->buffer, COUNT, ncclFloat, 1, player->comm, player->stream));
            OK(cudaStreamSynchronize(player->stream));
        }
    } else {
        for (int i = 0; i < 20; i++) {
            DONE(ncclRecv(player->buffer, COUNT, ncclFloat, 0, player->comm, player->stream));
            assert_filled(player, (float)i);
        }
    }
    close_all(player);
}

static void messages_arrive_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        player_t players[2] = {{.rank = 0}};
        fresh(seed);
        play_all(2, hand_on, players);
        assert_clean();
    }
}

static atomic_int receiver_came;

static void send_before_receive(player_t *player)
{
    open_all(player);
    if (player->rank == 0) {
        DONE(ncclSend(player->buffer, COUNT, ncclFloat, 1, player->comm, player->stream));
        OK(cudaStreamSynchronize(player->stream));
        assert_int_equal(atomic_load(&receiver_came), 1);
    } else {
        struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
        atomic_store(&receiver_came, 1);
        DONE(ncclRecv(player->buffer, COUNT, ncclFloat, 0, player->comm, player->stream));
    }
    close_all(player);
}

static void a_send_waits_for_its_receive(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    atomic_store(&receiver_came, 0);
    fresh(1);
    play_all(2, send_before_receive, players);
    assert_clean();
}

static void ring(player_t *player)
{
    const int next = (player->rank + 1) % player->ranks;
    const int previous = (player->rank + player->ranks - 1) % player->ranks;
    open_all(player);
    float *incoming = device_new(COUNT * sizeof(float));
    fill(player, (float)player->rank);
    DONE(ncclGroupStart());
    DONE(ncclSend(player->buffer, COUNT, ncclFloat, next, player->comm, player->stream));
    DONE(ncclRecv(incoming, COUNT, ncclFloat, previous, player->comm, player->stream));
    DONE(ncclGroupEnd());
    DONE(ncclAllReduce(player->buffer, player->buffer, COUNT, ncclFloat, ncclSum, player->comm,
                       player->stream));
    OK(cudaStreamSynchronize(player->stream));
    float first[2];
    OK(cudaMemcpy(&first[0], incoming, sizeof(float), cudaMemcpyDeviceToHost));
    OK(cudaMemcpy(&first[1], player->buffer, sizeof(float), cudaMemcpyDeviceToHost));
    assert_true(first[0] == (float)previous);
    assert_true(first[1] == (float)(player->ranks * (player->ranks - 1) / 2));
    OK(cudaFree(incoming));
    close_all(player);
}

static void groups_and_collectives_meet(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        player_t players[MAX_RANKS] = {{.rank = 0}};
        fresh(seed);
        play_all(MAX_RANKS, ring, players);
        assert_clean();
    }
}

static void mismatch(player_t *player)
{
    open_all(player);
    if (player->rank == 0) {
        DONE(ncclSend(player->buffer, COUNT, ncclFloat, 1, player->comm, player->stream));
    } else {
        DONE(ncclRecv(player->buffer, COUNT - 1, ncclFloat, 0, player->comm, player->stream));
    }
    close_all(player);
}

static void sizes_that_differ_are_misuse(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    fresh(2);
    play_all(2, mismatch, players);
    assert_misuse("ncclSend by rank 0 is of 100 elements of type 7, ncclRecv by rank 1 of 99");
    assert_clean();
}

static void use_wrongly(player_t *player)
{
    open_all(player);
    if (player->rank == 0) {
        float host[COUNT];
        assert_int_equal(ncclSend(host, COUNT, ncclFloat, 1, player->comm, player->stream),
                         ncclInvalidArgument);
        assert_misuse("no CUDA memory");
        assert_int_equal(
            ncclSend(player->buffer, COUNT, ncclFloat, 2, player->comm, player->stream),
            ncclInvalidArgument);
        assert_misuse("peer 2 of 2 ranks");
        assert_int_equal(
            ncclSend(player->buffer, COUNT + 1, ncclFloat, 1, player->comm, player->stream),
            ncclInvalidArgument);
        assert_misuse("bytes 0 to 404");
        assert_int_equal(ncclGroupEnd(), ncclInvalidUsage);
        assert_misuse("without ncclGroupStart");
        OK(cudaSetDevice(3));
        cudaStream_t foreign = stream_new();
        assert_int_equal(ncclSend(player->buffer, COUNT, ncclFloat, 1, player->comm, foreign),
                         ncclInvalidUsage);
        assert_misuse("of device 3, communicator");
        OK(cudaStreamDestroy(foreign));
        OK(cudaSetDevice(player->device));
    }
    close_all(player);
    int count;
    if (player->rank == 0) {
        assert_int_equal(ncclCommCount(player->comm, &count), ncclInvalidArgument);
        assert_misuse("was destroyed");
    }
}

static void wrong_arguments_are_misuse(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    fresh(3);
    play_all(2, use_wrongly, players);
    assert_clean();
}

static void try_to_open(player_t *player)
{
    player->result = ncclCommInitRank(&player->comm, player->ranks, player->id, player->rank);
}

static void two_ranks_on_one_device_are_refused(void **state)
{
    (void)state;
    player_t players[2] = {{.device = INVALID}, {.device = INVALID}};
    fresh(4);
    play_all(2, try_to_open, players);
    assert_int_equal(players[0].result, ncclInvalidUsage);
    assert_int_equal(players[1].result, ncclInvalidUsage);
    assert_null(players[0].comm);
    assert_clean();
}

static void open_two(player_t *player)
{
    ncclComm_t second = NULL;
    ncclUniqueId ids[2] = {player->id, player->other_id};
    const int first = player->rank; /* each rank begins with another one */
    player->result = ncclCommInitRank(&player->comm, 2, ids[first], player->rank);
    if (player->result == ncclSuccess) {
        player->result = ncclCommInitRank(&second, 2, ids[1 - first], player->rank);
    }
}

static void communicators_opened_in_different_orders_deadlock(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    standin_reset(&(standin_options_t){.deadlock_sec = 0.05, .quiet = true});
    play_all(2, open_two, players);
    assert_int_equal(players[0].result, ncclSystemError);
    assert_int_equal(players[1].result, ncclSystemError);
    assert_int_equal(standin_deadlocks(), 1);
    assert_misuse("deadlock");
    assert_clean();
}

static void both_send(player_t *player)
{
    open_all(player);
    const int peer = 1 - player->rank;
    DONE(ncclSend(player->buffer, COUNT, ncclFloat, peer, player->comm, player->stream));
    DONE(ncclRecv(player->buffer, COUNT, ncclFloat, peer, player->comm, player->stream));
    assert_int_equal(cudaStreamSynchronize(player->stream), cudaErrorLaunchTimeout);
    assert_int_equal(ncclCommAbort(player->comm), ncclSuccess);
    assert_int_equal(cudaFree(player->buffer), cudaErrorLaunchTimeout);
    assert_int_equal(cudaStreamDestroy(player->stream), cudaErrorLaunchTimeout);
}

static void two_sends_that_wait_for_each_other_are_reported(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    standin_reset(&(standin_options_t){.seed = 5, .deadlock_sec = 0.05, .quiet = true});
    play_all(2, both_send, players);
    assert_int_equal(standin_deadlocks(), 1);
    assert_misuse("ncclSend of 100 elements, rank 1: waits for the other side");
    assert_clean();
}

static void abort_alone(player_t *player)
{
    ncclResult_t state;
    open_all(player);
    if (player->rank == 0) {
        fill(player, 1);
        DONE(ncclRecv(player->buffer, COUNT, ncclFloat, 1, player->comm, player->stream));
        assert_int_equal(cudaStreamQuery(player->stream), cudaErrorNotReady);
        DONE(ncclCommGetAsyncError(player->comm, &state));
        assert_int_equal(state, ncclSuccess);
    }
    DONE(ncclCommAbort(player->comm));
    OK(cudaStreamSynchronize(player->stream)); /* no error of CUDA's, but no data either */
    assert_true(player->buffer[0] != player->buffer[0]);
    OK(cudaFree(player->buffer));
    OK(cudaStreamDestroy(player->stream));
}

static void abort_ends_what_is_under_way(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        player_t players[2] = {{.rank = 0}};
        fresh(seed);
        play_all(2, abort_alone, players);
        assert_clean();
    }
}

static void meet_a_fault(player_t *player)
{
    ncclResult_t state = ncclSuccess;
    open_all(player);
    if (player->rank == 0) {
        DONE(ncclSend(player->buffer, COUNT, ncclFloat, 1, player->comm, player->stream));
    } else {
        DONE(ncclRecv(player->buffer, COUNT, ncclFloat, 0, player->comm, player->stream));
    }
    while (state == ncclSuccess) {
        DONE(ncclCommGetAsyncError(player->comm, &state));
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    player->result = state;
    assert_int_equal(cudaStreamQuery(player->stream), cudaErrorNotReady);
    DONE(ncclCommAbort(player->comm));
    OK(cudaStreamSynchronize(player->stream));
    OK(cudaFree(player->buffer));
    OK(cudaStreamDestroy(player->stream));
}

static void a_fault_hangs_until_the_communicators_are_aborted(void **state)
{
    (void)state;
    player_t players[2] = {{.rank = 0}};
    standin_reset(&(standin_options_t){
        .seed = 6,
        .quiet = true,
        .failure = {.function = "async:ncclSend", .call = 1, .error = ncclRemoteError}});
    play_all(2, meet_a_fault, players);
    assert_int_equal(players[0].result, ncclRemoteError);
    assert_int_equal(players[1].result, ncclRemoteError);
    assert_true(standin_failed());
    assert_clean();
}

/* Polls until a non-blocking call is over. */
static void settle(ncclComm_t comm)
{
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) {
        DONE(ncclCommGetAsyncError(comm, &state));
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    DONE(state);
}

static void open_without_blocking(player_t *player)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = 1;
    config.maxCTAs = 2;
    player->stream = stream_new();
    player->buffer = device_new(COUNT * sizeof(float));
    fill(player, 3);
    assert_int_equal(ncclCommInitRankConfig(&player->comm, 2, player->id, player->rank, &config),
                     ncclInProgress);
    settle(player->comm);
    standin_communicator_t list[2];
    assert_int_equal(standin_communicators(list, 2), 2);
    assert_int_equal(list[0].max_ctas, 2);
    assert_false(list[0].blocking);
    assert_int_equal(list[0].rank + list[1].rank, 1);
    for (int i = 0; i < 10; i++) {
        const ncclResult_t result = ncclAllReduce(player->buffer, player->buffer, 1, ncclFloat,
                                                  ncclSum, player->comm, player->stream);
        if (result == ncclInProgress) {
            settle(player->comm);
        } else {
            DONE(result);
        }
    }
    float value;
    OK(cudaStreamSynchronize(player->stream));
    OK(cudaMemcpy(&value, player->buffer, sizeof(value), cudaMemcpyDeviceToHost));
    assert_true(value == 3 * 1024.0F);
    close_all(player);
}

static void non_blocking_communicators_are_polled(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        player_t players[2] = {{.rank = 0}};
        fresh(seed);
        play_all(2, open_without_blocking, players);
        assert_clean();
    }
}

static void a_config_not_initialised_is_misuse(void **state)
{
    (void)state;
    ncclConfig_t config;
    ncclUniqueId id;
    ncclComm_t comm;
    fresh(7);
    memset(&config, 0, sizeof(config));
    DONE(ncclGetUniqueId(&id));
    assert_int_equal(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
    assert_misuse("NCCL_CONFIG_INITIALIZER");
    config = (ncclConfig_t)NCCL_CONFIG_INITIALIZER;
    config.minCTAs = 4;
    config.maxCTAs = 2;
    assert_int_equal(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
    assert_misuse("minCTAs 4, maxCTAs 2");
    memset(&id, 0, sizeof(id));
    assert_int_equal(ncclCommInitRank(&comm, 1, id, 0), ncclInvalidArgument);
    assert_misuse("no ncclGetUniqueId");
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order),
        cmocka_unit_test(a_send_waits_for_its_receive),
        cmocka_unit_test(groups_and_collectives_meet),
        cmocka_unit_test(sizes_that_differ_are_misuse),
        cmocka_unit_test(wrong_arguments_are_misuse),
        cmocka_unit_test(two_ranks_on_one_device_are_refused),
        cmocka_unit_test(communicators_opened_in_different_orders_deadlock),
        cmocka_unit_test(two_sends_that_wait_for_each_other_are_reported),
        cmocka_unit_test(abort_ends_what_is_under_way),
        cmocka_unit_test(a_fault_hangs_until_the_communicators_are_aborted),
        cmocka_unit_test(non_blocking_communicators_are_polled),
        cmocka_unit_test(a_config_not_initialised_is_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
