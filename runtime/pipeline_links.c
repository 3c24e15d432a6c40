/*
 * What a pipeline's steps run on and travel over: streams, channels, groups, and the events and
 * recordings that go with them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "runtime/pipeline_impl.h"

/* ---- Streams ---- */

/* Lets the device say at once what it would say in the first step. */
static dpr_status_t try_recording(dpr_pipeline_t *pipeline)
{
    dpr_recording_t *recording;
    if (!pipeline->options.record) {
        return DPR_OK;
    }
    DPR_TRY(dpr_recording_begin(pipeline->compute));
    DPR_TRY(dpr_recording_end(pipeline->compute, &recording));
    dpr_recording_destroy(recording);
    return DPR_OK;
}

dpr_status_t pipeline_create_streams(dpr_pipeline_t *pipeline)
{
    dpr_device_t *device = pipeline->options.device;
    dpr_kernels_t *kernels = pipeline->options.kernels;
    DPR_TRY(dpr_stream_create(device, "compute", 0, &pipeline->compute));
    DPR_TRY(kernels->prepare(kernels, pipeline->compute));
    if (pipeline->has_second) {
        DPR_TRY(dpr_stream_create(device, "compute-2", 0, &pipeline->second));
        DPR_TRY(kernels->prepare(kernels, pipeline->second));
    }
    DPR_TRY(dpr_stream_create(device, "load", 0, &pipeline->load));
    DPR_TRY(dpr_event_create(device, &pipeline->played));
    DPR_TRY(dpr_event_create(device, &pipeline->reduced));
    DPR_TRY(dpr_event_create(device, &pipeline->shared));
    DPR_TRY(dpr_event_create(device, &pipeline->updated));
    return try_recording(pipeline);
}

/* ---- Channels and groups ---- */

static dpr_status_t create_link(dpr_pipeline_t *pipeline, const dpr_channel_t *channel,
                                dpr_link_t *link)
{
    DPR_TRY(dpr_channel_open(pipeline->options.comm, channel->source, channel->destination,
                             dpr_pipeline_message_bytes(pipeline), &link->channel));
    if (link->channel == NULL) {
        return DPR_OK;
    }
    const bool is_source = channel->source == pipeline->rank;
    char name[32];
    snprintf(name, sizeof name, "%s-%s-%d", channel->kind == DPR_NODE_SEND_ACT ? "act" : "grad",
             is_source ? "to" : "from", is_source ? channel->destination : channel->source);
    return dpr_stream_create(pipeline->options.device, name, 1, &link->stream);
}

/* An evaluation uses the training graph's links. */
static dpr_status_t share_links(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *train = pipeline->train.graph;
    const dpr_graph_t *eval = pipeline->eval.graph;
    for (int32_t e = 0; e < eval->channel_count; e++) {
        for (int32_t t = 0; t < train->channel_count; t++) {
            if (train->channels[t].source == eval->channels[e].source &&
                train->channels[t].destination == eval->channels[e].destination &&
                train->channels[t].kind == eval->channels[e].kind) {
                pipeline->eval.links[e] = pipeline->train.links[t];
            }
        }
    }
    return DPR_OK;
}

dpr_status_t pipeline_create_links(dpr_pipeline_t *pipeline)
{
    const dpr_graph_t *graph = pipeline->train.graph;
    DPR_TRY(dpr_calloc((size_t)graph->channel_count, sizeof(dpr_link_t), &pipeline->train.links));
    DPR_TRY(dpr_calloc((size_t)pipeline->eval.graph->channel_count, sizeof(dpr_link_t),
                       &pipeline->eval.links));
    for (int32_t c = 0; c < graph->channel_count; c++) {
        DPR_TRY(create_link(pipeline, &graph->channels[c], &pipeline->train.links[c]));
    }
    return share_links(pipeline);
}

static bool has_replica_group(const dpr_pipeline_t *pipeline, const int ranks[2])
{
    for (int i = 0; i < pipeline->replica_count; i++) {
        const int *known = pipeline->replicas[i].ranks;
        if (known[0] == ranks[0] && known[1] == ranks[1]) {
            return true;
        }
    }
    return false;
}

dpr_status_t pipeline_create_groups(dpr_pipeline_t *pipeline)
{
    dpr_comm_t *comm = pipeline->options.comm;
    const int stages = pipeline->train.graph->stages;
    DPR_TRY(dpr_calloc((size_t)stages, sizeof(replica_group_t), &pipeline->replicas));
    for (int s = 0; s < stages; s++) {
        const int pair[2] = {pipeline->holders[2 * s], pipeline->holders[2 * s + 1]};
        if (pair[1] < 0 || has_replica_group(pipeline, pair)) {
            continue;
        }
        replica_group_t *replica = &pipeline->replicas[pipeline->replica_count++];
        replica->ranks[0] = pair[0];
        replica->ranks[1] = pair[1];
        DPR_TRY(dpr_group_open(comm, pair, 2, &replica->group));
    }
    const int size = dpr_comm_size(comm);
    int *all;
    DPR_TRY(dpr_calloc((size_t)size, sizeof *all, &all));
    for (int r = 0; r < size; r++) {
        all[r] = r;
    }
    const dpr_status_t status = dpr_group_open(comm, all, size, &pipeline->world);
    free(all);
    return status;
}

void pipeline_destroy_links(dpr_pipeline_t *pipeline)
{
    for (int slot = 0; slot < 2; slot++) {
        dpr_recording_destroy(pipeline->recorded[slot].recording);
    }
    dpr_stream_destroy(pipeline->compute);
    dpr_stream_destroy(pipeline->second);
    dpr_stream_destroy(pipeline->load);
    for (int32_t c = 0; pipeline->train.links != NULL && c < pipeline->train.graph->channel_count;
         c++) {
        dpr_stream_destroy(pipeline->train.links[c].stream);
        dpr_channel_close(pipeline->train.links[c].channel);
    }
    for (int i = 0; i < pipeline->replica_count; i++) {
        dpr_group_close(pipeline->replicas[i].group);
    }
    dpr_group_close(pipeline->world);
    dpr_event_destroy(pipeline->played);
    dpr_event_destroy(pipeline->reduced);
    dpr_event_destroy(pipeline->shared);
    dpr_event_destroy(pipeline->updated);
}
