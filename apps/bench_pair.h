/*
 * Two stages of a rank for dualpipe_bench overlap, with the buffers of a forward and of a backward,
 * and traffic to a neighbour.
 */
#ifndef DPR_APPS_BENCH_PAIR_H
#define DPR_APPS_BENCH_PAIR_H

#include "apps/bench_rig.h"

typedef enum bench_op {
    BENCH_OP_F,
    BENCH_OP_B,
    BENCH_OP_FB,     /* on one stream */
    BENCH_OP_FB_TWO, /* the backward on a second compute stream */
} bench_op_t;

enum { BENCH_OPS = 4, BENCH_PAIR_STAGES = 4 };

extern const char *const bench_op_names[BENCH_OPS];

/* Stages 1 and 2 of four: the forward's and the backward's. */
typedef struct bench_pair {
    bench_machine_t *machine;
    dpr_model_config_t model;
    dpr_stream_t *stream;
    dpr_stream_t *second;
    dpr_event_t *begin;
    dpr_event_t *end;
    dpr_event_t *joined; /* of the second stream */
    dpr_stage_t *stages[2];
    dpr_stage_buffers_t buffers[2];
    void *memory[2]; /* device: each stage's buffers, one behind the other */
    void *host;      /* pinned: room for one buffer of activations, twice */
} bench_pair_t;

/* Set up with random activations; not collective. Close it also where opening failed. */
dpr_status_t bench_pair_open(bench_machine_t *machine, const dpr_train_config_t *config,
                             bench_pair_t *pair);
void bench_pair_close(bench_pair_t *pair);

size_t bench_pair_message_bytes(const bench_pair_t *pair);

/* Plays one op and waits for it; by the device's clock. */
dpr_status_t bench_pair_time(bench_pair_t *pair, bench_op_t op, double *sec);

/* F&B gives the bits that F and B give one after the other, on one stream and on two. Errors:
 * DPR_ERR_MISMATCH. */
dpr_status_t bench_pair_check(bench_pair_t *pair);

/* Messages to the rank that differs in the last bit of its number, and back; else copies. */
typedef struct bench_traffic {
    bench_machine_t *machine;
    size_t bytes;
    int rank;
    int peer; /* -1: none */
    dpr_comm_channel_t *out;
    dpr_comm_channel_t *in;
    dpr_stream_t *streams[2]; /* out, in */
    unsigned char *memory[2]; /* device */
    unsigned char *host;      /* pinned */
} bench_traffic_t;

/* Collective. Close it also where opening failed, on all ranks. */
dpr_status_t bench_traffic_open(bench_machine_t *machine, const bench_rank_t *self, size_t bytes,
                                bench_traffic_t *traffic);
void bench_traffic_close(bench_traffic_t *traffic);

/* `count` messages each way; the same on both sides. */
dpr_status_t bench_traffic_enqueue(bench_traffic_t *traffic, int count);
dpr_status_t bench_traffic_wait(bench_traffic_t *traffic);
/* What arrived last is what was sent. Errors: DPR_ERR_MISMATCH. */
dpr_status_t bench_traffic_check(bench_traffic_t *traffic);

#endif
