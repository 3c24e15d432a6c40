/* The order of samples in an epoch, and what a gathered batch holds. */
#include "data_testing.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"

/* ---- Order ---- */

static void every_epoch_is_a_permutation(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 64, 1000, 60000};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        const size_t count = counts[c];
        uint32_t *order = calloc(count, sizeof *order);
        uint8_t *seen = calloc(count, 1);
        for (long epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, count);
            dpr_batch_order(7, epoch, count, order);
            for (size_t i = 0; i < count; i++) {
                assert_in_range(order[i], 0, count - 1);
                assert_int_equal(seen[order[i]]++, 0);
            }
        }
        free(order);
        free(seen);
    }
}

static void the_order_follows_from_seed_and_epoch_alone(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    uint32_t order[4][COUNT];
    dpr_batch_order(7, 3, COUNT, order[0]);
    dpr_batch_order(7, 3, COUNT, order[1]);
    dpr_batch_order(7, 4, COUNT, order[2]);
    dpr_batch_order(8, 3, COUNT, order[3]);
    assert_memory_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[0], order[2], sizeof order[0]);
    assert_memory_not_equal(order[0], order[3], sizeof order[0]);
}

/* All 24 orders of four samples, each about as often: chi-square with 23 degrees of freedom,
 * whose 99.9th percentile is 49.7. An off-by-one in Fisher-Yates leaves orders out altogether. */
static void all_orders_are_equally_likely(void **state)
{
    (void)state;
    enum { ROUNDS = 24000, ORDERS = 24 };
    size_t seen[256] = {0};
    double chi_square = 0.0;
    int different = 0;
    for (long epoch = 0; epoch < ROUNDS; epoch++) {
        uint32_t order[4];
        dpr_batch_order(1, epoch, 4, order);
        seen[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]]++;
    }
    for (int i = 0; i < 256; i++) {
        const double expected = (double)ROUNDS / ORDERS;
        different += seen[i] > 0;
        chi_square += seen[i] > 0
                          ? ((double)seen[i] - expected) * ((double)seen[i] - expected) / expected
                          : 0.0;
    }
    assert_int_equal(different, ORDERS);
    assert_true(chi_square < 49.7);
}

/* ---- Steps ---- */

static void training_counts_whole_batches(void **state)
{
    (void)state;
    long steps;
    assert_ok(dpr_batch_train_steps(24, 4, 3, &steps));
    assert_int_equal(steps, 2);
    assert_ok(dpr_batch_train_steps(35, 4, 3, &steps));
    assert_int_equal(steps, 2);
    assert_ok(dpr_batch_train_steps(36, 4, 3, &steps));
    assert_int_equal(steps, 3);
    assert_ok(dpr_batch_train_steps(12, 4, 3, &steps));
    assert_int_equal(steps, 1);
}

static void too_few_samples_say_what_would_do(void **state)
{
    (void)state;
    long steps;
    assert_fails(
        dpr_batch_train_steps(11, 4, 3, &steps), DPR_ERR_INVALID,
        "one step takes 12 samples (4 micro-batches of 3), but the train split has 11; give "
        "--micro-batch-size 2 or less");
    assert_fails(dpr_batch_train_steps(3, 4, 3, &steps), DPR_ERR_INVALID, "lower --micro-batches");
}

static void evaluation_counts_the_partial_batch(void **state)
{
    (void)state;
    assert_int_equal(dpr_batch_eval_steps(1, 4, 3), 1);
    assert_int_equal(dpr_batch_eval_steps(12, 4, 3), 1);
    assert_int_equal(dpr_batch_eval_steps(13, 4, 3), 2);
    assert_int_equal(dpr_batch_eval_steps(24, 4, 3), 2);
}

/* ---- Gathering ---- */

enum { COUNT = 10, FEATURES = 3 };

/* Sample i has bytes 10 i, 10 i + 1, 10 i + 2 and label i. */
typedef struct bytes_set {
    uint8_t bytes[COUNT * FEATURES];
    int32_t labels[COUNT];
    dpr_dataset_t dataset;
} bytes_set_t;

static void make_set(bytes_set_t *set)
{
    for (int i = 0; i < COUNT; i++) {
        set->labels[i] = i;
        for (int f = 0; f < FEATURES; f++) {
            set->bytes[i * FEATURES + f] = (uint8_t)(10 * i + f);
        }
    }
    set->dataset = (dpr_dataset_t){.count = COUNT,
                                   .features = FEATURES,
                                   .classes = COUNT,
                                   .bytes = set->bytes,
                                   .labels = set->labels,
                                   .mean = 0.25f,
                                   .std = 0.5f};
}

static void bytes_are_gathered_in_order_and_normalised(void **state)
{
    (void)state;
    bytes_set_t set;
    uint32_t order[COUNT];
    float inputs[4][FEATURES];
    int32_t labels[4];
    make_set(&set);
    dpr_batch_order(3, 0, COUNT, order);
    dpr_batch_gather(&set.dataset, order, 5, 4, inputs[0], labels);
    for (int r = 0; r < 4; r++) {
        const int sample = (int)order[5 + r];
        assert_int_equal(labels[r], sample);
        for (int f = 0; f < FEATURES; f++) {
            const float value = (float)(10 * sample + f) / 255.0f;
            assert_float_equal(inputs[r][f], (value - 0.25f) / 0.5f, 1e-6f);
        }
    }
}

static void floats_are_gathered_as_stored(void **state)
{
    (void)state;
    float floats[] = {1.5f, -2.0f, 3.25f, 0.125f};
    int32_t stored[] = {1, 0};
    const dpr_dataset_t dataset = {.count = 2,
                                   .features = 2,
                                   .classes = 2,
                                   .floats = floats,
                                   .labels = stored,
                                   .mean = 0.0f,
                                   .std = 1.0f};
    float inputs[4];
    int32_t labels[2];
    dpr_batch_gather(&dataset, NULL, 0, 2, inputs, labels);
    assert_memory_equal(inputs, floats, sizeof floats);
    assert_memory_equal(labels, stored, sizeof stored);
}

/* Two epochs of three whole steps, cut into micro-batches: every sample that an epoch has room for
 * comes once. */
static void an_epoch_hits_every_sample_exactly_once(void **state)
{
    (void)state;
    enum { M = 3, ROWS = 1, G = M * ROWS };
    bytes_set_t set;
    uint32_t order[COUNT];
    long steps;
    make_set(&set);
    assert_ok(dpr_batch_train_steps(COUNT, M, ROWS, &steps));
    assert_int_equal(steps, 3);
    for (long epoch = 0; epoch < 2; epoch++) {
        int hits[COUNT] = {0};
        dpr_batch_order(11, epoch, COUNT, order);
        for (size_t position = 0; position < (size_t)steps * G; position += ROWS) {
            int32_t label;
            dpr_batch_gather(&set.dataset, order, position, ROWS, NULL, &label);
            hits[label]++;
        }
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(hits[order[i]], i < 9);
        }
    }
}

static void rows_beyond_the_end_are_padded(void **state)
{
    (void)state;
    bytes_set_t set;
    float inputs[4][FEATURES];
    int32_t labels[4] = {0};
    make_set(&set);
    memset(inputs, 0x7f, sizeof inputs);
    dpr_batch_gather(&set.dataset, NULL, COUNT - 1, 4, inputs[0], labels);
    assert_int_equal(labels[0], COUNT - 1);
    assert_true(inputs[0][0] != 0.0f);
    for (int r = 1; r < 4; r++) {
        assert_int_equal(labels[r], DPR_LABEL_NONE);
        for (int f = 0; f < FEATURES; f++) {
            assert_true(inputs[r][f] == 0.0f);
        }
    }
}

static void only_what_is_asked_for_is_written(void **state)
{
    (void)state;
    bytes_set_t set;
    float inputs[2 * FEATURES];
    int32_t labels[2];
    make_set(&set);
    dpr_batch_gather(&set.dataset, NULL, 4, 2, NULL, labels);
    assert_int_equal(labels[1], 5);
    dpr_batch_gather(&set.dataset, NULL, 4, 2, inputs, NULL);
    assert_float_equal(inputs[0], (40.0f / 255.0f - 0.25f) / 0.5f, 1e-6f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_is_a_permutation),
        cmocka_unit_test(the_order_follows_from_seed_and_epoch_alone),
        cmocka_unit_test(all_orders_are_equally_likely),
        cmocka_unit_test(training_counts_whole_batches),
        cmocka_unit_test(too_few_samples_say_what_would_do),
        cmocka_unit_test(evaluation_counts_the_partial_batch),
        cmocka_unit_test(bytes_are_gathered_in_order_and_normalised),
        cmocka_unit_test(floats_are_gathered_as_stored),
        cmocka_unit_test(an_epoch_hits_every_sample_exactly_once),
        cmocka_unit_test(rows_beyond_the_end_are_padded),
        cmocka_unit_test(only_what_is_asked_for_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
