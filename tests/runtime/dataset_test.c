/*
 * Data sets: folders of IDX files and how they can disagree, the synthetic task, and, as a run of
 * its own
 * (--fashion-mnist, which a machine without the data skips), the installed Fashion-MNIST.
 */
#include "data_testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/dataset.h"

enum { SKIPPED = 77, HEIGHT = 2, WIDTH = 3, FEATURES = HEIGHT * WIDTH, MAX_FILE = 1024 };

/* ---- Folders ---- */

static void put_images(const char *folder, const char *split, uint32_t count, uint32_t width,
                       uint8_t scale)
{
    uint8_t data[MAX_FILE];
    uint8_t file[MAX_FILE + 16];
    char name[64];
    const size_t bytes = (size_t)count * HEIGHT * width;
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)((i % 6) * scale);
    }
    snprintf(name, sizeof name, "%s-images-idx3-ubyte.gz", split);
    const uint32_t extents[] = {count, HEIGHT, width, 0};
    write_gzip(folder, name, file, build_idx(file, extents, data, bytes));
}

/* Labels 0, 1, .. classes - 1, 0, .. */
static void put_labels(const char *folder, const char *split, uint32_t count, uint32_t classes)
{
    uint8_t data[MAX_FILE];
    uint8_t file[MAX_FILE + 16];
    char name[64];
    for (uint32_t i = 0; i < count; i++) {
        data[i] = (uint8_t)(i % classes);
    }
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", split);
    const uint32_t extents[] = {count, 0};
    write_file(folder, name, file, build_idx(file, extents, data, count));
}

/* 12 samples of 4 classes to train on, 5 to test. */
static void put_good_folder(const char *folder)
{
    put_images(folder, "train", 12, WIDTH, 51);
    put_labels(folder, "train", 12, 4);
    put_images(folder, "t10k", 5, WIDTH, 40);
    put_labels(folder, "t10k", 5, 4);
}

static void a_folder_gives_both_splits(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    assert_ok(dpr_dataset_open(*state, &train, &test));
    assert_string_equal(train.name, "folder");
    assert_int_equal(train.count, 12);
    assert_int_equal(test.count, 5);
    assert_int_equal(train.features, FEATURES);
    assert_int_equal(test.features, FEATURES);
    assert_int_equal(train.classes, 4);
    assert_int_equal(test.classes, 4);
    assert_null(train.floats);
    assert_int_equal(train.bytes[FEATURES + 2], 102);
    assert_int_equal(test.bytes[2], 80);
    assert_int_equal(train.labels[5], 1);
    dpr_dataset_free(&train);
    dpr_dataset_free(&test);
}

/* Values 0, 0.2 .. 1 in equal parts: mean 0.5, variance 0.7 / 6. */
static void both_splits_are_normalised_by_the_train_split(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    assert_ok(dpr_dataset_open(*state, &train, &test));
    assert_float_equal(train.mean, 0.5f, 1e-6f);
    assert_float_equal(train.std, sqrtf(0.7f / 6.0f), 1e-6f);
    assert_true(test.mean == train.mean);
    assert_true(test.std == train.std);
    dpr_dataset_free(&train);
    dpr_dataset_free(&test);
}

static void a_missing_file_is_named(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    unlink(path_in(*state, "t10k-labels-idx1-ubyte"));
    assert_fails(dpr_dataset_open(*state, &train, &test), DPR_ERR_IO,
                 "holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz");
}

static void a_missing_folder_says_what_would_do(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    assert_fails(dpr_dataset_open(path_in(*state, "none"), &train, &test), DPR_ERR_IO,
                 "give fashion-mnist, synthetic, or a folder");
}

static void images_and_labels_must_agree_in_number(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    put_labels(*state, "train", 11, 4);
    assert_fails(dpr_dataset_open(*state, &train, &test), DPR_ERR_DATA,
                 "12 train images but 11 labels");
}

static void the_splits_must_agree_in_size(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    put_images(*state, "t10k", 5, WIDTH + 1, 1);
    assert_fails(dpr_dataset_open(*state, &train, &test), DPR_ERR_DATA,
                 "train images have 6 pixels but test images 8");
}

static void a_test_label_beyond_the_train_classes_is_found(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    put_labels(*state, "t10k", 5, 5);
    assert_fails(dpr_dataset_open(*state, &train, &test), DPR_ERR_DATA,
                 "test sample 4 has label 4, but the train split's labels are 0 to 3");
}

static void pixels_that_are_all_the_same_are_refused(void **state)
{
    dpr_dataset_t train;
    dpr_dataset_t test;
    put_good_folder(*state);
    put_images(*state, "train", 12, WIDTH, 0);
    assert_fails(dpr_dataset_open(*state, &train, &test), DPR_ERR_DATA, "all pixels");
}

/* ---- Synthetic ---- */

static void a_synthetic_spec_sets_what_it_names(void **state)
{
    (void)state;
    dpr_synthetic_t synthetic;
    assert_ok(dpr_synthetic_parse("synthetic", &synthetic));
    assert_int_equal(synthetic.train, 20000);
    assert_int_equal(synthetic.test, 2000);
    assert_int_equal(synthetic.features, 784);
    assert_int_equal(synthetic.classes, 10);
    assert_ok(dpr_synthetic_parse("synthetic:seed=18446744073709551615,classes=3", &synthetic));
    assert_true(synthetic.seed == UINT64_MAX);
    assert_int_equal(synthetic.classes, 3);
    assert_int_equal(synthetic.train, 20000);
}

static void a_bad_synthetic_spec_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        const char *text;
    } cases[] = {
        {"synthetic:", "'' is unknown"},
        {"synthetic:samples=3", "'samples=3' is unknown"},
        {"synthetic:train", "'train' is unknown"},
        {"synthetic:train=1,", "'' is unknown"},
        {"synthetic:train=0", "'train=0' is not a whole number from 1"},
        {"synthetic:train=-1", "'train=-1' is not"},
        {"synthetic:train=", "'train=' is not"},
        {"synthetic:train=3x,test=1", "'train=3x' is not"},
        {"synthetic:classes=1", "'classes=1' is not a whole number from 2"},
        {"synthetic:seed=18446744073709551616", "is not"},
        {"synthetic:test=4,train=1,test=4", "'test=4' is given twice"},
    };
    dpr_synthetic_t synthetic;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(dpr_synthetic_parse(cases[i].spec, &synthetic), DPR_ERR_INVALID,
                     cases[i].text);
    }
}

static void synthetic_samples_are_standard_normal(void **state)
{
    (void)state;
    dpr_dataset_t train;
    dpr_dataset_t test;
    assert_ok(dpr_dataset_open("synthetic:train=2000,test=1,features=50", &train, &test));
    const size_t total = train.count * 50;
    double sums[4] = {0};
    for (size_t i = 0; i < total; i++) {
        const double x = (double)train.floats[i];
        sums[0] += x;
        sums[1] += x * x;
        sums[2] += x * x * x * x;
        sums[3] += i > 0 ? x * (double)train.floats[i - 1] : 0.0;
    }
    assert_true(fabs(sums[0] / (double)total - 0.0) < 0.02);
    assert_true(fabs(sums[1] / (double)total - 1.0) < 0.02);
    assert_true(fabs(sums[2] / (double)total - 3.0) < 0.15);
    assert_true(fabs(sums[3] / (double)total - 0.0) < 0.02); /* neighbours do not correlate */
    assert_true(train.mean == 0.0f && train.std == 1.0f);
    dpr_dataset_free(&train);
    dpr_dataset_free(&test);
}

static void the_same_seed_gives_the_same_data_and_another_seed_others(void **state)
{
    (void)state;
    static const char *const specs[] = {"synthetic:train=50,test=9,features=7,classes=3",
                                        "synthetic:train=60,test=9,features=7,classes=3",
                                        "synthetic:train=50,test=9,features=7,classes=3,seed=2"};
    dpr_dataset_t train[3];
    dpr_dataset_t test[3];
    for (int i = 0; i < 3; i++) {
        assert_ok(dpr_dataset_open(specs[i], &train[i], &test[i]));
    }
    assert_memory_equal(train[0].floats, train[1].floats, 50 * 7 * sizeof(float));
    assert_memory_equal(train[0].labels, train[1].labels, 50 * sizeof(int32_t));
    assert_memory_equal(test[0].floats, test[1].floats, 9 * 7 * sizeof(float));
    assert_memory_not_equal(train[0].floats, train[2].floats, 50 * 7 * sizeof(float));
    assert_memory_not_equal(train[0].floats, test[0].floats, 9 * 7 * sizeof(float));
    for (int i = 0; i < 3; i++) {
        dpr_dataset_free(&train[i]);
        dpr_dataset_free(&test[i]);
    }
}

enum { STUDENT_FEATURES = 12, STUDENT_CLASSES = 4 };
typedef float student_t[STUDENT_CLASSES][STUDENT_FEATURES];

/* How many of the split's samples a linear student gets right; where rate > 0 it learns (a step of
 * softmax regression a sample). */
static size_t play_student(student_t w, const dpr_dataset_t *split, float rate)
{
    size_t correct = 0;
    for (size_t i = 0; i < split->count; i++) {
        const float *x = split->floats + i * STUDENT_FEATURES;
        float p[STUDENT_CLASSES];
        float sum = 0.0f;
        int best = 0;
        for (int c = 0; c < STUDENT_CLASSES; c++) {
            float logit = 0.0f;
            for (int f = 0; f < STUDENT_FEATURES; f++) {
                logit += w[c][f] * x[f];
            }
            p[c] = expf(logit);
            sum += p[c];
            best = p[c] > p[best] ? c : best;
        }
        correct += best == split->labels[i];
        for (int c = 0; c < STUDENT_CLASSES; c++) {
            const float error = p[c] / sum - (c == split->labels[i] ? 1.0f : 0.0f);
            for (int f = 0; f < STUDENT_FEATURES; f++) {
                w[c][f] -= rate * error * x[f];
            }
        }
    }
    return correct;
}

/* What is learnt on the train split holds on the test split: they have the same teacher. */
static void the_synthetic_task_can_be_learnt(void **state)
{
    (void)state;
    dpr_dataset_t train;
    dpr_dataset_t test;
    student_t student = {{0}};
    assert_ok(
        dpr_dataset_open("synthetic:train=4000,test=1000,features=12,classes=4", &train, &test));
    play_student(student, &train, 0.02f);
    assert_true(play_student(student, &test, 0.0f) > 750);
    dpr_dataset_free(&train);
    dpr_dataset_free(&test);
}

/* ---- Fashion-MNIST ---- */

static void fashion_mnist_opens(void **state)
{
    (void)state;
    dpr_dataset_t train;
    dpr_dataset_t test;
    size_t of_class[10] = {0};
    assert_ok(dpr_dataset_open("fashion-mnist", &train, &test));
    assert_string_equal(train.name, "fashion-mnist");
    assert_string_equal(test.name, "fashion-mnist");
    assert_int_equal(train.count, 60000);
    assert_int_equal(test.count, 10000);
    assert_int_equal(train.features, 784);
    assert_int_equal(train.classes, 10);
    for (size_t i = 0; i < train.count; i++) {
        of_class[train.labels[i]]++;
    }
    for (int c = 0; c < 10; c++) {
        assert_int_equal(of_class[c], 6000);
    }
    assert_float_equal(train.mean, 0.2860f, 1e-4f); /* the figures everyone uses */
    assert_float_equal(train.std, 0.3530f, 1e-4f);
    dpr_dataset_free(&train);
    dpr_dataset_free(&test);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_gives_both_splits),
        cmocka_unit_test(both_splits_are_normalised_by_the_train_split),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_missing_folder_says_what_would_do),
        cmocka_unit_test(images_and_labels_must_agree_in_number),
        cmocka_unit_test(the_splits_must_agree_in_size),
        cmocka_unit_test(a_test_label_beyond_the_train_classes_is_found),
        cmocka_unit_test(pixels_that_are_all_the_same_are_refused),
        cmocka_unit_test(a_synthetic_spec_sets_what_it_names),
        cmocka_unit_test(a_bad_synthetic_spec_is_refused),
        cmocka_unit_test(synthetic_samples_are_standard_normal),
        cmocka_unit_test(the_same_seed_gives_the_same_data_and_another_seed_others),
        cmocka_unit_test(the_synthetic_task_can_be_learnt),
    };
    const struct CMUnitTest fashion_mnist[] = {cmocka_unit_test(fashion_mnist_opens)};
    if (argc > 1 && strcmp(argv[1], "--fashion-mnist") == 0) {
        if (access("/usr/share/datasets/fashion-mnist", F_OK) != 0) {
            puts("skipped: dataset-fashion-mnist is not installed");
            return SKIPPED;
        }
        return cmocka_run_group_tests(fashion_mnist, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
