/*
 * Products by cuBLASLt.
 *
 * The library's matrices are column-major: a row-major matrix, read so, is its transpose. So what
 * is computed is d^T = b^T a^T, with the operands in the library's order:
 *
 *     row-major              the library's
 *     b [k][n]               A, n x k, leading dimension n           (transposed: k x n, k)
 *     a [m][k]               B, k x m, leading dimension k           (transposed: m x k, m)
 *     c, d, aux [m][n]       C, D, aux, n x m, leading dimension n
 *     bias [n]               a vector of D's rows, as its bias must be
 *     column sums of b       sums of A over k: its epilogue BGRADA
 *
 * Rules of the library (cublasLt.h, cuBLAS documentation, cublasLtMatmulDescAttributes_t): the
 * leading dimension of aux is a multiple of 8; a bias has D's type, a bias gradient, too; pointers
 * of bias and aux are set before the heuristic is asked, because their alignment counts.
 *
 * Multiprocessors: transfers hold some while products run, and a product that is cut for all of
 * them would wait for a second wave. CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET tells the heuristic how
 * many are left; its default of 0 is the device's number (cublasLt.h).
 *
 * Same bits: the heuristic is deterministic, and so is every algorithm but for the order in which a
 * split product is reduced. Only the separate reduction in the compute type is allowed: it has a
 * fixed order, and no partial sum is rounded to the output's type.
 */
#include "kernels/cuda/cuda_product.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

/* As many plans as many models' shapes need; when a set is full, its plans are replaced in turn. */
enum { SETS = 32, WAYS = 4, MOST_ALIGNMENT = 256, CANDIDATES = 8, TEXT_BYTES = 160 };

/* What a plan depends on. Compared byte by byte, hence no padding. */
typedef struct plan_key {
    int32_t m;
    int32_t n;
    int32_t k;
    int32_t multiprocessors; /* of the products: 0: all */
    uint8_t transpose_a;
    uint8_t transpose_b;
    uint8_t float_output;
    uint8_t accumulate;
    uint8_t fusion;
    uint8_t align_a; /* as powers of two */
    uint8_t align_b;
    uint8_t align_c;
    uint8_t align_d;
    uint8_t align_bias;
    uint8_t align_aux;
    uint8_t used;
} plan_key_t;

_Static_assert(sizeof(plan_key_t) == 28, "plan keys must have no padding");

typedef struct plan {
    plan_key_t key;
    bool available; /* the library has an algorithm */
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a;
    cublasLtMatrixLayoutOpaque_t b;
    cublasLtMatrixLayoutOpaque_t d;
    cublasLtMatmulAlgo_t algorithm;
} plan_t;

typedef struct plan_set {
    plan_t way[WAYS];
    unsigned next; /* to be replaced */
} plan_set_t;

typedef struct dpr_cuda_plans {
    plan_set_t set[SETS];
} dpr_cuda_plans_t;

static const char *const fusion_names[] = {[DPR_CUDA_PLAIN] = "no epilogue",
                                           [DPR_CUDA_BIAS] = "bias",
                                           [DPR_CUDA_GELU_AUX_BIAS] = "GELU and bias",
                                           [DPR_CUDA_DGELU] = "GELU gradient",
                                           [DPR_CUDA_BIAS_GRADIENT] = "bias gradient"};

static const cublasLtEpilogue_t epilogues[] = {[DPR_CUDA_PLAIN] = CUBLASLT_EPILOGUE_DEFAULT,
                                               [DPR_CUDA_BIAS] = CUBLASLT_EPILOGUE_BIAS,
                                               [DPR_CUDA_GELU_AUX_BIAS] =
                                                   CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                                               [DPR_CUDA_DGELU] = CUBLASLT_EPILOGUE_DGELU,
                                               [DPR_CUDA_BIAS_GRADIENT] = CUBLASLT_EPILOGUE_BGRADA};

static dpr_status_t fail(const dpr_cuda_products_t *products, const dpr_cuda_product_t *product,
                         cublasStatus_t status, const char *call)
{
    return dpr_fail(DPR_ERR_DEVICE,
                    "cuda kernels: %s for a %s product [%d][%d] = [%d][%d] [%d][%d] with %s "
                    "failed: %s (%s)",
                    call, dpr_dtype_name(products->dtype), product->m, product->n, product->m,
                    product->k, product->k, product->n, fusion_names[product->fusion],
                    cublasLtGetStatusName(status), cublasLtGetStatusString(status));
}

dpr_status_t dpr_cuda_products_open(dpr_cuda_products_t *products, dpr_dtype_t dtype,
                                    size_t workspace_bytes)
{
    *products = (dpr_cuda_products_t){.dtype = dtype, .workspace_bytes = workspace_bytes};
    const cublasStatus_t status = cublasLtCreate(&products->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        products->handle = NULL;
        return dpr_fail(DPR_ERR_DEVICE, "cuda kernels: cublasLtCreate failed: %s (%s)",
                        cublasLtGetStatusName(status), cublasLtGetStatusString(status));
    }
    return DPR_OK;
}

void dpr_cuda_products_close(dpr_cuda_products_t *products)
{
    if (products->handle == NULL) {
        return;
    }
    const cublasStatus_t status = cublasLtDestroy(products->handle);
    products->handle = NULL;
    if (status != CUBLAS_STATUS_SUCCESS) {
        dpr_log(DPR_LOG_WARNING, "cuda kernels: cublasLtDestroy failed: %s (%s)",
                cublasLtGetStatusName(status), cublasLtGetStatusString(status));
    }
}

dpr_status_t dpr_cuda_plans_create(struct dpr_cuda_plans **plans)
{
    return dpr_calloc(1, sizeof **plans, plans);
}

/* The power of two that the address is a multiple of, up to what any algorithm asks for. */
static uint8_t alignment_of(const void *pointer)
{
    uint8_t power = 0;
    while ((1U << power) < MOST_ALIGNMENT && (uintptr_t)pointer % (2U << power) == 0) {
        power++;
    }
    return power;
}

static plan_key_t key_of(const dpr_cuda_products_t *products, const dpr_cuda_product_t *p)
{
    return (plan_key_t){.m = p->m,
                        .n = p->n,
                        .k = p->k,
                        .multiprocessors = products->multiprocessors,
                        .transpose_a = p->transpose_a,
                        .transpose_b = p->transpose_b,
                        .float_output = p->float_output,
                        .accumulate = p->c != NULL,
                        .fusion = (uint8_t)p->fusion,
                        .align_a = alignment_of(p->a),
                        .align_b = alignment_of(p->b),
                        .align_c = alignment_of(p->c),
                        .align_d = alignment_of(p->d),
                        .align_bias = alignment_of(p->bias),
                        .align_aux = alignment_of(p->aux),
                        .used = 1};
}

/* FNV-1a (Fowler, Noll and Vo). */
static uint32_t hash_of(const plan_key_t *key)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < sizeof *key; i++) {
        hash = (hash ^ ((const unsigned char *)key)[i]) * 16777619U;
    }
    return hash;
}

/* Calls of the library in the making of a plan: each must succeed. */
#define TRY_LT(call)                                                                               \
    do {                                                                                           \
        const cublasStatus_t lt_status_ = (call);                                                  \
        if (lt_status_ != CUBLAS_STATUS_SUCCESS) {                                                 \
            char name_[TEXT_BYTES];                                                                \
            snprintf(name_, sizeof name_, "%.*s", (int)strcspn(#call, "("), #call);                \
            return fail(products, product, lt_status_, name_);                                     \
        }                                                                                          \
    } while (0)

#define SET_OPERATION(plan, attribute, value)                                                      \
    TRY_LT(cublasLtMatmulDescSetAttribute(&(plan)->operation, CUBLASLT_MATMUL_DESC_##attribute,    \
                                          &(value), sizeof(value)))

/* A row-major matrix, transposed by being read column-major. */
#define LAYOUT(layout, type, rows, columns)                                                        \
    TRY_LT(cublasLtMatrixLayoutInit((layout), (type), (uint64_t)(columns), (uint64_t)(rows),       \
                                    (columns)))

static cudaDataType_t element_type(const dpr_cuda_products_t *products)
{
    return products->dtype == DPR_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static dpr_status_t describe(const dpr_cuda_products_t *products, const dpr_cuda_product_t *product,
                             plan_t *plan)
{
    const cudaDataType_t element = element_type(products);
    const cudaDataType_t output = product->float_output ? CUDA_R_32F : element;
    const cublasComputeType_t compute =
        products->dtype == DPR_DTYPE_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const int32_t transpose_a = product->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t transpose_b = product->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = (uint32_t)epilogues[product->fusion];
    const int b_rows = product->transpose_b ? product->n : product->k;
    const int b_columns = product->transpose_b ? product->k : product->n;
    const int a_rows = product->transpose_a ? product->k : product->m;
    const int a_columns = product->transpose_a ? product->m : product->k;
    TRY_LT(cublasLtMatmulDescInit(&plan->operation, compute, CUDA_R_32F));
    SET_OPERATION(plan, TRANSA, transpose_a);
    SET_OPERATION(plan, TRANSB, transpose_b);
    SET_OPERATION(plan, EPILOGUE, epilogue);
    if (products->multiprocessors > 0) {
        SET_OPERATION(plan, SM_COUNT_TARGET, products->multiprocessors);
    }
    if (product->aux != NULL) {
        const int64_t leading = product->n;
        SET_OPERATION(plan, EPILOGUE_AUX_LD, leading);
    }
    LAYOUT(&plan->a, element, b_rows, b_columns);
    LAYOUT(&plan->b, element, a_rows, a_columns);
    LAYOUT(&plan->d, output, product->m, product->n);
    return DPR_OK;
}

/* The addresses of one use: the library reads them while it enqueues. */
static dpr_status_t point(const dpr_cuda_products_t *products, const dpr_cuda_product_t *product,
                          plan_t *plan)
{
    if (product->bias != NULL) {
        SET_OPERATION(plan, BIAS_POINTER, product->bias);
    }
    if (product->aux != NULL) {
        SET_OPERATION(plan, EPILOGUE_AUX_POINTER, product->aux);
    }
    return DPR_OK;
}

#define SET_PREFERENCE(attribute, value)                                                           \
    TRY_LT(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_##attribute,     \
                                                &(value), sizeof(value)))

/* "Not supported" by the manual; what the library says of some fused operations is "invalid value",
 * which the plain product would get again if it were one. */
static bool means_no_algorithm(const dpr_cuda_product_t *product, cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED ||
           (status == CUBLAS_STATUS_INVALID_VALUE && product->fusion != DPR_CUDA_PLAIN);
}

/* Asks for an algorithm. That there is none is no error. */
static dpr_status_t choose(const dpr_cuda_products_t *products, const dpr_cuda_product_t *product,
                           plan_t *plan)
{
    const uint64_t workspace = products->workspace_bytes;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t align_a = 1U << plan->key.align_b;
    const uint32_t align_b = 1U << plan->key.align_a;
    const uint32_t align_c = 1U << (product->c != NULL ? plan->key.align_c : plan->key.align_d);
    const uint32_t align_d = 1U << plan->key.align_d;
    cublasLtMatmulPreferenceOpaque_t preference;
    TRY_LT(cublasLtMatmulPreferenceInit(&preference));
    SET_PREFERENCE(MAX_WORKSPACE_BYTES, workspace);
    SET_PREFERENCE(REDUCTION_SCHEME_MASK, reduction);
    SET_PREFERENCE(MIN_ALIGNMENT_A_BYTES, align_a);
    SET_PREFERENCE(MIN_ALIGNMENT_B_BYTES, align_b);
    SET_PREFERENCE(MIN_ALIGNMENT_C_BYTES, align_c);
    SET_PREFERENCE(MIN_ALIGNMENT_D_BYTES, align_d);
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(products->handle, &plan->operation, &plan->a, &plan->b,
                                       &plan->d, &plan->d, &preference, CANDIDATES, found, &count);
    if (status != CUBLAS_STATUS_SUCCESS && !means_no_algorithm(product, status)) {
        return fail(products, product, status, "cublasLtMatmulAlgoGetHeuristic");
    }
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count && !plan->available; i++) {
        plan->available = found[i].state == CUBLAS_STATUS_SUCCESS &&
                          found[i].workspaceSize <= products->workspace_bytes;
        plan->algorithm = found[i].algo;
    }
    return DPR_OK;
}

/*
 * What the library requires of an epilogue's operands whatever the algorithm. The heuristic cannot
 * be told how a bias is aligned, and algorithms read it 16 bytes at a time.
 */
static bool epilogue_is_allowed(const dpr_cuda_product_t *product)
{
    return (uintptr_t)product->bias % 16 == 0 &&
           (product->aux == NULL || (product->n % 8 == 0 && (uintptr_t)product->aux % 16 == 0));
}

static dpr_status_t find_plan(const dpr_cuda_products_t *products,
                              const dpr_cuda_product_t *product, dpr_cuda_plans_t *plans,
                              plan_t **found)
{
    const plan_key_t key = key_of(products, product);
    plan_set_t *set = &plans->set[hash_of(&key) % SETS];
    for (int i = 0; i < WAYS; i++) {
        if (memcmp(&set->way[i].key, &key, sizeof key) == 0) {
            *found = &set->way[i];
            return DPR_OK;
        }
    }
    plan_t plan = {.key = key};
    DPR_TRY(describe(products, product, &plan));
    DPR_TRY(point(products, product, &plan));
    DPR_TRY(choose(products, product, &plan));
    plan_t *place = &set->way[set->next++ % WAYS];
    *place = plan;
    *found = place;
    return DPR_OK;
}

dpr_status_t dpr_cuda_product_run(const dpr_cuda_products_t *products, const dpr_cuda_site_t *site,
                                  const dpr_cuda_product_t *product, bool *done)
{
    static const float one = 1.0F;
    static const float zero = 0.0F;
    plan_t *plan;
    *done = epilogue_is_allowed(product);
    if (!*done) {
        return DPR_OK;
    }
    DPR_TRY(find_plan(products, product, site->lane->plans, &plan));
    if (!plan->available && product->fusion == DPR_CUDA_PLAIN) {
        return fail(products, product, CUBLAS_STATUS_NOT_SUPPORTED,
                    "cublasLtMatmulAlgoGetHeuristic");
    }
    *done = plan->available;
    if (!plan->available) {
        return DPR_OK;
    }
    DPR_TRY(point(products, product, plan));
    const void *c = product->c != NULL ? product->c : product->d;
    const cublasStatus_t status = cublasLtMatmul(
        products->handle, &plan->operation, &one, product->b, &plan->a, product->a, &plan->b,
        product->c != NULL ? &one : &zero, c, &plan->d, product->d, &plan->d, &plan->algorithm,
        site->lane->workspace, products->workspace_bytes, site->stream);
    if (product->fusion != DPR_CUDA_PLAIN && means_no_algorithm(product, status)) {
        plan->available = false;
        *done = false;
        return DPR_OK;
    }
    return status == CUBLAS_STATUS_SUCCESS ? DPR_OK
                                           : fail(products, product, status, "cublasLtMatmul");
}
