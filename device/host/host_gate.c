/* The gate's slow side: spinning and the futex. */
#include "device/host/host_gate.h"

#include <sched.h>

#include "base/futex.h"

/* The word's lowest bit: somebody sleeps. */
#define SLEEPER UINT32_C(1)

/* Looks between two offers of the core, about a microsecond. */
enum { LOOKS_PER_ROUND = 20 };

/* Tells the core that this is a busy wait, so that it saves power and lets its sibling run. */
static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void dpr_host_gate_open(dpr_host_gate_t *gate, uint32_t count)
{
    const uint32_t old = atomic_exchange_explicit(&gate->word, count << 1, memory_order_acq_rel);
    if ((old & SLEEPER) != 0) {
        dpr_futex_wake(&gate->word);
    }
}

/*
 * Looks for a while; true once the gate was passed. Now and then it offers the core to other
 * threads: the very thread that is waited for may be queued behind this one.
 */
static bool spin(const dpr_host_gate_t *gate, uint32_t count, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        for (int look = 0; look < LOOKS_PER_ROUND; look++) {
            if (dpr_host_gate_passed(gate, count)) {
                return true;
            }
            relax();
        }
        (void)sched_yield();
    }
    return false;
}

void dpr_host_gate_wait(dpr_host_gate_t *gate, uint32_t count, int spins)
{
    if (spin(gate, count, spins)) {
        return;
    }
    uint32_t word = atomic_load_explicit(&gate->word, memory_order_acquire);
    while (!dpr_host_gate_word_passes(word, count)) {
        if ((word & SLEEPER) == 0 &&
            !atomic_compare_exchange_weak_explicit(&gate->word, &word, word | SLEEPER,
                                                   memory_order_acquire, memory_order_acquire)) {
            continue; /* it moved: `word` is what it holds now */
        }
        dpr_futex_wait(&gate->word, word | SLEEPER, DPR_FUTEX_FOREVER);
        word = atomic_load_explicit(&gate->word, memory_order_acquire);
    }
}
