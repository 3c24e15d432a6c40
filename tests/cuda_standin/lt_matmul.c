/*
 * cublasLtMatmul: D = epilogue(alpha op(A) op(B) + beta C), column-major, naively.
 *
 * Sums are in float, in the order of k; of a split product, each half's, put together as its
 * reduction says.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "internal.h"
#include "lt_internal.h"
#include "lt_standin.h"

static atomic_int latest_multiprocessors;

typedef struct matrix {
    void *data;
    int64_t leading;
    bool bf16;
    bool transposed;
} matrix_t;

/* What its operation is given. */
typedef struct product {
    int64_t m;
    int64_t n;
    int64_t k;
    matrix_t a;
    matrix_t b;
    matrix_t c;
    matrix_t d;
    void *bias;
    void *aux;
    float *workspace;
    int32_t aux_leading;
    float alpha;
    float beta;
    uint16_t epilogue;
    uint8_t reduction;
    bool tf32;
} product_t;

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* To the nearest number with the lowest `drop` bits clear, ties to even. NaN and infinity stay. */
static uint32_t rounded(float value, int drop)
{
    const uint32_t bits = to_bits(value);
    if (isnan(value) || isinf(value)) {
        return bits;
    }
    const uint32_t odd = bits >> drop & 1U;
    return (bits + (1U << (drop - 1)) - 1U + odd) & ~((1U << drop) - 1U);
}

static float get(const void *data, bool bf16, int64_t at)
{
    return bf16 ? from_bits((uint32_t)((const uint16_t *)data)[at] << 16)
                : ((const float *)data)[at];
}

static void put(void *data, bool bf16, int64_t at, float value)
{
    if (!bf16) {
        ((float *)data)[at] = value;
    } else if (isnan(value)) {
        ((uint16_t *)data)[at] = 0x7fff;
    } else {
        ((uint16_t *)data)[at] = (uint16_t)(rounded(value, 16) >> 16);
    }
}

static int64_t place(const matrix_t *matrix, int64_t row, int64_t column)
{
    return matrix->transposed ? row * matrix->leading + column : column * matrix->leading + row;
}

static float operand(const product_t *p, const matrix_t *matrix, int64_t row, int64_t column)
{
    const float value = get(matrix->data, matrix->bf16, place(matrix, row, column));
    return p->tf32 ? from_bits(rounded(value, 13)) : value;
}

static float dot(const product_t *p, int64_t i, int64_t j, int64_t first, int64_t end)
{
    float sum = 0.0F;
    for (int64_t l = first; l < end; l++) {
        sum += operand(p, &p->a, i, l) * operand(p, &p->b, l, j);
    }
    return sum;
}

/* A split product leaves its halves' sums in the workspace. */
static float whole_dot(const product_t *p, int64_t i, int64_t j)
{
    if (p->reduction == CUBLASLT_REDUCTION_SCHEME_NONE) {
        return dot(p, i, j, 0, p->k);
    }
    float *halves = p->workspace + 2 * (j * p->m + i);
    halves[0] = dot(p, i, j, 0, p->k / 2);
    halves[1] = dot(p, i, j, p->k / 2, p->k);
    if (p->reduction != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE && p->d.bf16) {
        halves[0] = from_bits(rounded(halves[0], 16));
        halves[1] = from_bits(rounded(halves[1], 16));
    }
    return halves[0] + halves[1];
}

static const double root = 0.79788456080286535588; /* sqrt(2 / pi) */

/* The tanh form, as cuBLASLt's is. */
static float gelu(float a)
{
    const double x = (double)a;
    return (float)(0.5 * x * (1.0 + tanh(root * (x + 0.044715 * x * x * x))));
}

static float gelu_slope(float a)
{
    const double x = (double)a;
    const double t = tanh(root * (x + 0.044715 * x * x * x));
    return (float)(0.5 * (1.0 + t) +
                   0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * x * x));
}

static float epilogue(const product_t *p, int64_t i, int64_t j, float value)
{
    const int64_t at = j * p->aux_leading + i;
    switch (p->epilogue) {
    case CUBLASLT_EPILOGUE_BIAS:
        return value + get(p->bias, p->d.bf16, i);
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        value += get(p->bias, p->d.bf16, i);
        put(p->aux, p->d.bf16, at, value);
        return gelu(value);
    case CUBLASLT_EPILOGUE_DGELU:
        return value * gelu_slope(get(p->aux, p->d.bf16, at));
    default:
        return value;
    }
}

/* BGRADA: the sums over k of A, in D's type. */
static void sum_rows_of_a(const product_t *p)
{
    for (int64_t i = 0; i < p->m; i++) {
        float sum = 0.0F;
        for (int64_t l = 0; l < p->k; l++) {
            sum += get(p->a.data, p->a.bf16, place(&p->a, i, l));
        }
        put(p->bias, p->d.bf16, i, sum);
    }
}

static void run(void *argument)
{
    const product_t *p = argument;
    for (int64_t j = 0; j < p->n; j++) {
        for (int64_t i = 0; i < p->m; i++) {
            float value = p->alpha * whole_dot(p, i, j);
            if (p->beta != 0.0F) {
                value += p->beta * get(p->c.data, p->c.bf16, place(&p->c, i, j));
            }
            put(p->d.data, p->d.bf16, place(&p->d, i, j), epilogue(p, i, j, value));
        }
    }
    if (p->epilogue == CUBLASLT_EPILOGUE_BGRADA) {
        sum_rows_of_a(p);
    }
    if (p->reduction != CUBLASLT_REDUCTION_SCHEME_NONE) {
        memset(p->workspace, 0xFF, (size_t)(2 * p->m * p->n) * sizeof(float));
    }
}

static size_t matrix_bytes(const lt_layout_t *layout)
{
    return ((size_t)layout->leading * (layout->columns - 1) + layout->rows) *
           lt_type_bytes(layout->type);
}

/* Whether a matrix is memory of this device, as aligned as the algorithm needs. */
static bool matrix_is_good(const void *data, const lt_layout_t *layout,
                           const lt_algorithm_t *algorithm, const char *what)
{
    if ((uintptr_t)data % algorithm->align != 0) {
        standin_misuse("cublasLtMatmul: %s at %p, but the algorithm needs %u bytes' alignment",
                       what, data, algorithm->align);
        return false;
    }
    return standin_check_device_range(-1, data, matrix_bytes(layout), what);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

static bool memory_is_good(const lt_problem_t *problem, const lt_algorithm_t *algorithm,
                           const product_t *p, size_t workspace_bytes)
{
    const size_t element = lt_type_bytes(problem->d->type);
    const size_t d_bytes = matrix_bytes(problem->d);
    const uint32_t epilogue_kind = problem->operation->epilogue;
    bool good = matrix_is_good(p->a.data, problem->a, algorithm, "cublasLtMatmul's A") &&
                matrix_is_good(p->b.data, problem->b, algorithm, "cublasLtMatmul's B") &&
                matrix_is_good(p->d.data, problem->d, algorithm, "cublasLtMatmul's D");
    if (p->beta != 0.0F) {
        good = good && matrix_is_good(p->c.data, problem->c, algorithm, "cublasLtMatmul's C");
    }
    if (lt_has_bias(epilogue_kind)) {
        good = good && standin_check_device_range(-1, p->bias, problem->m * element,
                                                  "cublasLtMatmul's bias");
    }
    if (lt_has_aux(epilogue_kind)) {
        const size_t aux = ((size_t)p->aux_leading * (problem->n - 1) + problem->m) * element;
        good = good && standin_check_device_range(-1, p->aux, aux, "cublasLtMatmul's aux");
        if (good && overlap(p->aux, aux, p->d.data, d_bytes)) {
            standin_misuse("cublasLtMatmul: aux and D overlap");
            good = false;
        }
    }
    if (good && (overlap(p->d.data, d_bytes, p->a.data, matrix_bytes(problem->a)) ||
                 overlap(p->d.data, d_bytes, p->b.data, matrix_bytes(problem->b)))) {
        standin_misuse("cublasLtMatmul: D overlaps A or B");
        good = false;
    }
    return good && standin_check_device_range(-1, p->workspace, workspace_bytes,
                                              "cublasLtMatmul's workspace");
}

static bool algorithm_is_good(const lt_problem_t *problem, const lt_algorithm_t *algorithm,
                              size_t workspace_bytes)
{
    const int device = device_current();
    if (algorithm == NULL || algorithm->magic != LT_ALGORITHM ||
        algorithm->problem != problem->hash || algorithm->device != device) {
        standin_misuse("cublasLtMatmul: the algorithm was not found for this product here");
        return false;
    }
    if (algorithm->workspace_bytes > workspace_bytes) {
        standin_misuse("cublasLtMatmul: a workspace of %zu bytes, the algorithm needs %u",
                       workspace_bytes, algorithm->workspace_bytes);
        return false;
    }
    return true;
}

static matrix_t matrix_of(const void *data, const lt_layout_t *layout, int32_t transpose)
{
    return (matrix_t){.data = (void *)(uintptr_t)data,
                      .leading = layout->leading,
                      .bf16 = layout->type == CUDA_R_16BF,
                      .transposed = transpose == CUBLAS_OP_T};
}

int standin_lt_multiprocessors(void)
{
    return atomic_load(&latest_multiprocessors);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    static const char function[] = "cublasLtMatmul";
    LT_ENTER(function);
    lt_problem_t problem;
    if (!lt_handle_is_good(handle, function)) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    const cublasStatus_t status =
        lt_problem_make(&problem, function, operation, a_layout, b_layout, c_layout, d_layout);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    const lt_operation_t *o = problem.operation;
    const lt_algorithm_t *algorithm = (const lt_algorithm_t *)(const void *)algo;
    if (!algorithm_is_good(&problem, algorithm, workspace_bytes)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const product_t product = {.m = (int64_t)problem.m,
                               .n = (int64_t)problem.n,
                               .k = (int64_t)problem.k,
                               .a = matrix_of(a, problem.a, o->transpose_a),
                               .b = matrix_of(b, problem.b, o->transpose_b),
                               .c = matrix_of(c, problem.c, CUBLAS_OP_N),
                               .d = matrix_of(d, problem.d, CUBLAS_OP_N),
                               .bias = o->bias,
                               .aux = o->aux,
                               .workspace = workspace,
                               .aux_leading = (int32_t)o->aux_leading,
                               .alpha = *(const float *)alpha,
                               .beta = *(const float *)beta,
                               .epilogue = (uint16_t)o->epilogue,
                               .reduction = algorithm->reduction,
                               .tf32 = o->compute == CUBLAS_COMPUTE_32F_FAST_TF32};
    if (!memory_is_good(&problem, algorithm, &product, workspace_bytes)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    lt_counted(o->epilogue != CUBLASLT_EPILOGUE_DEFAULT, (int)o->multiprocessors);
    atomic_store(&latest_multiprocessors, (int)o->multiprocessors);
    return standin_enqueue(stream, function, run, &product, sizeof(product)) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
