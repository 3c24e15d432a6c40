/*
 * Communication: the messages of a step, what a schedule asks of the links, and the gradient
 * reductions after it.
 *
 * Counted from the op graph, so for any program. The closed forms beside it hold for the schedules
 * that are known by their placement:
 *
 *     one-way, stage s on rank s (gpipe, 1f1b, zb1p, zb2p)       2 M (P - 1) messages a step
 *     dualpipe, chimera, half of the micro-batches each way               2 M (P - 1)
 *     V, stages r and 2P-1-r on rank r (dualpipev, zbv, v-*)     4 M (P - 1); the turn in the last
 *                                                                rank is no message
 *     loop, stage s on rank s mod P, S = vP (interleaved-1f1b)   2 M (vP - 1), none where P = 1
 */
#ifndef DPR_MODELS_COMMUNICATION_H
#define DPR_MODELS_COMMUNICATION_H

#include "models/costs.h"

/* Of one channel or rank, or of all, in one step. */
typedef struct dpr_traffic {
    int64_t messages;
    int64_t bytes;
} dpr_traffic_t;

typedef struct dpr_traffic_counts {
    int32_t ranks;
    int32_t channels;
    dpr_traffic_t *channel;  /* [channels], as graph->channels */
    dpr_traffic_t *sent;     /* [ranks] */
    dpr_traffic_t *received; /* [ranks] */
    dpr_traffic_t total;
} dpr_traffic_counts_t;

/*
 * Counts the transfers of a graph, each of message_bytes. On success the caller owns *counts
 * (dpr_traffic_free). Errors: DPR_ERR_INVALID where message_bytes is negative or the bytes exceed
 * 2^63 - 1; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_traffic_count(const dpr_graph_t *graph, int64_t message_bytes,
                               dpr_traffic_counts_t *counts);
void dpr_traffic_free(dpr_traffic_counts_t *counts);

/*
 * Closed form of the messages from rank `source` to rank `destination` in a step; kind is
 * DPR_NODE_SEND_ACT or DPR_NODE_SEND_GRAD. Exact, wherever the schedule allows (P, M).
 * Errors: DPR_ERR_INVALID where the schedule is unknown or does not allow (P, M);
 * DPR_ERR_UNSUPPORTED where its placement is not one of those above.
 */
dpr_status_t dpr_traffic_closed_form(const char *schedule, int ranks, int micro_batches, int source,
                                     int destination, dpr_node_kind_t kind, int64_t *messages);

/* The same for all ranks together: the formulas above. Errors: as above. */
dpr_status_t dpr_traffic_total_closed_form(const char *schedule, int ranks, int micro_batches,
                                           int64_t *messages);

/*
 * The largest wire time of one message with which the simulated makespan is at most (1 + tolerance)
 * times the one without any, found by bisection to 1e-9 relative; INFINITY where nothing is sent or
 * all costs are 0. The makespan is a maximum of sums, so it never falls with the wire time.
 * The first message of the fill and the last of the drain are never hidden, so with tolerance 0
 * the answer is 0 for most schedules. costs->wire is not used.
 * Errors: DPR_ERR_INVALID where the tolerance or a cost is negative or not finite, or the makespan
 * is not finite; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_wire_hidden(const dpr_graph_t *graph, const dpr_uniform_costs_t *costs,
                             double tolerance, double *wire_sec);

/*
 * Bytes per second that a link must carry so that a message of message_bytes takes wire_sec with
 * latency_sec before the first byte: bytes / (wire - latency). INFINITY where the latency alone is
 * too long, 0 where any bandwidth will do.
 */
double dpr_wire_bandwidth(int64_t message_bytes, double wire_sec, double latency_sec);

/*
 * Where two programs change places as the wire time grows: the one with the shorter makespan at
 * first (without wire time or, where they are equal there, as soon as they differ) is the longer
 * beyond wire_sec. Looked for on a grid of 64 steps up to `most` and bisected to 1e-9 relative;
 * programs that change places twice within one step are missed. Makespans nearer than 1e-12
 * relative count as equal. Each graph has its own compute costs (their wire is not used), for the
 * same model may be cut into different numbers of stages.
 * Errors: DPR_ERR_INVALID where `most` is not above 0 and finite, or a cost is negative or not, or
 * a makespan is not finite; DPR_ERR_MEMORY.
 */
typedef struct dpr_wire_crossover {
    double wire_sec; /* NAN: they do not change places up to `most` */
    int before;      /* -1: a is the shorter at first; 1: b; 0: equal all the way */
    int beyond;      /* the same just beyond wire_sec; `before` where there is none */
} dpr_wire_crossover_t;

dpr_status_t dpr_wire_crossover(const dpr_graph_t *a, const dpr_uniform_costs_t *costs_a,
                                const dpr_graph_t *b, const dpr_uniform_costs_t *costs_b,
                                double most, dpr_wire_crossover_t *crossover);

/*
 * Gradient reduction after a step, by ring all-reduce: of n members each sends 2 (n - 1) messages
 * and 2 (n - 1) / n of the bytes (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce"), which
 * is bandwidth-optimal.
 */
typedef struct dpr_reduction {
    int32_t stages;   /* reductions that the rank takes part in, one a stage */
    int64_t messages; /* that the rank sends */
    double bytes;     /* that the rank sends, ring chunks not rounded */
} dpr_reduction_t;

/*
 * What each rank sends for the stages it holds: within one pipeline where a stage lives on two
 * ranks (the replica reduction of dualpipe), and over `replicas` data-parallel copies of the whole
 * pipeline. `replica` counts the former alone (as if replicas were 1), `all` the ring over all
 * (holders x replicas) members, which replaces it where replicas > 1. gradient_bytes[stage] is of
 * one copy. replica[] and all[] have an element a rank.
 * Errors: DPR_ERR_INVALID where replicas is not in 1 .. 1048576; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_reduction_count(const dpr_graph_t *graph, const int64_t *gradient_bytes,
                                 int replicas, dpr_reduction_t *replica, dpr_reduction_t *all);

#endif
