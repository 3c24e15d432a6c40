/* A step's time from sizes and rates. */
#include "models/throughput.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/simulate.h"
#include "schedule/generators.h"

enum { SIZE_MAX_SAMPLES = 1 << 20, HIDDEN_MAX = 1 << 20, SEQUENCE_MAX = 1 << 24 };

static dpr_status_t check_range(const char *name, double value, double least, double most)
{
    return value >= least && value <= most
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "%s is %.10g: expected %.10g to %.10g", name, value,
                          least, most);
}

dpr_status_t dpr_workload_check(const dpr_workload_t *workload)
{
    DPR_TRY(check_range("the number of parameters", (double)workload->parameters, 1.0, 1e15));
    DPR_TRY(check_range("the number of layers", workload->layers, 0.0, 1e6));
    DPR_TRY(check_range("hidden", workload->hidden, 1.0, HIDDEN_MAX));
    DPR_TRY(check_range("sequence", workload->sequence, 1.0, SEQUENCE_MAX));
    return check_range("the factor of F&B", workload->fb_factor, 0.5, 1.0);
}

static double layers_of(const dpr_workload_t *workload)
{
    return workload->layers > 0.0 ? workload->layers
                                  : dpr_transformer_layers(workload->parameters, workload->hidden);
}

/* L h s: a quarter of the attention's operations of a token, forward. */
static double attention_unit(const dpr_workload_t *workload)
{
    return layers_of(workload) * workload->hidden * workload->sequence;
}

double dpr_workload_sample_flops(const dpr_workload_t *workload)
{
    return (6.0 * (double)workload->parameters + 12.0 * attention_unit(workload)) *
           workload->sequence;
}

static dpr_memory_format_t format_of(const dpr_workload_t *workload)
{
    const dpr_dtype_t dtype =
        workload->precision == DPR_PRECISION_BF16 ? DPR_DTYPE_BF16 : DPR_DTYPE_FP32;
    return dpr_memory_format(dtype, workload->state);
}

/* ---- The graph made ready ---- */

static dpr_status_t find_holders(dpr_stepper_t *stepper)
{
    const dpr_graph_t *graph = stepper->graph;
    for (int32_t s = 0; s < graph->stages; s++) {
        int32_t *held = &stepper->holders[2 * s];
        held[0] = held[1] = -1;
        const dpr_cell_t *cells = &graph->cells[(size_t)s * (size_t)graph->micro_batches];
        for (int32_t m = 0; m < graph->micro_batches; m++) {
            const int32_t rank = cells[m].rank;
            if (held[0] < 0 || rank == held[0]) {
                held[0] = rank;
            } else if (held[1] < 0 || rank == held[1]) {
                held[1] = rank;
            } else {
                return dpr_fail(DPR_ERR_PROGRAM, "stage %d is on ranks %d, %d and %d: at most two",
                                s, held[0], held[1], rank);
            }
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_stepper_set(dpr_stepper_t *stepper, const dpr_graph_t *graph)
{
    const size_t nodes = (size_t)graph->node_count;
    const size_t stages = (size_t)graph->stages;
    const size_t ranks = (size_t)graph->ranks;
    stepper->graph = graph;
    DPR_TRY(dpr_reserve(&stepper->cost, &stepper->node_capacity[0], nodes, sizeof(double)));
    DPR_TRY(dpr_reserve(&stepper->end, &stepper->node_capacity[1], nodes, sizeof(double)));
    DPR_TRY(dpr_reserve(&stepper->holders, &stepper->stage_capacity[0], 2 * stages,
                        sizeof *stepper->holders));
    DPR_TRY(dpr_reserve(&stepper->stages, &stepper->stage_capacity[1], stages,
                        sizeof *stepper->stages));
    DPR_TRY(dpr_reserve(&stepper->per_rank, &stepper->rank_capacity[0], ranks, sizeof(double)));
    DPR_TRY(
        dpr_reserve(&stepper->memory, &stepper->rank_capacity[1], ranks, sizeof *stepper->memory));
    return find_holders(stepper);
}

void dpr_stepper_free(dpr_stepper_t *stepper)
{
    free(stepper->cost);
    free(stepper->end);
    free(stepper->holders);
    free(stepper->stages);
    free(stepper->per_rank);
    free(stepper->memory);
    *stepper = (dpr_stepper_t){0};
}

dpr_status_t dpr_step_size(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                           int micro_batch_size, uint64_t *peak_bytes)
{
    const dpr_graph_t *graph = stepper->graph;
    const dpr_transformer_model_t model = {
        .parameters = workload->parameters,
        .layers = layers_of(workload),
        .hidden = workload->hidden,
        .heads = 1, /* only what is kept of the attention depends on it, and nothing is */
        .sequence = workload->sequence,
        .micro_batch_size = micro_batch_size,
        .dtype = workload->precision == DPR_PRECISION_BF16 ? DPR_DTYPE_BF16 : DPR_DTYPE_FP32,
    };
    const dpr_memory_format_t format = format_of(workload);
    DPR_TRY(dpr_transformer_memory(&model, graph->stages, &stepper->stages[0]));
    for (int32_t s = 1; s < graph->stages; s++) {
        stepper->stages[s] = stepper->stages[0];
    }
    DPR_TRY(dpr_memory_count(graph, stepper->stages, &format, stepper->memory));
    const int largest = dpr_memory_largest(stepper->memory, graph->ranks);
    *peak_bytes = stepper->memory[largest].total_bytes;
    return DPR_OK;
}

/* ---- Costs ---- */

typedef struct work {
    double f;
    double i;
    double w;
} work_t;

/* Seconds of one micro-batch on one stage, without overhead. */
static work_t stage_work(const dpr_stepper_t *stepper, const dpr_workload_t *workload,
                         const dpr_hardware_t *hardware, int micro_batch_size)
{
    const dpr_stage_memory_t *stage = &stepper->stages[0];
    const dpr_memory_format_t format = format_of(workload);
    const double share = (double)workload->sequence * micro_batch_size / stepper->graph->stages;
    const double products = 2.0 * (double)workload->parameters * share;
    const double attention = attention_unit(workload) * share;
    const double weights = (double)stage->parameters * format.parameter_bytes;
    const double gradients = 2.0 * (double)stage->parameters * format.gradient_bytes;
    const double saved = (double)stage->saved_bytes;
    const double wstate = (double)stage->wstate_bytes;
    const double ends = 2.0 * (double)stage->activation_bytes;
    const dpr_precision_t precision = workload->precision;
    return (work_t){
        .f = dpr_hardware_work_sec(hardware, precision, products + 4.0 * attention,
                                   weights + saved + ends),
        .i = dpr_hardware_work_sec(hardware, precision, products + 8.0 * attention,
                                   weights + saved + wstate + ends),
        .w = dpr_hardware_work_sec(hardware, precision, products, gradients + saved + wstate),
    };
}

static void fill_costs(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                       const dpr_hardware_t *hardware, int micro_batch_size,
                       const dpr_cost_factors_t *factors)
{
    const dpr_graph_t *graph = stepper->graph;
    const work_t work = stage_work(stepper, workload, hardware, micro_batch_size);
    const double overhead = hardware->op_overhead_sec;
    const double b_work = work.i * factors->i + work.w * factors->w;
    const double by_kind[] = {
        [DPR_NODE_F] = work.f * factors->f + overhead,
        [DPR_NODE_B] = b_work + overhead,
        [DPR_NODE_I] = work.i * factors->i + overhead,
        [DPR_NODE_W] = work.w * factors->w + overhead,
        [DPR_NODE_FB] =
            ((work.f * factors->f + b_work) * workload->fb_factor + overhead) * factors->fb,
    };
    for (int32_t n = 0; n < graph->compute_count; n++) {
        stepper->cost[n] = by_kind[graph->nodes[n].kind];
    }
    const double bytes = (double)stepper->stages[0].activation_bytes;
    for (int32_t n = graph->compute_count; n < graph->node_count; n++) {
        const dpr_hardware_link_t *link =
            dpr_hardware_link_between(hardware, graph->nodes[n].rank, graph->nodes[n].peer);
        stepper->cost[n] = dpr_hardware_transfer_sec(hardware, link, bytes) * factors->wire;
    }
}

/* ---- After the pipeline ---- */

static double largest_of(const double *values, int count)
{
    double largest = 0.0;
    for (int i = 0; i < count; i++) {
        largest = fmax(largest, values[i]);
    }
    return largest;
}

static const dpr_hardware_link_t *ring_link(const dpr_hardware_t *hardware, int ranks, int replicas,
                                            const int32_t holders[2])
{
    if (replicas == 1) {
        return dpr_hardware_link_between(hardware, holders[0], holders[1]);
    }
    return dpr_hardware_link_between(hardware, 0, ranks * replicas - 1);
}

static double reduce_sec(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                         const dpr_hardware_t *hardware, int replicas)
{
    const dpr_graph_t *graph = stepper->graph;
    const dpr_memory_format_t format = format_of(workload);
    const double bytes = (double)stepper->stages[0].parameters * format.gradient_bytes;
    for (int32_t r = 0; r < graph->ranks; r++) {
        stepper->per_rank[r] = 0.0;
    }
    for (int32_t s = 0; s < graph->stages; s++) {
        const int32_t *holders = &stepper->holders[2 * s];
        const int copies = holders[1] >= 0 ? 2 : 1;
        const int members = copies * replicas;
        if (members == 1) {
            continue;
        }
        const dpr_hardware_link_t *link = ring_link(hardware, graph->ranks, replicas, holders);
        for (int i = 0; i < copies; i++) {
            stepper->per_rank[holders[i]] +=
                dpr_hardware_all_reduce_sec(hardware, link, members, bytes);
        }
    }
    return largest_of(stepper->per_rank, graph->ranks);
}

/* The optimizer reads gradients, states and parameters, and writes the latter two; bf16 parameters
 * are only written, their master copy is among the states. */
static double update_sec(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                         const dpr_hardware_t *hardware)
{
    const dpr_graph_t *graph = stepper->graph;
    const dpr_memory_format_t format = format_of(workload);
    const double touches = workload->precision == DPR_PRECISION_BF16 ? 1.0 : 2.0;
    const double traffic =
        format.gradient_bytes + 2.0 * format.optimizer_bytes + touches * format.parameter_bytes;
    for (int32_t r = 0; r < graph->ranks; r++) {
        stepper->per_rank[r] = dpr_hardware_work_sec(
            hardware, workload->precision, 0.0, (double)stepper->memory[r].parameters * traffic);
    }
    return largest_of(stepper->per_rank, graph->ranks);
}

dpr_status_t dpr_step_play(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                           const dpr_hardware_t *hardware, int micro_batch_size, int replicas,
                           const dpr_cost_factors_t *factors, dpr_step_t *step)
{
    const dpr_graph_t *graph = stepper->graph;
    fill_costs(stepper, workload, hardware, micro_batch_size, factors);
    const double span = dpr_simulate_makespan(graph, stepper->cost, stepper->end);
    double busy = 0.0;
    for (int32_t n = 0; n < graph->compute_count; n++) {
        busy += stepper->cost[n];
    }
    dpr_step_t played = {
        .pipeline_sec = span,
        .reduce_sec = reduce_sec(stepper, workload, hardware, replicas) * factors->reduce,
        .update_sec = update_sec(stepper, workload, hardware) * factors->update,
        .bubble_ratio = span > 0.0 ? fmax(0.0, 1.0 - busy / graph->ranks / span) : 0.0,
    };
    played.step_sec = played.pipeline_sec + played.reduce_sec + played.update_sec;
    if (!isfinite(played.step_sec) || !isfinite(busy)) {
        return dpr_fail(DPR_ERR_INVALID, "the step takes longer than a number can hold: lower the "
                                         "sizes of the model or of the batch");
    }
    *step = played;
    return DPR_OK;
}

/* ---- One layout ---- */

static dpr_status_t check_layout(const dpr_layout_t *layout)
{
    DPR_TRY(check_range("ranks", layout->ranks, 1.0, DPR_MAX_RANKS));
    DPR_TRY(check_range("micro-batches", layout->micro_batches, 1.0, DPR_MAX_MICRO_BATCHES));
    DPR_TRY(dpr_schedule_check(layout->schedule, layout->ranks, layout->micro_batches));
    const double stages = (double)dpr_schedule_stages_per_rank(layout->schedule) * layout->ranks;
    DPR_TRY(check_range("stages times micro-batches", stages * layout->micro_batches, 1.0,
                        DPR_THROUGHPUT_MAX_CELLS));
    DPR_TRY(check_range("the micro-batch size", layout->micro_batch_size, 1.0, SIZE_MAX_SAMPLES));
    DPR_TRY(check_range("the number of replicas", layout->replicas, 1.0, SIZE_MAX_SAMPLES));
    return check_range("ranks times replicas", (double)layout->ranks * layout->replicas, 1.0,
                       1 << 30);
}

static void derive(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                   const dpr_layout_t *layout, dpr_throughput_t *made)
{
    made->devices = layout->ranks * layout->replicas;
    made->global_batch =
        (double)layout->micro_batches * layout->micro_batch_size * layout->replicas;
    made->samples_per_sec = made->global_batch / made->step.step_sec;
    made->tokens_per_sec = made->samples_per_sec * workload->sequence;
    made->flops_per_step = dpr_workload_sample_flops(workload) * made->global_batch;
    made->flops_per_sec_per_device =
        made->flops_per_step / made->step.step_sec / (double)made->devices;
    made->utilization =
        made->flops_per_sec_per_device / hardware->peak_flops_per_sec[workload->precision];
    made->fits = (double)made->peak_bytes <= hardware->memory_bytes;
}

static dpr_status_t predict(dpr_stepper_t *stepper, const dpr_workload_t *workload,
                            const dpr_hardware_t *hardware, const dpr_layout_t *layout,
                            dpr_throughput_t *throughput)
{
    const dpr_cost_factors_t factors = DPR_COST_FACTORS_DEFAULT;
    dpr_throughput_t made = {0};
    DPR_TRY(dpr_step_size(stepper, workload, layout->micro_batch_size, &made.peak_bytes));
    DPR_TRY(dpr_step_play(stepper, workload, hardware, layout->micro_batch_size, layout->replicas,
                          &factors, &made.step));
    dpr_uniform_costs_mean(stepper->graph, stepper->cost, &made.costs);
    derive(workload, hardware, layout, &made);
    *throughput = made;
    return DPR_OK;
}

dpr_status_t dpr_throughput_predict(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                    const dpr_layout_t *layout, dpr_throughput_t *throughput)
{
    DPR_TRY(dpr_workload_check(workload));
    DPR_TRY(dpr_hardware_check(hardware));
    DPR_TRY(dpr_hardware_has(hardware, workload->precision));
    DPR_TRY(check_layout(layout));
    dpr_program_t program = {0};
    dpr_graph_t *graph = NULL;
    dpr_stepper_t stepper = {0};
    dpr_status_t status;
    DPR_TRY(
        dpr_schedule_generate(layout->schedule, layout->ranks, layout->micro_batches, &program));
    DPR_TRY_GOTO(dpr_graph_create(&program, NULL, &graph), free_program);
    DPR_TRY_GOTO(dpr_stepper_set(&stepper, graph), free_graph);
    status = predict(&stepper, workload, hardware, layout, throughput);
free_graph:
    dpr_stepper_free(&stepper);
    dpr_graph_destroy(graph);
free_program:
    dpr_program_free(&program);
    return status;
}
