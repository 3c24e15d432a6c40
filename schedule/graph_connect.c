/* The edges of the op graph, from the program's order, the channels' orders and the slots. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/graph_impl.h"

/* What connecting needs for each transfer, by transfer number (node - compute_count). */
typedef struct connecting {
    dpr_graph_t *graph;
    int32_t *memory;      /* holds all of the below */
    int32_t *send_before; /* the transfer before it as the sender posts them */
    int32_t *recv_before;
    slot_waits_t waits;
    dpr_edge_t *edges;
    int32_t count;
} connecting_t;

enum { NOT_POSTED = -2 };

/* Notes what stands before each message of a channel, as one side posts them; other entries than
 * the channel's own messages are passed over: then one of those is missing. */
static void note_order(const dpr_graph_t *graph, const dpr_channel_t *channel,
                       const int32_t *messages, int32_t *before)
{
    const int32_t first = graph->compute_count + channel->first;
    int32_t last = -1;
    for (int32_t i = channel->first; i < channel->first + channel->count; i++) {
        const int32_t node = messages[i];
        if (node < first || node >= first + channel->count) {
            continue;
        }
        before[node - graph->compute_count] = last;
        last = node;
    }
}

static dpr_status_t note_orders(connecting_t *c)
{
    const dpr_graph_t *graph = c->graph;
    const int32_t transfers = graph->node_count - graph->compute_count;
    for (int32_t t = 0; t < transfers; t++) {
        c->send_before[t] = c->recv_before[t] = NOT_POSTED;
    }
    for (int32_t i = 0; i < graph->channel_count; i++) {
        note_order(graph, &graph->channels[i], graph->send_messages, c->send_before);
        note_order(graph, &graph->channels[i], graph->recv_messages, c->recv_before);
    }
    for (int32_t t = 0; t < transfers; t++) {
        const bool sent = c->send_before[t] != NOT_POSTED;
        const bool received = c->recv_before[t] != NOT_POSTED;
        if (sent && received) {
            continue;
        }
        const dpr_node_t *node = &graph->nodes[graph->compute_count + t];
        char text[96];
        dpr_node_format(graph, graph->compute_count + t, text, sizeof text);
        if (received) {
            return dpr_fail(DPR_ERR_DEADLOCK,
                            "%s: rank %d waits to receive it, but rank %d never sends it", text,
                            node->peer, node->rank);
        }
        if (sent) {
            return dpr_fail(DPR_ERR_DEADLOCK,
                            "%s: rank %d waits to send it, but rank %d never receives it", text,
                            node->rank, node->peer);
        }
        return dpr_fail(DPR_ERR_DEADLOCK,
                        "%s: rank %d needs it, but rank %d never sends it and rank %d never "
                        "receives it",
                        text, node->peer, node->rank, node->peer);
    }
    return DPR_OK;
}

static void add_edge(connecting_t *c, int32_t from, dpr_edge_kind_t kind)
{
    if (from >= 0) {
        c->edges[c->count++] = (dpr_edge_t){.from = from, .kind = (int32_t)kind};
    }
}

/* The input of a part: what brings it, where another rank produces it; on this rank ORDER has it
 * already, unless the program has the producer after its consumer. */
static void add_input(connecting_t *c, int32_t node, const node_part_t *part)
{
    const dpr_graph_t *graph = c->graph;
    const int32_t rank = graph->nodes[node].rank;
    if (part->kind == DPR_NODE_F) {
        if (part->stage > 0) {
            const dpr_cell_t *from = graph_cell(graph, part->stage - 1, part->micro_batch);
            if (from->rank != rank || from->forward > node) {
                add_edge(c, from->rank != rank ? from->send_act : from->forward, DPR_EDGE_DATA);
            }
        }
    } else if (part->kind != DPR_NODE_W && part->stage + 1 < graph->stages) {
        const dpr_cell_t *from = graph_cell(graph, part->stage + 1, part->micro_batch);
        if (from->rank != rank || from->backward > node) {
            add_edge(c, from->rank != rank ? from->send_grad : from->backward, DPR_EDGE_DATA);
        }
    }
}

/* The transfer that must have left the send slot into which a part writes its output. */
static void add_send_buffer(connecting_t *c, const node_part_t *part)
{
    const dpr_graph_t *graph = c->graph;
    const dpr_cell_t *cell = graph_cell(graph, part->stage, part->micro_batch);
    int32_t transfer = -1;
    if (part->kind == DPR_NODE_F) {
        transfer = cell->send_act;
    } else if (part->kind != DPR_NODE_W) {
        transfer = cell->send_grad;
    }
    if (transfer >= 0) {
        add_edge(c, c->waits.send_transfer[transfer - graph->compute_count], DPR_EDGE_SEND_BUFFER);
    }
}

static void connect_compute(connecting_t *c)
{
    const dpr_graph_t *graph = c->graph;
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
            graph->edge_begin[n] = c->count;
            add_edge(c, n > graph->rank_begin[rank] ? n - 1 : -1, DPR_EDGE_ORDER);
            node_part_t parts[2];
            const int count = node_parts(&graph->nodes[n], parts);
            for (int i = 0; i < count; i++) {
                add_input(c, n, &parts[i]);
            }
            for (int i = 0; i < count; i++) {
                add_send_buffer(c, &parts[i]);
            }
        }
    }
}

static void connect_transfers(connecting_t *c)
{
    const dpr_graph_t *graph = c->graph;
    for (int32_t n = graph->compute_count; n < graph->node_count; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        const dpr_cell_t *cell = graph_cell(graph, node->stage, node->micro_batch);
        const int32_t t = n - graph->compute_count;
        graph->edge_begin[n] = c->count;
        add_edge(c, c->send_before[t], DPR_EDGE_SEND_ORDER);
        add_edge(c, c->recv_before[t], DPR_EDGE_RECV_ORDER);
        add_edge(c, node->kind == DPR_NODE_SEND_ACT ? cell->forward : cell->backward,
                 DPR_EDGE_DATA);
        add_edge(c, c->waits.recv_reader[t], DPR_EDGE_RECV_BUFFER);
    }
    graph->edge_begin[graph->node_count] = c->count;
}

static dpr_status_t reserve(connecting_t *c)
{
    dpr_graph_t *graph = c->graph;
    const size_t transfers = (size_t)(graph->node_count - graph->compute_count);
    DPR_TRY(dpr_calloc(4 * transfers, sizeof *c->memory, &c->memory));
    c->send_before = c->memory;
    c->recv_before = c->memory + transfers;
    c->waits.recv_reader = c->memory + 2 * transfers;
    c->waits.send_transfer = c->memory + 3 * transfers;
    if (graph->edge_begin == NULL) {
        DPR_TRY(dpr_calloc((size_t)graph->node_count + 1, sizeof(int32_t), &graph->edge_begin));
    }
    if (graph->edges == NULL) {
        /* ORDER into every op, an input of every F and backward, and of each transfer the four into
         * it and the one through its send slot */
        const size_t cells = (size_t)graph->stages * (size_t)graph->micro_batches;
        DPR_TRY(dpr_calloc((size_t)graph->compute_count + 2 * cells + 5 * transfers,
                           sizeof *graph->edges, &graph->edges));
    }
    c->edges = graph->edges;
    return DPR_OK;
}

dpr_status_t dpr_graph_connect(dpr_graph_t *graph)
{
    connecting_t connecting = {.graph = graph};
    dpr_status_t status;
    free(graph->order); /* of the edges that were */
    graph->order = NULL;
    DPR_TRY_GOTO(reserve(&connecting), free_memory);
    DPR_TRY_GOTO(note_orders(&connecting), free_memory);
    DPR_TRY_GOTO(dpr_graph_assign_channels(graph, &connecting.waits), free_memory);
    connect_compute(&connecting);
    connect_transfers(&connecting);
    graph->edge_count = connecting.count;
free_memory:
    free(connecting.memory);
    return status;
}
