/* dualpipe_plan sensitivity: what each cost does to the best layout's step time. */
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"

enum key { KEY_CHANGE = 0x2000 };

typedef struct options {
    plan_machine_t machine;
    dpr_search_options_t space;
    plan_format_t format;
    double change;
} options_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->machine;
        state->child_inputs[1] = &options->space;
        state->child_inputs[2] = &options->format;
        return 0;
    case KEY_CHANGE:
        return plan_argp_error(plan_parse_real("change", arg, 0.001, 0.999, &options->change));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "change",
     .key = KEY_CHANGE,
     .arg = "X",
     .doc = "How much each cost is lowered and raised, 0.001 to 0.999 (default 0.1)"},
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

static dpr_status_t report(const options_t *options, const dpr_sensitivity_t *found)
{
    enum { FACTS = sizeof fact_columns / sizeof fact_columns[0] };
    enum { COLUMNS = sizeof entry_columns / sizeof entry_columns[0] };
    plan_table_t *facts = NULL;
    plan_table_t *entries = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(plan_table_create(fact_columns, FACTS, &facts), free_tables);
    DPR_TRY_GOTO(plan_table_create(entry_columns, COLUMNS, &entries), free_tables);
    fill_facts(facts, options, &found->winner);
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        for (int up = 0; up < 2; up++) {
            fill_entry(entries, dpr_cost_factor_name(k), &found->entries[k][up]);
        }
    }
    const plan_section_t sections[] = {{"costs", NULL, entries}};
    status =
        plan_report_write(options->format, "dualpipe-plan-sensitivity", facts, sections, 1, stdout);
free_tables:
    plan_table_destroy(facts);
    plan_table_destroy(entries);
    return status;
}

static dpr_status_t run(options_t *options)
{
    DPR_TRY(plan_space_complete(&options->space));
    DPR_TRY(plan_machine_complete(&options->machine));
    dpr_sensitivity_t found;
    DPR_TRY(dpr_sensitivity_run(&options->machine.workload, &options->machine.hardware,
                                &options->space, options->change, &found));
    return report(options, &found);
}

int plan_sensitivity_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {
        {.argp = &plan_machine_argp}, {.argp = &plan_space_argp}, {.argp = &plan_output_argp}, {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {.machine = plan_machine_default(), .change = 0.1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
