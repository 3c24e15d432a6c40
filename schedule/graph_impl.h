/*
 * What the files of the op graph share.
 *
 *     graph.c          program -> nodes, cells, channels; how many slots each channel has
 *     graph_slots.c    slots of the compute stream's pools, by walking each rank's program
 *     graph_channels.c slots of the receive and send pools, by walking each channel
 *     graph_posts.c    the order of the messages, where a lowered program says it
 *     graph_connect.c  edges
 *     graph_verify.c   topological order
 *     graph_explain.c  the counterexample where there is none
 */
#ifndef DPR_SCHEDULE_GRAPH_IMPL_H
#define DPR_SCHEDULE_GRAPH_IMPL_H

#include "schedule/graph.h"

/* One thing that a node does to one cell: an F, or a backward (B or I), or a W. FB does two. */
typedef struct node_part {
    uint8_t kind; /* DPR_NODE_F, _B, _I or _W */
    int32_t stage;
    int32_t micro_batch;
} node_part_t;

static inline int node_parts(const dpr_node_t *node, node_part_t parts[2])
{
    if (node->kind != DPR_NODE_FB) {
        parts[0] = (node_part_t){node->kind, node->stage, node->micro_batch};
        return 1;
    }
    parts[0] = (node_part_t){DPR_NODE_F, node->stage, node->micro_batch};
    parts[1] = (node_part_t){DPR_NODE_B, node->b_stage, node->b_micro_batch};
    return 2;
}

static inline dpr_cell_t *graph_cell(const dpr_graph_t *graph, int32_t stage, int32_t micro_batch)
{
    return &graph->cells[(size_t)stage * (size_t)graph->micro_batches + (size_t)micro_batch];
}

/* The cell that consumes what transfer `node` brings. */
static inline dpr_cell_t *graph_consumer(const dpr_graph_t *graph, const dpr_node_t *node)
{
    const int32_t step = node->kind == DPR_NODE_SEND_ACT ? 1 : -1;
    return graph_cell(graph, node->stage + step, node->micro_batch);
}

/* The op that is the last to read the inputs of a cell and what its forward saved. */
static inline int32_t cell_last_reader(const dpr_cell_t *cell)
{
    return cell->weight >= 0 ? cell->weight : cell->forward;
}

/* Puts the posts of a lowered program into the channels, in their order. Errors: DPR_ERR_PROGRAM
 * where they are not those that its actions need. */
dpr_status_t dpr_graph_apply_posts(dpr_graph_t *graph, const dpr_program_t *program);

/* Assigns every buffer of the compute stream's pools, and sets their slot counts. */
dpr_status_t dpr_graph_assign_slots(dpr_graph_t *graph);

/* The least receive slots with which a channel never blocks a consumer by itself. */
dpr_status_t dpr_graph_least_recv_slots(const dpr_graph_t *graph, const dpr_channel_t *channel,
                                        int32_t *slots);

/*
 * What the slots of one channel make wait, by transfer number (node - compute_count): the op whose
 * end frees its receive slot, and the transfer whose end frees the send slot that its producer
 * writes; -1 for none.
 */
typedef struct slot_waits {
    int32_t *recv_reader;
    int32_t *send_transfer;
} slot_waits_t;

/* Assigns the slots of every channel in the order of its messages. */
dpr_status_t dpr_graph_assign_channels(dpr_graph_t *graph, slot_waits_t *waits);

/* Orders the nodes; *placed is how many could be, all of them where there is no cycle. The rest of
 * `order` (node_count) is then not set. */
dpr_status_t dpr_graph_sort(const dpr_graph_t *graph, int32_t *order, int32_t *placed);

/* Lowers the program; the order comes along where finding the slots has proved it, else NULL. */
dpr_status_t dpr_graph_lower(const dpr_program_t *program, const dpr_graph_options_t *options,
                             dpr_graph_t **graph, int32_t **order);

/* Logs the counterexample of a graph of which `order` holds the nodes outside every cycle. Returns
 * DPR_ERR_DEADLOCK, or DPR_ERR_MEMORY. */
dpr_status_t dpr_graph_explain(const dpr_graph_t *graph, const int32_t *order, int32_t placed);

#endif
