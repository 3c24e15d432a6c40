/* The communication seam: every call goes to the backend's table; checks common to all stand here. */
#include "comm/comm_impl.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

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

dpr_status_t dpr_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                              dpr_comm_channel_t **channel)
{
    if (source == destination || source < 0 || source >= comm->size || destination < 0 ||
        destination >= comm->size) {
        return dpr_fail(DPR_ERR_INVALID, "no channel from rank %d to rank %d among %d ranks",
                        source, destination, comm->size);
    }
    return comm->ops->channel_open(comm, source, destination, max_bytes, channel);
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

dpr_status_t dpr_group_open(dpr_comm_t *comm, const int *ranks, int count,
                            dpr_comm_group_t **group)
{
    for (int i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= comm->size || (i > 0 && ranks[i] <= ranks[i - 1])) {
            return dpr_fail(DPR_ERR_INVALID, "a group's ranks must ascend within 0 to %d",
                            comm->size - 1);
        }
    }
    return comm->ops->group_open(comm, ranks, count, group);
}

void dpr_group_close(dpr_comm_group_t *group)
{
    if (group != NULL) {
        group->comm->ops->group_close(group);
    }
}

dpr_status_t dpr_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                     dpr_dtype_t dtype, double cost_sec, dpr_stream_t *stream)
{
    return group->comm->ops->group_allreduce_sum(group, buffer, count, dtype, cost_sec, stream);
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
    return comm->ops->measure_link(comm, peer, bytes, rounds, measure);
}

_Noreturn void dpr_comm_abort(dpr_comm_t *comm, int exit_code)
{
    comm->ops->abort(comm, exit_code);
}
