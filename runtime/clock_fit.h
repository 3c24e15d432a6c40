/*
 * Clock alignment: what this rank's wall clock has to be corrected by to become rank 0's, as a line
 * (offset and drift) through repeated exchanges.
 *
 * Each exchange gives the offset to within half of its round trip (Cristian 1989, "Probabilistic
 * clock synchronization"); several at different times give the drift, and with it a correction that
 * holds between them. One exchange alone, or several within a moment, tell no drift from their own
 * uncertainty: the line is then level.
 */
#ifndef DPR_RUNTIME_CLOCK_FIT_H
#define DPR_RUNTIME_CLOCK_FIT_H

#include "comm/comm.h"

typedef struct dpr_clock_sample {
    double at_sec;          /* on this rank's clock */
    double offset_sec;      /* rank 0's clock minus this rank's */
    double uncertainty_sec; /* half of the round trip */
} dpr_clock_sample_t;

/* All zeros is no correction. */
typedef struct dpr_clock_fit {
    double at_sec;          /* the samples' middle, on this rank's clock */
    double offset_sec;      /* at at_sec */
    double drift;           /* seconds a second by which the offset grows; 0 where not known */
    double uncertainty_sec; /* of a corrected time between the first sample and the last */
    int samples;
} dpr_clock_fit_t;

/*
 * Exchanges with rank 0, `rounds` times, one rank after the other while all others sleep; the
 * exchange with the shortest round trip counts. Collective; nothing else may run. Rank 0's sample
 * is zeros. Errors: those of dpr_comm_measure_link.
 */
dpr_status_t dpr_clock_sample_take(dpr_comm_t *comm, const dpr_device_t *device, int rounds,
                                   dpr_clock_sample_t *sample);

/*
 * The line through `count` samples (at least 1, in order of time), by least squares weighted by
 * 1 / uncertainty^2. The drift is kept where the offset moved by more than the samples' uncertainty
 * can explain. The fit's uncertainty is the largest of |residual| + the sample's own.
 */
dpr_clock_fit_t dpr_clock_fit(const dpr_clock_sample_t *samples, int count);

/* A time of this rank's clock on rank 0's, and what to add to it to get there. */
double dpr_clock_offset_at(const dpr_clock_fit_t *fit, double sec);
double dpr_clock_to_rank0(const dpr_clock_fit_t *fit, double sec);

#endif
