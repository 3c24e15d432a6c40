/* What NCCL's communicators can be asked, and whether they may be used now. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

static ncclResult_t state(const struct ncclComm *comm)
{
    const clique_t *clique = comm->clique;
    if (!clique->ready) {
        return clique->result != ncclSuccess ? clique->result : ncclInProgress;
    }
    if (comm->polls > 0 ||
        (comm->leaving && (comm->first != NULL || clique->left < clique->ranks))) {
        return comm->async_error != ncclSuccess ? comm->async_error : ncclInProgress;
    }
    return comm->async_error;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *async_error)
{
    ncclComm_t comm;
    ncclResult_t error = standin_enter_nccl("ncclCommGetAsyncError");
    if (error != ncclSuccess) {
        return error;
    }
    standin_lock();
    error = nccl_find(handle, "ncclCommGetAsyncError", &comm);
    if (error == ncclSuccess) {
        *async_error = state(comm);
        if (comm->clique->ready && comm->polls > 0) {
            comm->polls--;
        }
    }
    standin_unlock();
    return error;
}

ncclResult_t nccl_find_ready(ncclComm_t handle, const char *function, ncclComm_t *comm)
{
    ncclResult_t error = nccl_find(handle, function, comm);
    if (error != ncclSuccess) {
        return error;
    }
    if (standin_devices[(*comm)->device].error != cudaSuccess) {
        return ncclUnhandledCudaError;
    }
    error = state(*comm);
    if (error == ncclInProgress) {
        standin_misuse("%s: communicator %lu has a call under way: ask ncclCommGetAsyncError until "
                       "it says ncclSuccess",
                       function, (*comm)->object.number);
        return ncclInvalidArgument;
    }
    if ((*comm)->leaving) {
        standin_misuse("%s: communicator %lu was finalized", function, (*comm)->object.number);
        return ncclInvalidArgument;
    }
    return error;
}

cudaError_t nccl_check_stream(struct CUstream_st *stream, const char *function)
{
    ncclComm_t comm = stream->nccl_busy;
    if (comm == NULL) {
        return cudaSuccess;
    }
    if (comm->polls > 0 && !comm->aborted) {
        standin_misuse("%s: on stream %lu a call of NCCL communicator %lu is still under way",
                       function, stream->object.number, comm->object.number);
        return cudaErrorInvalidValue;
    }
    stream->nccl_busy = NULL;
    return cudaSuccess;
}

static ncclResult_t ask(ncclComm_t handle, const char *function, int *value, size_t offset_in_comm)
{
    ncclComm_t comm;
    ncclResult_t error = standin_enter_nccl(function);
    if (error != ncclSuccess) {
        return error;
    }
    standin_lock();
    error = nccl_find(handle, function, &comm);
    if (error == ncclSuccess) {
        memcpy(value, (const unsigned char *)comm + offset_in_comm, sizeof(*value));
    }
    standin_unlock();
    return error;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    return ask(comm, "ncclCommCount", count, offsetof(struct ncclComm, ranks));
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    return ask(comm, "ncclCommUserRank", rank, offsetof(struct ncclComm, rank));
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
{
    return ask(comm, "ncclCommCuDevice", device, offsetof(struct ncclComm, device));
}

int standin_communicators(standin_communicator_t *list, int capacity)
{
    int count = 0;
    standin_lock();
    const int total = object_count(OBJECT_COMM);
    for (object_t *object = object_first(); object != NULL; object = object->next) {
        const struct ncclComm *comm = (const void *)object;
        if (object->kind != OBJECT_COMM || !object->alive) {
            continue;
        }
        const int at = total - ++count; /* the newest comes first here */
        if (at < capacity) {
            list[at] = (standin_communicator_t){.rank = comm->rank,
                                                .ranks = comm->ranks,
                                                .device = comm->device,
                                                .min_ctas = comm->config.minCTAs,
                                                .max_ctas = comm->config.maxCTAs,
                                                .blocking = comm->config.blocking != 0};
        }
    }
    standin_unlock();
    return total;
}

/* ---- for the report of a deadlock: who waits for whom to come or to leave ---- */

static size_t describe_meeting(const clique_t *clique, char *text, size_t size)
{
    size_t used = 0;
    for (int rank = 0; rank < clique->ranks && used < size; rank++) {
        const struct ncclComm *comm = clique->comms[rank];
        const char *where = comm == NULL               ? "has not come"
                            : clique->arriving != NULL ? "has come"
                            : comm->leaving            ? "is leaving"
                                                       : "has not left";
        used += (size_t)snprintf(text + used, size - used, "%s rank %d %s", rank > 0 ? "," : "",
                                 rank, where);
    }
    return used < size ? used : size;
}

void nccl_describe(char *text, size_t size)
{
    size_t used = nccl_describe_operations(text, size);
    for (const clique_t *clique = nccl_first_clique(); clique != NULL && used < size;
         clique = clique->next) {
        if (clique->arriving == NULL && clique->departing == NULL) {
            continue;
        }
        used += (size_t)snprintf(text + used, size - used,
                                 "\n  NCCL id %lu, %s:", (unsigned long)clique->id,
                                 clique->arriving != NULL ? "initialisation" : "end");
        used += used < size ? describe_meeting(clique, text + used, size - used) : 0;
    }
}
