/*
 * The closed forms against the simulation: exact where they say so, on the right side where they
 * say bound. By convexity (see the head of models/bubbles.c) a few costs prove each claim for a
 * whole cone of costs; random costs then look for what that argument may have missed.
 */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/bubbles.h"
#include "models/simulate.h"

/* Those of which a form is known. */
static const char *const names[] = {"gpipe", "1f1b", "zb1p", "dualpipe", "dualpipev"};
enum { NAMES = sizeof names / sizeof names[0] };

/* A schedule at one size, ready to be simulated with many costs. */
typedef struct rig {
    const dpr_schedule_t *schedule;
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_timeline_t timeline;
    double *cost;
} rig_t;

static void rig_open(rig_t *rig, const dpr_schedule_t *schedule, int ranks, int micro_batches)
{
    rig->schedule = schedule;
    rig->program = make_program(schedule->name, ranks, micro_batches);
    rig->graph = make_graph(&rig->program);
    assert_int_equal(dpr_timeline_init(&rig->timeline, rig->graph), DPR_OK);
    rig->cost = malloc((size_t)rig->graph->node_count * sizeof *rig->cost);
}

static void rig_close(rig_t *rig)
{
    free(rig->cost);
    dpr_timeline_free(&rig->timeline);
    dpr_graph_destroy(rig->graph);
    dpr_program_free(&rig->program);
}

/* What is simulated: means over the ranks, in seconds. */
typedef struct simulated {
    double bubble;
    double busy;
    double ratio;
} simulated_t;

static simulated_t rig_simulate(rig_t *rig, const dpr_uniform_costs_t *costs)
{
    dpr_uniform_costs_fill(costs, rig->graph, rig->cost);
    dpr_simulate(rig->graph, rig->cost, &rig->timeline);
    dpr_timeline_summary_t summary;
    assert_int_equal(dpr_timeline_summarize(&rig->timeline, &summary), DPR_OK);
    simulated_t simulated = {.ratio = summary.bubble_ratio};
    for (int r = 0; r < rig->graph->ranks; r++) {
        simulated.bubble += summary.bubble_sec[r] / rig->graph->ranks;
        simulated.busy += summary.busy_sec[r] / rig->graph->ranks;
    }
    dpr_timeline_summary_free(&summary);
    return simulated;
}

static dpr_bubble_t closed_form(const rig_t *rig, const dpr_uniform_costs_t *costs)
{
    dpr_bubble_t bubble;
    assert_int_equal(dpr_bubble_closed_form(rig->schedule->name, rig->program.ranks,
                                            rig->program.micro_batches, costs, &bubble),
                     DPR_OK);
    return bubble;
}

/* The claim for these costs holds. */
static dpr_exactness_t expect_claim(rig_t *rig, const dpr_uniform_costs_t *costs)
{
    static const double tolerance = 1e-9;
    const simulated_t simulated = rig_simulate(rig, costs);
    const dpr_bubble_t form = closed_form(rig, costs);
    const double slack = tolerance * (1.0 + simulated.busy);
    assert_true(fabs(form.busy_sec - simulated.busy) <= slack);
    switch (form.exactness) {
    case DPR_EXACT:
        assert_true(fabs(form.bubble_sec - simulated.bubble) <= slack);
        assert_near(form.bubble_ratio, simulated.ratio);
        break;
    case DPR_LOWER_BOUND:
        assert_true(form.bubble_sec <= simulated.bubble + slack);
        break;
    case DPR_UPPER_BOUND:
        assert_true(form.bubble_sec >= simulated.bubble - slack);
        break;
    case DPR_APPROXIMATE:
        break;
    }
    return form.exactness;
}

static void expect_exact(rig_t *rig, dpr_uniform_costs_t costs)
{
    assert_int_equal(expect_claim(rig, &costs), DPR_EXACT);
}

/* Costs in which B is I + W. */
static dpr_uniform_costs_t split(double f, double i, double w, double fb)
{
    return (dpr_uniform_costs_t){.f = f, .i = i, .w = w, .b = i + w, .fb = fb};
}

typedef void (*visit_fn_t)(rig_t *rig);

/* Every P up to 16 and every allowed M up to 4P. */
static void for_every_size(const char *schedule, visit_fn_t visit)
{
    const dpr_schedule_t *found = dpr_schedule_find(schedule);
    for (int ranks = 1; ranks <= 16; ranks++) {
        for (int m = 1; m <= 4 * ranks; m++) {
            if (found->allows(ranks, m)) {
                rig_t rig;
                rig_open(&rig, found, ranks, m);
                visit(&rig);
                rig_close(&rig);
            }
        }
    }
}

static void unit_costs_are_exact(rig_t *rig)
{
    dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;
    expect_exact(rig, unit);
}

static void unit_costs_are_exact_for_every_schedule(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        for_every_size(names[i], unit_costs_are_exact);
    }
}

/* The cone of all F, B >= 0: its rays, and one point inside. */
static void f_b_cone_is_exact(rig_t *rig)
{
    expect_exact(rig, (dpr_uniform_costs_t){.f = 1, .b = 0});
    expect_exact(rig, (dpr_uniform_costs_t){.f = 0, .b = 1});
    expect_exact(rig, (dpr_uniform_costs_t){.f = 1, .b = 1});
}

static void gpipe_and_1f1b_are_exact_for_all_costs(void **state)
{
    (void)state;
    for_every_size("gpipe", f_b_cone_is_exact);
    for_every_size("1f1b", f_b_cone_is_exact);
}

/* min(F, I, W) is linear where it is W, where it is F and where it is I: three cones. */
static void zb1p_cones_are_exact(rig_t *rig)
{
    expect_exact(rig, split(1, 0, 0, 0));
    expect_exact(rig, split(0, 1, 0, 0));
    expect_exact(rig, split(0, 0, 1, 0));
    expect_exact(rig, split(1, 1, 1, 0));
    expect_exact(rig, split(2, 2, 1, 0)); /* inside each of the three */
    expect_exact(rig, split(1, 2, 2, 0));
    expect_exact(rig, split(2, 1, 2, 0));
}

static void zb1p_is_exact_for_all_costs(void **state)
{
    (void)state;
    for_every_size("zb1p", zb1p_cones_are_exact);
}

static int half_stages(const rig_t *rig)
{
    return rig->program.stages / 2;
}

/* The form itself, also where it is below 0. */
static double two_way_form(const rig_t *rig, const dpr_uniform_costs_t *costs)
{
    return (half_stages(rig) - 1) * (costs->fb + costs->b - 3.0 * costs->w);
}

static void two_way_exact_cone(rig_t *rig)
{
    if (half_stages(rig) == 1) { /* any costs: the rays of all of them, and one point inside */
        expect_exact(rig, (dpr_uniform_costs_t){.f = 1});
        expect_exact(rig, (dpr_uniform_costs_t){.i = 1});
        expect_exact(rig, (dpr_uniform_costs_t){.w = 1});
        expect_exact(rig, (dpr_uniform_costs_t){.b = 1});
        expect_exact(rig, (dpr_uniform_costs_t){.fb = 1});
        expect_exact(rig, (dpr_uniform_costs_t){.f = 1, .i = 1, .w = 1, .b = 1, .fb = 1});
        return;
    }
    /* F = I >= W, F&B = F + B */
    expect_exact(rig, split(1, 1, 0, 2));
    expect_exact(rig, split(1, 1, 1, 3));
    expect_exact(rig, split(2, 2, 1, 5));
}

/* W <= F <= I, B <= F&B <= F + B: below the form at every ray, so nowhere above it. */
static void two_way_upper_cone(rig_t *rig)
{
    const dpr_uniform_costs_t rays[] = {split(0, 1, 0, 1), split(1, 1, 0, 1), split(1, 1, 0, 2),
                                        split(1, 1, 1, 2), split(1, 1, 1, 3)};
    for (size_t i = 0; i < sizeof rays / sizeof rays[0] && half_stages(rig) > 1; i++) {
        assert_true(rig_simulate(rig, &rays[i]).bubble <= two_way_form(rig, &rays[i]) + 1e-9);
    }
    const dpr_uniform_costs_t inside = split(2, 3, 1, 5);
    const dpr_exactness_t claim = closed_form(rig, &inside).exactness;
    assert_int_equal(claim, half_stages(rig) > 1 ? DPR_UPPER_BOUND : DPR_EXACT);
}

/* How often each kind of op stands on a longest path. */
static void count_longest_path(const rig_t *rig, double counts[DPR_NODE_KINDS])
{
    const dpr_graph_t *graph = rig->graph;
    const dpr_timeline_t *timeline = &rig->timeline;
    int32_t node = 0;
    for (int32_t n = 1; n < graph->node_count; n++) {
        node = timeline->end[n] > timeline->end[node] ? n : node;
    }
    memset(counts, 0, DPR_NODE_KINDS * sizeof *counts);
    while (node >= 0) {
        counts[graph->nodes[node].kind] += 1.0;
        int32_t before = -1;
        for (int32_t e = graph->edge_begin[node]; e < graph->edge_begin[node + 1]; e++) {
            const int32_t from = graph->edges[e].from;
            before = timeline->end[from] == timeline->start[node] ? from : before;
        }
        node = before;
    }
}

/* The length of that path under other costs, less the busy time under them: a bubble at least. */
static double path_bubble(const rig_t *rig, const double counts[DPR_NODE_KINDS],
                          const dpr_uniform_costs_t *costs)
{
    const double length = counts[DPR_NODE_F] * costs->f + counts[DPR_NODE_B] * costs->b +
                          counts[DPR_NODE_I] * costs->i + counts[DPR_NODE_W] * costs->w +
                          counts[DPR_NODE_FB] * costs->fb;
    return length - closed_form(rig, costs).busy_sec;
}

/* F >= I, F&B >= F + B, any W: one path through the graph is above the form at every ray. */
static void two_way_lower_cone(rig_t *rig)
{
    if (half_stages(rig) == 1) {
        return;
    }
    const dpr_uniform_costs_t inside = split(3, 2, 1, 6.5);
    assert_int_equal(closed_form(rig, &inside).exactness, DPR_LOWER_BOUND);
    rig_simulate(rig, &inside);
    double counts[DPR_NODE_KINDS];
    count_longest_path(rig, counts);
    const dpr_uniform_costs_t rays[] = {split(1, 0, 0, 1), split(1, 1, 0, 2), split(0, 0, 1, 1),
                                        split(0, 0, 0, 1)};
    for (size_t i = 0; i < sizeof rays / sizeof rays[0]; i++) {
        assert_true(path_bubble(rig, counts, &rays[i]) >= two_way_form(rig, &rays[i]) - 1e-9);
    }
}

static void dualpipe_is_exact_where_it_says_so(void **state)
{
    (void)state;
    for_every_size("dualpipe", two_way_exact_cone);
    for_every_size("dualpipev", two_way_exact_cone);
}

static void dualpipe_is_an_upper_bound_where_it_says_so(void **state)
{
    (void)state;
    for_every_size("dualpipe", two_way_upper_cone);
    for_every_size("dualpipev", two_way_upper_cone);
}

static void dualpipe_is_a_lower_bound_where_it_says_so(void **state)
{
    (void)state;
    for_every_size("dualpipe", two_way_lower_cone);
    for_every_size("dualpipev", two_way_lower_cone);
}

/* Small whole numbers, so that the borders between the claims are met; sometimes no defaults. */
static dpr_uniform_costs_t random_costs(dice_t *dice)
{
    dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    costs.f = dice_roll(dice, 6);
    costs.i = dice_roll(dice, 4) == 0 ? costs.f : dice_roll(dice, 6);
    costs.w = dice_roll(dice, 6);
    costs.b = dice_roll(dice, 3) == 0 ? dice_roll(dice, 12) : -1.0;
    const double sum = costs.f + dpr_uniform_b(&costs);
    costs.fb = dice_roll(dice, 3) == 0 ? -1.0 : sum + dice_roll(dice, 7) - 4;
    costs.wire = dice_roll(dice, 3) == 0 ? dice_roll(dice, 8) / 4.0 : 0.0;
    return costs;
}

static void no_claim_is_ever_wrong(void **state)
{
    (void)state;
    dice_t dice = {.seed = 31};
    int claims[DPR_APPROXIMATE + 1] = {0};
    for (int i = 0; i < 1200; i++) {
        const dpr_schedule_t *schedule = dpr_schedule_find(names[dice_roll(&dice, NAMES)]);
        const int ranks = 1 + dice_roll(&dice, 8);
        const int m = 1 + dice_roll(&dice, 6 * ranks);
        if (!schedule->allows(ranks, m)) {
            continue;
        }
        rig_t rig;
        rig_open(&rig, schedule, ranks, m);
        for (int j = 0; j < 40; j++) {
            const dpr_uniform_costs_t costs = random_costs(&dice);
            claims[expect_claim(&rig, &costs)]++;
        }
        rig_close(&rig);
    }
    for (int i = 0; i <= DPR_APPROXIMATE; i++) {
        assert_true(claims[i] > 100);
    }
}

static void expect_form(const char *schedule, int ranks, int micro_batches, const char *text,
                        double bubble, double busy)
{
    dpr_uniform_costs_t costs;
    assert_int_equal(dpr_uniform_costs_parse(text, &costs), DPR_OK);
    dpr_bubble_t form;
    assert_int_equal(dpr_bubble_closed_form(schedule, ranks, micro_batches, &costs, &form), DPR_OK);
    assert_near(form.bubble_sec, bubble);
    assert_near(form.busy_sec, busy);
    assert_near(form.bubble_ratio, bubble / (bubble + busy));
}

static void forms_are_those_of_the_papers(void **state)
{
    (void)state;
    expect_form("gpipe", 4, 8, "F=1,B=2", 9.0, 24.0);
    expect_form("1f1b", 8, 32, "F=2,B=3", 35.0, 160.0);
    expect_form("zb1p", 8, 20, "F=3,I=4,W=2", 35.0, 180.0);
    expect_form("dualpipe", 8, 20, "F=1,I=1,W=1", 6.0, 60.0);
    expect_form("dualpipev", 4, 10, "F=1,I=1,W=1", 6.0, 60.0);
    expect_form("dualpipe", 16, 64, "F=4,I=4,W=1,B=5,FB=9", 77.0, 576.0);
}

static void expect_exactness(const char *schedule, const char *text, dpr_exactness_t expected)
{
    dpr_uniform_costs_t costs;
    assert_int_equal(dpr_uniform_costs_parse(text, &costs), DPR_OK);
    dpr_bubble_t form;
    assert_int_equal(dpr_bubble_closed_form(schedule, 4, 8, &costs, &form), DPR_OK);
    assert_int_equal(form.exactness, expected);
    assert_non_null(form.condition);
}

static void less_is_claimed_where_less_is_known(void **state)
{
    (void)state;
    expect_exactness("1f1b", "F=1,B=2,wire=0.1", DPR_EXACT);
    expect_exactness("1f1b", "F=1,B=2,wire=1.1", DPR_LOWER_BOUND);
    expect_exactness("zb1p", "F=1,I=1,W=1,wire=0.1", DPR_LOWER_BOUND);
    expect_exactness("dualpipe", "F=1,I=1,W=1", DPR_EXACT);
    expect_exactness("dualpipe", "F=1,I=1,W=1,wire=1", DPR_LOWER_BOUND);
    expect_exactness("dualpipe", "F=1,I=1,W=1,FB=2.5", DPR_UPPER_BOUND);
    expect_exactness("dualpipe", "F=1,I=1,W=1,FB=2.5,wire=1", DPR_APPROXIMATE);
    expect_exactness("dualpipe", "F=1,I=1,W=1,FB=1.5", DPR_APPROXIMATE);
    expect_exactness("dualpipe", "F=1,I=1,W=1,FB=4", DPR_LOWER_BOUND);
    expect_exactness("dualpipe", "F=2,I=1,W=1", DPR_LOWER_BOUND);
    expect_exactness("dualpipe", "F=2,I=1,W=1,FB=3", DPR_APPROXIMATE);
    expect_exactness("dualpipe", "F=1,I=2,W=1", DPR_UPPER_BOUND);
    expect_exactness("dualpipe", "F=1,I=2,W=2", DPR_APPROXIMATE);
    expect_exactness("dualpipe", "F=1,I=1,W=1,B=1.5", DPR_APPROXIMATE);
    /* rounding does not make a difference */
    expect_exactness("dualpipe", "F=0.1,I=0.1,W=0.1,B=0.2,FB=0.30000000000000004", DPR_EXACT);
}

static void unknown_schedules_and_sizes_are_refused(void **state)
{
    (void)state;
    const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;
    dpr_bubble_t form;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_bubble_closed_form("pipe", 4, 8, &unit, &form));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(captured, "unknown schedule 'pipe'");
    CAPTURE(status, captured, dpr_bubble_closed_form("dualpipe", 3, 8, &unit, &form));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(captured, "nearest: 2 or 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_costs_are_exact_for_every_schedule),
        cmocka_unit_test(gpipe_and_1f1b_are_exact_for_all_costs),
        cmocka_unit_test(zb1p_is_exact_for_all_costs),
        cmocka_unit_test(dualpipe_is_exact_where_it_says_so),
        cmocka_unit_test(dualpipe_is_an_upper_bound_where_it_says_so),
        cmocka_unit_test(dualpipe_is_a_lower_bound_where_it_says_so),
        cmocka_unit_test(no_claim_is_ever_wrong),
        cmocka_unit_test(forms_are_those_of_the_papers),
        cmocka_unit_test(less_is_claimed_where_less_is_known),
        cmocka_unit_test(unknown_schedules_and_sizes_are_refused),
    };
    return cmocka_run_group_tests_name("bubbles", tests, NULL, NULL);
}
