/*
 * Closed-form bubbles: idle time per rank and step, from uniform costs.
 *
 *     gpipe, 1f1b     (P-1)(F+B)              Huang et al. 2019; Narayanan et al. 2021, 2.2
 *     zb1p (ZB-H1)    (P-1)(F+I-min(F,I,W))   Qi et al. 2024, table 1, where W <= F, I
 *     dualpipe        (P/2-1)(F&B + B - 3W)   DeepSeek-V3 report, table 2
 *     dualpipev       (P-1)(F&B + B - 3W)     the same with S/2 = P
 *
 * bubbles_more.c has interleaved-1f1b, zb2p, zbv, v-half, v-min and chimera. Costs are of one
 * stage; where a rank holds v stages, it has v times the work a micro-batch.
 *
 * Of wire time gpipe, 1f1b and interleaved-1f1b with two stages a rank know (bubbles_more.c). Each
 * answer says whether it is exact for these costs, a bound of
 * the simulated mean bubble, or neither; bubbles.c says why.
 */
#ifndef DPR_MODELS_BUBBLES_H
#define DPR_MODELS_BUBBLES_H

#include "models/costs.h"

typedef enum dpr_exactness {
    DPR_EXACT,       /* equals the simulation */
    DPR_LOWER_BOUND, /* the simulation is never below it */
    DPR_UPPER_BOUND, /* the simulation is never above it */
    DPR_APPROXIMATE, /* neither is known */
} dpr_exactness_t;

typedef struct dpr_bubble {
    double bubble_sec;   /* per rank and step */
    double busy_sec;     /* per rank and step */
    double bubble_ratio; /* bubble / (bubble + busy) */
    dpr_exactness_t exactness;
    const char *condition; /* in words: when the formula is exact */
} dpr_bubble_t;

/*
 * The closed form of `schedule` at P ranks and M micro-batches. Errors: DPR_ERR_INVALID where the
 * schedule is unknown or does not allow (P, M); DPR_ERR_UNSUPPORTED where no closed form is known.
 */
dpr_status_t dpr_bubble_closed_form(const char *schedule, int ranks, int micro_batches,
                                    const dpr_uniform_costs_t *costs, dpr_bubble_t *bubble);

/* "exact", "lower bound", "upper bound" or "approximate". */
const char *dpr_exactness_name(dpr_exactness_t exactness);

#endif
