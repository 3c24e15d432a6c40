/*
 * Channels of dualpipe_bench p2p. Every measurement begins when a first message has come through,
 * at which both ends meet, and is timed by events where messages arrive.
 */
#ifndef DPR_APPS_BENCH_LINES_H
#define DPR_APPS_BENCH_LINES_H

#include "apps/bench_rig.h"

/* One channel at this rank, which may be neither end. */
typedef struct bench_line {
    int source;
    int destination;
    const char *kind;
    dpr_comm_channel_t *channel;
    dpr_stream_t *stream;
    dpr_event_t *begin;
    dpr_event_t *end;
    char *memory; /* device: what is sent, or received */
} bench_line_t;

/* What all lines of a rank share. */
typedef struct bench_lines {
    const bench_rank_t *self;
    bench_machine_t *machine;
    size_t most_bytes; /* of one message */
    int messages;      /* a measurement, fewer of large ones */
    char *host;        /* pinned, [most_bytes] */
} bench_lines_t;

/* Opens the channel from line->source to line->destination; collective over all ranks. Close it
 * also where opening failed; collective among its two ends. */
dpr_status_t bench_line_open(bench_lines_t *lines, bench_line_t *line);
void bench_line_close(bench_lines_t *lines, bench_line_t *line);

/*
 * Messages of `bytes` one behind the other on `count_of_lines` lines at once; collective over all
 * ranks. secs[line]: seconds a message, at its receiver, 0 elsewhere; *most: the slowest line's, on
 * every rank.
 */
dpr_status_t bench_lines_play(bench_lines_t *lines, bench_line_t *line, int count_of_lines,
                              size_t bytes, double *secs, double *most);

/* Messages to and fro on one stream, each waiting for the one before; *sec is one way. */
dpr_status_t bench_lines_play_latency(bench_lines_t *lines, bench_line_t *there, bench_line_t *back,
                                      size_t bytes, double *sec);

/* What arrived last is what was sent; then forgets it. Errors: DPR_ERR_MISMATCH. */
dpr_status_t bench_line_check(bench_lines_t *lines, bench_line_t *line, size_t bytes);

#endif
