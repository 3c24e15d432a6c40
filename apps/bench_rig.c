/* Devices, clocks and pipelines for dualpipe_bench. */
#include "apps/bench_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "runtime/device_choice.h"

enum {
    INPUT_FEATURES = 784, /* as the default data set has them */
    CLASSES = 10,
    RIG_STEPS = 1 << 20, /* for the learning rate's schedule, which nothing here depends on */
};

/* ---- The machine ---- */

static dpr_status_t find_scarcest_node(bench_machine_t *machine, const bench_rank_t *self)
{
    const int mine[2] = {dpr_comm_node_size(self->comm), dpr_host_cores_on_node()};
    int *all;
    DPR_TRY(dpr_calloc(2 * (size_t)self->ranks, sizeof *all, &all));
    const dpr_status_t status = dpr_comm_allgather(self->comm, mine, sizeof mine, all);
    machine->node_ranks = all[0];
    machine->node_cores = all[1];
    for (int r = 1; r < self->ranks; r++) {
        if ((long)all[2 * r] * machine->node_cores > (long)machine->node_ranks * all[2 * r + 1]) {
            machine->node_ranks = all[2 * r];
            machine->node_cores = all[2 * r + 1];
        }
    }
    free(all);
    return status;
}

static dpr_clock_t choose_clock(const bench_common_t *common, const bench_machine_t *machine,
                                const dpr_device_choice_t *choice)
{
    if (choice->is_cuda || strcmp(common->clock, "wall") == 0) {
        return DPR_CLOCK_WALL;
    }
    if (strcmp(common->clock, "auto") != 0) {
        return strcmp(common->clock, "core") == 0 ? DPR_CLOCK_CORE : DPR_CLOCK_MODEL;
    }
    return machine->node_ranks <= machine->node_cores ? DPR_CLOCK_WALL : DPR_CLOCK_CORE;
}

static dpr_status_t open_cuda(const bench_rank_t *self, const dpr_device_choice_t *choice,
                              bench_machine_t *machine)
{
    DPR_TRY(dpr_cuda_device_create(choice->ordinal, machine->clock, &machine->device));
    DPR_TRY(dpr_device_bind_near(machine->device));
    DPR_TRY(dpr_cuda_kernels_create(machine->device, DPR_DTYPE_FP32, &machine->kernels));
    if (choice->is_nccl) {
        DPR_TRY(dpr_comm_nccl_create(self->comm, choice->comm_ctas, &machine->over_comm));
        machine->comm = machine->over_comm;
    }
    return DPR_OK;
}

static dpr_status_t open_device(const bench_rank_t *self, const dpr_device_choice_t *choice,
                                bench_machine_t *machine)
{
    /* A compute stream (cuda: the scheduler) and the communicator's thread are busy on each rank.
     */
    const bool cores_are_free = 2 * machine->node_ranks <= machine->node_cores;
    if (strcmp(dpr_comm_kind(self->comm), "mpi") == 0) {
        dpr_comm_mpi_set_spin(self->comm, cores_are_free);
    }
    if (choice->is_cuda) {
        return open_cuda(self, choice, machine);
    }
    const dpr_host_device_options_t options = {.clock = machine->clock, .spin = cores_are_free};
    DPR_TRY(dpr_host_device_create(&options, &machine->device));
    return dpr_host_kernels_create(&machine->kernels);
}

dpr_status_t bench_machine_open(const bench_common_t *common, const bench_rank_t *self,
                                bench_machine_t *machine)
{
    dpr_device_choice_t choice;
    dpr_train_config_t config;
    dpr_train_config_default(&config);
    config.device = common->device;
    config.clock = common->clock;
    *machine = (bench_machine_t){.comm = self->comm};
    DPR_TRY(dpr_device_choose(&config, self->comm, &choice));
    DPR_TRY(find_scarcest_node(machine, self));
    machine->clock = choose_clock(common, machine, &choice);
    const dpr_status_t status =
        dpr_comm_agree(self->comm, open_device(self, &choice, machine), NULL);
    if (status != DPR_OK) {
        bench_machine_close(machine);
        return status;
    }
    dpr_comm_set_device(machine->comm, machine->device);
    return DPR_OK;
}

void bench_machine_close(bench_machine_t *machine)
{
    dpr_comm_destroy(machine->over_comm);
    dpr_kernels_destroy(machine->kernels);
    dpr_device_destroy(machine->device);
    *machine = (bench_machine_t){0};
}

void bench_machine_cells(const bench_machine_t *machine, const bench_common_t *common,
                         plan_table_t *facts)
{
    dpr_device_info_t info;
    char transport[128];
    dpr_device_info(machine->device, &info);
    dpr_comm_describe(machine->comm, transport, sizeof transport);
    plan_table_text(facts, info.name);
    plan_table_text(facts, dpr_clock_name(machine->clock));
    plan_table_int(facts, dpr_comm_size(machine->comm));
    plan_table_int(facts, machine->node_cores);
    plan_table_text(facts, transport);
    plan_table_int(facts, common->repeats);
}

/* ---- The pipeline ---- */

static dpr_pipeline_options_t pipeline_options(const bench_rig_t *rig)
{
    return (dpr_pipeline_options_t){
        .program = &rig->program,
        .graph = {.recv_slots = rig->config.recv_slots,
                  .recv_ahead = rig->config.recv_ahead,
                  .send_slots = rig->config.send_slots},
        .model = rig->model,
        .comm = rig->machine->comm,
        .device = rig->machine->device,
        .kernels = rig->machine->kernels,
        .optimizer = &rig->config.optimizer,
        .total_steps = RIG_STEPS,
    };
}

/*
 * Everything that a rank can do alone before the pipeline is made. The learning rate is 0: one
 * batch learnt by heart has gradients so small that they are denormal numbers, which are many times
 * slower. The update costs the same.
 */
static dpr_status_t prepare(bench_rig_t *rig)
{
    const int ranks = rig->self->ranks;
    rig->config.optimizer.learning_rate = 0.0f;
    DPR_TRY(dpr_train_config_program(&rig->config, ranks, &rig->program));
    rig->model = (dpr_model_config_t){
        .input = INPUT_FEATURES,
        .hidden = rig->config.hidden,
        .ffn = rig->config.ffn,
        .classes = CLASSES,
        .blocks = dpr_train_config_blocks(&rig->config, ranks, rig->program.stages),
        .micro_batch_size = rig->config.micro_batch_size,
        .seed = rig->config.seed,
    };
    rig->global_batch = (size_t)rig->program.micro_batches * (size_t)rig->config.micro_batch_size;
    const dpr_pipeline_options_t pipeline = pipeline_options(rig);
    return dpr_pipeline_check(&pipeline);
}

/* Samples from N(0, 1) with labels at random; the same on every rank that needs them. */
static dpr_status_t make_batch(bench_rig_t *rig)
{
    dpr_device_t *device = rig->machine->device;
    const size_t samples = rig->global_batch;
    const size_t features = samples * INPUT_FEATURES;
    bool needs_inputs = false;
    bool needs_labels = false;
    for (int m = 0; m < rig->program.micro_batches; m++) {
        needs_inputs = needs_inputs || dpr_pipeline_needs_inputs(rig->pipeline, m);
        needs_labels = needs_labels || dpr_pipeline_needs_labels(rig->pipeline, m);
    }
    void *memory;
    if (needs_inputs) {
        DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_PINNED, features * sizeof(float), &memory));
        rig->inputs = memory;
        for (size_t i = 0; i < features; i++) {
            rig->inputs[i] = (float)dpr_random_normal(rig->config.seed, 1, i);
        }
    }
    if (needs_labels) {
        DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_PINNED, samples * sizeof(int32_t), &memory));
        rig->labels = memory;
        for (size_t i = 0; i < samples; i++) {
            rig->labels[i] = (int32_t)(dpr_random_bits(rig->config.seed, 2, i) % CLASSES);
        }
    }
    DPR_TRY(dpr_pipeline_load(rig->pipeline, 0, rig->inputs, rig->labels));
    return dpr_pipeline_synchronize(rig->pipeline);
}

dpr_status_t bench_rig_open(const bench_rank_t *self, bench_machine_t *machine,
                            const dpr_train_config_t *config, bench_rig_t *rig)
{
    dpr_status_t status;
    *rig = (bench_rig_t){.self = self, .machine = machine, .config = *config};
    DPR_TRY_GOTO(dpr_comm_agree(self->comm, prepare(rig), NULL), close_rig);
    const dpr_pipeline_options_t pipeline = pipeline_options(rig);
    DPR_TRY_GOTO(dpr_pipeline_create(&pipeline, &rig->pipeline), close_rig);
    DPR_TRY_GOTO(dpr_comm_agree(self->comm, make_batch(rig), NULL), close_rig);
    return DPR_OK;

close_rig:
    bench_rig_close(rig);
    return status;
}

void bench_rig_close(bench_rig_t *rig)
{
    dpr_pipeline_destroy(rig->pipeline);
    if (rig->inputs != NULL) {
        dpr_device_free(rig->machine->device, DPR_MEMORY_PINNED, rig->inputs);
    }
    if (rig->labels != NULL) {
        dpr_device_free(rig->machine->device, DPR_MEMORY_PINNED, rig->labels);
    }
    dpr_program_free(&rig->program);
    *rig = (bench_rig_t){0};
}

dpr_status_t bench_rig_step(bench_rig_t *rig)
{
    const int slot = (int)(rig->step & 1);
    if (rig->machine->clock != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(rig->machine->device);
    }
    DPR_TRY(dpr_pipeline_forward_backward(rig->pipeline, slot, 1.0f / (float)rig->global_batch));
    DPR_TRY(dpr_pipeline_update(rig->pipeline, rig->step));
    DPR_TRY(dpr_pipeline_load(rig->pipeline, 1 - slot, rig->inputs, rig->labels));
    DPR_TRY(dpr_pipeline_synchronize(rig->pipeline));
    rig->step++;
    dpr_pipeline_result_t result;
    dpr_pipeline_result(rig->pipeline, &result);
    if (!isfinite(result.loss) || !isfinite(result.gradient_norm)) {
        return dpr_fail(DPR_ERR_MISMATCH,
                        "schedule %s, step %ld: the loss (%g) or the gradients' norm (%g) is not "
                        "finite",
                        rig->program.name, rig->step, result.loss, result.gradient_norm);
    }
    return DPR_OK;
}

double bench_rig_flops(const bench_rig_t *rig)
{
    const dpr_stage_shape_t *shapes = dpr_pipeline_shapes(rig->pipeline);
    double flops = 0.0;
    for (int s = 0; s < rig->program.stages; s++) {
        flops += rig->program.micro_batches *
                 (shapes[s].forward_flops + shapes[s].input_flops + shapes[s].weight_flops);
    }
    return flops;
}
