/*
 * The synthetic data set: a random teacher network labels random samples, so that there is
 * something to learn where no data is installed, and a data set of any size for measurements and
 * tests.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "runtime/dataset.h"

/* What each run of random numbers is for; the high bits keep them apart from a seed's other users.
 */
#define STREAM_BASE (UINT64_C(0x73796e7468) << 24)
enum { STREAM_LAYER_A = 1, STREAM_LAYER_B, STREAM_TRAIN, STREAM_TEST };

/* ---- Parsing ---- */

enum { KEY_TRAIN, KEY_TEST, KEY_FEATURES, KEY_CLASSES, KEY_HIDDEN, KEY_SEED, KEYS };

typedef struct key_value {
    uint64_t value;
    bool given;
} key_value_t;

/* Parses one "key=value" of `length` bytes. */
static dpr_status_t parse_pair(const char *pair, size_t length, key_value_t values[KEYS])
{
    static const struct {
        const char *name;
        uint64_t least;
        uint64_t most;
    } keys[KEYS] = {
        [KEY_TRAIN] = {"train=", 1, UINT32_MAX},    [KEY_TEST] = {"test=", 1, UINT32_MAX},
        [KEY_FEATURES] = {"features=", 1, 1 << 20}, [KEY_CLASSES] = {"classes=", 2, 1 << 16},
        [KEY_HIDDEN] = {"hidden=", 1, 1 << 16},     [KEY_SEED] = {"seed=", 0, UINT64_MAX},
    };
    int k = 0;
    while (k < KEYS && strncmp(pair, keys[k].name, strlen(keys[k].name)) != 0) {
        k++;
    }
    if (k == KEYS || values[k].given) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--data synthetic: '%.*s' is %s; expected train=, test=, features=, "
                        "classes=, hidden= and seed=, each at most once, separated by commas",
                        (int)length, pair, k == KEYS ? "unknown" : "given twice");
    }
    const char *digits = pair + strlen(keys[k].name);
    char *end;
    errno = 0;
    const uint64_t value = strtoull(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || end != pair + length || errno != 0 ||
        value < keys[k].least || value > keys[k].most) {
        return dpr_fail(
            DPR_ERR_INVALID, "--data synthetic: '%.*s' is not a whole number from %llu to %llu",
            (int)length, pair, (unsigned long long)keys[k].least, (unsigned long long)keys[k].most);
    }
    values[k] = (key_value_t){.value = value, .given = true};
    return DPR_OK;
}

dpr_status_t dpr_synthetic_parse(const char *spec, dpr_synthetic_t *synthetic)
{
    const dpr_synthetic_t defaults = DPR_SYNTHETIC_DEFAULT;
    key_value_t values[KEYS] = {
        [KEY_TRAIN] = {.value = defaults.train},
        [KEY_TEST] = {.value = defaults.test},
        [KEY_FEATURES] = {.value = (uint64_t)defaults.features},
        [KEY_CLASSES] = {.value = (uint64_t)defaults.classes},
        [KEY_HIDDEN] = {.value = (uint64_t)defaults.hidden},
        [KEY_SEED] = {.value = defaults.seed},
    };
    const char *at = strchr(spec, ':');
    while (at != NULL) {
        const char *pair = at + 1;
        const size_t length = strcspn(pair, ",");
        DPR_TRY(parse_pair(pair, length, values));
        at = pair[length] == ',' ? pair + length : NULL;
    }
    *synthetic = (dpr_synthetic_t){
        .train = values[KEY_TRAIN].value,
        .test = values[KEY_TEST].value,
        .features = (int)values[KEY_FEATURES].value,
        .classes = (int)values[KEY_CLASSES].value,
        .hidden = (int)values[KEY_HIDDEN].value,
        .seed = values[KEY_SEED].value,
    };
    return DPR_OK;
}

/* ---- Making ---- */

/* Two standard normals at once (Box-Muller), in float: a data set is millions of them. */
static void normal_pair(uint64_t seed, uint64_t stream, uint64_t pair, float out[2])
{
    const uint64_t bits = dpr_random_bits(seed, STREAM_BASE | stream, pair);
    const float u = ((float)(uint32_t)(bits >> 40) + 1.0f) * 0x1p-24f; /* (0, 1]: log is finite */
    const float v = (float)(uint32_t)(bits & 0xffffff) * 0x1p-24f;
    const float radius = sqrtf(-2.0f * logf(u));
    const float angle = 6.2831853f * v;
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

/* out[0 .. count - 1] = scale times the normals from `first`, which is even, on. */
static void fill_normal(uint64_t seed, uint64_t stream, uint64_t first, size_t count, float scale,
                        float *out)
{
    for (size_t i = 0; i < count; i += 2) {
        float pair[2];
        normal_pair(seed, stream, (first + i) / 2, pair);
        out[i] = scale * pair[0];
        if (i + 1 < count) {
            out[i + 1] = scale * pair[1];
        }
    }
}

typedef struct teacher {
    float *a;      /* [features][hidden] */
    float *b;      /* [hidden][classes] */
    float *hidden; /* [hidden]: of the sample at hand */
    float *logits; /* [classes] */
} teacher_t;

static void teacher_free(teacher_t *teacher)
{
    free(teacher->a);
    free(teacher->b);
    free(teacher->hidden);
    free(teacher->logits);
}

static dpr_status_t teacher_init(const dpr_synthetic_t *synthetic, teacher_t *teacher)
{
    const size_t features = (size_t)synthetic->features;
    const size_t hidden = (size_t)synthetic->hidden;
    const size_t classes = (size_t)synthetic->classes;
    DPR_TRY(dpr_calloc(features * hidden, sizeof(float), &teacher->a));
    DPR_TRY(dpr_calloc(hidden * classes, sizeof(float), &teacher->b));
    DPR_TRY(dpr_calloc(hidden, sizeof(float), &teacher->hidden));
    DPR_TRY(dpr_calloc(classes, sizeof(float), &teacher->logits));
    fill_normal(synthetic->seed, STREAM_LAYER_A, 0, features * hidden,
                1.0f / sqrtf((float)features), teacher->a);
    fill_normal(synthetic->seed, STREAM_LAYER_B, 0, hidden * classes, 1.0f / sqrtf((float)hidden),
                teacher->b);
    return DPR_OK;
}

/* y = x W, with x [rows] and W [rows][columns]. */
static void multiply(const float *restrict x, const float *restrict w, size_t rows, size_t columns,
                     float *restrict y)
{
    memset(y, 0, columns * sizeof *y);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            y[c] += x[r] * w[r * columns + c];
        }
    }
}

static int32_t teacher_label(const teacher_t *teacher, const dpr_synthetic_t *synthetic,
                             const float *x)
{
    const size_t hidden = (size_t)synthetic->hidden;
    const size_t classes = (size_t)synthetic->classes;
    multiply(x, teacher->a, (size_t)synthetic->features, hidden, teacher->hidden);
    for (size_t h = 0; h < hidden; h++) {
        teacher->hidden[h] = tanhf(teacher->hidden[h]);
    }
    multiply(teacher->hidden, teacher->b, hidden, classes, teacher->logits);
    size_t best = 0;
    for (size_t c = 1; c < classes; c++) {
        best = teacher->logits[c] > teacher->logits[best] ? c : best;
    }
    return (int32_t)best;
}

static dpr_status_t make_split(const dpr_synthetic_t *synthetic, const teacher_t *teacher,
                               uint64_t stream, size_t count, dpr_dataset_t *split)
{
    const size_t features = (size_t)synthetic->features;
    const size_t even_features = features + (features & 1); /* each sample starts a new pair */
    *split = (dpr_dataset_t){.name = "synthetic",
                             .count = count,
                             .features = synthetic->features,
                             .classes = synthetic->classes,
                             .mean = 0.0f,
                             .std = 1.0f};
    DPR_TRY(dpr_calloc(count, features * sizeof(float), &split->floats));
    DPR_TRY(dpr_calloc(count, sizeof(int32_t), &split->labels));
    for (size_t i = 0; i < count; i++) {
        float *x = split->floats + i * features;
        fill_normal(synthetic->seed, stream, i * even_features, features, 1.0f, x);
        split->labels[i] = teacher_label(teacher, synthetic, x);
    }
    return DPR_OK;
}

dpr_status_t dpr_dataset_synthesize(const dpr_synthetic_t *synthetic, dpr_dataset_t *train,
                                    dpr_dataset_t *test)
{
    teacher_t teacher = {0};
    dpr_dataset_t made[2] = {{.count = 0}, {.count = 0}};
    dpr_status_t status;
    DPR_TRY_GOTO(teacher_init(synthetic, &teacher), free_all);
    DPR_TRY_GOTO(make_split(synthetic, &teacher, STREAM_TRAIN, synthetic->train, &made[0]),
                 free_all);
    DPR_TRY_GOTO(make_split(synthetic, &teacher, STREAM_TEST, synthetic->test, &made[1]), free_all);
    *train = made[0];
    *test = made[1];
    made[0] = made[1] = (dpr_dataset_t){0};

free_all:
    teacher_free(&teacher);
    dpr_dataset_free(&made[0]);
    dpr_dataset_free(&made[1]);
    return status;
}
