/* Opens data sets: chooses the source, reads the IDX files of a folder, checks that they fit
 * together. */
#include "runtime/dataset.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/idx.h"

#define FASHION_MNIST_FOLDER "/usr/share/datasets/fashion-mnist"

enum {
    IMAGE_DIMENSIONS = 3,
    LABEL_DIMENSIONS = 1,
    BYTE_VALUES = 256,
};

/* ---- A folder's files ---- */

/* The path of `name`, or of `name`.gz, whichever is there. */
static dpr_status_t find_file(const char *folder, const char *name, char path[PATH_MAX])
{
    static const char *const endings[] = {"", ".gz"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const int length = snprintf(path, PATH_MAX, "%s/%s%s", folder, name, endings[i]);
        if (length >= PATH_MAX) {
            return dpr_fail(DPR_ERR_IO, "the folder's path is longer than %d bytes: %s", PATH_MAX,
                            folder);
        }
        if (access(path, F_OK) == 0) {
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_IO,
                    "%s holds neither %s nor %s.gz, so it is no data set; a folder needs "
                    "the four IDX files of the MNIST family",
                    folder, name, name);
}

static dpr_status_t read_file(const char *folder, const char *split, const char *what,
                              int dimensions, dpr_idx_t *idx)
{
    char name[64];
    char path[PATH_MAX];
    snprintf(name, sizeof name, "%s-%s-idx%d-ubyte", split, what, dimensions);
    DPR_TRY(find_file(folder, name, path));
    return dpr_idx_read(path, dimensions, idx);
}

/* Takes the images over from `idx`. */
static dpr_status_t take_images(const char *folder, const char *split, dpr_idx_t *idx,
                                dpr_dataset_t *dataset)
{
    const size_t features = idx->count / idx->extent[0];
    if (features > INT_MAX) {
        return dpr_fail(DPR_ERR_DATA, "%s: the %s images have %zu x %zu pixels, more than %d",
                        folder, split, idx->extent[1], idx->extent[2], INT_MAX);
    }
    dataset->count = idx->extent[0];
    dataset->features = (int)features;
    dataset->bytes = idx->data;
    idx->data = NULL;
    return DPR_OK;
}

static dpr_status_t take_labels(const char *folder, const char *split, const dpr_idx_t *idx,
                                dpr_dataset_t *dataset)
{
    if (idx->count != dataset->count) {
        return dpr_fail(DPR_ERR_DATA, "%s: %zu %s images but %zu labels; fetch the data set anew",
                        folder, dataset->count, split, idx->count);
    }
    DPR_TRY(dpr_calloc(idx->count, sizeof(int32_t), &dataset->labels));
    for (size_t i = 0; i < idx->count; i++) {
        dataset->labels[i] = idx->data[i];
    }
    return DPR_OK;
}

/* Everything of a split but the classes and the normalisation. */
static dpr_status_t read_split(const char *folder, const char *split, dpr_dataset_t *dataset)
{
    dpr_idx_t images = {0};
    dpr_idx_t labels = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(read_file(folder, split, "images", IMAGE_DIMENSIONS, &images), free_files);
    DPR_TRY_GOTO(read_file(folder, split, "labels", LABEL_DIMENSIONS, &labels), free_files);
    DPR_TRY_GOTO(take_images(folder, split, &images, dataset), free_files);
    DPR_TRY_GOTO(take_labels(folder, split, &labels, dataset), free_files);

free_files:
    dpr_idx_free(&images);
    dpr_idx_free(&labels);
    return status;
}

/* ---- What both splits share ---- */

/* The largest label of the train split says how many classes there are. */
static dpr_status_t count_classes(const char *folder, dpr_dataset_t *train, dpr_dataset_t *test)
{
    int32_t largest = 0;
    for (size_t i = 0; i < train->count; i++) {
        largest = train->labels[i] > largest ? train->labels[i] : largest;
    }
    train->classes = test->classes = (int)largest + 1;
    for (size_t i = 0; i < test->count; i++) {
        if (test->labels[i] > largest) {
            return dpr_fail(DPR_ERR_DATA,
                            "%s: test sample %zu has label %d, but the train split's labels are 0 "
                            "to %d",
                            folder, i, (int)test->labels[i], (int)largest);
        }
    }
    return DPR_OK;
}

/* Exact sums over the histogram, so that every machine gets the same normalisation. */
static dpr_status_t measure_pixels(const char *folder, dpr_dataset_t *train, dpr_dataset_t *test)
{
    uint64_t histogram[BYTE_VALUES] = {0};
    const size_t total = train->count * (size_t)train->features;
    double sum = 0.0;
    double sum_squares = 0.0;
    for (size_t i = 0; i < total; i++) {
        histogram[train->bytes[i]]++;
    }
    for (int value = 0; value < BYTE_VALUES; value++) {
        const double x = value / 255.0;
        sum += (double)histogram[value] * x;
        sum_squares += (double)histogram[value] * x * x;
    }
    if (histogram[train->bytes[0]] == total) {
        return dpr_fail(DPR_ERR_DATA, "%s: all pixels of the train split are %d: nothing to learn",
                        folder, train->bytes[0]);
    }
    const double mean = sum / (double)total;
    train->mean = test->mean = (float)mean;
    train->std = test->std = (float)sqrt(sum_squares / (double)total - mean * mean);
    return DPR_OK;
}

static dpr_status_t join_splits(const char *folder, dpr_dataset_t *train, dpr_dataset_t *test)
{
    if (train->features != test->features) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s: train images have %d pixels but test images %d; they are not of one "
                        "data set",
                        folder, train->features, test->features);
    }
    DPR_TRY(count_classes(folder, train, test));
    return measure_pixels(folder, train, test);
}

static dpr_status_t open_folder(const char *folder, dpr_dataset_t *train, dpr_dataset_t *test)
{
    dpr_dataset_t read[2] = {{.name = "folder"}, {.name = "folder"}};
    dpr_status_t status;
    DPR_TRY_GOTO(read_split(folder, "train", &read[0]), free_splits);
    DPR_TRY_GOTO(read_split(folder, "t10k", &read[1]), free_splits);
    DPR_TRY_GOTO(join_splits(folder, &read[0], &read[1]), free_splits);
    *train = read[0];
    *test = read[1];
    return DPR_OK;

free_splits:
    dpr_dataset_free(&read[0]);
    dpr_dataset_free(&read[1]);
    return status;
}

/* ---- Specs ---- */

static dpr_status_t open_fashion_mnist(dpr_dataset_t *train, dpr_dataset_t *test)
{
    static const char name[] = "fashion-mnist";
    if (access(FASHION_MNIST_FOLDER, F_OK) != 0) {
        return dpr_fail(DPR_ERR_IO,
                        "Fashion-MNIST is not installed (no " FASHION_MNIST_FOLDER "): run `apt "
                        "install dataset-fashion-mnist`, or use --data synthetic");
    }
    DPR_TRY(open_folder(FASHION_MNIST_FOLDER, train, test));
    memcpy(train->name, name, sizeof name);
    memcpy(test->name, name, sizeof name);
    return DPR_OK;
}

dpr_status_t dpr_dataset_open(const char *spec, dpr_dataset_t *train, dpr_dataset_t *test)
{
    if (strcmp(spec, "fashion-mnist") == 0) {
        return open_fashion_mnist(train, test);
    }
    if (strcmp(spec, "synthetic") == 0 || strncmp(spec, "synthetic:", 10) == 0) {
        dpr_synthetic_t synthetic;
        DPR_TRY(dpr_synthetic_parse(spec, &synthetic));
        return dpr_dataset_synthesize(&synthetic, train, test);
    }
    if (access(spec, F_OK) != 0) {
        return dpr_fail(DPR_ERR_IO,
                        "--data '%s': cannot find such a folder; give fashion-mnist, synthetic, or "
                        "a folder with the four IDX files of the MNIST family",
                        spec);
    }
    return open_folder(spec, train, test);
}

void dpr_dataset_free(dpr_dataset_t *dataset)
{
    free(dataset->bytes);
    free(dataset->floats);
    free(dataset->labels);
    *dataset = (dpr_dataset_t){0};
}
