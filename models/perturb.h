/*
 * Perturbations: what a real machine does to ideal costs, as further passes over cost[node].
 *
 *     model of the costs -> cost[node] -> stragglers -> jitter of draw d -> simulate
 *
 * Random numbers are by counter (base/random.h): the jitter of a node in a draw depends on the
 * seed, the draw and the node alone, so draws come out the same whatever thread plays them.
 */
#ifndef DPR_MODELS_PERTURB_H
#define DPR_MODELS_PERTURB_H

#include "schedule/graph.h"

/* Factors of a straggler, and coefficients of variation of a jitter, that are allowed. */
#define DPR_STRAGGLER_MIN 1e-3
#define DPR_STRAGGLER_MAX 1e3
#define DPR_JITTER_MAX    2.0

/*
 * Parses "3=1.5" or "3=1.5,0=2": compute on rank 3 takes 1.5 times as long. Sets factor[rank] for
 * the ranks named (`factor` has `ranks` entries, which the caller has set to 0, "not
 * named yet"; over all calls a rank may be named once). Errors:
 * DPR_ERR_INVALID, logged with the offending part, for what is not RANK=FACTOR, a rank that is not
 * there or named twice, or a factor that is not within DPR_STRAGGLER_MIN .. DPR_STRAGGLER_MAX.
 */
dpr_status_t dpr_straggler_parse(const char *text, int ranks, double *factor);

/* Multiplies the cost of every compute op by its rank's factor; transfers keep theirs. */
void dpr_perturb_stragglers(const dpr_graph_t *graph, const double *factor, double *cost);

/* Multiplies every op's cost by the factor of its kind (DPR_NODE_KINDS factors). */
void dpr_perturb_kinds(const dpr_graph_t *graph, const double *factor, double *cost);

/*
 * Independent log-normal noise on every op, transfers too: perturbed[n] is cost[n] times a factor
 * of mean 1 and coefficient of variation (standard deviation over mean) `variation`, 0 up to
 * DPR_JITTER_MAX. With s^2 = ln(1 + variation^2) and z standard normal at (seed, draw, n), the
 * factor is exp(s z - s^2 / 2). `perturbed` may be `cost`.
 */
void dpr_perturb_jitter(const dpr_graph_t *graph, double variation, uint64_t seed, uint64_t draw,
                        const double *cost, double *perturbed);

#endif
