/*
 * Making a NCCL communicator, without waiting for ever for a rank that does not come.
 *
 * Communicators are blocking ones (ncclConfig_t.blocking = 1). With a non-blocking one every
 * ncclSend of the step loop would be carried out by a thread that NCCL starts for it, and would
 * have to be polled before anything else is enqueued on the stream (NCCL User Guide, "Nonblocking
 * Group Operation"; src/group.cc). A blocking one enqueues and returns, once two things are over:
 *
 *   - ncclCommInitRankConfig, which waits for all members;
 *   - the first operation, in which NCCL connects the two sides: it blocks the enqueuing thread
 *     until the other side does the same. In the step loop, where ranks enqueue in different
 *     orders, that would be a deadlock. So a message is taken through every channel, and a sum
 *     through every group, at opening, which all ranks do in one order.
 *
 * (NCCL connects each algorithm at its first use, so a group's sum of another size may be connected
 * anew. Its members wait for each other in that one call, which is safe as long as ranks enqueue
 * the all-reduces of overlapping groups in one order; runtime/pipeline_warm.c takes a sum of each
 * size that a step has before the first step.)
 *
 * Both may wait for a rank that has failed, and a blocking call cannot be polled. A thread makes
 * them:
 *
 *      opening rank                         the thread
 *      start, wait ...                      init; warm up, polling the stream; over
 *      over: take the handle
 *      no patience left: given_up = true    as soon as NCCL lets go of it: abort, free the rest
 *
 * A thread left in ncclCommInitRankConfig stays there until its peers come or the process ends; an
 * opening that fails ends the job anyway.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/nccl/nccl_impl.h"

enum { STATE_RUNNING, STATE_OVER, STATE_LEFT };

static const double grace_sec = 1.0; /* for the thread to notice that it is given up */

typedef struct connecting {
    /* Set before the thread starts. */
    int rank;
    int ordinal;
    int ctas;
    char what[DPR_NCCL_WHAT_BYTES];
    bool is_channel;
    int members;
    int me;
    ncclUniqueId id;

    _Atomic uint32_t state; /* RUNNING to OVER by the thread, or to LEFT by the caller */
    atomic_bool given_up;
    pthread_mutex_t lock; /* the next two */
    bool warming;         /* the thread is inside a call on the handle */
    bool aborted;         /* by the caller, because of that */

    /* The thread's; the caller's once OVER. */
    ncclComm_t handle;
    void *scratch;
    cudaStream_t stream;
    dpr_status_t status;
    char log[512];
} connecting_t;

dpr_status_t dpr_nccl_await_stream(const dpr_nccl_wait_t *wait, ncclComm_t handle,
                                   cudaStream_t stream)
{
    const double since_sec = dpr_nccl_now_sec();
    for (;;) {
        const cudaError_t error = cudaStreamQuery(stream);
        if (error != cudaErrorNotReady) {
            return dpr_cuda_check(error, "cudaStreamQuery");
        }
        (void)cudaGetLastError(); /* "not ready" is no error */
        ncclResult_t fault = ncclSuccess;
        DPR_TRY(dpr_nccl_check(wait->rank, ncclCommGetAsyncError(handle, &fault),
                               "ncclCommGetAsyncError", wait->what));
        if (fault != ncclInProgress) {
            DPR_TRY(dpr_nccl_check(wait->rank, fault, "a transfer", wait->what));
        }
        if (atomic_load(wait->given_up) || dpr_nccl_now_sec() - since_sec > wait->patience_sec) {
            return dpr_fail(DPR_ERR_COMM, "rank %d: gave up waiting for the other side of %s",
                            wait->rank, wait->what);
        }
        dpr_nccl_pause();
    }
}

/* The bound on CTAs is also the least: NCCL then has nothing to choose. */
static dpr_status_t init(connecting_t *it)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    config.minCTAs = it->ctas;
    config.maxCTAs = it->ctas;
    return dpr_nccl_check(it->rank,
                          ncclCommInitRankConfig(&it->handle, it->members, it->id, it->me, &config),
                          "ncclCommInitRankConfig", it->what);
}

static ncclResult_t first_operation(connecting_t *it)
{
    if (!it->is_channel) {
        return ncclAllReduce(it->scratch, it->scratch, 1, ncclFloat, ncclSum, it->handle,
                             it->stream);
    }
    return it->me == 0 ? ncclSend(it->scratch, 1, ncclUint8, 1, it->handle, it->stream)
                       : ncclRecv(it->scratch, 1, ncclUint8, 0, it->handle, it->stream);
}

/* Says, under the lock, that the thread is inside a call on the handle; false where it is too late.
 */
static bool begin_warming(connecting_t *it)
{
    pthread_mutex_lock(&it->lock);
    it->warming = !atomic_load(&it->given_up);
    const bool goes_on = it->warming;
    pthread_mutex_unlock(&it->lock);
    return goes_on;
}

/* False where the caller has aborted the communicator meanwhile. */
static bool end_warming(connecting_t *it)
{
    pthread_mutex_lock(&it->lock);
    it->warming = false;
    const bool alive = !it->aborted;
    pthread_mutex_unlock(&it->lock);
    return alive;
}

static dpr_status_t warm_up(connecting_t *it)
{
    const dpr_nccl_wait_t wait = {
        .rank = it->rank, .what = it->what, .patience_sec = INFINITY, .given_up = &it->given_up};
    if (!begin_warming(it)) {
        return DPR_ERR_COMM;
    }
    const ncclResult_t result = first_operation(it);
    if (!end_warming(it)) {
        it->handle = NULL;
        return DPR_ERR_COMM;
    }
    DPR_TRY(dpr_nccl_check(it->rank, result, "the first operation", it->what));
    return dpr_nccl_await_stream(&wait, it->handle, it->stream);
}

static dpr_status_t connect_inside(connecting_t *it)
{
    DPR_TRY(dpr_cuda_enter(it->ordinal));
    DPR_TRY(DPR_CUDA(cudaStreamCreateWithFlags(&it->stream, cudaStreamNonBlocking)));
    DPR_TRY(DPR_CUDA(cudaMalloc(&it->scratch, DPR_NCCL_SCRATCH_BYTES)));
    DPR_TRY(DPR_CUDA(cudaMemsetAsync(it->scratch, 0, DPR_NCCL_SCRATCH_BYTES, it->stream)));
    DPR_TRY(init(it));
    return warm_up(it);
}

/* The communicator first: its operation may still use the rest, until the stream is through. */
static void tidy(connecting_t *it)
{
    if (it->status != DPR_OK && it->handle != NULL) {
        (void)ncclCommAbort(it->handle);
        it->handle = NULL;
    }
    if (it->status != DPR_OK && it->stream != NULL) {
        (void)cudaStreamSynchronize(it->stream);
        (void)cudaGetLastError(); /* what failed is known */
    }
    if (it->scratch != NULL) {
        const dpr_status_t freed = DPR_CUDA(cudaFree(it->scratch));
        (void)freed;
    }
    if (it->stream != NULL) {
        const dpr_status_t destroyed = DPR_CUDA(cudaStreamDestroy(it->stream));
        (void)destroyed;
    }
}

static void free_connecting(connecting_t *it)
{
    pthread_mutex_destroy(&it->lock);
    free(it);
}

static void *connect_main(void *argument)
{
    connecting_t *it = argument;
    dpr_log_capture_t capture;
    (void)pthread_setname_np(pthread_self(), "dpr-nccl-open");
    dpr_log_capture_begin(&capture, it->log, sizeof it->log); /* the caller logs it */
    it->status = connect_inside(it);
    tidy(it);
    dpr_log_capture_end(&capture);
    uint32_t state = STATE_RUNNING;
    if (atomic_compare_exchange_strong(&it->state, &state, STATE_OVER)) {
        dpr_futex_wake(&it->state); /* the caller joins before it frees */
        return NULL;
    }
    if (it->handle != NULL) { /* too late */
        (void)ncclCommAbort(it->handle);
    }
    free_connecting(it);
    return NULL;
}

static bool await_over(connecting_t *it, double patience_sec, const atomic_bool *interrupted)
{
    enum { SLICE_NS = 20 * 1000 * 1000 };
    const double since_sec = dpr_nccl_now_sec();
    while (atomic_load(&it->state) == STATE_RUNNING) {
        if ((interrupted != NULL && atomic_load(interrupted)) ||
            dpr_nccl_now_sec() - since_sec > patience_sec) {
            return false;
        }
        dpr_futex_wait(&it->state, STATE_RUNNING, SLICE_NS);
    }
    return true;
}

/* True where the thread has come to its end after all. */
static bool give_up(connecting_t *it, const dpr_comm_nccl_t *comm)
{
    atomic_store(&it->given_up, true);
    pthread_mutex_lock(&it->lock);
    it->aborted = it->warming;
    const ncclComm_t handle = it->aborted ? it->handle : NULL;
    pthread_mutex_unlock(&it->lock);
    if (handle != NULL) {
        (void)dpr_nccl_abort(comm, handle); /* frees the thread inside the call */
    }
    uint32_t state = STATE_RUNNING;
    return await_over(it, grace_sec, NULL) ||
           !atomic_compare_exchange_strong(&it->state, &state, STATE_LEFT);
}

static dpr_status_t finish(dpr_nccl_link_t *link, connecting_t *it, pthread_t thread)
{
    (void)pthread_join(thread, NULL);
    const dpr_status_t status = it->status;
    if (status != DPR_OK) {
        it->log[strcspn(it->log, "\n")] = '\0'; /* a capture ends its lines */
        (void)dpr_fail(status, "rank %d: cannot open %s: %s", it->rank, it->what, it->log);
    }
    link->handle = it->handle;
    free_connecting(it);
    return status;
}

dpr_status_t dpr_nccl_link_connect(dpr_nccl_link_t *link, const ncclUniqueId *id)
{
    const dpr_comm_nccl_t *comm = link->comm;
    pthread_t thread;
    connecting_t *it;
    DPR_TRY(dpr_calloc(1, sizeof *it, &it));
    it->rank = comm->base.rank;
    it->ordinal = comm->ordinal;
    it->ctas = comm->ctas;
    memcpy(it->what, link->what, sizeof it->what);
    it->is_channel = link->is_channel;
    it->members = link->members;
    it->me = link->me;
    it->id = *id;
    pthread_mutex_init(&it->lock, NULL);
    const int error = pthread_create(&thread, NULL, connect_main, it);
    if (error != 0) {
        free_connecting(it);
        return dpr_fail(DPR_ERR_SYSTEM, "rank %d: cannot start a thread to open %s: %s",
                        comm->base.rank, link->what, strerror(error));
    }
    if (await_over(it, comm->patience_sec, &comm->interrupted) || give_up(it, comm)) {
        return finish(link, it, thread);
    }
    (void)pthread_detach(thread);
    return dpr_fail(DPR_ERR_COMM,
                    "rank %d: cannot open %s: gave up waiting for its other ranks after %.0f s",
                    comm->base.rank, link->what, comm->patience_sec);
}
