/*
 * The local backend from inside: ranks are threads of one process and share a world.
 *
 *      comms[0] --+                      +-- link: one per channel, shared by its two ends
 *      comms[1] --+--> world             |
 *      comms[2] --+     lock, board      +-- circle: one per group, shared by its members
 *
 * For tests and tools, so it is written to be plain: a mutex where MPI's backend has a state
 * machine. Whoever arrives last at a transfer or an all-reduce does the work and completes it for
 * everyone.
 */
#ifndef DPR_COMM_LOCAL_LOCAL_IMPL_H
#define DPR_COMM_LOCAL_LOCAL_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "comm/comm_impl.h"
#include "comm/op_ring.h"

/* Where two ranks measure their link; `turn` says who may touch the rest. */
typedef struct dpr_local_pair {
    _Atomic uint32_t turn;
    size_t bytes;
    int rounds;
    dpr_status_t verdict;
    unsigned char *leader_buffer;
    unsigned char *follower_buffer;
    double follower_sec;
    dpr_link_measure_t measure; /* as the leader sees it */
} dpr_local_pair_t;

typedef struct dpr_local_world {
    int size;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int present; /* ranks not yet destroyed */
    int arrived; /* at the barrier under way */
    uint64_t generation;
    const void *
        *board; /* by rank: what each brings to a blocking call; read between two barriers */
    dpr_local_pair_t *pairs; /* lower * size + higher */
} dpr_local_world_t;

typedef struct dpr_comm_local dpr_comm_local_t;

/* What a rank has open: an end of a channel or a group. */
typedef struct dpr_local_object {
    struct dpr_local_object *previous;
    struct dpr_local_object *next;
    void (*release)(struct dpr_local_object *object);
} dpr_local_object_t;

struct dpr_comm_local {
    dpr_comm_t base;
    dpr_local_world_t *world;
    dpr_local_object_t open; /* head of the list */
};

static inline dpr_comm_local_t *dpr_comm_local(const dpr_comm_t *comm)
{
    return (dpr_comm_local_t *)comm;
}

/* local_comm.c */
void dpr_local_object_enter(dpr_comm_local_t *comm, dpr_local_object_t *object);
/* Takes it off the list and releases it. */
void dpr_local_object_close(dpr_local_object_t *object);
dpr_status_t dpr_local_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out);

/* local_transfer.c */
dpr_status_t dpr_local_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                                    dpr_comm_channel_t **channel);
void dpr_local_channel_close(dpr_comm_channel_t *channel);
dpr_status_t dpr_local_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                    double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_local_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                    double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_local_group_open(dpr_comm_t *comm, const int *ranks, int count,
                                  dpr_comm_group_t **group);
void dpr_local_group_close(dpr_comm_group_t *group);
dpr_status_t dpr_local_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                           dpr_element_t element, double cost_sec,
                                           dpr_stream_t *stream);

#endif
