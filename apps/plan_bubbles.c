/* dualpipe_plan bubbles: closed forms of the bubble beside the simulated one, schedule by schedule.
 */
#include <math.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "models/analysis.h"
#include "models/compare.h"
#include "models/published.h"

enum key { KEY_STAGES = 0x2000, KEY_TARGET, KEY_TABLE };

typedef struct options {
    plan_schedules_t schedules;
    dpr_uniform_costs_t costs;
    plan_format_t format;
    int stages;    /* 0: --ranks is given */
    double target; /* 0: not given */
    bool table;
} options_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->schedules;
        state->child_inputs[1] = &options->costs;
        state->child_inputs[2] = &options->format;
        return 0;
    case KEY_STAGES:
        return plan_argp_error(plan_parse_int("stages", arg, 1, DPR_MAX_STAGES, &options->stages));
    case KEY_TARGET:
        return plan_argp_error(plan_parse_real("target", arg, 1e-6, 0.999999, &options->target));
    case KEY_TABLE:
        options->table = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "stages",
     .key = KEY_STAGES,
     .arg = "S",
     .doc = "Stages of the model, instead of --ranks: each schedule gets as many ranks as hold S"},
    {.name = "target",
     .key = KEY_TARGET,
     .arg = "RATIO",
     .doc = "Also find the fewest micro-batches with a simulated bubble ratio of at most RATIO"},
    {.name = "table",
     .key = KEY_TABLE,
     .doc = "Print the published table for --stages instead: bubble, parameters, activations and "
            "devices"},
    {0},
};

static const char doc[] =
    "Compares the bubbles of schedules: the closed form beside the simulation, and whether the "
    "form "
    "is exact, a bound or an approximation for these costs. Costs are of one stage."
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
    if (row->applies) {
        plan_table_int(table, row->activations);
    } else {
        plan_table_none(table);
    }
    plan_table_text(table, row->device_formula);
    if (row->applies) {
        plan_table_int(table, row->devices);
    } else {
        plan_table_none(table);
    }
    plan_table_text(table, published_note(row));
}

static const plan_column_t published_facts[] = {
    {"stages", "stages (PP)", PLAN_INT}, {"cost_f", "F", PLAN_REAL},    {"cost_b", "B", PLAN_REAL},
    {"cost_w", "W", PLAN_REAL},          {"cost_fb", "F&B", PLAN_REAL},
};

static dpr_status_t print_published(const options_t *options)
{
    dpr_published_t rows[DPR_PUBLISHED_ROWS];
    plan_table_t *table;
    plan_table_t *facts = NULL;
    DPR_TRY(plan_expect_int("stages", options->stages, 1, DPR_MAX_STAGES));
    DPR_TRY(dpr_published_table(options->stages, &options->costs, rows));
    DPR_TRY(plan_table_create(published_columns,
                              sizeof published_columns / sizeof published_columns[0], &table));
    dpr_status_t status;
    DPR_TRY_GOTO(plan_table_create(published_facts,
                                   sizeof published_facts / sizeof published_facts[0], &facts),
                 destroy_tables);
    plan_table_int(facts, options->stages);
    plan_table_real(facts, options->costs.f);
    plan_table_real(facts, dpr_uniform_b(&options->costs));
    plan_table_real(facts, options->costs.w);
    plan_table_real(facts, dpr_uniform_fb(&options->costs));
    for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
        fill_published(&rows[i], table);
    }
    const plan_section_t section = {"schedules", NULL, table};
    status =
        plan_report_write(options->format, "dualpipe-plan-published", facts, &section, 1, stdout);
destroy_tables:
    plan_table_destroy(facts);
    plan_table_destroy(table);
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

static const plan_column_t reason_columns[] = {
    {"schedule", "not possible", PLAN_TEXT},
    {"reason", "", PLAN_TEXT},
};

static const plan_column_t condition_columns[] = {
    {"schedule", "closed form is exact for", PLAN_TEXT},
    {"condition", "", PLAN_TEXT},
};

static const plan_column_t fact_columns[] = {
    {"micro_batches", "micro-batches", PLAN_INT},
    {"cost_f", "F", PLAN_REAL},
    {"cost_i", "I", PLAN_REAL},
    {"cost_w", "W", PLAN_REAL},
    {"cost_b", "B", PLAN_REAL},
    {"cost_fb", "F&B", PLAN_REAL},
    {"cost_wire", "wire", PLAN_REAL},
    {"target", NULL, PLAN_REAL},
};

enum { FACTS, ROWS, TARGETS, CONDITIONS, REASONS, TABLES };

typedef struct bubbles {
    const options_t *options;
    plan_table_t *tables[TABLES];
} bubbles_t;

static dpr_status_t create_tables(bubbles_t *bubbles)
{
    static const struct {
        const plan_column_t *columns;
        int count;
    } kinds[TABLES] = {
        [FACTS] = {fact_columns, sizeof fact_columns / sizeof fact_columns[0]},
        [ROWS] = {columns, sizeof columns / sizeof columns[0]},
        [TARGETS] = {target_columns, sizeof target_columns / sizeof target_columns[0]},
        [CONDITIONS] = {condition_columns, sizeof condition_columns / sizeof condition_columns[0]},
        [REASONS] = {reason_columns, sizeof reason_columns / sizeof reason_columns[0]},
    };
    for (int i = 0; i < TABLES; i++) {
        DPR_TRY(plan_table_create(kinds[i].columns, kinds[i].count, &bubbles->tables[i]));
    }
    return DPR_OK;
}

static void fill_facts(const options_t *options, plan_table_t *facts)
{
    const dpr_uniform_costs_t *costs = &options->costs;
    plan_table_int(facts, options->schedules.micro_batches);
    plan_table_real(facts, costs->f);
    plan_table_real(facts, costs->i);
    plan_table_real(facts, costs->w);
    plan_table_real(facts, dpr_uniform_b(costs));
    plan_table_real(facts, dpr_uniform_fb(costs));
    plan_table_real(facts, costs->wire);
    plan_table_real(facts, options->target > 0.0 ? options->target : NAN);
}

static void add_reason(bubbles_t *bubbles, const char *schedule, const char *reason)
{
    plan_table_text(bubbles->tables[REASONS], schedule);
    plan_table_text(bubbles->tables[REASONS], reason);
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
    if (for_target > 0) {
        plan_table_int(table, for_target);
    } else {
        plan_table_none(table);
    }
    if (has) {
        plan_table_text(table, form->condition);
    } else {
        plan_table_none(table);
    }
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
        reason[strcspn(reason, "\n")] = '\0';
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
    DPR_TRY_GOTO(create_tables(&bubbles), destroy_tables);
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
    for (int i = 0; i < TABLES; i++) {
        plan_table_destroy(bubbles.tables[i]);
    }
    return status;
}

static dpr_status_t run(options_t *options)
{
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

int plan_bubbles_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_schedules_argp},
                                                 {.argp = &plan_cost_argp},
                                                 {.argp = &plan_output_argp},
                                                 {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {.costs = DPR_UNIFORM_COSTS_DEFAULT};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
