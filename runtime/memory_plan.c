/* Predicts the device memory of ranks, and finds the schedules that fit a limit. */
#include "runtime/memory_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/arena.h"
#include "schedule/generators.h"

/* ---- One rank ---- */

/* Sums and products that remember whether one of them went beyond the address space. */
typedef struct tally {
    bool overflow;
} tally_t;

static size_t times(tally_t *tally, size_t a, size_t b)
{
    size_t product = 0;
    tally->overflow = __builtin_mul_overflow(a, b, &product) || tally->overflow;
    return product;
}

static size_t plus(tally_t *tally, size_t a, size_t b)
{
    size_t sum = 0;
    tally->overflow = __builtin_add_overflow(a, b, &sum) || tally->overflow;
    return sum;
}

static dpr_status_t arena_bytes_of(const dpr_graph_t *graph, int rank,
                                   const dpr_stage_shape_t *shapes, size_t *bytes)
{
    dpr_arena_t arena;
    DPR_TRY(dpr_arena_init(&arena, graph, rank, shapes));
    *bytes = arena.bytes > *bytes ? arena.bytes : *bytes;
    dpr_arena_free(&arena);
    return DPR_OK;
}

static void add_stages(tally_t *tally, const dpr_memory_parts_t *parts, int rank,
                       dpr_pipeline_memory_t *memory)
{
    for (int s = 0; s < parts->train->stages; s++) {
        if (parts->holders[2 * s] != rank && parts->holders[2 * s + 1] != rank) {
            continue;
        }
        const size_t parameters = parts->shapes[s].parameters;
        const size_t copies = times(tally, parameters, 4 * sizeof(float)); /* the most below */
        if (tally->overflow || copies > SIZE_MAX / 2) {
            tally->overflow = true;
            return;
        }
        memory->stage_bytes =
            plus(tally, memory->stage_bytes,
                 plus(tally, 2 * parameters * sizeof(float), parts->shapes[s].working_bytes));
        if (parts->optimizer != NULL) {
            memory->optimizer_bytes = plus(tally, memory->optimizer_bytes,
                                           dpr_optimizer_bytes(parts->optimizer, parameters));
        }
    }
}

/* Whether any micro-batch runs `stage` on `rank`. */
static bool runs_stage(const dpr_graph_t *graph, int stage, int rank)
{
    const dpr_cell_t *cells = graph->cells + (size_t)stage * (size_t)graph->micro_batches;
    for (int m = 0; m < graph->micro_batches; m++) {
        if (cells[m].rank == rank) {
            return true;
        }
    }
    return false;
}

static void add_batches(tally_t *tally, const dpr_memory_parts_t *parts, int rank,
                        dpr_pipeline_memory_t *memory)
{
    const dpr_graph_t *graph = parts->train;
    const size_t rows =
        times(tally, (size_t)graph->micro_batches, (size_t)parts->model->micro_batch_size);
    const size_t row_bytes =
        (runs_stage(graph, 0, rank) ? (size_t)parts->model->input * sizeof(float) : 0) +
        (runs_stage(graph, graph->stages - 1, rank) ? sizeof(int32_t) : 0);
    memory->batch_bytes = times(tally, 2, times(tally, rows, row_bytes));
}

dpr_status_t dpr_memory_of_rank(const dpr_memory_parts_t *parts, int rank,
                                dpr_pipeline_memory_t *out)
{
    tally_t tally = {false};
    dpr_pipeline_memory_t memory = {.workspace_bytes = parts->workspace_bytes};
    DPR_TRY(arena_bytes_of(parts->train, rank, parts->shapes, &memory.arena_bytes));
    DPR_TRY(arena_bytes_of(parts->eval, rank, parts->shapes, &memory.arena_bytes));
    add_stages(&tally, parts, rank, &memory);
    add_batches(&tally, parts, rank, &memory);
    /* pipeline_impl.h: stats, and clip_factor */
    const size_t stats = (size_t)parts->train->stages + 2 * (size_t)parts->train->micro_batches;
    memory.rest_bytes =
        plus(&tally, stats * sizeof(double) + sizeof(float), parts->workspace_bytes);
    const size_t addends[] = {memory.arena_bytes, memory.stage_bytes, memory.optimizer_bytes,
                              memory.batch_bytes, memory.rest_bytes};
    for (size_t i = 0; i < sizeof addends / sizeof addends[0]; i++) {
        memory.total_bytes = plus(&tally, memory.total_bytes, addends[i]);
    }
    if (tally.overflow) {
        return dpr_fail(DPR_ERR_MEMORY,
                        "rank %d: its stages and batches exceed the address space; lower --hidden, "
                        "--ffn, --blocks or --micro-batch-size",
                        rank);
    }
    *out = memory;
    return DPR_OK;
}

/* ---- All ranks ---- */

/* The parts of a spec, owned. */
typedef struct lowered {
    dpr_graph_t *train;
    dpr_graph_t *eval;
    dpr_stage_shape_t *shapes;
    int32_t *holders;
} lowered_t;

static void lowered_free(lowered_t *lowered)
{
    dpr_graph_destroy(lowered->train);
    dpr_graph_destroy(lowered->eval);
    free(lowered->shapes);
    free(lowered->holders);
}

static dpr_status_t lower_eval(const dpr_memory_spec_t *spec, lowered_t *lowered)
{
    dpr_program_t forwards;
    DPR_TRY(dpr_program_forward_only(spec->program, &forwards));
    const dpr_status_t status = dpr_graph_create(&forwards, &spec->graph, &lowered->eval);
    dpr_program_free(&forwards);
    return status;
}

static dpr_status_t lower(const dpr_memory_spec_t *spec, lowered_t *lowered)
{
    const int stages = spec->program->stages;
    DPR_TRY(dpr_calloc((size_t)stages, sizeof *lowered->shapes, &lowered->shapes));
    for (int s = 0; s < stages; s++) {
        DPR_TRY(dpr_stage_shape(&spec->model, stages, s, &lowered->shapes[s]));
    }
    DPR_TRY(dpr_calloc(2 * (size_t)stages, sizeof *lowered->holders, &lowered->holders));
    DPR_TRY(dpr_program_holders(spec->program, lowered->holders));
    DPR_TRY(dpr_graph_create(spec->program, &spec->graph, &lowered->train));
    return lower_eval(spec, lowered);
}

dpr_status_t dpr_memory_predict(const dpr_memory_spec_t *spec, dpr_pipeline_memory_t *ranks)
{
    lowered_t lowered = {0};
    dpr_status_t status = lower(spec, &lowered);
    const dpr_memory_parts_t parts = {.train = lowered.train,
                                      .eval = lowered.eval,
                                      .shapes = lowered.shapes,
                                      .holders = lowered.holders,
                                      .model = &spec->model,
                                      .optimizer = spec->optimizer,
                                      .workspace_bytes = spec->workspace_bytes};
    for (int r = 0; r < spec->program->ranks && status == DPR_OK; r++) {
        status = dpr_memory_of_rank(&parts, r, &ranks[r]);
    }
    lowered_free(&lowered);
    return status;
}

/* ---- What fits ---- */

/* The bytes of the fullest rank under another schedule; an error where it cannot run this. */
static dpr_status_t fullest_rank(const dpr_memory_spec_t *spec, const char *schedule, size_t *bytes)
{
    dpr_program_t program;
    dpr_pipeline_memory_t *ranks = NULL;
    DPR_TRY(dpr_schedule_generate(schedule, spec->program->ranks, spec->program->micro_batches,
                                  &program));
    dpr_memory_spec_t other = *spec;
    other.program = &program;
    dpr_status_t status = dpr_calloc((size_t)program.ranks, sizeof *ranks, &ranks);
    if (status == DPR_OK) {
        status = dpr_memory_predict(&other, ranks);
    }
    *bytes = 0;
    for (int r = 0; r < program.ranks && status == DPR_OK; r++) {
        *bytes = ranks[r].total_bytes > *bytes ? ranks[r].total_bytes : *bytes;
    }
    free(ranks);
    dpr_program_free(&program);
    return status;
}

static void append(char *text, size_t size, const char *separator, const char *name, size_t bytes)
{
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s (%zu bytes)", separator, name, bytes);
}

void dpr_memory_describe_fitting(const dpr_memory_spec_t *spec, size_t limit_bytes, char *text,
                                 size_t size)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    const char *least_name = NULL;
    size_t least = 0;
    bool fits = false;
    snprintf(text, size, "with the same ranks and micro-batches would fit, by their fullest rank:");
    for (size_t i = 0; i < count; i++) {
        char refused[512];
        size_t bytes = 0;
        dpr_log_capture_t capture;
        dpr_log_capture_begin(&capture, refused, sizeof refused);
        const dpr_status_t status = fullest_rank(spec, schedules[i].name, &bytes);
        dpr_log_capture_end(&capture);
        if (status != DPR_OK) {
            continue; /* not for this many ranks, micro-batches or blocks */
        }
        if (bytes <= limit_bytes) {
            append(text, size, fits ? ", " : " ", schedules[i].name, bytes);
            fits = true;
        }
        if (least_name == NULL || bytes < least) {
            least_name = schedules[i].name;
            least = bytes;
        }
    }
    if (!fits) {
        snprintf(text, size,
                 "no schedule would fit with the same ranks and micro-batches; least is needed by");
        append(text, size, " ", least_name != NULL ? least_name : "none", least);
    }
}
