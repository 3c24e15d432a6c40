/* The kernels' arithmetic, naively and in double. */
#include "reference.h"

#include <math.h>

static const double gelu_root = 0.79788456080286535588; /* sqrt(2 / pi) */
static const double gelu_cubic = 0.044715;
static const double epsilon = 1e-5;

double reference_gelu(double a)
{
    return 0.5 * a * (1.0 + tanh(gelu_root * (a + gelu_cubic * a * a * a)));
}

double reference_gelu_slope(double a)
{
    const double t = tanh(gelu_root * (a + gelu_cubic * a * a * a));
    const double inner = gelu_root * (1.0 + 3.0 * gelu_cubic * a * a);
    return 0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * inner;
}

void reference_layernorm(size_t rows, size_t columns, const double *x, const double *gamma,
                         const double *beta, double *y, double *mean, double *rstd)
{
    for (size_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (size_t c = 0; c < columns; c++) {
            sum += x[r * columns + c];
        }
        mean[r] = sum / (double)columns;
        double squares = 0.0;
        for (size_t c = 0; c < columns; c++) {
            const double centred = x[r * columns + c] - mean[r];
            squares += centred * centred;
        }
        rstd[r] = 1.0 / sqrt(squares / (double)columns + epsilon);
        for (size_t c = 0; c < columns; c++) {
            y[r * columns + c] = (x[r * columns + c] - mean[r]) * rstd[r] * gamma[c] + beta[c];
        }
    }
}

static void layernorm_backward_row(size_t columns, const double *dy, const double *x,
                                   const double *gamma, double *dx, double *dgamma, double *dbeta)
{
    double mean = 0.0;
    for (size_t c = 0; c < columns; c++) {
        mean += x[c] / (double)columns;
    }
    double variance = 0.0;
    for (size_t c = 0; c < columns; c++) {
        variance += (x[c] - mean) * (x[c] - mean) / (double)columns;
    }
    const double rstd = 1.0 / sqrt(variance + epsilon);
    double mean_g = 0.0;
    double mean_gn = 0.0;
    for (size_t c = 0; c < columns; c++) {
        const double n = (x[c] - mean) * rstd;
        mean_g += dy[c] * gamma[c] / (double)columns;
        mean_gn += dy[c] * gamma[c] * n / (double)columns;
        dgamma[c] += dy[c] * n;
        dbeta[c] += dy[c];
    }
    for (size_t c = 0; c < columns; c++) {
        dx[c] = rstd * (dy[c] * gamma[c] - mean_g - (x[c] - mean) * rstd * mean_gn);
    }
}

void reference_layernorm_backward(size_t rows, size_t columns, const double *dy, const double *x,
                                  const double *gamma, double *dx, double *dgamma, double *dbeta)
{
    for (size_t r = 0; r < rows; r++) {
        layernorm_backward_row(columns, dy + r * columns, x + r * columns, gamma, dx + r * columns,
                               dgamma, dbeta);
    }
}

void reference_linear(size_t rows, size_t in, size_t out, const double *x, const double *w,
                      const double *b, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < out; o++) {
            double sum = b[o];
            for (size_t i = 0; i < in; i++) {
                sum += x[r * in + i] * w[i * out + o];
            }
            y[r * out + o] = sum;
        }
    }
}

void reference_linear_backward(size_t rows, size_t in, size_t out, const double *dy,
                               const double *x, const double *w, double *dx, double *dw, double *db)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < in; i++) {
            dx[r * in + i] = 0.0;
            for (size_t o = 0; o < out; o++) {
                dx[r * in + i] += dy[r * out + o] * w[i * out + o];
                dw[i * out + o] += x[r * in + i] * dy[r * out + o];
            }
        }
        for (size_t o = 0; o < out; o++) {
            db[o] += dy[r * out + o];
        }
    }
}

/* NaN where one of the values is. */
static double row_maximum(size_t n, const double *x, size_t *first)
{
    *first = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            *first = n;
            return NAN;
        }
        if (x[i] > x[*first]) {
            *first = i;
        }
    }
    return x[*first];
}

void reference_softmax_cross_entropy(size_t rows, size_t classes, const double *logits,
                                     const int32_t *labels, double scale, double *dlogits,
                                     double *result)
{
    result[0] = 0.0;
    result[1] = 0.0;
    for (size_t r = 0; r < rows; r++) {
        const double *x = logits + r * classes;
        const int32_t label = labels[r];
        size_t best;
        const double largest = row_maximum(classes, x, &best);
        double sum = 0.0;
        for (size_t c = 0; c < classes; c++) {
            sum += exp(x[c] - largest);
        }
        for (size_t c = 0; dlogits != NULL && c < classes; c++) {
            const double hot = (int32_t)c == label ? 1.0 : 0.0;
            dlogits[r * classes + c] = label < 0 ? 0.0 : scale * (exp(x[c] - largest) / sum - hot);
        }
        if (label >= 0) {
            result[0] += scale * (log(sum) - (x[label] - largest));
            result[1] += best == (size_t)label ? 1.0 : 0.0;
        }
    }
}

static double central(reference_fn_t f, void *argument, double *x, double h)
{
    const double at = *x;
    *x = at + h;
    const double above = f(argument);
    *x = at - h;
    const double below = f(argument);
    *x = at;
    return (above - below) / (2.0 * h);
}

double reference_derivative(reference_fn_t f, void *argument, double *x)
{
    const double h = 1e-3;
    return (4.0 * central(f, argument, x, h / 2.0) - central(f, argument, x, h)) / 3.0;
}
