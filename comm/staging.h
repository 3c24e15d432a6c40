/*
 * Staging: how a transport that reads and writes with the CPU (mpi, local) moves a device's memory.
 * A channel end or group has one pinned buffer, its slot, and the stream carries the bytes to and
 * fro:
 *
 *      send         copy buffer to slot | host operation: send the slot
 *      receive      host operation: receive into the slot | copy slot to buffer
 *      all-reduce   for each piece that fits: copy to slot | host operation on it | copy back
 *
 * One slot is enough however many operations are enqueued ahead: they are on one stream, in order,
 * so the next copy into the slot comes when the last operation on it is over. (CUDA-aware MPI,
 * which would take the device's pointers, is not used: it would call CUDA on MPI's thread at times
 * of its own. NCCL is the way for speed.)
 *
 * Where the CPU may use device memory itself there is no slot, and operations go straight on.
 */
#ifndef DPR_COMM_STAGING_H
#define DPR_COMM_STAGING_H

#include "comm/op_ring.h"

typedef struct dpr_comm_staging {
    dpr_device_t *device;
    unsigned char *slot; /* NULL: not needed */
    size_t bytes;
    dpr_event_t *passed; /* behind the latest operation */
} dpr_comm_staging_t;

enum { DPR_COMM_STAGING_SUM_BYTES = 4 << 20 }; /* a group's slot */

/* `bytes`: the longest message, or DPR_COMM_STAGING_SUM_BYTES. `staging` may hold anything before;
 * after a failure it needs no close. */
dpr_status_t dpr_comm_staging_open(dpr_comm_staging_t *staging, dpr_device_t *device, size_t bytes);
/* Waits until the stream has passed the latest operation, which must be over. A zeroed one is
 * allowed. */
void dpr_comm_staging_close(dpr_comm_staging_t *staging);

/* As dpr_comm_ring_enqueue(ring, op, start, stream), by way of the slot. op->buffer is the user's.
 */
dpr_status_t dpr_comm_staged_send(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                  const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                  dpr_stream_t *stream);
dpr_status_t dpr_comm_staged_recv(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                  const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                  dpr_stream_t *stream);
/* The operations of the pieces have op->whole in common, so that members who pass different counts
 * see it at the first. */
dpr_status_t dpr_comm_staged_sum(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                 const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                 dpr_stream_t *stream);

#endif
