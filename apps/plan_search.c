/* dualpipe_plan search: the best layout within limits. */
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"

enum key { KEY_TOP = 0x2000 };

typedef struct options {
    plan_machine_t machine;
    dpr_search_options_t space;
    plan_format_t format;
    int top;
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
    case KEY_TOP:
        return plan_argp_error(
            plan_parse_int("top", arg, 1, DPR_MAX_SEARCH_CANDIDATES, &options->top));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "top", .key = KEY_TOP, .arg = "N", .doc = "How many to show (default 10)"},
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

static dpr_status_t report(const options_t *options, const dpr_search_t *search)
{
    enum { FACTS = sizeof fact_columns / sizeof fact_columns[0] };
    enum { COLUMNS = sizeof candidate_columns / sizeof candidate_columns[0] };
    plan_table_t *facts = NULL;
    plan_table_t *top = NULL;
    plan_table_t *front = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(plan_table_create(fact_columns, FACTS, &facts), free_tables);
    DPR_TRY_GOTO(plan_table_create(candidate_columns, COLUMNS, &top), free_tables);
    DPR_TRY_GOTO(plan_table_create(candidate_columns, COLUMNS, &front), free_tables);
    fill_facts(facts, options, search);
    for (int i = 0; i < search->count && i < options->top; i++) {
        fill_candidate(top, &search->candidates[i]);
    }
    for (int i = 0; i < search->front_count; i++) {
        fill_candidate(front, &search->candidates[search->front[i]]);
    }
    const plan_section_t sections[] = {
        {"top", "Fastest", top},
        {"front", "Pareto front: each needs less memory than all that are faster", front}};
    status = plan_report_write(options->format, "dualpipe-plan-search", facts, sections, 2, stdout);
free_tables:
    plan_table_destroy(facts);
    plan_table_destroy(top);
    plan_table_destroy(front);
    return status;
}

static dpr_status_t run(options_t *options)
{
    DPR_TRY(plan_space_complete(&options->space));
    DPR_TRY(plan_machine_complete(&options->machine));
    dpr_search_t search;
    DPR_TRY(dpr_search_run(&options->machine.workload, &options->machine.hardware, &options->space,
                           &search));
    const dpr_status_t status = report(options, &search);
    dpr_search_free(&search);
    return status;
}

int plan_search_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {
        {.argp = &plan_machine_argp}, {.argp = &plan_space_argp}, {.argp = &plan_output_argp}, {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {.machine = plan_machine_default(), .top = 10};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
