/* cuBLASLt's handles, status texts, and the stand-in's switches. */
#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"
#include "lt_internal.h"

/* Handles are never given away again, so that a destroyed one is recognised. */
enum { HANDLES = 65536 };

struct cublasLtContext {
    bool alive;
    int device;
};

static struct cublasLtContext handles[HANDLES];
static int handles_made;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static atomic_bool epilogues_allowed = true;
static atomic_bool products_allowed = true;
static atomic_ulong with_epilogues;
static atomic_ulong without_epilogues;
static int least_multiprocessors = -1; /* under the lock */
static int most_multiprocessors = -1;

void standin_lt_allow(bool epilogues, bool products)
{
    epilogues_allowed = epilogues;
    products_allowed = products;
    with_epilogues = 0;
    without_epilogues = 0;
    pthread_mutex_lock(&lock);
    least_multiprocessors = -1;
    most_multiprocessors = -1;
    pthread_mutex_unlock(&lock);
}

void standin_lt_targets(int *least, int *most)
{
    pthread_mutex_lock(&lock);
    *least = least_multiprocessors;
    *most = most_multiprocessors;
    pthread_mutex_unlock(&lock);
}

void standin_lt_count(unsigned long *with_epilogue, unsigned long *without)
{
    *with_epilogue = with_epilogues;
    *without = without_epilogues;
}

bool lt_allows(bool with_epilogue)
{
    return products_allowed && (epilogues_allowed || !with_epilogue);
}

void lt_counted(bool with_epilogue, int multiprocessors)
{
    atomic_fetch_add(with_epilogue ? &with_epilogues : &without_epilogues, 1);
    pthread_mutex_lock(&lock);
    if (least_multiprocessors < 0 || multiprocessors < least_multiprocessors) {
        least_multiprocessors = multiprocessors;
    }
    if (multiprocessors > most_multiprocessors) {
        most_multiprocessors = multiprocessors;
    }
    pthread_mutex_unlock(&lock);
}

cublasStatus_t lt_enter(const char *function)
{
    int error = 0;
    if (!standin_fails(function, &error)) {
        return CUBLAS_STATUS_SUCCESS;
    }
    return error != 0 ? (cublasStatus_t)error : CUBLAS_STATUS_INTERNAL_ERROR;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    LT_ENTER("cublasLtCreate");
    if (handle == NULL) {
        standin_misuse("cublasLtCreate: nowhere to put the handle");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const int device = device_current();
    pthread_mutex_lock(&lock);
    const int number = handles_made < HANDLES ? handles_made++ : -1;
    if (number >= 0) {
        handles[number] = (struct cublasLtContext){.alive = true, .device = device};
        *handle = (cublasLtHandle_t)&handles[number];
    }
    pthread_mutex_unlock(&lock);
    if (number < 0) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    standin_alive("cublasLt handle", 1);
    return CUBLAS_STATUS_SUCCESS;
}

static struct cublasLtContext *find(cublasLtHandle_t handle, const char *function)
{
    struct cublasLtContext *context = (struct cublasLtContext *)handle;
    if (context < handles || context >= handles + handles_made) {
        standin_misuse("%s: %p is no cublasLt handle", function, (const void *)handle);
        return NULL;
    }
    if (!context->alive) {
        standin_misuse("%s: the cublasLt handle was destroyed before", function);
        return NULL;
    }
    return context;
}

bool lt_handle_is_good(cublasLtHandle_t handle, const char *function)
{
    pthread_mutex_lock(&lock);
    const struct cublasLtContext *context = find(handle, function);
    const int device = context != NULL ? context->device : -1;
    pthread_mutex_unlock(&lock);
    if (context != NULL && device != device_current()) {
        standin_misuse("%s: the cublasLt handle is of device %d, and device %d is current",
                       function, device, device_current());
        return false;
    }
    return context != NULL;
}

/* Waits for the device, as the library says it does. A failure is reported after it is done. */
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    const cublasStatus_t injected = lt_enter("cublasLtDestroy");
    pthread_mutex_lock(&lock);
    struct cublasLtContext *context = find(handle, "cublasLtDestroy");
    const bool found = context != NULL;
    if (found) {
        context->alive = false;
    }
    pthread_mutex_unlock(&lock);
    if (!found) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    standin_drain();
    standin_alive("cublasLt handle", -1);
    return injected;
}

#define STATUS_MAP(X)                                                                              \
    X(SUCCESS, "success")                                                                          \
    X(NOT_INITIALIZED, "the library was not initialized")                                          \
    X(ALLOC_FAILED, "the resource allocation failed")                                              \
    X(INVALID_VALUE, "an unsupported value or parameter was passed to the function")               \
    X(ARCH_MISMATCH, "the function requires a feature absent from the device")                     \
    X(MAPPING_ERROR, "an access to GPU memory space failed")                                       \
    X(EXECUTION_FAILED, "the function failed to launch on the GPU")                                \
    X(INTERNAL_ERROR, "an internal operation failed")                                              \
    X(NOT_SUPPORTED, "the functionality requested is not supported")                               \
    X(LICENSE_ERROR, "the functionality requested requires a license")

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch ((int)status) {
#define X(name, text)                                                                              \
    case CUBLAS_STATUS_##name:                                                                     \
        return "CUBLAS_STATUS_" #name;
        STATUS_MAP(X)
#undef X
    default:
        return "unknown status";
    }
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch ((int)status) {
#define X(name, text)                                                                              \
    case CUBLAS_STATUS_##name:                                                                     \
        return text;
        STATUS_MAP(X)
#undef X
    default:
        return "unknown status";
    }
}
