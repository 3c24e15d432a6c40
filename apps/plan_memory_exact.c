/* See plan_memory_exact.h. */
#include "apps/plan_memory_exact.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/memory_plan.h"

const plan_column_t plan_exact_columns[PLAN_EXACT_COLUMNS] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"rank", "rank", PLAN_INT},
    {"peak_activations", "peak", PLAN_INT},
    {"arena_bytes", "buffers", PLAN_INT},
    {"stage_bytes", "parameters, gradients", PLAN_INT},
    {"optimizer_bytes", "optimizer", PLAN_INT},
    {"batch_bytes", "batches", PLAN_INT},
    {"rest_bytes", "rest", PLAN_INT},
    {"total_bytes", "total, bytes", PLAN_INT},
    {"fits", NULL, PLAN_BOOL},
};

dpr_status_t plan_exact_check(const plan_model_t *model)
{
    if (model->kind != PLAN_MODEL_MLP) {
        return dpr_fail(DPR_ERR_INVALID, "--exact counts what dualpipe_train holds, which runs an "
                                         "MLP: expected --model mlp");
    }
    if (model->slot_alignment != DPR_MEMORY_SLOT_ALIGNMENT) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--exact with --slot-alignment %u: expected %d, as dualpipe_train has it",
                        model->slot_alignment, DPR_MEMORY_SLOT_ALIGNMENT);
    }
    return DPR_OK;
}

static void add_row(plan_table_t *table, const char *name, int rank, int32_t activations,
                    const dpr_pipeline_memory_t *memory, uint64_t limit)
{
    plan_table_text(table, name);
    plan_table_int(table, rank);
    plan_table_int(table, activations);
    plan_table_int(table, (int64_t)memory->arena_bytes);
    plan_table_int(table, (int64_t)memory->stage_bytes);
    plan_table_int(table, (int64_t)memory->optimizer_bytes);
    plan_table_int(table, (int64_t)memory->batch_bytes);
    plan_table_int(table, (int64_t)memory->rest_bytes);
    plan_table_int(table, (int64_t)memory->total_bytes);
    plan_table_int_if(table, limit > 0, memory->total_bytes <= limit);
}

dpr_status_t plan_exact_count(const plan_model_t *model, const dpr_program_t *program,
                              const char *name, uint64_t limit, plan_table_t *largest,
                              plan_table_t *ranks)
{
    const dpr_optimizer_config_t optimizer = {
        .kind = model->optimizer == DPR_STATE_ADAMW ? DPR_OPTIMIZER_ADAMW : DPR_OPTIMIZER_SGD};
    const dpr_memory_spec_t spec = {
        .program = program,
        .graph = DPR_GRAPH_OPTIONS_DEFAULT,
        .model = {.input = model->input,
                  .hidden = model->hidden,
                  .ffn = model->ffn,
                  .classes = model->classes,
                  .blocks = model->blocks,
                  .micro_batch_size = model->micro_batch_size,
                  .dtype = model->dtype},
        .optimizer = &optimizer,
    };
    dpr_pipeline_memory_t *memory = NULL;
    dpr_graph_t *graph = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)program->ranks, sizeof *memory, &memory), free_all);
    DPR_TRY_GOTO(dpr_memory_predict(&spec, memory), free_all);
    DPR_TRY_GOTO(dpr_graph_create(program, NULL, &graph), free_all);
    int most = 0;
    for (int r = 0; r < program->ranks; r++) {
        most = memory[r].total_bytes > memory[most].total_bytes ? r : most;
        add_row(ranks, name, r, dpr_graph_peak_activations(graph, r), &memory[r], limit);
    }
    add_row(largest, name, most, dpr_graph_peak_activations(graph, most), &memory[most], limit);
free_all:
    dpr_graph_destroy(graph);
    free(memory);
    return status;
}
