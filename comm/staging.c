/* Staging through pinned memory; the picture is in staging.h. */
#include "comm/staging.h"

#include "comm/sum.h"

dpr_status_t dpr_comm_staging_open(dpr_comm_staging_t *staging, dpr_device_t *device, size_t bytes)
{
    dpr_status_t status;
    void *slot;
    *staging = (dpr_comm_staging_t){.device = device, .bytes = bytes};
    if (dpr_device_memory_on_host(device)) {
        return DPR_OK;
    }
    DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_PINNED, bytes, &slot));
    DPR_TRY_GOTO(dpr_event_create(device, &staging->passed), free_slot);
    staging->slot = slot;
    return DPR_OK;

free_slot:
    dpr_device_free(device, DPR_MEMORY_PINNED, slot);
    *staging = (dpr_comm_staging_t){.slot = NULL};
    return status;
}

void dpr_comm_staging_close(dpr_comm_staging_t *staging)
{
    if (staging->slot != NULL) {
        (void)dpr_event_synchronize(staging->passed);
        dpr_event_destroy(staging->passed);
        dpr_device_free(staging->device, DPR_MEMORY_PINNED, staging->slot);
    }
    *staging = (dpr_comm_staging_t){.slot = NULL};
}

dpr_status_t dpr_comm_staged_send(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                  const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                  dpr_stream_t *stream)
{
    if (staging->slot == NULL) {
        return dpr_comm_ring_enqueue(ring, op, start, stream);
    }
    dpr_comm_op_t staged = *op;
    staged.buffer = staging->slot;
    DPR_TRY(dpr_stream_copy(stream, staging->slot, op->buffer, op->count));
    DPR_TRY(dpr_comm_ring_enqueue(ring, &staged, start, stream));
    return dpr_event_record(staging->passed, stream);
}

dpr_status_t dpr_comm_staged_recv(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                  const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                  dpr_stream_t *stream)
{
    if (staging->slot == NULL) {
        return dpr_comm_ring_enqueue(ring, op, start, stream);
    }
    dpr_comm_op_t staged = *op;
    staged.buffer = staging->slot;
    DPR_TRY(dpr_comm_ring_enqueue(ring, &staged, start, stream));
    DPR_TRY(dpr_stream_copy(stream, op->buffer, staging->slot, op->count));
    return dpr_event_record(staging->passed, stream);
}

/* `count` elements of the all-reduce `op`, from element `from` on. */
static dpr_status_t sum_piece(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                              const dpr_comm_op_t *op, size_t from, size_t count,
                              dpr_host_op_fn_t start, dpr_stream_t *stream)
{
    const size_t element_bytes = dpr_element_bytes(op->element);
    unsigned char *buffer = op->buffer;
    dpr_comm_op_t piece = *op;
    piece.buffer = staging->slot;
    piece.count = count;
    if (count > 0) { /* the buffer may be NULL where there are none */
        buffer += from * element_bytes;
        DPR_TRY(dpr_stream_copy(stream, staging->slot, buffer, count * element_bytes));
    }
    DPR_TRY(dpr_comm_ring_enqueue(ring, &piece, start, stream));
    return dpr_stream_copy(stream, buffer, staging->slot, count * element_bytes);
}

dpr_status_t dpr_comm_staged_sum(dpr_comm_staging_t *staging, dpr_comm_ring_t *ring,
                                 const dpr_comm_op_t *op, dpr_host_op_fn_t start,
                                 dpr_stream_t *stream)
{
    if (staging->slot == NULL) {
        return dpr_comm_ring_enqueue(ring, op, start, stream);
    }
    const size_t most = staging->bytes / dpr_element_bytes(op->element);
    size_t from = 0;
    do {
        const size_t left = op->count - from;
        const size_t count = left < most ? left : most;
        DPR_TRY(sum_piece(staging, ring, op, from, count, start, stream));
        from += count;
    } while (from < op->count);
    return dpr_event_record(staging->passed, stream);
}
