/*
 * How fast a program becomes a prediction: nodes per second of each step from generator to
 * simulation, on one core.
 *
 *     schedule_bench [SCHEDULE [RANKS [MICRO_BATCHES]]]      default: dualpipe 64 4096
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "models/simulate.h"
#include "schedule/generators.h"

enum { ROUNDS = 5 };

static double now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The steps, and the shortest time that each took. */
typedef enum step { GENERATE, BUILD, VERIFY, SIMULATE, MAKESPAN, STEPS } step_t;

static const char *const step_names[STEPS] = {
    [GENERATE] = "generate", [BUILD] = "build",       [VERIFY] = "verify",
    [SIMULATE] = "simulate", [MAKESPAN] = "makespan",
};

typedef struct laps {
    double least[STEPS];
    double last;
} laps_t;

static void lap(laps_t *laps, step_t step)
{
    const double now = now_sec();
    const double took = now - laps->last;
    if (laps->least[step] == 0.0 || took < laps->least[step]) {
        laps->least[step] = took;
    }
    laps->last = now_sec();
}

static dpr_status_t simulate_graph(laps_t *laps, const dpr_graph_t *graph, double *span)
{
    const dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    double *cost;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *cost, &cost));
    dpr_uniform_costs_fill(&costs, graph, cost);
    dpr_timeline_t timeline;
    const dpr_status_t status = dpr_timeline_init(&timeline, graph);
    if (status == DPR_OK) {
        dpr_simulate(graph, cost, &timeline); /* touches the memory once */
        laps->last = now_sec();
        dpr_simulate(graph, cost, &timeline);
        lap(laps, SIMULATE);
        *span = dpr_simulate_makespan(graph, cost, timeline.end);
        lap(laps, MAKESPAN);
        dpr_timeline_free(&timeline);
    }
    free(cost);
    return status;
}

static dpr_status_t run_round(laps_t *laps, const char *schedule, int ranks, int micro_batches,
                              int *nodes, double *span)
{
    dpr_program_t program;
    dpr_graph_t *graph = NULL;
    laps->last = now_sec();
    DPR_TRY(dpr_schedule_generate(schedule, ranks, micro_batches, &program));
    lap(laps, GENERATE);
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_graph_build(&program, NULL, &graph), free_program);
    lap(laps, BUILD);
    DPR_TRY_GOTO(dpr_graph_verify(graph), destroy_graph);
    lap(laps, VERIFY);
    *nodes = graph->node_count;
    status = simulate_graph(laps, graph, span);
destroy_graph:
    dpr_graph_destroy(graph);
free_program:
    dpr_program_free(&program);
    return status;
}

static void print_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "schedule_bench: %s\n", message);
}

int main(int argc, char *argv[])
{
    dpr_log_set_sink(print_message, NULL);
    const char *schedule = argc > 1 ? argv[1] : "dualpipe";
    const int ranks = argc > 2 ? atoi(argv[2]) : 64;
    const int micro_batches = argc > 3 ? atoi(argv[3]) : 4096;
    laps_t laps = {{0.0}, 0.0};
    int nodes = 0;
    double span = 0.0;
    for (int round = 0; round < ROUNDS; round++) {
        if (run_round(&laps, schedule, ranks, micro_batches, &nodes, &span) != DPR_OK) {
            return EXIT_FAILURE;
        }
    }
    printf("%s, %d ranks, %d micro-batches: %d ops and transfers, span %g; best of %d rounds\n\n",
           schedule, ranks, micro_batches, nodes, span, (int)ROUNDS);
    printf("%-10s  %10s  %14s\n", "step", "ms", "million ops/s");
    for (int step = 0; step < STEPS; step++) {
        printf("%-10s  %10.2f  %14.1f\n", step_names[step], 1e3 * laps.least[step],
               1e-6 * nodes / laps.least[step]);
    }
    return EXIT_SUCCESS;
}
