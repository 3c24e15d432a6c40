/*
 * Layer normalisation on the host. Sums along a row are in double, so that a row's constant part,
 * however large beside its spread, does not leak into the normalised values.
 */
#include <math.h>

#include "kernels/host/host_kernels.h"
#include "kernels/host/host_math.h"

static const double epsilon = 1e-5;

typedef struct forward_args {
    size_t rows;
    size_t columns;
    const float *x;
    const float *gamma;
    const float *beta;
    float *y;
    float *mean;
    float *rstd;
} forward_args_t;

static double centred_squares(size_t n, const float *restrict x, double mean)
{
    double lanes[DPR_LANES] = {0};
    size_t i = 0;
    for (; i + DPR_LANES <= n; i += DPR_LANES) {
        for (size_t l = 0; l < DPR_LANES; l++) {
            const double centred = (double)x[i + l] - mean;
            lanes[l] += centred * centred;
        }
    }
    for (size_t l = 0; i + l < n; l++) {
        const double centred = (double)x[i + l] - mean;
        lanes[l] += centred * centred;
    }
    return dpr_lanes_fold(lanes);
}

static void normalise_row(size_t n, const float *restrict x, float mean, float rstd,
                          const float *restrict gamma, const float *restrict beta,
                          float *restrict y)
{
    for (size_t c = 0; c < n; c++) {
        y[c] = (x[c] - mean) * rstd * gamma[c] + beta[c];
    }
}

static void forward(const void *arguments)
{
    const forward_args_t *a = arguments;
    const size_t n = a->columns;
    for (size_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * n;
        const double mean = dpr_lanes_sum(n, x) / (double)n;
        const double variance = centred_squares(n, x, mean) / (double)n;
        a->mean[r] = (float)mean;
        a->rstd[r] = (float)(1.0 / sqrt(variance + epsilon));
        normalise_row(n, x, a->mean[r], a->rstd[r], a->gamma, a->beta, a->y + r * n);
    }
}

dpr_status_t dpr_host_layernorm_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                        int columns, const void *x, const float *gamma,
                                        const float *beta, void *y, float *mean, float *rstd)
{
    (void)kernels;
    const forward_args_t args = {.rows = (size_t)rows,
                                 .columns = (size_t)columns,
                                 .x = x,
                                 .gamma = gamma,
                                 .beta = beta,
                                 .y = y,
                                 .mean = mean,
                                 .rstd = rstd};
    DPR_HOST_LAUNCH(stream, forward, args);
}

typedef struct backward_input_args {
    size_t rows;
    size_t columns;
    const float *dy;
    const float *x;
    const float *gamma;
    const float *mean;
    const float *rstd;
    const float *residual;
    float *dx;
} backward_input_args_t;

/* With n = (x - mean) rstd and g = dy gamma, the gradient through the normalisation is
 * rstd (g - the row's mean of g - n times the row's mean of g n); these are the two means. */
typedef struct row_means {
    float g;
    float gn;
} row_means_t;

static row_means_t gradient_means(size_t n, const float *restrict dy, const float *restrict x,
                                  const float *restrict gamma, float mean, float rstd)
{
    double g_lanes[DPR_LANES] = {0};
    double gn_lanes[DPR_LANES] = {0};
    size_t i = 0;
    for (; i + DPR_LANES <= n; i += DPR_LANES) {
        for (size_t l = 0; l < DPR_LANES; l++) {
            const float g = dy[i + l] * gamma[i + l];
            g_lanes[l] += (double)g;
            gn_lanes[l] += (double)(g * ((x[i + l] - mean) * rstd));
        }
    }
    for (size_t l = 0; i + l < n; l++) {
        const float g = dy[i + l] * gamma[i + l];
        g_lanes[l] += (double)g;
        gn_lanes[l] += (double)(g * ((x[i + l] - mean) * rstd));
    }
    return (row_means_t){.g = (float)(dpr_lanes_fold(g_lanes) / (double)n),
                         .gn = (float)(dpr_lanes_fold(gn_lanes) / (double)n)};
}

static void backward_input(const void *arguments)
{
    const backward_input_args_t *a = arguments;
    const size_t n = a->columns;
    const float *restrict gamma = a->gamma;
    for (size_t r = 0; r < a->rows; r++) {
        const float *restrict dy = a->dy + r * n;
        const float *restrict x = a->x + r * n;
        const float *residual = a->residual + r * n; /* not restrict: dx may be the same */
        float *dx = a->dx + r * n;
        const float mean = a->mean[r];
        const float rstd = a->rstd[r];
        const row_means_t means = gradient_means(n, dy, x, gamma, mean, rstd);
        for (size_t c = 0; c < n; c++) {
            const float normalised = (x[c] - mean) * rstd;
            dx[c] = residual[c] + rstd * (dy[c] * gamma[c] - means.g - normalised * means.gn);
        }
    }
}

dpr_status_t dpr_host_layernorm_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                               int rows, int columns, const void *dy, const void *x,
                                               const float *gamma, const float *mean,
                                               const float *rstd, const void *residual, void *dx)
{
    (void)kernels;
    const backward_input_args_t args = {.rows = (size_t)rows,
                                        .columns = (size_t)columns,
                                        .dy = dy,
                                        .x = x,
                                        .gamma = gamma,
                                        .mean = mean,
                                        .rstd = rstd,
                                        .residual = residual,
                                        .dx = dx};
    DPR_HOST_LAUNCH(stream, backward_input, args);
}

typedef struct backward_weight_args {
    size_t rows;
    size_t columns;
    const float *dy;
    const float *x;
    const float *mean;
    const float *rstd;
    float *dgamma;
    float *dbeta;
} backward_weight_args_t;

/* Columns c to c + width, rows in order. */
static inline void add_panel(const backward_weight_args_t *a, size_t first, size_t width)
{
    float gamma[DPR_COLUMN_PANEL] = {0};
    float beta[DPR_COLUMN_PANEL] = {0};
    for (size_t r = 0; r < a->rows; r++) {
        const float *restrict dy = a->dy + r * a->columns + first;
        const float *restrict x = a->x + r * a->columns + first;
        const float mean = a->mean[r];
        const float rstd = a->rstd[r];
        for (size_t c = 0; c < width; c++) {
            gamma[c] += dy[c] * ((x[c] - mean) * rstd);
            beta[c] += dy[c];
        }
    }
    for (size_t c = 0; c < width; c++) {
        a->dgamma[first + c] += gamma[c];
        a->dbeta[first + c] += beta[c];
    }
}

static void backward_weight(const void *arguments)
{
    const backward_weight_args_t *a = arguments;
    size_t c = 0;
    for (; c + DPR_COLUMN_PANEL <= a->columns; c += DPR_COLUMN_PANEL) {
        add_panel(a, c, DPR_COLUMN_PANEL);
    }
    add_panel(a, c, a->columns - c);
}

dpr_status_t dpr_host_layernorm_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                                int rows, int columns, const void *dy,
                                                const void *x, const float *mean, const float *rstd,
                                                float *dgamma, float *dbeta)
{
    (void)kernels;
    const backward_weight_args_t args = {.rows = (size_t)rows,
                                         .columns = (size_t)columns,
                                         .dy = dy,
                                         .x = x,
                                         .mean = mean,
                                         .rstd = rstd,
                                         .dgamma = dgamma,
                                         .dbeta = dbeta};
    DPR_HOST_LAUNCH(stream, backward_weight, args);
}
