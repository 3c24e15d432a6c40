/* dualpipe_plan bubbles: closed forms of the bubble beside the simulated one, schedule by schedule.
 */
#include <math.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "models/analysis.h"
#include "models/compare.h"
#include "models/published.h"

typedef struct options {
    plan_schedules_t schedules;
    dpr_uniform_costs_t costs;
    plan_format_t format;
    int stages;    /* 0: --ranks is given */
    double target; /* 0: not given */
    bool table;
} options_t;

static const option_row_t own_options[] = {
    {"stages", "S",
     "Stages of the model, instead of --ranks: each schedule gets as many ranks as hold S",
     OPTION_FIELD(options_t, stages), 1, DPR_MAX_STAGES},
    {"target", "RATIO",
     "Also find the fewest micro-batches with a simulated bubble ratio of at most RATIO",
     OPTION_FIELD(options_t, target), 1e-6, 0.999999},
    {"table", NULL,
     "Print the published table for --stages instead: bubble, parameters, activations and devices",
     OPTION_FIELD(options_t, table)},
    {0},
};

static const char doc[] =
    "Compares the bubbles of schedules: the closed form beside the simulation, and whether the "
    "form is exact, a bound or an approximation for these costs. Costs are of one stage."
    "\vExamples:\n"
    "  dualpipe_plan bubbles --stages 4 --micro-batches 16\n"
    "  dualpipe_plan bubbles --ranks 8 --micro-batches 32 --cost I=1.1,W=0.7\n"
    "  dualpipe_plan bubbles --table --stages 16";

/* ---- The published table ---- */

static const plan_column_t published_columns[] = {
    {"schedule", "schedule", PLAN_TEXT}, {"bubble_formula", "bubble", PLAN_TEXT},
    {"bubble", "=", PLAN_REAL},          {NULL, "parameters", PLAN_TEXT},
    {"parameters", NULL, PLAN_INT},      {"activation_formula", "activations", PLAN_TEXT},
    {"activations", "=", PLAN_INT},      {"device_formula", "devices", PLAN_TEXT},
    {"devices", "=", PLAN_INT},          {"note", "note", PLAN_TEXT},
};

static const char *published_note(const dpr_published_t *row)
{
    if (!row->applies) {
        return "needs an even number of stages";
    }
    return row->bubble_sec < 0.0 ? "W is too long for this formula" : "";
}

static void fill_published(const dpr_published_t *row, plan_table_t *table)
{
    plan_table_text(table, row->title);
    plan_table_text(table, row->bubble_formula);
    plan_table_real(table, row->applies ? row->bubble_sec : NAN);
    plan_table_text(table, row->parameters == 1 ? "1x" : "2x");
    plan_table_int(table, row->parameters);
    plan_table_text(table, row->activation_formula);
    plan_table_int_if(table, row->applies, row->activations);
    plan_table_text(table, row->device_formula);
    plan_table_int_if(table, row->applies, row->devices);
    plan_table_text(table, published_note(row));
}

static const plan_column_t published_facts[] = {
    {"stages", "stages (PP)", PLAN_INT}, {"cost_f", "F", PLAN_REAL},    {"cost_b", "B", PLAN_REAL},
    {"cost_w", "W", PLAN_REAL},          {"cost_fb", "F&B", PLAN_REAL},
};

static void fill_published_facts(const options_t *options, plan_table_t *facts)
{
    plan_table_int(facts, options->stages);
    plan_table_real(facts, options->costs.f);
    plan_table_real(facts, dpr_uniform_b(&options->costs));
    plan_table_real(facts, options->costs.w);
    plan_table_real(facts, dpr_uniform_fb(&options->costs));
}

static dpr_status_t print_published(const options_t *options)
{
    static const plan_shape_t shapes[] = {PLAN_SHAPE(published_facts),
                                          PLAN_SHAPE(published_columns)};
    dpr_published_t rows[DPR_PUBLISHED_ROWS];
    plan_table_t *tables[2];
    DPR_TRY(plan_expect_int("stages", options->stages, 1, DPR_MAX_STAGES));
    DPR_TRY(dpr_published_table(options->stages, &options->costs, rows));
    DPR_TRY(plan_tables_create(shapes, 2, tables));
    fill_published_facts(options, tables[0]);
    for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
        fill_published(&rows[i], tables[1]);
    }
    const plan_section_t section = {"schedules", NULL, tables[1]};
    const dpr_status_t status = plan_report_write(options->format, "dualpipe-plan-published",
                                                  tables[0], &section, 1, stdout);
    plan_tables_destroy(tables, 2);
    return status;
}

/* ---- Closed form beside simulation ---- */

static const plan_column_t columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"ranks", "ranks", PLAN_INT},
    {"stages", "stages", PLAN_INT},
    {"closed_form_bubble", "closed form", PLAN_REAL},
    {"simulated_bubble", "simulated", PLAN_REAL},
    {"difference", "difference", PLAN_REAL},
    {"exactness", "closed form is", PLAN_TEXT},
    {"bubble_ratio", "bubble ratio", PLAN_PERCENT},
    {NULL, "", PLAN_BAR},
    {"parameter_stages", "parameters", PLAN_INT},
    {"peak_activations", "activations", PLAN_INT},
    {"micro_batches_for_target", NULL, PLAN_INT},
    {"condition", NULL, PLAN_TEXT},
};

static const plan_column_t target_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"ranks", "ranks", PLAN_INT},
    {"micro_batches", "micro-batches for the target", PLAN_INT},
    {"bubble_ratio", "bubble ratio", PLAN_PERCENT},
};

static const plan_column_t condition_columns[] = {
    {"schedule", "closed form is exact for", PLAN_TEXT},
    {"condition", "", PLAN_TEXT},
};

static const plan_column_t fact_columns[] = {
    {"micro_batches", "micro-batches", PLAN_INT},
    PLAN_COST_COLUMNS,
    {"target", NULL, PLAN_REAL},
};

enum { FACTS, ROWS, TARGETS, CONDITIONS, REASONS, TABLES };

typedef struct bubbles {
    const options_t *options;
    plan_table_t *tables[TABLES];
} bubbles_t;

static dpr_status_t create_tables(bubbles_t *bubbles)
{
    const plan_shape_t shapes[TABLES] = {
        [FACTS] = PLAN_SHAPE(fact_columns),     [ROWS] = PLAN_SHAPE(columns),
        [TARGETS] = PLAN_SHAPE(target_columns), [CONDITIONS] = PLAN_SHAPE(condition_columns),
        [REASONS] = plan_reason_shape,
    };
    return plan_tables_create(shapes, TABLES, bubbles->tables);
}

static void fill_facts(const options_t *options, plan_table_t *facts)
{
    plan_table_int(facts, options->schedules.micro_batches);
    plan_table_costs(facts, &options->costs);
    plan_table_real(facts, options->target > 0.0 ? options->target : NAN);
}

static void add_reason(bubbles_t *bubbles, const char *schedule, const char *reason)
{
    plan_reason_add(bubbles->tables[REASONS], schedule, reason);
}

static void add_row(bubbles_t *bubbles, const dpr_comparison_t *found, int ranks, int for_target)
{
    plan_table_t *table = bubbles->tables[ROWS];
    const dpr_bubble_t *form = &found->closed_form;
    const bool has = found->has_closed_form;
    plan_table_text(table, found->schedule);
    plan_table_int(table, ranks);
    plan_table_int(table, found->stages);
    plan_table_real(table, has ? form->bubble_sec : NAN);
    plan_table_real(table, found->bubble_sec);
    /* what rounding leaves is not a difference */
    const double difference = form->bubble_sec - found->bubble_sec;
    const bool equal = fabs(difference) <= 1e-9 * found->step_sec;
    plan_table_real(table, has ? (equal ? 0.0 : difference) : NAN);
    plan_table_text(table, has ? dpr_exactness_name(form->exactness) : "not known");
    plan_table_real(table, found->bubble_ratio);
    plan_table_real(table, found->bubble_ratio);
    plan_table_int(table, found->stages_per_rank);
    plan_table_int(table, found->peak_activations);
    plan_table_int_if(table, for_target > 0, for_target);
    plan_table_text_if(table, has ? form->condition : NULL);
    if (has && form->exactness != DPR_EXACT) {
        plan_table_text(bubbles->tables[CONDITIONS], found->schedule);
        plan_table_text(bubbles->tables[CONDITIONS], form->condition);
    }
}

/* The fewest micro-batches for --target, 0 where it is out of reach (which is then said). */
static dpr_status_t find_target(bubbles_t *bubbles, const char *schedule, int ranks,
                                int *micro_batches)
{
    const options_t *options = bubbles->options;
    char reason[512];
    dpr_log_capture_t capture;
    dpr_micro_batch_point_t point = {0};
    *micro_batches = 0;
    if (options->target <= 0.0) {
        return DPR_OK;
    }
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const dpr_status_t status =
        dpr_micro_batches_for_ratio(schedule, ranks, &options->costs, options->target, &point);
    dpr_log_capture_end(&capture);
    if (status == DPR_ERR_INVALID) {
        add_reason(bubbles, schedule, reason);
        return DPR_OK;
    }
    DPR_TRY(status);
    *micro_batches = point.micro_batches;
    plan_table_text(bubbles->tables[TARGETS], schedule);
    plan_table_int(bubbles->tables[TARGETS], ranks);
    plan_table_int(bubbles->tables[TARGETS], point.micro_batches);
    plan_table_real(bubbles->tables[TARGETS], point.bubble_ratio);
    return DPR_OK;
}

/* The ranks on which a schedule holds --stages, 0 where none do. */
static int ranks_of(const options_t *options, const char *schedule)
{
    if (options->stages == 0) {
        return options->schedules.ranks;
    }
    const int each = dpr_schedule_stages_per_rank(schedule);
    return options->stages % each == 0 ? options->stages / each : 0;
}

static dpr_status_t add_schedule(bubbles_t *bubbles, const char *schedule)
{
    const options_t *options = bubbles->options;
    const int ranks = ranks_of(options, schedule);
    if (ranks == 0) {
        char reason[128];
        snprintf(reason, sizeof reason, "%d stages do not make %d a rank", options->stages,
                 dpr_schedule_stages_per_rank(schedule));
        add_reason(bubbles, schedule, reason);
        return DPR_OK;
    }
    const dpr_compare_config_t config = {.ranks = ranks,
                                         .micro_batches = options->schedules.micro_batches,
                                         .costs = options->costs,
                                         .costs_of_own_stages = true};
    dpr_comparison_t found;
    DPR_TRY(dpr_compare_schedule(&config, schedule, &found));
    if (!found.runs) {
        add_reason(bubbles, schedule, found.reason);
        return DPR_OK;
    }
    int for_target;
    DPR_TRY(find_target(bubbles, schedule, ranks, &for_target));
    add_row(bubbles, &found, ranks, for_target);
    return DPR_OK;
}

static dpr_status_t print_bubbles(const options_t *options)
{
    bubbles_t bubbles = {.options = options};
    dpr_status_t status;
    DPR_TRY(create_tables(&bubbles));
    fill_facts(options, bubbles.tables[FACTS]);
    for (int i = 0; i < options->schedules.count; i++) {
        DPR_TRY_GOTO(add_schedule(&bubbles, options->schedules.names[i]), destroy_tables);
    }
    const plan_section_t sections[] = {
        {"schedules", NULL, bubbles.tables[ROWS]},
        {"not_possible", NULL, bubbles.tables[REASONS]},
        {"conditions", NULL, bubbles.tables[CONDITIONS]},
        {"targets", NULL, bubbles.tables[TARGETS]},
    };
    /* the rows have conditions and targets, too; only a person wants them apart */
    const int count = options->format == PLAN_FORMAT_TEXT ? 4 : 2;
    status = plan_report_write(options->format, "dualpipe-plan-bubbles", bubbles.tables[FACTS],
                               sections, count, stdout);
    if (status == DPR_OK) {
        status = plan_expect_some(plan_table_rows(bubbles.tables[ROWS]), &options->schedules);
    }
destroy_tables:
    plan_tables_destroy(bubbles.tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    if (options->table) {
        return print_published(options);
    }
    if ((options->stages > 0) == (options->schedules.ranks > 0)) {
        return dpr_fail(DPR_ERR_INVALID, "give one of --stages (1 to %d) and --ranks (1 to %d)",
                        DPR_MAX_STAGES, DPR_MAX_RANKS);
    }
    DPR_TRY(plan_schedules_complete(&options->schedules, false));
    DPR_TRY(plan_schedules_check_work(&options->schedules, options->stages));
    return print_bubbles(options);
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_schedules_options, .offset = offsetof(options_t, schedules)},
    {plan_cost_options, .offset = offsetof(options_t, costs)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_bubbles_command = {
    .name = "bubbles",
    .summary = "closed forms beside the simulation, and the published table",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.costs = DPR_UNIFORM_COSTS_DEFAULT},
    .run = run,
};
