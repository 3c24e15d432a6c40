/* The stand-in for cuBLASLt: its products, and the misuse that it finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lt_standin.h"
#include "standin.h"

enum { M = 16, N = 8, K = 24, FLOATS = 4096, WORKSPACE = 1 << 16 };

/* One product and all that belongs to it; a test breaks a part of it before it runs. */
typedef struct call {
    cublasLtHandle_t handle;
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a_layout, b_layout, d_layout;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t result[4];
    int results;
    float *memory; /* all below are in it */
    float *a, *b, *d, *bias, *aux, *workspace;
    size_t workspace_bytes;
    float beta;
} call_t;

#define MUST(call) assert_int_equal((call), 0)

static void set_epilogue(call_t *c, uint32_t epilogue)
{
    MUST(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                        sizeof(epilogue)));
}

static void set_aux(call_t *c, void *aux, int64_t leading)
{
    MUST(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                                        &aux, sizeof(aux)));
    MUST(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD,
                                        &leading, sizeof(leading)));
}

static void set_bias(call_t *c, void *bias)
{
    MUST(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                        sizeof(bias)));
}

static void describe(call_t *c, cublasComputeType_t compute, cudaDataType type)
{
    const uint64_t workspace = WORKSPACE;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    MUST(cublasLtMatmulDescInit(&c->operation, compute, CUDA_R_32F));
    MUST(cublasLtMatrixLayoutInit(&c->a_layout, type, M, K, M));
    MUST(cublasLtMatrixLayoutInit(&c->b_layout, type, K, N, K));
    MUST(cublasLtMatrixLayoutInit(&c->d_layout, type, M, N, M));
    MUST(cublasLtMatmulPreferenceInit(&c->preference));
    MUST(cublasLtMatmulPreferenceSetAttribute(
        &c->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace)));
    MUST(cublasLtMatmulPreferenceSetAttribute(
        &c->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof(reduction)));
}

static void begin(call_t *c)
{
    standin_reset(&(standin_options_t){.quiet = true, .devices = 2});
    standin_lt_allow(true, true);
    *c = (call_t){.workspace_bytes = WORKSPACE};
    void *memory;
    MUST(cublasLtCreate(&c->handle));
    MUST(cudaMalloc(&memory, FLOATS * sizeof(float) + WORKSPACE));
    MUST(cudaMemset(memory, 0, FLOATS * sizeof(float)));
    MUST(cudaDeviceSynchronize());
    c->memory = memory;
    c->a = c->memory;
    c->b = c->a + M * K;
    c->d = c->b + K * N;
    c->bias = c->d + M * N;
    c->aux = c->bias + M;
    c->workspace = c->memory + FLOATS;
    for (int i = 0; i < M * K + K * N; i++) { /* the stand-in's device memory is the CPU's */
        c->memory[i] = (float)(i % 7) - 3.0F;
    }
    describe(c, CUBLAS_COMPUTE_32F, CUDA_R_32F);
}

static void end(call_t *c)
{
    MUST(cublasLtDestroy(c->handle));
    MUST(cudaFree(c->memory));
    assert_int_equal(standin_misuses(), 0);
    assert_int_equal(standin_leaks(NULL, 0), 0);
}

static cublasStatus_t ask(call_t *c)
{
    return cublasLtMatmulAlgoGetHeuristic(c->handle, &c->operation, &c->a_layout, &c->b_layout,
                                          &c->d_layout, &c->d_layout, &c->preference, 4, c->result,
                                          &c->results);
}

static cublasStatus_t multiply(call_t *c)
{
    static const float one = 1.0F;
    return cublasLtMatmul(c->handle, &c->operation, &one, c->a, &c->a_layout, c->b, &c->b_layout,
                          &c->beta, c->d, &c->d_layout, c->d, &c->d_layout,
                          &c->result[c->results - 1].algo, c->workspace, c->workspace_bytes, NULL);
}

static void must_multiply(call_t *c)
{
    MUST(ask(c));
    assert_true(c->results > 0);
    MUST(multiply(c));
    MUST(cudaDeviceSynchronize());
}

/* Column-major, small whole numbers: exact. */
static float element(const call_t *c, int i, int j)
{
    float sum = 0.0F;
    for (int l = 0; l < K; l++) {
        sum += c->a[l * M + i] * c->b[j * K + l];
    }
    return sum;
}

static void products_are_column_major_and_may_accumulate(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    must_multiply(&c);
    c.beta = 1.0F;
    must_multiply(&c);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            assert_true(c.d[j * M + i] == 2.0F * element(&c, i, j));
        }
    }
    end(&c);
}

static void epilogues_add_the_bias_and_sum_a(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    for (int i = 0; i < M; i++) {
        c.bias[i] = (float)i;
    }
    set_bias(&c, c.bias);
    set_epilogue(&c, CUBLASLT_EPILOGUE_BIAS);
    must_multiply(&c);
    assert_true(c.d[3 * M + 5] == element(&c, 5, 3) + 5.0F);
    set_epilogue(&c, CUBLASLT_EPILOGUE_BGRADA);
    must_multiply(&c);
    float sum = 0.0F;
    for (int l = 0; l < K; l++) {
        sum += c.a[l * M + 5];
    }
    assert_true(c.bias[5] == sum);
    end(&c);
}

/* In tf32 and bf16, 1 + 2^-12 is 1. */
static void inputs_are_rounded_as_the_type_says(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    memset(c.a, 0, M * K * sizeof(float));
    memset(c.b, 0, K * N * sizeof(float));
    c.a[0] = 1.0F + 0x1p-12F;
    c.b[0] = 1.0F;
    must_multiply(&c);
    assert_true(c.d[0] == c.a[0]);
    describe(&c, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F);
    must_multiply(&c);
    assert_true(c.d[0] == 1.0F);
    end(&c);
}

static void a_reduction_in_the_output_type_loses_bits(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    describe(&c, CUBLAS_COMPUTE_32F, CUDA_R_16BF);
    uint16_t *a = (uint16_t *)(void *)c.a;
    uint16_t *b = (uint16_t *)(void *)c.b;
    memset(a, 0, M * K * sizeof(*a));
    memset(b, 0, K * N * sizeof(*b));
    a[0] = 0x3f80; /* 1 + 2^-8 - 1 over the halves: 2^-8 needs more bits than bf16 has */
    b[0] = 0x3f80;
    a[1 * M] = 0x3b80;
    b[1] = 0x3f80;
    a[23 * M] = 0xbf80;
    b[23] = 0x3f80;
    must_multiply(&c);
    assert_int_equal(((uint16_t *)(void *)c.d)[0], 0x3b80);
    const uint32_t all = CUBLASLT_REDUCTION_SCHEME_MASK;
    MUST(cublasLtMatmulPreferenceSetAttribute(
        &c.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &all, sizeof(all)));
    must_multiply(&c);
    assert_int_equal(((uint16_t *)(void *)c.d)[0], 0);
    end(&c);
}

static void expect_misuse(call_t *c, cublasStatus_t status, const char *words)
{
    char text[1024];
    assert_int_not_equal(status, CUBLAS_STATUS_SUCCESS);
    assert_int_equal(standin_misuses(), 1);
    if (strstr(standin_misuse_text(text, sizeof(text)), words) == NULL) {
        fail_msg("'%s' is not in: %s", words, text);
    }
    standin_misuse_clear();
    (void)c;
}

static void descriptors_that_do_not_fit_are_misuse(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    MUST(cublasLtMatrixLayoutInit(&c.a_layout, CUDA_R_32F, M, K, M - 1));
    expect_misuse(&c, ask(&c), "leading dimension");
    MUST(cublasLtMatrixLayoutInit(&c.a_layout, CUDA_R_32F, M, K - 1, M));
    expect_misuse(&c, ask(&c), "shapes");
    MUST(cublasLtMatrixLayoutInit(&c.a_layout, CUDA_R_32F, M, 0, M));
    expect_misuse(&c, ask(&c), "empty");
    memset(&c.a_layout, 0, sizeof(c.a_layout));
    expect_misuse(&c, ask(&c), "layout was not initialised");
    memset(&c.operation, 0, sizeof(c.operation));
    expect_misuse(&c, ask(&c), "operation was not initialised");
    const uint64_t wide = 0;
    describe(&c, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    expect_misuse(&c,
                  cublasLtMatmulDescSetAttribute(&c.operation, CUBLASLT_MATMUL_DESC_TRANSA, &wide,
                                                 sizeof(wide)),
                  "attribute");
    expect_misuse(&c,
                  cublasLtMatmulPreferenceSetAttribute(
                      &c.preference, CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, &wide, sizeof(wide)),
                  "attribute");
    describe(&c, CUBLAS_COMPUTE_16F, CUDA_R_32F); /* no misuse: there just is none */
    assert_int_equal(ask(&c), CUBLAS_STATUS_NOT_SUPPORTED);
    end(&c);
}

static void epilogues_without_what_they_need_are_misuse(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    set_epilogue(&c, CUBLASLT_EPILOGUE_BIAS);
    expect_misuse(&c, ask(&c), "bias pointer");
    set_epilogue(&c, CUBLASLT_EPILOGUE_DGELU);
    expect_misuse(&c, ask(&c), "aux pointer");
    set_aux(&c, c.aux + 1, M);
    expect_misuse(&c, ask(&c), "aligned to 16");
    set_aux(&c, c.aux, M + 4);
    expect_misuse(&c, ask(&c), "multiple of 8");
    set_aux(&c, c.aux, M - 8);
    expect_misuse(&c, ask(&c), "at least D's rows");
    set_epilogue(&c, CUBLASLT_EPILOGUE_RELU);
    expect_misuse(&c, ask(&c), "not modelled");
    end(&c);
}

static void memory_that_does_not_fit_is_misuse(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    MUST(ask(&c));
    const call_t good = c;
    float host[M * K];
    c.a = host;
    expect_misuse(&c, multiply(&c), "cublasLtMatmul's A");
    c = good;
    c.a = c.d;
    expect_misuse(&c, multiply(&c), "overlaps");
    c = good;
    c.d = (float *)(void *)((char *)c.d + 2);
    expect_misuse(&c, multiply(&c), "alignment");
    c = good;
    c.workspace_bytes = 8;
    expect_misuse(&c, multiply(&c), "workspace of 8 bytes");
    c = good;
    c.workspace_bytes = WORKSPACE + 1;
    expect_misuse(&c, multiply(&c), "cublasLtMatmul's workspace");
    c = good;
    const int32_t transposed = CUBLAS_OP_T;
    MUST(cublasLtMatrixLayoutInit(&c.a_layout, CUDA_R_32F, K, M, K));
    MUST(cublasLtMatmulDescSetAttribute(&c.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof(transposed)));
    expect_misuse(&c, multiply(&c), "was not found for this product");
    c = good;
    set_epilogue(&c, CUBLASLT_EPILOGUE_DGELU);
    set_aux(&c, c.d, M);
    MUST(ask(&c));
    expect_misuse(&c, multiply(&c), "aux and D overlap");
    end(&c);
}

static void handles_are_of_their_device_and_end(void **state)
{
    (void)state;
    call_t c;
    begin(&c);
    MUST(ask(&c));
    MUST(cudaSetDevice(1));
    expect_misuse(&c, multiply(&c), "device 1 is current");
    MUST(cudaSetDevice(0));
    cublasLtHandle_t gone = c.handle;
    MUST(cublasLtDestroy(gone));
    expect_misuse(&c, multiply(&c), "destroyed before");
    expect_misuse(&c, cublasLtDestroy(gone), "destroyed before");
    expect_misuse(&c, cublasLtDestroy((cublasLtHandle_t)(void *)&c), "no cublasLt handle");
    expect_misuse(&c, cublasLtCreate(NULL), "nowhere");
    MUST(cublasLtCreate(&c.handle));
    end(&c);
}

static void statuses_have_names(void **state)
{
    (void)state;
    assert_string_equal(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                        "CUBLAS_STATUS_NOT_SUPPORTED");
    assert_string_equal(cublasLtGetStatusString(CUBLAS_STATUS_SUCCESS), "success");
    assert_string_equal(cublasLtGetStatusName((cublasStatus_t)99), "unknown status");
    assert_string_equal(cublasLtGetStatusString((cublasStatus_t)99), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_column_major_and_may_accumulate),
        cmocka_unit_test(epilogues_add_the_bias_and_sum_a),
        cmocka_unit_test(inputs_are_rounded_as_the_type_says),
        cmocka_unit_test(a_reduction_in_the_output_type_loses_bits),
        cmocka_unit_test(descriptors_that_do_not_fit_are_misuse),
        cmocka_unit_test(epilogues_without_what_they_need_are_misuse),
        cmocka_unit_test(memory_that_does_not_fit_is_misuse),
        cmocka_unit_test(handles_are_of_their_device_and_end),
        cmocka_unit_test(statuses_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
