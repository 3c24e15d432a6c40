/*
 * What the CUDA device shows to the two other rooms that speak CUDA, kernels/cuda and comm/nccl:
 * the handles behind its objects, and one way to turn CUDA's errors into statuses. Nothing else
 * includes this header.
 */
#ifndef DPR_DEVICE_CUDA_CUDA_DEVICE_H
#define DPR_DEVICE_CUDA_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The CUDA stream, for one operation that the caller enqueues on it next: makes its device the
 * calling thread's current one and counts one operation for dpr_stream_enqueued. The handle stays
 * the same as long as the stream.
 */
cudaStream_t dpr_cuda_stream_handle(dpr_stream_t *stream);

/* False once an operation of the stream has failed: work that is enqueued then would only be
 * skipped (device.h, Errors), so whoever enqueues may leave it out. Any thread. */
bool dpr_cuda_stream_ok(const dpr_stream_t *stream);

/* A number that no other stream of the device ever has. It stays good when the stream is gone. */
uint64_t dpr_cuda_stream_number(const dpr_stream_t *stream);

/*
 * Marks the stream of that number, if it still is there and has work under way, with an error that
 * somebody else found (an aborted communicator). Any thread.
 */
void dpr_cuda_device_fail_stream(dpr_device_t *device, uint64_t number, dpr_status_t status);

/* The GPU's number, as CUDA counts in this process. The device must be a cuda device. */
int dpr_cuda_device_ordinal(const dpr_device_t *device);

/* Whether it is one. */
bool dpr_cuda_device_is(const dpr_device_t *device);

/* Makes the device, or the GPU of that number, the calling thread's current one; every function of
 * the device does so itself. Whoever sets CUDA's current device otherwise sets it back. */
dpr_status_t dpr_cuda_device_enter(const dpr_device_t *device);
dpr_status_t dpr_cuda_enter(int ordinal);

/* By how much the latest alignment of the GPU's clock with the host's may be wrong. */
double dpr_cuda_device_clock_uncertainty_sec(const dpr_device_t *device);

/*
 * A status for the result of a CUDA call. Not cudaSuccess: logs the call's name (`call` up to its
 * bracket), CUDA's name and text of the error, and forgets it as the thread's last error.
 * cudaErrorMemoryAllocation becomes DPR_ERR_MEMORY, cudaErrorNotSupported DPR_ERR_UNSUPPORTED,
 * anything else DPR_ERR_DEVICE.
 */
dpr_status_t dpr_cuda_check(cudaError_t error, const char *call);

/* DPR_TRY(DPR_CUDA(cudaMemsetAsync(...))) */
#define DPR_CUDA(call) dpr_cuda_check((call), #call)

#ifdef __cplusplus
}
#endif

#endif
