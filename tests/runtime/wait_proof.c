/* Reachability in the op graph with an edge left out. */
#include "wait_proof.h"

#include <stdlib.h>

enum { PARTS = 3 };

/* The vertices of a transfer on its way: what the sender's command does first, what both ends meet
 * at, what the receiver's does last; a compute op has the first alone. */
typedef enum part { PART_SEND, PART_MEET, PART_RECV } part_t;

typedef struct search {
    const dpr_graph_t *graph;
    proof_transfers_t transfers;
    int32_t without_from; /* the edge that is left out; -1: none */
    int32_t without_to;
    int32_t unheld; /* the transfer behind which its sender's stream goes on; -1: none */
    bool *seen;     /* [PARTS * node_count] */
} search_t;

static int32_t vertex(const search_t *search, int32_t node, part_t part)
{
    if (!dpr_node_is_transfer(&search->graph->nodes[node]) || search->transfers == PROOF_MEETING) {
        return PARTS * node;
    }
    return PARTS * node + (int32_t)part;
}

/* Where an edge enters a node: a receive that is held up has not come to the meeting. */
static int32_t entrance(const search_t *search, int32_t node, const dpr_edge_t *edge)
{
    const bool at_receiver =
        edge->kind == DPR_EDGE_RECV_ORDER || edge->kind == DPR_EDGE_RECV_BUFFER;
    if (!at_receiver) {
        return vertex(search, node, PART_SEND);
    }
    return vertex(search, node, search->transfers == PROOF_SPLIT ? PART_RECV : PART_MEET);
}

/* Where it leaves one: a sender goes on once the meeting is over, or, split, once it has sent. */
static int32_t leaving(const search_t *search, int32_t to, const dpr_edge_t *edge)
{
    const dpr_node_t *target = &search->graph->nodes[to];
    const dpr_node_t *source = &search->graph->nodes[edge->from];
    const bool at_receiver = edge->kind == DPR_EDGE_RECV_ORDER ||
                             (!dpr_node_is_transfer(target) && source->peer == target->rank);
    if (at_receiver) {
        return vertex(search, edge->from, PART_RECV);
    }
    const bool held = search->transfers == PROOF_STAGED && edge->from != search->unheld;
    return vertex(search, edge->from, held ? PART_MEET : PART_SEND);
}

static void visit(search_t *search, int32_t at);

static void visit_edge(search_t *search, int32_t at, int32_t to, const dpr_edge_t *edge)
{
    const bool dropped = edge->from == search->without_from && to == search->without_to &&
                         edge->kind != DPR_EDGE_SEND_ORDER && edge->kind != DPR_EDGE_RECV_ORDER;
    if (!dropped && leaving(search, to, edge) == at) {
        visit(search, entrance(search, to, edge));
    }
}

static void visit(search_t *search, int32_t at)
{
    const dpr_graph_t *graph = search->graph;
    const int32_t node = at / PARTS;
    if (search->seen[at]) {
        return;
    }
    search->seen[at] = true;
    if (dpr_node_is_transfer(&graph->nodes[node]) && at % PARTS < PART_RECV) {
        visit(search,
              vertex(search, node, (part_t)(at % PARTS + 1))); /* the same where they meet */
    }
    for (int32_t to = 0; to < graph->node_count; to++) {
        for (int32_t e = graph->edge_begin[to]; e < graph->edge_begin[to + 1]; e++) {
            if (graph->edges[e].from == node) {
                visit_edge(search, at, to, &graph->edges[e]);
            }
        }
    }
}

static bool reaches(search_t *search, int32_t from, int32_t to)
{
    search->seen = calloc(PARTS * (size_t)search->graph->node_count, sizeof(bool));
    visit(search, from);
    const bool reached = search->seen[to];
    free(search->seen);
    return reached;
}

static bool is_receiver(const dpr_graph_t *graph, int32_t node, int rank)
{
    return dpr_node_is_transfer(&graph->nodes[node]) && graph->nodes[node].peer == rank;
}

bool proof_wait_is_implied(const dpr_graph_t *graph, const dpr_executor_wait_t *wait, int rank,
                           proof_transfers_t transfers)
{
    search_t search = {.graph = graph,
                       .transfers = transfers,
                       .without_from = wait->source_node,
                       .without_to = wait->command_node,
                       .unheld = -1};
    const part_t source = is_receiver(graph, wait->source_node, rank) ? PART_RECV : PART_SEND;
    const part_t command = is_receiver(graph, wait->command_node, rank) ? PART_RECV : PART_SEND;
    return reaches(&search, vertex(&search, wait->source_node, source),
                   vertex(&search, wait->command_node, command));
}

bool proof_send_hold_is_implied(const dpr_graph_t *graph, int32_t node)
{
    search_t search = {.graph = graph,
                       .transfers = PROOF_STAGED,
                       .without_from = -1,
                       .without_to = -1,
                       .unheld = node};
    const dpr_channel_t *channel = &graph->channels[graph->nodes[node].channel];
    for (int32_t i = 0; i + 1 < channel->count; i++) {
        if (graph->send_messages[channel->first + i] == node) {
            const int32_t next = graph->send_messages[channel->first + i + 1];
            return reaches(&search, vertex(&search, node, PART_MEET),
                           vertex(&search, next, PART_SEND));
        }
    }
    return true;
}
