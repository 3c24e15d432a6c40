/* dualpipe_plan auto: the scheduler, beside the fixed schedules and the bound. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "models/auto.h"
#include "schedule/csv.h"

enum key {
    KEY_RANKS = 0x2000,
    KEY_MICRO_BATCHES,
    KEY_PLACEMENT,
    KEY_ACTIVATIONS,
    KEY_BUDGET,
    KEY_ITERATIONS,
    KEY_SEED,
    KEY_CSV,
    KEY_JSON,
};

static const double most_seconds = 3600.0;

typedef struct options {
    dpr_auto_request_t request;
    bool has_budget;
    bool has_activations;
    const char *file;
    plan_format_t format;
} options_t;

static dpr_status_t parse_placement(const char *text, dpr_auto_placement_t *placement)
{
    for (int i = 0; i <= DPR_AUTO_PLACEMENTS; i++) {
        if (strcmp(text, dpr_auto_placement_name((dpr_auto_placement_t)i)) == 0) {
            *placement = (dpr_auto_placement_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "--placement '%s': expected one of any, v, one-to-one, bidirectional", text);
}

static dpr_status_t parse_iterations(const char *text, int64_t *iterations)
{
    uint64_t value;
    DPR_TRY(plan_parse_count("iterations", text, 1, UINT64_C(1000000000000), &value));
    *iterations = (int64_t)value;
    return DPR_OK;
}

static dpr_status_t parse_option(int key, const char *arg, options_t *options)
{
    dpr_auto_request_t *request = &options->request;
    switch (key) {
    case KEY_RANKS:
        return plan_parse_int("ranks", arg, 1, DPR_AUTO_MAX_RANKS, &request->ranks);
    case KEY_MICRO_BATCHES:
        return plan_parse_int("micro-batches", arg, 1, DPR_MAX_MICRO_BATCHES,
                              &request->micro_batches);
    case KEY_PLACEMENT:
        return parse_placement(arg, &request->placement);
    case KEY_ACTIVATIONS:
        options->has_activations = true;
        return plan_parse_int("activations", arg, 1, DPR_MAX_CELLS, &request->activations);
    case KEY_BUDGET:
        options->has_budget = true;
        return plan_parse_real("budget", arg, 0.0, most_seconds, &request->budget_sec);
    case KEY_ITERATIONS:
        return parse_iterations(arg, &request->iterations);
    case KEY_SEED:
        return plan_parse_count("seed", arg, 0, UINT64_MAX, &request->seed);
    default:
        return DPR_OK;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->request.costs;
        return 0;
    case KEY_CSV:
        options->file = arg;
        return 0;
    case KEY_JSON:
        options->format = PLAN_FORMAT_JSON;
        return 0;
    default:
        return key >= KEY_RANKS && key <= KEY_SEED
                   ? plan_argp_error(parse_option(key, arg, options))
                   : ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "ranks", .key = KEY_RANKS, .arg = "P", .doc = "Number of pipeline ranks"},
    {.name = "micro-batches", .key = KEY_MICRO_BATCHES, .arg = "M", .doc = "Micro-batches a step"},
    {.name = "placement",
     .key = KEY_PLACEMENT,
     .arg = "NAME",
     .doc = "any (default): whichever of these is shortest; v: rank r holds stages r and 2P-1-r; "
            "one-to-one: stage s on rank s; bidirectional: as dualpipe, every stage on two ranks, "
            "which takes twice the parameters"},
    {.name = "activations",
     .key = KEY_ACTIVATIONS,
     .arg = "N",
     .doc = "Most saved sets that a rank may hold, each of one of the placement's stages, with any "
            "of 1/P of the model (default: what dualpipe needs, P+1 micro-batches: 2P+2 for v, "
            "else P+1)"},
    {.name = "budget",
     .key = KEY_BUDGET,
     .arg = "SECONDS",
     .doc = "Time for the search (default 2, or no limit with --iterations)"},
    {.name = "iterations",
     .key = KEY_ITERATIONS,
     .arg = "N",
     .doc = "Moves that the search may try: with no --budget the result is the same every time"},
    {.name = "seed", .key = KEY_SEED, .arg = "N", .doc = "Of the search (default 1)"},
    {.name = "csv", .key = KEY_CSV, .arg = "FILE", .doc = "Write the program to a file"},
    {.name = "json", .key = KEY_JSON, .doc = "Print JSON"},
    {0},
};

static const char doc[] =
    "Searches the program with the shortest step for given costs and a limit on activations, and "
    "shows it beside the fixed schedules and the bound that no program of the placements searched "
    "beats. Costs are of one of P stages. It is never worse than the best fixed schedule within "
    "the "
    "limit, which it returns where it finds no better; with --placement only those of that "
    "placement count."
    "\vExamples:\n"
    "  dualpipe_plan auto --ranks 8 --micro-batches 32 --cost F=1,I=1.2,W=0.8,wire=0.1\n"
    "  dualpipe_plan auto --ranks 4 --micro-batches 8 --activations 5 --csv plan.csv\n";

static const plan_column_t fact_columns[] = {
    {"ranks", "ranks", PLAN_INT},
    {"stages", "stages", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    {"placement", "placement", PLAN_TEXT},
    {"cost_f", "F", PLAN_REAL},
    {"cost_i", "I", PLAN_REAL},
    {"cost_w", "W", PLAN_REAL},
    {"cost_wire", "wire", PLAN_REAL},
    {"activations", "activation limit (sets of a stage)", PLAN_INT},
    {"peak_activations", "peak activations (sets of a stage)", PLAN_INT},
    {"program", "program", PLAN_TEXT},
    {"makespan", "makespan", PLAN_REAL},
    {"lower_bound", "lower bound", PLAN_REAL},
    {"bubble", "bubble", PLAN_REAL},
    {"bubble_ratio", "bubble ratio", PLAN_PERCENT},
    {"list_makespan", "list scheduling alone", PLAN_REAL},
    {"iterations", "moves judged", PLAN_INT},
    {"seconds", "seconds", PLAN_REAL},
};

static const plan_column_t rival_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"placement", "placement", PLAN_TEXT},
    {"within_limit", "within limit", PLAN_BOOL},
    {"activation_shares", "activations (1/P of the model)", PLAN_REAL},
    {"makespan", "makespan", PLAN_REAL},
    {"bubble", "bubble", PLAN_REAL},
    {"auto_shorter_by", "auto is shorter by", PLAN_REAL},
    {"auto_shorter_ratio", "", PLAN_PERCENT},
};

enum { FACTS, RIVALS, TABLES };

static void fill_facts(const options_t *options, const dpr_auto_report_t *report,
                       plan_table_t *facts)
{
    const dpr_auto_request_t *request = &options->request;
    const double span = report->makespan_sec;
    plan_table_int(facts, request->ranks);
    plan_table_int(facts, report->stages);
    plan_table_int(facts, request->micro_batches);
    plan_table_text(facts, report->placement);
    plan_table_real(facts, request->costs.f);
    plan_table_real(facts, request->costs.i);
    plan_table_real(facts, request->costs.w);
    plan_table_real(facts, request->costs.wire);
    plan_table_int(facts, report->activations);
    plan_table_int(facts, report->peak_activations);
    plan_table_text(facts, report->fixed != NULL ? report->fixed : "auto");
    plan_table_real(facts, span);
    plan_table_real(facts, report->lower_bound_sec);
    plan_table_real(facts, report->bubble_sec);
    plan_table_real(facts, span > 0.0 ? report->bubble_sec / span : 0.0);
    plan_table_real(facts, report->list_sec);
    plan_table_int(facts, report->iterations);
    plan_table_real(facts, report->seconds);
}

static void fill_rivals(const dpr_auto_report_t *report, plan_table_t *table)
{
    for (int i = 0; i < report->rival_count; i++) {
        const dpr_auto_rival_t *rival = &report->rivals[i];
        if (!rival->runs) {
            continue;
        }
        const double gain = rival->makespan_sec - report->makespan_sec;
        plan_table_text(table, rival->name);
        plan_table_text(table, rival->placement);
        plan_table_int(table, rival->fits);
        plan_table_real(table, rival->peak_shares);
        plan_table_real(table, rival->makespan_sec);
        plan_table_real(table, rival->bubble_sec);
        plan_table_real(table, gain);
        plan_table_real(table, rival->makespan_sec > 0.0 ? gain / rival->makespan_sec : 0.0);
    }
}

static dpr_status_t print_report(const options_t *options, const dpr_auto_report_t *report)
{
    plan_table_t *tables[TABLES] = {NULL};
    dpr_status_t status;
    DPR_TRY_GOTO(plan_table_create(fact_columns, sizeof fact_columns / sizeof fact_columns[0],
                                   &tables[FACTS]),
                 destroy_tables);
    DPR_TRY_GOTO(plan_table_create(rival_columns, sizeof rival_columns / sizeof rival_columns[0],
                                   &tables[RIVALS]),
                 destroy_tables);
    fill_facts(options, report, tables[FACTS]);
    fill_rivals(report, tables[RIVALS]);
    const plan_section_t sections[] = {{"schedules", NULL, tables[RIVALS]}};
    status = plan_report_write(options->format, "dualpipe-plan-auto", tables[FACTS], sections, 1,
                               stdout);
destroy_tables:
    for (int i = 0; i < TABLES; i++) {
        plan_table_destroy(tables[i]);
    }
    return status;
}

static dpr_status_t write_program(const char *path, const dpr_program_t *program)
{
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "--csv %s: cannot write: %s", path, strerror(errno));
    }
    const dpr_status_t status = dpr_csv_write(program, out);
    if (fclose(out) != 0 && status == DPR_OK) {
        return dpr_fail(DPR_ERR_IO, "--csv %s: cannot write: %s", path, strerror(errno));
    }
    return status;
}

static dpr_status_t complete(options_t *options)
{
    dpr_auto_request_t *request = &options->request;
    DPR_TRY(plan_expect_int("ranks", request->ranks, 1, DPR_AUTO_MAX_RANKS));
    DPR_TRY(plan_expect_int("micro-batches", request->micro_batches, 1, DPR_MAX_MICRO_BATCHES));
    const int least = dpr_auto_least_activations(request->placement);
    if (options->has_activations && request->activations < least) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--activations %d: placement %s needs at least %d, expected %d to %d",
                        request->activations, dpr_auto_placement_name(request->placement), least,
                        least, DPR_MAX_CELLS);
    }
    if (request->iterations > 0 && !options->has_budget) {
        request->budget_sec = 0.0;
    }
    return DPR_OK;
}

static dpr_status_t run(options_t *options)
{
    DPR_TRY(complete(options));
    dpr_program_t program;
    dpr_auto_report_t report;
    DPR_TRY(dpr_auto_schedule(&options->request, &program, &report));
    dpr_status_t status = DPR_OK;
    if (options->file != NULL) {
        status = write_program(options->file, &program);
    }
    if (status == DPR_OK) {
        status = print_report(options, &report);
    }
    dpr_program_free(&program);
    return status;
}

int plan_auto_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_cost_argp}, {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {.request = DPR_AUTO_REQUEST_DEFAULT};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
