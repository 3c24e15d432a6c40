/*
 * CPU time by thread: the process's less the calling thread's and the compute streams', which are
 * the threads named "compute". Linux tells of each thread in /proc/self/task (proc(5): comm, and
 * schedstat, whose first number is nanoseconds on a CPU).
 */
#include "apps/bench_cpu.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "apps/bench.h"

static double clock_sec(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The first line of /proc/self/task/TASK/NAME; empty where there is none. */
static void read_line(const char *task, const char *name, char *line, int size)
{
    char path[96];
    line[0] = '\0';
    snprintf(path, sizeof path, "/proc/self/task/%.32s/%s", task, name);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fgets(line, size, file) == NULL) {
            line[0] = '\0';
        }
        fclose(file);
    }
}

/* Seconds of all threads named "compute"; NAN where there is none to read. */
static double compute_sec(void)
{
    double sum = NAN;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return NAN;
    }
    for (const struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        char name[32];
        char times[96];
        double nanoseconds;
        read_line(task->d_name, "comm", name, sizeof name);
        if (strcmp(name, "compute\n") != 0) {
            continue;
        }
        read_line(task->d_name, "schedstat", times, sizeof times);
        if (sscanf(times, "%lf", &nanoseconds) == 1) {
            sum = (isnan(sum) ? 0.0 : sum) + 1e-9 * nanoseconds;
        }
    }
    closedir(tasks);
    return sum;
}

static double process_sec(void)
{
    return bench_ranks_are_threads() ? NAN : clock_sec(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_cpu_begin(bench_cpu_t *cpu)
{
    const double compute = compute_sec();
    const double process = process_sec();
    cpu->scheduler_sec = clock_sec(CLOCK_THREAD_CPUTIME_ID);
    cpu->rest_sec = process - cpu->scheduler_sec - compute;
}

void bench_cpu_end(bench_cpu_t *cpu)
{
    cpu->scheduler_sec = clock_sec(CLOCK_THREAD_CPUTIME_ID);
    const double process = process_sec();
    cpu->rest_sec = process - cpu->scheduler_sec - compute_sec();
}
