/* One prediction a point, then what they are relative to the first. */
#include "models/scaling.h"

#include <limits.h>
#include <math.h>

#include "base/log.h"
#include "schedule/generators.h"

static dpr_status_t check_options(const dpr_scaling_options_t *options, const dpr_layout_t *base)
{
    if (!(options->threshold > 0.0 && options->threshold <= 1.0)) {
        return dpr_fail(DPR_ERR_INVALID, "threshold %g: expected above 0 and at most 1",
                        options->threshold);
    }
    if (options->value_count < 1 || options->value_count > DPR_MAX_SCALING_POINTS) {
        return dpr_fail(DPR_ERR_INVALID, "%d points: expected 1 to %d", options->value_count,
                        (int)DPR_MAX_SCALING_POINTS);
    }
    const int most = options->axis == DPR_SCALE_RANKS ? DPR_MAX_RANKS : 1 << 20;
    for (int i = 0; i < options->value_count; i++) {
        if (options->values[i] < 1 || options->values[i] > most ||
            (i > 0 && options->values[i] <= options->values[i - 1])) {
            return dpr_fail(DPR_ERR_INVALID, "point %d is %d: expected ascending, from 1 to %d",
                            i + 1, options->values[i], most);
        }
    }
    const struct {
        const char *name;
        int value;
    } sizes[] = {{"ranks", base->ranks},
                 {"micro-batches", base->micro_batches},
                 {"micro-batch size", base->micro_batch_size},
                 {"replicas", base->replicas}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value < 1 || sizes[i].value > 1 << 20) {
            return dpr_fail(DPR_ERR_INVALID, "%s is %d: expected 1 to %d", sizes[i].name,
                            sizes[i].value, 1 << 20);
        }
    }
    return DPR_OK;
}

/* The layout of a point, and the model it runs; the outcome says whether there is one. */
static dpr_scaling_outcome_t place_point(const dpr_layout_t *base,
                                         const dpr_scaling_options_t *options, int value,
                                         dpr_layout_t *layout, dpr_workload_t *workload)
{
    *layout = *base;
    if (options->axis == DPR_SCALE_RANKS) {
        layout->ranks = value;
        if (options->weak) {
            const double growth = (double)value / base->ranks;
            const double layers =
                workload->layers > 0.0
                    ? workload->layers
                    : dpr_transformer_layers(workload->parameters, workload->hidden);
            workload->layers = layers * growth;
            /* what is too many is kept in range for the conversion, and refused later */
            const double parameters = round((double)workload->parameters * growth);
            workload->parameters = (uint64_t)fmin(1e18, fmax(1.0, parameters));
        }
    } else {
        layout->replicas = value;
        const int64_t all = (int64_t)base->micro_batches * base->replicas;
        if (!options->weak) {
            if (all % value != 0) {
                return DPR_SCALING_NO_BATCH;
            }
            layout->micro_batches = (int)(all / value < INT_MAX ? all / value : INT_MAX);
        }
    }
    return dpr_schedule_allows(layout->schedule, layout->ranks, layout->micro_batches)
               ? DPR_SCALING_RUNS
               : DPR_SCALING_NO_SCHEDULE;
}

static dpr_status_t play_points(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                const dpr_layout_t *base, const dpr_scaling_options_t *options,
                                dpr_scaling_t *scaling)
{
    scaling->count = options->value_count;
    for (int i = 0; i < scaling->count; i++) {
        dpr_scaling_point_t *point = &scaling->points[i];
        dpr_workload_t model = *workload;
        *point = (dpr_scaling_point_t){0};
        point->outcome = place_point(base, options, options->values[i], &point->layout, &model);
        if (point->outcome == DPR_SCALING_RUNS) {
            DPR_TRY(dpr_throughput_predict(&model, hardware, &point->layout, &point->throughput));
        }
    }
    return DPR_OK;
}

/* Why no point can run; nothing where one can. */
static dpr_status_t check_any_runs(const dpr_layout_t *base, const dpr_scaling_t *scaling)
{
    int undivided = 0;
    for (int i = 0; i < scaling->count; i++) {
        if (scaling->points[i].outcome == DPR_SCALING_RUNS) {
            return DPR_OK;
        }
        undivided += scaling->points[i].outcome == DPR_SCALING_NO_BATCH;
    }
    const long long batch = (long long)base->micro_batches * base->replicas;
    const char *needs = dpr_schedule_find(base->schedule)->needs;
    if (undivided == scaling->count) {
        return dpr_fail(DPR_ERR_INVALID,
                        "no point can run: none of the replicas divides the batch, which is %lld "
                        "micro-batches",
                        batch);
    }
    if (undivided > 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "no point can run: some of the replicas do not divide the batch, which is "
                        "%lld micro-batches, and for the others schedule %s needs %s",
                        batch, base->schedule, needs);
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "schedule %s with %d micro-batches: no point can run: it needs %s, and at most "
                    "%d stages x micro-batches fit",
                    base->schedule, base->micro_batches, needs, DPR_MAX_CELLS);
}

/* Speed-ups and efficiencies against the first point that fits; only what fits has them. */
static void compare_points(dpr_scaling_t *scaling, double threshold)
{
    const dpr_scaling_point_t *first = NULL;
    scaling->stops_at = -1;
    scaling->pays_up_to = -1;
    for (int i = 0; i < scaling->count; i++) {
        dpr_scaling_point_t *point = &scaling->points[i];
        if (point->outcome != DPR_SCALING_RUNS || !point->throughput.fits) {
            continue;
        }
        first = first != NULL ? first : point;
        point->efficiency =
            point->throughput.flops_per_sec_per_device / first->throughput.flops_per_sec_per_device;
        point->speedup = point->efficiency *
                         ((double)point->throughput.devices / (double)first->throughput.devices);
        if (point->efficiency < threshold && scaling->stops_at < 0) {
            scaling->stops_at = i;
        } else if (scaling->stops_at < 0) {
            scaling->pays_up_to = i;
        }
    }
}

dpr_status_t dpr_scaling_predict(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                 const dpr_layout_t *base, const dpr_scaling_options_t *options,
                                 dpr_scaling_t *scaling)
{
    DPR_TRY(check_options(options, base));
    DPR_TRY(dpr_workload_check(workload));
    if (dpr_schedule_find(base->schedule) == NULL) {
        return dpr_schedule_check(base->schedule, 1, 1); /* says which names there are */
    }
    DPR_TRY(play_points(workload, hardware, base, options, scaling));
    DPR_TRY(check_any_runs(base, scaling));
    compare_points(scaling, options->threshold);
    return DPR_OK;
}
