/* Error codes: the thread's last error, names and texts. */
#include "internal.h"

static _Thread_local cudaError_t last_error;

/* The codes that this library gives or that a test is likely to inject. */
#define ERROR_MAP(X)                                                                               \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInitializationError, "initialization error")                                        \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                        \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInvalidKernelImage, "device kernel image is invalid")                               \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorSymbolNotFound, "named symbol not found")                                           \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorLaunchTimeout, "the launch timed out and was terminated")                           \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorNotPermitted, "operation not permitted")                                            \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorSystemNotReady, "system not yet initialized")                                       \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error in capture")    \
    X(cudaErrorStreamCaptureMerge, "operation would merge two separate capture sequences")         \
    X(cudaErrorStreamCaptureUnmatched, "capture was not begun in this stream")                     \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency on uncaptured work in another stream")          \
    X(cudaErrorStreamCaptureImplicit, "implicit dependency of the legacy stream on a capture")     \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capture")    \
    X(cudaErrorStreamCaptureWrongThread, "attempt to end a capture from another thread")           \
    X(cudaErrorUnknown, "unknown error")

cudaError_t standin_return(cudaError_t error)
{
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

/* What a broken device answers, whoever asks. */
static cudaError_t look(const char *function)
{
    int error = 0;
    if (standin_fails(function, &error)) {
        return error != 0 ? (cudaError_t)error : cudaErrorUnknown;
    }
    standin_lock();
    const cudaError_t broken = standin_devices[device_current()].error;
    standin_unlock();
    return broken != cudaSuccess ? broken : last_error;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = look("cudaGetLastError");
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return look("cudaPeekAtLastError");
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch ((int)error) {
#define X(code, text)                                                                              \
    case code:                                                                                     \
        return #code;
        ERROR_MAP(X)
#undef X
    default:
        return "unrecognized error code";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch ((int)error) {
#define X(code, text)                                                                              \
    case code:                                                                                     \
        return text;
        ERROR_MAP(X)
#undef X
    default:
        return "unrecognized error code";
    }
}
