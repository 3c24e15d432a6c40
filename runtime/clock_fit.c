/* The line through clock exchanges. */
#include "runtime/clock_fit.h"

#include <math.h>

dpr_status_t dpr_clock_sample_take(dpr_comm_t *comm, const dpr_device_t *device, int rounds,
                                   dpr_clock_sample_t *sample)
{
    const int rank = dpr_comm_rank(comm);
    *sample = (dpr_clock_sample_t){0};
    for (int other = 1; other < dpr_comm_size(comm); other++) {
        DPR_TRY(dpr_comm_barrier(comm));
        if (rank != 0 && rank != other) {
            continue;
        }
        dpr_link_measure_t measure;
        const double begin_sec = dpr_device_wall_sec(device);
        DPR_TRY(dpr_comm_measure_link(comm, rank == 0 ? other : 0, 0, rounds, &measure));
        if (rank == other) {
            sample->at_sec = (begin_sec + dpr_device_wall_sec(device)) / 2;
            sample->offset_sec = measure.offset_sec;
            sample->uncertainty_sec = measure.small_sec;
        }
    }
    return dpr_comm_barrier(comm);
}

/* No exchange is quicker, and no clock finer, than this. */
static double weight(const dpr_clock_sample_t *sample)
{
    const double uncertainty = fmax(sample->uncertainty_sec, 1e-9);
    return 1.0 / (uncertainty * uncertainty);
}

/* Weighted means of times and offsets. */
static void find_middle(const dpr_clock_sample_t *samples, int count, dpr_clock_fit_t *fit)
{
    double weights = 0.0;
    for (int i = 0; i < count; i++) {
        weights += weight(&samples[i]);
    }
    for (int i = 0; i < count; i++) {
        fit->at_sec += weight(&samples[i]) / weights * samples[i].at_sec;
        fit->offset_sec += weight(&samples[i]) / weights * samples[i].offset_sec;
    }
}

static double slope(const dpr_clock_sample_t *samples, int count, const dpr_clock_fit_t *middle)
{
    double along = 0.0;
    double across = 0.0;
    for (int i = 0; i < count; i++) {
        const double w = weight(&samples[i]);
        const double t = samples[i].at_sec - middle->at_sec;
        along += w * t * t;
        across += w * t * (samples[i].offset_sec - middle->offset_sec);
    }
    return along > 0.0 ? across / along : 0.0;
}

static double largest_error(const dpr_clock_sample_t *samples, int count,
                            const dpr_clock_fit_t *fit)
{
    double largest = 0.0;
    for (int i = 0; i < count; i++) {
        const double residual = samples[i].offset_sec - dpr_clock_offset_at(fit, samples[i].at_sec);
        largest = fmax(largest, fabs(residual) + samples[i].uncertainty_sec);
    }
    return largest;
}

dpr_clock_fit_t dpr_clock_fit(const dpr_clock_sample_t *samples, int count)
{
    dpr_clock_fit_t level = {.samples = count};
    find_middle(samples, count, &level);
    dpr_clock_fit_t tilted = level;
    tilted.drift = slope(samples, count, &level);
    level.uncertainty_sec = largest_error(samples, count, &level);
    tilted.uncertainty_sec = largest_error(samples, count, &tilted);
    double own = 0.0; /* what the samples' uncertainty alone may move the line's ends by */
    for (int i = 0; i < count; i++) {
        own = fmax(own, samples[i].uncertainty_sec);
    }
    const double moved = fabs(tilted.drift) * (samples[count - 1].at_sec - samples[0].at_sec);
    return moved > 2.0 * own ? tilted : level;
}

double dpr_clock_offset_at(const dpr_clock_fit_t *fit, double sec)
{
    return fit->offset_sec + fit->drift * (sec - fit->at_sec);
}

double dpr_clock_to_rank0(const dpr_clock_fit_t *fit, double sec)
{
    return sec + dpr_clock_offset_at(fit, sec);
}
