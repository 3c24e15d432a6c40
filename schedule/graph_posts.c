/*
 * The order of a lowered program's sends and receives, put into the channels.
 *
 * Without posts a channel carries its messages in the order in which they are produced, at either
 * end. A lowered program says the order itself, and may say two different ones: then the graph has
 * a cycle, and dpr_graph_verify shows it.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/graph_impl.h"

/* The transfer that a post is one end of, or -1 where the graph has none or its end is elsewhere.
 */
static int32_t find_transfer(const dpr_graph_t *graph, const dpr_post_t *post)
{
    const bool is_act = post->kind == DPR_POST_SEND_F || post->kind == DPR_POST_RECV_F;
    const bool is_send = post->kind == DPR_POST_SEND_F || post->kind == DPR_POST_SEND_B;
    const int32_t producer = post->stage + (is_send ? 0 : is_act ? -1 : 1);
    if (producer < 0 || producer >= graph->stages || post->micro_batch < 0 ||
        post->micro_batch >= graph->micro_batches) {
        return -1;
    }
    const dpr_cell_t *cell = graph_cell(graph, producer, post->micro_batch);
    const int32_t transfer = is_act ? cell->send_act : cell->send_grad;
    if (transfer < 0) {
        return -1;
    }
    const dpr_node_t *node = &graph->nodes[transfer];
    return (is_send ? node->rank : node->peer) == post->rank ? transfer : -1;
}

static dpr_status_t fail_post(const dpr_post_t *post, const char *problem)
{
    char text[32];
    return dpr_fail(DPR_ERR_PROGRAM, "rank %d: %s: %s", post->rank,
                    dpr_post_format(*post, text, sizeof text), problem);
}

/* `placed` counts, for each channel, the sends and then the receives put into it. */
static dpr_status_t place_post(dpr_graph_t *graph, const dpr_post_t *post, int32_t *placed)
{
    const int32_t transfer = find_transfer(graph, post);
    if (transfer < 0) {
        return fail_post(post, "none of the rank's actions needs it");
    }
    const bool is_send = post->kind == DPR_POST_SEND_F || post->kind == DPR_POST_SEND_B;
    const int32_t index = graph->nodes[transfer].channel;
    const dpr_channel_t *channel = &graph->channels[index];
    int32_t *count = &placed[2 * index + (is_send ? 0 : 1)];
    if (*count == channel->count) {
        return fail_post(post, "expected each send and receive once");
    }
    int32_t *messages = is_send ? graph->send_messages : graph->recv_messages;
    messages[channel->first + (*count)++] = transfer;
    return DPR_OK;
}

static dpr_status_t check_placed(const dpr_graph_t *graph, const int32_t *placed)
{
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        for (int end = 0; end < 2; end++) {
            if (placed[2 * c + end] < channel->count) {
                return dpr_fail(DPR_ERR_PROGRAM,
                                "rank %d posts %d of the %d %s %s rank %d that its actions need",
                                end == 0 ? channel->source : channel->destination,
                                placed[2 * c + end], channel->count,
                                channel->kind == DPR_NODE_SEND_ACT ? "activations" : "gradients",
                                end == 0 ? "to" : "from",
                                end == 0 ? channel->destination : channel->source);
            }
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_graph_apply_posts(dpr_graph_t *graph, const dpr_program_t *program)
{
    if (program->post_count == 0) {
        return DPR_OK;
    }
    int32_t *placed;
    DPR_TRY(dpr_calloc(2 * (size_t)graph->channel_count, sizeof *placed, &placed));
    dpr_status_t status = DPR_OK;
    for (size_t i = 0; i < program->post_count && status == DPR_OK; i++) {
        status = place_post(graph, &program->posts[i], placed);
    }
    if (status == DPR_OK) {
        status = check_placed(graph, placed);
    }
    free(placed);
    return status;
}
