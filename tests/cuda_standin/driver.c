/* The driver's functions that are reached through the runtime: operations on words in memory. */
#include "internal.h"

#include <string.h>

enum { MEMORY_OPERATIONS_SINCE = 8000 };

/* The driver's results have the numbers of the runtime's errors. */
static CUresult as_result(cudaError_t error)
{
    return (CUresult)error;
}

static cudaError_t check_word(uint32_t *address, const char *function)
{
    if (((uintptr_t)address & 3U) != 0) {
        standin_misuse("%s: %p is not aligned to 4 bytes", function, (void *)address);
        return cudaErrorInvalidValue;
    }
    return standin_check_range(-1, address, sizeof(*address), function) ? cudaSuccess
                                                                        : cudaErrorInvalidValue;
}

CUresult cuStreamWaitValue32(CUstream handle, CUdeviceptr at, cuuint32_t value, unsigned flags)
{
    static const char function[] = "cuStreamWaitValue32";
    struct CUstream_st *stream;
    uint32_t *address = (uint32_t *)(uintptr_t)at;
    cudaError_t error = standin_enter(function);
    if (error == cudaSuccess) {
        error = check_word(address, function);
    }
    if (error == cudaSuccess && flags > CU_STREAM_WAIT_VALUE_NOR) {
        standin_misuse("%s: flags 0x%x", function, flags);
        error = cudaErrorInvalidValue;
    }
    if (error != cudaSuccess) {
        return as_result(error);
    }
    standin_lock();
    error = stream_get_for_work(handle, function, &stream);
    if (error == cudaSuccess && !omit_call(function, stream, NULL)) {
        op_t *op = op_create(OP_VALUE_WAIT, function, stream);
        if (op == NULL) {
            error = cudaErrorMemoryAllocation;
        } else {
            op->address = address;
            op->value = value;
            op->value_flags = flags;
            error = op_enqueue(op);
        }
    }
    standin_unlock();
    return as_result(error);
}

typedef struct word_write {
    uint32_t *address;
    uint32_t value;
} word_write_t;

static void run_write(void *argument)
{
    const word_write_t *write = argument;
    if (standin_check_range(-1, write->address, sizeof(*write->address), "cuStreamWriteValue32")) {
        __atomic_store_n(write->address, write->value, __ATOMIC_RELEASE);
    }
}

CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr at, cuuint32_t value, unsigned flags)
{
    static const char function[] = "cuStreamWriteValue32";
    const word_write_t write = {(uint32_t *)(uintptr_t)at, value};
    cudaError_t error = standin_enter(function);
    if (error == cudaSuccess) {
        error = check_word(write.address, function);
    }
    if (error == cudaSuccess && flags > CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER) {
        standin_misuse("%s: flags 0x%x", function, flags);
        error = cudaErrorInvalidValue;
    }
    if (error == cudaSuccess) {
        error = standin_enqueue(stream, function, run_write, &write, sizeof(write));
    }
    return as_result(error);
}

static cudaError_t find(const char *symbol, void **function, unsigned version,
                        enum cudaDriverEntryPointQueryResult *status)
{
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    CUresult (*match)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = NULL;
    if (symbol == NULL || function == NULL) {
        standin_misuse("cudaGetDriverEntryPoint: no symbol or nowhere to put it");
        return cudaErrorInvalidValue;
    }
    if (strcmp(symbol, "cuStreamWaitValue32") == 0) {
        match = cuStreamWaitValue32;
    } else if (strcmp(symbol, "cuStreamWriteValue32") == 0) {
        match = cuStreamWriteValue32;
    }
    if (match != NULL) {
        found = version >= MEMORY_OPERATIONS_SINCE ? cudaDriverEntryPointSuccess
                                                   : cudaDriverEntryPointVersionNotSufficent;
    }
    *function = NULL;
    if (found == cudaDriverEntryPointSuccess) {
        memcpy(function, &match, sizeof(match));
    }
    if (status != NULL) {
        *status = found;
    }
    return cudaSuccess;
}

/* Injected with error -1, the symbol is not found, as with an old driver. */
cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *status)
{
    (void)flags;
    cudaError_t error = standin_enter("cudaGetDriverEntryPoint");
    if ((int)error == -1) {
        return standin_return(find("", function, CUDART_VERSION, status));
    }
    if (error == cudaSuccess) {
        error = find(symbol, function, CUDART_VERSION, status);
    }
    return standin_return(error);
}

#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status)
{
    (void)flags;
    cudaError_t error = standin_enter("cudaGetDriverEntryPointByVersion");
    if ((int)error == -1) {
        return standin_return(find("", function, version, status));
    }
    if (error == cudaSuccess) {
        error = find(symbol, function, version, status);
    }
    return standin_return(error);
}
#endif
