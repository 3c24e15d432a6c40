/*
 * What the models cost: simulation in ops a second on one core, the simulator's memory, Monte Carlo
 * draws, and the search's simulated configurations a second.
 *
 *     models_bench [--threads N]
 *
 * An op is a node of the graph: a compute op or a transfer. Every rate is the median of ROUNDS
 * rounds after one to warm up.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "models/costs.h"
#include "models/montecarlo.h"
#include "models/parallel.h"
#include "models/search.h"
#include "models/simulate.h"

enum { ROUNDS = 9 };

static double now_sec(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- Simulation ---- */

typedef struct rig {
    dpr_graph_t *graph;
    double *cost;
    double *end;
    dpr_timeline_t timeline;
} rig_t;

typedef void (*pass_fn_t)(rig_t *rig);

static void makespan_pass(rig_t *rig)
{
    volatile double span = dpr_simulate_makespan(rig->graph, rig->cost, rig->end);
    (void)span;
}

static void timeline_pass(rig_t *rig)
{
    dpr_simulate(rig->graph, rig->cost, &rig->timeline);
}

static double ops_per_sec(rig_t *rig, pass_fn_t pass)
{
    const int passes = 1 + 4000000 / rig->graph->node_count;
    double rates[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        const double start = now_sec();
        for (int i = 0; i < passes; i++) {
            pass(rig);
        }
        const double sec = now_sec() - start;
        rates[round < 0 ? 0 : round] = (double)rig->graph->node_count * passes / sec;
    }
    qsort(rates, ROUNDS, sizeof rates[0], compare_doubles);
    return rates[ROUNDS / 2];
}

/* Bytes that a simulation touches: nodes, edges and order of the graph, costs, and end times; with
 * all four times of a timeline instead of the last. */
static double bytes_per_op(const dpr_graph_t *graph, int times)
{
    const double nodes = graph->node_count;
    const double bytes =
        nodes * (double)(sizeof *graph->nodes + sizeof *graph->edge_begin + sizeof *graph->order) +
        (double)graph->edge_count * (double)sizeof *graph->edges +
        nodes * (1.0 + times) * (double)sizeof(double);
    return bytes / nodes;
}

static dpr_status_t bench_graph(const char *schedule, int P, int M)
{
    const dpr_uniform_costs_t costs = {1.0, 1.1, 0.9, -1.0, -1.0, 0.05};
    dpr_program_t program = {0};
    rig_t rig = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_schedule_generate(schedule, P, M, &program), free_all);
    const double start = now_sec();
    DPR_TRY_GOTO(dpr_graph_create(&program, NULL, &rig.graph), free_all);
    const double lowered = now_sec() - start;
    const size_t nodes = (size_t)rig.graph->node_count;
    DPR_TRY_GOTO(dpr_calloc(2 * nodes, sizeof(double), &rig.cost), free_all);
    rig.end = rig.cost + nodes;
    DPR_TRY_GOTO(dpr_timeline_init(&rig.timeline, rig.graph), free_all);
    dpr_uniform_costs_fill(&costs, rig.graph, rig.cost);
    printf("%-10s P=%-3d M=%-5d %8d ops: makespan %6.1f, timeline %6.1f million ops/s; lowering "
           "%6.1f; %.0f and %.0f bytes/op\n",
           schedule, P, M, rig.graph->node_count, 1e-6 * ops_per_sec(&rig, makespan_pass),
           1e-6 * ops_per_sec(&rig, timeline_pass), 1e-6 * (double)nodes / lowered,
           bytes_per_op(rig.graph, 1), bytes_per_op(rig.graph, 4));
free_all:
    dpr_timeline_free(&rig.timeline);
    free(rig.cost);
    dpr_graph_destroy(rig.graph);
    dpr_program_free(&program);
    return status;
}

/* ---- Monte Carlo ---- */

static dpr_status_t bench_draws(int threads)
{
    const dpr_uniform_costs_t costs = DPR_UNIFORM_COSTS_DEFAULT;
    const dpr_montecarlo_options_t options = {2000, 0.1, 1, threads};
    dpr_program_t program = {0};
    dpr_graph_t *graph = NULL;
    double *cost = NULL;
    dpr_montecarlo_t drawn;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_schedule_generate("dualpipe", 8, 32, &program), free_all);
    DPR_TRY_GOTO(dpr_graph_create(&program, NULL, &graph), free_all);
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->node_count, sizeof *cost, &cost), free_all);
    dpr_uniform_costs_fill(&costs, graph, cost);
    const double start = now_sec();
    DPR_TRY_GOTO(dpr_montecarlo_run(graph, cost, &options, &drawn), free_all);
    printf("Monte Carlo, dualpipe P=8 M=32, %d ops a draw, %d threads: %.0f draws/s\n",
           graph->node_count, dpr_parallel_threads(threads, options.draws),
           options.draws / (now_sec() - start));
free_all:
    free(cost);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    return status;
}

/* ---- Search ---- */

static const dpr_hardware_t hardware = {
    .name = "bench",
    .peak_flops_per_sec = {67e12, 494.5e12, 989.5e12},
    .flops_fraction = 0.5,
    .memory_bytes = 80e9,
    .memory_bandwidth_bytes_per_sec = 3.35e12,
    .memory_fraction = 0.8,
    .op_overhead_sec = 2e-5,
    .devices_per_node = 8,
    .node_link = {5e-6, 450e9},
    .network_link = {1e-5, 50e9},
    .link_fraction = 0.8,
};

static const dpr_workload_t workload = {
    .parameters = 10000000,
    .hidden = 1024,
    .sequence = 512,
    .precision = DPR_PRECISION_BF16,
    .fb_factor = 1.0,
};

static dpr_status_t bench_search(const char *what, const dpr_search_options_t *options)
{
    double rates[ROUNDS];
    int considered = 0;
    for (int round = -1; round < ROUNDS; round++) {
        dpr_search_t search;
        const double start = now_sec();
        DPR_TRY(dpr_search_run(&workload, &hardware, options, &search));
        rates[round < 0 ? 0 : round] = search.considered / (now_sec() - start);
        considered = search.considered;
        dpr_search_free(&search);
    }
    qsort(rates, ROUNDS, sizeof rates[0], compare_doubles);
    printf("search %-28s %5d configurations, %d threads: %.0f configurations/s\n", what, considered,
           dpr_parallel_threads(options->threads, considered), rates[ROUNDS / 2]);
    return DPR_OK;
}

/* Each configuration lowered anew, as the first of its group: P = 8, M = 32 alone. */
static dpr_status_t bench_one_by_one(void)
{
    const dpr_layout_t layout = {"dualpipe", 8, 32, 2, 1};
    enum { COUNT = 200 };
    const double start = now_sec();
    for (int i = 0; i < COUNT; i++) {
        dpr_throughput_t found;
        DPR_TRY(dpr_throughput_predict(&workload, &hardware, &layout, &found));
    }
    printf("one layout, dualpipe P=8 M=32, generated, lowered, sized and played, one thread: %.0f "
           "configurations/s\n",
           COUNT / (now_sec() - start));
    return DPR_OK;
}

static dpr_status_t run(int threads)
{
    const dpr_search_options_t eight = {8, 8, 8, 32, 80e9, NULL, threads};
    const dpr_search_options_t wide = {2, 16, 64, 256, 80e9, NULL, threads};
    DPR_TRY(bench_graph("1f1b", 8, 32));
    DPR_TRY(bench_graph("dualpipe", 8, 32));
    DPR_TRY(bench_graph("zb1p", 8, 1024));
    DPR_TRY(bench_graph("dualpipe", 32, 256));
    DPR_TRY(bench_graph("dualpipe", 64, 4096));
    DPR_TRY(bench_draws(threads));
    DPR_TRY(bench_one_by_one());
    DPR_TRY(bench_search("P = 8, batch 32", &eight));
    return bench_search("P = 2 .. 16, 64 devices", &wide);
}

int main(int argc, char **argv)
{
    const bool given = argc == 3 && strcmp(argv[1], "--threads") == 0;
    char *end = "";
    const long threads = given ? strtol(argv[2], &end, 10) : 0;
    if (argc > (given ? 3 : 1) || *end != '\0' || threads < 0 || threads > DPR_MAX_THREADS) {
        fprintf(stderr, "usage: models_bench [--threads 0..%d]\n", (int)DPR_MAX_THREADS);
        return 2;
    }
    const dpr_status_t status = run((int)threads);
    if (status != DPR_OK) {
        fprintf(stderr, "models_bench: %s\n", dpr_status_text(status));
    }
    return status == DPR_OK ? 0 : 1;
}
