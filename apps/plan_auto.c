/* dualpipe_plan auto: the scheduler, beside the fixed schedules and the bound. */
#include <errno.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "models/auto.h"
#include "schedule/csv.h"

static const double most_seconds = 3600.0;

typedef struct options {
    dpr_auto_request_t request;
    bool has_budget;
    const char *file;
    bool json;
} options_t;

static dpr_status_t take_placement(const option_row_t *row, char *text, void *into)
{
    dpr_auto_request_t *request = into;
    for (int i = 0; i <= DPR_AUTO_PLACEMENTS; i++) {
        if (strcmp(text, dpr_auto_placement_name((dpr_auto_placement_t)i)) == 0) {
            request->placement = (dpr_auto_placement_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected one of any, v, one-to-one, bidirectional",
                    row->name, text);
}

static dpr_status_t take_iterations(const option_row_t *row, char *text, void *into)
{
    dpr_auto_request_t *request = into;
    uint64_t value;
    DPR_TRY(plan_parse_count(row->name, text, 1, UINT64_C(1000000000000), &value));
    request->iterations = (int64_t)value;
    return DPR_OK;
}

static dpr_status_t take_budget(const option_row_t *row, char *text, void *into)
{
    options_t *options = into;
    options->has_budget = true;
    return plan_parse_real(row->name, text, 0.0, most_seconds, &options->request.budget_sec);
}

static const option_row_t request_options[] = {
    {"ranks", "P", "Number of pipeline ranks", OPTION_FIELD(dpr_auto_request_t, ranks), 1,
     DPR_AUTO_MAX_RANKS},
    {"micro-batches", "M", "Micro-batches a step", OPTION_FIELD(dpr_auto_request_t, micro_batches),
     1, DPR_MAX_MICRO_BATCHES},
    {"placement", "NAME",
     "any (default): whichever of these is shortest; v: rank r holds stages r and 2P-1-r; "
     "one-to-one: stage s on rank s; bidirectional: as dualpipe, every stage on two ranks, which "
     "takes twice the parameters",
     .take = take_placement},
    {"activations", "N",
     "Most saved sets that a rank may hold, each of one of the placement's stages, with any of 1/P "
     "of the model (default: what dualpipe needs, P+1 micro-batches: 2P+2 for v, else P+1)",
     OPTION_FIELD(dpr_auto_request_t, activations), 1, DPR_MAX_CELLS},
    {"iterations", "N",
     "Moves that the search may try: with no --budget the result is the same every time",
     .take = take_iterations},
    {"seed", "N", "Of the search (default 1)",
     OPTION_BY(option_take_seed, dpr_auto_request_t, seed)},
    {0},
};

static const option_row_t own_options[] = {
    {"budget", "SECONDS", "Time for the search (default 2, or no limit with --iterations)",
     .take = take_budget},
    {"csv", "FILE", "Write the program to a file", OPTION_FIELD(options_t, file)},
    {"json", NULL, "Print JSON", OPTION_FIELD(options_t, json)},
    {0},
};

static const char doc[] =
    "Searches the program with the shortest step for given costs and a limit on activations, and "
    "shows it beside the fixed schedules and the bound that no program of the placements searched "
    "beats. Costs are of one of P stages. It is never worse than the best fixed schedule within "
    "the limit, which it returns where it finds no better; with --placement only those of that "
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

enum { FACTS, RIVALS, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(rival_columns)};

static dpr_status_t print_report(const options_t *options, const dpr_auto_report_t *report)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(options, report, tables[FACTS]);
    fill_rivals(report, tables[RIVALS]);
    const plan_section_t sections[] = {{"schedules", NULL, tables[RIVALS]}};
    const dpr_status_t status =
        plan_report_write(options->json ? PLAN_FORMAT_JSON : PLAN_FORMAT_TEXT, "dualpipe-plan-auto",
                          tables[FACTS], sections, 1, stdout);
    plan_tables_destroy(tables, TABLES);
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
    if (request->activations > 0 && request->activations < least) {
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

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
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

static const option_table_t tables[] = {
    {request_options, .offset = offsetof(options_t, request)},
    {.rows = own_options},
    {plan_cost_options, .offset = offsetof(options_t, request.costs)},
    {0},
};

const plan_command_t plan_auto_command = {
    .name = "auto",
    .summary = "the best program that a scheduler finds within limits",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.request = DPR_AUTO_REQUEST_DEFAULT},
    .run = run,
};
