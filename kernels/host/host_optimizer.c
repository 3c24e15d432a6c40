/* Gradient norm and parameter updates on the host. */
#include <assert.h>
#include <math.h>

#include "kernels/host/host_kernels.h"
#include "kernels/host/host_math.h"

typedef struct sum_squares_args {
    size_t count;
    const float *x;
    double *result;
} sum_squares_args_t;

/* Blocks bound how many terms one partial sum gathers, hence its rounding error. */
enum { SUM_BLOCK = 4096 };

static double block_squares(size_t n, const float *restrict x)
{
    double lanes[DPR_LANES] = {0};
    size_t i = 0;
    for (; i + DPR_LANES <= n; i += DPR_LANES) {
        for (size_t l = 0; l < DPR_LANES; l++) {
            lanes[l] += (double)x[i + l] * (double)x[i + l];
        }
    }
    for (size_t l = 0; i + l < n; l++) {
        lanes[l] += (double)x[i + l] * (double)x[i + l];
    }
    return dpr_lanes_fold(lanes);
}

static void sum_squares(const void *arguments)
{
    const sum_squares_args_t *a = arguments;
    double sum = 0.0;
    for (size_t first = 0; first < a->count; first += SUM_BLOCK) {
        const size_t left = a->count - first;
        sum += block_squares(left < SUM_BLOCK ? left : SUM_BLOCK, a->x + first);
    }
    a->result[0] = sum;
}

dpr_status_t dpr_host_sum_squares(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                                  const float *x, double *result)
{
    (void)kernels;
    const sum_squares_args_t args = {.count = count, .x = x, .result = result};
    DPR_HOST_LAUNCH(stream, sum_squares, args);
}

typedef struct clip_factor_args {
    int count;
    float max_norm;
    const double *squares;
    float *factor;
} clip_factor_args_t;

static void clip_factor(const void *arguments)
{
    const clip_factor_args_t *a = arguments;
    double sum = 0.0;
    for (int i = 0; i < a->count; i++) {
        sum += a->squares[i];
    }
    const float factor = (float)((double)a->max_norm / sqrt(sum));
    /* Written so that a norm that is not a number stays one and is seen. */
    a->factor[0] = a->max_norm <= 0.0F || factor >= 1.0F ? 1.0F : factor;
}

dpr_status_t dpr_host_clip_factor(dpr_kernels_t *kernels, dpr_stream_t *stream, int count,
                                  const double *squares, float max_norm, float *factor)
{
    (void)kernels;
    const clip_factor_args_t args = {
        .count = count, .max_norm = max_norm, .squares = squares, .factor = factor};
    DPR_HOST_LAUNCH(stream, clip_factor, args);
}

typedef struct adamw_args {
    size_t count;
    size_t decayed;
    dpr_adamw_t settings;
    const float *factor;
    const float *gradient;
    float *m;
    float *v;
    float *parameter;
} adamw_args_t;

static void adamw_range(const adamw_args_t *a, size_t first, size_t count, float weight_decay)
{
    const dpr_adamw_t s = a->settings;
    const float factor = a->factor[0];
    const float rate1 = 1.0F - s.beta1;
    const float rate2 = 1.0F - s.beta2;
    const float *restrict gradient = a->gradient + first;
    float *restrict m = a->m + first;
    float *restrict v = a->v + first;
    float *restrict parameter = a->parameter + first;
    for (size_t i = 0; i < count; i++) {
        const float g = factor * gradient[i];
        const float mean = s.beta1 * m[i] + rate1 * g;
        const float square = s.beta2 * v[i] + rate2 * g * g;
        const float step = (mean / s.correction1) / (sqrtf(square / s.correction2) + s.epsilon);
        m[i] = mean;
        v[i] = square;
        parameter[i] -= s.learning_rate * (step + weight_decay * parameter[i]);
    }
}

static void adamw(const void *arguments)
{
    const adamw_args_t *a = arguments;
    adamw_range(a, 0, a->decayed, a->settings.weight_decay);
    adamw_range(a, a->decayed, a->count - a->decayed, 0.0F);
}

dpr_status_t dpr_host_adamw(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                            size_t decayed, const dpr_adamw_t *settings, const float *factor,
                            const float *gradient, float *m, float *v, float *parameter,
                            void *working)
{
    (void)kernels;
    assert(working == NULL); /* in fp32 products read the parameters themselves */
    const adamw_args_t args = {.count = count,
                               .decayed = decayed,
                               .settings = *settings,
                               .factor = factor,
                               .gradient = gradient,
                               .m = m,
                               .v = v,
                               .parameter = parameter};
    DPR_HOST_LAUNCH(stream, adamw, args);
}

typedef struct sgd_args {
    size_t count;
    size_t decayed;
    float learning_rate;
    float momentum;
    float weight_decay;
    const float *factor;
    const float *gradient;
    float *v;
    float *parameter;
} sgd_args_t;

static void sgd_range(const sgd_args_t *a, size_t first, size_t count, float weight_decay)
{
    const float factor = a->factor[0];
    const float learning_rate = a->learning_rate;
    const float momentum = a->momentum;
    const float *restrict gradient = a->gradient + first;
    float *restrict v = a->v + first;
    float *restrict parameter = a->parameter + first;
    for (size_t i = 0; i < count; i++) {
        const float velocity = momentum * v[i] + factor * gradient[i] + weight_decay * parameter[i];
        v[i] = velocity;
        parameter[i] -= learning_rate * velocity;
    }
}

static void sgd(const void *arguments)
{
    const sgd_args_t *a = arguments;
    sgd_range(a, 0, a->decayed, a->weight_decay);
    sgd_range(a, a->decayed, a->count - a->decayed, 0.0F);
}

dpr_status_t dpr_host_sgd(dpr_kernels_t *kernels, dpr_stream_t *stream, size_t count,
                          size_t decayed, float learning_rate, float momentum, float weight_decay,
                          const float *factor, const float *gradient, float *v, float *parameter,
                          void *working)
{
    (void)kernels;
    assert(working == NULL);
    const sgd_args_t args = {.count = count,
                             .decayed = decayed,
                             .learning_rate = learning_rate,
                             .momentum = momentum,
                             .weight_decay = weight_decay,
                             .factor = factor,
                             .gradient = gradient,
                             .v = v,
                             .parameter = parameter};
    DPR_HOST_LAUNCH(stream, sgd, args);
}
