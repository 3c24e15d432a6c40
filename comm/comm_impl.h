/*
 * The communication seam, implementer's side: one table of functions per backend. Each entry does
 * what the function of the same name in comm.h promises; every entry but check, interrupt,
 * needs and describe is required.
 */
#ifndef DPR_COMM_COMM_IMPL_H
#define DPR_COMM_COMM_IMPL_H

#include "comm/comm.h"

typedef struct dpr_comm_ops {
    const char *kind;
    void (*destroy)(dpr_comm_t *comm);
    dpr_status_t (*channel_open)(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                                 dpr_comm_channel_t **channel);
    void (*channel_close)(dpr_comm_channel_t *channel);
    dpr_status_t (*channel_send)(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                                 double cost_sec, dpr_stream_t *stream);
    dpr_status_t (*channel_recv)(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                                 double cost_sec, dpr_stream_t *stream);
    dpr_status_t (*group_open)(dpr_comm_t *comm, const int *ranks, int count,
                               dpr_comm_group_t **group);
    void (*group_close)(dpr_comm_group_t *group);
    dpr_status_t (*group_allreduce_sum)(dpr_comm_group_t *group, void *buffer, size_t count,
                                        dpr_element_t element, double cost_sec,
                                        dpr_stream_t *stream);
    dpr_status_t (*barrier)(dpr_comm_t *comm);
    dpr_status_t (*allgather)(dpr_comm_t *comm, const void *in, size_t bytes, void *out);
    dpr_status_t (*gather)(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                           void *out);
    dpr_status_t (*measure_link)(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                 dpr_link_measure_t *measure);
    dpr_status_t (*check)(dpr_comm_t *comm);
    void (*interrupt)(dpr_comm_t *comm);
    void (*needs)(const dpr_comm_t *comm, int channels, int groups, dpr_comm_needs_t *needs);
    void (*describe)(const dpr_comm_t *comm, char *text, size_t size);
    void (*abort)(dpr_comm_t *comm, int exit_code); /* does not return */
} dpr_comm_ops_t;

/* Every backend's objects begin with these. */
struct dpr_comm {
    const dpr_comm_ops_t *ops;
    dpr_device_t *device;
    int rank;
    int size;
    int node_rank;
    int node_size;
};

struct dpr_comm_channel {
    dpr_comm_t *comm;
    int source;
    int destination;
    size_t max_bytes;
};

struct dpr_comm_group {
    dpr_comm_t *comm;
    int size;
};

#endif
