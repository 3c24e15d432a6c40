/* dualpipe_plan scaling: how throughput grows with devices, and where it stops paying. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "models/scaling.h"

enum { SIZE_MAX_INT = 1 << 20 };
enum key { KEY_AXIS = 0x2000, KEY_MODE, KEY_VALUES, KEY_THRESHOLD, KEY_SIZE, KEY_REPLICAS };

typedef struct options {
    plan_source_t source;
    plan_machine_t machine;
    plan_format_t format;
    int size;
    int replicas;
    dpr_scaling_options_t scaling;
} options_t;

static dpr_status_t parse_word(const char *option, const char *text, const char *first,
                               const char *second, bool *is_second)
{
    *is_second = strcmp(text, second) == 0;
    return *is_second || strcmp(text, first) == 0
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected %s or %s", option, text, first,
                          second);
}

/* "1,2,4": ascending. */
static dpr_status_t parse_values(const char *text, dpr_scaling_options_t *scaling)
{
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
        DPR_TRY(plan_parse_int("values", part, 1, SIZE_MAX_INT, value));
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

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->source;
        state->child_inputs[1] = &options->machine;
        state->child_inputs[2] = &options->format;
        return 0;
    case KEY_AXIS: {
        bool is_replicas;
        const dpr_status_t status = parse_word("axis", arg, "ranks", "replicas", &is_replicas);
        options->scaling.axis = is_replicas ? DPR_SCALE_REPLICAS : DPR_SCALE_RANKS;
        return plan_argp_error(status);
    }
    case KEY_MODE:
        return plan_argp_error(parse_word("mode", arg, "strong", "weak", &options->scaling.weak));
    case KEY_VALUES:
        return plan_argp_error(parse_values(arg, &options->scaling));
    case KEY_THRESHOLD:
        return plan_argp_error(
            plan_parse_real("threshold", arg, 0.01, 1.0, &options->scaling.threshold));
    case KEY_SIZE:
        return plan_argp_error(
            plan_parse_int("micro-batch-size", arg, 1, SIZE_MAX_INT, &options->size));
    case KEY_REPLICAS:
        return plan_argp_error(
            plan_parse_int("replicas", arg, 1, SIZE_MAX_INT, &options->replicas));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "axis",
     .key = KEY_AXIS,
     .arg = "NAME",
     .doc = "What grows: replicas (default) of the pipeline, or its ranks"},
    {.name = "mode",
     .key = KEY_MODE,
     .arg = "NAME",
     .doc = "strong (default): model and batch stay; weak: the batch grows with the replicas, or "
            "the model with the ranks"},
    {.name = "values",
     .key = KEY_VALUES,
     .arg = "LIST",
     .doc = "Ranks or replicas, ascending (default 1,2,4,8,16,32,64)"},
    {.name = "threshold",
     .key = KEY_THRESHOLD,
     .arg = "X",
     .doc = "Least efficiency that still pays, 0.01 to 1 (default 0.8)"},
    {.name = "micro-batch-size",
     .key = KEY_SIZE,
     .arg = "N",
     .doc = "Samples of a micro-batch (default 1)"},
    {.name = "replicas",
     .key = KEY_REPLICAS,
     .arg = "N",
     .doc = "Copies of the pipeline that --micro-batches is for (default 1)"},
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

static void fill_value(plan_table_t *facts, const dpr_scaling_options_t *scaling, int index)
{
    if (index >= 0) {
        plan_table_int(facts, scaling->values[index]);
    } else {
        plan_table_none(facts);
    }
}

static void fill_facts(plan_table_t *facts, const options_t *options, const dpr_scaling_t *found)
{
    const dpr_scaling_options_t *scaling = &options->scaling;
    plan_table_machine(facts, &options->machine);
    plan_table_text(facts, options->source.schedule);
    plan_table_text(facts, scaling->axis == DPR_SCALE_RANKS ? "ranks" : "replicas");
    plan_table_text(facts, scaling->weak ? "weak" : "strong");
    plan_table_real(facts, scaling->threshold);
    fill_value(facts, scaling, found->pays_up_to);
    fill_value(facts, scaling, found->stops_at);
}

static dpr_status_t report(const options_t *options, const dpr_scaling_t *found)
{
    plan_table_t *facts = NULL;
    plan_table_t *points = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(
        plan_table_create(fact_columns, sizeof fact_columns / sizeof fact_columns[0], &facts),
        free_tables);
    DPR_TRY_GOTO(
        plan_table_create(point_columns, sizeof point_columns / sizeof point_columns[0], &points),
        free_tables);
    fill_facts(facts, options, found);
    for (int i = 0; i < found->count; i++) {
        fill_point(points, &found->points[i]);
    }
    const plan_section_t sections[] = {{"points", NULL, points}};
    status =
        plan_report_write(options->format, "dualpipe-plan-scaling", facts, sections, 1, stdout);
free_tables:
    plan_table_destroy(facts);
    plan_table_destroy(points);
    return status;
}

static dpr_status_t run(options_t *options)
{
    const plan_source_t *source = &options->source;
    DPR_TRY(plan_layout_check(source));
    DPR_TRY(plan_machine_complete(&options->machine));
    const dpr_layout_t base = {source->schedule, source->ranks, source->micro_batches,
                               options->size, options->replicas};
    dpr_scaling_t *found = calloc(1, sizeof *found);
    if (found == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "no memory for the points");
    }
    dpr_status_t status = dpr_scaling_predict(
        &options->machine.workload, &options->machine.hardware, &base, &options->scaling, found);
    if (status == DPR_OK) {
        status = report(options, found);
    }
    free(found);
    return status;
}

int plan_scaling_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_generator_argp},
                                                 {.argp = &plan_machine_argp},
                                                 {.argp = &plan_output_argp},
                                                 {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {
        .machine = plan_machine_default(),
        .size = 1,
        .replicas = 1,
        .scaling = {DPR_SCALE_REPLICAS, false, 0.8, 7, {1, 2, 4, 8, 16, 32, 64}},
    };
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
