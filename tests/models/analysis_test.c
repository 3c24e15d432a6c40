/* Numbers of micro-batches, held against trying every one. */
#include <string.h>

#include "base/log.h"
#include "models/analysis.h"
#include "tests/models/extremes.h"

static void a_point_is_the_simulation(void **state)
{
    (void)state;
    const dpr_uniform_costs_t costs = {1.0, 1.0, 1.0, -1.0, -1.0, 0.0};
    dpr_micro_batch_point_t point;
    assert_int_equal(dpr_micro_batches_play("1f1b", 4, 16, &costs, &point), DPR_OK);
    assert_close(point.span_sec, 57.0);
    assert_close(point.bubble_ratio, 3.0 / 19.0);
    assert_int_equal(point.peak_activations, 4);
    assert_int_equal(dpr_micro_batches_play("gpipe", 4, 16, &costs, &point), DPR_OK);
    assert_int_equal(point.peak_activations, 16);
}

/* gpipe: (P-1) / (M+P-1) <= r, so M >= (P-1)(1-r)/r. */
static void the_smallest_number_of_gpipe_is_the_closed_form(void **state)
{
    (void)state;
    const dpr_uniform_costs_t costs = {1.0, 0.5, 0.5, -1.0, -1.0, 0.0};
    const struct {
        int P;
        double ratio;
        int expected;
    } cases[] = {{4, 0.2, 12}, {4, 0.25, 9}, {2, 0.5, 1}, {8, 0.125, 49}, {3, 0.01, 198}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dpr_micro_batch_point_t point;
        /* a hair more, for the ratio is met exactly */
        assert_int_equal(dpr_micro_batches_for_ratio("gpipe", cases[i].P, &costs,
                                                     cases[i].ratio * (1 + 1e-12), &point),
                         DPR_OK);
        assert_int_equal(point.micro_batches, cases[i].expected);
        assert_int_equal(dpr_micro_batches_for_ratio("gpipe", cases[i].P, &costs,
                                                     cases[i].ratio * (1 - 1e-9), &point),
                         DPR_OK);
        assert_int_equal(point.micro_batches, cases[i].expected + 1);
    }
}

/* A ratio that is met to the bit is reached. */
static void a_ratio_that_is_met_exactly_is_reached(void **state)
{
    (void)state;
    const dpr_uniform_costs_t costs = {1.0, 1.3, 0.7, -1.0, -1.0, 0.1};
    for (int M = 4; M <= 40; M += 4) {
        dpr_micro_batch_point_t met;
        dpr_micro_batch_point_t found;
        assert_int_equal(dpr_micro_batches_play("1f1b", 4, M, &costs, &met), DPR_OK);
        assert_int_equal(dpr_micro_batches_for_ratio("1f1b", 4, &costs, met.bubble_ratio, &found),
                         DPR_OK);
        assert_int_equal(found.micro_batches, M);
    }
}

/* By trying all of them; 0 where none up to `most` reaches it. */
static int try_all(const dpr_schedule_t *schedule, int P, const dpr_uniform_costs_t *costs,
                   double ratio, int most)
{
    for (int M = 1; M <= most; M++) {
        dpr_micro_batch_point_t point;
        if (schedule->allows(P, M)) {
            assert_int_equal(dpr_micro_batches_play(schedule->name, P, M, costs, &point), DPR_OK);
            if (point.bubble_ratio <= ratio) {
                return M;
            }
        }
    }
    return 0;
}

static void the_smallest_number_is_found_for_every_schedule(void **state)
{
    (void)state;
    enum { MOST = 48 };
    dice_t dice = {.seed = 3};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    int compared = 0;
    for (size_t i = 0; i < count; i++) {
        for (int round = 0; round < 8; round++) {
            const int P = 2 + 2 * dice_roll(&dice, 3);
            if (schedules[i].min_micro_batches(P) == 0) {
                continue;
            }
            const dpr_uniform_costs_t costs = {dice_real(&dice, 0.5, 1.5),
                                               dice_real(&dice, 0.5, 1.5),
                                               dice_real(&dice, 0.5, 1.5),
                                               -1.0,
                                               -1.0,
                                               dice_real(&dice, 0.0, 0.2)};
            const double ratio = dice_real(&dice, 0.1, 0.5);
            const int expected = try_all(&schedules[i], P, &costs, ratio, MOST);
            if (expected == 0) {
                continue;
            }
            dpr_micro_batch_point_t point;
            assert_int_equal(
                dpr_micro_batches_for_ratio(schedules[i].name, P, &costs, ratio, &point), DPR_OK);
            if (point.micro_batches != expected) {
                print_error("%s, P %d, ratio %g: %d, expected %d\n", schedules[i].name, P, ratio,
                            point.micro_batches, expected);
                fail();
            }
            assert_true(point.bubble_ratio <= ratio);
            compared++;
        }
    }
    assert_true(compared > (int)count);
}

static void a_ratio_out_of_reach_is_an_error(void **state)
{
    (void)state;
    const dpr_uniform_costs_t costs = {1.0, 1.0, 1.0, -1.0, -1.0, 50.0};
    char message[CAPTURED_MAX];
    dpr_status_t status;
    dpr_micro_batch_point_t point;
    /* wire is the pace: no number of micro-batches hides it */
    CAPTURE(status, message, dpr_micro_batches_for_ratio("1f1b", 2, &costs, 0.01, &point));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "does not reach a bubble ratio of 0.01");
    const double bad[] = {0.0, 1.0, -0.1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CAPTURE(status, message, dpr_micro_batches_for_ratio("1f1b", 2, &costs, bad[i], &point));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_contains(message, "expected more than 0 and less than 1");
    }
    CAPTURE(status, message, dpr_micro_batches_for_ratio("dualpipe", 3, &costs, 0.1, &point));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "P even");
    CAPTURE(status, message, dpr_micro_batches_for_ratio("nothing", 3, &costs, 0.1, &point));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "unknown schedule");
}

/* 1f1b: (M + P - 1)(c / M + 2 o), least near M = sqrt((P - 1) c / 2 o). */
static void the_best_cut_balances_bubble_and_overhead(void **state)
{
    (void)state;
    const dpr_batch_costs_t costs = {
        .batch = 64,
        .whole = {64.0, 64.0, 64.0, -1.0, -1.0, 0.0},
        .overhead_sec = 1.0,
    };
    dpr_micro_batch_choice_t choice;
    assert_int_equal(dpr_micro_batches_for_batch("1f1b", 5, &costs, &choice), DPR_OK);
    assert_int_equal(choice.count, 7);
    int best = 0;
    for (int i = 0; i < choice.count; i++) {
        const int M = 1 << i;
        assert_int_equal(choice.points[i].micro_batches, M);
        assert_int_equal(choice.points[i].micro_batch_size, 64 / M);
        assert_close(choice.points[i].span_sec, (M + 4) * (192.0 / M + 2.0));
        assert_close(choice.points[i].samples_per_sec, 64.0 / choice.points[i].span_sec);
        best = choice.points[i].span_sec < choice.points[best].span_sec ? i : best;
    }
    assert_int_equal(choice.best, best);
    assert_int_equal(choice.points[choice.best].micro_batches, 16); /* sqrt(4 * 96) = 19.6 */
}

static void a_batch_that_cannot_be_cut_is_an_error(void **state)
{
    (void)state;
    dpr_batch_costs_t costs = {.batch = 14, .whole = {1.0, 1.0, 1.0, -1.0, -1.0, 0.0}};
    char message[CAPTURED_MAX];
    dpr_status_t status;
    dpr_micro_batch_choice_t choice;
    CAPTURE(status, message, dpr_micro_batches_for_batch("dualpipe", 4, &costs, &choice));
    assert_int_equal(status, DPR_OK); /* 14 of one sample */
    assert_int_equal(choice.count, 1);
    costs.batch = 15;
    CAPTURE(status, message, dpr_micro_batches_for_batch("dualpipe", 4, &costs, &choice));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "no divisor of batch 15");
    costs.batch = 0;
    CAPTURE(status, message, dpr_micro_batches_for_batch("1f1b", 4, &costs, &choice));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "expected 1 to 65536");
}

static void extreme_inputs_are_errors_or_sane_results(void **state)
{
    (void)state;
    dice_t dice = {.seed = 4};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (int i = 0; i < 400; i++) {
        const char *name = schedules[dice_roll(&dice, (int)count)].name;
        const dpr_uniform_costs_t whole = {extreme_real(&dice), extreme_real(&dice),
                                           extreme_real(&dice), extreme_real(&dice),
                                           extreme_real(&dice), extreme_real(&dice)};
        int P = extreme_int(&dice);
        P = P > 64 && P <= DPR_MAX_RANKS ? 64 : P; /* allowed, but slow */
        const dpr_batch_costs_t costs = {extreme_int(&dice) % 100, whole, extreme_real(&dice),
                                         extreme_real(&dice)};
        char message[CAPTURED_MAX];
        dpr_status_t status;
        dpr_micro_batch_point_t point;
        CAPTURE(status, message,
                dpr_micro_batches_play(name, P, extreme_int(&dice) % 100, &whole, &point));
        if (status == DPR_OK) {
            assert_sane(point.span_sec);
            assert_sane(point.bubble_ratio);
            assert_true(point.bubble_ratio <= 1.0);
        } else {
            assert_true(strlen(message) > 0);
        }
        dpr_micro_batch_choice_t choice;
        CAPTURE(status, message, dpr_micro_batches_for_batch(name, P, &costs, &choice));
        if (status == DPR_OK) {
            assert_sane(choice.points[choice.best].span_sec);
        } else {
            assert_true(strlen(message) > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_is_the_simulation),
        cmocka_unit_test(the_smallest_number_of_gpipe_is_the_closed_form),
        cmocka_unit_test(a_ratio_that_is_met_exactly_is_reached),
        cmocka_unit_test(the_smallest_number_is_found_for_every_schedule),
        cmocka_unit_test(a_ratio_out_of_reach_is_an_error),
        cmocka_unit_test(the_best_cut_balances_bubble_and_overhead),
        cmocka_unit_test(a_batch_that_cannot_be_cut_is_an_error),
        cmocka_unit_test(extreme_inputs_are_errors_or_sane_results),
    };
    return cmocka_run_group_tests_name("analysis", tests, NULL, NULL);
}
