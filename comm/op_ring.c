/* The ring of a channel end's or group's operations between enqueuing and passing. */
#include "comm/op_ring.h"

#include <stdlib.h>

#include "base/memory.h"

enum { RING_OPS = DPR_COMM_RING_SEGMENTS * DPR_COMM_RING_SEGMENT_OPS };

dpr_status_t dpr_comm_ring_open(dpr_comm_ring_t *ring, dpr_device_t *device)
{
    dpr_status_t status;
    *ring = (dpr_comm_ring_t){.next = 0};
    DPR_TRY(dpr_calloc(RING_OPS, sizeof *ring->ops, &ring->ops));
    for (int i = 0; i < DPR_COMM_RING_SEGMENTS; i++) {
        DPR_TRY_GOTO(dpr_event_create(device, &ring->passed[i]), close_ring);
    }
    return DPR_OK;

close_ring:
    dpr_comm_ring_close(ring);
    return status;
}

void dpr_comm_ring_close(dpr_comm_ring_t *ring)
{
    for (int i = 0; i < DPR_COMM_RING_SEGMENTS; i++) {
        if (ring->passed[i] != NULL) {
            /* The operations are over, the record behind the last one may not be yet. */
            (void)dpr_event_synchronize(ring->passed[i]);
            dpr_event_destroy(ring->passed[i]);
        }
    }
    free(ring->ops);
    *ring = (dpr_comm_ring_t){.next = 0};
}

dpr_status_t dpr_comm_ring_enqueue(dpr_comm_ring_t *ring, const dpr_comm_op_t *op,
                                   dpr_host_op_fn_t start, dpr_stream_t *stream)
{
    const uint64_t index = ring->next % RING_OPS;
    dpr_event_t *passed = ring->passed[index / DPR_COMM_RING_SEGMENT_OPS];
    if (index % DPR_COMM_RING_SEGMENT_OPS == 0 && ring->next >= RING_OPS) {
        DPR_TRY(dpr_event_synchronize(passed));
    }
    ring->ops[index] = *op;
    DPR_TRY(dpr_stream_host_op(stream, start, &ring->ops[index]));
    ring->next++;
    if (ring->next % DPR_COMM_RING_SEGMENT_OPS == 0) {
        DPR_TRY(dpr_event_record(passed, stream));
    }
    return DPR_OK;
}

double dpr_comm_end_sec(double first_ready_sec, double second_ready_sec, double cost_sec)
{
    const double start_sec =
        first_ready_sec < second_ready_sec ? second_ready_sec : first_ready_sec;
    return start_sec + cost_sec;
}
