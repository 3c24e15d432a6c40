/* The communication seam: every call goes to the backend's table; checks common to all stand here.
 */
#include "comm/comm_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"

void dpr_comm_destroy(dpr_comm_t *comm)
{
    if (comm != NULL) {
        comm->ops->destroy(comm);
    }
}

const char *dpr_comm_kind(const dpr_comm_t *comm)
{
    return comm->ops->kind;
}

int dpr_comm_rank(const dpr_comm_t *comm)
{
    return comm->rank;
}

int dpr_comm_size(const dpr_comm_t *comm)
{
    return comm->size;
}

int dpr_comm_node_size(const dpr_comm_t *comm)
{
    return comm->node_size;
}

int dpr_comm_node_rank(const dpr_comm_t *comm)
{
    return comm->node_rank;
}

void dpr_comm_set_device(dpr_comm_t *comm, dpr_device_t *device)
{
    comm->device = device;
}

/*
 * Opening something is collective: first all ranks make sure that they ask for the same, then each
 * does its part, and then they make sure that all succeeded. So a mistake on one rank is an error
 * on all, where it would otherwise be a hang.
 */
typedef struct opening {
    int64_t is_group;
    int64_t source;
    int64_t destination;
    uint64_t size; /* of a channel's messages or of the group */
    uint64_t ranks_hash;
    int64_t has_device;
} opening_t;

static dpr_status_t agree_to_open(dpr_comm_t *comm, const opening_t *mine)
{
    opening_t *all;
    DPR_TRY(dpr_calloc((size_t)comm->size, sizeof *all, &all));
    dpr_status_t status = dpr_comm_allgather(comm, mine, sizeof *mine, all);
    for (int rank = 0; rank < comm->size && status == DPR_OK; rank++) {
        if (!all[rank].has_device) {
            status = dpr_fail(DPR_ERR_INVALID,
                              "rank %d has no device yet; call "
                              "dpr_comm_set_device before opening",
                              rank);
        } else if (memcmp(&all[rank], &all[0], sizeof all[0]) != 0) {
            status = dpr_fail(DPR_ERR_MISMATCH,
                              "rank 0 opens a %s (%lld to %lld, size %llu), rank %d a %s (%lld to "
                              "%lld, size %llu); every rank must open the same in the same order",
                              all[0].is_group ? "group" : "channel", (long long)all[0].source,
                              (long long)all[0].destination, (unsigned long long)all[0].size, rank,
                              all[rank].is_group ? "group" : "channel", (long long)all[rank].source,
                              (long long)all[rank].destination, (unsigned long long)all[rank].size);
        }
    }
    free(all);
    return status;
}

dpr_status_t dpr_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                              dpr_comm_channel_t **channel)
{
    const opening_t opening = {.source = source,
                               .destination = destination,
                               .size = max_bytes,
                               .has_device = comm->device != NULL};
    DPR_TRY(agree_to_open(comm, &opening));
    if (source == destination || source < 0 || source >= comm->size || destination < 0 ||
        destination >= comm->size) {
        return dpr_fail(DPR_ERR_INVALID, "no channel from rank %d to rank %d among %d ranks",
                        source, destination, comm->size);
    }
    dpr_comm_channel_t *opened = NULL;
    dpr_status_t status = comm->ops->channel_open(comm, source, destination, max_bytes, &opened);
    status = dpr_comm_agree(comm, status, NULL);
    if (status != DPR_OK) {
        dpr_channel_close(opened);
        return status;
    }
    *channel = opened;
    return DPR_OK;
}

void dpr_channel_close(dpr_comm_channel_t *channel)
{
    if (channel != NULL) {
        channel->comm->ops->channel_close(channel);
    }
}

static dpr_status_t check_length(const dpr_comm_channel_t *channel, size_t bytes)
{
    if (bytes > channel->max_bytes) {
        return dpr_fail(DPR_ERR_INVALID,
                        "a message of %zu bytes on the channel from rank %d to rank %d, which was "
                        "opened for at most %zu",
                        bytes, channel->source, channel->destination, channel->max_bytes);
    }
    return DPR_OK;
}

dpr_status_t dpr_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                              double cost_sec, dpr_stream_t *stream)
{
    DPR_TRY(check_length(channel, bytes));
    return channel->comm->ops->channel_send(channel, buffer, bytes, cost_sec, stream);
}

dpr_status_t dpr_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                              double cost_sec, dpr_stream_t *stream)
{
    DPR_TRY(check_length(channel, bytes));
    return channel->comm->ops->channel_recv(channel, buffer, bytes, cost_sec, stream);
}

static uint64_t hash_ranks(const int *ranks, int count)
{
    uint64_t hash = 0;
    for (int i = 0; i < count; i++) {
        hash = dpr_random_mix(hash ^ (uint64_t)ranks[i]);
    }
    return hash;
}

dpr_status_t dpr_group_open(dpr_comm_t *comm, const int *ranks, int count, dpr_comm_group_t **group)
{
    const opening_t opening = {.is_group = 1,
                               .size = (uint64_t)count,
                               .ranks_hash = hash_ranks(ranks, count),
                               .has_device = comm->device != NULL};
    DPR_TRY(agree_to_open(comm, &opening));
    if (count < 1) {
        return dpr_fail(DPR_ERR_INVALID, "a group needs a rank, not %d", count);
    }
    for (int i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= comm->size || (i > 0 && ranks[i] <= ranks[i - 1])) {
            return dpr_fail(DPR_ERR_INVALID, "a group's ranks must ascend within 0 to %d",
                            comm->size - 1);
        }
    }
    dpr_comm_group_t *opened = NULL;
    dpr_status_t status = comm->ops->group_open(comm, ranks, count, &opened);
    status = dpr_comm_agree(comm, status, NULL);
    if (status != DPR_OK) {
        dpr_group_close(opened);
        return status;
    }
    *group = opened;
    return DPR_OK;
}

void dpr_group_close(dpr_comm_group_t *group)
{
    if (group != NULL) {
        group->comm->ops->group_close(group);
    }
}

dpr_status_t dpr_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                     dpr_element_t element, double cost_sec, dpr_stream_t *stream)
{
    return group->comm->ops->group_allreduce_sum(group, buffer, count, element, cost_sec, stream);
}

dpr_status_t dpr_comm_barrier(dpr_comm_t *comm)
{
    return comm->ops->barrier(comm);
}

dpr_status_t dpr_comm_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out)
{
    return comm->ops->allgather(comm, in, bytes, out);
}

dpr_status_t dpr_comm_gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                             void *out)
{
    return comm->ops->gather(comm, root, in, bytes, out);
}

dpr_status_t dpr_comm_agree(dpr_comm_t *comm, dpr_status_t status, int *culprit)
{
    dpr_status_t *all;
    DPR_TRY(dpr_calloc((size_t)comm->size, sizeof *all, &all));
    dpr_status_t agreed = dpr_comm_allgather(comm, &status, sizeof status, all);
    for (int rank = 0; rank < comm->size && agreed == DPR_OK; rank++) {
        if (all[rank] != DPR_OK) {
            agreed = all[rank];
            if (culprit != NULL) {
                *culprit = rank;
            }
        }
    }
    free(all);
    return agreed;
}

dpr_status_t dpr_comm_measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                   dpr_link_measure_t *measure)
{
    if (peer < 0 || peer >= comm->size || peer == comm->rank || rounds < 1) {
        return dpr_fail(DPR_ERR_INVALID,
                        "rank %d cannot measure the link to rank %d of %d in %d rounds", comm->rank,
                        peer, comm->size, rounds);
    }
    if (comm->device == NULL) {
        return dpr_fail(DPR_ERR_INVALID,
                        "rank %d has no device, and so no clock, to measure a "
                        "link with; call dpr_comm_set_device before",
                        comm->rank);
    }
    return comm->ops->measure_link(comm, peer, bytes, rounds, measure);
}

dpr_status_t dpr_comm_check(dpr_comm_t *comm)
{
    return comm->ops->check != NULL ? comm->ops->check(comm) : DPR_OK;
}

void dpr_comm_interrupt(dpr_comm_t *comm)
{
    if (comm->ops->interrupt != NULL) {
        comm->ops->interrupt(comm);
    }
}

void dpr_comm_needs(const dpr_comm_t *comm, int channels, int groups, dpr_comm_needs_t *needs)
{
    *needs = (dpr_comm_needs_t){0};
    if (comm->ops->needs != NULL) {
        comm->ops->needs(comm, channels, groups, needs);
    }
}

void dpr_comm_describe(const dpr_comm_t *comm, char *text, size_t size)
{
    if (comm->ops->describe != NULL) {
        comm->ops->describe(comm, text, size);
    } else {
        snprintf(text, size, "%s", comm->ops->kind);
    }
}

_Noreturn void dpr_comm_abort(dpr_comm_t *comm, int exit_code)
{
    comm->ops->abort(comm, exit_code);
    _exit(exit_code); /* not reached; says so to the compiler */
}
