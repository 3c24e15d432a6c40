/*
 * Costs: what each node of a graph takes, in seconds (or any one unit of time).
 *
 * Everything that predicts works on one array, cost[node]; this file fills it from a model of the
 * costs. Perturbations (a slow rank, jitter) are further passes over the same array.
 */
#ifndef DPR_MODELS_COSTS_H
#define DPR_MODELS_COSTS_H

#include "schedule/graph.h"

/* The same costs for every stage and rank. b < 0 stands for i + w, fb < 0 for f + b. `wire` is one
 * transfer. */
typedef struct dpr_uniform_costs {
    double f;
    double i;
    double w;
    double b;
    double fb;
    double wire;
} dpr_uniform_costs_t;

#define DPR_UNIFORM_COSTS_DEFAULT                                                                  \
    {                                                                                              \
        .f = 1.0, .i = 1.0, .w = 1.0, .b = -1.0, .fb = -1.0, .wire = 0.0                           \
    }

static inline double dpr_uniform_b(const dpr_uniform_costs_t *costs)
{
    return costs->b < 0.0 ? costs->i + costs->w : costs->b;
}

static inline double dpr_uniform_fb(const dpr_uniform_costs_t *costs)
{
    return costs->fb < 0.0 ? costs->f + dpr_uniform_b(costs) : costs->fb;
}

/*
 * Parses "F=1,I=1,W=1,B=2,FB=3,wire=0": any subset, any order, upper or lower case; what is not
 * named keeps the default. Errors: DPR_ERR_INVALID, logged with the offending part, for unknown
 * names, repeated names and values that are negative, not finite or not numbers.
 */
dpr_status_t dpr_uniform_costs_parse(const char *text, dpr_uniform_costs_t *costs);

/* Fills cost[0 .. node_count - 1]. */
void dpr_uniform_costs_fill(const dpr_uniform_costs_t *costs, const dpr_graph_t *graph,
                            double *cost);

/*
 * A table, as calibration measures it: per rank and stage for F, B, I and W, per rank and pair of
 * stages for FB, per pair of ranks for the link (latency and bandwidth). NAN marks what was not
 * measured.
 */
typedef struct dpr_cost_table {
    int32_t ranks;
    int32_t stages;
    double *compute;                 /* [rank][stage][F, B, I, W]: (rank * S + stage) * 4 + kind */
    double *fb;                      /* [rank][f_stage][b_stage], or NULL: then FB = F + B */
    double *latency_sec;             /* [source][destination] */
    double *bandwidth_bytes_per_sec; /* [source][destination] */
} dpr_cost_table_t;

/* Everything NAN. Errors: DPR_ERR_MEMORY. */
dpr_status_t dpr_cost_table_init(dpr_cost_table_t *table, int ranks, int stages);
void dpr_cost_table_free(dpr_cost_table_t *table);

/*
 * Fills cost[] from the table; a transfer of message_bytes takes latency + bytes / bandwidth. B
 * that is NAN is I + W, FB that is NAN is F + B. Errors: DPR_ERR_INVALID where a cost that the
 * graph needs is NAN all the same, logged with the rank, the stage and the kind.
 */
dpr_status_t dpr_cost_table_fill(const dpr_cost_table_t *table, const dpr_graph_t *graph,
                                 size_t message_bytes, double *cost);

/*
 * The uniform costs nearest to a cost array: the mean of each kind over the graph's nodes, what the
 * closed forms take. A kind that does not occur is derived (I and W from B by halves, B = I + W, FB
 * = F + B).
 */
void dpr_uniform_costs_mean(const dpr_graph_t *graph, const double *cost,
                            dpr_uniform_costs_t *costs);

#endif
