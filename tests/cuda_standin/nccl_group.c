/* NCCL's calls and groups: what one group gives one communicator is one operation in its stream. */
#include "internal.h"

#include <stdlib.h>

enum { MAX_INITS = 64 };

typedef struct group {
    int depth;
    ncclResult_t error; /* the first of a call within */
    nccl_sub_t *subs;   /* in the order of the calls */
    nccl_sub_t **end;
    struct {
        ncclComm_t comm;
        ncclComm_t *handle;
    } inits[MAX_INITS];
    int inits_count;
    bool aborts;
    int abort_device;
} group_t;

static _Thread_local group_t group;

bool nccl_in_group(void)
{
    return group.depth > 0;
}

void nccl_group_fail(ncclResult_t error)
{
    if (group.depth > 0 && group.error == ncclSuccess) {
        group.error = error;
    }
}

ncclResult_t nccl_group_add_init(ncclComm_t comm, ncclComm_t *handle)
{
    if (group.inits_count == MAX_INITS) {
        return ncclInternalError;
    }
    group.inits[group.inits_count].comm = comm;
    group.inits[group.inits_count].handle = handle;
    group.inits_count++;
    return ncclSuccess;
}

void nccl_group_add_abort(int device)
{
    group.aborts = true;
    group.abort_device = device;
}

/* ---- the group's end ---- */

static const char *name_of(const nccl_part_t *part)
{
    static const char *const names[SUB_KINDS] = {
        [SUB_SEND] = "ncclSend", [SUB_RECV] = "ncclRecv", [SUB_ALLREDUCE] = "ncclAllReduce"};
    return part->subs->next != NULL ? "an NCCL group" : names[part->subs->kind];
}

/* Takes every call of the first one's communicator out of the group. */
static nccl_part_t *take_part(void)
{
    ncclComm_t comm = group.subs->comm;
    nccl_part_t *part = nccl_part_create(comm);
    if (part == NULL) {
        return NULL;
    }
    nccl_sub_t **end = &part->subs;
    for (nccl_sub_t **link = &group.subs; *link != NULL;) {
        nccl_sub_t *sub = *link;
        if (sub->comm != comm) {
            link = &sub->next;
            continue;
        }
        *link = sub->next;
        sub->next = NULL;
        sub->part = part;
        *end = sub;
        end = &sub->next;
    }
    return part;
}

static ncclResult_t check_part(const nccl_part_t *part, const struct CUstream_st *stream)
{
    const struct ncclComm *comm = part->comm;
    if (stream->device != comm->device) {
        standin_misuse("%s: stream %lu is of device %d, communicator %lu of device %d",
                       name_of(part), stream->object.number, stream->device, comm->object.number,
                       comm->device);
        return ncclInvalidUsage;
    }
    for (const nccl_sub_t *sub = part->subs; sub != NULL; sub = sub->next) {
        if (sub->stream != part->subs->stream) {
            standin_misuse("%s: one group, one communicator, but two streams", name_of(part));
            return ncclInvalidUsage;
        }
    }
    return ncclSuccess;
}

/* Locked. Takes the part over. */
static ncclResult_t launch(nccl_part_t *part)
{
    struct CUstream_st *stream;
    const char *name = name_of(part);
    const cudaError_t found = stream_get_for_work(part->subs->stream, name, &stream);
    ncclResult_t error = found == cudaSuccess ? check_part(part, stream) : ncclInvalidUsage;
    op_t *op = error == ncclSuccess ? op_create(OP_NCCL, name, stream) : NULL;
    if (op == NULL) {
        nccl_part_destroy(part);
        return error == ncclSuccess ? ncclSystemError : error;
    }
    ncclComm_t comm = part->comm;
    op->part = part;
    part->op = op;
    if (op_enqueue(op) != cudaSuccess) {
        return ncclUnhandledCudaError;
    }
    if (comm->config.blocking == 0 && scheduler_random(4) == 1) {
        comm->polls = 1 + (int)scheduler_random(2);
        stream->nccl_busy = comm;
        return ncclInProgress;
    }
    return ncclSuccess;
}

static void discard(void)
{
    while (group.subs != NULL) {
        nccl_sub_t *sub = group.subs;
        group.subs = sub->next;
        nccl_sub_destroy(sub);
    }
}

/* Locked. */
static ncclResult_t finish(ncclResult_t error)
{
    bool in_progress = false;
    for (int i = 0; i < group.inits_count; i++) {
        const ncclResult_t result = nccl_init_settle(group.inits[i].comm, group.inits[i].handle);
        in_progress = in_progress || result == ncclInProgress;
        error = error == ncclSuccess && result != ncclInProgress ? result : error;
    }
    while (error == ncclSuccess && group.subs != NULL) {
        nccl_part_t *part = take_part();
        const ncclResult_t result = part != NULL ? launch(part) : ncclSystemError;
        in_progress = in_progress || result == ncclInProgress;
        error = result == ncclInProgress ? ncclSuccess : result;
    }
    discard();
    if (group.aborts) {
        nccl_abort_settle(group.abort_device);
    }
    group = (group_t){.depth = 0};
    return error == ncclSuccess && in_progress ? ncclInProgress : error;
}

ncclResult_t ncclGroupStart(void)
{
    const ncclResult_t error = standin_enter_nccl("ncclGroupStart");
    if (error == ncclSuccess) {
        group.depth++;
    }
    return error;
}

/* Made to fail, it has ended the group; none of its calls takes place. */
ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t error = standin_enter_nccl("ncclGroupEnd");
    if (group.depth == 0) {
        standin_misuse("ncclGroupEnd without ncclGroupStart");
        return ncclInvalidUsage;
    }
    if (group.depth > 1) {
        group.depth--;
        nccl_group_fail(error);
        return error;
    }
    standin_lock();
    error = finish(error != ncclSuccess ? error : group.error);
    standin_unlock();
    return error;
}

/* ---- the calls ---- */

/* Locked. A sum of another size may take another algorithm, which connects at its first use. */
static ncclResult_t connect(ncclComm_t comm, size_t bytes)
{
    int error = 0;
    for (int i = 0; i < comm->sums_count; i++) {
        if (comm->sums[i] == bytes) {
            return ncclSuccess;
        }
    }
    if (standin_fails("connect:ncclAllReduce", &error)) {
        return error != 0 ? (ncclResult_t)error : ncclSystemError;
    }
    if (comm->sums_count < MAX_SUMS) {
        comm->sums[comm->sums_count++] = bytes;
    }
    return ncclSuccess;
}

/* Locked. */
static ncclResult_t add(const char *function, ncclComm_t handle, nccl_sub_t *values)
{
    ncclComm_t comm;
    ncclResult_t error = nccl_find_ready(handle, function, &comm);
    if (error != ncclSuccess) {
        return error;
    }
    if (nccl_type_bytes(values->type) == 0 ||
        (values->kind != SUB_ALLREDUCE && (values->peer < 0 || values->peer >= comm->ranks))) {
        standin_misuse("%s: type %d, peer %d of %d ranks", function, (int)values->type,
                       values->peer, comm->ranks);
        return ncclInvalidArgument;
    }
    if (values->kind == SUB_ALLREDUCE) {
        error = connect(comm, values->count * nccl_type_bytes(values->type));
    }
    if (error != ncclSuccess) {
        return error;
    }
    values->comm = comm;
    nccl_sub_t *sub = nccl_sub_create(values);
    if (sub == NULL) {
        return ncclSystemError;
    }
    nccl_sub_t **end = &group.subs;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = sub;
    return ncclSuccess;
}

static bool check_buffers(const char *function, ncclComm_t handle, const nccl_sub_t *values)
{
    ncclComm_t comm;
    const size_t bytes = values->count * nccl_type_bytes(values->type);
    standin_lock();
    const ncclResult_t error = nccl_find(handle, function, &comm);
    const int device = error == ncclSuccess ? comm->device : 0;
    standin_unlock();
    return error == ncclSuccess &&
           (values->from == NULL || standin_check_range(device, values->from, bytes, function)) &&
           (values->to == NULL || standin_check_range(device, values->to, bytes, function));
}

static ncclResult_t call(const char *function, ncclComm_t handle, nccl_sub_t *values)
{
    ncclResult_t error = standin_enter_nccl(function);
    if (error == ncclSuccess && !check_buffers(function, handle, values)) {
        error = ncclInvalidArgument;
    }
    if (error == ncclSuccess) {
        standin_lock();
        error = add(function, handle, values);
        if (error == ncclSuccess && group.depth == 0) {
            error = finish(ncclSuccess);
        }
        standin_unlock();
    }
    if (error != ncclSuccess && error != ncclInProgress) {
        nccl_group_fail(error);
    }
    return error;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    nccl_sub_t values = {.kind = SUB_SEND,
                         .from = from,
                         .count = count,
                         .type = type,
                         .peer = peer,
                         .stream = stream};
    return call("ncclSend", comm, &values);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    nccl_sub_t values = {
        .kind = SUB_RECV, .to = to, .count = count, .type = type, .peer = peer, .stream = stream};
    return call("ncclRecv", comm, &values);
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream)
{
    if ((type != ncclFloat32 && type != ncclFloat64) || reduction != ncclSum) {
        standin_misuse("ncclAllReduce: the stand-in sums float and double (type %d, operation %d)",
                       (int)type, (int)reduction);
        return ncclInvalidArgument;
    }
    nccl_sub_t values = {.kind = SUB_ALLREDUCE,
                         .from = from,
                         .to = to,
                         .count = count,
                         .type = type,
                         .reduction = reduction,
                         .peer = -1,
                         .stream = stream};
    return call("ncclAllReduce", comm, &values);
}

/* ---- texts ---- */

ncclResult_t ncclGetVersion(int *version)
{
    const ncclResult_t error = standin_enter_nccl("ncclGetVersion");
    if (error == ncclSuccess) {
        *version = NCCL_VERSION_CODE;
    }
    return error;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[ncclNumResults] = {
        [ncclSuccess] = "no error",
        [ncclUnhandledCudaError] = "unhandled cuda error",
        [ncclSystemError] = "unhandled system error",
        [ncclInternalError] = "internal error",
        [ncclInvalidArgument] = "invalid argument",
        [ncclInvalidUsage] = "invalid usage",
        [ncclRemoteError] = "remote process exited or there was a network error",
        [ncclInProgress] = "NCCL operation in progress",
    };
    return (int)result >= 0 && result < ncclNumResults ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "";
}
