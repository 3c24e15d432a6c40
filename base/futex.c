/* Sleeping on a word of memory: the Linux futex call. */
#include "base/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t ns_per_sec = 1000000000;

static void wait_for(_Atomic uint32_t *word, int operation, uint32_t expected, int64_t timeout_ns)
{
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / ns_per_sec),
                                     .tv_nsec = (long)(timeout_ns % ns_per_sec)};
    syscall(SYS_futex, word, operation, expected, timeout_ns >= 0 ? &timeout : NULL, NULL, 0);
}

void dpr_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    wait_for(word, FUTEX_WAIT_PRIVATE, expected, timeout_ns);
}

void dpr_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void dpr_futex_wait_shared(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    wait_for(word, FUTEX_WAIT, expected, timeout_ns);
}

void dpr_futex_wake_shared(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void dpr_futex_set(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
    dpr_futex_wake(word);
}

void dpr_futex_await(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t seen;
    while ((seen = atomic_load_explicit(word, memory_order_acquire)) != value) {
        dpr_futex_wait(word, seen, DPR_FUTEX_FOREVER);
    }
}
