/*
 * dualpipe_bench step: how fast a training step is, how near to its matrix products alone, and what
 * else takes part of it.
 *
 * Steps and the bare products of the same program (bench_products.h) alternate, so that both see
 * the same machine. All ranks play their products at the same time, as in a step.
 */
#include <math.h>
#include <stdlib.h>

#include "apps/bench_cpu.h"
#include "apps/bench_products.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/ledger.h"
#include "runtime/clock_fit.h"
#include "runtime/measure.h"

/* What of each step is kept, on every rank the same. */
typedef enum column {
    STEP,      /* the whole, seconds: the schedule, the reduction of replicas and the update */
    SPAN,      /* the schedule alone */
    REDUCTION, /* mean over the ranks */
    UPDATE,
    BUBBLE, /* mean bubble ratio */
    PLAIN,  /* the bound: all products at the rate of the bare ones, seconds */
    SCHEDULER,
    COPIES,
    HOST, /* shares of the span, by the ledger */
    WIRE,
    BUFFER,
    COLUMNS,
} column_t;

typedef struct measured {
    int repeats;
    double *values; /* [COLUMNS][repeats] */
} measured_t;

static double *series(const measured_t *measured, column_t column)
{
    return measured->values + (size_t)column * (size_t)measured->repeats;
}

/* ---- One step ---- */

static dpr_status_t bound_sec(const bench_rank_t *self, bench_products_t *products, double *sec)
{
    double mine_sec, mine_flops, rate, flops;
    DPR_TRY(dpr_comm_barrier(self->comm));
    DPR_TRY(bench_products_play(products, &mine_sec, &mine_flops));
    DPR_TRY(bench_mean_over_ranks(self, mine_flops > 0.0 ? mine_flops / mine_sec : 0.0, &rate));
    DPR_TRY(bench_mean_over_ranks(self, mine_flops, &flops));
    *sec = flops / rate;
    return DPR_OK;
}

enum { CLOCK_ROUNDS = 20 };

/* What this rank adds to its times to get rank 0's; 0 under virtual clocks. Collective. */
static dpr_status_t align_clocks(const bench_rig_t *rig, double *offset_sec)
{
    dpr_clock_sample_t exchange = {0};
    if (rig->machine->clock == DPR_CLOCK_WALL) { /* virtual ones start each step together */
        DPR_TRY(dpr_clock_sample_take(rig->machine->comm, rig->machine->device, CLOCK_ROUNDS,
                                      &exchange));
    }
    *offset_sec = exchange.offset_sec;
    return DPR_OK;
}

/* What the ledger of the step's timeline says of waits. Collective. */
static dpr_status_t keep_ledger(bench_rig_t *rig, double offset_sec, double *row)
{
    dpr_timeline_t timeline;
    dpr_timeline_summary_t summary = {0};
    dpr_ledger_t ledger = {0};
    dpr_status_t status;
    DPR_TRY(dpr_timeline_init(&timeline, dpr_pipeline_graph(rig->pipeline)));
    DPR_TRY_GOTO(dpr_measure_timeline(rig->self->comm, dpr_pipeline_executor(rig->pipeline),
                                      offset_sec, &timeline),
                 free_timeline);
    DPR_TRY_GOTO(dpr_timeline_summarize(&timeline, &summary), free_timeline);
    DPR_TRY_GOTO(dpr_ledger_init(&timeline, NULL, NULL, &ledger), free_timeline);
    row[SPAN] = summary.span_sec;
    row[BUBBLE] = summary.bubble_ratio;
    row[HOST] = dpr_ledger_mean_ratio(&ledger, DPR_CAUSE_HOST);
    row[WIRE] = dpr_ledger_mean_ratio(&ledger, DPR_CAUSE_WIRE);
    row[BUFFER] = dpr_ledger_mean_ratio(&ledger, DPR_CAUSE_BUFFER);

free_timeline:
    dpr_ledger_free(&ledger);
    dpr_timeline_summary_free(&summary);
    dpr_timeline_free(&timeline);
    return status;
}

static int32_t transfers(const dpr_graph_t *graph)
{
    return graph->node_count - graph->compute_count;
}

/*
 * CPU seconds of a step's messages, mean over the ranks: what a forward-only pass, which has no
 * gradients to reduce, took outside of compute and scheduler, for each message, times the step's
 * messages.
 */
static dpr_status_t copies_sec(bench_rig_t *rig, double *sec)
{
    const int32_t of_pass = transfers(dpr_pipeline_eval_graph(rig->pipeline));
    const int32_t of_step = transfers(dpr_pipeline_graph(rig->pipeline));
    bench_cpu_t before, after;
    DPR_TRY(dpr_comm_barrier(rig->self->comm));
    bench_cpu_begin(&before);
    DPR_TRY(dpr_pipeline_evaluate(rig->pipeline, (int)(rig->step & 1), 1.0f));
    DPR_TRY(dpr_pipeline_synchronize(rig->pipeline));
    bench_cpu_end(&after);
    const double each = of_pass > 0 ? (after.rest_sec - before.rest_sec) / of_pass : 0.0;
    return bench_mean_over_ranks(rig->self, each * of_step, sec);
}

/* The step's length on this rank: by the wall clock all of it, else what its parts cost. */
static double whole_sec(const bench_rig_t *rig, double wall_sec, const double *row)
{
    return rig->machine->clock == DPR_CLOCK_WALL ? wall_sec
                                                 : row[SPAN] + row[REDUCTION] + row[UPDATE];
}

static dpr_status_t take_step(bench_rig_t *rig, bench_products_t *products, double offset_sec,
                              double *row)
{
    const bench_rank_t *self = rig->self;
    bench_cpu_t before, after;
    dpr_pipeline_result_t result;
    DPR_TRY(bound_sec(self, products, &row[PLAIN]));
    DPR_TRY(dpr_comm_barrier(self->comm));
    bench_cpu_begin(&before);
    const double begin = bench_now_sec();
    DPR_TRY(bench_rig_step(rig));
    const double wall_sec = bench_now_sec() - begin;
    bench_cpu_end(&after);
    dpr_pipeline_result(rig->pipeline, &result);
    DPR_TRY(bench_mean_over_ranks(self, result.reduction_sec, &row[REDUCTION]));
    DPR_TRY(bench_mean_over_ranks(self, result.update_sec, &row[UPDATE]));
    DPR_TRY(keep_ledger(rig, offset_sec, row));
    DPR_TRY(bench_most_over_ranks(self, whole_sec(rig, wall_sec, row), &row[STEP]));
    DPR_TRY(
        bench_mean_over_ranks(self, after.scheduler_sec - before.scheduler_sec, &row[SCHEDULER]));
    return copies_sec(rig, &row[COPIES]);
}

static dpr_status_t take_steps(bench_rig_t *rig, bench_products_t *products, int warm_up,
                               measured_t *measured)
{
    double row[COLUMNS];
    double offset_sec;
    DPR_TRY(align_clocks(rig, &offset_sec));
    for (int i = -warm_up; i < measured->repeats; i++) {
        DPR_TRY(take_step(rig, products, offset_sec, row));
        for (int c = 0; c < COLUMNS && i >= 0; c++) {
            series(measured, (column_t)c)[i] = row[c];
        }
    }
    return DPR_OK;
}

/* ---- The table ---- */

static const plan_column_t columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"micro_batches", "M", PLAN_INT},
    {"stages", "S", PLAN_INT},
    BENCH_SPREAD_COLUMNS("step_", "step s"),
    BENCH_SPREAD_COLUMNS("span_", "span s"),
    {"reduction_sec", NULL, PLAN_REAL},
    {"update_sec", NULL, PLAN_REAL},
    {"bubble_ratio", "bubble", PLAN_PERCENT},
    {"samples_per_sec", "samples/s", PLAN_REAL},
    {"gemm_flops", NULL, PLAN_REAL},
    {"flops_per_sec", "FLOP/s", PLAN_REAL},
    {"bound_sec", "bound s", PLAN_REAL},
    {"bound_flops_per_sec", "bound FLOP/s", PLAN_REAL},
    {"span_efficiency", "efficiency", PLAN_PERCENT},
    {"step_efficiency", "with update", PLAN_PERCENT},
    {"scheduler_ratio", "scheduler", PLAN_PERCENT},
    {"copies_ratio", "copies", PLAN_PERCENT},
    {"host_ratio", "host", PLAN_PERCENT},
    {"wire_ratio", "wire", PLAN_PERCENT},
    {"buffer_ratio", "buffer", PLAN_PERCENT},
    {"overhead_ratio", "overhead", PLAN_PERCENT},
};

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"hidden", "hidden", PLAN_INT},
    {"ffn", "ffn", PLAN_INT},
    {"blocks", "blocks", PLAN_INT},
    {"micro_batch_size", "micro-batch size", PLAN_INT},
};

enum {
    COUNT = sizeof columns / sizeof columns[0],
    FACTS = sizeof fact_columns / sizeof fact_columns[0]
};

static double median(const measured_t *measured, column_t column)
{
    return bench_spread_of(series(measured, column), (size_t)measured->repeats).median;
}

/* Scheduler and copies as shares of the whole step, waits as shares of the span. */
static void add_shares(const measured_t *measured, double step_sec, plan_table_t *table)
{
    const double scheduler = median(measured, SCHEDULER) / step_sec;
    const double copies = median(measured, COPIES) / step_sec;
    const double host = median(measured, HOST);
    const double wire = median(measured, WIRE);
    const double buffer = median(measured, BUFFER);
    plan_table_real(table, scheduler);
    plan_table_real(table, copies);
    plan_table_real(table, host);
    plan_table_real(table, wire);
    plan_table_real(table, buffer);
    plan_table_real(table, scheduler + (isnan(copies) ? 0.0 : copies) + host + wire + buffer);
}

static void add_row(const bench_rig_t *rig, const measured_t *measured, plan_table_t *table)
{
    const bench_spread_t step = bench_spread_of(series(measured, STEP), (size_t)measured->repeats);
    const bench_spread_t span = bench_spread_of(series(measured, SPAN), (size_t)measured->repeats);
    const double flops = bench_rig_flops(rig);
    const double bound = median(measured, PLAIN);
    plan_table_text(table, rig->program.name);
    plan_table_int(table, rig->program.micro_batches);
    plan_table_int(table, rig->program.stages);
    bench_spread_cells(table, &step);
    bench_spread_cells(table, &span);
    plan_table_real(table, median(measured, REDUCTION));
    plan_table_real(table, median(measured, UPDATE));
    plan_table_real(table, median(measured, BUBBLE));
    plan_table_real(table, (double)rig->global_batch / step.median);
    plan_table_real(table, flops);
    plan_table_real(table, flops / step.median);
    plan_table_real(table, bound);
    plan_table_real(table, flops / bound);
    plan_table_real(table, bound / span.median);
    plan_table_real(table, bound / step.median);
    add_shares(measured, step.median, table);
}

/* ---- The command ---- */

/* What the ranks' products are must be what the stages say that they are. */
static dpr_status_t check_flops(bench_rig_t *rig, bench_products_t *products)
{
    double sec, flops, mean;
    DPR_TRY(bench_products_play(products, &sec, &flops));
    DPR_TRY(bench_mean_over_ranks(rig->self, flops, &mean));
    const double played = mean * rig->self->ranks;
    const double expected = bench_rig_flops(rig);
    if (!(fabs(played - expected) <= 1e-9 * expected)) {
        return dpr_fail(DPR_ERR_MISMATCH,
                        "schedule %s: the products played are %.0f operations, but the stages' are "
                        "%.0f",
                        rig->program.name, played, expected);
    }
    return DPR_OK;
}

static dpr_status_t measure_row(const bench_rig_options_t *options, bench_rank_t *self,
                                bench_rig_t *rig, plan_table_t *table)
{
    measured_t measured = {.repeats = options->common.repeats};
    bench_products_t *products = NULL;
    dpr_status_t status =
        dpr_calloc((size_t)COLUMNS * (size_t)measured.repeats, sizeof(double), &measured.values);
    if (status == DPR_OK) {
        status = bench_products_open(rig, &products);
    }
    status = dpr_comm_agree(self->comm, status, NULL);
    if (status == DPR_OK) {
        self->live = true;
        status = check_flops(rig, products);
    }
    if (status == DPR_OK) {
        status = take_steps(rig, products, options->common.warm_up, &measured);
    }
    if (status == DPR_OK) {
        self->live = false;
        add_row(rig, &measured, table);
    }
    bench_products_close(products);
    free(measured.values);
    return status;
}

static dpr_status_t measure_all(const bench_rig_options_t *options, bench_rank_t *self,
                                bench_machine_t *machine, plan_table_t *table,
                                dpr_model_config_t *model)
{
    const bench_load_t *load = &options->load;
    const int schedules = load->schedules.count > 0 ? load->schedules.count : 1;
    const int sizes = load->micro_batches.count > 0 ? load->micro_batches.count : 1;
    for (int i = 0; i < schedules * sizes; i++) {
        bench_rig_t rig;
        dpr_train_config_t config = load->config;
        config.schedule = load->schedules.count > 0 ? load->schedules.names[i / sizes] : NULL;
        config.micro_batches =
            load->micro_batches.count > 0 ? load->micro_batches.values[i % sizes] : 0;
        DPR_TRY(bench_rig_open(self, machine, &config, &rig));
        const dpr_status_t status = measure_row(options, self, &rig, table);
        *model = rig.model;
        if (status != DPR_OK && self->live) {
            return status; /* the job is aborted */
        }
        bench_rig_close(&rig);
        DPR_TRY(status);
    }
    return DPR_OK;
}

static dpr_status_t report(const bench_rig_options_t *options, const bench_machine_t *machine,
                           const dpr_model_config_t *model, plan_table_t *facts,
                           const plan_table_t *table)
{
    const plan_section_t section = {.key = "steps", .title = NULL, .table = table};
    bench_machine_cells(machine, &options->common, facts);
    plan_table_int(facts, model->hidden);
    plan_table_int(facts, model->ffn);
    plan_table_int(facts, model->blocks);
    plan_table_int(facts, model->micro_batch_size);
    return bench_report_write(&options->common, "step", facts, &section, 1);
}

static dpr_status_t run(const void *arguments, bench_rank_t *self)
{
    const bench_rig_options_t *options = arguments;
    bench_machine_t machine;
    dpr_model_config_t model = {0};
    plan_table_t *table = NULL;
    plan_table_t *facts = NULL;
    dpr_status_t status;
    DPR_TRY(bench_machine_open(&options->common, self, &machine));
    status = plan_table_create(columns, COUNT, &table);
    if (status == DPR_OK) {
        status = plan_table_create(fact_columns, FACTS, &facts);
    }
    DPR_TRY_GOTO(dpr_comm_agree(self->comm, status, NULL), close_machine);
    DPR_TRY_GOTO(measure_all(options, self, &machine, table, &model), close_machine);
    if (self->rank == 0) {
        status = report(options, &machine, &model, facts, table);
    }
    status = dpr_comm_agree(self->comm, status, NULL);

close_machine:
    plan_table_destroy(facts);
    plan_table_destroy(table);
    if (!self->live) {
        bench_machine_close(&machine);
    }
    return status;
}

static const struct argp argp = {
    .parser = bench_rig_options_parse,
    .children = bench_load_children,
    .doc = "Times whole training steps beside the bare products of the same program, which "
           "alternate with them.\vefficiency: the bound, which is what the products alone take on "
           "the same cores, over the span of the schedule; with update: over the whole step. "
           "scheduler and copies: CPU time of the thread that enqueues and of the threads that "
           "move a step's messages, over the step (copies: under a launcher only). host, wire, "
           "buffer: the ledger's causes, of the span. overhead: their sum, which counts twice what "
           "overlaps."};

static void set_defaults(void *options)
{
    bench_rig_options_default(options, 1, 20, 3);
}

const bench_command_t bench_step_command = {
    .name = "step",
    .summary = "a training step: samples/s, efficiency, what overhead there is",
    .options_bytes = sizeof(bench_rig_options_t),
    .set_defaults = set_defaults,
    .argp = &argp,
    .run = run,
};
