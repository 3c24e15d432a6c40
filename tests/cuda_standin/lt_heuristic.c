/* cuBLASLt's choice of algorithms. */
#include <string.h>

#include "internal.h"
#include "lt_internal.h"

enum { SPLIT_FROM = 16, VECTOR_BYTES = 16 };

_Static_assert(sizeof(lt_algorithm_t) <= sizeof(cublasLtMatmulAlgo_t), "does not fit");

/* Whether columns and, as the preference says, matrices begin at multiples of 16 bytes. */
static bool is_aligned(const lt_problem_t *p, const lt_preference_t *preference)
{
    const lt_layout_t *const layouts[] = {p->a, p->b, p->c, p->d};
    for (int i = 0; i < 4; i++) {
        if ((size_t)layouts[i]->leading * lt_type_bytes(layouts[i]->type) % VECTOR_BYTES != 0 ||
            preference->align[i] < VECTOR_BYTES) {
            return false;
        }
    }
    return !lt_has_bias(p->operation->epilogue) ||
           (uintptr_t)p->operation->bias % VECTOR_BYTES == 0;
}

/* The reduction of a split product that comes first among those allowed. */
static uint32_t reduction_of(const lt_problem_t *p, const lt_preference_t *preference)
{
    const uint64_t needed = 2 * p->m * p->n * sizeof(float);
    if (p->k < SPLIT_FROM || p->operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT ||
        needed > preference->workspace_bytes) {
        return CUBLASLT_REDUCTION_SCHEME_NONE;
    }
    static const uint32_t preferred[] = {CUBLASLT_REDUCTION_SCHEME_INPLACE,
                                         CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE,
                                         CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE};
    for (int i = 0; i < 3; i++) {
        if ((preference->reduction_mask & preferred[i]) != 0) {
            return preferred[i];
        }
    }
    return CUBLASLT_REDUCTION_SCHEME_NONE;
}

static lt_algorithm_t choose(const lt_problem_t *p, const lt_preference_t *preference, int device)
{
    const uint32_t reduction = reduction_of(p, preference);
    const bool fused = p->operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    const size_t partial = 2 * p->m * p->n * sizeof(float);
    return (lt_algorithm_t){.magic = LT_ALGORITHM,
                            .device = device,
                            .problem = p->hash,
                            .workspace_bytes =
                                reduction == CUBLASLT_REDUCTION_SCHEME_NONE ? 0 : (uint32_t)partial,
                            .reduction = (uint8_t)reduction,
                            .split = reduction == CUBLASLT_REDUCTION_SCHEME_NONE ? 1 : 2,
                            .align = (uint16_t)(fused ? VECTOR_BYTES : lt_type_bytes(p->a->type))};
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t opaque, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *returned)
{
    static const char function[] = "cublasLtMatmulAlgoGetHeuristic";
    LT_ENTER(function);
    const lt_preference_t *preference = (const lt_preference_t *)(const void *)opaque;
    if (!lt_handle_is_good(handle, function)) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (requested <= 0 || preference->magic != LT_PREFERENCE) {
        standin_misuse("%s: no results asked for, or no preference", function);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    lt_problem_t problem;
    const cublasStatus_t status = lt_problem_make(&problem, function, operation, a, b, c, d);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    memset(results, 0xFF, (size_t)requested * sizeof(*results));
    *returned = 0;
    const bool fused = problem.operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    if (!lt_allows(fused)) {
        return CUBLAS_STATUS_NOT_SUPPORTED; /* one way to say it */
    }
    if (fused && !is_aligned(&problem, preference)) {
        return CUBLAS_STATUS_SUCCESS; /* none was found: the other way */
    }
    const int device = device_current();
    const lt_algorithm_t algorithm = choose(&problem, preference, device);
    if (requested > 1) {
        results[(*returned)++].state =
            CUBLAS_STATUS_NOT_SUPPORTED; /* its state must be looked at */
    }
    cublasLtMatmulHeuristicResult_t *result = &results[(*returned)++];
    memcpy(&result->algo, &algorithm, sizeof(algorithm));
    result->workspaceSize = algorithm.workspace_bytes;
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1.0F;
    return CUBLAS_STATUS_SUCCESS;
}
