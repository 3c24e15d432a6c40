/* dualpipe_plan compare: all schedules side by side, for one model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_model.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/compare.h"
#include "schedule/csv.h"

typedef struct options {
    plan_schedules_t schedules;
    dpr_uniform_costs_t costs;
    plan_model_t model;
    plan_format_t format;
    const char *file;
    bool own_stages;
    bool sort;
} options_t;

static const option_row_t own_options[] = {
    {"schedule-file", "CSV", "A program to compare with them, of the same ranks and micro-batches",
     OPTION_FIELD(options_t, file)},
    {"own-stages", NULL,
     "Costs are of each schedule's own stages. Without it the model is the same for all: costs are "
     "of one of P stages, and where a schedule cuts it into 2P they are halved",
     OPTION_FIELD(options_t, own_stages)},
    {"sort", NULL, "Shortest step first", OPTION_FIELD(options_t, sort)},
    {0},
};

static const char doc[] =
    "Compares schedules for the same model on the same ranks: step time, bubble, activations, "
    "parameters and communication, and memory where a model is described."
    "\vExamples:\n"
    "  dualpipe_plan compare --ranks 4 --micro-batches 8\n"
    "  dualpipe_plan compare --ranks 8 --micro-batches 32 --sort --cost wire=0.1 \\\n"
    "      --parameters 250M --hidden 1024 --sequence 2048 --batch 64";

static const plan_column_t columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"stages", "stages", PLAN_INT},
    {"step", "step", PLAN_REAL},
    {NULL, "", PLAN_BAR},
    {"bubble", "bubble", PLAN_REAL},
    {"bubble_ratio", "ratio", PLAN_PERCENT},
    {"closed_form_bubble", NULL, PLAN_REAL},
    {"exactness", NULL, PLAN_TEXT},
    {"peak_activations", NULL, PLAN_INT},
    {"activation_shares", "activations", PLAN_REAL},
    {"parameter_copies", "parameters", PLAN_REAL},
    {"messages", "messages", PLAN_INT},
    {"message_bytes", NULL, PLAN_BYTES},
    {"most_sent_bytes", NULL, PLAN_BYTES},
    {"saved_bytes", NULL, PLAN_BYTES},
    {"memory_bytes", NULL, PLAN_BYTES},
};

enum { COLUMNS = sizeof columns / sizeof columns[0] };

/* With a model: bytes are shown, too. */
static const plan_column_t *columns_for(bool has_model)
{
    static plan_column_t with_model[COLUMNS];
    memcpy(with_model, columns, sizeof columns);
    if (has_model) {
        with_model[COLUMNS - 4].title = "sent";
        with_model[COLUMNS - 1].title = "memory";
    }
    return with_model;
}

static const plan_column_t fact_columns[] = {
    {"ranks", "ranks", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    PLAN_COST_COLUMNS,
    {"costs_are_of", "costs are of", PLAN_TEXT},
};

enum { FACTS, ROWS, REASONS, TABLES };

typedef struct compare {
    options_t *options;
    dpr_compare_config_t config;
    dpr_comparison_t found[PLAN_MAX_SCHEDULES + 1];
    int count;
    plan_table_t *tables[TABLES];
} compare_t;

static dpr_status_t create_tables(compare_t *compare)
{
    const bool has_model = plan_model_is_given(&compare->options->model);
    const plan_shape_t shapes[TABLES] = {
        [FACTS] = PLAN_SHAPE(fact_columns),
        [ROWS] = {columns_for(has_model), COLUMNS},
        [REASONS] = plan_reason_shape,
    };
    return plan_tables_create(shapes, TABLES, compare->tables);
}

static dpr_status_t configure(compare_t *compare)
{
    options_t *options = compare->options;
    DPR_TRY(plan_schedules_complete(&options->schedules, true));
    compare->config = (dpr_compare_config_t){.ranks = options->schedules.ranks,
                                             .micro_batches = options->schedules.micro_batches,
                                             .costs = options->costs,
                                             .costs_of_own_stages = options->own_stages};
    if (plan_model_is_given(&options->model)) {
        DPR_TRY(plan_model_complete(&options->model, options->schedules.ranks,
                                    options->schedules.micro_batches));
        DPR_TRY(plan_model_message_bytes(&options->model, &compare->config.message_bytes));
        compare->config.stage_memory = plan_model_stages;
        compare->config.stage_memory_user = &options->model;
        compare->config.memory_format = plan_model_format(&options->model);
    }
    return DPR_OK;
}

static dpr_status_t compare_file(compare_t *compare)
{
    const plan_schedules_t *asked = &compare->options->schedules;
    const char *file = compare->options->file;
    dpr_program_t program;
    DPR_TRY(dpr_csv_read(file, &program));
    dpr_status_t status;
    if (program.ranks != asked->ranks || program.micro_batches != asked->micro_batches) {
        status = dpr_fail(DPR_ERR_INVALID,
                          "--schedule-file %s: it has %d ranks and %d micro-batches, the others %d "
                          "and %d",
                          file, program.ranks, program.micro_batches, asked->ranks,
                          asked->micro_batches);
    } else {
        snprintf(program.name, sizeof program.name, "%s", "file");
        status = dpr_compare_program(&compare->config, &program, &compare->found[compare->count]);
        compare->count++;
    }
    dpr_program_free(&program);
    return status;
}

static dpr_status_t compare_all(compare_t *compare)
{
    const plan_schedules_t *asked = &compare->options->schedules;
    DPR_TRY(plan_schedules_check_work(asked, 0));
    for (int i = 0; i < asked->count; i++) {
        DPR_TRY(dpr_compare_schedule(&compare->config, asked->names[i],
                                     &compare->found[compare->count]));
        compare->count++;
    }
    return compare->options->file != NULL ? compare_file(compare) : DPR_OK;
}

/* By step time; what does not run last; equal ones stay in order. */
static void sort_rows(compare_t *compare)
{
    for (int i = 1; i < compare->count; i++) {
        const dpr_comparison_t row = compare->found[i];
        int at = i;
        for (; at > 0 && row.runs &&
               (!compare->found[at - 1].runs ||
                compare->found[at - 1].step_sec > row.step_sec * (1.0 + 1e-12));
             at--) {
            compare->found[at] = compare->found[at - 1];
        }
        compare->found[at] = row;
    }
}

static void fill_facts(const compare_t *compare)
{
    plan_table_t *facts = compare->tables[FACTS];
    plan_table_int(facts, compare->config.ranks);
    plan_table_int(facts, compare->config.micro_batches);
    plan_table_costs(facts, &compare->options->costs);
    plan_table_text(facts, compare->options->own_stages ? "one stage of each schedule"
                                                        : "one of P stages");
}

static void fill_row(const compare_t *compare, const dpr_comparison_t *found, double longest)
{
    plan_table_t *table = compare->tables[ROWS];
    const bool has_model = compare->config.stage_memory != NULL;
    plan_table_text(table, found->schedule);
    plan_table_int(table, found->stages);
    plan_table_real(table, found->step_sec);
    plan_table_real(table, longest > 0.0 ? found->step_sec / longest : 0.0);
    plan_table_real(table, found->bubble_sec);
    plan_table_real(table, found->bubble_ratio);
    plan_table_real(table, found->has_closed_form ? found->closed_form.bubble_sec : NAN);
    plan_table_text_if(
        table, found->has_closed_form ? dpr_exactness_name(found->closed_form.exactness) : NULL);
    plan_table_int(table, found->peak_activations);
    plan_table_real(table, found->activation_shares);
    plan_table_real(table, found->parameter_copies);
    plan_table_int(table, found->traffic.messages);
    plan_table_int_if(table, has_model, found->traffic.bytes);
    plan_table_int_if(table, has_model, found->most_sent_bytes);
    plan_table_int_if(table, has_model, (int64_t)found->activation_bytes);
    plan_table_int_if(table, has_model, (int64_t)found->memory_bytes);
}

static void fill_rows(const compare_t *compare)
{
    double longest = 0.0;
    for (int i = 0; i < compare->count; i++) {
        longest = fmax(longest, compare->found[i].step_sec);
    }
    for (int i = 0; i < compare->count; i++) {
        const dpr_comparison_t *found = &compare->found[i];
        if (found->runs) {
            fill_row(compare, found, longest);
        } else {
            plan_reason_add(compare->tables[REASONS], found->schedule, found->reason);
        }
    }
}

static dpr_status_t play(compare_t *compare)
{
    DPR_TRY(compare_all(compare));
    if (compare->options->sort) {
        sort_rows(compare);
    }
    fill_facts(compare);
    fill_rows(compare);
    const plan_section_t sections[] = {
        {"schedules", NULL, compare->tables[ROWS]},
        {"not_possible", NULL, compare->tables[REASONS]},
    };
    DPR_TRY(plan_report_write(compare->options->format, "dualpipe-plan-compare",
                              compare->tables[FACTS], sections, 2, stdout));
    return plan_expect_some(plan_table_rows(compare->tables[ROWS]), &compare->options->schedules);
}

static dpr_status_t run(void *arguments)
{
    compare_t *compare;
    dpr_status_t status;
    DPR_TRY(dpr_calloc(1, sizeof *compare, &compare));
    compare->options = arguments;
    DPR_TRY_GOTO(configure(compare), free_compare);
    DPR_TRY_GOTO(create_tables(compare), free_compare);
    status = play(compare);
    plan_tables_destroy(compare->tables, TABLES);
free_compare:
    free(compare);
    return status;
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_schedules_options, .offset = offsetof(options_t, schedules)},
    {plan_cost_options, .offset = offsetof(options_t, costs)},
    {plan_model_options, .offset = offsetof(options_t, model)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_compare_command = {
    .name = "compare",
    .summary = "all schedules side by side, for one model",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.costs = DPR_UNIFORM_COSTS_DEFAULT, .model = PLAN_MODEL_DEFAULT},
    .run = run,
};
