/*
 * A gate: a counter that one thread at a time moves forward and that any number of threads wait
 * for. Everything of the host device that waits, waits at a gate: a worker for its next command, a
 * producer for room in the ring, a stream for an event, a caller for a stream.
 *
 *     word   | count, 31 bits, wraps around                          | 1 where somebody sleeps |
 *
 * The bit lives in the same word as the count so that opening is one atomic exchange, which tells
 * whether there is anybody to wake (no system call where nobody sleeps), and so that whoever opens
 * a gate touches its memory just once: a waiter may free the gate as soon as it sees the new count.
 * The wake that follows passes the kernel an address that may be free by then; at worst it wakes a
 * sleeper of whatever lies there now, and sleepers look again before they go on.
 *
 * What the opening thread wrote before is visible to whoever passed. No mutex, no allocation.
 */
#ifndef DPR_DEVICE_HOST_HOST_GATE_H
#define DPR_DEVICE_HOST_HOST_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct dpr_host_gate {
    _Atomic uint32_t word;
} dpr_host_gate_t;

/* True where a word's count has come to `count`; counts compared are less than 2^30 apart. */
static inline bool dpr_host_gate_word_passes(uint32_t word, uint32_t count)
{
    return (int32_t)((word & ~UINT32_C(1)) - (count << 1)) >= 0;
}

static inline bool dpr_host_gate_passed(const dpr_host_gate_t *gate, uint32_t count)
{
    return dpr_host_gate_word_passes(atomic_load_explicit(&gate->word, memory_order_acquire),
                                     count);
}

/* Moves the gate to `count`, never backwards, and wakes who sleeps. */
void dpr_host_gate_open(dpr_host_gate_t *gate, uint32_t count);

/* Waits until the gate has come to `count`: first looks for `spins` rounds of about a microsecond,
 * then sleeps. */
void dpr_host_gate_wait(dpr_host_gate_t *gate, uint32_t count, int spins);

#endif
