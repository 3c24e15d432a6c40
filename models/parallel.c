/* Workers that take the next piece from a counter. */
#include "models/parallel.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

enum { MESSAGE_MAX = 1024 };

typedef struct job {
    dpr_parallel_fn_t run;
    void *context;
    int64_t count;
    _Atomic int64_t next;
    atomic_bool failed;
} job_t;

typedef struct worker {
    job_t *job;
    int number;
    pthread_t thread;
    dpr_status_t status;
    int64_t failed_at;
    char message[MESSAGE_MAX];
} worker_t;

static int usable_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    const int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? count : 1;
}

int dpr_parallel_threads(int wanted, int64_t count)
{
    int threads = wanted > 0 ? wanted : usable_processors();
    threads = threads < DPR_MAX_THREADS ? threads : DPR_MAX_THREADS;
    threads = threads < count ? threads : (int)count;
    return threads > 1 ? threads : 1;
}

static void *work(void *argument)
{
    worker_t *worker = argument;
    job_t *job = worker->job;
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, worker->message, sizeof worker->message);
    while (worker->status == DPR_OK && !atomic_load(&job->failed)) {
        const int64_t index = atomic_fetch_add(&job->next, 1);
        if (index >= job->count) {
            break;
        }
        worker->status = job->run(job->context, worker->number, index);
        if (worker->status != DPR_OK) {
            worker->failed_at = index;
            atomic_store(&job->failed, true);
        }
    }
    dpr_log_capture_end(&capture);
    return NULL;
}

/* The lowest failure's messages, again, where the caller hears them. */
static dpr_status_t first_failure(const worker_t *workers, int threads)
{
    const worker_t *first = NULL;
    for (int i = 0; i < threads; i++) {
        if (workers[i].status != DPR_OK &&
            (first == NULL || workers[i].failed_at < first->failed_at)) {
            first = &workers[i];
        }
    }
    if (first == NULL) {
        return DPR_OK;
    }
    return first->message[0] != '\0' ? dpr_fail(first->status, "%s", first->message)
                                     : first->status;
}

dpr_status_t dpr_parallel_for(int threads, int64_t count, dpr_parallel_fn_t run, void *context)
{
    assert(threads >= 1 && threads <= DPR_MAX_THREADS);
    worker_t *workers;
    DPR_TRY(dpr_calloc((size_t)threads, sizeof *workers, &workers));
    job_t job = {.run = run, .context = context, .count = count};
    for (int i = 0; i < threads; i++) {
        workers[i] = (worker_t){.job = &job, .number = i};
    }
    int started = 1;
    while (started < threads &&
           pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0) {
        started++;
    }
    work(&workers[0]);
    for (int i = 1; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    const dpr_status_t status = first_failure(workers, started);
    free(workers);
    return status;
}
