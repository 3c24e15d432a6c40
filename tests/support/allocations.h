/*
 * Counts allocations and mutex locks: linking allocations.c puts its malloc and pthread_mutex_lock
 * in front of the C library's, for everything in the process, libraries too.
 */
#ifndef DPR_TESTS_SUPPORT_ALLOCATIONS_H
#define DPR_TESTS_SUPPORT_ALLOCATIONS_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_SKIPPED = 77 };

/* False under the sanitizers, which bring their own malloc: skip the test then. */
bool allocations_are_counted(void);

size_t allocations_so_far(void);

/* Locks taken so far, or 0 where the C library's cannot be wrapped. */
size_t mutex_locks_so_far(void);

#endif
