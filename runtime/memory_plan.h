/*
 * The memory contract: what a rank of a program will hold on its device, to the byte, known from
 * the program, the model and the optimizer alone, before anything is allocated.
 *
 *     arena       the buffers of the program's graph, by exact liveness (runtime/arena.h); training
 *                 and evaluation share one block, as large as the larger needs
 *     stages      parameters, gradients and, under bf16, working copies of the stages that the rank
 *                 holds
 *     optimizer   its state for them
 *     batches     two global batches' inputs (on ranks that run stage 0) and labels (the last)
 *     rest        statistics of a step, the clipping factor, and the kernels' workspaces
 *
 * The sum equals what the device reports as the peak of a run (dpr_device_memory_usage).
 */
#ifndef DPR_RUNTIME_MEMORY_PLAN_H
#define DPR_RUNTIME_MEMORY_PLAN_H

#include "kernels/stage.h"
#include "runtime/optimizer.h"
#include "schedule/graph.h"

typedef struct dpr_pipeline_memory {
    size_t arena_bytes;
    size_t stage_bytes; /* parameters, gradients and working copies */
    size_t optimizer_bytes;
    size_t batch_bytes; /* inputs and labels, double-buffered */
    size_t rest_bytes;
    size_t total_bytes;     /* the sum */
    size_t workspace_bytes; /* the kernels', which rest_bytes has */
} dpr_pipeline_memory_t;

/* What is to be run; borrowed. */
typedef struct dpr_memory_spec {
    const dpr_program_t *program;
    dpr_graph_options_t graph;
    dpr_model_config_t model;
    const dpr_optimizer_config_t *optimizer; /* NULL: no update */
    size_t workspace_bytes; /* of a rank's streams that kernels are prepared for (kernels.h) */
} dpr_memory_spec_t;

/*
 * Fills ranks[P]. Errors: those of dpr_graph_create and dpr_stage_shape (the program, or a model
 * that it does not fit); DPR_ERR_MEMORY, also where a sum exceeds the address space.
 */
dpr_status_t dpr_memory_predict(const dpr_memory_spec_t *spec, dpr_pipeline_memory_t *ranks);

/* The same of one rank, for a caller that has lowered the program already: its graphs, the shapes
 * of its S stages, and its holders [2 * S] (dpr_program_holders). */
typedef struct dpr_memory_parts {
    const dpr_graph_t *train;
    const dpr_graph_t *eval;
    const dpr_stage_shape_t *shapes;
    const int32_t *holders;
    const dpr_model_config_t *model;
    const dpr_optimizer_config_t *optimizer;
    size_t workspace_bytes; /* as in the spec */
} dpr_memory_parts_t;

dpr_status_t dpr_memory_of_rank(const dpr_memory_parts_t *parts, int rank,
                                dpr_pipeline_memory_t *memory);

/*
 * Writes into `text` which schedules could run the program's P and M with the same model and
 * optimizer so that no rank holds more than `limit_bytes`, each with the bytes of its fullest rank;
 * or, where none could, which needs least. Nothing is logged.
 */
void dpr_memory_describe_fitting(const dpr_memory_spec_t *spec, size_t limit_bytes, char *text,
                                 size_t size);

#endif
