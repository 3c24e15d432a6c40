/* cuBLASLt's descriptors: operations, layouts, preferences, and whether they fit together. */
#include <string.h>

#include "lt_internal.h"

_Static_assert(sizeof(lt_operation_t) <= sizeof(cublasLtMatmulDescOpaque_t), "does not fit");
_Static_assert(sizeof(lt_layout_t) <= sizeof(cublasLtMatrixLayoutOpaque_t), "does not fit");
_Static_assert(sizeof(lt_preference_t) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "does not fit");

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale)
{
    LT_ENTER("cublasLtMatmulDescInit");
    if (size < sizeof(*operation)) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    memset(operation, 0xFF, size); /* the rest is nobody's business */
    *(lt_operation_t *)(void *)operation = (lt_operation_t){.magic = LT_OPERATION,
                                                            .compute = compute,
                                                            .scale = scale,
                                                            .transpose_a = CUBLAS_OP_N,
                                                            .transpose_b = CUBLAS_OP_N,
                                                            .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t leading)
{
    LT_ENTER("cublasLtMatrixLayoutInit");
    if (size < sizeof(*layout)) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    memset(layout, 0xFF, size);
    *(lt_layout_t *)(void *)layout = (lt_layout_t){
        .magic = LT_LAYOUT, .type = type, .rows = rows, .columns = columns, .leading = leading};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size)
{
    LT_ENTER("cublasLtMatmulPreferenceInit");
    if (size < sizeof(*preference)) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    memset(preference, 0xFF, size);
    *(lt_preference_t *)(void *)preference =
        (lt_preference_t){.magic = LT_PREFERENCE,
                          .reduction_mask = CUBLASLT_REDUCTION_SCHEME_MASK,
                          .align = {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

/* Sets a field of exactly so many bytes. */
static cublasStatus_t set(void *field, size_t field_bytes, const void *value, size_t bytes,
                          const char *function, int attribute)
{
    if (field == NULL || value == NULL || bytes != field_bytes) {
        standin_misuse("%s: attribute %d with %zu bytes, which has %zu here (0: not modelled)",
                       function, attribute, bytes, field == NULL ? 0 : field_bytes);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    static const char function[] = "cublasLtMatmulDescSetAttribute";
    LT_ENTER(function);
    lt_operation_t *operation = (lt_operation_t *)(void *)descriptor;
    if (operation->magic != LT_OPERATION) {
        standin_misuse("%s: the descriptor was not initialised", function);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    switch ((int)attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&operation->transpose_a, 4, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&operation->transpose_b, 4, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&operation->epilogue, 4, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&operation->bias, sizeof(void *), value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return set(&operation->aux, sizeof(void *), value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
        return set(&operation->multiprocessors, 4, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return set(&operation->aux_leading, 8, value, bytes, function, attribute);
    default:
        return set(NULL, 0, value, bytes, function, attribute);
    }
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t descriptor,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    static const char function[] = "cublasLtMatmulPreferenceSetAttribute";
    LT_ENTER(function);
    lt_preference_t *preference = (lt_preference_t *)(void *)descriptor;
    if (preference->magic != LT_PREFERENCE) {
        standin_misuse("%s: the preference was not initialised", function);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    switch ((int)attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&preference->workspace_bytes, 8, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(&preference->reduction_mask, 4, value, bytes, function, attribute);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&preference->align[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], 4,
                   value, bytes, function, attribute);
    default:
        return set(NULL, 0, value, bytes, function, attribute);
    }
}

size_t lt_type_bytes(int32_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

bool lt_has_bias(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_BGRADA;
}

bool lt_has_aux(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || epilogue == CUBLASLT_EPILOGUE_DGELU;
}

/* The rows of the manual's table (cuBLAS documentation, cublasLtMatmul) that are modelled. */
static bool types_are_supported(const lt_problem_t *p)
{
    const bool tf32 = p->operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const bool bf16 = p->a->type == CUDA_R_16BF;
    return (tf32 || p->operation->compute == CUBLAS_COMPUTE_32F) &&
           p->operation->scale == CUDA_R_32F && p->a->type == p->b->type &&
           p->c->type == p->d->type && (p->a->type == CUDA_R_32F || bf16) && !(tf32 && bf16) &&
           (p->d->type == CUDA_R_32F || (p->d->type == CUDA_R_16BF && bf16));
}

static const char *broken_layout(const lt_problem_t *p)
{
    const lt_layout_t *const layouts[] = {p->a, p->b, p->c, p->d};
    for (int i = 0; i < 4; i++) {
        if (layouts[i]->magic != LT_LAYOUT) {
            return "a layout was not initialised";
        }
        if (layouts[i]->rows == 0 || layouts[i]->columns == 0) {
            return "an empty matrix";
        }
        if (layouts[i]->leading < (int64_t)layouts[i]->rows) {
            return "a leading dimension is less than the rows";
        }
    }
    const bool a_turned = p->operation->transpose_a == CUBLAS_OP_T;
    const bool b_turned = p->operation->transpose_b == CUBLAS_OP_T;
    const uint64_t m = a_turned ? p->a->columns : p->a->rows;
    const uint64_t a_k = a_turned ? p->a->rows : p->a->columns;
    const uint64_t b_k = b_turned ? p->b->columns : p->b->rows;
    const uint64_t n = b_turned ? p->b->rows : p->b->columns;
    if (a_k != b_k || p->d->rows != m || p->d->columns != n || p->c->rows != m ||
        p->c->columns != n) {
        return "the shapes do not fit";
    }
    return NULL;
}

static const char *broken_epilogue(const lt_problem_t *p)
{
    const lt_operation_t *o = p->operation;
    if (o->epilogue != CUBLASLT_EPILOGUE_DEFAULT && !lt_has_bias(o->epilogue) &&
        !lt_has_aux(o->epilogue)) {
        return "an epilogue that is not modelled";
    }
    if (lt_has_bias(o->epilogue) && o->bias == NULL) {
        return "the epilogue needs a bias pointer";
    }
    if (!lt_has_aux(o->epilogue)) {
        return NULL;
    }
    if (o->aux == NULL || (uintptr_t)o->aux % 16 != 0) {
        return "the epilogue needs an aux pointer, aligned to 16 bytes";
    }
    if (o->aux_leading % 8 != 0 || o->aux_leading < (int64_t)p->d->rows) {
        return "the leading dimension of aux must be a multiple of 8 and at least D's rows";
    }
    return NULL;
}

/* FNV-1a over all that an algorithm depends on. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t problem_hash(const lt_problem_t *p)
{
    lt_operation_t operation = *p->operation; /* its pointers may change */
    operation.bias = NULL;
    operation.aux = NULL;
    uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), &operation, sizeof(operation));
    hash = hash_bytes(hash, p->a, sizeof(*p->a));
    hash = hash_bytes(hash, p->b, sizeof(*p->b));
    hash = hash_bytes(hash, p->c, sizeof(*p->c));
    return hash_bytes(hash, p->d, sizeof(*p->d));
}

cublasStatus_t lt_problem_make(lt_problem_t *problem, const char *function,
                               cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                               cublasLtMatrixLayout_t d)
{
    *problem = (lt_problem_t){.operation = (const lt_operation_t *)(const void *)operation,
                              .a = (const lt_layout_t *)(const void *)a,
                              .b = (const lt_layout_t *)(const void *)b,
                              .c = (const lt_layout_t *)(const void *)c,
                              .d = (const lt_layout_t *)(const void *)d};
    const char *broken = problem->operation->magic != LT_OPERATION
                             ? "the operation was not initialised"
                             : broken_layout(problem);
    if (broken == NULL) {
        broken = broken_epilogue(problem);
    }
    if (broken != NULL) {
        standin_misuse("%s: %s", function, broken);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!types_are_supported(problem)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    problem->m = problem->d->rows;
    problem->n = problem->d->columns;
    problem->k =
        problem->operation->transpose_a == CUBLAS_OP_T ? problem->a->rows : problem->a->columns;
    problem->hash = problem_hash(problem);
    return CUBLAS_STATUS_SUCCESS;
}
