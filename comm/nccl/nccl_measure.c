/*
 * Measuring a link over NCCL. The wall clocks' offset comes from the bootstrap, and so do all
 * figures where the two ranks have no channel, or no bytes are asked for (then only the clocks are
 * of interest). Where they have one, its communicator carries the ping-pong, as it will the
 * messages:
 *
 *      leader     e0  send recv  e1  send recv  e2  ...        half of e(i+1) - e(i), the smallest
 *      follower       recv send      recv send      ...
 *
 * All rounds are enqueued before the first is waited for, as the messages of a step are: a round
 * then is what the GPUs and the wire need, without the host.
 */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "comm/nccl/nccl_impl.h"

enum { WARM_UP_ROUNDS = 5, SMALL_BYTES = 4 };

typedef struct ping_pong {
    dpr_comm_nccl_t *comm;
    dpr_nccl_link_t *link;
    int peer; /* in the communicator */
    bool leads;
    int rounds; /* with the warm-up */
    void *buffer;
    cudaEvent_t *events; /* rounds + 1; the leader's */
    double *results;     /* [2]; until the stream is through, as copies may still use it */
} ping_pong_t;

static dpr_nccl_link_t *find_channel(dpr_comm_nccl_t *comm, int peer)
{
    for (dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        const dpr_comm_channel_t *channel = &link->base.channel;
        if (link->is_channel && !link->closed && link->handle != NULL &&
            (channel->source == peer || channel->destination == peer)) {
            return link;
        }
    }
    return NULL;
}

static dpr_status_t checked(const ping_pong_t *it, ncclResult_t result, const char *call)
{
    return dpr_nccl_check(it->comm->base.rank, result, call, it->link->what);
}

static dpr_status_t send(const ping_pong_t *it, size_t bytes)
{
    return checked(
        it, ncclSend(it->buffer, bytes, ncclUint8, it->peer, it->link->handle, it->comm->stream),
        "ncclSend");
}

static dpr_status_t receive(const ping_pong_t *it, size_t bytes)
{
    return checked(
        it, ncclRecv(it->buffer, bytes, ncclUint8, it->peer, it->link->handle, it->comm->stream),
        "ncclRecv");
}

static dpr_status_t play_round(const ping_pong_t *it, size_t bytes)
{
    DPR_TRY(it->leads ? send(it, bytes) : receive(it, bytes));
    return it->leads ? receive(it, bytes) : send(it, bytes);
}

static dpr_status_t await(const ping_pong_t *it)
{
    const dpr_nccl_wait_t wait = {.rank = it->comm->base.rank,
                                  .what = it->link->what,
                                  .patience_sec = it->comm->patience_sec,
                                  .given_up = &it->comm->interrupted};
    return dpr_nccl_await_stream(&wait, it->link->handle, it->comm->stream);
}

/* *half_sec: the leader's result. */
static dpr_status_t play(const ping_pong_t *it, size_t bytes, double *half_sec)
{
    *half_sec = INFINITY;
    for (int i = 0; i < it->rounds; i++) {
        if (it->leads) {
            DPR_TRY(DPR_CUDA(cudaEventRecord(it->events[i], it->comm->stream)));
        }
        DPR_TRY(play_round(it, bytes));
    }
    if (it->leads) {
        DPR_TRY(DPR_CUDA(cudaEventRecord(it->events[it->rounds], it->comm->stream)));
    }
    DPR_TRY(await(it));
    for (int i = WARM_UP_ROUNDS; i < it->rounds && it->leads; i++) {
        float msec;
        DPR_TRY(DPR_CUDA(cudaEventElapsedTime(&msec, it->events[i], it->events[i + 1])));
        *half_sec = fmin(*half_sec, 0.5e-3 * (double)msec);
    }
    return DPR_OK;
}

/* The leader's results go to the follower the same way. */
static dpr_status_t share(const ping_pong_t *it)
{
    const size_t bytes = 2 * sizeof(double);
    if (it->leads) {
        DPR_TRY(DPR_CUDA(
            cudaMemcpyAsync(it->buffer, it->results, bytes, cudaMemcpyDefault, it->comm->stream)));
        DPR_TRY(send(it, bytes));
        return await(it);
    }
    DPR_TRY(receive(it, bytes));
    DPR_TRY(await(it));
    DPR_TRY(DPR_CUDA(
        cudaMemcpyAsync(it->results, it->buffer, bytes, cudaMemcpyDefault, it->comm->stream)));
    return DPR_CUDA(cudaStreamSynchronize(it->comm->stream));
}

static dpr_status_t create_events(ping_pong_t *it)
{
    const int count = it->leads ? it->rounds + 1 : 0;
    DPR_TRY(dpr_calloc((size_t)count, sizeof(cudaEvent_t), &it->events));
    for (int i = 0; i < count; i++) {
        DPR_TRY(DPR_CUDA(cudaEventCreate(&it->events[i])));
    }
    return DPR_OK;
}

static void destroy_events(const ping_pong_t *it)
{
    for (int i = 0; i <= it->rounds && it->leads && it->events != NULL; i++) {
        if (it->events[i] != NULL) {
            (void)cudaEventDestroy(it->events[i]);
        }
    }
    free(it->events);
}

static dpr_status_t run(ping_pong_t *it, size_t bytes, dpr_link_measure_t *measure)
{
    DPR_TRY(create_events(it));
    DPR_TRY(play(it, SMALL_BYTES, &it->results[0]));
    DPR_TRY(play(it, bytes, &it->results[1]));
    DPR_TRY(share(it));
    measure->small_sec = it->results[0];
    measure->large_sec = it->results[1];
    return DPR_OK;
}

static dpr_status_t create_memory(ping_pong_t *it, size_t bytes)
{
    const size_t least = 2 * sizeof(double);
    dpr_status_t status;
    DPR_TRY(dpr_calloc(2, sizeof *it->results, &it->results));
    DPR_TRY_GOTO(DPR_CUDA(cudaMalloc(&it->buffer, bytes > least ? bytes : least)), free_results);
    return DPR_OK;

free_results:
    free(it->results);
    return status;
}

/* A failure leaves the two sides out of step: the channel is of no more use then, and its
 * operations must not outlive their memory. */
static dpr_status_t measure_channel(dpr_comm_nccl_t *comm, dpr_nccl_link_t *link, size_t bytes,
                                    int rounds, dpr_link_measure_t *measure)
{
    ping_pong_t it = {
        .comm = comm, .link = link, .peer = 1 - link->me, .rounds = WARM_UP_ROUNDS + rounds};
    const int other = link->me == 0 ? link->base.channel.destination : link->base.channel.source;
    it.leads = comm->base.rank < other;
    DPR_TRY(dpr_cuda_enter(comm->ordinal));
    DPR_TRY(create_memory(&it, bytes));
    const dpr_status_t status = run(&it, bytes, measure);
    if (status != DPR_OK) {
        pthread_mutex_lock(&comm->lock);
        dpr_nccl_abort_links(comm, link);
        pthread_mutex_unlock(&comm->lock);
        if (comm->stuck) { /* what the GPU may still use stays */
            return status;
        }
        (void)cudaStreamSynchronize(comm->stream);
        (void)cudaGetLastError(); /* what failed is known */
    }
    destroy_events(&it);
    free(it.results);
    const dpr_status_t freed = DPR_CUDA(cudaFree(it.buffer));
    return status != DPR_OK ? status : freed;
}

dpr_status_t dpr_nccl_measure_link(dpr_comm_t *base, int peer, size_t bytes, int rounds,
                                   dpr_link_measure_t *measure)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    dpr_link_measure_t found;
    dpr_nccl_link_t *link = find_channel(comm, peer);
    dpr_comm_set_device(comm->bootstrap, base->device);
    DPR_TRY(dpr_comm_measure_link(comm->bootstrap, peer, bytes, rounds, &found));
    if (link != NULL && bytes > 0) {
        DPR_TRY(measure_channel(comm, link, bytes, rounds, &found));
    }
    *measure = found;
    return DPR_OK;
}
