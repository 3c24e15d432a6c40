/*
 * dualpipe_bench referee: a grid of schedules, micro-batches and models run for real; each row's
 * closed form, simulation and measurement beside each other, with their errors.
 */
#include "apps/bench_referee.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench_plot.h"
#include "apps/plan.h"
#include "apps/program.h"
#include "base/log.h"
#include "base/memory.h"

enum { MAX_ROWS = 4096 };

/* The grid's rows, on every rank the same. */
typedef struct grid {
    int count;
    int runs;
    dpr_train_config_t *configs;
    referee_row_t *rows;
} grid_t;

/* ---- The grid ---- */

static void set_shape(const referee_options_t *options, int shape, dpr_train_config_t *config)
{
    if (options->shape_count > 0) {
        config->hidden = options->shapes[shape].hidden;
        config->ffn = options->shapes[shape].ffn;
        config->blocks = options->shapes[shape].blocks;
        config->micro_batch_size = options->shapes[shape].micro_batch_size;
    }
}

/* Adds what a schedule allows of the micro-batches asked for; the default it always allows. */
static void add_rows(const referee_options_t *options, const char *schedule, int ranks,
                     grid_t *grid)
{
    const bench_list_t *sizes = &options->load.micro_batches;
    const int shapes = options->shape_count > 0 ? options->shape_count : 1;
    for (int i = 0; i < (sizes->count > 0 ? sizes->count : 1); i++) {
        const int micro_batches = sizes->count > 0 ? sizes->values[i] : 0;
        const dpr_schedule_t *known = dpr_schedule_find(schedule);
        if (micro_batches > 0 ? !dpr_schedule_allows(schedule, ranks, micro_batches)
                              : known->min_micro_batches(ranks) == 0) {
            continue;
        }
        for (int shape = 0; shape < shapes && grid->count < MAX_ROWS; shape++) {
            dpr_train_config_t *config = &grid->configs[grid->count++];
            *config = options->load.config;
            config->schedule = schedule;
            config->micro_batches = micro_batches;
            set_shape(options, shape, config);
        }
    }
}

static dpr_status_t grid_init(const referee_options_t *options, int ranks, grid_t *grid)
{
    const bench_names_t *schedules = &options->load.schedules;
    *grid = (grid_t){.runs = options->common.repeats};
    DPR_TRY(dpr_calloc(MAX_ROWS, sizeof *grid->configs, &grid->configs));
    for (int i = 0; i < schedules->count; i++) {
        add_rows(options, schedules->names[i], ranks, grid);
    }
    if (grid->count == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "none of the schedules asked for can run on %d ranks with the "
                        "--micro-batches asked for; dualpipe_plan schedule --help says what each "
                        "needs",
                        ranks);
    }
    DPR_TRY(dpr_calloc((size_t)grid->count, sizeof *grid->rows, &grid->rows));
    for (int i = 0; i < grid->count; i++) {
        DPR_TRY(dpr_calloc((size_t)grid->runs, sizeof(referee_outcome_t), &grid->rows[i].outcomes));
    }
    return DPR_OK;
}

static void grid_free(grid_t *grid)
{
    for (int i = 0; grid->rows != NULL && i < grid->count; i++) {
        free(grid->rows[i].outcomes);
    }
    free(grid->rows);
    free(grid->configs);
}

static dpr_status_t run_grid(const referee_options_t *options, bench_rank_t *self,
                             bench_machine_t *machine, const dpr_cost_model_t *costs, grid_t *grid)
{
    for (int run = 0; run < grid->runs; run++) {
        for (int i = 0; i < grid->count; i++) {
            referee_row_t *row = &grid->rows[i];
            DPR_TRY(referee_run_row(options, self, machine, costs, &grid->configs[i], row,
                                    &row->outcomes[run]));
            if (self->rank == 0 && !options->common.quiet) {
                fprintf(stderr, "dualpipe_bench: run %d/%d, row %d/%d: %s, M = %d\n", run + 1,
                        grid->runs, i + 1, grid->count, row->schedule, row->micro_batches);
            }
        }
    }
    return DPR_OK;
}

/* ---- Over the runs ---- */

/* What the runs of a row say of its errors. */
typedef struct spread {
    bench_spread_t step;         /* signed */
    bench_spread_t bubble;       /* mean absolute error of the ranks */
    double mean_absolute_step;   /* over the runs */
    double mean_absolute_bubble; /* likewise */
    int median;                  /* the run of the median step error, the lower of two */
} spread_t;

typedef struct ordered {
    double error;
    int run;
} ordered_t;

static int by_error(const void *a, const void *b)
{
    const ordered_t *x = a;
    const ordered_t *y = b;
    return x->error != y->error ? (x->error > y->error) - (x->error < y->error) : x->run - y->run;
}

static dpr_status_t find_median(const referee_row_t *row, int runs, int *median)
{
    ordered_t *order;
    DPR_TRY(dpr_calloc((size_t)runs, sizeof *order, &order));
    for (int run = 0; run < runs; run++) {
        order[run] = (ordered_t){.error = referee_step_error(&row->outcomes[run]), .run = run};
    }
    qsort(order, (size_t)runs, sizeof *order, by_error);
    *median = order[(runs - 1) / 2].run;
    free(order);
    return DPR_OK;
}

static dpr_status_t find_spread(const referee_row_t *row, int runs, spread_t *spread)
{
    double *step;
    *spread = (spread_t){0};
    DPR_TRY(dpr_calloc(2 * (size_t)runs, sizeof *step, &step));
    double *bubble = step + runs;
    for (int run = 0; run < runs; run++) {
        step[run] = referee_step_error(&row->outcomes[run]);
        bubble[run] = row->outcomes[run].bubble_error;
        spread->mean_absolute_step += fabs(step[run]) / runs;
        spread->mean_absolute_bubble += bubble[run] / runs;
    }
    spread->step = bench_spread_of(step, (size_t)runs);
    spread->bubble = bench_spread_of(bubble, (size_t)runs);
    free(step);
    return find_median(row, runs, &spread->median);
}

/* ---- The table ---- */

/* LEAST and MOST title the errors' extremes over the runs, where there are several. */
/* clang-format off */
#define REFEREE_COLUMNS(LEAST, MOST) \
    {"schedule", "schedule", PLAN_TEXT}, \
    {"ranks", "P", PLAN_INT}, \
    {"micro_batches", "M", PLAN_INT}, \
    {"stages", "S", PLAN_INT}, \
    {"hidden", "hidden", PLAN_INT}, \
    {"ffn", "ffn", PLAN_INT}, \
    {"blocks", "blocks", PLAN_INT}, \
    {"micro_batch_size", "size", PLAN_INT}, \
    {"closed_form", NULL, PLAN_TEXT}, \
    {"step_closed_sec", "closed s", PLAN_REAL}, \
    {"step_simulated_sec", NULL, PLAN_REAL}, \
    {"step_predicted_sec", "predicted s", PLAN_REAL}, \
    {"step_measured_sec", "measured s", PLAN_REAL}, \
    {"step_measured_p10_sec", NULL, PLAN_REAL}, \
    {"step_measured_p90_sec", NULL, PLAN_REAL}, \
    {"step_closed_error", "closed err", PLAN_PERCENT}, \
    {"step_error", "error", PLAN_PERCENT}, \
    {"step_error_least", LEAST, PLAN_PERCENT}, \
    {"step_error_most", MOST, PLAN_PERCENT}, \
    {"step_error_mean", NULL, PLAN_PERCENT}, \
    {"bubble_closed", "b closed", PLAN_PERCENT}, \
    {"bubble_simulated", NULL, PLAN_PERCENT}, \
    {"bubble_predicted", "b predicted", PLAN_PERCENT}, \
    {"bubble_measured", "b measured", PLAN_PERCENT}, \
    {"bubble_error", "b error", PLAN_PERCENT}, \
    {"bubble_error_least", LEAST, PLAN_PERCENT}, \
    {"bubble_error_most", MOST, PLAN_PERCENT}, \
    {"bubble_error_mean", NULL, PLAN_PERCENT}, \
    {"part_cost", "cost", PLAN_PERCENT}, \
    {"part_wire", "wire", PLAN_PERCENT}, \
    {"part_host", "host", PLAN_PERCENT}, \
    {"part_order", "order", PLAN_PERCENT}, \
    {"bubble_part_cost", NULL, PLAN_PERCENT}, \
    {"bubble_part_wire", NULL, PLAN_PERCENT}, \
    {"bubble_part_host", NULL, PLAN_PERCENT}, \
    {"bubble_part_order", NULL, PLAN_PERCENT}, \
    {"blame", "blame", PLAN_TEXT}
/* clang-format on */

static const plan_column_t columns[] = {REFEREE_COLUMNS(NULL, NULL)};
static const plan_column_t columns_of_runs[] = {REFEREE_COLUMNS("least", "most")};

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"steps", "steps", PLAN_INT},
    {"calibration_steps", "calibration steps", PLAN_INT},
    {"mean_step_error", "mean step-time error", PLAN_PERCENT},
    {"mean_closed_step_error", "mean of the closed forms", PLAN_PERCENT},
    {"mean_bubble_error", "mean per-rank bubble error", PLAN_PERCENT},
    {"rows", "rows", PLAN_INT},
    {"rows_missed", "rows beyond 3 % or 1 point", PLAN_INT},
};

enum {
    COUNT = sizeof columns / sizeof columns[0],
    FACTS = sizeof fact_columns / sizeof fact_columns[0]
};

static void add_real(plan_table_t *table, double value)
{
    if (isnan(value)) {
        plan_table_none(table);
    } else {
        plan_table_real(table, value);
    }
}

static void add_model(const referee_row_t *row, int ranks, plan_table_t *table)
{
    plan_table_text(table, row->schedule);
    plan_table_int(table, ranks);
    plan_table_int(table, row->micro_batches);
    plan_table_int(table, row->stages);
    plan_table_int(table, row->model.hidden);
    plan_table_int(table, row->model.ffn);
    plan_table_int(table, row->model.blocks);
    plan_table_int(table, row->model.micro_batch_size);
    plan_table_text(table, row->has_closed_form ? dpr_exactness_name(row->exactness) : "none");
}

static void add_outcome(const referee_outcome_t *o, const spread_t *spread, plan_table_t *table)
{
    const double reals[] = {
        o->closed_step_sec,
        o->means_step_sec,
        o->predicted_step_sec,
        o->measured_step_sec,
        o->measured_p10_sec,
        o->measured_p90_sec,
        o->closed_step_sec / o->measured_step_sec - 1.0,
        referee_step_error(o),
        spread->step.least,
        spread->step.most,
        spread->mean_absolute_step,
        o->closed_bubble,
        o->means_bubble,
        o->predicted_bubble,
        o->measured_bubble,
        o->bubble_error,
        spread->bubble.least,
        spread->bubble.most,
        spread->mean_absolute_bubble,
        o->step_parts.cost / o->measured_step_sec,
        o->step_parts.wire / o->measured_step_sec,
        o->step_parts.host / o->measured_step_sec,
        o->step_parts.order / o->measured_step_sec,
        o->bubble_parts.cost,
        o->bubble_parts.wire,
        o->bubble_parts.host,
        o->bubble_parts.order,
    };
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        add_real(table, reals[i]);
    }
    plan_table_text(table, referee_blame(o));
}

/* Sums over the rows. */
typedef struct verdict {
    double step_error;
    double closed_error;
    double bubble_error;
    int closed_rows;
    int missed;
} verdict_t;

static void judge(const referee_outcome_t *o, const spread_t *spread, verdict_t *verdict)
{
    verdict->step_error += spread->mean_absolute_step;
    verdict->bubble_error += spread->mean_absolute_bubble;
    verdict->missed += strcmp(referee_blame(o), "-") != 0;
    if (!isnan(o->closed_step_sec)) {
        verdict->closed_error += fabs(o->closed_step_sec / o->measured_step_sec - 1.0);
        verdict->closed_rows++;
    }
}

static void add_facts(const referee_options_t *options, const bench_machine_t *machine,
                      const grid_t *grid, const verdict_t *verdict, plan_table_t *facts)
{
    bench_machine_cells(machine, &options->common, facts);
    plan_table_int(facts, options->steps);
    plan_table_int(facts, options->calibrate_steps);
    plan_table_real(facts, verdict->step_error / grid->count);
    add_real(facts, verdict->closed_rows > 0 ? verdict->closed_error / verdict->closed_rows : NAN);
    plan_table_real(facts, verdict->bubble_error / grid->count);
    plan_table_int(facts, grid->count);
    plan_table_int(facts, verdict->missed);
}

/* ---- The plot ---- */

static dpr_status_t plot(const referee_options_t *options, const grid_t *grid,
                         const referee_outcome_t *medians)
{
    bench_plot_point_t *points;
    if (options->plot_path == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_calloc(2 * (size_t)grid->count, sizeof *points, &points));
    for (int i = 0; i < grid->count; i++) {
        const char *series = grid->rows[i].schedule;
        points[i] = (bench_plot_point_t){.series = series,
                                         .x = 1e3 * medians[i].measured_step_sec,
                                         .y = 1e3 * medians[i].predicted_step_sec};
        points[grid->count + i] = (bench_plot_point_t){.series = series,
                                                       .x = 100.0 * medians[i].measured_bubble,
                                                       .y = 100.0 * medians[i].predicted_bubble};
    }
    const bench_plot_panel_t panels[] = {
        {.title = "Step time", .unit = "ms", .points = points, .count = grid->count},
        {.title = "Bubble", .unit = "%", .points = points + grid->count, .count = grid->count},
    };
    const dpr_status_t status = bench_plot_write(panels, 2, options->plot_path);
    free(points);
    return status;
}

/* ---- The command ---- */

static dpr_status_t fill(const grid_t *grid, int ranks, referee_outcome_t *medians,
                         plan_table_t *table, verdict_t *verdict)
{
    for (int i = 0; i < grid->count; i++) {
        spread_t spread;
        DPR_TRY(find_spread(&grid->rows[i], grid->runs, &spread));
        medians[i] = grid->rows[i].outcomes[spread.median];
        add_model(&grid->rows[i], ranks, table);
        add_outcome(&medians[i], &spread, table);
        judge(&medians[i], &spread, verdict);
    }
    return DPR_OK;
}

static dpr_status_t report(const referee_options_t *options, const bench_machine_t *machine,
                           int ranks, const grid_t *grid)
{
    plan_table_t *table = NULL;
    plan_table_t *facts = NULL;
    referee_outcome_t *medians = NULL;
    verdict_t verdict = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(plan_table_create(grid->runs > 1 ? columns_of_runs : columns, COUNT, &table),
                 free_tables);
    DPR_TRY_GOTO(plan_table_create(fact_columns, FACTS, &facts), free_tables);
    DPR_TRY_GOTO(dpr_calloc((size_t)grid->count, sizeof *medians, &medians), free_tables);
    DPR_TRY_GOTO(fill(grid, ranks, medians, table, &verdict), free_tables);
    add_facts(options, machine, grid, &verdict, facts);
    const plan_section_t section = {.key = "grid", .title = NULL, .table = table};
    DPR_TRY_GOTO(bench_report_write(&options->common, "referee", facts, &section, 1), free_tables);
    status = plot(options, grid, medians);

free_tables:
    free(medians);
    plan_table_destroy(facts);
    plan_table_destroy(table);
    return status;
}

static dpr_status_t referee(const referee_options_t *options, bench_rank_t *self,
                            bench_machine_t *machine, dpr_cost_model_t *costs, grid_t *grid)
{
    dpr_status_t status = grid_init(options, self->ranks, grid);
    if (status == DPR_OK && machine->clock == DPR_CLOCK_MODEL) {
        status = dpr_cost_model_read(options->cost_model, costs);
    }
    if (status == DPR_OK && self->rank == 0) {
        status = program_check_writable("plot", options->plot_path);
    }
    DPR_TRY(dpr_comm_agree(self->comm, status, NULL));
    DPR_TRY(run_grid(options, self, machine, costs, grid));
    if (self->rank == 0) {
        status = report(options, machine, self->ranks, grid);
    }
    return dpr_comm_agree(self->comm, status, NULL);
}

dpr_status_t referee_run(const void *arguments, bench_rank_t *self)
{
    bench_machine_t machine;
    dpr_cost_model_t costs = {0};
    grid_t grid = {0};
    const referee_options_t *options = arguments;
    DPR_TRY(bench_machine_open(&options->common, self, &machine));
    const dpr_status_t status = referee(options, self, &machine, &costs, &grid);
    if (!self->live) {
        bench_machine_close(&machine);
    }
    dpr_cost_model_free(&costs);
    grid_free(&grid);
    return status;
}
