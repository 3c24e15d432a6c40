/* Slow ranks, factors by kind, and jitter. */
#include "models/perturb.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"

static dpr_status_t parse_part(const char *part, int length, int ranks, double *factor)
{
    char *end;
    errno = 0;
    const long rank = strtol(part, &end, 10);
    if (end == part || *end != '=' || part[0] < '0' || part[0] > '9') {
        return dpr_fail(DPR_ERR_INVALID, "straggler '%.*s': expected RANK=FACTOR, such as 3=1.5",
                        length, part);
    }
    if (errno != 0 || rank >= ranks) {
        return dpr_fail(DPR_ERR_INVALID, "straggler '%.*s': expected a rank from 0 to %d", length,
                        part, ranks - 1);
    }
    const char *text = end + 1;
    const double value = strtod(text, &end);
    if (end == text || end != part + length ||
        !(value >= DPR_STRAGGLER_MIN && value <= DPR_STRAGGLER_MAX)) {
        return dpr_fail(DPR_ERR_INVALID, "straggler '%.*s': expected a factor from %g to %g",
                        length, part, DPR_STRAGGLER_MIN, DPR_STRAGGLER_MAX);
    }
    if (factor[rank] != 0.0) {
        return dpr_fail(DPR_ERR_INVALID, "straggler '%.*s': rank %ld has a factor already", length,
                        part, rank);
    }
    factor[rank] = value;
    return DPR_OK;
}

dpr_status_t dpr_straggler_parse(const char *text, int ranks, double *factor)
{
    for (const char *at = text;;) {
        const size_t length = strcspn(at, ",");
        DPR_TRY(parse_part(at, (int)(length < 64 ? length : 64), ranks, factor));
        if (at[length] == '\0') {
            return DPR_OK;
        }
        at += length + 1;
    }
}

void dpr_perturb_stragglers(const dpr_graph_t *graph, const double *factor, double *cost)
{
    for (int32_t n = 0; n < graph->compute_count; n++) {
        cost[n] *= factor[graph->nodes[n].rank];
    }
}

void dpr_perturb_kinds(const dpr_graph_t *graph, const double *factor, double *cost)
{
    for (int32_t n = 0; n < graph->node_count; n++) {
        cost[n] *= factor[graph->nodes[n].kind];
    }
}

void dpr_perturb_jitter(const dpr_graph_t *graph, double variation, uint64_t seed, uint64_t draw,
                        const double *cost, double *perturbed)
{
    const double variance = log1p(variation * variation);
    const double deviation = sqrt(variance);
    for (int32_t n = 0; n < graph->node_count; n++) {
        const double normal = dpr_random_normal(seed, draw, (uint64_t)n);
        perturbed[n] = cost[n] * exp(deviation * normal - 0.5 * variance);
    }
}
