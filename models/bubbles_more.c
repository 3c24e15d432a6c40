/*
 * Closed-form bubbles of the rest of the table, and how far each can be trusted. Costs are of one
 * stage, as everywhere; the span is that of all ranks (DESIGN.md 7), so the stagger in which ranks
 * start and end counts, which the papers on zero bubble leave out: where they say 0, this is what
 * their ranks are apart.
 *
 * How these were found: with generic costs the longest path is unique, and how many F, I and W it
 * holds more than a rank runs is one linear form. The forms that appear, for any P and M, are
 * below. Each is a path that exists at all costs, so their maximum is a lower bound everywhere, and
 * exact where no other path is longer. tests/models/bubbles_more_test.c plays this out for P up to
 * 32 and random costs.
 *
 *     interleaved-1f1b   (P-1)(F+B)                          exact (v stages: v F and v B a rank)
 *     zb2p               (P-1) max(F, F+I-2W)                exact for M >= 2P-1, W <= F, W <= I
 *     zbv                the largest of                      exact for M >= 2P-1, F <= I;
 *                          (P-1) I                           a lower bound else, M >= P
 *                          (2P-3) F - (P-2) I
 *                          (P-1) F + (P-2)(W-I)/2
 *                          2(P-1)(I-W)
 *                          I + (P-2) W
 *                        for M < P the path of one           a lower bound
 *                        micro-batch, 2P(F+I)+W, less the work
 *     chimera            (P-2)(max + (u-1)(max-min)) of F    exact where P divides M
 *                        and B, u = M / P rounded up
 *     v-min              (4P-5)u; 3 divides P: (4P-4)u       exact for F = I = W = u, any M
 *     v-half             (3P-3)u for P even, else (3P-4)u    exact for F = I = W = u, M >= P;
 *                        both for M < P and other costs      the bound of zbv
 *
 * v-min and v-half have the order of a grid of equal costs. For others, approximately, u =
 * (F+I+W)/3 and each micro-batch adds what the grid then leaves open: 6 max(F,I) - 2(F+I+W) in
 * v-min, where each rank is on the next one's heels, and 2|F-I| - W in v-half (the paper's
 * condition is that this is not above 0), where positive.
 *
 * Wire time w, found in the same way, where w <= F and w <= B; longer ones make these lower bounds:
 *
 *     gpipe              2(P-1) w: down and up once          exact
 *     interleaved-1f1b   (4P-2) w, v = 2: round and back     exact
 *     1f1b               (2(P-1) M/P + 2(P-2)) w: it runs    exact where P divides M, M >= 2P
 *                        no more ahead than it must, so all but one in P micro-batches wait for
 *                        their messages, too
 */
#include <math.h>
#include <string.h>

#include "models/bubbles_impl.h"

static const char any_costs[] = "no wire time";
static const char zb2p_costs[] = "no wire time, M >= 2P-1, W <= F, W <= I";
static const char zbv_costs[] = "no wire time, M >= 2P-1, F <= I";
static const char chimera_costs[] = "no wire time, M a multiple of P";
static const char v_min_costs[] = "no wire time, F = I = W";
static const char v_half_costs[] = "no wire time, M >= P, F = I = W";

/* Equal but for rounding. */
static bool same(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static bool at_most(double a, double b)
{
    return a <= b || same(a, b);
}

/* What one micro-batch takes down and up again, less the work of all of them. */
static double alone_in_v(int ranks, int micro_batches, const costs_t *costs)
{
    const double alone = 2.0 * ranks * (costs->f + costs->i) + costs->w;
    return fmax(0.0, alone - 2.0 * micro_batches * (costs->f + costs->i + costs->w));
}

/* The backward is split: a rank runs F, I and W of each of its stages. */
static double split_work(int micro_batches, const costs_t *costs)
{
    return (double)micro_batches * costs->stages_per_rank * (costs->f + costs->i + costs->w);
}

static double fused_work(int micro_batches, const costs_t *costs)
{
    return (double)micro_batches * costs->stages_per_rank * (costs->f + costs->b);
}

static void form_interleaved(int ranks, int micro_batches, const costs_t *costs,
                             dpr_bubble_t *bubble)
{
    bubble->bubble_sec = (ranks - 1) * (costs->f + costs->b);
    bubble->busy_sec = fused_work(micro_batches, costs);
    bubble->exactness = DPR_EXACT;
    bubble->condition = any_costs;
}

static void form_zb2p(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    const double more = fmax(0.0, costs->i - 2.0 * costs->w);
    const bool steady = micro_batches >= 2 * ranks - 1;
    const bool fits = at_most(costs->w, costs->f) && at_most(costs->w, costs->i);
    bubble->bubble_sec = (ranks - 1) * (costs->f + more);
    bubble->busy_sec = split_work(micro_batches, costs);
    bubble->exactness = ranks == 1 || (steady && fits) ? DPR_EXACT : DPR_LOWER_BOUND;
    bubble->condition = ranks == 1 ? any_costs : zb2p_costs;
}

static double zbv_longest(int ranks, const costs_t *costs)
{
    const double P = ranks;
    const double f = costs->f;
    const double i = costs->i;
    const double w = costs->w;
    const double paths[] = {(P - 1.0) * i, (2.0 * P - 3.0) * f - (P - 2.0) * i,
                            (P - 1.0) * f + (P - 2.0) * (w - i) / 2.0, 2.0 * (P - 1.0) * (i - w),
                            i + (P - 2.0) * w};
    double longest = 0.0;
    for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++) {
        longest = fmax(longest, paths[k]);
    }
    return longest;
}

static void form_zbv(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    bubble->busy_sec = split_work(micro_batches, costs);
    if (ranks == 1) {
        bubble->bubble_sec = 0.0;
        bubble->exactness = DPR_EXACT;
        bubble->condition = any_costs;
        return;
    }
    const bool exact = micro_batches >= 2 * ranks - 1 && at_most(costs->f, costs->i);
    bubble->bubble_sec =
        micro_batches < ranks ? alone_in_v(ranks, micro_batches, costs) : zbv_longest(ranks, costs);
    bubble->exactness = exact ? DPR_EXACT : DPR_LOWER_BOUND;
    bubble->condition = zbv_costs;
}

static void form_chimera(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    const int units = (micro_batches + ranks - 1) / ranks;
    const double longer = fmax(costs->f, costs->b);
    const double shorter = fmin(costs->f, costs->b);
    bubble->bubble_sec = (ranks - 2) * (longer + (units - 1) * (longer - shorter));
    bubble->busy_sec = fused_work(micro_batches, costs);
    bubble->exactness = ranks == 2 || micro_batches % ranks == 0 ? DPR_EXACT : DPR_LOWER_BOUND;
    bubble->condition = ranks == 2 ? any_costs : chimera_costs;
}

static bool are_equal(const costs_t *costs)
{
    return same(costs->f, costs->i) && same(costs->i, costs->w);
}

/* v-min and v-half: `units` of a bubble with equal costs, if `steady`; and `opens` a micro-batch
 * with others. */
static void form_of_units(int ranks, int micro_batches, int units, bool steady, double opens,
                          const costs_t *costs, dpr_bubble_t *bubble)
{
    const bool equal = are_equal(costs);
    bubble->busy_sec = split_work(micro_batches, costs);
    if (ranks == 1) {
        bubble->bubble_sec = 0.0;
        bubble->exactness = DPR_EXACT;
    } else if (!steady) {
        bubble->bubble_sec = alone_in_v(ranks, micro_batches, costs);
        bubble->exactness = DPR_LOWER_BOUND;
    } else {
        bubble->bubble_sec = units * (costs->f + costs->i + costs->w) / 3.0 +
                             (equal ? 0.0 : micro_batches * fmax(0.0, opens));
        bubble->exactness = equal ? DPR_EXACT : DPR_APPROXIMATE;
    }
}

static void form_v_min(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    const double opens = 6.0 * fmax(costs->f, costs->i) - 2.0 * (costs->f + costs->i + costs->w);
    bubble->condition = ranks == 1 ? any_costs : v_min_costs;
    form_of_units(ranks, micro_batches, ranks % 3 == 0 ? 4 * ranks - 4 : 4 * ranks - 5,
                  micro_batches >= ranks || are_equal(costs), opens, costs, bubble);
}

static void form_v_half(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble)
{
    const double opens = 2.0 * fabs(costs->f - costs->i) - costs->w;
    bubble->condition = ranks == 1 ? any_costs : v_half_costs;
    form_of_units(ranks, micro_batches, ranks % 2 == 0 ? 3 * ranks - 3 : 3 * ranks - 4,
                  micro_batches >= ranks, opens, costs, bubble);
}

form_fn_t dpr_bubble_more_form(const char *schedule)
{
    static const struct {
        const char *schedule; /* the name, or the part of it before a colon */
        form_fn_t form;
    } forms[] = {
        {"interleaved-1f1b", form_interleaved},
        {"zb2p", form_zb2p},
        {"zbv", form_zbv},
        {"v-half", form_v_half},
        {"v-min", form_v_min},
        {"chimera", form_chimera},
    };
    const size_t length = strcspn(schedule, ":");
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strlen(forms[i].schedule) == length &&
            strncmp(forms[i].schedule, schedule, length) == 0) {
            return forms[i].form;
        }
    }
    return NULL;
}

/* How many wire times the longest path holds, 0 where that is not known. */
static double count_wires(const char *schedule, int ranks, int micro_batches, const costs_t *costs)
{
    const double P = ranks;
    if (strcmp(schedule, "gpipe") == 0) {
        return 2.0 * (P - 1.0);
    }
    if (strcmp(schedule, "1f1b") == 0 && micro_batches >= ranks) {
        const int alone = (micro_batches + ranks - 1) / ranks;
        return 2.0 * (micro_batches - alone) + 2.0 * (P - 2.0);
    }
    if (dpr_bubble_more_form(schedule) == form_interleaved && costs->stages_per_rank == 2) {
        return 4.0 * P - 2.0;
    }
    return 0.0;
}

void dpr_bubble_add_wire(const char *schedule, int ranks, int micro_batches, const costs_t *costs,
                         dpr_bubble_t *bubble)
{
    const double wires = count_wires(schedule, ranks, micro_batches, costs);
    const bool whole =
        strcmp(schedule, "1f1b") != 0 || (micro_batches % ranks == 0 && micro_batches >= 2 * ranks);
    const bool short_wire = at_most(costs->wire, costs->f) && at_most(costs->wire, costs->b);
    bubble->bubble_sec += wires * costs->wire;
    if (wires > 0.0) {
        bubble->condition =
            strcmp(schedule, "1f1b") == 0
                ? "no wire time; or wire <= F, wire <= B, M a multiple of P, M >= 2P"
                : "wire <= F, wire <= B";
    }
    if (wires > 0.0 && whole && short_wire && bubble->exactness == DPR_EXACT) {
        return;
    }
    bubble->exactness = bubble->exactness == DPR_EXACT || bubble->exactness == DPR_LOWER_BOUND
                            ? DPR_LOWER_BOUND
                            : DPR_APPROXIMATE;
}
