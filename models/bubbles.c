/*
 * Closed-form bubbles, and how far each can be trusted.
 *
 * The simulated span is the longest path: a maximum of sums of costs, so convex and homogeneous in
 * (F, I, W, B, F&B, wire); the busy time is linear in them; hence the mean bubble is convex and
 * homogeneous, too. To know it over a whole cone of costs, spanned by a few rays, it is therefore
 * enough to simulate
 *
 *     - the rays: a linear form that is below at none of them is an upper bound on the cone;
 *     - the rays and one point inside: a linear form that equals all of them is exact on the cone;
 *     - one point: its longest path is linear, and below the bubble everywhere. A closed form that
 *       is above that path at none of the rays is a lower bound on the cone.
 *
 * tests/models/bubbles_test.c does this for every P up to 16 and every M that the schedule allows
 * up to 4P, which proves the claims below for those. Nothing in them depends on P or M.
 *
 * Wire time only adds to the longest path: what is exact or a lower bound without it is a lower
 * bound with it. Where more is known, bubbles_more.c adds it.
 *
 * gpipe, 1f1b: the last rank waits (P-1)F, works without a pause, and (P-1)B follow its end. Exact
 * for all F and B.
 *
 * zb1p: the longest path goes down by F, works through the last rank and goes up by I, leaving one
 * W for the end on each rank: F + I - W for each rank passed. Where W is longer than F or I,
 * staying on a rank is longer than passing it, and the path begins or ends at another: F + I -
 * min(F, I, W). Exact for all F, I and W; the published F + I - W is the case W <= F, I.
 *
 * dualpipe, dualpipev: (H-1)(F&B + B - 3W), H = S/2. With one rank to fill (H = 1) nobody ever
 * waits. Else the form is exact where F = I, W fits into the holes (W <= F) and overlapping gains
 * nothing (F&B = F + B). F > I or F&B > F + B: the bubble is longer. F < I or F&B < F + B: it is
 * shorter, as long as W still fits. One of each: either.
 */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "models/bubbles_impl.h"
#include "schedule/generators.h"

static const char any_costs[] = "no wire time";
static const char dualpipe_costs[] = "no wire time, B = I + W, F&B = F + B, F = I >= W";

/* Equal but for rounding. */
static bool same(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static void form_f_b(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    bubble->bubble_sec = (ranks - 1) * (costs->f + costs->b);
    bubble->busy_sec = micro_batches * (costs->f + costs->b);
    bubble->exactness = DPR_EXACT;
    bubble->condition = any_costs;
}

static void form_zb1p(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    const double least = fmin(costs->w, fmin(costs->f, costs->i));
    bubble->bubble_sec = (ranks - 1) * (costs->f + costs->i - least);
    bubble->busy_sec = micro_batches * (costs->f + costs->i + costs->w);
    bubble->exactness = DPR_EXACT;
    bubble->condition = any_costs;
}

/* The table of DualPipe's claims in the head of this file, for H > 1 and no wire time. */
static dpr_exactness_t dualpipe_exactness(const costs_t *costs)
{
    if (!same(costs->b, costs->i + costs->w)) {
        return DPR_APPROXIMATE;
    }
    const bool f_is_i = same(costs->f, costs->i);
    const bool w_fits = costs->w <= costs->f || same(costs->w, costs->f);
    const bool fb_is_sum = same(costs->fb, costs->f + costs->b);
    if (f_is_i && w_fits && fb_is_sum) {
        return DPR_EXACT;
    }
    if ((f_is_i || costs->f > costs->i) && (fb_is_sum || costs->fb > costs->f + costs->b)) {
        return DPR_LOWER_BOUND;
    }
    /* F&B below B, the longer of its halves, is no overlap; nothing is claimed there */
    if ((f_is_i || costs->f < costs->i) && w_fits &&
        (fb_is_sum || (costs->fb < costs->f + costs->b && costs->fb >= costs->b))) {
        return DPR_UPPER_BOUND;
    }
    return DPR_APPROXIMATE;
}

/*
 * Cells: (stage, micro-batch) pairs of a rank. Counting the steps of schedule/dualpipe.c on rank h:
 * F&B cells - 3H + h + 1, one less on the last h; I and W each 2H - h - 1; F and B are the rest.
 * Their means over h = 0 .. H-1 are below.
 */
static void form_two_way(int H, int cells, const costs_t *costs, dpr_bubble_t *bubble)
{
    const double overlapped = cells - 2.5 * H + 0.5 - 1.0 / H;
    const double split = 1.5 * H - 0.5;
    bubble->bubble_sec = fmax(0.0, (H - 1) * (costs->fb + costs->b - 3.0 * costs->w));
    bubble->busy_sec = overlapped * costs->fb + (cells - overlapped) * costs->f +
                       split * (costs->i + costs->w) + (cells - overlapped - split) * costs->b;
    bubble->exactness = H == 1 ? DPR_EXACT : dualpipe_exactness(costs);
    bubble->condition = H == 1 ? any_costs : dualpipe_costs;
}

static void form_dualpipe(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    form_two_way(ranks / 2, micro_batches, costs, bubble);
}

static void form_dualpipev(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    form_two_way(ranks, 2 * micro_batches, costs, bubble);
}

static form_fn_t find_form(const char *schedule)
{
    static const struct {
        const char *schedule;
        form_fn_t form;
    } forms[] = {
        {"gpipe", form_f_b},           {"1f1b", form_f_b},
        {"zb1p", form_zb1p},           {"dualpipe", form_dualpipe},
        {"dualpipev", form_dualpipev},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(forms[i].schedule, schedule) == 0) {
            return forms[i].form;
        }
    }
    return dpr_bubble_more_form(schedule);
}

dpr_status_t dpr_bubble_closed_form(const char *schedule, int ranks, int micro_batches,
                                    const dpr_uniform_costs_t *costs, dpr_bubble_t *bubble)
{
    DPR_TRY(dpr_schedule_check(schedule, ranks, micro_batches));
    const form_fn_t form = find_form(schedule);
    if (form == NULL) {
        return dpr_fail(DPR_ERR_UNSUPPORTED, "schedule %s: no closed form of its bubble is known",
                        schedule);
    }
    const costs_t full = {.f = costs->f,
                          .i = costs->i,
                          .w = costs->w,
                          .b = dpr_uniform_b(costs),
                          .fb = dpr_uniform_fb(costs),
                          .wire = costs->wire,
                          .stages_per_rank = dpr_schedule_stages_per_rank(schedule)};
    dpr_bubble_t found = {0};
    form(ranks, micro_batches, &full, &found);
    if (ranks > 1 && costs->wire > 0.0) {
        dpr_bubble_add_wire(schedule, ranks, micro_batches, &full, &found);
    }
    const double span = found.bubble_sec + found.busy_sec;
    found.bubble_ratio = span > 0.0 ? found.bubble_sec / span : 0.0;
    *bubble = found;
    return DPR_OK;
}

const char *dpr_exactness_name(dpr_exactness_t exactness)
{
    static const char *const names[] = {[DPR_EXACT] = "exact",
                                        [DPR_LOWER_BOUND] = "lower bound",
                                        [DPR_UPPER_BOUND] = "upper bound",
                                        [DPR_APPROXIMATE] = "approximate"};
    return names[exactness];
}
