/*
 * The progress thread's loop: posts in, requests polled, state machines stepped, and sleep between.
 *
 *             +-----------------------------------------------------------------------+
 *             v                                                                       |
 *        arm the bell --> take posts --> Testsome --> something moved? - yes: pause = 10 us
 *                                                           | no
 *                                                           +-- pending and spin: at once
 *                                                           +-- else wait for the bell, at most
 *                                                               `pause`, doubled each time up to
 *                                                                 200 us  while bytes are moving
 *                                                                   5 ms  while waiting for others
 *                                                                 100 ms  while nothing is pending
 *
 * The bell (mpi_bell.c) is rung by posts and, on one node, by ranks that have sent us something, so
 * a rank that waits for another sleeps until there is a reason to look. The pauses are for what no
 * bell announces: other nodes, and the steps inside MPI's own protocols. That is also why the
 * thread does not sleep for ever while nothing is pending: a send that MPI calls complete may only
 * have been copied to a queue inside MPI (a full socket, a full shared-memory queue), which moves
 * on when its sender calls MPI again. The beat of ten polls a second costs nothing that can be
 * measured and keeps that promise.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"

enum {
    FIRST_PAUSE_NS = 10 * 1000,
    LONGEST_MOVING_PAUSE_NS = 200 * 1000,
    LONGEST_WAITING_PAUSE_NS = 5 * 1000 * 1000,
    LONGEST_IDLE_PAUSE_NS = 100 * 1000 * 1000,
};

void dpr_mpi_post(dpr_comm_mpi_t *comm, dpr_comm_post_t *post)
{
    atomic_fetch_add(&comm->posting, 1);
    dpr_comm_post_t *head = atomic_load_explicit(&comm->inbox, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak(&comm->inbox, &head, post));
    dpr_mpi_bell_ring_own(comm);
    atomic_fetch_sub(&comm->posting, 1); /* from here on the communicator may be gone */
}

/* Takes the posts off, oldest first, and begins each; true if there was one. */
static bool take_posts(dpr_comm_mpi_t *comm)
{
    if (atomic_load_explicit(&comm->inbox, memory_order_relaxed) == NULL) {
        return false;
    }
    dpr_comm_post_t *newest = atomic_exchange(&comm->inbox, NULL);
    dpr_comm_post_t *oldest = NULL;
    while (newest != NULL) {
        dpr_comm_post_t *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        dpr_comm_post_t *next = oldest->next; /* begin may end the post, and it be used again */
        oldest->begin(oldest);
        oldest = next;
    }
    return true;
}

/* MPI cannot tell which request failed: every operation under way ends with an error. */
static void fail_everything(dpr_comm_mpi_t *comm, int error)
{
    char text[MPI_MAX_ERROR_STRING];
    dpr_fail(DPR_ERR_COMM, "polling MPI's requests failed: %s; no transfer can go on",
             dpr_mpi_error_text(error, text));
    for (dpr_mpi_object_t *object = comm->open.next; object != &comm->open; object = object->next) {
        object->shut(object);
    }
    (void)dpr_mpi_call_failed(comm, error);
}

/* One look at all requests; steps the owners of those that are complete. True if one was. */
static bool poll_requests(dpr_comm_mpi_t *comm)
{
    dpr_mpi_table_t *table = &comm->table;
    int completed = 0;
    const int result =
        MPI_Testsome(table->count, table->requests, &completed, table->completed, table->statuses);
    if (result != MPI_SUCCESS && result != MPI_ERR_IN_STATUS) {
        fail_everything(comm, result);
        return false;
    }
    if (completed == MPI_UNDEFINED) { /* no active request: Testsome has not even looked around */
        int found;
        (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm->calls, &found, MPI_STATUS_IGNORE);
        return false;
    }
    for (int i = 0; i < completed; i++) {
        const dpr_mpi_slot_owner_t *slot = &table->owners[table->completed[i]];
        const MPI_Status *status = &table->statuses[i];
        if (slot->done != NULL) { /* fail_everything may have returned it meanwhile */
            slot->done(slot->owner, slot->part,
                       result == MPI_ERR_IN_STATUS ? status->MPI_ERROR : MPI_SUCCESS, status);
        }
    }
    return completed > 0;
}

static int64_t longest_pause_ns(const dpr_comm_mpi_t *comm)
{
    return comm->pending == 0  ? LONGEST_IDLE_PAUSE_NS
           : comm->moving == 0 ? LONGEST_WAITING_PAUSE_NS
                               : LONGEST_MOVING_PAUSE_NS;
}

void dpr_mpi_progress_run(dpr_comm_mpi_t *comm)
{
    int64_t pause_ns = FIRST_PAUSE_NS;
    while (!comm->leaving) {
        const bool spin =
            comm->pending > 0 && atomic_load_explicit(&comm->spin, memory_order_relaxed);
        if (!spin) {
            dpr_mpi_bell_arm(comm); /* before looking, so that nothing slips in between */
        }
        const bool began = take_posts(comm);
        if (poll_requests(comm) || began) {
            pause_ns = FIRST_PAUSE_NS;
        } else if (!spin) {
            const int64_t longest_ns = longest_pause_ns(comm);
            pause_ns = pause_ns < longest_ns ? pause_ns : longest_ns;
            pause_ns = dpr_mpi_bell_wait(comm, pause_ns) ? FIRST_PAUSE_NS : 2 * pause_ns;
        }
    }
    dpr_mpi_bell_disarm(comm);
}

static dpr_status_t table_grow(dpr_mpi_table_t *table, int needed)
{
    const size_t count = (size_t)needed;
    DPR_TRY(dpr_reserve(&table->requests, &table->capacities[0], count, sizeof *table->requests));
    DPR_TRY(dpr_reserve(&table->owners, &table->capacities[1], count, sizeof *table->owners));
    DPR_TRY(dpr_reserve(&table->completed, &table->capacities[2], count, sizeof *table->completed));
    DPR_TRY(dpr_reserve(&table->statuses, &table->capacities[3], count, sizeof *table->statuses));
    return DPR_OK;
}

dpr_status_t dpr_mpi_slots_take(dpr_comm_mpi_t *comm, int count, dpr_mpi_done_fn_t done,
                                void *owner, int *slots)
{
    dpr_mpi_table_t *table = &comm->table;
    DPR_TRY(table_grow(table, table->count + count)); /* more than needed where some are free */
    int slot = 0;
    for (int part = 0; part < count; part++) {
        while (slot < table->count && table->owners[slot].done != NULL) {
            slot++;
        }
        if (slot == table->count) {
            table->count++;
        }
        table->requests[slot] = MPI_REQUEST_NULL;
        table->owners[slot] = (dpr_mpi_slot_owner_t){.done = done, .owner = owner, .part = part};
        slots[part] = slot;
    }
    return DPR_OK;
}

void dpr_mpi_slots_return(dpr_comm_mpi_t *comm, int count, const int *slots)
{
    dpr_mpi_table_t *table = &comm->table;
    for (int part = 0; part < count; part++) {
        MPI_Request *request = &table->requests[slots[part]];
        if (*request != MPI_REQUEST_NULL) {
            int over = 0;
            (void)MPI_Request_get_status(*request, &over, MPI_STATUS_IGNORE);
            if (!over) {
                (void)MPI_Cancel(request); /* a send may refuse, and is then left to MPI */
                (void)MPI_Test(request, &over, MPI_STATUS_IGNORE);
            }
            if (*request != MPI_REQUEST_NULL) {
                (void)MPI_Request_free(request);
            }
        }
        *request = MPI_REQUEST_NULL;
        table->owners[slots[part]] = (dpr_mpi_slot_owner_t){.done = NULL};
    }
}

const char *dpr_mpi_error_text(int error, char *text)
{
    int length;
    if (MPI_Error_string(error, text, &length) != MPI_SUCCESS) {
        strcpy(text, "unknown error");
    }
    return text;
}
