/*
 * Data sets: labelled samples in host memory, as a train split to learn from and a test split to
 * judge by.
 *
 * Three sources, named by a spec (the option --data):
 *
 *     fashion-mnist            Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), where the package
 *                              dataset-fashion-mnist installs it
 *     synthetic[:key=value,..] samples from N(0, 1), labelled by a fixed random teacher network
 *     a folder                 with the four IDX files of the MNIST family, plain or .gz:
 *                              {train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte
 *
 * Pixels stay bytes in memory and become floats when a batch is gathered (batch.h).
 */
#ifndef DPR_RUNTIME_DATASET_H
#define DPR_RUNTIME_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/*
 * One split. Samples are [count][features], either bytes or floats; the other is NULL. What the
 * model sees of a value x is (x - mean) / std, with x = byte / 255 for bytes and with the mean and
 * the standard deviation of the train split's values in both splits. Owns its arrays
 * (dpr_dataset_free).
 */
typedef struct dpr_dataset {
    char name[32]; /* "fashion-mnist", "synthetic" or "folder" */
    size_t count;  /* at least 1, below 2^32 */
    int features;
    int classes;
    uint8_t *bytes;
    float *floats;
    int32_t *labels; /* [count], 0 .. classes - 1 */
    float mean;
    float std;
} dpr_dataset_t;

/*
 * Opens both splits of what `spec` names. On success the caller owns both; on failure neither.
 * Errors, logged with the file or the option and what to do: those of dpr_idx_read (DPR_ERR_IO also
 * where there is no such folder or it lacks a file); DPR_ERR_DATA where images and labels differ in
 * number, train and test in size, a test label is none of the train split's classes, or all pixels
 * are the same; those of dpr_synthetic_parse and dpr_dataset_synthesize.
 */
dpr_status_t dpr_dataset_open(const char *spec, dpr_dataset_t *train, dpr_dataset_t *test);

void dpr_dataset_free(dpr_dataset_t *dataset); /* a zeroed one is allowed */

/*
 * The synthetic task. The teacher is argmax(tanh(x A) B) with A [features][hidden] and B
 * [hidden][classes] drawn from N(0, 1 / rows) by `seed`; both splits have the same teacher and
 * different samples. Sample i of a split depends on seed, features and i alone.
 */
typedef struct dpr_synthetic {
    size_t train; /* samples */
    size_t test;
    int features;
    int classes;
    int hidden;
    uint64_t seed;
} dpr_synthetic_t;

#define DPR_SYNTHETIC_DEFAULT                                                                      \
    {                                                                                              \
        .train = 20000, .test = 2000, .features = 784, .classes = 10, .hidden = 16, .seed = 1      \
    }

/*
 * Parses "synthetic" or "synthetic:train=1000,test=100,features=16,classes=4,hidden=8,seed=7": any
 * subset of the keys in any order; what is not named keeps the default. Errors: DPR_ERR_INVALID,
 * logged with the key or the value and what is allowed.
 */
dpr_status_t dpr_synthetic_parse(const char *spec, dpr_synthetic_t *synthetic);

/* Makes both splits. Errors: DPR_ERR_MEMORY. */
dpr_status_t dpr_dataset_synthesize(const dpr_synthetic_t *synthetic, dpr_dataset_t *train,
                                    dpr_dataset_t *test);

#endif
