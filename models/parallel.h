/*
 * Independent pieces of work over the cores, for what plays out many simulations: draws of a Monte
 * Carlo run, groups of a search. Results belong in an array, one place a piece, so that they do
 * not depend on which thread did what.
 */
#ifndef DPR_MODELS_PARALLEL_H
#define DPR_MODELS_PARALLEL_H

#include <stdint.h>

#include "base/status.h"

enum { DPR_MAX_THREADS = 256 };

/* Piece `index` by worker `worker` (0 .. threads - 1), which may use scratch memory of its own. */
typedef dpr_status_t (*dpr_parallel_fn_t)(void *context, int worker, int64_t index);

/*
 * `wanted` threads, or for 0 as many as processors that this process may use; at least 1, at most
 * DPR_MAX_THREADS and at most one for each of `count` pieces.
 */
int dpr_parallel_threads(int wanted, int64_t count);

/*
 * Runs pieces 0 .. count - 1 on `threads` threads (of dpr_parallel_threads; the caller is one of
 * them) and returns when all have ended. A piece that fails keeps further ones from starting. Where
 * the system gives fewer threads, those that there are do all the work.
 * Errors: that of the lowest piece that failed, its messages logged on the calling thread.
 */
dpr_status_t dpr_parallel_for(int threads, int64_t count, dpr_parallel_fn_t run, void *context);

#endif
