/*
 * Fibers: the threads of an emulated block. A fiber runs one function after another on a stack of
 * its own, and gives way to whoever resumed it. One thread at a time uses them.
 */
#ifndef DPR_TESTS_CUDA_STANDIN_EMULATION_FIBER_H
#define DPR_TESTS_CUDA_STANDIN_EMULATION_FIBER_H

#include <stdbool.h>

enum { FIBERS = 1024 };

/* Makes sure that the first `count` fibers exist. False where there is no memory. */
bool fibers_reserve(int count);

/* Goes on with fiber `index` until it gives way; when it has nothing to do, it calls `body` first.
 */
void fiber_resume(int index, void (*body)(void));

/* From within a fiber: returns to fiber_resume. */
void fiber_yield(void);

/* Whether the function that fiber `index` was given has returned. */
bool fiber_is_idle(int index);

#endif
