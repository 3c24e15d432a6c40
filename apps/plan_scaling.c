/* dualpipe_plan scaling: how throughput grows with devices, and where it stops paying. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/scaling.h"

enum { SIZE_MAX_INT = 1 << 20 };

typedef struct options {
    plan_source_t source;
    plan_machine_t machine;
    plan_format_t format;
    int size;
    int replicas;
    dpr_scaling_options_t scaling;
} options_t;

static dpr_status_t expect_word(const option_row_t *row, const char *text, const char *first,
                                const char *second, bool *is_second)
{
    *is_second = strcmp(text, second) == 0;
    return *is_second || strcmp(text, first) == 0
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected %s or %s", row->name, text, first,
                          second);
}

static dpr_status_t take_axis(const option_row_t *row, char *text, void *into)
{
    dpr_scaling_options_t *scaling = into;
    bool is_replicas;
    DPR_TRY(expect_word(row, text, "ranks", "replicas", &is_replicas));
    scaling->axis = is_replicas ? DPR_SCALE_REPLICAS : DPR_SCALE_RANKS;
    return DPR_OK;
}

static dpr_status_t take_mode(const option_row_t *row, char *text, void *into)
{
    dpr_scaling_options_t *scaling = into;
    return expect_word(row, text, "strong", "weak", &scaling->weak);
}

/* "1,2,4": ascending. */
static dpr_status_t take_values(const option_row_t *row, char *text, void *into)
{
    dpr_scaling_options_t *scaling = into;
    scaling->value_count = 0;
    for (const char *at = text;;) {
        char part[16];
        const size_t length = strcspn(at, ",");
        if (length >= sizeof part || scaling->value_count == DPR_MAX_SCALING_POINTS) {
            return dpr_fail(DPR_ERR_INVALID,
                            "--values '%s': expected at most %d whole numbers from 1 to %d, such "
                            "as 1,2,4",
                            text, (int)DPR_MAX_SCALING_POINTS, SIZE_MAX_INT);
        }
        memcpy(part, at, length);
        part[length] = '\0';
        int *value = &scaling->values[scaling->value_count];
        DPR_TRY(plan_parse_int(row->name, part, 1, SIZE_MAX_INT, value));
        if (scaling->value_count > 0 && value[0] <= value[-1]) {
            return dpr_fail(DPR_ERR_INVALID, "--values '%s': expected ascending numbers", text);
        }
        scaling->value_count++;
        if (at[length] == '\0') {
            return DPR_OK;
        }
        at += length + 1;
    }
}

static const option_row_t scaling_options[] = {
    {"axis", "NAME", "What grows: replicas (default) of the pipeline, or its ranks",
     .take = take_axis},
    {"mode", "NAME",
     "strong (default): model and batch stay; weak: the batch grows with the replicas, or the "
     "model with the ranks",
     .take = take_mode},
    {"values", "LIST", "Ranks or replicas, ascending (default 1,2,4,8,16,32,64)",
     .take = take_values},
    {"threshold", "X", "Least efficiency that still pays, 0.01 to 1 (default 0.8)",
     OPTION_FIELD(dpr_scaling_options_t, threshold), 0.01, 1.0},
    {0},
};

static const option_row_t layout_options[] = {
    {"micro-batch-size", "N", "Samples of a micro-batch (default 1)", OPTION_FIELD(options_t, size),
     1, SIZE_MAX_INT},
    {"replicas", "N", "Copies of the pipeline that --micro-batches is for (default 1)",
     OPTION_FIELD(options_t, replicas), 1, SIZE_MAX_INT},
    {0},
};

static const char doc[] =
    "Predicts the throughput over a growing number of devices. --ranks and --micro-batches are "
    "the layout that it starts from; docs/models-scaling.md says what grows with what."
    "\vExample:\n"
    "  dualpipe_plan scaling --schedule 1f1b --ranks 8 --micro-batches 256 \\\n"
    "      --axis replicas --parameters 7G --hidden 4096 --sequence 4096";

static const plan_column_t fact_columns[] = {
    PLAN_MACHINE_COLUMNS,
    {"schedule", "schedule", PLAN_TEXT},
    {"axis", "axis", PLAN_TEXT},
    {"mode", "mode", PLAN_TEXT},
    {"threshold", "threshold", PLAN_PERCENT},
    {"pays_up_to", "pays up to", PLAN_INT},
    {"stops_at", "stops paying at", PLAN_INT},
};

static const plan_column_t point_columns[] = {
    {"ranks", "ranks", PLAN_INT},
    {"replicas", "replicas", PLAN_INT},
    {"devices", "devices", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    PLAN_TIME_COLUMNS("step", "step"),
    {"bubble_ratio", "bubble", PLAN_PERCENT},
    {"tokens_per_sec", "tokens/s", PLAN_REAL},
    {"utilization", "MFU", PLAN_PERCENT},
    {"peak_bytes", "memory", PLAN_BYTES},
    {"speedup", "speed-up", PLAN_REAL},
    {"efficiency", "efficiency", PLAN_PERCENT},
    {NULL, "", PLAN_BAR},
    {"outcome", "", PLAN_TEXT},
};

static const char *outcome_of(const dpr_scaling_point_t *point)
{
    switch (point->outcome) {
    case DPR_SCALING_NO_SCHEDULE:
        return "not allowed by the schedule";
    case DPR_SCALING_NO_BATCH:
        return "the batch does not divide";
    case DPR_SCALING_RUNS:
        break;
    }
    return point->throughput.fits ? "fits" : "does not fit in memory";
}

static void fill_point(plan_table_t *table, const dpr_scaling_point_t *point)
{
    const dpr_throughput_t *found = &point->throughput;
    plan_table_int(table, point->layout.ranks);
    plan_table_int(table, point->layout.replicas);
    plan_table_int(table, (int64_t)point->layout.ranks * point->layout.replicas);
    if (point->outcome != DPR_SCALING_RUNS) {
        const int empty = (int)(sizeof point_columns / sizeof point_columns[0]) - 4;
        for (int i = 0; i < empty; i++) {
            plan_table_none(table);
        }
    } else {
        plan_table_int(table, point->layout.micro_batches);
        plan_table_time(table, found->step.step_sec);
        plan_table_real(table, found->step.bubble_ratio);
        plan_table_real(table, found->tokens_per_sec);
        plan_table_real(table, found->utilization);
        plan_table_int(table, (int64_t)found->peak_bytes);
        plan_table_real(table, found->fits ? point->speedup : NAN);
        plan_table_real(table, found->fits ? point->efficiency : NAN);
        plan_table_real(table, found->fits ? fmin(point->efficiency, 1.0) : NAN);
    }
    plan_table_text(table, outcome_of(point));
}

static void fill_facts(plan_table_t *facts, const options_t *options, const dpr_scaling_t *found)
{
    const dpr_scaling_options_t *scaling = &options->scaling;
    const int pays = found->pays_up_to; /* places in the values; -1: none */
    const int stops = found->stops_at;
    plan_table_machine(facts, &options->machine);
    plan_table_text(facts, options->source.schedule);
    plan_table_text(facts, scaling->axis == DPR_SCALE_RANKS ? "ranks" : "replicas");
    plan_table_text(facts, scaling->weak ? "weak" : "strong");
    plan_table_real(facts, scaling->threshold);
    plan_table_int_if(facts, pays >= 0, pays >= 0 ? scaling->values[pays] : 0);
    plan_table_int_if(facts, stops >= 0, stops >= 0 ? scaling->values[stops] : 0);
}

enum { FACTS, POINTS, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(point_columns)};

static dpr_status_t report(const options_t *options, const dpr_scaling_t *found)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(tables[FACTS], options, found);
    for (int i = 0; i < found->count; i++) {
        fill_point(tables[POINTS], &found->points[i]);
    }
    const plan_section_t sections[] = {{"points", NULL, tables[POINTS]}};
    const dpr_status_t status = plan_report_write(options->format, "dualpipe-plan-scaling",
                                                  tables[FACTS], sections, 1, stdout);
    plan_tables_destroy(tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    const plan_source_t *source = &options->source;
    DPR_TRY(plan_source_check(source));
    DPR_TRY(plan_machine_complete(&options->machine));
    const dpr_layout_t base = {source->schedule, source->ranks, source->micro_batches,
                               options->size, options->replicas};
    dpr_scaling_t *found;
    DPR_TRY(dpr_calloc(1, sizeof *found, &found));
    dpr_status_t status = dpr_scaling_predict(
        &options->machine.workload, &options->machine.hardware, &base, &options->scaling, found);
    if (status == DPR_OK) {
        status = report(options, found);
    }
    free(found);
    return status;
}

static const option_table_t tables[] = {
    {scaling_options, .offset = offsetof(options_t, scaling)},
    {.rows = layout_options},
    {plan_generator_options, offsetof(options_t, source), plan_generator_help},
    {plan_machine_options, .offset = offsetof(options_t, machine)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_scaling_command = {
    .name = "scaling",
    .summary = "weak and strong scaling, and where it stops paying",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults =
        &(const options_t){
            .machine = PLAN_MACHINE_DEFAULT,
            .size = 1,
            .replicas = 1,
            .scaling = {DPR_SCALE_REPLICAS, false, 0.8, 7, {1, 2, 4, 8, 16, 32, 64}},
        },
    .run = run,
};
