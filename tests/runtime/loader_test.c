/* The loader's prefetching: what arrives, when it may be overwritten, and what it reports. */
#include "data_testing.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/loader.h"

enum { COUNT = 250, FEATURES = 5, M = 4, ROWS = 6, G = M * ROWS };

/* A data set, two buffers, and a loader over them. */
typedef struct rig {
    dpr_dataset_t dataset;
    bool needs_inputs[M];
    bool needs_labels[M];
    float *inputs[2];
    int32_t *labels[2];
    dpr_loader_t *loader;
} rig_t;

static void open_rig(rig_t *rig, dpr_loader_order_t order)
{
    rig->dataset = (dpr_dataset_t){.count = COUNT, .features = FEATURES, .mean = 0.3f, .std = 0.2f};
    rig->dataset.bytes = calloc(COUNT, FEATURES);
    rig->dataset.labels = calloc(COUNT, sizeof(int32_t));
    for (int i = 0; i < COUNT; i++) {
        rig->dataset.labels[i] = i;
        for (int f = 0; f < FEATURES; f++) {
            rig->dataset.bytes[i * FEATURES + f] = (uint8_t)(i + 31 * f);
        }
    }
    for (int b = 0; b < 2; b++) {
        rig->inputs[b] = calloc(G, FEATURES * sizeof(float));
        rig->labels[b] = calloc(G, sizeof(int32_t));
    }
    const dpr_loader_options_t options = {
        .dataset = &rig->dataset,
        .order = order,
        .seed = 42,
        .micro_batches = M,
        .micro_batch_size = ROWS,
        .needs_inputs = rig->needs_inputs,
        .needs_labels = rig->needs_labels,
        .inputs = {rig->inputs[0], rig->inputs[1]},
        .labels = {rig->labels[0], rig->labels[1]},
    };
    assert_ok(dpr_loader_create(&options, &rig->loader));
}

static void close_rig(rig_t *rig)
{
    dpr_loader_destroy(rig->loader);
    dpr_dataset_free(&rig->dataset);
    for (int b = 0; b < 2; b++) {
        free(rig->inputs[b]);
        free(rig->labels[b]);
    }
}

static rig_t rig_that_needs_all(void)
{
    rig_t rig = {0};
    memset(rig.needs_inputs, true, sizeof rig.needs_inputs);
    memset(rig.needs_labels, true, sizeof rig.needs_labels);
    return rig;
}

/* The buffer holds exactly what gathering step `step` in place gives. */
static void check_batch(const rig_t *rig, int buffer, const uint32_t *order, long step_of_epoch)
{
    float inputs[G * FEATURES];
    int32_t labels[G];
    dpr_batch_gather(&rig->dataset, order, (size_t)step_of_epoch * G, G, inputs, labels);
    assert_memory_equal(rig->labels[buffer], labels, sizeof labels);
    assert_memory_equal(rig->inputs[buffer], inputs, sizeof inputs);
}

/* The trainer's rhythm over three epochs: the next step is always under way while one is consumed.
 */
static void three_epochs_arrive_in_order_and_unharmed(void **state)
{
    (void)state;
    rig_t rig = rig_that_needs_all();
    uint32_t order[COUNT];
    open_rig(&rig, DPR_LOADER_TRAIN);
    const long steps = dpr_loader_steps(rig.loader);
    assert_int_equal(steps, 10);
    dpr_loader_start(rig.loader, 0);
    for (long step = 0; step < 3 * steps; step++) {
        const int buffer = dpr_loader_wait(rig.loader);
        dpr_loader_start(rig.loader, step + 1);
        assert_int_equal(buffer, step % 2);
        dpr_batch_order(42, step / steps, COUNT, order);
        check_batch(&rig, buffer, order, step % steps);
    }
    close_rig(&rig);
}

/* A restart from a checkpoint begins anywhere, and two batches may be under way at once. */
static void steps_come_in_any_order_two_ahead(void **state)
{
    (void)state;
    static const long steps[] = {27, 3, 28, 13, 12, 0};
    enum { STEPS = sizeof steps / sizeof steps[0] };
    rig_t rig = rig_that_needs_all();
    uint32_t order[COUNT];
    open_rig(&rig, DPR_LOADER_TRAIN);
    dpr_loader_start(rig.loader, steps[0]);
    dpr_loader_start(rig.loader, steps[1]);
    for (size_t i = 0; i < STEPS; i++) {
        const int buffer = dpr_loader_wait(rig.loader);
        dpr_batch_order(42, steps[i] / 10, COUNT, order);
        check_batch(&rig, buffer, order, steps[i] % 10);
        if (i + 2 < STEPS) {
            dpr_loader_start(rig.loader, steps[i + 2]);
        }
    }
    close_rig(&rig);
}

static void an_evaluation_covers_every_sample_and_pads(void **state)
{
    (void)state;
    rig_t rig = rig_that_needs_all();
    open_rig(&rig, DPR_LOADER_EVAL);
    const long steps = dpr_loader_steps(rig.loader);
    assert_int_equal(steps, 11); /* 250 samples, 24 a step: 10 in the last */
    for (int round = 0; round < 2; round++) {
        int next = 0;
        for (long step = 0; step < steps; step++) {
            dpr_loader_start(rig.loader, round * steps + step);
            const int buffer = dpr_loader_wait(rig.loader);
            check_batch(&rig, buffer, NULL, step);
            for (int i = 0; i < G; i++) {
                const int32_t label = rig.labels[buffer][i];
                assert_int_equal(label, next < COUNT ? next : DPR_LABEL_NONE);
                next += next < COUNT;
            }
        }
        assert_int_equal(next, COUNT);
    }
    close_rig(&rig);
}

static void only_the_needed_parts_are_written(void **state)
{
    (void)state;
    rig_t rig = {.needs_inputs = {[1] = true}, .needs_labels = {[2] = true}};
    open_rig(&rig, DPR_LOADER_EVAL);
    for (int i = 0; i < G; i++) {
        rig.labels[0][i] = 1000;
        rig.inputs[0][i * FEATURES] = 1000.0f;
    }
    dpr_loader_start(rig.loader, 0);
    assert_int_equal(dpr_loader_wait(rig.loader), 0);
    for (int i = 0; i < G; i++) {
        assert_int_equal(rig.labels[0][i] != 1000, i / ROWS == 2);
        assert_int_equal(rig.inputs[0][i * FEATURES] < 1000.0f, i / ROWS == 1);
    }
    close_rig(&rig);
}

/* Whether the next step, started and left alone for a while, was there without waiting. */
static bool arrives_without_a_stall(dpr_loader_t *loader, long step)
{
    dpr_loader_stalls_t before;
    dpr_loader_stalls_t after;
    dpr_loader_stalls(loader, &before);
    dpr_loader_start(loader, step);
    (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    dpr_loader_wait(loader);
    dpr_loader_stalls(loader, &after);
    assert_in_range(after.count - before.count, 0, 1);
    assert_int_equal(after.count > before.count, after.sec > before.sec);
    return after.count == before.count;
}

static void a_batch_that_had_time_does_not_count_as_a_stall(void **state)
{
    (void)state;
    rig_t rig = rig_that_needs_all();
    dpr_loader_stalls_t stalls;
    long step = 0;
    open_rig(&rig, DPR_LOADER_TRAIN);
    dpr_loader_stalls(rig.loader, &stalls);
    assert_int_equal(stalls.count, 0);
    assert_true(stalls.sec == 0.0);
    while (!arrives_without_a_stall(rig.loader, step)) {
        assert_true(++step < 100); /* a busy machine may need a few tries */
    }
    close_rig(&rig);
}

static void every_wait_that_waited_counts_as_one_stall(void **state)
{
    (void)state;
    rig_t rig = rig_that_needs_all();
    dpr_loader_stalls_t stalls;
    open_rig(&rig, DPR_LOADER_TRAIN);
    for (long step = 0; step < 1000; step++) {
        dpr_loader_start(rig.loader, step);
        dpr_loader_wait(rig.loader);
    }
    dpr_loader_stalls(rig.loader, &stalls);
    assert_in_range(stalls.count, 1, 1000);
    assert_true(stalls.sec > 0.0);
    close_rig(&rig);
}

static void a_loader_is_destroyed_with_batches_under_way(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        rig_t rig = rig_that_needs_all();
        open_rig(&rig, DPR_LOADER_TRAIN);
        dpr_loader_start(rig.loader, 0);
        dpr_loader_start(rig.loader, 1);
        close_rig(&rig);
    }
    dpr_loader_destroy(NULL);
}

static void too_few_samples_for_one_step_are_refused(void **state)
{
    (void)state;
    const bool needs[M] = {false};
    const dpr_dataset_t dataset = {.count = G - 1, .features = FEATURES};
    const dpr_loader_options_t options = {.dataset = &dataset,
                                          .order = DPR_LOADER_TRAIN,
                                          .micro_batches = M,
                                          .micro_batch_size = ROWS,
                                          .needs_inputs = needs,
                                          .needs_labels = needs};
    dpr_loader_t *loader;
    assert_fails(dpr_loader_create(&options, &loader), DPR_ERR_INVALID,
                 "give --micro-batch-size 5 or less");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_epochs_arrive_in_order_and_unharmed),
        cmocka_unit_test(steps_come_in_any_order_two_ahead),
        cmocka_unit_test(an_evaluation_covers_every_sample_and_pads),
        cmocka_unit_test(only_the_needed_parts_are_written),
        cmocka_unit_test(a_batch_that_had_time_does_not_count_as_a_stall),
        cmocka_unit_test(every_wait_that_waited_counts_as_one_stall),
        cmocka_unit_test(a_loader_is_destroyed_with_batches_under_way),
        cmocka_unit_test(too_few_samples_for_one_step_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
