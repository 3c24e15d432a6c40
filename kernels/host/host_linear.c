/*
 * The linear layer on the host: OpenBLAS for the products, loops for what is fused with them. A
 * micro-batch's activations are small beside the weights and still in cache when the loops run.
 */
#include "kernels/host/host_blas.h"
#include "kernels/host/host_kernels.h"
#include "kernels/host/host_math.h"

typedef struct forward_args {
    int rows;
    int in;
    int out;
    dpr_epilogue_t epilogue;
    const float *x;
    const float *w;
    const float *b;
    float *other;
    float *y;
} forward_args_t;

/* to = b in every row, plus `residual` where there is one. */
static void start_rows(size_t rows, size_t columns, const float *restrict b,
                       const float *restrict residual, float *restrict to)
{
    for (size_t r = 0; r < rows; r++, to += columns) {
        if (residual == NULL) {
            memcpy(to, b, columns * sizeof *to);
            continue;
        }
        for (size_t c = 0; c < columns; c++) {
            to[c] = residual[c] + b[c];
        }
        residual += columns;
    }
}

static void apply_gelu(size_t count, const float *restrict pre, float *restrict y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = dpr_gelu(pre[i]);
    }
}

/* The product is added to what the output starts from (bias, residual), which takes the place of
 * OpenBLAS's own setting to zero: measured, it costs what the bare product does. */
static void forward(const void *arguments)
{
    const forward_args_t *a = arguments;
    const size_t rows = (size_t)a->rows;
    const size_t out = (size_t)a->out;
    const bool gelu = a->epilogue == DPR_EPILOGUE_GELU;
    float *product = gelu ? a->other : a->y;
    start_rows(rows, out, a->b, a->epilogue == DPR_EPILOGUE_RESIDUAL ? a->other : NULL, product);
    dpr_host_blas_multiply(
        &(dpr_host_product_t){.m = a->rows, .n = a->out, .k = a->in, .accumulate = true}, a->x,
        a->w, product);
    if (gelu) {
        apply_gelu(rows * out, product, a->y);
    }
}

dpr_status_t dpr_host_linear_forward(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows, int in,
                                     int out, const void *x, const void *w, const void *b,
                                     dpr_epilogue_t epilogue, void *other, void *y)
{
    (void)kernels;
    const forward_args_t args = {.rows = rows,
                                 .in = in,
                                 .out = out,
                                 .epilogue = epilogue,
                                 .x = x,
                                 .w = w,
                                 .b = b,
                                 .other = other,
                                 .y = y};
    DPR_HOST_LAUNCH(stream, forward, args);
}

typedef struct backward_input_args {
    int rows;
    int in;
    int out;
    const float *dy;
    const float *w;
    const float *pre;
    float *dx;
} backward_input_args_t;

static void apply_gelu_slope(size_t count, const float *restrict pre, float *restrict dx)
{
    for (size_t i = 0; i < count; i++) {
        dx[i] *= dpr_gelu_slope(pre[i]);
    }
}

static void backward_input(const void *arguments)
{
    const backward_input_args_t *a = arguments;
    dpr_host_blas_multiply(
        &(dpr_host_product_t){.m = a->rows, .n = a->in, .k = a->out, .transpose_b = true}, a->dy,
        a->w, a->dx);
    if (a->pre != NULL) {
        apply_gelu_slope((size_t)a->rows * (size_t)a->in, a->pre, a->dx);
    }
}

dpr_status_t dpr_host_linear_backward_input(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                            int in, int out, const void *dy, const void *w,
                                            const void *pre, void *dx)
{
    (void)kernels;
    const backward_input_args_t args = {
        .rows = rows, .in = in, .out = out, .dy = dy, .w = w, .pre = pre, .dx = dx};
    DPR_HOST_LAUNCH(stream, backward_input, args);
}

typedef struct backward_weight_args {
    int rows;
    int in;
    int out;
    const float *x;
    const float *dy;
    float *dw;
    float *db;
} backward_weight_args_t;

/* sums[c] += the sum of column c, rows in order, `width` columns of a matrix of `stride` columns.
 */
static inline void add_panel_sums(size_t rows, size_t stride, size_t width,
                                  const float *restrict matrix, float *restrict sums)
{
    float panel[DPR_COLUMN_PANEL] = {0};
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < width; c++) {
            panel[c] += matrix[r * stride + c];
        }
    }
    for (size_t c = 0; c < width; c++) {
        sums[c] += panel[c];
    }
}

static void add_column_sums(size_t rows, size_t columns, const float *matrix, float *sums)
{
    size_t c = 0;
    for (; c + DPR_COLUMN_PANEL <= columns; c += DPR_COLUMN_PANEL) {
        add_panel_sums(rows, columns, DPR_COLUMN_PANEL, matrix + c, sums + c);
    }
    add_panel_sums(rows, columns, columns - c, matrix + c, sums + c);
}

static void backward_weight(const void *arguments)
{
    const backward_weight_args_t *a = arguments;
    dpr_host_blas_multiply(
        &(dpr_host_product_t){
            .m = a->in, .n = a->out, .k = a->rows, .transpose_a = true, .accumulate = true},
        a->x, a->dy, a->dw);
    add_column_sums((size_t)a->rows, (size_t)a->out, a->dy, a->db);
}

dpr_status_t dpr_host_linear_backward_weight(dpr_kernels_t *kernels, dpr_stream_t *stream, int rows,
                                             int in, int out, const void *x, const void *dy,
                                             float *dw, float *db)
{
    (void)kernels;
    const backward_weight_args_t args = {
        .rows = rows, .in = in, .out = out, .x = x, .dy = dy, .dw = dw, .db = db};
    DPR_HOST_LAUNCH(stream, backward_weight, args);
}
