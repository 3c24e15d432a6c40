/* MPI_Send and MPI_Recv between ranks 0 and 1; the others wait without taking a core. */
#include "apps/bench_plain.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "apps/bench.h"

static bench_plain_mpi_t *requested;

void bench_plain_mpi_request(bench_plain_mpi_t *request)
{
    requested = request;
}

int bench_messages_of(int messages, size_t bytes)
{
    const size_t most = (size_t)32 << 20; /* bytes in all */
    const size_t fit = bytes > 0 ? most / bytes : most;
    const size_t least = 4;
    const size_t wanted = (size_t)messages;
    return (int)(fit >= wanted ? wanted : fit > least ? fit : least < wanted ? least : wanted);
}

typedef struct plan {
    int rank;
    int peer;
    int count;
    int bytes;
    char *out;
    char *in;
} plan_t;

static void play_latency(const plan_t *plan)
{
    for (int i = 0; i < plan->count; i++) {
        if (plan->rank == 0) {
            MPI_Send(plan->out, plan->bytes, MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD);
        }
        MPI_Recv(plan->in, plan->bytes, MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (plan->rank == 1) {
            MPI_Send(plan->out, plan->bytes, MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD);
        }
    }
}

/* The last message is answered, so that the sender's time holds the whole way. */
static void play_one_way(const plan_t *plan)
{
    for (int i = 0; i < plan->count; i++) {
        if (plan->rank == 0) {
            MPI_Send(plan->out, plan->bytes, MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD);
        } else {
            MPI_Recv(plan->in, plan->bytes, MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        }
    }
    if (plan->rank == 0) {
        MPI_Recv(plan->in, 0, MPI_BYTE, plan->peer, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Send(plan->out, 0, MPI_BYTE, plan->peer, 2, MPI_COMM_WORLD);
    }
}

static void play_both_ways(const plan_t *plan)
{
    for (int i = 0; i < plan->count; i++) {
        MPI_Sendrecv(plan->out, plan->bytes, MPI_BYTE, plan->peer, 1, plan->in, plan->bytes,
                     MPI_BYTE, plan->peer, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
}

static double play(const plan_t *plan, bench_pattern_t pattern)
{
    const double begin = bench_now_sec();
    switch (pattern) {
    case BENCH_LATENCY:
        play_latency(plan);
        return (bench_now_sec() - begin) / (2.0 * plan->count);
    case BENCH_ONE_WAY:
        play_one_way(plan);
        return (bench_now_sec() - begin) / plan->count;
    default:
        play_both_ways(plan);
        return (bench_now_sec() - begin) / plan->count;
    }
}

/* What this rank received is the other one's pattern. */
static bool arrived(const plan_t *plan, bench_pattern_t pattern)
{
    if (pattern == BENCH_ONE_WAY && plan->rank == 0) {
        return true;
    }
    for (int i = 0; i < plan->bytes; i++) {
        if (plan->in[i] != (char)(i * 7 + plan->peer + 1)) {
            return false;
        }
    }
    return true;
}

static void measure_size(bench_plain_mpi_t *request, int size, plan_t *plan, double *values)
{
    plan->bytes = (int)request->bytes[size];
    plan->count = bench_messages_of(request->messages, request->bytes[size]);
    for (int pattern = 0; pattern < BENCH_PATTERNS; pattern++) {
        memset(plan->in, 0, (size_t)plan->bytes);
        for (int i = -request->warm_up; i < request->repeats; i++) {
            const double sec = play(plan, (bench_pattern_t)pattern);
            if (i >= 0) {
                values[i] = sec;
            }
        }
        request->sec[pattern][size] = bench_spread_of(values, (size_t)request->repeats).median;
        request->correct = request->correct && arrived(plan, (bench_pattern_t)pattern);
    }
}

static bool measure_pair(bench_plain_mpi_t *request, int rank)
{
    size_t most = 1;
    for (int i = 0; i < request->sizes; i++) {
        most = request->bytes[i] > most ? request->bytes[i] : most;
    }
    plan_t plan = {.rank = rank, .peer = 1 - rank, .out = malloc(most), .in = malloc(most)};
    double *values = malloc((size_t)request->repeats * sizeof *values);
    const bool has_memory = plan.out != NULL && plan.in != NULL && values != NULL;
    for (size_t i = 0; i < most && has_memory; i++) {
        plan.out[i] = (char)((int)i * 7 + rank + 1);
    }
    for (int i = 0; i < request->sizes && has_memory; i++) {
        measure_size(request, i, &plan, values);
    }
    free(values);
    free(plan.in);
    free(plan.out);
    return has_memory;
}

/* Ranks that only wait must not take a core from those that measure. */
static void wait_for_all(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    MPI_Request barrier;
    int over = 0;
    MPI_Ibarrier(MPI_COMM_WORLD, &barrier);
    for (;;) {
        MPI_Test(&barrier, &over, MPI_STATUS_IGNORE);
        if (over != 0) {
            return;
        }
        nanosleep(&pause, NULL);
    }
}

static void measure(bench_plain_mpi_t *request)
{
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks < 2) {
        return;
    }
    request->correct = true;
    request->done = rank > 1 || measure_pair(request, rank);
    wait_for_all();
    int verdict[2] = {request->correct, request->done};
    MPI_Allreduce(MPI_IN_PLACE, verdict, 2, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
    MPI_Bcast(request, (int)sizeof *request, MPI_BYTE, 0, MPI_COMM_WORLD);
    request->correct = verdict[0] != 0;
    request->done = verdict[1] != 0;
}

/* Takes the place of MPI's own in this program (see the header). */
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    const int error = PMPI_Init_thread(argc, argv, required, provided);
    if (error == MPI_SUCCESS && requested != NULL && requested->sizes > 0) {
        measure(requested);
    }
    return error;
}
