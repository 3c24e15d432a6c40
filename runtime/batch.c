/* The order of an epoch's samples, and gathering them. */
#include "runtime/batch.h"

#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"

/* Keeps the shuffle's random numbers apart from a seed's other users; epochs count up from it. */
#define STREAM_ORDER (UINT64_C(0x6f72646572) << 24)

/* Uniform in 0 .. bound - 1 without bias: draws that fall into the last, partial run of `bound`
 * values are drawn again. *index counts the draws. */
static uint64_t draw_below(uint64_t seed, uint64_t stream, uint64_t bound, uint64_t *index)
{
    const uint64_t limit = UINT64_MAX - UINT64_MAX % bound; /* a multiple of bound */
    uint64_t bits;
    do {
        bits = dpr_random_bits(seed, stream, (*index)++);
    } while (bits >= limit);
    return bits % bound;
}

void dpr_batch_order(uint64_t seed, long epoch, size_t count, uint32_t *order)
{
    const uint64_t stream = STREAM_ORDER + (uint64_t)epoch;
    uint64_t index = 0;
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = count; i > 1; i--) {
        const size_t j = (size_t)draw_below(seed, stream, i, &index);
        const uint32_t moved = order[i - 1];
        order[i - 1] = order[j];
        order[j] = moved;
    }
}

static size_t global_batch(int micro_batches, int micro_batch_size)
{
    return (size_t)micro_batches * (size_t)micro_batch_size;
}

dpr_status_t dpr_batch_train_steps(size_t count, int micro_batches, int micro_batch_size,
                                   long *steps)
{
    const size_t batch = global_batch(micro_batches, micro_batch_size);
    if (count < batch) {
        if (count < (size_t)micro_batches) {
            return dpr_fail(DPR_ERR_INVALID,
                            "the train split has %zu samples, fewer than the %d micro-batches of "
                            "one step; lower --micro-batches or take a larger data set",
                            count, micro_batches);
        }
        return dpr_fail(DPR_ERR_INVALID,
                        "one step takes %zu samples (%d micro-batches of %d), but the train split "
                        "has %zu; give --micro-batch-size %zu or less",
                        batch, micro_batches, micro_batch_size, count,
                        count / (size_t)micro_batches);
    }
    *steps = (long)(count / batch);
    return DPR_OK;
}

long dpr_batch_eval_steps(size_t count, int micro_batches, int micro_batch_size)
{
    const size_t batch = global_batch(micro_batches, micro_batch_size);
    return (long)((count + batch - 1) / batch);
}

static void gather_input(const dpr_dataset_t *dataset, size_t sample, float *input)
{
    const size_t features = (size_t)dataset->features;
    if (dataset->bytes != NULL) {
        const uint8_t *bytes = dataset->bytes + sample * features;
        const float scale = 1.0f / (255.0f * dataset->std);
        const float shift = -dataset->mean / dataset->std;
        for (size_t f = 0; f < features; f++) {
            input[f] = (float)bytes[f] * scale + shift;
        }
    } else {
        const float *floats = dataset->floats + sample * features;
        const float scale = 1.0f / dataset->std;
        for (size_t f = 0; f < features; f++) {
            input[f] = (floats[f] - dataset->mean) * scale;
        }
    }
}

void dpr_batch_gather(const dpr_dataset_t *dataset, const uint32_t *order, size_t position,
                      int rows, float *inputs, int32_t *labels)
{
    const size_t features = (size_t)dataset->features;
    for (size_t r = 0; r < (size_t)rows; r++) {
        const size_t at = position + r;
        const bool pads = at >= dataset->count;
        const size_t sample = pads ? 0 : order != NULL ? order[at] : at;
        if (inputs != NULL && pads) {
            memset(inputs + r * features, 0, features * sizeof *inputs);
        } else if (inputs != NULL) {
            gather_input(dataset, sample, inputs + r * features);
        }
        if (labels != NULL) {
            labels[r] = pads ? DPR_LABEL_NONE : dataset->labels[sample];
        }
    }
}
