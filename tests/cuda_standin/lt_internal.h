/* What is behind cuBLASLt's opaque structs in the stand-in, and what its files share. */
#ifndef DPR_TESTS_CUDA_STANDIN_LT_INTERNAL_H
#define DPR_TESTS_CUDA_STANDIN_LT_INTERNAL_H

#include <stdint.h>

#include "lt_standin.h"
#include "standin.h"

/* At the beginning of each: a struct that nobody initialised has none of them. */
enum {
    LT_OPERATION = 0x4f504552,
    LT_LAYOUT = 0x4c41594f,
    LT_PREFERENCE = 0x50524546,
    LT_ALGORITHM = 0x414c474f,
};

typedef struct lt_operation {
    uint32_t magic;
    int32_t compute;
    int32_t scale;
    int32_t transpose_a;
    int32_t transpose_b;
    uint32_t epilogue;
    int64_t aux_leading;
    int32_t multiprocessors; /* 0: all */
    int32_t unused;          /* no padding: it is hashed */
    void *bias;
    void *aux;
} lt_operation_t;

typedef struct lt_layout {
    uint32_t magic;
    int32_t type;
    uint64_t rows;
    uint64_t columns;
    int64_t leading;
} lt_layout_t;

typedef struct lt_preference {
    uint32_t magic;
    uint32_t reduction_mask;
    uint64_t workspace_bytes;
    uint32_t align[4]; /* of A, B, C, D */
} lt_preference_t;

typedef struct lt_algorithm {
    uint32_t magic;
    int32_t device;
    uint64_t problem; /* a hash of all that it was found for */
    uint32_t workspace_bytes;
    uint8_t reduction; /* cublasLtReductionScheme_t */
    uint8_t split;
    uint16_t align; /* of every matrix, at least */
} lt_algorithm_t;

/* What a product is, once its descriptors are known to fit together. */
typedef struct lt_problem {
    const lt_operation_t *operation;
    const lt_layout_t *a;
    const lt_layout_t *b;
    const lt_layout_t *c;
    const lt_layout_t *d;
    uint64_t m;
    uint64_t n;
    uint64_t k;
    uint64_t hash;
} lt_problem_t;

/* Whether the handle is one, of the current device. */
bool lt_handle_is_good(cublasLtHandle_t handle, const char *function);

/* Fills `problem`. CUBLAS_STATUS_INVALID_VALUE, and a misuse, where the descriptors break a rule;
 * CUBLAS_STATUS_NOT_SUPPORTED where their types have no product. */
cublasStatus_t lt_problem_make(lt_problem_t *problem, const char *function,
                               cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                               cublasLtMatrixLayout_t d);

bool lt_has_bias(uint32_t epilogue);
bool lt_has_aux(uint32_t epilogue);
size_t lt_type_bytes(int32_t type);
bool lt_allows(bool with_epilogue);
void lt_counted(bool with_epilogue, int multiprocessors);

/* An injected failure, or CUBLAS_STATUS_SUCCESS. */
cublasStatus_t lt_enter(const char *function);

#define LT_ENTER(function)                                                                         \
    do {                                                                                           \
        const cublasStatus_t entry_ = lt_enter(function);                                          \
        if (entry_ != CUBLAS_STATUS_SUCCESS) {                                                     \
            return entry_;                                                                         \
        }                                                                                          \
    } while (0)

#endif
