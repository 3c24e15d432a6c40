/*
 * Slots of the channels' pools.
 *
 * Receive: each message, in the order in which the receiver posts them, takes the slot whose
 * previous occupant is read last the soonest, and waits for that reader.
 *
 * How many are enough: a message blocks every later one of its channel, so let need(j) be the first
 * op of the receiver, in program order, that consumes message j or a later one. With slots enough
 * that whatever reader message j waits for comes before need(j), the wait adds nothing to the
 * graph: every path from the transfer leads through such a consumer, which ORDER has after that
 * reader already (unless it leads through the sender, which waits for a send slot). So receive
 * slots found this way never make a program deadlock that would not with any number of them.
 *
 * need() never falls along the channel. A slot that is free for one message is so for every later
 * one, hence taking a new slot only when none is free takes the fewest.
 */
#include <assert.h>
#include <string.h>

#include "schedule/graph_impl.h"
#include "schedule/heap.h"

/* Reader in the upper half: the heap's least is the slot that is free first, lowest of equals. */
static int64_t slot_key(int32_t reader, int32_t slot)
{
    return (int64_t)(((uint64_t)(uint32_t)(reader + 1) << 32) | (uint32_t)slot);
}

static int32_t key_reader(int64_t key)
{
    return (int32_t)(key >> 32) - 1;
}

static int32_t key_slot(int64_t key)
{
    return (int32_t)(key & INT32_MAX);
}

static const dpr_cell_t *message_consumer(const dpr_graph_t *graph, int32_t at)
{
    return graph_consumer(graph, &graph->nodes[graph->recv_messages[at]]);
}

/* The op that consumes message `at`. */
static int32_t consumer_op(const dpr_graph_t *graph, const dpr_channel_t *channel, int32_t at)
{
    const dpr_cell_t *cell = message_consumer(graph, at);
    return channel->kind == DPR_NODE_SEND_ACT ? cell->forward : cell->backward;
}

static dpr_status_t count_slots(const dpr_graph_t *graph, const dpr_channel_t *channel,
                                const int32_t *need, heap_t *readers)
{
    for (int32_t i = 0; i < channel->count; i++) {
        const int32_t reader = cell_last_reader(message_consumer(graph, channel->first + i));
        if (readers->count > 0 && readers->keys[0] < need[i]) {
            heap_replace(readers, reader);
        } else {
            DPR_TRY(heap_push(readers, reader));
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_graph_least_recv_slots(const dpr_graph_t *graph, const dpr_channel_t *channel,
                                        int32_t *slots)
{
    int32_t *need;
    DPR_TRY(dpr_calloc((size_t)channel->count, sizeof *need, &need));
    int32_t first = INT32_MAX;
    for (int32_t i = channel->count - 1; i >= 0; i--) {
        const int32_t op = consumer_op(graph, channel, channel->first + i);
        first = op < first ? op : first;
        need[i] = first;
    }
    heap_t readers = {0};
    const dpr_status_t status = count_slots(graph, channel, need, &readers);
    if (status == DPR_OK) {
        *slots = (int32_t)readers.count;
    }
    heap_free(&readers);
    free(need);
    return status;
}

static dpr_status_t assign_recv(dpr_graph_t *graph, const dpr_channel_t *channel, heap_t *free_at,
                                slot_waits_t *waits)
{
    const dpr_buffer_kind_t kind =
        channel->kind == DPR_NODE_SEND_ACT ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN;
    free_at->count = 0;
    for (int32_t slot = 0; slot < channel->recv_slots; slot++) {
        DPR_TRY(heap_push(free_at, slot_key(-1, slot)));
    }
    for (int32_t i = channel->first; i < channel->first + channel->count; i++) {
        const int32_t node = graph->recv_messages[i];
        dpr_cell_t *cell = graph_consumer(graph, &graph->nodes[node]);
        const int64_t key = free_at->keys[0];
        cell->buffer[kind].slot = key_slot(key);
        waits->recv_reader[node - graph->compute_count] = key_reader(key);
        heap_replace(free_at, slot_key(cell_last_reader(cell), key_slot(key)));
    }
    return DPR_OK;
}

static void assign_send(dpr_graph_t *graph, const dpr_channel_t *channel, slot_waits_t *waits)
{
    const dpr_buffer_kind_t kind =
        channel->kind == DPR_NODE_SEND_ACT ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT;
    const int32_t *messages = graph->send_messages + channel->first;
    for (int32_t j = 0; j < channel->count; j++) {
        const dpr_node_t *node = &graph->nodes[messages[j]];
        graph_cell(graph, node->stage, node->micro_batch)->buffer[kind].slot =
            j % channel->send_slots;
        waits->send_transfer[messages[j] - graph->compute_count] =
            j >= channel->send_slots ? messages[j - channel->send_slots] : -1;
    }
}

dpr_status_t dpr_graph_assign_channels(dpr_graph_t *graph, slot_waits_t *waits)
{
    heap_t free_at = {0};
    dpr_status_t status = DPR_OK;
    for (int32_t c = 0; c < graph->channel_count && status == DPR_OK; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        assert(channel->send_slots > 0 && channel->recv_slots > 0);
        graph->pools[channel->send_pool].slots = channel->send_slots;
        graph->pools[channel->recv_pool].slots = channel->recv_slots;
        assign_send(graph, channel, waits);
        status = assign_recv(graph, channel, &free_at, waits);
    }
    heap_free(&free_at);
    return status;
}
