/*
 * Host operations of the CUDA device. Two things go into the stream for each:
 *
 *      cudaLaunchHostFunc          calls back on a thread of CUDA's, which must not block there and
 *                                  may not call CUDA: that calls `start`
 *      cuStreamWaitValue32         holds the stream until the word in pinned memory has come to the
 *                                  operation's number; dpr_host_op_complete writes it
 *
 * Where the second cannot be enqueued the operation must not start, for nothing would keep its
 * buffers. So where the stream is quicker than the enqueuing thread, that thread calls `start`.
 *
 *      stream:  ... | host function 7 | wait: word >= 7 | host function 8 | wait: word >= 8 | ...
 *      word:     6 ---------------------------> 7
 *
 * A stream has one operation under way at most, so one word and ascending numbers are enough. The
 * operations live in a ring of the stream; one is used again when the operation that it held is
 * over. Completing one writes the word last: from then on the stream, and the word, may be gone.
 *
 * The order that such a wait makes is not visible to CUDA, whose documentation (Stream Memory
 * Operations) warns that it may then serialise work in an order that deadlocks. Here only a stream
 * itself goes on behind the wait, and other streams follow by events; what remains is streams that
 * share a work queue, of which dpr_stream_create warns.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

enum { FUNCTION_SINCE = 12000, POLL_NS = 20 * 1000 };

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    (void)nanosleep(&pause, NULL);
}

/* Numbers wrap around: true where `number` has been come to. */
static bool is_over(const dpr_cuda_stream_t *stream, uint32_t number)
{
    return (int32_t)(atomic_load_explicit(stream->word, memory_order_acquire) - number) >= 0;
}

static dpr_status_t word_open(_Atomic uint32_t **word, CUdeviceptr *address)
{
    void *host;
    void *device;
    dpr_status_t status;
    DPR_TRY(DPR_CUDA(cudaHostAlloc(&host, sizeof **word, cudaHostAllocMapped)));
    DPR_TRY_GOTO(DPR_CUDA(cudaHostGetDevicePointer(&device, host, 0)), free_word);
    *word = host;
    atomic_init(*word, 0);
    *address = (CUdeviceptr)(uintptr_t)device;
    return DPR_OK;

free_word:
    dpr_cuda_ignore(DPR_CUDA(cudaFreeHost(host)));
    return status;
}

/* The driver's results are numbered as the runtime's errors are. */
static cudaError_t as_error(CUresult result)
{
    return (cudaError_t)result;
}

/* Tries the function on a word that needs no waiting for. */
static dpr_status_t try_function(dpr_cuda_device_t *device, dpr_cuda_wait_value_fn_t function)
{
    _Atomic uint32_t *word;
    CUdeviceptr address;
    dpr_status_t status = DPR_OK;
    DPR_TRY(word_open(&word, &address));
    const cudaError_t error =
        as_error(function(device->own_stream, address, 0, CU_STREAM_WAIT_VALUE_GEQ));
    if (error == cudaSuccess) {
        device->wait_value = function;
        status = DPR_CUDA(cudaStreamSynchronize(device->own_stream));
    } else if (error != cudaErrorNotSupported) {
        status = dpr_cuda_check(error, "cuStreamWaitValue32");
    }
    const dpr_status_t freed = DPR_CUDA(cudaFreeHost((void *)word));
    return status != DPR_OK ? status : freed;
}

#if CUDART_VERSION >= 12050
static cudaError_t find_function(void **function, enum cudaDriverEntryPointQueryResult *found)
{
    return cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", function, FUNCTION_SINCE,
                                            cudaEnableDefault, found);
}
#else
static cudaError_t find_function(void **function, enum cudaDriverEntryPointQueryResult *found)
{
    return cudaGetDriverEntryPoint("cuStreamWaitValue32", function, cudaEnableDefault, found);
}
#endif

dpr_status_t dpr_cuda_host_ops_find(dpr_cuda_device_t *device)
{
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
    DPR_TRY(dpr_cuda_check(find_function(&found, &result), "cudaGetDriverEntryPoint"));
    if (result == cudaDriverEntryPointSuccess && found != NULL) {
        dpr_cuda_wait_value_fn_t function;
        *(void **)&function = found;
        DPR_TRY(try_function(device, function));
    }
    if (device->wait_value == NULL) {
        dpr_log(DPR_LOG_WARNING,
                "cuda device %d has no stream memory operations, so nothing but NCCL can be part "
                "of its streams: --comm mpi will be refused",
                device->ordinal);
    }
    return DPR_OK;
}

dpr_status_t dpr_cuda_host_ops_open(dpr_cuda_stream_t *stream)
{
    dpr_status_t status;
    DPR_TRY(dpr_calloc(DPR_CUDA_STREAM_OPS, sizeof *stream->ops, &stream->ops));
    DPR_TRY_GOTO(word_open(&stream->word, &stream->word_address), free_ops);
    for (int i = 0; i < DPR_CUDA_STREAM_OPS; i++) {
        stream->ops[i].base.device = stream->base.device;
        stream->ops[i].stream = stream;
    }
    return DPR_OK;

free_ops:
    free(stream->ops);
    return status;
}

/* On a broken device the stream is idle without having waited for its last operation, which
 * somebody may still complete. */
void dpr_cuda_host_ops_close(dpr_cuda_stream_t *stream)
{
    while (!is_over(stream, atomic_load(&stream->started))) {
        pause_a_little();
    }
    dpr_cuda_ignore(DPR_CUDA(cudaFreeHost((void *)stream->word)));
    free(stream->ops);
}

/* Writing the word is the last that is done to the stream. */
static void pass(dpr_cuda_stream_t *stream, uint32_t number)
{
    atomic_store_explicit(stream->word, number, memory_order_release);
}

/* A failed stream passes its operations by. */
static void start_op(dpr_cuda_op_t *op)
{
    dpr_cuda_stream_t *stream = op->stream;
    if (!dpr_cuda_stream_ok(&stream->base)) {
        pass(stream, op->number);
        return;
    }
    atomic_store(&stream->started, op->number);
    op->start(op->argument, &op->base, NAN);
}

/* The host function: the stream has reached the operation. */
static void CUDART_CB reach_op(void *argument)
{
    dpr_cuda_op_t *op = argument;
    int state = DPR_CUDA_OP_PREPARED;
    if (atomic_compare_exchange_strong(&op->state, &state, DPR_CUDA_OP_REACHED)) {
        return;
    }
    if (state == DPR_CUDA_OP_HELD) {
        start_op(op);
    } else {
        pass(op->stream, op->number);
    }
}

/* The enqueuing thread's: the stream will be held behind the operation. */
static void hold_op(dpr_cuda_op_t *op)
{
    int state = DPR_CUDA_OP_PREPARED;
    if (!atomic_compare_exchange_strong(&op->state, &state, DPR_CUDA_OP_HELD)) {
        start_op(op);
    }
}

/* The enqueuing thread's: it will not, so the operation must not start. */
static void cancel_op(dpr_cuda_op_t *op)
{
    int state = DPR_CUDA_OP_PREPARED;
    if (!atomic_compare_exchange_strong(&op->state, &state, DPR_CUDA_OP_CANCELLED)) {
        pass(op->stream, op->number);
    }
}

void dpr_cuda_host_op_complete(dpr_host_op_t *operation, dpr_status_t status, double end_sec)
{
    (void)end_sec;
    dpr_cuda_op_t *op = (dpr_cuda_op_t *)operation;
    dpr_cuda_stream_t *stream = op->stream;
    assert(!is_over(stream, op->number)); /* completed once */
    if (status != DPR_OK) {
        dpr_cuda_stream_fail(stream, status);
    }
    pass(stream, op->number);
}

/* The ring is full: waits, without a wake-up, since that is rare and would cost every completion a
 * system call. A broken device never gets there. */
static dpr_status_t await_room(dpr_cuda_stream_t *stream, uint32_t number)
{
    while (!is_over(stream, number - DPR_CUDA_STREAM_OPS)) {
        const cudaError_t error = cudaStreamQuery(stream->handle);
        if (error != cudaErrorNotReady && !is_over(stream, number - DPR_CUDA_STREAM_OPS)) {
            DPR_TRY(dpr_cuda_check(error, "cudaStreamQuery"));
        }
        pause_a_little();
    }
    return DPR_OK;
}

static dpr_status_t check_possible(const dpr_cuda_stream_t *stream)
{
    dpr_cuda_recording_t *recording;
    DPR_TRY(dpr_cuda_stream_recording(stream, &recording));
    if (recording != NULL) {
        return dpr_cuda_recorded(
            stream, dpr_fail(DPR_ERR_UNSUPPORTED,
                             "stream %s: an operation of the host cannot be recorded; use NCCL for "
                             "transfers, or do not record",
                             stream->name));
    }
    if (dpr_cuda_device(stream->base.device)->wait_value == NULL) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "stream %s: this GPU has no stream memory operations, which an operation "
                        "of the host needs; use --comm nccl",
                        stream->name);
    }
    return DPR_OK;
}

dpr_status_t dpr_cuda_stream_host_op(dpr_stream_t *stream, dpr_host_op_fn_t start, void *argument)
{
    dpr_cuda_stream_t *self = dpr_cuda_stream(stream);
    const cudaStream_t handle = dpr_cuda_stream_handle(stream);
    const uint32_t number = self->ops_enqueued + 1;
    dpr_cuda_op_t *op = &self->ops[number % DPR_CUDA_STREAM_OPS];
    DPR_TRY(check_possible(self));
    if (!dpr_cuda_stream_ok(stream)) {
        return DPR_OK;
    }
    DPR_TRY(await_room(self, number));
    op->number = number;
    op->start = start;
    op->argument = argument;
    atomic_store(&op->state, DPR_CUDA_OP_PREPARED);
    DPR_TRY(DPR_CUDA(cudaLaunchHostFunc(handle, reach_op, op)));
    self->ops_enqueued = number;
    const CUresult held =
        dpr_cuda_device(stream->device)
            ->wait_value(handle, self->word_address, number, CU_STREAM_WAIT_VALUE_GEQ);
    if (held != CUDA_SUCCESS) {
        cancel_op(op);
        return dpr_cuda_check(as_error(held), "cuStreamWaitValue32");
    }
    hold_op(op);
    return DPR_OK;
}
