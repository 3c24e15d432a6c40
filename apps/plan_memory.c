/* dualpipe_plan memory: what every rank holds, part by part, schedule by schedule. */
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_memory_exact.h"
#include "apps/plan_model.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "base/memory.h"
#include "schedule/csv.h"

enum key { KEY_LIMIT = 0x2000, KEY_FILE, KEY_PER_RANK, KEY_EXACT };

typedef struct options {
    plan_schedules_t schedules;
    plan_model_t model;
    plan_format_t format;
    const char *file;
    uint64_t limit; /* 0: none */
    bool per_rank;
    bool exact;
} options_t;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->schedules;
        state->child_inputs[1] = &options->model;
        state->child_inputs[2] = &options->format;
        return 0;
    case KEY_LIMIT:
        return plan_argp_error(
            plan_parse_count("limit", arg, 1, UINT64_C(1) << 50, &options->limit));
    case KEY_FILE:
        options->file = arg;
        return 0;
    case KEY_PER_RANK:
        options->per_rank = true;
        return 0;
    case KEY_EXACT:
        options->exact = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_options[] = {
    {.name = "schedule-file",
     .key = KEY_FILE,
     .arg = "CSV",
     .doc = "Program to read instead of --schedule, --ranks and --micro-batches"},
    {.name = "limit",
     .key = KEY_LIMIT,
     .arg = "BYTES",
     .doc =
         "Memory of a device: say which schedules fit; with K, M, G or T: powers of 1000; with Ki, "
         "Mi, Gi or Ti: of 1024"},
    {.name = "per-rank",
     .key = KEY_PER_RANK,
     .doc = "Print every rank, as is done for a single schedule"},
    {.name = "exact",
     .key = KEY_EXACT,
     .doc =
         "MLP: all that a run of dualpipe_train holds on its device, to the byte, samples included "
         "(on CUDA the kernels' workspaces, which depend on the GPU, come on top)"},
    {0},
};

static const char doc[] =
    "Counts what the ranks hold: parameters, gradients, optimizer state, activations kept for the "
    "backward, and the buffers of transfers, from the exact liveness of the program. Samples, "
    "libraries and the allocator's slack come on top."
    "\vExamples:\n"
    "  dualpipe_plan memory --ranks 4 --micro-batches 16 --parameters 250M \\\n"
    "      --hidden 1024 --sequence 2048 --batch 64\n"
    "  dualpipe_plan memory --schedule dualpipe --ranks 8 --micro-batches 20 \\\n"
    "      --model mlp --hidden 256 --blocks 16 --micro-batch-size 32 --dtype fp32\n"
    "  dualpipe_plan memory --ranks 4 --micro-batches 8 --model sizes \\\n"
    "      --parameters 10M --saved-bytes 64Mi --message-bytes 1Mi --limit 1G\n"
    "  dualpipe_plan memory --exact --ranks 4 --micro-batches 10 --model mlp \\\n"
    "      --hidden 256 --blocks 16 --micro-batch-size 32 --dtype fp32";

static const plan_column_t rank_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"rank", "rank", PLAN_INT},
    {"stages", "stages", PLAN_INT},
    {"peak_activations", "peak", PLAN_INT},
    {"parameters", NULL, PLAN_INT},
    {"parameter_bytes", "parameters", PLAN_BYTES},
    {"gradient_bytes", "gradients", PLAN_BYTES},
    {"optimizer_bytes", "optimizer", PLAN_BYTES},
    {"saved_bytes", "activations", PLAN_BYTES},
    {"wstate_bytes", "I to W", PLAN_BYTES},
    {"handover_bytes", NULL, PLAN_BYTES},
    {"receive_bytes", NULL, PLAN_BYTES},
    {"send_bytes", NULL, PLAN_BYTES},
    {NULL, "messages", PLAN_BYTES},
    {"total_bytes", "total", PLAN_BYTES},
    {"fits", NULL, PLAN_BOOL},
};

/* The same with a limit. */
static plan_column_t limited_columns[sizeof rank_columns / sizeof rank_columns[0]];

enum { RANK_COLUMNS = sizeof rank_columns / sizeof rank_columns[0] };

static const plan_column_t reason_columns[] = {
    {"schedule", "not possible", PLAN_TEXT},
    {"reason", "", PLAN_TEXT},
};

static const plan_column_t fact_columns[] = {
    {"ranks", "ranks", PLAN_INT},
    {"micro_batches", "micro-batches", PLAN_INT},
    {"micro_batch_size", "micro-batch size", PLAN_INT},
    {"layers", "layers", PLAN_INT},
    {"share_parameters", "parameters of a rank's share", PLAN_INT},
    {"share_saved_bytes", "activations of a share and micro-batch", PLAN_BYTES},
    {"share_wstate_bytes", "I to W of the same", PLAN_BYTES},
    {"message_bytes", "message", PLAN_BYTES},
    {"limit_bytes", NULL, PLAN_BYTES},
};

enum { FACTS, LARGEST, RANKS, REASONS, TABLES };

typedef struct memory {
    options_t *options;
    plan_table_t *tables[TABLES];
} memory_t;

static dpr_status_t create_tables(memory_t *memory)
{
    memcpy(limited_columns, rank_columns, sizeof rank_columns);
    int columns = RANK_COLUMNS;
    if (memory->options->exact) {
        memcpy(limited_columns, plan_exact_columns, sizeof plan_exact_columns);
        columns = PLAN_EXACT_COLUMNS;
    }
    if (memory->options->limit > 0) {
        limited_columns[columns - 1].title = "fits";
    }
    DPR_TRY(plan_table_create(fact_columns, sizeof fact_columns / sizeof fact_columns[0],
                              &memory->tables[FACTS]));
    DPR_TRY(plan_table_create(limited_columns, columns, &memory->tables[LARGEST]));
    DPR_TRY(plan_table_create(limited_columns, columns, &memory->tables[RANKS]));
    return plan_table_create(reason_columns, 2, &memory->tables[REASONS]);
}

/* A value, or none where it is 0. */
static void fill_positive(plan_table_t *table, int64_t value)
{
    if (value > 0) {
        plan_table_int(table, value);
    } else {
        plan_table_none(table);
    }
}

/* Shares are the stages of P; those of an MLP differ, so the largest. */
static dpr_status_t fill_facts(memory_t *memory, int ranks, int micro_batches)
{
    plan_model_t *model = &memory->options->model;
    dpr_stage_memory_t *shares;
    DPR_TRY(dpr_calloc((size_t)ranks, sizeof *shares, &shares));
    const dpr_status_t status = plan_model_stages(model, ranks, shares);
    dpr_stage_memory_t largest = shares[0];
    for (int s = 1; s < ranks && status == DPR_OK; s++) {
        const dpr_stage_memory_t *share = &shares[s];
        largest.parameters =
            share->parameters > largest.parameters ? share->parameters : largest.parameters;
        largest.saved_bytes =
            share->saved_bytes > largest.saved_bytes ? share->saved_bytes : largest.saved_bytes;
        largest.wstate_bytes =
            share->wstate_bytes > largest.wstate_bytes ? share->wstate_bytes : largest.wstate_bytes;
    }
    free(shares);
    DPR_TRY(status);
    plan_table_t *facts = memory->tables[FACTS];
    plan_table_int(facts, ranks);
    plan_table_int(facts, micro_batches);
    fill_positive(facts, model->micro_batch_size);
    fill_positive(facts, model->kind == PLAN_MODEL_MLP ? model->blocks : model->layers);
    plan_table_int(facts, (int64_t)largest.parameters);
    plan_table_int(facts, (int64_t)largest.saved_bytes);
    plan_table_int(facts, (int64_t)largest.wstate_bytes);
    plan_table_int(facts, (int64_t)largest.activation_bytes);
    fill_positive(facts, (int64_t)memory->options->limit);
    return DPR_OK;
}

static void add_row(plan_table_t *table, const char *schedule, int rank,
                    const dpr_rank_memory_t *of, uint64_t limit)
{
    plan_table_text(table, schedule);
    plan_table_int(table, rank);
    plan_table_int(table, of->stages);
    plan_table_int(table, of->peak_activations);
    plan_table_int(table, (int64_t)of->parameters);
    plan_table_int(table, (int64_t)of->parameter_bytes);
    plan_table_int(table, (int64_t)of->gradient_bytes);
    plan_table_int(table, (int64_t)of->optimizer_bytes);
    plan_table_int(table, (int64_t)of->saved_bytes);
    plan_table_int(table, (int64_t)of->wstate_bytes);
    plan_table_int(table, (int64_t)of->handover_bytes);
    plan_table_int(table, (int64_t)of->receive_bytes);
    plan_table_int(table, (int64_t)of->send_bytes);
    plan_table_int(table, (int64_t)(of->handover_bytes + of->receive_bytes + of->send_bytes));
    plan_table_int(table, (int64_t)of->total_bytes);
    if (limit > 0) {
        plan_table_int(table, of->total_bytes <= limit);
    } else {
        plan_table_none(table);
    }
}

static dpr_status_t count_graph(memory_t *memory, const dpr_graph_t *graph, const char *name)
{
    options_t *options = memory->options;
    const dpr_memory_format_t format = plan_model_format(&options->model);
    dpr_stage_memory_t *stages;
    dpr_rank_memory_t *ranks = NULL;
    dpr_status_t status;
    DPR_TRY(dpr_calloc((size_t)graph->stages, sizeof *stages, &stages));
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks, sizeof *ranks, &ranks), free_all);
    DPR_TRY_GOTO(plan_model_stages(&options->model, graph->stages, stages), free_all);
    DPR_TRY_GOTO(dpr_memory_count(graph, stages, &format, ranks), free_all);
    const int largest = dpr_memory_largest(ranks, graph->ranks);
    add_row(memory->tables[LARGEST], name, largest, &ranks[largest], options->limit);
    for (int r = 0; r < graph->ranks; r++) {
        add_row(memory->tables[RANKS], name, r, &ranks[r], options->limit);
    }
free_all:
    free(ranks);
    free(stages);
    return status;
}

static dpr_status_t count_program(memory_t *memory, const dpr_program_t *program, const char *name)
{
    dpr_graph_t *graph;
    if ((int64_t)program->stages * program->micro_batches > DPR_COMPARE_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "%s: %d stages of %d micro-batches are too many: at most %d in all", name,
                        program->stages, program->micro_batches, DPR_COMPARE_MAX_CELLS);
    }
    if (memory->options->exact) {
        return plan_exact_count(&memory->options->model, program, name, memory->options->limit,
                                memory->tables[LARGEST], memory->tables[RANKS]);
    }
    DPR_TRY(dpr_graph_create(program, NULL, &graph));
    const dpr_status_t status = count_graph(memory, graph, name);
    dpr_graph_destroy(graph);
    return status;
}

static dpr_status_t add_file(memory_t *memory)
{
    options_t *options = memory->options;
    dpr_program_t program;
    DPR_TRY(dpr_csv_read(options->file, &program));
    dpr_status_t status;
    DPR_TRY_GOTO(plan_model_complete(&options->model, program.ranks, program.micro_batches),
                 free_program);
    DPR_TRY_GOTO(fill_facts(memory, program.ranks, program.micro_batches), free_program);
    status = count_program(memory, &program, options->file);
free_program:
    dpr_program_free(&program);
    return status;
}

static dpr_status_t add_schedule(memory_t *memory, const char *schedule)
{
    const plan_schedules_t *asked = &memory->options->schedules;
    char reason[512];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const dpr_status_t allowed = dpr_schedule_check(schedule, asked->ranks, asked->micro_batches);
    dpr_log_capture_end(&capture);
    if (allowed != DPR_OK) {
        reason[strcspn(reason, "\n")] = '\0';
        plan_table_text(memory->tables[REASONS], schedule);
        plan_table_text(memory->tables[REASONS], reason);
        return DPR_OK;
    }
    dpr_program_t program;
    DPR_TRY(dpr_schedule_generate(schedule, asked->ranks, asked->micro_batches, &program));
    const dpr_status_t status = count_program(memory, &program, schedule);
    dpr_program_free(&program);
    return status;
}

static dpr_status_t add_schedules(memory_t *memory)
{
    options_t *options = memory->options;
    DPR_TRY(plan_schedules_complete(&options->schedules, true));
    const int ranks = options->schedules.ranks;
    const int micro_batches = options->schedules.micro_batches;
    DPR_TRY(plan_model_complete(&options->model, ranks, micro_batches));
    DPR_TRY(fill_facts(memory, ranks, micro_batches));
    for (int i = 0; i < options->schedules.count; i++) {
        DPR_TRY(add_schedule(memory, options->schedules.names[i]));
    }
    return DPR_OK;
}

static dpr_status_t write_report(const memory_t *memory)
{
    const options_t *options = memory->options;
    const bool one = plan_table_rows(memory->tables[LARGEST]) == 1;
    const bool text = options->format == PLAN_FORMAT_TEXT;
    plan_section_t sections[3];
    int count = 0;
    if (!text || !(one || options->per_rank)) {
        sections[count++] =
            (plan_section_t){"schedules", "the rank that holds most:", memory->tables[LARGEST]};
    }
    if (!text || one || options->per_rank) {
        sections[count++] = (plan_section_t){"rank_list", NULL, memory->tables[RANKS]};
    }
    sections[count++] = (plan_section_t){"not_possible", NULL, memory->tables[REASONS]};
    const char *name = options->exact ? "dualpipe-plan-memory-exact" : "dualpipe-plan-memory";
    DPR_TRY(
        plan_report_write(options->format, name, memory->tables[FACTS], sections, count, stdout));
    return plan_expect_some(plan_table_rows(memory->tables[LARGEST]), &options->schedules);
}

static dpr_status_t run(options_t *options)
{
    memory_t memory = {.options = options};
    dpr_status_t status;
    if (options->file != NULL && (options->schedules.count > 0 || options->schedules.ranks > 0 ||
                                  options->schedules.micro_batches > 0)) {
        return dpr_fail(DPR_ERR_INVALID, "give either --schedule-file or --schedule, --ranks and "
                                         "--micro-batches, not both");
    }
    if (options->exact) {
        DPR_TRY(plan_exact_check(&options->model));
    }
    DPR_TRY_GOTO(create_tables(&memory), destroy_tables);
    DPR_TRY_GOTO(options->file != NULL ? add_file(&memory) : add_schedules(&memory),
                 destroy_tables);
    status = write_report(&memory);
destroy_tables:
    for (int i = 0; i < TABLES; i++) {
        plan_table_destroy(memory.tables[i]);
    }
    return status;
}

int plan_memory_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_schedules_argp},
                                                 {.argp = &plan_model_argp},
                                                 {.argp = &plan_output_argp},
                                                 {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    options_t options = {.model = plan_model_default()};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0) {
        return PLAN_BAD_INPUT;
    }
    return plan_exit_of(run(&options));
}
