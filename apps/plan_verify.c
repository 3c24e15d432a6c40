/* dualpipe_plan verify: is a program a schedule, can it deadlock, and what does each rank hold? */
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "base/memory.h"
#include "schedule/csv.h"

enum { MESSAGE_MAX = 16384 };

typedef struct options {
    const char *file;
    plan_format_t format;
} options_t;

static dpr_status_t take_file(char *text, void *into)
{
    options_t *options = into;
    if (options->file != NULL) {
        return dpr_fail(DPR_ERR_INVALID, "'%s' and '%s': expected one file at a time",
                        options->file, text);
    }
    options->file = text;
    return DPR_OK;
}

static const char doc[] =
    "Says of a program in a file whether its data flow is complete (every forward and backward "
    "once, in an order that can be), whether its ranks can deadlock under rendezvous in order per "
    "channel, where its stages live, and how many activations each rank holds at its peak. What is "
    "wrong is printed with a counterexample."
    "\vExit codes: 0 valid, 2 not.\n\nExample:\n"
    "  dualpipe_plan schedule --schedule dualpipe --ranks 4 --micro-batches 8 \\\n"
    "      > plan.csv\n"
    "  dualpipe_plan verify plan.csv";

static const plan_column_t fact_columns[] = {
    {"file", "file", PLAN_TEXT},
    {"ranks", "ranks", PLAN_INT},
    {"stages", "stages", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    {"forward_only", "forward only", PLAN_BOOL},
    {"data_flow_complete", "data flow complete", PLAN_BOOL},
    {"deadlock_free", "deadlock-free", PLAN_BOOL},
    {"valid", "valid", PLAN_BOOL},
    {"counterexample", NULL, PLAN_TEXT},
};

static const plan_column_t rank_columns[] = {
    {"rank", "rank", PLAN_INT},
    {"actions", "actions", PLAN_INT},
    {"peak_activations", "peak activations", PLAN_INT},
    {"sent_messages", "messages sent", PLAN_INT},
    {"stages", "stages", PLAN_TEXT},
};

/* What is found; `graph` is NULL where the data flow is not complete. */
typedef struct verdict {
    bool complete;
    bool deadlock_free;
    char counterexample[MESSAGE_MAX];
    dpr_graph_t *graph;
} verdict_t;

/* Judges the program; only what keeps it from being judged is an error. */
static dpr_status_t judge(const dpr_program_t *program, verdict_t *verdict)
{
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, verdict->counterexample, sizeof verdict->counterexample);
    dpr_status_t status = dpr_program_check(program);
    verdict->complete = status == DPR_OK;
    if (status == DPR_OK) {
        status = dpr_graph_build(program, NULL, &verdict->graph);
    }
    if (status == DPR_OK) {
        status = dpr_graph_verify(verdict->graph);
        verdict->deadlock_free = status == DPR_OK;
    }
    dpr_log_capture_end(&capture);
    const size_t length = strlen(verdict->counterexample);
    if (length > 0 && verdict->counterexample[length - 1] == '\n') {
        verdict->counterexample[length - 1] = '\0';
    }
    return status == DPR_ERR_PROGRAM || status == DPR_ERR_DEADLOCK ? DPR_OK : status;
}

static void fill_facts(const options_t *options, const dpr_program_t *program,
                       const verdict_t *verdict, plan_table_t *facts)
{
    plan_table_text(facts, options->file);
    plan_table_int(facts, program->ranks);
    plan_table_int(facts, program->stages);
    plan_table_int(facts, program->micro_batches);
    plan_table_int(facts, dpr_program_is_forward_only(program));
    plan_table_int(facts, verdict->complete);
    plan_table_int_if(facts, verdict->complete, verdict->deadlock_free);
    plan_table_int(facts, verdict->complete && verdict->deadlock_free);
    plan_table_text_if(facts, verdict->counterexample[0] != '\0' ? verdict->counterexample : NULL);
}

/* Marks in held[stages] the stages that the rank's list names. */
static void mark_stages(const dpr_program_t *program, int rank, bool *held)
{
    memset(held, 0, (size_t)program->stages * sizeof *held);
    for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
        dpr_action_t halves[2];
        const int count = dpr_action_halves(program->actions[i], halves);
        for (int k = 0; k < count; k++) {
            held[halves[k].stage] = true;
        }
    }
}

/* "0 3 5", runs of three or more shortened: "0-7 12". */
static dpr_status_t format_stages(const bool *held, int stages, plan_table_t *table)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "no memory for a list of stages");
    }
    const char *separator = "";
    for (int s = 0; s < stages; s++) {
        if (!held[s]) {
            continue;
        }
        int last = s;
        while (last + 1 < stages && held[last + 1]) {
            last++;
        }
        if (last < s + 2) {
            last = s;
        }
        fprintf(out, last > s ? "%s%d-%d" : "%s%d", separator, s, last);
        separator = " ";
        s = last;
    }
    const bool failed = fclose(out) != 0;
    if (!failed) {
        plan_table_text(table, text);
    }
    free(text);
    return failed ? dpr_fail(DPR_ERR_MEMORY, "no memory for a list of stages") : DPR_OK;
}

static int64_t count_sent(const dpr_graph_t *graph, int rank)
{
    int64_t messages = 0;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        messages += graph->channels[c].source == rank ? graph->channels[c].count : 0;
    }
    return messages;
}

static dpr_status_t fill_ranks(const dpr_program_t *program, const verdict_t *verdict,
                               plan_table_t *table)
{
    bool *held;
    DPR_TRY(dpr_calloc((size_t)program->stages, sizeof *held, &held));
    dpr_status_t status = DPR_OK;
    for (int r = 0; r < program->ranks && status == DPR_OK; r++) {
        plan_table_int(table, r);
        plan_table_int(table, (int64_t)(program->begin[r + 1] - program->begin[r]));
        if (verdict->graph != NULL) {
            plan_table_int(table, dpr_graph_peak_activations(verdict->graph, r));
            plan_table_int(table, count_sent(verdict->graph, r));
        } else {
            plan_table_none(table);
            plan_table_none(table);
        }
        mark_stages(program, r, held);
        status = format_stages(held, program->stages, table);
    }
    free(held);
    return status;
}

enum { FACTS, RANKS, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(rank_columns)};

static dpr_status_t print_verdict(const options_t *options, const dpr_program_t *program,
                                  const verdict_t *verdict)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(options, program, verdict, tables[FACTS]);
    dpr_status_t status = fill_ranks(program, verdict, tables[RANKS]);
    if (status == DPR_OK) {
        const plan_section_t section = {"rank_list", NULL, tables[RANKS]};
        status = plan_report_write(options->format, "dualpipe-plan-verify", tables[FACTS], &section,
                                   1, stdout);
    }
    plan_tables_destroy(tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    const options_t *options = arguments;
    dpr_program_t program;
    verdict_t *verdict;
    if (options->file == NULL) {
        return dpr_fail(DPR_ERR_INVALID,
                        "a file is missing: expected dualpipe_plan verify FILE.csv");
    }
    DPR_TRY(dpr_csv_read(options->file, &program));
    dpr_status_t status = dpr_calloc(1, sizeof *verdict, &verdict);
    if (status != DPR_OK) {
        dpr_program_free(&program);
        return status;
    }
    DPR_TRY_GOTO(judge(&program, verdict), free_all);
    DPR_TRY_GOTO(print_verdict(options, &program, verdict), free_all);
    if (!verdict->complete || !verdict->deadlock_free) {
        fflush(stdout);
        status = dpr_fail(verdict->complete ? DPR_ERR_DEADLOCK : DPR_ERR_PROGRAM, "%s",
                          verdict->counterexample);
    }
free_all:
    dpr_graph_destroy(verdict->graph);
    free(verdict);
    dpr_program_free(&program);
    return status;
}

static const option_table_t tables[] = {
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_verify_command = {
    .name = "verify",
    .summary = "check a program: data flow, deadlock, placement",
    .line = {.tables = tables, .args_doc = "FILE.csv", .doc = doc, .take_argument = take_file},
    .options_bytes = sizeof(options_t),
    .run = run,
};
