/*
 * Every closed form of the table against the simulation, over one grid: P up to 32, M up to 8P,
 * random F, I, W, B, F&B and wire time. Equal where a form says exact, on the right side where it
 * says bound; where it says approximate, the largest error is printed.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/bubbles.h"
#include "models/simulate.h"
#include "tests/schedule/schedule_testing.h"

/* A schedule at one size, ready to be simulated with many costs. */
typedef struct rig {
    dpr_program_t program;
    dpr_graph_t *graph;
    double *cost;
    double *end;
} rig_t;

static rig_t rig_open(const char *schedule, int P, int M)
{
    rig_t rig = {.program = make_program(schedule, P, M)};
    rig.graph = make_graph(&rig.program);
    rig.cost = calloc((size_t)rig.graph->node_count, sizeof *rig.cost);
    rig.end = calloc((size_t)rig.graph->node_count, sizeof *rig.end);
    assert_non_null(rig.cost);
    assert_non_null(rig.end);
    return rig;
}

static void rig_close(rig_t *rig)
{
    free(rig->cost);
    free(rig->end);
    dpr_graph_destroy(rig->graph);
    dpr_program_free(&rig->program);
}

/* Mean over the ranks; *busy, too. Every rank starts at 0 or later, and something starts at 0. */
static double simulate(rig_t *rig, const dpr_uniform_costs_t *costs, double *busy)
{
    dpr_uniform_costs_fill(costs, rig->graph, rig->cost);
    const double span = dpr_simulate_makespan(rig->graph, rig->cost, rig->end);
    *busy = 0.0;
    for (int32_t n = 0; n < rig->graph->compute_count; n++) {
        *busy += rig->cost[n] / rig->graph->ranks;
    }
    return span - *busy;
}

/* What a schedule's forms were seen to be. */
typedef struct tally {
    int of[4];       /* by exactness */
    double worst[2]; /* approximation's error over the span: without and with wire time */
} tally_t;

static void check(rig_t *rig, const char *schedule, const dpr_uniform_costs_t *costs,
                  tally_t *tally)
{
    dpr_bubble_t form;
    double busy;
    const double bubble = simulate(rig, costs, &busy);
    assert_int_equal(dpr_bubble_closed_form(schedule, rig->graph->ranks, rig->graph->micro_batches,
                                            costs, &form),
                     DPR_OK);
    const double error = (form.bubble_sec - bubble) / (bubble + busy);
    const bool right = form.exactness == DPR_APPROXIMATE ||
                       (form.exactness == DPR_EXACT && fabs(error) < 1e-9) ||
                       (form.exactness == DPR_LOWER_BOUND && error < 1e-9) ||
                       (form.exactness == DPR_UPPER_BOUND && error > -1e-9);
    if (!right || fabs(form.busy_sec - busy) > 1e-9 * busy) {
        fail_msg("%s P=%d M=%d F=%g I=%g W=%g B=%g FB=%g wire=%g: form %.9g (%s), simulated %.9g; "
                 "busy %.9g and %.9g",
                 schedule, rig->graph->ranks, rig->graph->micro_batches, costs->f, costs->i,
                 costs->w, costs->b, costs->fb, costs->wire, form.bubble_sec,
                 dpr_exactness_name(form.exactness), bubble, form.busy_sec, busy);
    }
    tally->of[form.exactness]++;
    if (form.exactness == DPR_APPROXIMATE) {
        double *worst = &tally->worst[costs->wire > 0.0];
        *worst = fmax(*worst, fabs(error));
    }
}

/* Costs that forms treat differently: equal ones, W short, F = I, F short, anything; with B or F&B
 * of their own; with wire time. */
static dpr_uniform_costs_t roll_costs(dice_t *dice)
{
    dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    const int shape = dice_roll(dice, 5);
    costs.f = dice_real(dice, 0.05, 2.0);
    costs.i = shape <= 2 ? costs.f : dice_real(dice, 0.05, 2.0);
    costs.w = shape == 0 ? costs.f : dice_real(dice, 0.05, 2.0);
    if (shape == 1 || shape == 3) {
        costs.w = dice_real(dice, 0.05, fmin(costs.f, costs.i));
    }
    if (dice_roll(dice, 4) == 0) {
        costs.b = dice_real(dice, 0.1, 4.0);
    }
    if (dice_roll(dice, 4) == 0) {
        costs.fb = dice_real(dice, 0.1, 4.0);
    }
    /* up to the shorter of F and B transfers count differently from above it */
    const double shorter = fmin(costs.f, dpr_uniform_b(&costs));
    const double wires[] = {
        0.0, 0.0, 0.0, dice_real(dice, 0.0, 1.0), dice_real(dice, 0.0, shorter), shorter};
    costs.wire = wires[dice_roll(dice, 6)];
    return costs;
}

static void check_size(const char *schedule, int P, int M, dice_t *dice, tally_t *tally)
{
    rig_t rig = rig_open(schedule, P, M);
    const int rounds = P <= 8 ? 40 : 8;
    const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;
    check(&rig, schedule, &unit, tally);
    for (int i = 0; i < rounds; i++) {
        const dpr_uniform_costs_t costs = roll_costs(dice);
        check(&rig, schedule, &costs, tally);
    }
    rig_close(&rig);
}

static void check_schedule(const char *name, tally_t *tally)
{
    static const int ranks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16, 24, 32};
    dice_t dice = {1 + strlen(name), 0};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        const int P = ranks[i];
        const int sampled[] = {1,         2,     3,         P - 1, P,         P + 1, 2 * P - 2,
                               2 * P - 1, 2 * P, 2 * P + 1, 3 * P, 4 * P + 2, 8 * P};
        for (size_t k = 0; k < sizeof sampled / sizeof sampled[0]; k++) {
            char text[CAPTURED_MAX];
            dpr_status_t status;
            CAPTURE(status, text, dpr_schedule_check(name, P, sampled[k]));
            if (status == DPR_OK) {
                check_size(name, P, sampled[k], &dice, tally);
            }
        }
    }
}

static void every_form_is_what_it_says(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t s = 0; s < count; s++) {
        tally_t tally = {0};
        check_schedule(schedules[s].name, &tally);
        print_message("%-18s exact %5d  lower bound %5d  upper bound %5d  approximate %5d",
                      schedules[s].name, tally.of[DPR_EXACT], tally.of[DPR_LOWER_BOUND],
                      tally.of[DPR_UPPER_BOUND], tally.of[DPR_APPROXIMATE]);
        if (tally.of[DPR_APPROXIMATE] > 0) {
            print_message(": off by up to %.1f %% of the span, with wire time %.1f %%",
                          100.0 * tally.worst[0], 100.0 * tally.worst[1]);
        }
        print_message("\n");
        assert_true(tally.of[DPR_EXACT] > 100);
    }
    tally_t tally = {0};
    check_schedule("interleaved-1f1b:1", &tally);
    check_schedule("interleaved-1f1b:3", &tally);
    assert_int_equal(tally.of[DPR_UPPER_BOUND] + tally.of[DPR_APPROXIMATE], 0);
}

/* By how much, said without the code: no wire time, 4 ranks, 16 micro-batches, F = I = W = 1. */
static void known_bubbles(void **state)
{
    (void)state;
    static const struct {
        const char *schedule;
        double bubble;
        double busy;
    } known[] = {
        {"gpipe", 9, 48},    {"1f1b", 9, 48},     {"interleaved-1f1b", 9, 96},
        {"zb1p", 3, 48},     {"zb2p", 3, 48},     {"zbv", 3, 96},
        {"v-half", 9, 96},   {"v-min", 11, 96},   {"interleaved-1f1b:3", 9, 144},
        {"chimera", 10, 48}, {"dualpipe", 2, 48}, {"dualpipev", 6, 96},
    };
    const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        dpr_bubble_t bubble;
        assert_int_equal(dpr_bubble_closed_form(known[i].schedule, 4, 16, &unit, &bubble), DPR_OK);
        assert_int_equal(bubble.exactness, DPR_EXACT);
        if (fabs(bubble.bubble_sec - known[i].bubble) > 1e-12 ||
            fabs(bubble.busy_sec - known[i].busy) > 1e-12) {
            fail_msg("%s: %g and %g, expected %g and %g", known[i].schedule, bubble.bubble_sec,
                     bubble.busy_sec, known[i].bubble, known[i].busy);
        }
        assert_true(fabs(bubble.bubble_ratio -
                         known[i].bubble / (known[i].bubble + known[i].busy)) < 1e-12);
    }
}

/* v-min with equal costs is exact for few micro-batches, too; v-half only from P on. */
static void v_min_is_exact_for_any_micro_batches(void **state)
{
    (void)state;
    const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;
    for (int P = 2; P <= 24; P++) {
        for (int M = 1; M <= P + 1; M++) {
            rig_t rig = rig_open("v-min", P, M);
            dpr_bubble_t form;
            double busy;
            assert_int_equal(dpr_bubble_closed_form("v-min", P, M, &unit, &form), DPR_OK);
            assert_int_equal(form.exactness, DPR_EXACT);
            assert_true(fabs(form.bubble_sec - simulate(&rig, &unit, &busy)) < 1e-9);
            assert_true(fabs(form.bubble_sec - (P % 3 == 0 ? 4 * P - 4 : 4 * P - 5)) < 1e-9);
            rig_close(&rig);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_what_it_says),
        cmocka_unit_test(known_bubbles),
        cmocka_unit_test(v_min_is_exact_for_any_micro_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
