/*
 * What the host kernels need of the host device: a way to put a function on a stream.
 */
#ifndef DPR_DEVICE_HOST_HOST_STREAM_H
#define DPR_DEVICE_HOST_HOST_STREAM_H

#include "device/device.h"

enum { DPR_HOST_KERNEL_ARGUMENT_BYTES = 112 };

/* A kernel: reads its arguments (a copy of what was enqueued, aligned to 16) and computes. Runs on
 * the stream's worker thread; its CPU time is its cost under the core clock. */
typedef void (*dpr_host_kernel_fn_t)(const void *arguments);

/* Enqueues `kernel` with a copy of `bytes` (at most DPR_HOST_KERNEL_ARGUMENT_BYTES) of arguments.
 * The stream must be a host stream. Errors: none of its own; returns DPR_OK. */
dpr_status_t dpr_host_stream_launch(dpr_stream_t *stream, dpr_host_kernel_fn_t kernel,
                                    const void *arguments, size_t bytes);

#endif
