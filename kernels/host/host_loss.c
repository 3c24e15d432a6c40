/* Softmax cross-entropy on the host. */
#include <math.h>

#include "kernels/host/host_kernels.h"
#include "kernels/host/host_math.h"

typedef struct loss_args {
    int rows;
    int classes;
    const float *logits;
    const int32_t *labels;
    float scale;
    float *dlogits;
    double *result;
} loss_args_t;

/* The first of the largest values, as argmax is usually defined; n where one is not a number. */
static size_t argmax(size_t n, const float *x)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            return n;
        }
        if (x[i] > x[best]) {
            best = i;
        }
    }
    return best;
}

/* y = e^(x - largest), and the sum of these. e^-87 and less count as 0. y may be x. */
static double exponentials(size_t n, const float *x, float largest, float *y)
{
    for (size_t i = 0; i < n; i++) {
        const float shifted = x[i] - largest;
        const float power = dpr_expf(shifted < -87.0F ? -87.0F : shifted);
        y[i] = shifted < -87.0F ? 0.0F : power;
    }
    return dpr_lanes_sum(n, y);
}

/* Returns the row's loss before scaling. A label that is no class makes loss and gradient NaN. */
static double row_loss(size_t n, const float *logits, size_t label, float largest, float scale,
                       float *dlogits)
{
    const double label_logit = label < n ? (double)logits[label] : (double)NAN;
    const double sum = exponentials(n, logits, largest, dlogits);
    const float factor = label < n ? (float)((double)scale / sum) : NAN;
    for (size_t i = 0; i < n; i++) {
        dlogits[i] *= factor;
    }
    if (label < n) {
        dlogits[label] -= scale;
    }
    return log(sum) - (label_logit - (double)largest);
}

static void loss(const void *arguments)
{
    const loss_args_t *a = arguments;
    const size_t n = (size_t)a->classes;
    double total = 0.0;
    double correct = 0.0;
    for (size_t r = 0; r < (size_t)a->rows; r++) {
        const float *logits = a->logits + r * n;
        float *dlogits = a->dlogits + r * n;
        if (a->labels[r] < 0) {
            memset(dlogits, 0, n * sizeof *dlogits);
            continue;
        }
        const size_t label = (size_t)a->labels[r];
        const size_t best = argmax(n, logits);
        correct += best < n && best == label ? 1.0 : 0.0;
        total += row_loss(n, logits, label, best < n ? logits[best] : NAN, a->scale, dlogits);
    }
    a->result[0] = (double)a->scale * total;
    a->result[1] = correct;
}

dpr_status_t dpr_host_softmax_cross_entropy(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int classes, const void *logits, const int32_t *labels,
                                            float scale, void *dlogits, double *result)
{
    (void)kernels;
    const loss_args_t args = {.rows = rows,
                              .classes = classes,
                              .logits = logits,
                              .labels = labels,
                              .scale = scale,
                              .dlogits = dlogits,
                              .result = result};
    DPR_HOST_LAUNCH(stream, loss, args);
}
