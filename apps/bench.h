/*
 * dualpipe_bench's commands: one file each, listed in bench_main.c.
 *
 *     main:  command --> options --> ranks --+--> rank 0: run --> report
 *                                            +--> rank 1: run
 *
 * The ranks are the launcher's processes or, without one, threads of this process. A command parses
 * its own options with argp, runs on every rank and, on rank 0, writes what it found
 * (bench_report_write).
 */
#ifndef DPR_APPS_BENCH_H
#define DPR_APPS_BENCH_H

#include <argp.h>

#include "apps/plan_table.h"
#include "comm/comm.h"

/* What every command has; the first member of its options. */
typedef struct bench_common {
    const char *device; /* "auto", "host", "cuda" */
    const char *clock;  /* "auto", "wall", "core"; referee also "model" */
    int ranks;          /* threads to start where there is no launcher */
    int repeats;        /* how often each thing is measured */
    int warm_up;        /* and how often before that */
    const char *json_path;
    const char *csv_path;
    bool quiet;
} bench_common_t;

static inline bench_common_t bench_common_default(int ranks, int repeats, int warm_up)
{
    return (bench_common_t){
        .device = "auto", .clock = "auto", .ranks = ranks, .repeats = repeats, .warm_up = warm_up};
}

/* One rank, as its thread sees it. */
typedef struct bench_rank {
    dpr_comm_t *comm;
    int rank;
    int ranks;
    /* Once this is set, other ranks may be inside a collective call when one fails, so that the job
     * must be aborted; before, all ranks agree on every failure. */
    bool live;
} bench_rank_t;

typedef struct bench_command {
    const char *name;
    const char *summary;  /* one line of the list of commands */
    size_t options_bytes; /* of its options, which begin with a bench_common_t */
    bool has_model_clock; /* whether it makes sense under --clock model */
    void (*set_defaults)(void *options);
    const struct argp *argp; /* its input: the options */
    /* Checks what one option alone cannot know; NULL: nothing. Logged. */
    dpr_status_t (*check)(void *options);
    /* Before the ranks meet: what must be known by then; NULL: nothing. */
    void (*prepare)(void *options);
    dpr_status_t (*run)(const void *options, bench_rank_t *self);
} bench_command_t;

extern const bench_command_t bench_gemm_command;
extern const bench_command_t bench_p2p_command;
extern const bench_command_t bench_overlap_command;
extern const bench_command_t bench_scheduler_command;
extern const bench_command_t bench_step_command;
extern const bench_command_t bench_referee_command;

/* ---- bench_options.c ---- */

/* A child parser for the options of bench_common_t, which is its input. */
extern const struct argp bench_common_argp;

enum { BENCH_MAX_LIST = 32 };

/* Whole numbers with commas between them. */
typedef struct bench_list {
    int count;
    int values[BENCH_MAX_LIST];
} bench_list_t;

/* Errors: DPR_ERR_INVALID, logged with the option and the range. */
dpr_status_t bench_parse_list(const char *option, const char *text, int least, int most,
                              bench_list_t *list);

/* Names of schedules with commas between them. */
typedef struct bench_names {
    int count;
    const char *names[BENCH_MAX_LIST];
    char text[512]; /* what the names point into */
} bench_names_t;

/* Errors: DPR_ERR_INVALID, logged with the names known. */
dpr_status_t bench_parse_schedules(const char *option, const char *text, bench_names_t *names);

/* ---- bench_launch.c ---- */

/* Whether the ranks are threads of this process. */
bool bench_ranks_are_threads(void);

/* Where messages go: call once, before anything can fail. */
void bench_messages_start(const char *program);

/*
 * Runs the command on all ranks; returns the exit code of this process. `command_line` is a number
 * that stands for the options: where ranks have different ones, all refuse.
 */
int bench_launch(const bench_command_t *command, void *options, uint64_t command_line);

/* ---- bench_stats.c ---- */

/* Median with quartiles and extremes of what was measured. */
typedef struct bench_spread {
    double median;
    double p25;
    double p75;
    double least;
    double most;
} bench_spread_t;

/* Sorts `values` (at least one). */
bench_spread_t bench_spread_of(double *values, size_t count);

/* The columns of a median with its quartiles, which are for programs alone, and their cells. */
#define BENCH_SPREAD_COLUMNS(prefix, title)                                                        \
    {prefix "sec", title, PLAN_REAL}, {prefix "p25_sec", NULL, PLAN_REAL},                         \
    {                                                                                              \
        prefix "p75_sec", NULL, PLAN_REAL                                                          \
    }
void bench_spread_cells(plan_table_t *table, const bench_spread_t *spread);

/* Mean over the ranks of one number of each, on every rank; collective. */
dpr_status_t bench_mean_over_ranks(const bench_rank_t *self, double mine, double *mean);
/* The largest likewise. */
dpr_status_t bench_most_over_ranks(const bench_rank_t *self, double mine, double *most);

/* Median and quartiles of this rank's values, which it sorts, each the mean over the ranks; the
 * extremes stay this rank's. Collective. */
dpr_status_t bench_spread_over_ranks(const bench_rank_t *self, double *values, size_t count,
                                     bench_spread_t *spread);

/* Seconds of the monotonic clock. */
double bench_now_sec(void);

/* ---- bench_stats.c: reports ---- */

/*
 * Writes what a command found: text to standard output (unless --quiet, or --json or --csv went
 * there by the name "-"), and the files asked for. Call on rank 0. Errors: DPR_ERR_IO,
 * DPR_ERR_MEMORY.
 */
dpr_status_t bench_report_write(const bench_common_t *common, const char *command,
                                const plan_table_t *facts, const plan_section_t *sections,
                                int count);

#endif
