/* The report of dualpipe_plan comm. */
#include <math.h>
#include <stdlib.h>

#include "apps/plan_comm.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/communication.h"
#include "models/compare.h"
#include "schedule/csv.h"
#include "schedule/generators.h"

/* Nodes that all simulations of a report may visit: some seconds. */
#define MAX_VISITS 1e9

/* Simulations that a crossover and a hidden wire time take at most. */
enum { PLAYS_PER_PAIR = 2 * (64 + 64), PLAYS_PER_SCHEDULE = 64 };

enum { FACTS, SCHEDULES, CHANNELS, RANKS, CROSSOVERS, REASONS, TABLES };

static const plan_column_t fact_columns[] = {
    {"ranks", "ranks", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    {"message_bytes", "message", PLAN_BYTES},
    {"latency", "latency", PLAN_REAL},
    {"tolerance", "tolerance", PLAN_PERCENT},
    {"replicas", "replicas", PLAN_INT},
    {"gradient_bytes", "gradients of a rank's share", PLAN_BYTES},
    {"most_wire", "wire times looked at, up to", PLAN_REAL},
};

static const plan_column_t schedule_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"messages", "messages", PLAN_INT},
    {"closed_form_messages", "closed form", PLAN_INT},
    {"bytes", "bytes", PLAN_BYTES},
    {"most_sent_bytes", "most by a rank", PLAN_BYTES},
    {"hidden_wire", "hidden wire time", PLAN_REAL},
    {"bandwidth", "bytes per unit time", PLAN_REAL},
    {"replica_bytes", "replica sum", PLAN_BYTES},
    {"reduction_bytes", "all replicas", PLAN_BYTES},
};

static const plan_column_t channel_columns[] = {
    {"schedule", NULL, PLAN_TEXT},          {"source", "from", PLAN_INT},
    {"destination", "to", PLAN_INT},        {"kind", "kind", PLAN_TEXT},
    {"messages", "messages", PLAN_INT},     {"bytes", "bytes", PLAN_BYTES},
    {"send_slots", "send slots", PLAN_INT}, {"recv_slots", "receive slots", PLAN_INT},
};

static const plan_column_t rank_columns[] = {
    {"schedule", NULL, PLAN_TEXT},
    {"rank", "rank", PLAN_INT},
    {"sent_messages", "sent", PLAN_INT},
    {"sent_bytes", "bytes", PLAN_BYTES},
    {"received_messages", "received", PLAN_INT},
    {"received_bytes", "bytes", PLAN_BYTES},
    {"replica_bytes", "replica sum", PLAN_BYTES},
    {"reduction_bytes", "all replicas", PLAN_BYTES},
    {"reduction_messages", "messages of it", PLAN_INT},
};

static const plan_column_t crossover_columns[] = {
    {"first", "shorter", PLAN_TEXT},
    {"second", "than", PLAN_TEXT},
    {"wire", "until wire time", PLAN_REAL},
    {"equal", NULL, PLAN_BOOL},
};

/* More pairs than these are for programs: a person sees those that change places. */
enum { MOST_PAIRS_SHOWN = 10 };

typedef struct entry {
    const char *name;
    bool generated;
    dpr_graph_t *graph;
    dpr_uniform_costs_t costs;
} entry_t;

typedef struct report {
    const plan_comm_t *comm;
    entry_t entries[PLAN_MAX_SCHEDULES];
    int count;
    plan_table_t *tables[TABLES];
} report_t;

static dpr_status_t create_tables(report_t *report)
{
    const plan_shape_t shapes[TABLES] = {
        [FACTS] = PLAN_SHAPE(fact_columns),           [SCHEDULES] = PLAN_SHAPE(schedule_columns),
        [CHANNELS] = PLAN_SHAPE(channel_columns),     [RANKS] = PLAN_SHAPE(rank_columns),
        [CROSSOVERS] = PLAN_SHAPE(crossover_columns), [REASONS] = plan_reason_shape,
    };
    return plan_tables_create(shapes, TABLES, report->tables);
}

/* ---- Programs ---- */

static dpr_status_t add_program(report_t *report, const dpr_program_t *program, const char *name,
                                bool generated)
{
    if ((int64_t)program->stages * program->micro_batches > DPR_COMPARE_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "%s: %d stages of %d micro-batches are too many: at most %d in all", name,
                        program->stages, program->micro_batches, DPR_COMPARE_MAX_CELLS);
    }
    entry_t *entry = &report->entries[report->count];
    DPR_TRY(dpr_graph_create(program, NULL, &entry->graph));
    entry->name = name;
    entry->generated = generated;
    entry->costs = dpr_costs_of_cut(&report->comm->costs, program->ranks, program->stages);
    report->count++;
    return DPR_OK;
}

static dpr_status_t add_schedule(report_t *report, const char *name)
{
    const plan_schedules_t *asked = &report->comm->schedules;
    if (!plan_schedules_allow(asked, name, report->tables[REASONS])) {
        return DPR_OK;
    }
    const int64_t cells =
        (int64_t)dpr_schedule_stages_per_rank(name) * asked->ranks * asked->micro_batches;
    if (cells > DPR_COMPARE_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--ranks %d and --micro-batches %d: %s makes more than %d stages x "
                        "micro-batches of them",
                        asked->ranks, asked->micro_batches, name, DPR_COMPARE_MAX_CELLS);
    }
    dpr_program_t program;
    DPR_TRY(dpr_schedule_generate(name, asked->ranks, asked->micro_batches, &program));
    const dpr_status_t status = add_program(report, &program, name, true);
    dpr_program_free(&program);
    return status;
}

static dpr_status_t add_all(report_t *report)
{
    const plan_comm_t *comm = report->comm;
    if (comm->file != NULL) {
        dpr_program_t program;
        DPR_TRY(dpr_csv_read(comm->file, &program));
        const dpr_status_t status = add_program(report, &program, comm->file, false);
        dpr_program_free(&program);
        return status;
    }
    for (int i = 0; i < comm->schedules.count; i++) {
        DPR_TRY(add_schedule(report, comm->schedules.names[i]));
    }
    return DPR_OK;
}

/* `nodes` of all `count` graphs together. */
static dpr_status_t check_visits(const report_t *report, double nodes, int count)
{
    const double pairs_of_each = report->comm->crossover ? count - 1 : 0;
    const double visits = nodes * (PLAYS_PER_SCHEDULE + 0.5 * PLAYS_PER_PAIR * pairs_of_each);
    if (visits > MAX_VISITS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "too much to play out: %.3g ops in all simulations, at most %.3g: lower "
                        "--ranks or --micro-batches, or name fewer schedules with --schedule",
                        visits, MAX_VISITS);
    }
    return DPR_OK;
}

/* Before anything is built: a cell has a forward and a backward, and on most ranks two messages. */
static dpr_status_t check_asked(const report_t *report)
{
    const plan_schedules_t *asked = &report->comm->schedules;
    double nodes = 0.0;
    int count = 0;
    for (int i = 0; i < asked->count; i++) {
        const int each = dpr_schedule_stages_per_rank(asked->names[i]);
        const double cells = (double)each * asked->ranks * asked->micro_batches;
        /* what is too large by itself has its own message */
        if (dpr_schedule_allows(asked->names[i], asked->ranks, asked->micro_batches) &&
            cells <= DPR_COMPARE_MAX_CELLS) {
            nodes += (each * asked->ranks > 1 ? 3.0 : 2.0) * cells;
            count++;
        }
    }
    return check_visits(report, nodes, count);
}

static dpr_status_t check_work(const report_t *report)
{
    double nodes = 0.0;
    for (int i = 0; i < report->count; i++) {
        nodes += report->entries[i].graph->node_count;
    }
    return check_visits(report, nodes, report->count);
}

/* ---- Rows ---- */

typedef struct reductions {
    dpr_reduction_t *replica; /* [ranks]; NULL: not counted */
    dpr_reduction_t *all;
} reductions_t;

static void reductions_free(reductions_t *reductions)
{
    free(reductions->replica);
    free(reductions->all);
}

/* Leaves both NULL where --gradient-bytes was not given. */
static dpr_status_t count_reductions(const report_t *report, const dpr_graph_t *graph,
                                     reductions_t *reductions)
{
    *reductions = (reductions_t){0};
    if (report->comm->gradient_bytes == 0) {
        return DPR_OK;
    }
    int64_t *bytes;
    dpr_status_t status;
    DPR_TRY(dpr_calloc((size_t)graph->stages, sizeof *bytes, &bytes));
    for (int32_t s = 0; s < graph->stages; s++) {
        bytes[s] =
            (report->comm->gradient_bytes * graph->ranks + graph->stages - 1) / graph->stages;
    }
    const size_t ranks = (size_t)graph->ranks;
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *reductions->replica, &reductions->replica), free_bytes);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *reductions->all, &reductions->all), free_bytes);
    status = dpr_reduction_count(graph, bytes, report->comm->replicas, reductions->replica,
                                 reductions->all);
free_bytes:
    free(bytes);
    if (status != DPR_OK) {
        reductions_free(reductions);
        *reductions = (reductions_t){0};
    }
    return status;
}

static int64_t sum_bytes(const dpr_reduction_t *reductions, int ranks)
{
    double sum = 0.0;
    for (int r = 0; r < ranks; r++) {
        sum += reductions[r].bytes;
    }
    return llround(sum); /* below 2^59, by the limits of the options */
}

static void fill_closed_form(const entry_t *entry, plan_table_t *table)
{
    int64_t messages = 0;
    char reason[256];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const bool known = entry->generated && dpr_traffic_total_closed_form(
                                               entry->name, entry->graph->ranks,
                                               entry->graph->micro_batches, &messages) == DPR_OK;
    dpr_log_capture_end(&capture);
    plan_table_int_if(table, known, messages);
}

static dpr_status_t fill_schedule(report_t *report, const entry_t *entry,
                                  const dpr_traffic_counts_t *counts,
                                  const reductions_t *reductions)
{
    plan_table_t *table = report->tables[SCHEDULES];
    double wire;
    DPR_TRY(dpr_wire_hidden(entry->graph, &entry->costs, report->comm->tolerance, &wire));
    int64_t most = 0;
    for (int r = 0; r < counts->ranks; r++) {
        most = counts->sent[r].bytes > most ? counts->sent[r].bytes : most;
    }
    plan_table_text(table, entry->name);
    plan_table_int(table, counts->total.messages);
    fill_closed_form(entry, table);
    plan_table_int(table, counts->total.bytes);
    plan_table_int(table, most);
    plan_table_real(table, wire);
    plan_table_real(table,
                    dpr_wire_bandwidth(report->comm->message_bytes, wire, report->comm->latency));
    if (reductions->all != NULL) {
        plan_table_int(table, sum_bytes(reductions->replica, counts->ranks));
        plan_table_int(table, sum_bytes(reductions->all, counts->ranks));
    } else {
        plan_table_none(table);
        plan_table_none(table);
    }
    return DPR_OK;
}

static void fill_channels(report_t *report, const entry_t *entry,
                          const dpr_traffic_counts_t *counts)
{
    plan_table_t *table = report->tables[CHANNELS];
    for (int32_t c = 0; c < counts->channels; c++) {
        const dpr_channel_t *channel = &entry->graph->channels[c];
        plan_table_text(table, entry->name);
        plan_table_int(table, channel->source);
        plan_table_int(table, channel->destination);
        plan_table_text(table, channel->kind == DPR_NODE_SEND_ACT ? "activation" : "gradient");
        plan_table_int(table, counts->channel[c].messages);
        plan_table_int(table, counts->channel[c].bytes);
        plan_table_int(table, channel->send_slots);
        plan_table_int(table, channel->recv_slots);
    }
}

static void fill_ranks(report_t *report, const entry_t *entry, const dpr_traffic_counts_t *counts,
                       const reductions_t *reductions)
{
    plan_table_t *table = report->tables[RANKS];
    for (int r = 0; r < counts->ranks; r++) {
        plan_table_text(table, entry->name);
        plan_table_int(table, r);
        plan_table_int(table, counts->sent[r].messages);
        plan_table_int(table, counts->sent[r].bytes);
        plan_table_int(table, counts->received[r].messages);
        plan_table_int(table, counts->received[r].bytes);
        if (reductions->all != NULL) {
            plan_table_int(table, llround(reductions->replica[r].bytes));
            plan_table_int(table, llround(reductions->all[r].bytes));
            plan_table_int(table, reductions->all[r].messages);
        } else {
            plan_table_none(table);
            plan_table_none(table);
            plan_table_none(table);
        }
    }
}

static dpr_status_t fill_entry(report_t *report, const entry_t *entry)
{
    dpr_traffic_counts_t counts;
    reductions_t reductions = {0};
    DPR_TRY(dpr_traffic_count(entry->graph, report->comm->message_bytes, &counts));
    dpr_status_t status;
    DPR_TRY_GOTO(count_reductions(report, entry->graph, &reductions), free_counts);
    DPR_TRY_GOTO(fill_schedule(report, entry, &counts, &reductions), free_counts);
    fill_channels(report, entry, &counts);
    fill_ranks(report, entry, &counts, &reductions);
free_counts:
    reductions_free(&reductions);
    dpr_traffic_free(&counts);
    return status;
}

static double most_wire(const plan_comm_t *comm)
{
    const double both = comm->costs.f + dpr_uniform_b(&comm->costs);
    return comm->most_wire > 0.0 ? comm->most_wire : 4.0 * (both > 0.0 ? both : 1.0);
}

static dpr_status_t fill_crossover(report_t *report, const entry_t *a, const entry_t *b)
{
    dpr_wire_crossover_t found;
    DPR_TRY(dpr_wire_crossover(a->graph, &a->costs, b->graph, &b->costs, most_wire(report->comm),
                               &found));
    const bool whole = report->comm->format != PLAN_FORMAT_TEXT ||
                       report->count * (report->count - 1) / 2 <= MOST_PAIRS_SHOWN;
    if (isnan(found.wire_sec) && !whole) {
        return DPR_OK;
    }
    plan_table_t *table = report->tables[CROSSOVERS];
    plan_table_text(table, found.before <= 0 ? a->name : b->name);
    plan_table_text(table, found.before <= 0 ? b->name : a->name);
    plan_table_real(table, found.wire_sec);
    plan_table_int(table, found.before == 0);
    return DPR_OK;
}

static dpr_status_t fill_crossovers(report_t *report)
{
    for (int i = 0; i < report->count && report->comm->crossover; i++) {
        for (int j = i + 1; j < report->count; j++) {
            DPR_TRY(fill_crossover(report, &report->entries[i], &report->entries[j]));
        }
    }
    return DPR_OK;
}

static void fill_facts(report_t *report)
{
    const plan_comm_t *comm = report->comm;
    plan_table_t *facts = report->tables[FACTS];
    const bool file = comm->file != NULL;
    plan_table_int(facts, file ? report->entries[0].graph->ranks : comm->schedules.ranks);
    plan_table_int(facts,
                   file ? report->entries[0].graph->micro_batches : comm->schedules.micro_batches);
    plan_table_int(facts, comm->message_bytes);
    plan_table_real(facts, comm->latency);
    plan_table_real(facts, comm->tolerance);
    plan_table_int(facts, comm->replicas);
    plan_table_int_if(facts, comm->gradient_bytes > 0, comm->gradient_bytes);
    plan_table_real(facts, comm->crossover ? most_wire(comm) : NAN);
}

static dpr_status_t write_report(const report_t *report)
{
    const plan_section_t all[] = {
        {"schedules", NULL, report->tables[SCHEDULES]},
        {"not_possible", NULL, report->tables[REASONS]},
        {"crossovers", NULL, report->tables[CROSSOVERS]},
        {"channels", NULL, report->tables[CHANNELS]},
        {"rank_list", NULL, report->tables[RANKS]},
    };
    /* a person sees the channels and ranks of one schedule at a time */
    const bool whole = report->comm->format != PLAN_FORMAT_TEXT || report->count == 1;
    DPR_TRY(plan_report_write(report->comm->format, "dualpipe-plan-comm", report->tables[FACTS],
                              all, whole ? 5 : 3, stdout));
    return plan_expect_some(report->count, &report->comm->schedules);
}

static dpr_status_t play(report_t *report)
{
    DPR_TRY(check_asked(report));
    DPR_TRY(add_all(report));
    DPR_TRY(check_work(report));
    for (int i = 0; i < report->count; i++) {
        DPR_TRY(fill_entry(report, &report->entries[i]));
    }
    DPR_TRY(fill_crossovers(report));
    fill_facts(report);
    return write_report(report);
}

dpr_status_t plan_comm_report(const plan_comm_t *comm)
{
    report_t *report;
    DPR_TRY(dpr_calloc(1, sizeof *report, &report));
    report->comm = comm;
    dpr_status_t status = create_tables(report);
    if (status == DPR_OK) {
        status = play(report);
        plan_tables_destroy(report->tables, TABLES);
    }
    for (int i = 0; i < report->count; i++) {
        dpr_graph_destroy(report->entries[i].graph);
    }
    free(report);
    return status;
}
