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
 * The commands stand in the graph's topological order, which is one for all ranks.
 *
 * F&B may use a second compute stream for its backward. Everything else stays in order on the
 * first:
 *
 *     compute  wait ... start -+- F -------- wait joined - end
 *     second                   +- wait start - B - joined
 *
 * In a step nothing is allocated or locked and the host never waits for the device (but for room in
 * a stream's queue). Each command is enqueued within a range named after it ("F s3 m7",
 * "F s3 m7 & B s1 m2", "send act s3 m7 to 4"; a transfer's stage is its producer's).
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
    dpr_stream_t *second;       /* for the backward of F&B; NULL: it goes with the forward */
    const dpr_link_t *links;    /* [channel_count] */
    dpr_stage_t *const *stages; /* [S]; NULL where this rank does not hold the stage */
    const dpr_arena_t *arena;
    void *arena_base;
    const double *cost; /* [node_count]: read at each step; virtual clocks charge it */
    bool poison; /* overwrite buffers with NaN when their life ends (to expose stale reads) */
    /* Fault injection, for tests alone: the number of the event wait that is left out, so that a
     * test can show that it would be missed (dpr_executor_wait); 0: none. */
    int32_t drop_wait;
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

/*
 * The same, with all streams forked from the compute stream at the start and joined to it at the
 * end, so that a recording that was begun on the compute stream has it all.
 */
dpr_status_t dpr_executor_enqueue_joined(dpr_executor_t *executor,
                                         const dpr_executor_batch_t *batch);

/* A recording of the step (device.h) is about to be played: all is enqueued now. */
void dpr_executor_playing(dpr_executor_t *executor);

/* One command as it ran: for a transfer `ready_sec` is when this end was ready, for a compute op
 * its start. A transfer has one record on each of its two ranks. */
typedef struct dpr_record {
    int32_t node;
    int32_t is_receiver;
    double ready_sec;
    double end_sec;
    double enqueued_sec; /* when the host began to enqueue it; NAN under a virtual clock */
} dpr_record_t;

int32_t dpr_executor_command_count(const dpr_executor_t *executor);
/* "recv act s3 m7 from 2"; command from 0 to the count - 1, in the order of enqueuing. */
const char *dpr_executor_command_name(const dpr_executor_t *executor, int32_t command);

/*
 * The event waits of a step, numbered from 1 in the order of enqueuing, fork and join of each F&B
 * after the waits of its command; the last are those of dpr_executor_enqueue_joined: each stream's
 * join and, before it, its fork, where no wait of the stream's first command is one already.
 */
typedef enum dpr_executor_wait_kind {
    DPR_EXECUTOR_WAIT_EDGE,     /* of the graph, from command `source` to `command` */
    DPR_EXECUTOR_WAIT_FORK,     /* F&B `command`: the second stream waits for its start */
    DPR_EXECUTOR_WAIT_JOIN,     /* F&B `command`: the first stream waits for the backward */
    DPR_EXECUTOR_WAIT_ALL_FORK, /* a whole stream, of its first command, for the step's start */
    DPR_EXECUTOR_WAIT_ALL_JOIN, /* the step's end for a whole stream, of its first command */
} dpr_executor_wait_kind_t;
typedef struct dpr_executor_wait {
    dpr_executor_wait_kind_t kind;
    int32_t command;
    int32_t command_node;
    int32_t source; /* EDGE; else -1 */
    int32_t source_node;
} dpr_executor_wait_t;
int32_t dpr_executor_wait_count(const dpr_executor_t *executor);
void dpr_executor_wait(const dpr_executor_t *executor, int32_t number, dpr_executor_wait_t *wait);

/*
 * What the step under way waits for, for a person: of each stream the first command that has not
 * ended, as "waits in recv act s3 m7 from 2; compute waits for F s3 m7", and where the scheduler
 * stands if it has not enqueued everything. Returns the number of these parts (0: all has ended;
 * text is ""). `since_sec`, by the device's clock: an event reached earlier does not count as
 * reached, as a recording that is played again shows its events' earlier times until it gets to
 * them; -INFINITY where the step was enqueued. Any thread, also while the step is being enqueued;
 * `text` is cut at `size`.
 */
int dpr_executor_describe_waits(const dpr_executor_t *executor, double since_sec, char *text,
                                size_t size);

/* The command that is being enqueued, NULL where all of the step are; any thread, and without
 * asking the device anything. */
const char *dpr_executor_enqueuing(const dpr_executor_t *executor);

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
