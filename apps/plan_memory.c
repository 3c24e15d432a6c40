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

typedef struct options {
    plan_schedules_t schedules;
    plan_model_t model;
    plan_format_t format;
    const char *file;
    uint64_t limit; /* 0: none */
    bool per_rank;
    bool exact;
} options_t;

static const option_row_t own_options[] = {
    {"schedule-file", "CSV", "Program to read instead of --schedule, --ranks and --micro-batches",
     OPTION_FIELD(options_t, file)},
    {"limit", "BYTES",
     "Memory of a device: say which schedules fit; with K, M, G or T: powers of 1000; with Ki, Mi, "
     "Gi or Ti: of 1024",
     OPTION_FIELD(options_t, limit), 1, 0x1p50},
    {"per-rank", NULL, "Print every rank, as is done for a single schedule",
     OPTION_FIELD(options_t, per_rank)},
    {"exact", NULL,
     "MLP: all that a run of dualpipe_train holds on its device, to the byte, samples included (on "
     "CUDA the kernels' workspaces, which depend on the GPU, come on top)",
     OPTION_FIELD(options_t, exact)},
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
    const plan_shape_t shapes[TABLES] = {
        [FACTS] = PLAN_SHAPE(fact_columns),
        [LARGEST] = {limited_columns, columns},
        [RANKS] = {limited_columns, columns},
        [REASONS] = plan_reason_shape,
    };
    return plan_tables_create(shapes, TABLES, memory->tables);
}

/* A value, or none where it is 0. */
static void fill_positive(plan_table_t *table, int64_t value)
{
    plan_table_int_if(table, value > 0, value);
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
    plan_table_int_if(table, limit > 0, of->total_bytes <= limit);
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
    dpr_program_t program;
    if (!plan_schedules_allow(asked, schedule, memory->tables[REASONS])) {
        return DPR_OK;
    }
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

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    memory_t memory = {.options = options};
    if (options->file != NULL) {
        DPR_TRY(plan_schedules_expect_none(&options->schedules));
    }
    if (options->exact) {
        DPR_TRY(plan_exact_check(&options->model));
    }
    DPR_TRY(create_tables(&memory));
    dpr_status_t status = options->file != NULL ? add_file(&memory) : add_schedules(&memory);
    if (status == DPR_OK) {
        status = write_report(&memory);
    }
    plan_tables_destroy(memory.tables, TABLES);
    return status;
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_schedules_options, .offset = offsetof(options_t, schedules)},
    {plan_model_options, .offset = offsetof(options_t, model)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_memory_command = {
    .name = "memory",
    .summary = "what every rank holds",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.model = PLAN_MODEL_DEFAULT},
    .run = run,
};
