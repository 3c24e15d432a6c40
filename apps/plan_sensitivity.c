/* dualpipe_plan sensitivity: what each cost does to the best layout's step time. */
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"

typedef struct options {
    plan_machine_t machine;
    dpr_search_options_t space;
    plan_format_t format;
    double change;
} options_t;

static const option_row_t own_options[] = {
    {"change", "X", "How much each cost is lowered and raised, 0.001 to 0.999 (default 0.1)",
     OPTION_FIELD(options_t, change), 0.001, 0.999},
    {0},
};

static const char doc[] =
    "Finds the best layout as search does, then lowers and raises each cost by itself: what that "
    "does to the step time, and whether another layout would then be faster. F, I and W change "
    "within B and F&B, too; F&B is a pair's overlap alone."
    "\vExample:\n"
    "  dualpipe_plan sensitivity --min-ranks 2 --max-ranks 8 --batch 64 \\\n"
    "      --memory 80G --parameters 10M --hidden 1024 --sequence 512";

static const plan_column_t fact_columns[] = {
    PLAN_MACHINE_COLUMNS,
    PLAN_LAYOUT_COLUMNS,
    PLAN_TIME_COLUMNS("step", "step"),
    {"bubble_ratio", "bubble", PLAN_PERCENT},
    {"peak_bytes", "memory", PLAN_BYTES},
};

static const plan_column_t entry_columns[] = {
    {"cost", "cost", PLAN_TEXT},
    {"change", "change", PLAN_PERCENT},
    PLAN_TIME_COLUMNS("step", "step"),
    {"step_change", "step change", PLAN_PERCENT},
    {"overtaken", "overtaken", PLAN_BOOL},
    {"best", "best then", PLAN_TEXT},
    PLAN_TIME_COLUMNS("best_step", "its step"),
};

static void fill_facts(plan_table_t *facts, const options_t *options, const dpr_candidate_t *winner)
{
    plan_table_machine(facts, &options->machine);
    plan_table_candidate(facts, winner);
    plan_table_time(facts, winner->step.step_sec);
    plan_table_real(facts, winner->step.bubble_ratio);
    plan_table_int(facts, (int64_t)winner->peak_bytes);
}

static void fill_entry(plan_table_t *table, const char *cost, const dpr_sensitivity_entry_t *entry)
{
    const dpr_candidate_t *best = &entry->winner;
    char text[128];
    snprintf(text, sizeof text, "%s P=%d M=%d size=%d replicas=%d", best->schedule, best->ranks,
             best->micro_batches, best->micro_batch_size, best->replicas);
    plan_table_text(table, cost);
    plan_table_real(table, entry->change);
    plan_table_time(table, entry->step_sec);
    plan_table_real(table, entry->step_change);
    plan_table_int(table, entry->overtaken);
    plan_table_text(table, text);
    plan_table_time(table, best->step.step_sec);
}

enum { FACTS, ENTRIES, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(entry_columns)};

static dpr_status_t report(const options_t *options, const dpr_sensitivity_t *found)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(tables[FACTS], options, &found->winner);
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        for (int up = 0; up < 2; up++) {
            fill_entry(tables[ENTRIES], dpr_cost_factor_name(k), &found->entries[k][up]);
        }
    }
    const plan_section_t sections[] = {{"costs", NULL, tables[ENTRIES]}};
    const dpr_status_t status = plan_report_write(options->format, "dualpipe-plan-sensitivity",
                                                  tables[FACTS], sections, 1, stdout);
    plan_tables_destroy(tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    DPR_TRY(plan_space_complete(&options->space));
    DPR_TRY(plan_machine_complete(&options->machine));
    dpr_sensitivity_t found;
    DPR_TRY(dpr_sensitivity_run(&options->machine.workload, &options->machine.hardware,
                                &options->space, options->change, &found));
    return report(options, &found);
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_machine_options, .offset = offsetof(options_t, machine)},
    {plan_space_options, .offset = offsetof(options_t, space)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_sensitivity_command = {
    .name = "sensitivity",
    .summary = "what each cost does to the best layout",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.machine = PLAN_MACHINE_DEFAULT, .change = 0.1},
    .run = run,
};
