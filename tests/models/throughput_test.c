/* Step time, throughput and utilization, computed by hand on a machine of round numbers. */
#include <string.h>

#include "base/log.h"
#include "tests/models/extremes.h"
#include "tests/models/machine.h"

/* A stage of two has 600 parameters; 16 tokens a micro-batch; L h s = 32. Seconds at 1e9 a second:
 */
#define HAND_F ((2.0 * 1200 + 4.0 * 32) * 16 / 2 / 1e9)
#define HAND_I ((2.0 * 1200 + 8.0 * 32) * 16 / 2 / 1e9)
#define HAND_W (2.0 * 1200 * 16 / 2 / 1e9)

static dpr_throughput_t predict(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                const char *schedule, int P, int M, int size, int replicas)
{
    const dpr_layout_t layout = {schedule, P, M, size, replicas};
    dpr_throughput_t found;
    assert_int_equal(dpr_throughput_predict(workload, hardware, &layout, &found), DPR_OK);
    return found;
}

static void costs_are_the_operations_over_the_rate(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = plain_machine();
    const dpr_workload_t workload = small_workload();
    const dpr_throughput_t found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    assert_close(found.costs.f, HAND_F);
    assert_close(found.costs.b, HAND_I + HAND_W);
    assert_close(found.step.pipeline_sec, (3 + 1) * (HAND_F + HAND_I + HAND_W));
    assert_close(found.step.bubble_ratio, 1.0 / 4.0);
    assert_close(found.global_batch, 6.0);
    assert_close(found.samples_per_sec, 6.0 / found.step.step_sec);
    assert_close(found.tokens_per_sec, 48.0 / found.step.step_sec);
    assert_close(dpr_workload_sample_flops(&workload), (6.0 * 1200 + 12.0 * 32) * 8);
    assert_close(found.flops_per_step, (6.0 * 1200 + 12.0 * 32) * 48);
    /* half of the peak, three quarters of the time; but for the optimizer's memory traffic */
    assert_close(found.utilization, 0.5 * 0.75 * found.step.pipeline_sec / found.step.step_sec);
    assert_int_equal(found.devices, 2);
    assert_true(found.fits);
}

static void an_overlapped_pair_takes_its_factor(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = plain_machine();
    dpr_workload_t workload = small_workload();
    workload.fb_factor = 0.75;
    const dpr_throughput_t found = predict(&workload, &hardware, "dualpipe", 2, 4, 2, 1);
    assert_close(found.costs.fb, 0.75 * (HAND_F + HAND_I + HAND_W));
}

static void overhead_is_paid_once_an_op(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    const dpr_workload_t workload = small_workload();
    hardware.op_overhead_sec = 1.0;
    dpr_throughput_t found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    assert_close(found.step.pipeline_sec, 4 * (HAND_F + HAND_I + HAND_W + 2.0));
    found = predict(&workload, &hardware, "dualpipe", 2, 4, 2, 1);
    assert_close(found.costs.fb, HAND_F + HAND_I + HAND_W + 1.0);
    assert_close(found.costs.i, HAND_I + 1.0);
}

/* The roofline: with little bandwidth an op takes as long as its bytes. fp32, two stages:
 * parameters 600 x 4, activation 16 x 4 x 4, saved and wstate as models/memory.h has them. */
static void memory_traffic_counts_where_it_is_slower(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    hardware.memory_bandwidth_bytes_per_sec = 2.0;
    hardware.memory_fraction = 0.5;
    const dpr_workload_t workload = small_workload();
    const double act = 16.0 * 4 * 4;
    const double saved = 16.0 * 4 * (16 * 4 + 2) / 2;
    const double wstate = 9.0 * 16 * 4 * 4 / 2;
    const dpr_throughput_t found = predict(&workload, &hardware, "zb1p", 2, 3, 2, 1);
    assert_close(found.costs.f, 600.0 * 4 + saved + 2 * act);
    assert_close(found.costs.i, 600.0 * 4 + saved + wstate + 2 * act);
    assert_close(found.costs.w, 2 * 600.0 * 4 + saved + wstate);
    /* AdamW in fp32 touches 28 bytes of each of 600 parameters */
    assert_close(found.step.update_sec, 600.0 * 28);
    const dpr_throughput_t two = predict(&workload, &hardware, "dualpipe", 2, 4, 2, 1);
    assert_close(two.step.update_sec, 2 * 600.0 * 28);
    dpr_workload_t bf16 = workload;
    bf16.precision = DPR_PRECISION_BF16;
    const dpr_throughput_t half = predict(&bf16, &hardware, "zb1p", 2, 3, 2, 1);
    assert_close(half.step.update_sec, 600.0 * (2 + 2 * 12 + 2));
}

static void gradients_are_reduced_among_all_holders(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    hardware.node_link = (dpr_hardware_link_t){1.0, 100.0};
    hardware.network_link = (dpr_hardware_link_t){3.0, 10.0};
    const dpr_workload_t workload = small_workload();
    const double bytes = 600.0 * 4;
    dpr_throughput_t found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    assert_true(found.step.reduce_sec == 0.0);
    found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 2); /* 4 devices: one node */
    assert_close(found.step.reduce_sec, 2 * (1.0 + bytes / 2 / 100.0));
    found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 3); /* 6 devices: two nodes */
    assert_close(found.step.reduce_sec, 4 * (3.0 + bytes / 3 / 10.0));
    /* dualpipe: two stages a rank, each on both ranks */
    found = predict(&workload, &hardware, "dualpipe", 2, 4, 2, 1);
    assert_close(found.step.reduce_sec, 2 * 2 * (1.0 + bytes / 2 / 100.0));
    found = predict(&workload, &hardware, "dualpipe", 2, 4, 2, 3);
    assert_close(found.step.reduce_sec, 2 * 10 * (3.0 + bytes / 6 / 10.0));
    /* between the ends of 8 ranks lies the network, between the middle ones of 4 + 4, too */
    const dpr_throughput_t wide = predict(&workload, &hardware, "dualpipe", 8, 16, 2, 1);
    assert_close(wide.step.reduce_sec, 2 * 2 * (3.0 + 150.0 * 4 / 2 / 10.0));
    const dpr_throughput_t narrow = predict(&workload, &hardware, "dualpipe", 4, 8, 2, 1);
    assert_close(narrow.step.reduce_sec, 2 * 2 * (1.0 + 300.0 * 4 / 2 / 100.0));
}

/* gpipe over 5 ranks, 4 a node: one hop of four is over the network, each way. */
static void transfers_take_the_link_between_their_ranks(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    hardware.node_link = (dpr_hardware_link_t){1.0, 1e21};
    hardware.network_link = (dpr_hardware_link_t){10.0, 1e21};
    hardware.op_overhead_sec = 1e-3;
    const dpr_workload_t workload = small_workload();
    const dpr_throughput_t found = predict(&workload, &hardware, "gpipe", 5, 1, 2, 1);
    const dpr_throughput_t near = predict(&workload, &hardware, "gpipe", 4, 1, 2, 1);
    const double five = 5 * (found.costs.f + found.costs.b);
    const double four = 4 * (near.costs.f + near.costs.b);
    assert_close(found.step.pipeline_sec, five + 2 * (3 * 1.0 + 10.0));
    assert_close(near.step.pipeline_sec, four + 2 * 3 * 1.0);
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    const dpr_workload_t workload = small_workload();
    dpr_throughput_t found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    hardware.memory_bytes = (double)found.peak_bytes;
    found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    assert_true(found.fits);
    hardware.memory_bytes = (double)found.peak_bytes - 1.0;
    found = predict(&workload, &hardware, "1f1b", 2, 3, 2, 1);
    assert_false(found.fits);
}

static void a_precision_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = plain_machine();
    dpr_workload_t workload = small_workload();
    workload.precision = DPR_PRECISION_TF32;
    const dpr_layout_t layout = {"1f1b", 2, 3, 2, 1};
    dpr_throughput_t found;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_throughput_predict(&workload, &hardware, &layout, &found));
    assert_int_equal(status, DPR_ERR_UNSUPPORTED);
    assert_contains(message, "no peak for tf32: expected one of fp32, bf16");
}

static void extreme_inputs_are_errors_or_sane_results(void **state)
{
    (void)state;
    dice_t dice = {.seed = 8};
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        dpr_hardware_t hardware = real_machine();
        dpr_workload_t workload = real_workload();
        dpr_layout_t layout = {"1f1b", 2, 4, 2, 1};
        double *reals[] = {&hardware.peak_flops_per_sec[2],
                           &hardware.flops_fraction,
                           &hardware.memory_bytes,
                           &hardware.memory_bandwidth_bytes_per_sec,
                           &hardware.memory_fraction,
                           &hardware.op_overhead_sec,
                           &hardware.node_link.latency_sec,
                           &hardware.network_link.bandwidth_bytes_per_sec,
                           &hardware.link_fraction,
                           &workload.layers,
                           &workload.fb_factor};
        int *ints[] = {&hardware.devices_per_node, &workload.hidden, &workload.sequence,
                       &layout.micro_batch_size, &layout.replicas};
        const int changes = 1 + dice_roll(&dice, 3);
        for (int c = 0; c < changes; c++) {
            *reals[dice_roll(&dice, 11)] = extreme_real(&dice);
            *ints[dice_roll(&dice, 5)] = extreme_int(&dice);
        }
        if (dice_roll(&dice, 4) == 0) {
            workload.parameters = dpr_random_bits(9, 0, (uint64_t)i) >> dice_roll(&dice, 64);
        }
        if (dice_roll(&dice, 8) == 0) {
            layout.ranks = extreme_int(&dice) % 64;
            layout.micro_batches = extreme_int(&dice) % 64;
        }
        dpr_throughput_t found;
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message, dpr_throughput_predict(&workload, &hardware, &layout, &found));
        if (status != DPR_OK) {
            assert_true(status == DPR_ERR_INVALID || status == DPR_ERR_UNSUPPORTED);
            assert_true(strlen(message) > 0);
            continue;
        }
        accepted++;
        assert_sane(found.step.step_sec);
        assert_sane(found.tokens_per_sec);
        assert_sane(found.flops_per_step);
        assert_true(found.utilization > 0.0 && found.utilization <= 1.0);
        assert_true(found.step.bubble_ratio >= 0.0 && found.step.bubble_ratio <= 1.0);
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_the_operations_over_the_rate),
        cmocka_unit_test(an_overlapped_pair_takes_its_factor),
        cmocka_unit_test(overhead_is_paid_once_an_op),
        cmocka_unit_test(memory_traffic_counts_where_it_is_slower),
        cmocka_unit_test(gradients_are_reduced_among_all_holders),
        cmocka_unit_test(transfers_take_the_link_between_their_ranks),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(a_precision_that_is_not_there_is_an_error),
        cmocka_unit_test(extreme_inputs_are_errors_or_sane_results),
    };
    return cmocka_run_group_tests_name("throughput", tests, NULL, NULL);
}
