/*
 * The thread that runs operations: which one next, how long to wait for more, and what to do when
 * nothing can move any more.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    HOLD_NSEC = 3000000,   /* the longest that nothing runs although something could */
    POLL_MIN_NSEC = 20000, /* between two looks at a value that an operation waits for */
    POLL_MAX_NSEC = 500000,
    EPOCH_MAX = 96,      /* picks for which the same streams starve */
    STUBBORN_ONE_IN = 4, /* seeds for which they do to the end */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work; /* for the scheduler */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static op_t **ready;
static size_t ready_count;
static size_t ready_capacity;

static uint64_t pending;    /* operations in streams */
static uint64_t orders;     /* operations enqueued */
static uint64_t operations; /* that have run */
static int sleeping;        /* host threads in the stand-in */
static sleeper_t *idlers;   /* who wait for pending == 0 */
static int64_t active_nsec; /* when something last happened */

static uint64_t seed;
static uint64_t random_states[2]; /* of host threads, of the scheduler: one's draws leave the
                                     other's alone */
static _Thread_local bool is_scheduler;
static uint64_t epoch;      /* picks left before other streams starve */
static bool stubborn;       /* they never do: some orders need a stream to be slow for long */
static uint64_t epoch_salt; /* 0: every ready operation is as likely */
static int64_t held_until;  /* nothing runs before, unless somebody sleeps; 0: not held */

void standin_lock(void)
{
    pthread_mutex_lock(&lock);
}

void standin_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int64_t now_nsec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* splitmix64's finaliser (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void scheduler_seed(uint64_t wanted)
{
    seed = wanted;
    random_states[0] = wanted;
    random_states[1] = ~wanted;
    epoch = 0;
    stubborn = mix(wanted) % STUBBORN_ONE_IN == 0;
    held_until = 0;
    operations = 0;
}

uint64_t scheduler_random(uint64_t below)
{
    if (seed == 0) {
        return 0;
    }
    uint64_t *state = &random_states[is_scheduler];
    *state += UINT64_C(0x9E3779B97F4A7C15);
    return mix(*state) % below;
}

uint64_t scheduler_pending(void)
{
    return pending;
}

void scheduler_count(int change)
{
    pending += (uint64_t)(int64_t)change;
    if (pending == 0) {
        sleeper_wake(&idlers, UINT64_MAX);
    }
}

uint64_t scheduler_next_order(void)
{
    return ++orders;
}

void scheduler_activity(void)
{
    active_nsec = now_nsec();
}

void scheduler_wake(void)
{
    pthread_cond_signal(&work);
}

unsigned long standin_operations(void)
{
    standin_lock();
    const uint64_t count = operations;
    standin_unlock();
    return count;
}

/* ---- host threads that wait ---- */

void scheduler_sleep(sleeper_t *sleeper, sleeper_t **list)
{
    static _Thread_local pthread_cond_t mine = PTHREAD_COND_INITIALIZER;
    sleeper->wake = &mine;
    sleeper->woken = false;
    sleeper->next = *list;
    *list = sleeper;
    sleeping++;
    scheduler_activity();
    scheduler_wake();
    while (!sleeper->woken) {
        pthread_cond_wait(&mine, &lock);
    }
    sleeping--;
}

void sleeper_wake(sleeper_t **list, uint64_t reached)
{
    while (*list != NULL) {
        sleeper_t *sleeper = *list;
        if (sleeper->target > reached) {
            list = &sleeper->next;
            continue;
        }
        *list = sleeper->next;
        sleeper->woken = true;
        pthread_cond_signal(sleeper->wake);
    }
}

void standin_drain(void)
{
    standin_lock();
    if (pending > 0) {
        sleeper_t sleeper = {.target = 0};
        scheduler_sleep(&sleeper, &idlers);
    }
    standin_unlock();
}

/* ---- ready operations ---- */

void op_make_ready(op_t *op)
{
    op_unblock(op);
    if (ready_count == ready_capacity) {
        ready_capacity = ready_capacity > 0 ? 2 * ready_capacity : 1024;
        ready = realloc(ready, ready_capacity * sizeof(*ready));
        if (ready == NULL) {
            abort(); /* a test double has no better answer */
        }
    }
    op->state = OP_READY;
    ready[ready_count++] = op;
    scheduler_wake();
}

/* How long an operation's turn is put off: the largest value is picked. */
static uint64_t favour(const op_t *op)
{
    if (seed == 0) {
        return UINT64_MAX - op->order;
    }
    return mix(epoch_salt + op->stream->object.number * UINT64_C(0x9E3779B97F4A7C15));
}

static op_t *pick(void)
{
    if (seed != 0 && epoch-- == 0) {
        epoch = stubborn ? UINT64_MAX : 1 + scheduler_random(EPOCH_MAX);
        epoch_salt = !stubborn && scheduler_random(4) == 0 ? 0 : scheduler_random(UINT64_MAX) | 1;
    }
    size_t best = 0;
    if (seed != 0 && epoch_salt == 0) {
        best = scheduler_random(ready_count);
    } else {
        for (size_t i = 1; i < ready_count; i++) {
            if (favour(ready[i]) > favour(ready[best])) {
                best = i;
            }
        }
    }
    op_t *op = ready[best];
    ready[best] = ready[--ready_count];
    return op;
}

/* Runs what the operation is, without the lock. */
static void call(op_t *op)
{
    int error = 0;
    standin_unlock();
    device_set_current(op->device);
    const bool fails = standin_operation_fails(op->what, &error);
    if (!fails) {
        standin_in_operation(op->what);
        op->run(op_argument(op));
        standin_in_operation(NULL);
    }
    standin_lock();
    if (fails) {
        device_break(op->device, error != 0 ? (cudaError_t)error : cudaErrorLaunchFailure);
    }
}

static void run(op_t *op)
{
    op->state = OP_RUNNING;
    operations++;
    scheduler_activity();
    switch (op->kind) {
    case OP_RUN:
    case OP_HOST:
        if (!op->skip) {
            call(op);
        }
        op_complete(op);
        break;
    case OP_TRANSFER:
        standin_unlock();
        nccl_transfer_run(op);
        standin_lock();
        nccl_transfer_done(op);
        break;
    case OP_GRAPH:
        graph_arrive(op);
        break;
    default:
        op_complete(op);
        break;
    }
}

/* ---- waiting for more ---- */

static void wait_until(int64_t nsec)
{
    const struct timespec end = {.tv_sec = nsec / 1000000000, .tv_nsec = nsec % 1000000000};
    pthread_cond_timedwait(&work, &lock, &end);
}

/* By the seed, nothing runs for a moment, so that hosts that do not wait see stale data. */
static bool held(void)
{
    if (held_until == 0 || sleeping > 0 || now_nsec() >= held_until) {
        held_until = 0;
        return false;
    }
    wait_until(held_until);
    return true;
}

static void wait_for_work(void)
{
    static int64_t pause = POLL_MIN_NSEC;
    const int64_t now = now_nsec();
    const double patience = standin_settings.deadlock_sec != 0 ? standin_settings.deadlock_sec : 10;
    const bool watched = sleeping > 0 && (pending > 0 || nccl_waiting()) && patience > 0;
    const int64_t deadline = active_nsec + (int64_t)(patience * 1e9);
    if (watched && now >= deadline) {
        deadlock_report();
        scheduler_activity();
        return;
    }
    if (!op_values_blocked()) {
        pause = POLL_MIN_NSEC;
        if (watched) {
            wait_until(deadline);
        } else {
            pthread_cond_wait(&work, &lock);
        }
        return;
    }
    wait_until(now + pause);
    pause = pause < POLL_MAX_NSEC ? 2 * pause : POLL_MAX_NSEC;
}

static void *schedule(void *unused)
{
    (void)unused;
    is_scheduler = true;
    standin_lock();
    for (;;) {
        op_poll_values();
        if (ready_count == 0) {
            wait_for_work();
            if (ready_count > 0 && scheduler_random(4) != 0) {
                held_until = now_nsec() + 1 + (int64_t)scheduler_random(HOLD_NSEC);
            }
        } else if (!held()) {
            run(pick());
        }
    }
    return NULL;
}

static void start(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&work, &attributes);
    pthread_condattr_destroy(&attributes);
    standin_lock();
    standin_configure(NULL);
    standin_unlock();
    pthread_t thread;
    if (pthread_create(&thread, NULL, schedule, NULL) != 0) {
        abort();
    }
    pthread_detach(thread);
}

void scheduler_start(void)
{
    pthread_once(&once, start);
}
