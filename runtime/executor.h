/*
 * The executor: plays one rank's part of an op graph on the device's streams.
 *
 * At creation the rank's nodes become a flat list of commands in an order that respects every local
 * edge, with buffers, streams, channels and events resolved:
 *
 *     command  =  wait for events of other streams;  record start;  do it;  record end
 *
 * A command waits for exactly those edges of its node whose source runs on this rank in another
 * stream; edges within a stream are kept by its order, edges from another rank arrive as transfers.
 * Receives stand as early as their buffer slot allows, sends right after their producer.
 *
 * In a step nothing is allocated or locked and the host never waits for the device (but for room in
 * a stream's queue).
 */
#ifndef DPR_RUNTIME_EXECUTOR_H
#define DPR_RUNTIME_EXECUTOR_H

#include "comm/comm.h"
#include "kernels/stage.h"
#include "runtime/arena.h"
#include "schedule/timeline.h"

typedef struct dpr_executor dpr_executor_t;

/* One end of a channel, with the stream its operations run on; both NULL on other ranks. */
typedef struct dpr_link {
    dpr_comm_channel_t *channel;
    dpr_stream_t *stream;
} dpr_link_t;

/* Everything is borrowed and outlives the executor. */
typedef struct dpr_executor_parts {
    const dpr_graph_t *graph; /* verified */
    int rank;
    dpr_device_t *device;
    dpr_stream_t *compute;
    const dpr_link_t *links;    /* [channel_count] */
    dpr_stage_t *const *stages; /* [S]; NULL where this rank does not hold the stage */
    const dpr_arena_t *arena;
    void *arena_base;
    const double *cost; /* [node_count]: read at each step; virtual clocks charge it */
    bool poison; /* overwrite buffers with NaN when their life ends (to expose stale reads) */
} dpr_executor_parts_t;

dpr_status_t dpr_executor_create(const dpr_executor_parts_t *parts, dpr_executor_t **executor);
/* The device's streams must be idle. NULL is allowed. */
void dpr_executor_destroy(dpr_executor_t *executor);

/* What changes from step to step. Device memory; NULL where this rank holds neither end. */
typedef struct dpr_executor_batch {
    const float *inputs;   /* [M][micro_batch_size][input] */
    const int32_t *labels; /* [M][micro_batch_size] */
    double *results;       /* [M][2]: written for the micro-batches whose last stage is here */
    size_t input_stride;   /* floats from one micro-batch's inputs to the next */
    size_t label_stride;
    float loss_scale;
} dpr_executor_batch_t;

/* Enqueues a whole step. The previous one must be complete (its events are recorded again). */
dpr_status_t dpr_executor_enqueue(dpr_executor_t *executor, const dpr_executor_batch_t *batch);

/* One command as it ran: for a transfer `ready_sec` is when this end was ready, for a compute op
 * its start. A transfer has one record on each of its two ranks. */
typedef struct dpr_record {
    int32_t node;
    int32_t is_receiver;
    double ready_sec;
    double end_sec;
} dpr_record_t;

int32_t dpr_executor_command_count(const dpr_executor_t *executor);

/* Reads the times of the last step, which must be complete; `records` has room for command_count.
 */
void dpr_executor_collect(const dpr_executor_t *executor, dpr_record_t *records);

/* Fills a timeline's entries from the records of any rank, shifted by `offset_sec`. When all ranks'
 * records are in, dpr_timeline_join completes the transfers (start = the later of both ends). */
void dpr_timeline_add(dpr_timeline_t *timeline, const dpr_record_t *records, int32_t count,
                      double offset_sec);
void dpr_timeline_join(dpr_timeline_t *timeline);

/* CPU seconds that the scheduler spent enqueuing, and the commands it enqueued, since creation. */
void dpr_executor_scheduler_cost(const dpr_executor_t *executor, double *cpu_sec,
                                 uint64_t *commands);

#endif
