/*
 * NCCL's communicators: ids, initialisation, the end, questions. The ranks of one id make up a
 * clique; initialising waits for all of them, and so does destroying, as NCCL's manual says of the
 * ranks on one node. Aborting waits for nobody.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CTAS = 64, CONFIG_MAGIC = (int)0xcafebeefU };

static const char id_mark[] = "dualpipe cuda stand-in";

static clique_t *cliques;
static uint64_t ids;
static int waiting; /* threads that block in NCCL */

/* ---- cliques ---- */

nccl_sub_t **clique_queue(clique_t *clique, sub_kind_t kind, int source, int destination)
{
    const size_t square = (size_t)clique->ranks * (size_t)clique->ranks;
    return &clique->queues[(size_t)kind * square + (size_t)source * (size_t)clique->ranks +
                           (size_t)destination];
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    const ncclResult_t verdict = standin_enter_nccl("ncclGetUniqueId");
    if (verdict != ncclSuccess) {
        return verdict;
    }
    clique_t *clique = calloc(1, sizeof(*clique));
    if (clique == NULL) {
        return ncclSystemError;
    }
    standin_lock();
    clique->id = ++ids;
    clique->next = cliques;
    cliques = clique;
    standin_unlock();
    memset(id, 0, sizeof(*id));
    memcpy(id->internal, &clique->id, sizeof(clique->id));
    memcpy(id->internal + sizeof(clique->id), id_mark, sizeof(id_mark));
    return ncclSuccess;
}

static clique_t *find_clique(const ncclUniqueId *id)
{
    uint64_t number;
    memcpy(&number, id->internal, sizeof(number));
    if (memcmp(id->internal + sizeof(number), id_mark, sizeof(id_mark)) != 0) {
        return NULL;
    }
    clique_t *clique = cliques;
    while (clique != NULL && clique->id != number) {
        clique = clique->next;
    }
    return clique;
}

static bool open_clique(clique_t *clique, int ranks)
{
    const size_t queues = (size_t)SUB_KINDS * (size_t)ranks * (size_t)ranks;
    clique->comms = calloc((size_t)ranks, sizeof(*clique->comms));
    clique->queues = calloc(queues, sizeof(nccl_sub_t *));
    clique->ranks = clique->comms != NULL && clique->queues != NULL ? ranks : 0;
    return clique->ranks > 0;
}

static ncclResult_t check_place(const clique_t *clique, int ranks, int rank)
{
    if (clique == NULL) {
        standin_misuse("ncclCommInitRank: the id is of no ncclGetUniqueId");
        return ncclInvalidArgument;
    }
    if (ranks < 1 || rank < 0 || rank >= ranks || (clique->ranks > 0 && clique->ranks != ranks)) {
        standin_misuse("ncclCommInitRank: rank %d of %d; the first to come said %d ranks", rank,
                       ranks, clique->ranks);
        return ncclInvalidArgument;
    }
    if (clique->ranks > 0 && clique->comms[rank] != NULL) {
        standin_misuse("ncclCommInitRank: rank %d comes a second time", rank);
        return ncclInvalidUsage;
    }
    return ncclSuccess;
}

/* Two ranks on one device are refused, as NCCL refuses them. */
static ncclResult_t check_devices(const clique_t *clique)
{
    for (int a = 0; a < clique->ranks; a++) {
        for (int b = 0; b < a; b++) {
            if (clique->comms[a]->device == clique->comms[b]->device) {
                return ncclInvalidUsage;
            }
        }
    }
    return ncclSuccess;
}

static void complete_init(clique_t *clique)
{
    int error = 0;
    clique->result = check_devices(clique);
    if (clique->result == ncclSuccess && standin_operation_fails("ncclCommInitRank", &error)) {
        clique->result = error != 0 ? (ncclResult_t)error : ncclSystemError;
    }
    clique->ready = true;
    for (int rank = 0; rank < clique->ranks; rank++) {
        clique->comms[rank]->async_error = clique->result;
        clique->comms[rank]->polls = (int)scheduler_random(3);
    }
    sleeper_wake(&clique->arriving, UINT64_MAX);
}

/* ---- initialisation ---- */

static bool in_range(int value, int low, int high)
{
    return value == NCCL_CONFIG_UNDEF_INT || (value >= low && value <= high);
}

static ncclResult_t check_config(const ncclConfig_t *config)
{
    if (config->size != sizeof(*config) || config->magic != (unsigned)CONFIG_MAGIC ||
        config->version != NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH)) {
        standin_misuse("ncclCommInitRankConfig: not made with NCCL_CONFIG_INITIALIZER");
        return ncclInvalidArgument;
    }
    if (!in_range(config->blocking, 0, 1) || !in_range(config->minCTAs, 1, MAX_CTAS) ||
        !in_range(config->maxCTAs, 1, MAX_CTAS) ||
        (config->minCTAs != NCCL_CONFIG_UNDEF_INT && config->maxCTAs != NCCL_CONFIG_UNDEF_INT &&
         config->minCTAs > config->maxCTAs)) {
        standin_misuse("ncclCommInitRankConfig: blocking %d, minCTAs %d, maxCTAs %d",
                       config->blocking, config->minCTAs, config->maxCTAs);
        return ncclInvalidArgument;
    }
    return ncclSuccess;
}

static bool blocks(const struct ncclComm *comm)
{
    return comm->config.blocking != 0;
}

/* Locked. Waits, counted, so that a deadlock is noticed. */
static void wait_on(sleeper_t **list)
{
    sleeper_t sleeper = {.target = 0};
    waiting++;
    scheduler_sleep(&sleeper, list);
    waiting--;
}

/* Locked. */
static ncclResult_t join(const ncclUniqueId *id, int ranks, int rank, const ncclConfig_t *config,
                         ncclComm_t *result)
{
    clique_t *clique = find_clique(id);
    ncclResult_t error = check_place(clique, ranks, rank);
    if (error != ncclSuccess) {
        return error;
    }
    if (standin_devices[device_current()].error != cudaSuccess) {
        return ncclUnhandledCudaError;
    }
    if (clique->ranks == 0 && !open_clique(clique, ranks)) {
        return ncclSystemError;
    }
    ncclComm_t comm = object_create(OBJECT_COMM, sizeof(*comm));
    if (comm == NULL) {
        return ncclSystemError;
    }
    comm->clique = clique;
    comm->rank = rank;
    comm->ranks = ranks;
    comm->device = device_current();
    comm->config = *config;
    clique->comms[rank] = comm;
    clique->arrived++;
    scheduler_activity();
    if (clique->arrived == ranks) {
        complete_init(clique);
    }
    *result = comm;
    return ncclSuccess;
}

ncclResult_t nccl_init_settle(ncclComm_t comm, ncclComm_t *handle)
{
    clique_t *clique = comm->clique;
    if (!blocks(comm)) {
        return ncclInProgress;
    }
    if (!clique->ready && clique->result == ncclSuccess) {
        wait_on(&clique->arriving);
    }
    comm->polls = 0;
    if (clique->result != ncclSuccess) {
        object_bury(&comm->object);
        *handle = NULL;
    }
    return clique->result;
}

static ncclResult_t init(ncclComm_t *handle, int ranks, const ncclUniqueId *id, int rank,
                         const ncclConfig_t *config)
{
    ncclComm_t comm = NULL;
    *handle = NULL;
    standin_lock();
    ncclResult_t error = join(id, ranks, rank, config, &comm);
    if (error == ncclSuccess) {
        *handle = comm;
        error =
            nccl_in_group() ? nccl_group_add_init(comm, handle) : nccl_init_settle(comm, handle);
    }
    standin_unlock();
    return error;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    ncclConfig_t values = NCCL_CONFIG_INITIALIZER;
    ncclResult_t error = standin_enter_nccl("ncclCommInitRankConfig");
    if (error == ncclSuccess && config != NULL) {
        error = check_config(config);
        values = *config;
    }
    if (error == ncclSuccess) {
        error = init(comm, ranks, &id, rank, &values);
    }
    if (error != ncclSuccess && error != ncclInProgress) {
        nccl_group_fail(error);
    }
    return error;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    const ncclConfig_t values = NCCL_CONFIG_INITIALIZER;
    ncclResult_t error = standin_enter_nccl("ncclCommInitRank");
    if (error == ncclSuccess) {
        error = init(comm, ranks, &id, rank, &values);
    }
    if (error != ncclSuccess) {
        nccl_group_fail(error);
    }
    return error;
}

/* ---- the end ---- */

/* Locked. Those who wait for all ranks to leave count one more that does. */
static void leave(ncclComm_t comm)
{
    clique_t *clique = comm->clique;
    if (!comm->leaving) {
        comm->leaving = true;
        clique->left++;
        scheduler_activity();
    }
    if (clique->left >= clique->ranks || comm->aborted) {
        sleeper_wake(&clique->departing, UINT64_MAX);
    }
}

static bool anyone_aborted(const clique_t *clique)
{
    for (int rank = 0; rank < clique->ranks; rank++) {
        if (clique->comms[rank] != NULL && clique->comms[rank]->aborted) {
            return true;
        }
    }
    return false;
}

/* Locked. What is under way ends, then all ranks meet. */
static void depart(ncclComm_t comm)
{
    clique_t *clique = comm->clique;
    if (comm->first != NULL) {
        wait_on(&comm->sleepers);
    }
    leave(comm);
    if (clique->left < clique->ranks && clique->result == ncclSuccess && !anyone_aborted(clique)) {
        wait_on(&clique->departing);
    }
}

ncclResult_t nccl_find(ncclComm_t handle, const char *function, ncclComm_t *comm)
{
    *comm = object_find(handle, OBJECT_COMM, function);
    return *comm != NULL ? ncclSuccess : ncclInvalidArgument;
}

/*
 * Locked. Aborting frees memory of the device, which waits for all that runs there, other
 * communicators' operations too (NVIDIA/nccl, pull request 564): outside a group at once, in one
 * when all of its communicators have been told, at its end.
 */
void nccl_abort_settle(int device)
{
    for (clique_t *clique = cliques; clique != NULL;) {
        ncclComm_t busy = NULL;
        for (int rank = 0; rank < clique->ranks && busy == NULL; rank++) {
            ncclComm_t comm = clique->comms[rank];
            const bool waits = comm != NULL && comm->device == device && comm->first != NULL;
            busy = waits && !comm->aborted ? comm : NULL;
        }
        if (busy != NULL) {
            wait_on(&busy->sleepers);
        }
        clique = busy != NULL ? cliques : clique->next; /* anything may have changed */
    }
}

/* Made to fail, these have released the communicator (without waiting for the others). */
static ncclResult_t end(ncclComm_t handle, const char *function, bool abort, bool release)
{
    ncclComm_t comm;
    const ncclResult_t verdict = standin_enter_nccl(function);
    standin_lock();
    ncclResult_t error = nccl_find(handle, function, &comm);
    if (error == ncclSuccess) {
        if (abort || verdict != ncclSuccess) {
            nccl_abort_operations(comm);
            leave(comm);
            if (!abort || verdict != ncclSuccess) {
                /* released by the failure */
            } else if (nccl_in_group()) {
                nccl_group_add_abort(comm->device);
            } else {
                nccl_abort_settle(comm->device);
            }
        } else if (release || blocks(comm)) {
            depart(comm);
        } else {
            leave(comm);
            error = ncclInProgress;
        }
        if (release) {
            object_bury(&comm->object);
        }
    }
    standin_unlock();
    return verdict != ncclSuccess ? verdict : error;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    return end(comm, "ncclCommFinalize", false, false);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    return end(comm, "ncclCommDestroy", false, true);
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    return end(comm, "ncclCommAbort", true, true);
}

/* ---- deadlock and reset ---- */

bool nccl_waiting(void)
{
    return waiting > 0;
}

void nccl_give_up(void)
{
    for (clique_t *clique = cliques; clique != NULL; clique = clique->next) {
        if (clique->arriving != NULL) {
            clique->result = ncclSystemError;
            sleeper_wake(&clique->arriving, UINT64_MAX);
        }
        sleeper_wake(&clique->departing, UINT64_MAX);
    }
}

void nccl_reset(void)
{
    while (cliques != NULL) {
        clique_t *clique = cliques;
        cliques = clique->next;
        free(clique->comms);
        free(clique->queues);
        free(clique);
    }
}

const clique_t *nccl_first_clique(void)
{
    return cliques;
}
