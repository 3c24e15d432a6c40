/* CPU time of this rank's threads, where the rank is a process of its own. */
#ifndef DPR_APPS_BENCH_CPU_H
#define DPR_APPS_BENCH_CPU_H

/* Seconds since the start; differences of two readings are what counts. */
typedef struct bench_cpu {
    double scheduler_sec; /* of the calling thread, which enqueues */
    double rest_sec; /* of all threads but this one and the compute streams': what moves messages
                        and watches. NAN where it cannot be told (ranks are threads; no Linux) */
} bench_cpu_t;

/* Before and after what is measured: neither counts its own reading in. */
void bench_cpu_begin(bench_cpu_t *cpu);
void bench_cpu_end(bench_cpu_t *cpu);

#endif
