/*
 * The operations that a channel end or a group has on its stream: enqueued, and not yet passed.
 *
 * A stream takes a pointer for a host operation, so what the operation needs (buffer, size, cost)
 * must live until the stream has passed it, without allocating in the step loop. A ring holds it:
 *
 *     | segment 0        | segment 1        | segment 2        | segment 3        |
 *     | op op op op ...  | op op op ...  ^  |                  |                  |
 *                        E0           next  E1                 E2                 E3
 *
 * After the last operation of a segment an event is recorded behind it on the stream, and the
 * segment is written again only when that event has been reached. Events pass on a failed stream
 * too, where the operations themselves are skipped, so a full ring never holds an enqueuer for
 * ever.
 */
#ifndef DPR_COMM_OP_RING_H
#define DPR_COMM_OP_RING_H

#include "comm/comm.h"

/* Something handed to another thread through an intrusive list: it takes it off and calls `begin`.
 */
typedef struct dpr_comm_post {
    struct dpr_comm_post *next;
    void (*begin)(struct dpr_comm_post *post);
} dpr_comm_post_t;

/* One operation. `post`, `operation` and `ready_sec` are filled when the stream reaches it. */
typedef struct dpr_comm_op {
    dpr_comm_post_t post;
    void *owner; /* the channel end or group */
    void *buffer;
    size_t count; /* bytes, or elements of `element` */
    size_t whole; /* all-reduce: elements of all its pieces, of which this is one (staging.h) */
    dpr_element_t element;
    double cost_sec;
    dpr_host_op_t *operation;
    double ready_sec;
} dpr_comm_op_t;

enum { DPR_COMM_RING_SEGMENTS = 4, DPR_COMM_RING_SEGMENT_OPS = 256 };

typedef struct dpr_comm_ring {
    dpr_comm_op_t *ops;
    dpr_event_t *passed[DPR_COMM_RING_SEGMENTS];
    uint64_t next;
} dpr_comm_ring_t;

/* A ring for operations on streams of `device`. `ring` may hold anything before; after a failure it
 * needs no close. */
dpr_status_t dpr_comm_ring_open(dpr_comm_ring_t *ring, dpr_device_t *device);
/* Every operation must have been passed. A zeroed ring is allowed. */
void dpr_comm_ring_close(dpr_comm_ring_t *ring);

/*
 * Enqueues a host operation: `start` will be called with (a copy of) *op. One thread at a time, and
 * one stream until all its operations are passed. Allocates nothing; waits where the ring is full.
 */
dpr_status_t dpr_comm_ring_enqueue(dpr_comm_ring_t *ring, const dpr_comm_op_t *op,
                                   dpr_host_op_fn_t start, dpr_stream_t *stream);

/* When two parties that became ready at these times are done; the same bits whoever computes it. */
double dpr_comm_end_sec(double first_ready_sec, double second_ready_sec, double cost_sec);

#endif
