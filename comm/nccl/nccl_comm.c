/*
 * The NCCL backend: creating and destroying it, what goes to the bootstrap, and what a watchdog
 * uses. Channels and groups are in nccl_link.c, how their communicators are made in nccl_open.c,
 * measuring in nccl_measure.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/nccl/nccl_impl.h"
#include "comm/nccl/nccl_testing.h"

enum { PATIENCE_SEC = 120, ABORT_PATIENCE_SEC = 10, PAUSE_NS = 50 * 1000 };

dpr_status_t dpr_nccl_check(int rank, ncclResult_t result, const char *call, const char *what)
{
    if (result == ncclSuccess) {
        return DPR_OK;
    }
    return dpr_fail(result == ncclUnhandledCudaError ? DPR_ERR_DEVICE : DPR_ERR_COMM,
                    "rank %d: %s on %s failed: %s; NCCL_DEBUG=WARN says more", rank, call, what,
                    ncclGetErrorString(result));
}

void dpr_nccl_pause(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    (void)nanosleep(&pause, NULL);
}

double dpr_nccl_now_sec(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static dpr_status_t barrier(dpr_comm_t *comm)
{
    return dpr_comm_barrier(dpr_comm_nccl(comm)->bootstrap);
}

static dpr_status_t allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out)
{
    return dpr_comm_allgather(dpr_comm_nccl(comm)->bootstrap, in, bytes, out);
}

static dpr_status_t gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                           void *out)
{
    return dpr_comm_gather(dpr_comm_nccl(comm)->bootstrap, root, in, bytes, out);
}

static void abort_job(dpr_comm_t *comm, int exit_code)
{
    dpr_comm_abort(dpr_comm_nccl(comm)->bootstrap, exit_code);
}

static void describe(const dpr_comm_t *comm, char *text, size_t size)
{
    char below[128];
    int version = 0;
    (void)ncclGetVersion(&version); /* as NCCL_VERSION codes it since 2.9 */
    dpr_comm_describe(dpr_comm_nccl(comm)->bootstrap, below, sizeof below);
    snprintf(text, size, "NCCL %d.%d.%d over %s", version / 10000, version / 100 % 100,
             version % 100, below);
}

/* One link's fault: that of asking, or the one that NCCL reports. */
static dpr_status_t check_link(dpr_nccl_link_t *link)
{
    ncclResult_t fault = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(link->handle, &fault);
    if (asked == ncclSuccess && (fault == ncclSuccess || fault == ncclInProgress)) {
        return DPR_OK;
    }
    if (link->told) {
        return DPR_ERR_COMM;
    }
    link->told = true;
    return dpr_fail(DPR_ERR_COMM, "rank %d: %s has failed: %s; NCCL_DEBUG=WARN says more",
                    link->comm->base.rank, link->what,
                    ncclGetErrorString(asked != ncclSuccess ? asked : fault));
}

static dpr_status_t check(dpr_comm_t *base)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    dpr_status_t status = DPR_OK;
    pthread_mutex_lock(&comm->lock);
    for (dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        if (link->handle != NULL && !link->closed) {
            const dpr_status_t found = check_link(link);
            status = status == DPR_OK ? found : status;
        }
    }
    pthread_mutex_unlock(&comm->lock);
    return status;
}

static void interrupt(dpr_comm_t *base)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    atomic_store(&comm->interrupted, true);
    pthread_mutex_lock(&comm->lock);
    dpr_nccl_abort_links(comm, NULL);
    pthread_mutex_unlock(&comm->lock);
}

static bool left_open(const dpr_comm_nccl_t *comm)
{
    const dpr_nccl_link_t *link = comm->links.next;
    while (link != &comm->links && link->closed) {
        link = link->next;
    }
    return link != &comm->links;
}

/* All ranks end the same communicators in the same order. */
static void destroy_links(dpr_comm_nccl_t *comm)
{
    for (dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        if (link->handle != NULL) {
            (void)dpr_nccl_check(comm->base.rank, ncclCommDestroy(link->handle), "ncclCommDestroy",
                                 link->what);
            link->handle = NULL;
        }
    }
}

static void free_links(dpr_comm_nccl_t *comm)
{
    while (comm->links.next != &comm->links) {
        dpr_nccl_link_t *link = comm->links.next;
        comm->links.next = link->next;
        free(link);
    }
}

/* Where something was left open on any rank, one side may have operations under way that the other
 * never enqueued, and an orderly end would wait for it: then all abort. */
static void end_links(dpr_comm_nccl_t *comm)
{
    const dpr_status_t mine = left_open(comm) || comm->stuck ? DPR_ERR_COMM : DPR_OK;
    if (!atomic_load(&comm->interrupted) && dpr_comm_agree(comm->bootstrap, mine, NULL) == DPR_OK) {
        destroy_links(comm);
    } else {
        interrupt(&comm->base); /* once more only waits for who is at it */
    }
    free_links(comm);
}

static void destroy(dpr_comm_t *base)
{
    dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    if (comm->ordinal >= 0) {
        (void)dpr_cuda_enter(comm->ordinal);
    }
    end_links(comm);
    if (comm->ordinal >= 0 && !comm->stuck) {
        (void)DPR_CUDA(cudaStreamDestroy(comm->stream));
        (void)DPR_CUDA(cudaFree(comm->scratch));
    }
    pthread_mutex_destroy(&comm->lock);
    free(comm);
}

static const dpr_comm_ops_t nccl_ops = {
    .kind = "nccl",
    .destroy = destroy,
    .channel_open = dpr_nccl_channel_open,
    .channel_close = dpr_nccl_channel_close,
    .channel_send = dpr_nccl_channel_send,
    .channel_recv = dpr_nccl_channel_recv,
    .group_open = dpr_nccl_group_open,
    .group_close = dpr_nccl_group_close,
    .group_allreduce_sum = dpr_nccl_group_allreduce_sum,
    .barrier = barrier,
    .allgather = allgather,
    .gather = gather,
    .measure_link = dpr_nccl_measure_link,
    .check = check,
    .interrupt = interrupt,
    .needs = dpr_nccl_needs,
    .describe = describe,
    .abort = abort_job,
};

dpr_status_t dpr_comm_nccl_create(dpr_comm_t *bootstrap, int ctas, dpr_comm_t **comm)
{
    dpr_comm_nccl_t *created;
    int version = 0;
    DPR_TRY(
        dpr_nccl_check(bootstrap->rank, ncclGetVersion(&version), "ncclGetVersion", "this node"));
    DPR_TRY(dpr_nccl_check_version(version));
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base = (dpr_comm_t){.ops = &nccl_ops,
                                 .rank = bootstrap->rank,
                                 .size = bootstrap->size,
                                 .node_rank = bootstrap->node_rank,
                                 .node_size = bootstrap->node_size};
    created->bootstrap = bootstrap;
    created->ctas = ctas > 0 ? ctas : DPR_COMM_NCCL_CTAS;
    created->patience_sec = PATIENCE_SEC;
    created->abort_patience_sec = ABORT_PATIENCE_SEC;
    created->ordinal = -1;
    created->links.next = &created->links;
    created->links.previous = &created->links;
    pthread_mutex_init(&created->lock, NULL); /* with default attributes this cannot fail */
    *comm = &created->base;
    return DPR_OK;
}

void dpr_comm_nccl_set_patience(dpr_comm_t *comm, double sec)
{
    dpr_comm_nccl(comm)->patience_sec = sec;
}

void dpr_comm_nccl_set_abort_patience(dpr_comm_t *comm, double sec)
{
    dpr_comm_nccl(comm)->abort_patience_sec = sec;
}
