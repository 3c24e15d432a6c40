/*
 * Times of the CUDA device, on the host's monotonic clock.
 *
 * CUDA only tells the time between two events, on the GPU's own clock. An anchor joins the two
 * clocks: an event is recorded on an idle stream and waited for, with a reading of the host's clock
 * before and after; it happened between the two, in the middle give or take half their distance.
 * Of several tries the one with the least distance is kept. The time of any other event is then
 *
 *      anchor.host_sec + cudaEventElapsedTime(anchor.event, event)
 *
 * so the offsets between ranks that dpr_comm_measure_link finds for their host clocks hold for
 * their GPUs' events, too.
 *
 * Two things wear an anchor out. cudaEventElapsedTime is a float of milliseconds: one second after
 * the anchor its steps are 0.06 us, eight seconds after it 0.5 us (CUDA's events themselves resolve
 * about 0.5 us). And the clocks drift apart, by some microseconds a second. So an anchor older than
 * a second is replaced when a stream is synchronized: the host waits then anyway, and a run that
 * synchronizes once a step gets its steps' times from fresh anchors, however long it is.
 *
 * The events of a step should share one anchor, for between two anchors lies their uncertainty
 * (microseconds). Therefore an event remembers which anchor was the newest when it was recorded,
 * and the last few are kept:
 *
 *      anchors   ... 7        8                   9  newest
 *      ----------o-----------o---x----x----x-----o--------> time
 *                            |_____________ the events x count from 8
 *
 * Such an anchor was complete before the event was recorded, so no negative time is ever asked for.
 * Only an event that was reached long after a later anchor (a step of seconds) counts from that
 * one, for the sake of the float.
 */
#include <math.h>
#include <time.h>

#include "base/log.h"
#include "device/cuda/cuda_impl.h"

enum {
    TRIES = 8,
    KEPT = DPR_CUDA_ANCHORS - 1, /* one is being replaced, or was when CUDA failed */
};

static const double renewal_sec = 1.0;
static const double coarse_sec = 4.0; /* from here on a nearer anchor is worth looking for */

static double monotonic_sec(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static dpr_cuda_anchor_t *anchor_at(dpr_cuda_device_t *device, uint32_t serial)
{
    return &device->anchors[serial % DPR_CUDA_ANCHORS];
}

/* One try, with the spare event. */
static dpr_status_t try_anchor(dpr_cuda_device_t *device, dpr_cuda_anchor_t *anchor)
{
    DPR_TRY(DPR_CUDA(cudaStreamSynchronize(device->own_stream)));
    const double before_sec = monotonic_sec();
    DPR_TRY(DPR_CUDA(cudaEventRecord(device->spare, device->own_stream)));
    DPR_TRY(DPR_CUDA(cudaEventSynchronize(device->spare)));
    const double after_sec = monotonic_sec();
    const double uncertainty_sec = (after_sec - before_sec) / 2;
    if (uncertainty_sec < anchor->uncertainty_sec) {
        const cudaEvent_t spare = anchor->event;
        *anchor = (dpr_cuda_anchor_t){.event = device->spare,
                                      .host_sec = (before_sec + after_sec) / 2,
                                      .uncertainty_sec = uncertainty_sec};
        device->spare = spare;
    }
    return DPR_OK;
}

/* Replaces the oldest anchor. After an error the newest stays what it was. */
static dpr_status_t take_anchor(dpr_cuda_device_t *device)
{
    const uint32_t serial = atomic_load(&device->newest) + 1;
    dpr_cuda_anchor_t *anchor = anchor_at(device, serial);
    anchor->uncertainty_sec = INFINITY;
    for (int i = 0; i < TRIES; i++) {
        DPR_TRY(try_anchor(device, anchor));
    }
    atomic_store(&device->newest, serial);
    return DPR_OK;
}

dpr_status_t dpr_cuda_clock_open(dpr_cuda_device_t *device)
{
    dpr_status_t status;
    for (int i = 0; i < DPR_CUDA_ANCHORS; i++) {
        DPR_TRY_GOTO(DPR_CUDA(cudaEventCreate(&device->anchors[i].event)), close_clock);
    }
    DPR_TRY_GOTO(DPR_CUDA(cudaEventCreate(&device->spare)), close_clock);
    DPR_TRY_GOTO(take_anchor(device), close_clock);
    device->zero_sec = monotonic_sec();
    return DPR_OK;

close_clock:
    dpr_cuda_clock_close(device);
    return status;
}

void dpr_cuda_clock_close(dpr_cuda_device_t *device)
{
    for (int i = 0; i < DPR_CUDA_ANCHORS; i++) {
        if (device->anchors[i].event != NULL) {
            dpr_cuda_ignore(DPR_CUDA(cudaEventDestroy(device->anchors[i].event)));
        }
    }
    if (device->spare != NULL) {
        dpr_cuda_ignore(DPR_CUDA(cudaEventDestroy(device->spare)));
    }
}

dpr_status_t dpr_cuda_clock_keep(dpr_cuda_device_t *device)
{
    dpr_status_t status = DPR_OK;
    pthread_mutex_lock(&device->clock_lock);
    const dpr_cuda_anchor_t *newest = anchor_at(device, atomic_load(&device->newest));
    if (monotonic_sec() - newest->host_sec > renewal_sec) {
        status = take_anchor(device);
    }
    pthread_mutex_unlock(&device->clock_lock);
    return status;
}

void dpr_cuda_clock_rebase(dpr_device_t *device)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    dpr_cuda_ignore(dpr_cuda_device_enter(device));
    pthread_mutex_lock(&self->clock_lock);
    dpr_cuda_ignore(take_anchor(self)); /* without it, times stay right but grow coarser */
    self->zero_sec = monotonic_sec();
    pthread_mutex_unlock(&self->clock_lock);
}

double dpr_cuda_wall_sec(const dpr_device_t *device)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    pthread_mutex_lock(&self->clock_lock);
    const double sec = monotonic_sec() - self->zero_sec;
    pthread_mutex_unlock(&self->clock_lock);
    return sec;
}

double dpr_cuda_device_clock_uncertainty_sec(const dpr_device_t *device)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    pthread_mutex_lock(&self->clock_lock);
    const double sec = anchor_at(self, atomic_load(&self->newest))->uncertainty_sec;
    pthread_mutex_unlock(&self->clock_lock);
    return sec;
}

/* When `event` was reached, counted from an anchor. */
static dpr_status_t count_from(const dpr_cuda_anchor_t *anchor, cudaEvent_t event, double *sec)
{
    float msec;
    DPR_TRY(DPR_CUDA(cudaEventElapsedTime(&msec, anchor->event, event)));
    *sec = anchor->host_sec + 1e-3 * (double)msec;
    return DPR_OK;
}

/* The same for one recorded before the anchor. */
static dpr_status_t count_back_from(const dpr_cuda_anchor_t *anchor, cudaEvent_t event, double *sec)
{
    float msec;
    DPR_TRY(DPR_CUDA(cudaEventElapsedTime(&msec, event, anchor->event)));
    *sec = anchor->host_sec - 1e-3 * (double)msec;
    return DPR_OK;
}

static dpr_status_t event_host_sec(dpr_cuda_device_t *device, const dpr_cuda_event_t *event,
                                   double *sec)
{
    const uint32_t newest = atomic_load(&device->newest);
    uint32_t serial = atomic_load(&event->anchor);
    if (newest - serial >= KEPT) { /* its anchor is overwritten */
        return count_back_from(anchor_at(device, newest - KEPT + 1), event->time, sec);
    }
    const dpr_cuda_anchor_t *own = anchor_at(device, serial);
    DPR_TRY(count_from(own, event->time, sec));
    if (*sec - own->host_sec > coarse_sec) {
        while (serial != newest && anchor_at(device, serial + 1)->host_sec < *sec) {
            serial++;
        }
        return count_from(anchor_at(device, serial), event->time, sec);
    }
    return DPR_OK;
}

double dpr_cuda_event_sec(const dpr_event_t *event)
{
    dpr_cuda_device_t *device = dpr_cuda_device(event->device);
    const dpr_cuda_event_t *self = dpr_cuda_event(event);
    double sec;
    if (!atomic_load(&self->recorded)) {
        return 0.0;
    }
    dpr_cuda_ignore(dpr_cuda_device_enter(event->device));
    pthread_mutex_lock(&device->clock_lock);
    if (event_host_sec(device, self, &sec) != DPR_OK) {
        sec = NAN; /* the device is broken: nobody knows */
    }
    sec -= device->zero_sec;
    pthread_mutex_unlock(&device->clock_lock);
    return sec;
}
