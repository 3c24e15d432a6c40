/*
 * Plain MPI, for dualpipe_bench p2p: the same bytes by MPI's own calls, measured before the
 * communicator's thread begins its work.
 *
 * At most one thread of a rank may touch MPI, and MPI can be initialised once. So this stands
 * between: the program's MPI_Init_thread is defined here, as MPI's profiling interface allows (MPI
 * 3.1, 14.2), and, where something was asked for, measures right after the real one, on the
 * communicator's own thread.
 */
#ifndef DPR_APPS_BENCH_PLAIN_H
#define DPR_APPS_BENCH_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* How messages of one size are sent. */
typedef enum bench_pattern {
    BENCH_LATENCY,   /* to and fro; seconds one way */
    BENCH_ONE_WAY,   /* rank 0 to rank 1, one after another; seconds a message */
    BENCH_BOTH_WAYS, /* at the same time; seconds a message of either */
} bench_pattern_t;

enum { BENCH_PATTERNS = 3 };

enum { BENCH_MAX_MPI_SIZES = 32 };

/* What to measure between ranks 0 and 1, and the medians, on every rank. */
typedef struct bench_plain_mpi {
    int sizes; /* 0: nothing */
    size_t bytes[BENCH_MAX_MPI_SIZES];
    int messages; /* of each measurement */
    int repeats;
    int warm_up;
    double sec[BENCH_PATTERNS][BENCH_MAX_MPI_SIZES];
    bool done;    /* false under one rank, or where ranks are threads */
    bool correct; /* what arrived was what was sent */
} bench_plain_mpi_t;

/* Asks for it: call before dpr_comm_mpi_create. `request` is filled by then and outlives it. */
void bench_plain_mpi_request(bench_plain_mpi_t *request);

/* How often a message of `bytes` is sent in one measurement, so that each takes about as long. */
int bench_messages_of(int messages, size_t bytes);

#endif
