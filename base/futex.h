/*
 * Sleeping on a word of memory, for the places where a mutex would be too much: the waiter checks
 * the word with an ordinary atomic load before and after, so a wake-up may be spurious or late but
 * a change is never missed. All ordering comes from the atomics; the futex only saves the core.
 */
#ifndef DPR_BASE_FUTEX_H
#define DPR_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

enum { DPR_FUTEX_FOREVER = -1 };

/* Sleeps while *word equals `expected`, at most `timeout_ns` (DPR_FUTEX_FOREVER: without limit). */
void dpr_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns);

/* Wakes everyone who sleeps on the word. */
void dpr_futex_wake(_Atomic uint32_t *word);

/* The same for a word in memory that processes share. */
void dpr_futex_wait_shared(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns);
void dpr_futex_wake_shared(_Atomic uint32_t *word);

/* Stores `value` and wakes; waits until the word is `value`. For flags that are set once. */
void dpr_futex_set(_Atomic uint32_t *word, uint32_t value);
void dpr_futex_await(_Atomic uint32_t *word, uint32_t value);

#endif
