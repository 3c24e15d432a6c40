/*
 * Chaos: delays, drawn from a seed, wherever the contract of device.h promises nothing about time,
 * so that work which relies on luck instead of an event goes wrong in a test.
 *
 * Perturbed, on every stream of a device with a chaos seed:
 *   - when a worker starts a command, which also makes an event visible late, notices an event or a
 *     finished host operation late, and starts a host operation late;
 *   - how fast a stream is on the whole: each draws a temper (prompt, lazy or sluggish), drawn
 * again every TEMPER_COMMANDS commands, so that streams overtake each other by far;
 *   - a copy: its second half is there some time before its first.
 * Kept: the order within a stream, and everything that events order.
 *
 * The draws depend on (seed, the stream's position in order of creation, draw) alone; what they do
 * to a run depends on the machine's scheduler too, so a seed makes a failure likely, not certain.
 * (Memory fresh from dpr_device_alloc is filled with NaNs on every host device, chaos or not.)
 */
#ifndef DPR_DEVICE_HOST_HOST_CHAOS_H
#define DPR_DEVICE_HOST_HOST_CHAOS_H

#include <stdint.h>

typedef struct dpr_host_chaos {
    uint64_t seed; /* 0: no chaos */
    uint64_t stream;
    uint64_t draws; /* so far */
} dpr_host_chaos_t;

/* Waits a while, or not. Called by the stream's worker alone. */
void dpr_host_chaos_pause(dpr_host_chaos_t *chaos);

#endif
