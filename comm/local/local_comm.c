/*
 * The local backend: the world, its ranks and the blocking calls.
 *
 * A blocking call is two barriers: before the first every rank puts a pointer to what it brings on
 * the board, between them everyone reads, after the second all of it may go.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/local/local_impl.h"

static dpr_status_t barrier(dpr_comm_t *comm)
{
    dpr_local_world_t *world = dpr_comm_local(comm)->world;
    pthread_mutex_lock(&world->lock);
    const uint64_t generation = world->generation;
    if (++world->arrived == world->size) {
        world->arrived = 0;
        world->generation++;
        pthread_cond_broadcast(&world->changed);
    }
    while (world->generation == generation) {
        pthread_cond_wait(&world->changed, &world->lock);
    }
    pthread_mutex_unlock(&world->lock);
    return DPR_OK;
}

/* memcpy that accepts NULL with no bytes */
static void copy(void *to, const void *from, size_t bytes)
{
    if (bytes > 0) {
        memcpy(to, from, bytes);
    }
}

dpr_status_t dpr_local_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out)
{
    dpr_local_world_t *world = dpr_comm_local(comm)->world;
    unsigned char *at = out;
    world->board[comm->rank] = in;
    DPR_TRY(barrier(comm));
    for (int rank = 0; rank < world->size && bytes > 0; rank++) {
        copy(at, world->board[rank], bytes);
        at += bytes;
    }
    return barrier(comm);
}

static dpr_status_t gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                           void *out)
{
    dpr_local_world_t *world = dpr_comm_local(comm)->world;
    unsigned char *at = out;
    world->board[comm->rank] = in;
    DPR_TRY(barrier(comm));
    for (int rank = 0; rank < world->size && comm->rank == root; rank++) {
        if (bytes[rank] > 0) {
            copy(at, world->board[rank], bytes[rank]);
            at += bytes[rank];
        }
    }
    return barrier(comm);
}

/*
 * Measuring a link: the turn of a pair goes to and fro, so that neither side can miss one:
 *
 *      IDLE -> FOLLOWER_THERE -> VERDICT -> PONG -> PING -> PONG ... -> RESULT -> IDLE
 *                                   \--------- if they were called differently ---^
 *
 * The leader sets VERDICT, PING and RESULT, the follower the others.
 */
enum { TURN_IDLE, TURN_FOLLOWER_THERE, TURN_VERDICT, TURN_PONG, TURN_PING, TURN_RESULT };
enum { WARM_UP_ROUNDS = 5 };

static double ping(dpr_device_t *device, dpr_local_pair_t *pair, size_t bytes, double *middle_sec)
{
    const double sent_sec = dpr_device_wall_sec(device);
    copy(pair->follower_buffer, pair->leader_buffer, bytes);
    dpr_futex_set(&pair->turn, TURN_PING);
    dpr_futex_await(&pair->turn, TURN_PONG);
    const double back_sec = dpr_device_wall_sec(device);
    *middle_sec = (sent_sec + back_sec) / 2;
    return (back_sec - sent_sec) / 2;
}

static void pong(dpr_device_t *device, dpr_local_pair_t *pair, size_t bytes)
{
    dpr_futex_await(&pair->turn, TURN_PING);
    pair->follower_sec = dpr_device_wall_sec(device);
    copy(pair->leader_buffer, pair->follower_buffer, bytes);
    dpr_futex_set(&pair->turn, TURN_PONG);
}

static void lead(dpr_device_t *device, dpr_local_pair_t *pair)
{
    dpr_link_measure_t measure = {.small_sec = INFINITY, .large_sec = INFINITY};
    double middle_sec;
    for (int i = -WARM_UP_ROUNDS; i < pair->rounds; i++) {
        const double half_sec = ping(device, pair, 0, &middle_sec);
        if (i >= 0 && half_sec < measure.small_sec) {
            measure.small_sec = half_sec;
            measure.offset_sec = pair->follower_sec - middle_sec;
        }
    }
    for (int i = -WARM_UP_ROUNDS; i < pair->rounds; i++) {
        const double half_sec = ping(device, pair, pair->bytes, &middle_sec);
        if (i >= 0 && half_sec < measure.large_sec) {
            measure.large_sec = half_sec;
        }
    }
    pair->measure = measure;
}

static dpr_status_t lead_link(dpr_comm_t *comm, dpr_local_pair_t *pair, int peer, size_t bytes,
                              int rounds, unsigned char *buffer, dpr_link_measure_t *measure)
{
    dpr_futex_await(&pair->turn, TURN_FOLLOWER_THERE);
    dpr_status_t verdict = DPR_OK;
    if (pair->bytes != bytes || pair->rounds != rounds) {
        verdict = dpr_fail(DPR_ERR_MISMATCH,
                           "cannot measure the link from rank %d to rank %d: %zu bytes and %d "
                           "rounds on one side, %zu and %d on the other",
                           comm->rank, peer, bytes, rounds, pair->bytes, pair->rounds);
    }
    pair->verdict = verdict;
    pair->leader_buffer = buffer;
    dpr_futex_set(&pair->turn, TURN_VERDICT);
    if (verdict == DPR_OK) {
        dpr_futex_await(&pair->turn, TURN_PONG);
        lead(comm->device, pair);
        *measure = pair->measure;
        dpr_futex_set(&pair->turn, TURN_RESULT);
    }
    dpr_futex_await(&pair->turn, TURN_IDLE);
    return verdict;
}

static dpr_status_t follow_link(dpr_comm_t *comm, dpr_local_pair_t *pair, size_t bytes, int rounds,
                                unsigned char *buffer, dpr_link_measure_t *measure)
{
    pair->bytes = bytes;
    pair->rounds = rounds;
    pair->follower_buffer = buffer;
    dpr_futex_set(&pair->turn, TURN_FOLLOWER_THERE);
    dpr_futex_await(&pair->turn, TURN_VERDICT);
    const dpr_status_t verdict = pair->verdict;
    if (verdict == DPR_OK) {
        dpr_futex_set(&pair->turn, TURN_PONG);
        const int phase_rounds = rounds + WARM_UP_ROUNDS;
        for (int i = 0; i < 2 * phase_rounds; i++) {
            pong(comm->device, pair, i < phase_rounds ? 0 : bytes);
        }
        dpr_futex_await(&pair->turn, TURN_RESULT);
        *measure = pair->measure;
        measure->offset_sec = -measure->offset_sec;
    }
    dpr_futex_set(&pair->turn, TURN_IDLE);
    return verdict;
}

static dpr_status_t measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                 dpr_link_measure_t *measure)
{
    const dpr_local_world_t *world = dpr_comm_local(comm)->world;
    const bool leads = comm->rank < peer;
    const int lower = leads ? comm->rank : peer;
    const int higher = leads ? peer : comm->rank;
    dpr_local_pair_t *pair = &world->pairs[lower * world->size + higher];
    unsigned char *buffer;
    DPR_TRY(dpr_calloc(bytes, 1, &buffer));
    const dpr_status_t status = leads ? lead_link(comm, pair, peer, bytes, rounds, buffer, measure)
                                      : follow_link(comm, pair, bytes, rounds, buffer, measure);
    free(buffer);
    return status;
}

void dpr_local_object_enter(dpr_comm_local_t *comm, dpr_local_object_t *object)
{
    object->previous = &comm->open;
    object->next = comm->open.next;
    object->previous->next = object;
    object->next->previous = object;
}

void dpr_local_object_close(dpr_local_object_t *object)
{
    object->previous->next = object->next;
    object->next->previous = object->previous;
    object->release(object);
}

static void free_world(dpr_local_world_t *world)
{
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->lock);
    free(world->pairs);
    free(world->board);
    free(world);
}

static void destroy(dpr_comm_t *base)
{
    dpr_comm_local_t *comm = dpr_comm_local(base);
    dpr_local_world_t *world = comm->world;
    while (comm->open.next != &comm->open) {
        dpr_local_object_close(comm->open.next);
    }
    free(comm);
    pthread_mutex_lock(&world->lock);
    const bool last = --world->present == 0;
    pthread_mutex_unlock(&world->lock);
    if (last) {
        free_world(world);
    }
}

static _Noreturn void abort_job(dpr_comm_t *comm, int exit_code)
{
    (void)comm;
    _exit(exit_code);
}

static const dpr_comm_ops_t local_ops = {
    .kind = "local",
    .destroy = destroy,
    .channel_open = dpr_local_channel_open,
    .channel_close = dpr_local_channel_close,
    .channel_send = dpr_local_channel_send,
    .channel_recv = dpr_local_channel_recv,
    .group_open = dpr_local_group_open,
    .group_close = dpr_local_group_close,
    .group_allreduce_sum = dpr_local_group_allreduce_sum,
    .barrier = barrier,
    .allgather = dpr_local_allgather,
    .gather = gather,
    .measure_link = measure_link,
    .abort = abort_job,
};

static dpr_status_t create_world(int size, dpr_local_world_t **out)
{
    dpr_status_t status;
    dpr_local_world_t *world;
    DPR_TRY(dpr_calloc(1, sizeof *world, &world));
    world->size = size;
    world->present = size;
    pthread_mutex_init(&world->lock, NULL); /* with default attributes these cannot fail */
    pthread_cond_init(&world->changed, NULL);
    DPR_TRY_GOTO(dpr_calloc((size_t)size, sizeof *world->board, &world->board), free_world);
    DPR_TRY_GOTO(dpr_calloc((size_t)size * (size_t)size, sizeof *world->pairs, &world->pairs),
                 free_world);
    *out = world;
    return DPR_OK;

free_world:
    free_world(world);
    return status;
}

dpr_status_t dpr_comm_local_create(int size, dpr_comm_t **comms)
{
    dpr_status_t status;
    dpr_local_world_t *world;
    int created = 0;
    if (size < 1) {
        return dpr_fail(DPR_ERR_INVALID, "a local communicator needs a rank, not %d", size);
    }
    DPR_TRY(create_world(size, &world));
    for (; created < size; created++) {
        dpr_comm_local_t *comm;
        DPR_TRY_GOTO(dpr_calloc(1, sizeof *comm, &comm), free_comms);
        comm->base = (dpr_comm_t){.ops = &local_ops,
                                  .rank = created,
                                  .size = size,
                                  .node_rank = created,
                                  .node_size = size};
        comm->world = world;
        comm->open.next = &comm->open;
        comm->open.previous = &comm->open;
        comms[created] = &comm->base;
    }
    return DPR_OK;

free_comms:
    while (created > 0) {
        free(comms[--created]);
    }
    free_world(world);
    return status;
}
