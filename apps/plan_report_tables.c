/* The tables of dualpipe_plan report. */
#include <math.h>
#include <string.h>

#include "apps/plan_report.h"
#include "base/log.h"

enum { MOST_TABLES = 12 };

/* Tables of a report, in order. */
typedef struct tables {
    plan_table_t *facts;
    plan_section_t sections[MOST_TABLES];
    plan_table_t *made[MOST_TABLES];
    int count;
} tables_t;

static dpr_status_t add_table(tables_t *tables, const char *key, const char *title,
                              const plan_column_t *columns, int count, plan_table_t **table)
{
    DPR_TRY(plan_table_create(columns, count, table));
    tables->made[tables->count] = *table;
    tables->sections[tables->count++] = (plan_section_t){key, title, *table};
    return DPR_OK;
}

static void destroy_tables(tables_t *tables)
{
    plan_table_destroy(tables->facts);
    for (int i = 0; i < tables->count; i++) {
        plan_table_destroy(tables->made[i]);
    }
}

#define COLUMNS(array) (int)(sizeof(array) / sizeof(array)[0])

/* ---- One run: facts and errors ---- */

static const plan_column_t fact_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"ranks", "ranks", PLAN_INT},
    {"stages", "stages", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    {"clock", "clock", PLAN_TEXT},
    {"unit", "unit of time", PLAN_TEXT},
    {"step_predicted", "step predicted", PLAN_REAL},
    {"step_measured", "step measured", PLAN_REAL},
    {"step_relative_error", "error of the step", PLAN_PERCENT},
    {"bubble_predicted", "bubble predicted", PLAN_PERCENT},
    {"bubble_measured", "bubble measured", PLAN_PERCENT},
    {"mean_absolute_bubble_error", "mean error of a rank's bubble", PLAN_PERCENT},
    {"bubble_closed_form", "bubble of the closed form", PLAN_PERCENT},
    {"exactness", "the closed form is", PLAN_TEXT},
};

static void fill_facts(const dpr_run_t *run, const dpr_run_analysis_t *analysis,
                       plan_table_t *table)
{
    const double predicted = analysis->predicted.summary.span_sec;
    const double measured = analysis->measured.summary.span_sec;
    plan_table_text(table, run->schedule);
    plan_table_int(table, run->graph->ranks);
    plan_table_int(table, run->graph->stages);
    plan_table_int(table, run->graph->micro_batches);
    plan_table_text(table, run->clock);
    plan_table_text(table, run->unit[0] != '\0' ? run->unit : "none");
    plan_table_real(table, predicted);
    plan_table_real(table, run->is_measured ? measured : NAN);
    plan_table_real(table, run->is_measured && measured > 0.0 ? predicted / measured - 1.0 : NAN);
    plan_table_real(table, analysis->predicted.summary.bubble_ratio);
    plan_table_real(table, run->is_measured ? analysis->measured.summary.bubble_ratio : NAN);
    plan_table_real(table, run->is_measured ? analysis->error.mean_absolute_bubble_error : NAN);
    plan_table_real(table, run->has_closed_form ? run->closed_form.bubble_ratio : NAN);
    plan_table_text(table, run->has_closed_form ? dpr_exactness_name(run->closed_form.exactness)
                                                : "none known for this program");
}

static const plan_column_t own_fact_columns[] = {
    {"name", "the run", PLAN_TEXT},
    {"value", "", PLAN_TEXT},
};

static dpr_status_t add_own_facts(const dpr_run_t *run, tables_t *tables)
{
    plan_table_t *table = NULL;
    DPR_TRY(add_table(tables, "facts", NULL, own_fact_columns, COLUMNS(own_fact_columns), &table));
    for (size_t i = 0; i < run->fact_count; i++) {
        plan_table_text(table, run->facts[i].name);
        plan_table_text(table, run->facts[i].value);
    }
    return DPR_OK;
}

static const plan_column_t step_error_columns[] = {
    {"predicted", "predicted", PLAN_REAL}, {"measured", "measured", PLAN_REAL},
    {"error", "error", PLAN_REAL},         {"cost", "of cost", PLAN_REAL},
    {"wire", "of wire", PLAN_REAL},        {"host", "of host", PLAN_REAL},
    {"order", "of order", PLAN_REAL},
};

static const plan_column_t bubble_error_columns[] = {
    {"rank", "rank", PLAN_TEXT},
    {"closed_form", "closed form", PLAN_PERCENT},
    {"predicted", "predicted", PLAN_PERCENT},
    {"measured", "measured", PLAN_PERCENT},
    {"error", "error", PLAN_PERCENT},
    {"cost", "of cost", PLAN_PERCENT},
    {"wire", "of wire", PLAN_PERCENT},
    {"host", "of host", PLAN_PERCENT},
    {"order", "of order", PLAN_PERCENT},
};

/* A part of an error; what is left of two sums of numbers of 16 digits is none. */
static double part_of(const dpr_error_parts_t *parts, double part)
{
    return fabs(part) < 1e-12 * fmax(fabs(parts->predicted), fabs(parts->measured)) ? 0.0 : part;
}

static void fill_parts(const dpr_error_parts_t *parts, plan_table_t *table)
{
    plan_table_real(table, parts->predicted);
    plan_table_real(table, parts->measured);
    plan_table_real(table, part_of(parts, parts->predicted - parts->measured));
    plan_table_real(table, part_of(parts, parts->cost));
    plan_table_real(table, part_of(parts, parts->wire));
    plan_table_real(table, part_of(parts, parts->host));
    plan_table_real(table, part_of(parts, parts->order));
}

static void fill_bubble(const dpr_run_t *run, const char *rank, const dpr_error_parts_t *parts,
                        plan_table_t *table)
{
    plan_table_text(table, rank);
    plan_table_real(table, run->has_closed_form ? run->closed_form.bubble_ratio : NAN);
    fill_parts(parts, table);
}

/* Where nothing was measured there is no error. */
static dpr_status_t add_errors(const dpr_run_t *run, const dpr_prediction_error_t *error,
                               tables_t *tables)
{
    plan_table_t *step = NULL;
    plan_table_t *bubbles = NULL;
    DPR_TRY(add_table(tables, "step_error", "Step time", step_error_columns,
                      COLUMNS(step_error_columns), &step));
    DPR_TRY(add_table(tables, "bubble_error", "Bubbles; differences in percentage points",
                      bubble_error_columns, COLUMNS(bubble_error_columns), &bubbles));
    if (!run->is_measured) {
        return DPR_OK;
    }
    fill_parts(&error->span_sec, step);
    fill_bubble(run, "mean", &error->bubble_ratio, bubbles);
    for (int r = 0; r < error->ranks; r++) {
        char rank[16];
        snprintf(rank, sizeof rank, "%d", r);
        fill_bubble(run, rank, &error->rank_bubble_ratio[r], bubbles);
    }
    return DPR_OK;
}

/* ---- One run: ledgers and paths ---- */

static const plan_column_t ledger_columns[] = {
    {"rank", "rank", PLAN_INT},
    {"bubble", "bubble", PLAN_REAL},
    {"bubble_ratio", "ratio", PLAN_PERCENT},
#define X(name, text, meaning) {text, text, PLAN_REAL},
    DPR_CAUSE_MAP(X)
#undef X
        {"late", "host: late", PLAN_REAL},
};

static dpr_status_t add_ledger(const char *key, const char *title, const dpr_run_side_t *side,
                               tables_t *tables)
{
    plan_table_t *table = NULL;
    DPR_TRY(add_table(tables, key, title, ledger_columns, COLUMNS(ledger_columns), &table));
    for (int r = 0; r < side->ledger.ranks; r++) {
        plan_table_int(table, r);
        plan_table_real(table, side->ledger.bubble_sec[r]);
        plan_table_real(table, side->summary.rank_bubble_ratio[r]);
        for (int c = 0; c < DPR_CAUSES; c++) {
            plan_table_real(table, dpr_ledger_sec(&side->ledger, r, (dpr_cause_t)c));
        }
        plan_table_real(table, side->ledger.late_sec[r]);
    }
    return DPR_OK;
}

static const plan_column_t path_columns[] = {
    {"from", "from", PLAN_REAL},  {"to", "to", PLAN_REAL},       {"links", "links", PLAN_INT},
    {"wait", "waits", PLAN_REAL}, {"first", "first", PLAN_TEXT}, {"reason", "reason", PLAN_TEXT},
};

/* Links that follow each other on one rank are one row. */
static void fill_path(const dpr_run_side_t *side, plan_table_t *table)
{
    const dpr_critical_path_t *path = &side->path;
    const dpr_timeline_t *timeline = side->timeline;
    double wait = 0.0;
    for (size_t first = 0, i = 1; i <= path->count; i++) {
        const dpr_path_link_t *link = &path->links[first];
        wait += path->links[i - 1].wait_sec;
        if (i < path->count && path->links[i].reason == DPR_EDGE_ORDER) {
            continue;
        }
        char name[96];
        plan_table_real(table, timeline->start[link->node]);
        plan_table_real(table, timeline->end[path->links[i - 1].node]);
        plan_table_int(table, (int64_t)(i - first));
        plan_table_real(table, wait);
        plan_table_text(table, dpr_node_format(timeline->graph, link->node, name, sizeof name));
        plan_table_text(table, dpr_path_reason_text(link->reason));
        wait = 0.0;
        first = i;
    }
}

static dpr_status_t add_path(const char *key, const char *title, const dpr_run_side_t *side,
                             tables_t *tables)
{
    plan_table_t *table = NULL;
    DPR_TRY(add_table(tables, key, title, path_columns, COLUMNS(path_columns), &table));
    fill_path(side, table);
    return DPR_OK;
}

static dpr_status_t add_sides(const plan_reported_t *reported, tables_t *tables)
{
    const dpr_run_side_t *predicted = &reported->analysis.predicted;
    const dpr_run_side_t *measured = &reported->analysis.measured;
    DPR_TRY(add_ledger("ledger_predicted", "Why the ranks are idle, predicted", predicted, tables));
    if (reported->run->is_measured) {
        DPR_TRY(
            add_ledger("ledger_measured", "Why the ranks were idle, measured", measured, tables));
    }
    DPR_TRY(add_path("path_predicted", "Critical path, predicted", predicted, tables));
    return reported->run->is_measured
               ? add_path("path_measured", "Critical path, measured", measured, tables)
               : DPR_OK;
}

dpr_status_t plan_report_one(const plan_reported_t *reported, plan_format_t format)
{
    const dpr_run_t *run = reported->run;
    tables_t tables = {0};
    dpr_status_t status;
    DPR_TRY(plan_table_create(fact_columns, COLUMNS(fact_columns), &tables.facts));
    fill_facts(run, &reported->analysis, tables.facts);
    DPR_TRY_GOTO(add_own_facts(run, &tables), destroy);
    DPR_TRY_GOTO(add_errors(run, &reported->analysis.error, &tables), destroy);
    DPR_TRY_GOTO(add_sides(reported, &tables), destroy);
    status = plan_report_write(format, "dualpipe-plan-report", tables.facts, tables.sections,
                               tables.count, stdout);
destroy:
    destroy_tables(&tables);
    return status;
}

/* ---- Two runs ---- */

static const plan_column_t pair_columns[] = {
    {"a", "A", PLAN_TEXT},
    {"b", "B", PLAN_TEXT},
    {"unit", "unit of time", PLAN_TEXT},
};

static const plan_column_t time_columns[] = {
    {"what", "", PLAN_TEXT},
    {"a", "A", PLAN_REAL},
    {"b", "B", PLAN_REAL},
    {"difference", "B - A", PLAN_REAL},
    {"change", "change", PLAN_PERCENT},
};

static const plan_column_t share_columns[] = {
    {"what", "", PLAN_TEXT},
    {"a", "A", PLAN_PERCENT},
    {"b", "B", PLAN_PERCENT},
    {"difference", "B - A", PLAN_PERCENT},
};

static void fill_times(const char *what, double a, double b, plan_table_t *table)
{
    plan_table_text(table, what);
    plan_table_real(table, a);
    plan_table_real(table, b);
    plan_table_real(table, b - a);
    plan_table_real(table, a > 0.0 ? b / a - 1.0 : NAN);
}

static void fill_shares(const char *what, double a, double b, plan_table_t *table)
{
    plan_table_text(table, what);
    plan_table_real(table, a);
    plan_table_real(table, b);
    plan_table_real(table, b - a);
}

static double measured_span(const plan_reported_t *reported)
{
    return reported->run->is_measured ? reported->analysis.measured.summary.span_sec : NAN;
}

static dpr_status_t add_steps(const plan_reported_t *a, const plan_reported_t *b, tables_t *tables)
{
    plan_table_t *table = NULL;
    const dpr_critical_path_t *a_path = &plan_reported_side(a)->path;
    const dpr_critical_path_t *b_path = &plan_reported_side(b)->path;
    DPR_TRY(add_table(tables, "times", "Step", time_columns, COLUMNS(time_columns), &table));
    fill_times("step predicted", a->analysis.predicted.summary.span_sec,
               b->analysis.predicted.summary.span_sec, table);
    if (a->run->is_measured || b->run->is_measured) {
        fill_times("step measured", measured_span(a), measured_span(b), table);
    }
    fill_times("critical path: compute", a_path->compute_sec, b_path->compute_sec, table);
    fill_times("critical path: wire", a_path->wire_sec, b_path->wire_sec, table);
    fill_times("critical path: waits", a_path->wait_sec, b_path->wait_sec, table);
    return DPR_OK;
}

static double rank_ratio(const dpr_run_side_t *side, int rank)
{
    return rank < side->ledger.ranks ? side->summary.rank_bubble_ratio[rank] : NAN;
}

static dpr_status_t add_bubbles(const dpr_run_side_t *a, const dpr_run_side_t *b, tables_t *tables)
{
    plan_table_t *table = NULL;
    const int ranks = a->ledger.ranks > b->ledger.ranks ? a->ledger.ranks : b->ledger.ranks;
    DPR_TRY(add_table(tables, "bubbles", "Bubble of the step", share_columns,
                      COLUMNS(share_columns), &table));
    fill_shares("mean", a->summary.bubble_ratio, b->summary.bubble_ratio, table);
    for (int r = 0; r < ranks; r++) {
        char name[32];
        snprintf(name, sizeof name, "rank %d", r);
        fill_shares(name, rank_ratio(a, r), rank_ratio(b, r), table);
    }
    return DPR_OK;
}

/* Mean over the ranks. */
static double mean_sec(const dpr_ledger_t *ledger, dpr_cause_t cause)
{
    double sum = 0.0;
    for (int r = 0; r < ledger->ranks; r++) {
        sum += dpr_ledger_sec(ledger, r, cause);
    }
    return sum / ledger->ranks;
}

static dpr_status_t add_causes(const dpr_ledger_t *a, const dpr_ledger_t *b, tables_t *tables)
{
    plan_table_t *times = NULL;
    plan_table_t *shares = NULL;
    DPR_TRY(add_table(tables, "cause_times", "Why a rank was idle, mean over the ranks",
                      time_columns, COLUMNS(time_columns), &times));
    DPR_TRY(add_table(tables, "cause_shares", "The same as shares of the step", share_columns,
                      COLUMNS(share_columns), &shares));
    for (int c = 0; c < DPR_CAUSES; c++) {
        const dpr_cause_t cause = (dpr_cause_t)c;
        fill_times(dpr_cause_name(cause), mean_sec(a, cause), mean_sec(b, cause), times);
        fill_shares(dpr_cause_name(cause), dpr_ledger_mean_ratio(a, cause),
                    dpr_ledger_mean_ratio(b, cause), shares);
    }
    return DPR_OK;
}

static const plan_column_t rank_cause_columns[] = {
    {"rank", "rank", PLAN_INT}, {"cause", "cause", PLAN_TEXT},      {"a", "A", PLAN_REAL},
    {"b", "B", PLAN_REAL},      {"difference", "B - A", PLAN_REAL},
};

/* Causes that one of the two has. */
static dpr_status_t add_rank_causes(const dpr_ledger_t *a, const dpr_ledger_t *b, tables_t *tables)
{
    plan_table_t *table = NULL;
    DPR_TRY(add_table(tables, "rank_causes", "Rank by rank", rank_cause_columns,
                      COLUMNS(rank_cause_columns), &table));
    const int ranks = a->ranks > b->ranks ? a->ranks : b->ranks;
    for (int r = 0; r < ranks; r++) {
        for (int c = 0; c < DPR_CAUSES; c++) {
            const double first = r < a->ranks ? dpr_ledger_sec(a, r, (dpr_cause_t)c) : NAN;
            const double second = r < b->ranks ? dpr_ledger_sec(b, r, (dpr_cause_t)c) : NAN;
            if (first != 0.0 || second != 0.0) {
                plan_table_int(table, r);
                plan_table_text(table, dpr_cause_name((dpr_cause_t)c));
                plan_table_real(table, first);
                plan_table_real(table, second);
                plan_table_real(table, second - first);
            }
        }
    }
    return DPR_OK;
}

/* "a.json: dualpipe, 8 ranks, 20 micro-batches, core clock, measured" */
static void fill_pair(const plan_reported_t *reported, plan_table_t *table)
{
    const dpr_run_t *run = reported->run;
    char text[512];
    snprintf(text, sizeof text, "%s: %s, %d ranks, %d micro-batches, %s", reported->path,
             run->schedule, run->graph->ranks, run->graph->micro_batches,
             run->is_measured ? "measured" : "predicted");
    plan_table_text(table, text);
}

static const char *common_unit(const dpr_run_t *a, const dpr_run_t *b)
{
    if (strcmp(a->unit, b->unit) != 0) {
        return "not the same: compare shares, not times";
    }
    return a->unit[0] != '\0' ? a->unit : "none";
}

dpr_status_t plan_report_two(const plan_reported_t *a, const plan_reported_t *b,
                             plan_format_t format)
{
    const dpr_run_side_t *a_side = plan_reported_side(a);
    const dpr_run_side_t *b_side = plan_reported_side(b);
    tables_t tables = {0};
    dpr_status_t status;
    DPR_TRY(plan_table_create(pair_columns, COLUMNS(pair_columns), &tables.facts));
    fill_pair(a, tables.facts);
    fill_pair(b, tables.facts);
    plan_table_text(tables.facts, common_unit(a->run, b->run));
    DPR_TRY_GOTO(add_steps(a, b, &tables), destroy);
    DPR_TRY_GOTO(add_bubbles(a_side, b_side, &tables), destroy);
    DPR_TRY_GOTO(add_causes(&a_side->ledger, &b_side->ledger, &tables), destroy);
    DPR_TRY_GOTO(add_rank_causes(&a_side->ledger, &b_side->ledger, &tables), destroy);
    status = plan_report_write(format, "dualpipe-plan-comparison", tables.facts, tables.sections,
                               tables.count, stdout);
destroy:
    destroy_tables(&tables);
    return status;
}
