/*
 * The MPI backend: creating and destroying it, with the thread that alone touches MPI.
 *
 *      create:   start thread --> [MPI_Init_thread, communicators] --> started
 *      ...                        [progress loop, mpi_progress.c]
 *      destroy:  call leave   --> [barrier; loop ends; shut what is open; MPI_Finalize] --> join
 *
 * The thread initialises MPI itself, which makes it MPI's main thread: MPI_THREAD_FUNNELED is
 * enough.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/mpi/mpi_impl.h"

enum {
    CHUNK_BYTES = 1 << 30, /* MPI counts in int */
    TIMER_SLACK_NS = 1000, /* else the kernel rounds the loop's short pauses up by 50 us */
    ABORT_PATIENCE_SEC = 2,
};

/* MPI can be initialised once in a process's life. */
static atomic_flag created_once = ATOMIC_FLAG_INIT;

static dpr_status_t mpi_check(int error, const char *what)
{
    if (error == MPI_SUCCESS) {
        return DPR_OK;
    }
    char text[MPI_MAX_ERROR_STRING];
    return dpr_fail(DPR_ERR_COMM, "%s failed: %s", what, dpr_mpi_error_text(error, text));
}

static dpr_status_t duplicate_world(MPI_Comm *duplicate)
{
    DPR_TRY(mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, duplicate), "MPI_Comm_dup"));
    return mpi_check(MPI_Comm_set_errhandler(*duplicate, MPI_ERRORS_RETURN),
                     "MPI_Comm_set_errhandler");
}

static dpr_status_t find_node(dpr_comm_mpi_t *comm)
{
    MPI_Comm node;
    DPR_TRY(mpi_check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, comm->base.rank,
                                          MPI_INFO_NULL, &node),
                      "MPI_Comm_split_type"));
    MPI_Comm_rank(node, &comm->base.node_rank);
    MPI_Comm_size(node, &comm->base.node_size);
    const dpr_status_t status = dpr_mpi_bells_open(comm, node);
    MPI_Comm_free(&node);
    return status;
}

/* "Open MPI v4.1.4, package: ..." up to the first comma or line's end. */
static void read_library(char *name, size_t size)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    if (MPI_Get_library_version(text, &length) == MPI_SUCCESS) {
        snprintf(name, size, "%.*s", (int)strcspn(text, ",\n"), text);
    } else {
        snprintf(name, size, "MPI");
    }
}

static void describe(const dpr_comm_t *comm, char *text, size_t size)
{
    snprintf(text, size, "%s", dpr_comm_mpi(comm)->library);
}

static dpr_status_t set_up(dpr_comm_mpi_t *comm)
{
    int initialized = 0;
    int provided = MPI_THREAD_SINGLE;
    MPI_Initialized(&initialized);
    if (initialized) {
        return dpr_fail(DPR_ERR_COMM, "MPI was initialised before; leave that to "
                                      "dpr_comm_mpi_create");
    }
    DPR_TRY(
        mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
    if (provided < MPI_THREAD_FUNNELED) {
        return dpr_fail(DPR_ERR_COMM, "this MPI supports no threads; it must allow "
                                      "MPI_THREAD_FUNNELED");
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    read_library(comm->library, sizeof comm->library);
    MPI_Comm_rank(MPI_COMM_WORLD, &comm->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &comm->base.size);
    DPR_TRY(find_node(comm));
    DPR_TRY(duplicate_world(&comm->channels));
    DPR_TRY(duplicate_world(&comm->groups));
    DPR_TRY(duplicate_world(&comm->calls));
    int *largest_tag;
    int found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest_tag, &found);
    comm->largest_tag = found ? *largest_tag : 32767; /* the least the standard allows */
    return dpr_mpi_slots_take(comm, DPR_MPI_CALL_PARTS, dpr_mpi_call_slot_done, comm,
                              comm->call_slots);
}

static void tear_down(dpr_comm_mpi_t *comm)
{
    for (dpr_mpi_object_t *object = comm->open.next; object != &comm->open; object = object->next) {
        object->shut(object);
    }
    dpr_mpi_slots_return(comm, DPR_MPI_CALL_PARTS, comm->call_slots);
    dpr_mpi_bells_close(comm);
    MPI_Comm_free(&comm->calls);
    MPI_Comm_free(&comm->groups);
    MPI_Comm_free(&comm->channels);
    MPI_Finalize();
}

static void *progress_main(void *argument)
{
    dpr_comm_mpi_t *comm = argument;
    (void)pthread_setname_np(pthread_self(), "dpr-mpi");
    (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    comm->start_status = set_up(comm);
    const bool running = comm->start_status == DPR_OK;
    dpr_futex_set(&comm->started, 1);
    if (running) { /* else comm is gone */
        dpr_mpi_progress_run(comm);
        dpr_futex_await(&comm->released, 1);
        tear_down(comm);
    }
    return NULL;
}

void dpr_mpi_object_enter(dpr_comm_mpi_t *comm, dpr_mpi_object_t *object)
{
    object->previous = comm->open.previous;
    object->next = &comm->open;
    object->previous->next = object;
    object->next->previous = object;
}

void dpr_mpi_object_leave(dpr_mpi_object_t *object)
{
    object->previous->next = object->next;
    object->next->previous = object->previous;
}

static void begin_close(dpr_comm_mpi_t *comm, void *arguments)
{
    dpr_mpi_object_t *object = arguments;
    object->shut(object);
    dpr_mpi_object_leave(object);
    dpr_mpi_call_answer(comm, DPR_OK);
}

void dpr_mpi_object_close(dpr_comm_mpi_t *comm, dpr_mpi_object_t *object)
{
    (void)dpr_mpi_call(comm, begin_close, NULL, object);
    object->release(object);
}

static void begin_leave(dpr_comm_mpi_t *comm, void *arguments)
{
    (void)arguments;
    comm->leaving = true;
    dpr_mpi_call_answer(comm, DPR_OK);
}

static void free_comm(dpr_comm_mpi_t *comm)
{
    free(comm->bells);
    free(comm->table.requests);
    free(comm->table.owners);
    free(comm->table.completed);
    free(comm->table.statuses);
    free(comm);
}

/*
 * Ranks wait for each other asleep before MPI_Finalize, which would wait in a spin. What is still
 * open is closed after that; an operation still under way ends with an error rather than hang its
 * stream.
 */
static void destroy(dpr_comm_t *base)
{
    dpr_comm_mpi_t *comm = dpr_comm_mpi(base);
    (void)dpr_mpi_barrier(base);
    (void)dpr_mpi_call(comm, begin_leave, NULL, comm);
    dpr_futex_set(&comm->released, 1); /* the bell, which that call has rung, may go */
    pthread_join(comm->thread, NULL);
    while (comm->open.next != &comm->open) {
        dpr_mpi_object_t *object = comm->open.next;
        dpr_mpi_object_leave(object);
        object->release(object);
    }
    free_comm(comm);
}

static void begin_abort(dpr_comm_post_t *post)
{
    dpr_comm_mpi_t *comm = (dpr_comm_mpi_t *)((char *)post - offsetof(dpr_comm_mpi_t, abort_post));
    MPI_Abort(MPI_COMM_WORLD, atomic_load(&comm->abort_code));
}

/* The progress thread calls MPI_Abort; should it be stuck, the launcher sees this process end. */
static _Noreturn void abort_job(dpr_comm_t *base, int exit_code)
{
    dpr_comm_mpi_t *comm = dpr_comm_mpi(base);
    if (!atomic_exchange(&comm->aborting, true)) {
        atomic_store(&comm->abort_code, exit_code);
        comm->abort_post.begin = begin_abort;
        if (pthread_equal(pthread_self(), comm->thread)) {
            begin_abort(&comm->abort_post);
        } else {
            dpr_mpi_post(comm, &comm->abort_post);
        }
    }
    struct timespec patience = {.tv_sec = ABORT_PATIENCE_SEC};
    while (nanosleep(&patience, &patience) != 0 && errno == EINTR) {
    }
    _exit(exit_code);
}

static const dpr_comm_ops_t mpi_ops = {
    .kind = "mpi",
    .destroy = destroy,
    .channel_open = dpr_mpi_channel_open,
    .channel_close = dpr_mpi_channel_close,
    .channel_send = dpr_mpi_channel_send,
    .channel_recv = dpr_mpi_channel_recv,
    .group_open = dpr_mpi_group_open,
    .group_close = dpr_mpi_group_close,
    .group_allreduce_sum = dpr_mpi_group_allreduce_sum,
    .barrier = dpr_mpi_barrier,
    .allgather = dpr_mpi_allgather,
    .gather = dpr_mpi_gather,
    .measure_link = dpr_mpi_measure_link,
    .describe = describe,
    .abort = abort_job,
};

dpr_status_t dpr_comm_mpi_create(dpr_comm_t **out)
{
    dpr_status_t status;
    dpr_comm_mpi_t *comm;
    if (atomic_flag_test_and_set(&created_once)) {
        return dpr_fail(DPR_ERR_COMM, "the MPI communicator can be created only once in a process");
    }
    DPR_TRY(dpr_calloc(1, sizeof *comm, &comm));
    comm->base.ops = &mpi_ops;
    comm->bell = &comm->own_bell;
    comm->bell_window = MPI_WIN_NULL;
    comm->chunk_bytes = CHUNK_BYTES;
    comm->open.next = &comm->open;
    comm->open.previous = &comm->open;
    const int error = pthread_create(&comm->thread, NULL, progress_main, comm);
    if (error != 0) {
        status = dpr_fail(DPR_ERR_SYSTEM, "cannot start the MPI thread: %s", strerror(error));
        goto free_comm;
    }
    dpr_futex_await(&comm->started, 1);
    DPR_TRY_GOTO(comm->start_status, join_thread);
    *out = &comm->base;
    return DPR_OK;

join_thread:
    pthread_join(comm->thread, NULL);
free_comm:
    free_comm(comm);
    return status;
}

void dpr_comm_mpi_set_spin(dpr_comm_t *comm, bool spin)
{
    if (comm->ops == &mpi_ops) { /* the choice is of no concern to other backends */
        atomic_store_explicit(&dpr_comm_mpi(comm)->spin, spin, memory_order_relaxed);
    }
}
