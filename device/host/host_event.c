/*
 * Events of the host device: numbered records, and a gate that workers open as they reach them.
 *
 *     recorded  ... 7        records enqueued, by the thread that records
 *     reached   ... 6        records reached, by the workers: here the 7th is still on its way
 *     time      of the 6th
 *
 * Records of one event that are under way together must be of one stream: of two streams the older
 * could be reached last. That is refused rather than ordered, because nobody needs it.
 */
#include "device/host/host_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

static dpr_host_event_t *host_event(const dpr_event_t *event)
{
    return (dpr_host_event_t *)event;
}

static int event_spins(const dpr_event_t *event)
{
    return dpr_host_device(event->device)->spins;
}

dpr_status_t dpr_host_event_create(dpr_device_t *device, dpr_event_t **event)
{
    dpr_host_event_t *created;
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base.device = device;
    atomic_fetch_add(&dpr_host_device(device)->objects, 1);
    *event = &created->base;
    return DPR_OK;
}

void dpr_host_event_destroy(dpr_event_t *event)
{
    /* A record that nobody waits for may still be in a queue. */
    (void)dpr_host_event_synchronize(event);
    atomic_fetch_sub(&dpr_host_device(event->device)->objects, 1);
    free(event);
}

bool dpr_host_event_latest(const dpr_event_t *event, uint32_t *count)
{
    const uint64_t recorded =
        atomic_load_explicit(&host_event(event)->recorded, memory_order_acquire);
    *count = (uint32_t)recorded;
    return recorded > 0;
}

dpr_status_t dpr_host_event_record(dpr_event_t *event, dpr_stream_t *stream)
{
    dpr_host_event_t *self = host_event(event);
    assert(stream->device == event->device);
    if (self->recorder != stream && !dpr_host_event_query(event)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "stream %s: cannot record an event whose record on another stream is still "
                        "under way; use an event for each stream",
                        ((const dpr_host_stream_t *)stream)->name);
    }
    self->recorder = stream;
    const uint64_t number = atomic_fetch_add_explicit(&self->recorded, 1, memory_order_acq_rel) + 1;
    dpr_host_stream_record(stream, event, (uint32_t)number);
    return DPR_OK;
}

bool dpr_host_event_query(const dpr_event_t *event)
{
    uint32_t latest;
    return !dpr_host_event_latest(event, &latest) ||
           dpr_host_gate_passed(&host_event(event)->reached, latest);
}

dpr_status_t dpr_host_event_synchronize(dpr_event_t *event)
{
    uint32_t latest;
    if (dpr_host_event_latest(event, &latest)) {
        dpr_host_gate_wait(&host_event(event)->reached, latest, event_spins(event));
    }
    return DPR_OK;
}

/* A time taken before the last rebase is 0 now. */
static double event_time(const dpr_host_event_t *event)
{
    const uint32_t epoch = atomic_load(&dpr_host_device(event->base.device)->epoch);
    return event->time.epoch == epoch ? event->time.sec : 0.0;
}

double dpr_host_event_sec(const dpr_event_t *event)
{
    assert(dpr_host_event_query(event));
    return event_time(host_event(event));
}

double dpr_host_event_await(dpr_event_t *event, uint32_t count)
{
    dpr_host_gate_wait(&host_event(event)->reached, count, event_spins(event));
    return event_time(host_event(event));
}

void dpr_host_event_reach(dpr_event_t *event, uint32_t count, dpr_host_time_t time)
{
    host_event(event)->time = time;
    dpr_host_gate_open(&host_event(event)->reached, count);
}
