/*
 * Op graph: a program lowered, once, to what every use of it needs.
 *
 *     program --dpr_graph_build--> graph --dpr_graph_verify--> an order, or a counterexample
 *                                    |
 *                                    +--> models/simulate   longest path with costs on the nodes
 *                                    +--> runtime/executor  each rank enqueues its nodes
 *                                    +--> schedule/timeline records, one per node
 *
 * Nodes are compute ops (one per action, on the rank's in-order compute stream) and transfers. A
 * transfer is ONE node for a matched send and receive, since under NCCL's rules (rendezvous, in
 * order per communicator and stream) neither side passes before the other has come.
 *
 * A channel carries one kind of traffic from one rank to another, first in, first out, on a stream
 * of its own at either end. Messages stand in the channel in the order in which their producers
 * run, or, at either end, in the order in which a lowered program posts them.
 *
 * Edges into a compute op: ORDER (the op before it on its rank), DATA (the transfers that bring its
 * inputs), SEND_BUFFER (the transfers that must have left the output buffers it reuses).
 * Edges into a transfer: SEND_ORDER and RECV_ORDER (the transfer before it in the channel as the
 * sender and as the receiver has it; the same one unless someone reordered), DATA (its producer),
 * RECV_BUFFER (the op that last read the receive buffer it reuses).
 * Everything between two ops of one rank is already in ORDER; no edge repeats it. Only where a
 * rank's list has a producer after its consumer, a DATA edge says so, and closes a cycle.
 *
 * The graph has a cycle exactly where the program would deadlock.
 */
#ifndef DPR_SCHEDULE_GRAPH_H
#define DPR_SCHEDULE_GRAPH_H

#include "schedule/program.h"

typedef enum dpr_node_kind {
    DPR_NODE_F = DPR_ACTION_F,
    DPR_NODE_B = DPR_ACTION_B,
    DPR_NODE_I = DPR_ACTION_I,
    DPR_NODE_W = DPR_ACTION_W,
    DPR_NODE_FB = DPR_ACTION_FB,
    DPR_NODE_SEND_ACT,  /* transfer of an activation; stage is the producer's */
    DPR_NODE_SEND_GRAD, /* transfer of a gradient; stage is the producer's */
} dpr_node_kind_t;

enum { DPR_NODE_KINDS = 7 };

typedef struct dpr_node {
    uint8_t kind;    /* dpr_node_kind_t */
    int32_t rank;    /* compute: where it runs; transfer: the sender */
    int32_t peer;    /* transfer: the receiver; compute: -1 */
    int32_t channel; /* transfer: its channel; compute: -1 */
    int32_t stage;   /* compute: as in the action; transfer: the producer's stage */
    int32_t micro_batch;
    int32_t b_stage; /* FB: the backward's; else -1 */
    int32_t b_micro_batch;
} dpr_node_t;

typedef enum dpr_edge_kind {
    DPR_EDGE_ORDER,
    DPR_EDGE_DATA,
    DPR_EDGE_SEND_BUFFER,
    DPR_EDGE_SEND_ORDER,
    DPR_EDGE_RECV_ORDER,
    DPR_EDGE_RECV_BUFFER,
} dpr_edge_kind_t;

/* An edge into a node: `from` must have ended before the node may start. */
typedef struct dpr_edge {
    int32_t from;
    int32_t kind; /* dpr_edge_kind_t */
} dpr_edge_t;

/* One channel and its messages, nodes in FIFO order as the sender and as the receiver posts them.
 * dpr_graph_build gives both the same order, but where a lowered program says otherwise. */
typedef struct dpr_channel {
    int32_t source;
    int32_t destination;
    int32_t kind;       /* DPR_NODE_SEND_ACT or DPR_NODE_SEND_GRAD */
    int32_t send_slots; /* buffers at the sender */
    int32_t recv_slots; /* buffers at the receiver */
    int32_t send_pool;
    int32_t recv_pool;
    int32_t first; /* messages are channel_messages[first .. first + count - 1] */
    int32_t count;
} dpr_channel_t;

/*
 * Buffers. Each lives in one slot of a pool of equal slots; a pool belongs to a rank. What a cell
 * (stage, micro-batch) uses:
 *
 *     ACT_IN    input activation      written by the transfer in (or F of the stage below, same
 *                                     rank), last read by W or B (F where forward only)
 *     ACT_OUT   output activation     written by F, read by the transfer out
 *     GRAD_IN   gradient of output    written by the transfer in (or the backward above, same
 *                                     rank), last read by W or B
 *     GRAD_OUT  gradient of input     written by I or B, read by the transfer out
 *     SAVED     what F keeps for the backward, from F to W or B (forward only: scratch of F)
 *     WSTATE    what I leaves for W, from I to W
 *
 * A hand-over within a rank is one buffer: ACT_OUT of stage s is ACT_IN of stage s + 1.
 */
typedef enum dpr_buffer_kind {
    DPR_BUFFER_ACT_IN,
    DPR_BUFFER_ACT_OUT,
    DPR_BUFFER_GRAD_IN,
    DPR_BUFFER_GRAD_OUT,
    DPR_BUFFER_SAVED,
    DPR_BUFFER_WSTATE,
} dpr_buffer_kind_t;

enum { DPR_BUFFER_KINDS = 6 };

typedef struct dpr_buffer {
    int32_t pool; /* -1: the cell has no such buffer (stage 0 has no ACT_IN) */
    int32_t slot;
} dpr_buffer_t;

typedef enum dpr_pool_kind {
    DPR_POOL_ACT,    /* slots hold one activation (micro-batch x hidden) */
    DPR_POOL_GRAD,   /* one gradient of that shape */
    DPR_POOL_SAVED,  /* one stage's saved set: the largest of the rank's stages */
    DPR_POOL_WSTATE, /* one stage's I-to-W set: the largest of the rank's stages */
} dpr_pool_kind_t;

enum { DPR_POOL_KINDS = 4 };

typedef struct dpr_pool {
    int32_t rank;
    int32_t kind;    /* dpr_pool_kind_t */
    int32_t channel; /* the channel it receives or sends for, -1 for a pool of the compute stream */
    int32_t slots;
} dpr_pool_t;

/* One (stage, micro-batch): the nodes that make it up and where its buffers are. */
typedef struct dpr_cell {
    int32_t rank;
    int32_t forward;  /* node of F or FB */
    int32_t backward; /* node of B, I or FB; -1 where forward only */
    int32_t weight;   /* node of W; equals `backward` for B and FB; -1 where forward only */
    int32_t send_act; /* transfer of its output activation; -1 where it stays on the rank or ends */
    int32_t send_grad; /* transfer of its input's gradient, likewise */
    dpr_buffer_t buffer[DPR_BUFFER_KINDS];
} dpr_cell_t;

typedef struct dpr_graph {
    int32_t ranks;
    int32_t stages;
    int32_t micro_batches;
    bool forward_only;

    /* Compute nodes come first, rank by rank in program order: rank r's are rank_begin[r] ..
     * rank_begin[r + 1] - 1. Transfers follow, channel by channel in FIFO order. */
    int32_t node_count;
    int32_t compute_count;
    dpr_node_t *nodes;
    int32_t *rank_begin; /* ranks + 1 */

    /* Edges into node n: edges[edge_begin[n]] .. edges[edge_begin[n + 1] - 1]. */
    int32_t edge_count;
    int32_t *edge_begin; /* node_count + 1 */
    dpr_edge_t *edges;

    int32_t channel_count;
    dpr_channel_t *channels; /* sorted by (source, destination, kind) */
    int32_t *send_messages;  /* all channels' messages as posted by the senders */
    int32_t *recv_messages;  /* and as posted by the receivers */

    /* The compute stream's come first: pools[DPR_POOL_KINDS * rank + kind], some with no slots;
     * then two for each channel. */
    int32_t pool_count;
    dpr_pool_t *pools;

    dpr_cell_t *cells; /* stage * micro_batches + micro_batch */

    int32_t *order; /* topological order of the nodes; NULL until dpr_graph_verify */
} dpr_graph_t;

/*
 * How many buffers a channel has. 0 asks for what the schedule needs:
 * recv_slots 0: the least that its order of consumption allows, plus recv_ahead, so that receives
 * are posted that many messages ahead of need.
 *
 * send_slots 0: 2, or the smallest power of two with which the graph has no cycle that unbounded
 * slots would not have.
 *
 * No channel gets more slots than it has messages.
 */
typedef struct dpr_graph_options {
    int32_t recv_slots;
    int32_t recv_ahead; /* used where recv_slots is 0 */
    int32_t send_slots;
} dpr_graph_options_t;

#define DPR_GRAPH_OPTIONS_DEFAULT                                                                  \
    {                                                                                              \
        .recv_slots = 0, .recv_ahead = 2, .send_slots = 0                                          \
    }

/*
 * Lowers a program that dpr_program_check accepts (it is called here). `options` NULL means the
 * default. On success the caller owns *graph (dpr_graph_destroy). O(nodes + edges), but for a
 * logarithm in the receive slots. Errors: those of dpr_program_check; DPR_ERR_PROGRAM, logged,
 * where a lowered program's posts are not those that its actions need; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_graph_build(const dpr_program_t *program, const dpr_graph_options_t *options,
                             dpr_graph_t **graph);

void dpr_graph_destroy(dpr_graph_t *graph);

/*
 * Rebuilds the edges from the program order, the channels' message orders and the slots, after a
 * test has changed send_messages, recv_messages or slots. Receive
 * slots are assigned in the order of recv_messages.
 * A message that one side posts and the other does not is DPR_ERR_DEADLOCK, logged with both ends.
 */
dpr_status_t dpr_graph_connect(dpr_graph_t *graph);

/*
 * Proves the graph free of deadlock, and stores the topological order, or logs the shortest cycle
 * found as the counterexample, one line per step: which rank, which op, waits for whom, and why.
 * Errors: DPR_ERR_DEADLOCK; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_graph_verify(dpr_graph_t *graph);

/* Builds and verifies: what everyone but a test calls. */
dpr_status_t dpr_graph_create(const dpr_program_t *program, const dpr_graph_options_t *options,
                              dpr_graph_t **graph);

/* The largest number of SAVED sets that rank r holds at once: its peak activations. */
int32_t dpr_graph_peak_activations(const dpr_graph_t *graph, int rank);

/* Writes a node for a person ("rank 2: 1F3", "rank 0 -> 1: activation of 0F3") into text. */
char *dpr_node_format(const dpr_graph_t *graph, int32_t node, char *text, size_t size);

static inline bool dpr_node_is_transfer(const dpr_node_t *node)
{
    return node->kind >= DPR_NODE_SEND_ACT;
}

#endif
