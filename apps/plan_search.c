/* dualpipe_plan search: the best layout within limits. */
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"

typedef struct options {
    plan_machine_t machine;
    dpr_search_options_t space;
    plan_format_t format;
    int top;
} options_t;

static const option_row_t own_options[] = {
    {"top", "N", "How many to show (default 10)", OPTION_FIELD(options_t, top), 1,
     DPR_MAX_SEARCH_CANDIDATES},
    {0},
};

static const char doc[] =
    "Tries every schedule, number of ranks, micro-batches, micro-batch size and replicas within "
    "the limits by simulation: the fastest, and the Pareto front of step time against memory. "
    "docs/models-search.md says more."
    "\vExample:\n"
    "  dualpipe_plan search --min-ranks 2 --max-ranks 8 --batch 64 \\\n"
    "      --memory 80G --parameters 10M --hidden 1024 --sequence 512";

static const plan_column_t fact_columns[] = {
    PLAN_MACHINE_COLUMNS,
    {"min_ranks", "fewest ranks", PLAN_INT},
    {"max_ranks", "most ranks", PLAN_INT},
    {"max_devices", "most devices", PLAN_INT},
    {"global_batch", "batch", PLAN_INT},
    {"memory_bytes", "memory limit", PLAN_BYTES},
    {"considered", "tried", PLAN_INT},
    {"too_large", "  too large", PLAN_INT},
    {"skipped", "groups skipped", PLAN_INT},
};

static const plan_column_t candidate_columns[] = {
    PLAN_LAYOUT_COLUMNS,
    PLAN_TIME_COLUMNS("step", "step"),
    PLAN_TIME_COLUMNS("pipeline", "pipeline"),
    PLAN_TIME_COLUMNS("reduction", "reduction"),
    PLAN_TIME_COLUMNS("update", "update"),
    {"bubble_ratio", "bubble", PLAN_PERCENT},
    {"peak_bytes", "memory", PLAN_BYTES},
};

static void fill_facts(plan_table_t *facts, const options_t *options, const dpr_search_t *search)
{
    const dpr_search_options_t *space = &options->space;
    const double memory =
        space->memory_bytes > 0.0 ? space->memory_bytes : options->machine.hardware.memory_bytes;
    plan_table_machine(facts, &options->machine);
    plan_table_int(facts, space->min_ranks);
    plan_table_int(facts, space->max_ranks);
    plan_table_int(facts, space->max_devices);
    plan_table_int(facts, space->global_batch);
    plan_table_int(facts, (int64_t)memory);
    plan_table_int(facts, search->considered);
    plan_table_int(facts, search->too_large);
    plan_table_int(facts, search->skipped);
}

static void fill_candidate(plan_table_t *table, const dpr_candidate_t *candidate)
{
    plan_table_candidate(table, candidate);
    plan_table_time(table, candidate->step.step_sec);
    plan_table_time(table, candidate->step.pipeline_sec);
    plan_table_time(table, candidate->step.reduce_sec);
    plan_table_time(table, candidate->step.update_sec);
    plan_table_real(table, candidate->step.bubble_ratio);
    plan_table_int(table, (int64_t)candidate->peak_bytes);
}

enum { FACTS, TOP, FRONT, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(candidate_columns),
                                            PLAN_SHAPE(candidate_columns)};

static dpr_status_t report(const options_t *options, const dpr_search_t *search)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(tables[FACTS], options, search);
    for (int i = 0; i < search->count && i < options->top; i++) {
        fill_candidate(tables[TOP], &search->candidates[i]);
    }
    for (int i = 0; i < search->front_count; i++) {
        fill_candidate(tables[FRONT], &search->candidates[search->front[i]]);
    }
    const plan_section_t sections[] = {
        {"top", "Fastest", tables[TOP]},
        {"front", "Pareto front: each needs less memory than all that are faster", tables[FRONT]}};
    const dpr_status_t status = plan_report_write(options->format, "dualpipe-plan-search",
                                                  tables[FACTS], sections, 2, stdout);
    plan_tables_destroy(tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    DPR_TRY(plan_space_complete(&options->space));
    DPR_TRY(plan_machine_complete(&options->machine));
    dpr_search_t search;
    DPR_TRY(dpr_search_run(&options->machine.workload, &options->machine.hardware, &options->space,
                           &search));
    const dpr_status_t status = report(options, &search);
    dpr_search_free(&search);
    return status;
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_machine_options, .offset = offsetof(options_t, machine)},
    {plan_space_options, .offset = offsetof(options_t, space)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_search_command = {
    .name = "search",
    .summary = "the best layout within limits",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.machine = PLAN_MACHINE_DEFAULT, .top = 10},
    .run = run,
};
