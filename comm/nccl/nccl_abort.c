/*
 * Ending communicators whose operations may never end.
 *
 * ncclCommAbort tells its own communicator's kernels to leave and then frees memory of the GPU,
 * which waits for all that runs there, also for kernels of other communicators. One after another,
 * the first abort would wait for what only the second ends (NVIDIA/nccl, pull request 564 and issue
 * 1013). In a group all are told before anything is freed; NCCL has that from 2.22 on, and older
 * versions are refused (nccl_room.c).
 *
 * Even so an abort may be stuck: in a driver that has hung, or waiting for another rank of the node
 * (issue 863). So a thread does it, which is left behind when it takes too long. Then nothing that
 * waits for the GPU may follow; the job is about to end anyway.
 */
#include <stdlib.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/nccl/nccl_impl.h"

enum { STATE_RUNNING, STATE_OVER, STATE_LEFT };

typedef struct aborting {
    _Atomic uint32_t state; /* RUNNING to OVER by the thread, or to LEFT by the caller */
    int ordinal;
    int count;
    ncclComm_t handles[];
} aborting_t;

/* What fails here has failed before; nothing is left to be done about it. */
static void abort_all(const aborting_t *it)
{
    char text[8];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, text, sizeof text);
    (void)dpr_cuda_enter(it->ordinal);
    dpr_log_capture_end(&capture);
    const bool grouped = ncclGroupStart() == ncclSuccess;
    for (int i = 0; i < it->count; i++) {
        (void)ncclCommAbort(it->handles[i]);
    }
    if (grouped) {
        (void)ncclGroupEnd();
    }
}

static void *abort_main(void *argument)
{
    aborting_t *it = argument;
    uint32_t state = STATE_RUNNING;
    (void)pthread_setname_np(pthread_self(), "dpr-nccl-abort");
    abort_all(it);
    if (atomic_compare_exchange_strong(&it->state, &state, STATE_OVER)) {
        dpr_futex_wake(&it->state); /* the caller joins before it frees */
    } else {
        free(it);
    }
    return NULL;
}

static bool await_over(aborting_t *it, double patience_sec)
{
    enum { SLICE_NS = 20 * 1000 * 1000 };
    const double since_sec = dpr_nccl_now_sec();
    while (atomic_load(&it->state) == STATE_RUNNING &&
           dpr_nccl_now_sec() - since_sec < patience_sec) {
        dpr_futex_wait(&it->state, STATE_RUNNING, SLICE_NS);
    }
    uint32_t state = STATE_RUNNING;
    return !atomic_compare_exchange_strong(&it->state, &state, STATE_LEFT);
}

static bool abort_in_thread(aborting_t *it, int rank, double patience_sec)
{
    pthread_t thread;
    const int count = it->count; /* the thread may take it over */
    if (pthread_create(&thread, NULL, abort_main, it) != 0) {
        abort_all(it);
        free(it);
        return true;
    }
    if (await_over(it, patience_sec)) {
        (void)pthread_join(thread, NULL);
        free(it);
        return true;
    }
    (void)pthread_detach(thread);
    dpr_log(
        DPR_LOG_WARNING,
        "rank %d: NCCL has not aborted %d communicator%s after %.0f s; leaving %s to the end of "
        "the process",
        rank, count, count == 1 ? "" : "s", patience_sec, count == 1 ? "it" : "them");
    return false;
}

/* Takes `it` over. */
static bool abort_bounded(aborting_t *it, const dpr_comm_nccl_t *comm)
{
    if (it->count == 0) {
        free(it);
        return true;
    }
    it->ordinal = comm->ordinal;
    return abort_in_thread(it, comm->base.rank, comm->abort_patience_sec);
}

static aborting_t *make(int capacity)
{
    aborting_t *it;
    return dpr_calloc(1, sizeof *it + (size_t)capacity * sizeof(ncclComm_t), &it) == DPR_OK ? it
                                                                                            : NULL;
}

bool dpr_nccl_abort(const dpr_comm_nccl_t *comm, ncclComm_t handle)
{
    aborting_t *it = make(1);
    if (it == NULL) {
        return false; /* logged; it stays to the end of the process */
    }
    it->handles[it->count++] = handle;
    return abort_bounded(it, comm);
}

/* Nobody enters any more; who is inside comes out soon, or is stuck there until the abort. */
static void await_outside(const dpr_nccl_link_t *link, double until_sec)
{
    while (atomic_load(&link->inside) != 0 && dpr_nccl_now_sec() < until_sec) {
        dpr_nccl_pause();
    }
}

static ncclComm_t take_handle(dpr_nccl_link_t *link)
{
    const ncclComm_t handle = link->handle;
    const uint64_t stream = atomic_load(&link->stream);
    if (stream != 0) {
        dpr_cuda_device_fail_stream(link->comm->base.device, stream, DPR_ERR_COMM);
    }
    link->handle = NULL;
    return handle;
}

static bool concerns(const dpr_nccl_link_t *link, const dpr_nccl_link_t *only)
{
    return only == NULL || link == only;
}

void dpr_nccl_abort_links(dpr_comm_nccl_t *comm, dpr_nccl_link_t *only)
{
    static const double stuck_sec = 1.0; /* who is inside for longer is stuck */
    int capacity = 0;
    for (dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        if (concerns(link, only)) {
            atomic_store(&link->aborted, true);
            capacity++;
        }
    }
    const double until_sec = dpr_nccl_now_sec() + stuck_sec;
    aborting_t *it = make(capacity);
    if (it == NULL) {
        comm->stuck = true;
        return;
    }
    for (dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        if (concerns(link, only) && link->handle != NULL) {
            await_outside(link, until_sec);
            it->handles[it->count++] = take_handle(link);
        }
    }
    comm->stuck = !abort_bounded(it, comm) || comm->stuck;
}
