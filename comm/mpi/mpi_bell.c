/*
 * Bells: how a rank that has sent something to a rank of the same node wakes the thread that must
 * see it.
 *
 *      sender (any thread of any rank)              sleeper (the progress thread)
 *      send, or post                                asleep = 1
 *      if (exchange(asleep, 0) == 1)                look: posts, MPI
 *          wake                                     nothing: sleep while asleep == 1, at most a
 * pause
 *
 * Both write before they read, sequentially consistent, so either the sleeper sees what was sent or
 * the sender sees that it must wake. MPI may deliver later than it was asked to, so a bell is only
 * a hint: the pause ends the wait all the same.
 *
 * The bells lie in a window that MPI makes in the node's shared memory. Where it cannot, every rank
 * has one of its own, for posts alone, and the others are waited for with short pauses.
 */
#include <sched.h>
#include <stdlib.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"

/* The bells of the node's ranks, entered at their ranks in the world. */
static void enter_bells(dpr_comm_mpi_t *comm, MPI_Comm node)
{
    MPI_Group node_group;
    MPI_Group world_group;
    MPI_Comm_group(node, &node_group);
    MPI_Comm_group(MPI_COMM_WORLD, &world_group);
    for (int i = 0; i < comm->base.node_size; i++) {
        int rank;
        int unit;
        MPI_Aint bytes;
        dpr_mpi_bell_t *bell;
        MPI_Group_translate_ranks(node_group, 1, &i, world_group, &rank);
        if (MPI_Win_shared_query(comm->bell_window, i, &bytes, &unit, &bell) == MPI_SUCCESS) {
            comm->bells[rank] = bell;
        }
    }
    MPI_Group_free(&world_group);
    MPI_Group_free(&node_group);
}

dpr_status_t dpr_mpi_bells_open(dpr_comm_mpi_t *comm, MPI_Comm node)
{
    dpr_mpi_bell_t *bell;
    DPR_TRY(dpr_calloc((size_t)comm->base.size, sizeof(dpr_mpi_bell_t *), &comm->bells));
    MPI_Comm_set_errhandler(node, MPI_ERRORS_RETURN);
    if (comm->base.node_size == 1 ||
        MPI_Win_allocate_shared(sizeof *bell, 1, MPI_INFO_NULL, node, &bell, &comm->bell_window) !=
            MPI_SUCCESS) {
        comm->bell_window = MPI_WIN_NULL;
        return DPR_OK;
    }
    atomic_store(&bell->asleep, 0);
    MPI_Barrier(node); /* every bell is there before one is rung */
    comm->bell = bell;
    enter_bells(comm, node);
    return DPR_OK;
}

void dpr_mpi_bells_close(dpr_comm_mpi_t *comm)
{
    while (atomic_load(&comm->posting) != 0) { /* who has posted is still about to ring */
        (void)sched_yield();
    }
    if (comm->bell_window != MPI_WIN_NULL) {
        comm->bell = &comm->own_bell;
        MPI_Win_free(&comm->bell_window);
    }
}

void dpr_mpi_bell_arm(dpr_comm_mpi_t *comm)
{
    atomic_store(&comm->bell->asleep, 1);
}

void dpr_mpi_bell_disarm(dpr_comm_mpi_t *comm)
{
    atomic_store(&comm->bell->asleep, 0);
}

bool dpr_mpi_bell_wait(dpr_comm_mpi_t *comm, int64_t timeout_ns)
{
    dpr_futex_wait_shared(&comm->bell->asleep, 1, timeout_ns);
    return atomic_exchange(&comm->bell->asleep, 0) == 0;
}

static void ring(dpr_mpi_bell_t *bell)
{
    if (atomic_exchange(&bell->asleep, 0) == 1) {
        dpr_futex_wake_shared(&bell->asleep);
    }
}

void dpr_mpi_bell_ring_own(dpr_comm_mpi_t *comm)
{
    ring(comm->bell);
}

void dpr_mpi_bell_ring(const dpr_comm_mpi_t *comm, int rank)
{
    if (comm->bells[rank] != NULL) {
        ring(comm->bells[rank]);
    }
}

bool dpr_mpi_bell_reaches(const dpr_comm_mpi_t *comm, int rank)
{
    return comm->bells[rank] != NULL;
}

void dpr_mpi_count_moving(dpr_comm_mpi_t *comm, bool *counted, bool moving)
{
    comm->moving += (int)moving - (int)*counted;
    *counted = moving;
}
