/* Scaling: each point is a prediction of its own, and the threshold is where it was put. */
#include <string.h>

#include "base/log.h"
#include "models/scaling.h"
#include "tests/models/extremes.h"
#include "tests/models/machine.h"

static dpr_scaling_options_t values_of(dpr_scaling_axis_t axis, bool weak, double threshold,
                                       int count, const int *values)
{
    dpr_scaling_options_t options = {axis, weak, threshold, count, {0}};
    memcpy(options.values, values, (size_t)count * sizeof *values);
    return options;
}

static void strong_scaling_over_replicas_divides_the_batch(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_layout_t base = {"1f1b", 4, 32, 2, 1};
    const int values[] = {1, 2, 3, 4, 8, 16, 32};
    const dpr_scaling_options_t options = values_of(DPR_SCALE_REPLICAS, false, 0.5, 7, values);
    static dpr_scaling_t found;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_int_equal(found.count, 7);
    assert_int_equal(found.points[2].outcome, DPR_SCALING_NO_BATCH); /* 32 over 3 */
    double first = 0.0;
    for (int i = 0; i < 7; i++) {
        if (i == 2) {
            continue;
        }
        const dpr_layout_t layout = {"1f1b", 4, 32 / values[i], 2, values[i]};
        dpr_throughput_t alone;
        assert_int_equal(dpr_throughput_predict(&workload, &hardware, &layout, &alone), DPR_OK);
        first = i == 0 ? alone.samples_per_sec : first;
        assert_int_equal(found.points[i].outcome, DPR_SCALING_RUNS);
        assert_close(found.points[i].throughput.step.step_sec, alone.step.step_sec);
        assert_close(found.points[i].speedup, alone.samples_per_sec / first);
        assert_close(found.points[i].efficiency, alone.samples_per_sec / first / values[i]);
    }
    assert_true(found.points[0].efficiency == 1.0);
}

static void it_stops_paying_at_the_first_point_below_the_threshold(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_layout_t base = {"1f1b", 4, 32, 2, 1};
    const int values[] = {1, 2, 4, 8, 16, 32};
    dpr_scaling_options_t options = values_of(DPR_SCALE_REPLICAS, false, 1e-9, 6, values);
    static dpr_scaling_t found;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_int_equal(found.stops_at, -1);
    assert_int_equal(found.pays_up_to, 5);
    for (int i = 1; i < 6; i++) {
        assert_true(found.points[i].efficiency < found.points[i - 1].efficiency);
    }
    const double third = found.points[3].efficiency;
    options.threshold = third; /* met exactly: pays */
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_int_equal(found.pays_up_to, 3);
    assert_int_equal(found.stops_at, 4);
    options.threshold = third * (1 + 1e-9);
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_int_equal(found.pays_up_to, 2);
    assert_int_equal(found.stops_at, 3);
}

static void weak_scaling_over_replicas_keeps_the_pipeline(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_layout_t base = {"dualpipe", 4, 8, 2, 1};
    const int values[] = {1, 2, 8};
    const dpr_scaling_options_t options = values_of(DPR_SCALE_REPLICAS, true, 0.5, 3, values);
    static dpr_scaling_t found;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(found.points[i].layout.micro_batches, 8);
        assert_close(found.points[i].throughput.global_batch, 16.0 * values[i]);
        assert_close(found.points[i].throughput.step.pipeline_sec,
                     found.points[0].throughput.step.pipeline_sec);
        assert_close(found.points[i].efficiency, found.points[0].throughput.step.step_sec /
                                                     found.points[i].throughput.step.step_sec);
    }
}

/* On the plain machine all that is lost is the bubble: M / (M + P - 1). */
static void scaling_over_ranks_loses_the_bubble(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = plain_machine();
    const dpr_workload_t workload = {1u << 20,        4.0, 64, 128, DPR_PRECISION_FP32,
                                     DPR_STATE_ADAMW, 1.0};
    const dpr_layout_t base = {"1f1b", 2, 8, 1, 1};
    const int values[] = {2, 4, 8};
    for (int weak = 0; weak < 2; weak++) {
        const dpr_scaling_options_t options = values_of(DPR_SCALE_RANKS, weak, 0.7, 3, values);
        static dpr_scaling_t found;
        assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found),
                         DPR_OK);
        for (int i = 0; i < 3; i++) {
            const double expected = 9.0 / (8.0 + values[i] - 1.0);
            assert_true(fabs(found.points[i].efficiency - expected) < 1e-6);
            assert_true(fabs(found.points[i].speedup - expected * values[i] / 2.0) < 1e-5);
        }
        assert_int_equal(found.pays_up_to, 1); /* 9/11 = 0.82, 9/15 = 0.6 */
        assert_int_equal(found.stops_at, 2);
        /* weak: twice the model over twice the ranks takes as long a stage */
        const double stage =
            found.points[1].throughput.costs.f / found.points[0].throughput.costs.f;
        assert_close(stage, weak ? 1.0 : 0.5);
    }
}

static void ranks_that_a_schedule_does_not_allow_are_marked(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_layout_t base = {"dualpipe", 2, 8, 1, 1};
    const int values[] = {1, 2, 3, 4, 8};
    dpr_scaling_options_t options = values_of(DPR_SCALE_RANKS, false, 0.5, 5, values);
    static dpr_scaling_t found;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    const dpr_scaling_outcome_t expected[] = {DPR_SCALING_NO_SCHEDULE, DPR_SCALING_RUNS,
                                              DPR_SCALING_NO_SCHEDULE, DPR_SCALING_RUNS,
                                              DPR_SCALING_NO_SCHEDULE};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(found.points[i].outcome, expected[i]);
    }
    assert_true(found.points[1].efficiency == 1.0);
    options.values[0] = 8;
    options.value_count = 1;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_scaling_predict(&workload, &hardware, &base, &options, &found));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "no point can run");
}

/* A machine with just less memory than the first point needs, then than any. */
static void points_that_do_not_fit_are_not_compared(void **state)
{
    (void)state;
    dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_layout_t base = {"1f1b", 2, 32, 2, 1};
    const int values[] = {2, 4, 8};
    const dpr_scaling_options_t options = values_of(DPR_SCALE_RANKS, false, 0.01, 3, values);
    static dpr_scaling_t found;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    uint64_t bytes[3];
    for (int i = 0; i < 3; i++) {
        bytes[i] = found.points[i].throughput.peak_bytes;
    }
    assert_true(bytes[0] > bytes[1] && bytes[1] > bytes[2]);
    hardware.memory_bytes = (double)bytes[1];
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_false(found.points[0].throughput.fits);
    assert_true(found.points[0].efficiency == 0.0 && found.points[0].speedup == 0.0);
    assert_true(found.points[1].efficiency == 1.0 && found.points[1].speedup == 1.0);
    assert_int_equal(found.pays_up_to, 2);
    hardware.memory_bytes = (double)bytes[2] - 1.0;
    assert_int_equal(dpr_scaling_predict(&workload, &hardware, &base, &options, &found), DPR_OK);
    assert_int_equal(found.pays_up_to, -1);
    assert_int_equal(found.stops_at, -1);
}

static void extreme_inputs_are_errors_or_sane_results(void **state)
{
    (void)state;
    dice_t dice = {.seed = 14};
    const dpr_hardware_t hardware = real_machine();
    static dpr_scaling_t found;
    int accepted = 0;
    for (int i = 0; i < 5000; i++) {
        dpr_workload_t workload = real_workload();
        dpr_layout_t base = {"1f1b", 2, 8, 2, 1};
        dpr_scaling_options_t options = {dice_roll(&dice, 2) ? DPR_SCALE_RANKS : DPR_SCALE_REPLICAS,
                                         dice_roll(&dice, 2),
                                         0.5,
                                         2,
                                         {1, 2}};
        int *ints[] = {&base.ranks,          &base.micro_batch_size, &base.replicas,
                       &options.value_count, &options.values[0],     &options.values[1],
                       &workload.hidden,     &workload.sequence};
        *ints[dice_roll(&dice, 8)] = extreme_int(&dice);
        if (dice_roll(&dice, 4) == 0) {
            options.threshold = extreme_real(&dice);
        }
        if (dice_roll(&dice, 4) == 0) {
            workload.parameters = dpr_random_bits(9, 0, (uint64_t)i) >> dice_roll(&dice, 64);
        }
        if (options.axis == DPR_SCALE_RANKS && options.values[1] > 64 &&
            options.values[1] <= DPR_MAX_RANKS) {
            options.values[1] = 64; /* allowed, but slow */
        }
        if (options.axis == DPR_SCALE_REPLICAS && base.ranks > 64 && base.ranks <= DPR_MAX_RANKS) {
            base.ranks = 64;
        }
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message,
                dpr_scaling_predict(&workload, &hardware, &base, &options, &found));
        if (status != DPR_OK) {
            assert_int_equal(status, DPR_ERR_INVALID);
            assert_true(strlen(message) > 0);
            continue;
        }
        accepted++;
        for (int p = 0; p < found.count; p++) {
            assert_sane(found.points[p].speedup);
            assert_sane(found.points[p].efficiency);
        }
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strong_scaling_over_replicas_divides_the_batch),
        cmocka_unit_test(it_stops_paying_at_the_first_point_below_the_threshold),
        cmocka_unit_test(weak_scaling_over_replicas_keeps_the_pipeline),
        cmocka_unit_test(scaling_over_ranks_loses_the_bubble),
        cmocka_unit_test(ranks_that_a_schedule_does_not_allow_are_marked),
        cmocka_unit_test(points_that_do_not_fit_are_not_compared),
        cmocka_unit_test(extreme_inputs_are_errors_or_sane_results),
    };
    return cmocka_run_group_tests_name("scaling", tests, NULL, NULL);
}
