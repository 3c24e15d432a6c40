/*
 * Channels and groups over NCCL: each a communicator of its own, so that none waits behind another
 * and each has its own CTAs. An operation is one NCCL call on the stream.
 *
 * Opening, on every rank of the job (comm.h, Collective creation):
 *
 *      the leader (the source, the lowest member)     ncclGetUniqueId
 *      all       all-gather over the bootstrap: who is on which GPU of which node, whether each is
 *                ready and has room (nccl_room.c), and the leader's id
 *      members   make the communicator together (nccl_open.c)
 *      all       agree; where one failed, the others abort theirs: an orderly end would wait for it
 *
 * Closing only marks a link. ncclCommDestroy waits for the other members of the node (NCCL User
 * Guide, Destroying a communicator), and comm.h lets two ends close their channels in different
 * orders; so the communicators are destroyed together, in the order of opening, when
 * dpr_comm_destroy brings all ranks together.
 *
 * NCCL cannot tell when two sides pass different sizes: the longer one's kernel waits for ever.
 * That a program's sizes match is known from its graph; check() and a watchdog are for the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/nccl/nccl_impl.h"

/* What each rank brings to an opening. */
typedef struct place {
    dpr_status_t status; /* whether it can take part */
    char host[64];
    char pci[32]; /* empty where unknown */
    ncclUniqueId id;
} place_t;

static dpr_status_t prepare(dpr_comm_nccl_t *comm)
{
    dpr_status_t status;
    if (!dpr_cuda_device_is(comm->base.device)) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "rank %d: NCCL moves a GPU's memory, and this rank's device is the %s "
                        "device; use --comm mpi",
                        comm->base.rank, dpr_device_kind(comm->base.device));
    }
    const int ordinal = dpr_cuda_device_ordinal(comm->base.device);
    DPR_TRY(dpr_cuda_enter(ordinal));
    if (comm->ordinal >= 0) {
        return ordinal == comm->ordinal
                   ? DPR_OK
                   : dpr_fail(DPR_ERR_UNSUPPORTED,
                              "rank %d: this communicator is for GPU %d and cannot go to GPU %d",
                              comm->base.rank, comm->ordinal, ordinal);
    }
    DPR_TRY(DPR_CUDA(cudaMalloc(&comm->scratch, DPR_NCCL_SCRATCH_BYTES)));
    DPR_TRY_GOTO(DPR_CUDA(cudaStreamCreateWithFlags(&comm->stream, cudaStreamNonBlocking)),
                 free_scratch);
    comm->ordinal = ordinal;
    return DPR_OK;

free_scratch:
    (void)cudaFree(comm->scratch);
    return status;
}

/* `link` is NULL where the rank takes no part. */
static void fill_place(dpr_comm_nccl_t *comm, bool leads, const dpr_nccl_link_t *link,
                       place_t *place)
{
    dpr_device_info_t info;
    place->status = prepare(comm);
    if (place->status == DPR_OK && link != NULL) {
        place->status = dpr_nccl_check_room(comm, link);
    }
    if (place->status == DPR_OK && leads) {
        place->status = dpr_nccl_check(comm->base.rank, ncclGetUniqueId(&place->id),
                                       "ncclGetUniqueId", "this node");
    }
    dpr_device_info(comm->base.device, &info);
    memcpy(place->pci, info.pci, sizeof place->pci);
    if (gethostname(place->host, sizeof place->host - 1) != 0) {
        place->host[0] = '\0';
    }
}

/* How many GPUs the node of rank `rank` shows, by the places taken: as many ranks may be there. */
static int gpus_taken(const place_t *places, int size, int rank)
{
    int count = 0;
    for (int i = 0; i < size; i++) {
        bool first = strcmp(places[i].host, places[rank].host) == 0;
        for (int j = 0; j < i && first; j++) {
            first = strcmp(places[i].host, places[j].host) != 0 ||
                    strcmp(places[i].pci, places[j].pci) != 0;
        }
        count += first ? 1 : 0;
    }
    return count;
}

/* NCCL does not support two ranks on one GPU; they may hang. */
static dpr_status_t check_places(const dpr_comm_nccl_t *comm, const place_t *places)
{
    for (int rank = 0; rank < comm->base.size; rank++) {
        if (places[rank].status != DPR_OK) {
            return rank == comm->base.rank
                       ? places[rank].status /* logged */
                       : dpr_fail(places[rank].status, "rank %d: rank %d cannot use NCCL: %s",
                                  comm->base.rank, rank, dpr_status_text(places[rank].status));
        }
        for (int other = 0; other < rank; other++) {
            if (places[rank].pci[0] != '\0' && strcmp(places[rank].pci, places[other].pci) == 0 &&
                strcmp(places[rank].host, places[other].host) == 0) {
                return dpr_fail(DPR_ERR_UNSUPPORTED,
                                "ranks %d and %d are both on GPU %s of %s, which NCCL does not "
                                "allow: start at most %d ranks on this node (one for each GPU), or "
                                "use --comm mpi, which lets ranks share a GPU",
                                other, rank, places[rank].pci, places[rank].host,
                                gpus_taken(places, comm->base.size, rank));
            }
        }
    }
    return DPR_OK;
}

/* All ranks: checks where everybody is, and gets the id that `leader` made. */
static dpr_status_t exchange_places(dpr_comm_nccl_t *comm, int leader, const dpr_nccl_link_t *link,
                                    ncclUniqueId *id)
{
    place_t mine = {.status = DPR_OK};
    place_t *all;
    DPR_TRY(dpr_calloc((size_t)comm->base.size, sizeof *all, &all));
    fill_place(comm, comm->base.rank == leader, link, &mine);
    dpr_status_t status = dpr_comm_allgather(comm->bootstrap, &mine, sizeof mine, all);
    if (status == DPR_OK) {
        status = check_places(comm, all);
        *id = all[leader].id;
    }
    free(all);
    return status;
}

static void enter_list(dpr_nccl_link_t *link)
{
    dpr_comm_nccl_t *comm = link->comm;
    pthread_mutex_lock(&comm->lock);
    link->previous = comm->links.previous;
    link->next = &comm->links;
    link->previous->next = link;
    link->next->previous = link;
    pthread_mutex_unlock(&comm->lock);
}

/* All ranks, `link` NULL on those that are no part of it. Takes the link over. */
static dpr_status_t open_link(dpr_comm_nccl_t *comm, int leader, dpr_nccl_link_t *link)
{
    ncclUniqueId id;
    dpr_status_t status;
    DPR_TRY_GOTO(exchange_places(comm, leader, link, &id), free_link);
    if (link != NULL && link->members > 1) {
        status = dpr_nccl_link_connect(link, &id);
    }
    const dpr_status_t agreed = dpr_comm_agree(comm->bootstrap, status, NULL);
    if (agreed != DPR_OK && link != NULL && link->handle != NULL) {
        comm->stuck = !dpr_nccl_abort(comm, link->handle) || comm->stuck;
    }
    DPR_TRY_GOTO(status != DPR_OK ? status : agreed, free_link);
    if (link != NULL) {
        enter_list(link);
    }
    return DPR_OK;

free_link:
    free(link);
    return status;
}

dpr_status_t dpr_nccl_channel_open(dpr_comm_t *base, int source, int destination, size_t max_bytes,
                                   dpr_comm_channel_t **channel)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    dpr_nccl_link_t *link = NULL;
    if (base->rank == source || base->rank == destination) {
        DPR_TRY(dpr_calloc(1, sizeof *link, &link));
        link->base.channel = (dpr_comm_channel_t){
            .comm = base, .source = source, .destination = destination, .max_bytes = max_bytes};
        link->comm = comm;
        link->is_channel = true;
        link->members = 2;
        link->me = base->rank == source ? 0 : 1;
        snprintf(link->what, sizeof link->what, "the channel from rank %d to rank %d", source,
                 destination);
    }
    DPR_TRY(open_link(comm, source, link));
    *channel = link != NULL ? &link->base.channel : NULL;
    return DPR_OK;
}

dpr_status_t dpr_nccl_group_open(dpr_comm_t *base, const int *ranks, int count,
                                 dpr_comm_group_t **group)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    dpr_nccl_link_t *link = NULL;
    int me = 0;
    while (me < count && ranks[me] != base->rank) {
        me++;
    }
    if (me < count) {
        DPR_TRY(dpr_calloc(1, sizeof *link, &link));
        link->base.group = (dpr_comm_group_t){.comm = base, .size = count};
        link->comm = comm;
        link->members = count;
        link->me = me;
        snprintf(link->what, sizeof link->what, "the group of %d ranks from rank %d on", count,
                 ranks[0]);
    }
    DPR_TRY(open_link(comm, ranks[0], link));
    *group = link != NULL ? &link->base.group : NULL;
    return DPR_OK;
}

/* Its NCCL communicator stays for now: ending it waits for the other members, who may close theirs
 * in another order. */
static void close_link(dpr_nccl_link_t *link)
{
    pthread_mutex_lock(&link->comm->lock);
    link->closed = true;
    atomic_store(&link->stream, 0);
    pthread_mutex_unlock(&link->comm->lock);
}

void dpr_nccl_channel_close(dpr_comm_channel_t *channel)
{
    close_link((dpr_nccl_link_t *)channel);
}

void dpr_nccl_group_close(dpr_comm_group_t *group)
{
    close_link((dpr_nccl_link_t *)group);
}

/* The enqueuing thread goes into NCCL with the handle, unless it has been aborted. */
static dpr_status_t go_inside(dpr_nccl_link_t *link, const dpr_stream_t *stream)
{
    atomic_store(&link->stream, dpr_cuda_stream_number(stream));
    atomic_store(&link->inside, 1);
    if (atomic_load(&link->aborted)) {
        atomic_store(&link->inside, 0);
        return dpr_fail(DPR_ERR_COMM, "rank %d: %s was interrupted", link->comm->base.rank,
                        link->what);
    }
    return DPR_OK;
}

static dpr_status_t come_out(dpr_nccl_link_t *link, ncclResult_t result, const char *call)
{
    atomic_store(&link->inside, 0);
    return dpr_nccl_check(link->comm->base.rank, result, call, link->what);
}

static dpr_status_t check_end(const dpr_nccl_link_t *link, bool sends)
{
    const dpr_comm_channel_t *channel = &link->base.channel;
    if ((link->me == 0) != sends) {
        return dpr_fail(DPR_ERR_INVALID, "rank %d cannot %s on the channel from rank %d to rank %d",
                        channel->comm->rank, sends ? "send" : "receive", channel->source,
                        channel->destination);
    }
    return DPR_OK;
}

/* A message of no bytes is no operation for NCCL, and would not meet its other side: one byte of
 * scratch goes in its place. */
dpr_status_t dpr_nccl_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                   double cost_sec, dpr_stream_t *stream)
{
    (void)cost_sec;
    dpr_nccl_link_t *link = (dpr_nccl_link_t *)channel;
    DPR_TRY(check_end(link, true));
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (!dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    DPR_TRY(go_inside(link, stream));
    return come_out(link,
                    ncclSend(bytes > 0 ? buffer : link->comm->scratch, bytes > 0 ? bytes : 1,
                             ncclUint8, 1, link->handle, handle),
                    "ncclSend");
}

dpr_status_t dpr_nccl_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                   double cost_sec, dpr_stream_t *stream)
{
    (void)cost_sec;
    dpr_nccl_link_t *link = (dpr_nccl_link_t *)channel;
    DPR_TRY(check_end(link, false));
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (!dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    DPR_TRY(go_inside(link, stream));
    return come_out(link,
                    ncclRecv(bytes > 0 ? buffer : link->comm->scratch, bytes > 0 ? bytes : 1,
                             ncclUint8, 0, link->handle, handle),
                    "ncclRecv");
}

dpr_status_t dpr_nccl_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                          dpr_element_t element, double cost_sec,
                                          dpr_stream_t *stream)
{
    (void)cost_sec;
    dpr_nccl_link_t *link = (dpr_nccl_link_t *)group;
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    if (link->members == 1 || count == 0 || !dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    DPR_TRY(go_inside(link, stream));
    return come_out(link,
                    ncclAllReduce(buffer, buffer, count,
                                  element == DPR_ELEMENT_FLOAT ? ncclFloat : ncclDouble, ncclSum,
                                  link->handle, handle),
                    "ncclAllReduce");
}
