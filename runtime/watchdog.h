/*
 * The watchdog: a thread of each rank that sleeps, and sees to it that a fault or a hang ends the
 * job with a message instead of never.
 *
 *     every 100 ms   dpr_comm_check                a fault that the library found by itself
 *                    dpr_pipeline_activity         a step under way for too long
 *     then           log what this rank waits in   "... waits in recv act s3 m7 from 2"
 *                    (on a thread that is left behind where the device does not answer)
 *                    wait a moment                 for the other ranks to do the same
 *                    dpr_comm_abort                the end of the job
 *
 * A step is one forward_backward with its update, or one evaluation, from the moment that it begins
 * to be enqueued until it has been synchronized. The steps know nothing of the watchdog: they only
 * store a count, which it reads. Where one rank stops for a reason of its own, the others wait in
 * transfers with it: their reports name it, and the op that it did not do.
 */
#ifndef DPR_RUNTIME_WATCHDOG_H
#define DPR_RUNTIME_WATCHDOG_H

#include "runtime/pipeline.h"

/* Called in the place of dpr_comm_abort, after dpr_comm_interrupt, on the watchdog's thread, once.
 */
typedef void (*dpr_watchdog_fn_t)(void *user);

/* Borrowed and outliving the watchdog, which lives while no channel is opened or closed. */
typedef struct dpr_watchdog_options {
    dpr_comm_t *comm;
    const dpr_pipeline_t *pipeline;
    double timeout_sec;        /* a step that takes longer ends the job; 0: however long it takes */
    double grace_sec;          /* between the report and the end, for the other ranks' reports */
    int exit_code;             /* the job's */
    dpr_watchdog_fn_t on_trip; /* for tests; NULL: dpr_comm_abort */
    /* What a step waits for; for tests; NULL: dpr_pipeline_describe_waits. */
    void (*describe)(const dpr_pipeline_t *pipeline, char *text, size_t size);
    void *user;
} dpr_watchdog_options_t;

typedef struct dpr_watchdog dpr_watchdog_t;

/* Errors: DPR_ERR_SYSTEM (no thread), DPR_ERR_MEMORY. */
dpr_status_t dpr_watchdog_create(const dpr_watchdog_options_t *options, dpr_watchdog_t **watchdog);

/* Ends the thread. Where it has tripped, does not return before the job has ended (or on_trip has
 * returned). NULL is allowed. */
void dpr_watchdog_destroy(dpr_watchdog_t *watchdog);

/*
 * Lets every watchdog of this process whose step is under way log what its rank waits in, and waits
 * until they have, at most 0.3 s. Async-signal-safe: for the handler of the signal by which a
 * launcher ends the ranks of a job that another rank has aborted, so that they have their say, too.
 */
void dpr_watchdog_report_all(void);

#endif
