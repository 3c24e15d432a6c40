/* Sets a training run up: device and clock made, data opened, pipeline made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"

/* ---- Device and clock ---- */

/* Ranks and cores of the node where cores are scarcest: the same answer on all ranks. */
static dpr_status_t find_scarcest_node(dpr_trainer_t *trainer, int *node_ranks, int *node_cores)
{
    const int mine[2] = {dpr_comm_node_size(trainer->comm), dpr_host_cores_on_node()};
    int *all;
    DPR_TRY(dpr_calloc(2 * (size_t)trainer->ranks, sizeof *all, &all));
    const dpr_status_t status = dpr_comm_allgather(trainer->comm, mine, sizeof mine, all);
    *node_ranks = all[0];
    *node_cores = all[1];
    for (int r = 1; r < trainer->ranks; r++) {
        if ((long)all[2 * r] * *node_cores > (long)*node_ranks * all[2 * r + 1]) {
            *node_ranks = all[2 * r];
            *node_cores = all[2 * r + 1];
        }
    }
    free(all);
    return status;
}

static void choose_clock(dpr_trainer_t *trainer, int node_ranks, int node_cores)
{
    const char *asked = trainer->config->clock;
    char *reason = trainer->clock_reason;
    const size_t size = sizeof trainer->clock_reason;
    if (trainer->choice.is_cuda) {
        trainer->clock = DPR_CLOCK_WALL;
        snprintf(reason, size, "%s: a GPU's events keep real time",
                 strcmp(asked, "auto") == 0 ? "auto" : "as asked");
        return;
    }
    if (strcmp(asked, "auto") != 0) {
        trainer->clock = strcmp(asked, "wall") == 0   ? DPR_CLOCK_WALL
                         : strcmp(asked, "core") == 0 ? DPR_CLOCK_CORE
                                                      : DPR_CLOCK_MODEL;
        snprintf(reason, size, "as asked; %d ranks share %d cores", node_ranks, node_cores);
    } else if (node_ranks <= node_cores) {
        trainer->clock = DPR_CLOCK_WALL;
        snprintf(reason, size, "auto: each of the node's %d ranks has one of %d cores", node_ranks,
                 node_cores);
    } else {
        trainer->clock = DPR_CLOCK_CORE;
        snprintf(reason, size,
                 "auto: %d ranks share %d cores, so each op costs the CPU time that it used",
                 node_ranks, node_cores);
    }
}

static dpr_status_t create_cuda(dpr_trainer_t *trainer)
{
    DPR_TRY(dpr_cuda_device_create(trainer->choice.ordinal, trainer->clock, &trainer->device));
    DPR_TRY(dpr_device_bind_near(trainer->device));
    return dpr_cuda_kernels_create(trainer->device, trainer->config->dtype, &trainer->kernels);
}

static dpr_status_t create_device(dpr_trainer_t *trainer)
{
    int node_ranks, node_cores;
    DPR_TRY(find_scarcest_node(trainer, &node_ranks, &node_cores));
    choose_clock(trainer, node_ranks, node_cores);
    /* A compute stream (cuda: the scheduler) and the communicator's thread are busy on each rank.
     */
    const bool cores_are_free = 2 * node_ranks <= node_cores;
    if (strcmp(dpr_comm_kind(trainer->comm), "mpi") == 0) {
        dpr_comm_mpi_set_spin(trainer->comm, cores_are_free);
    }
    if (trainer->choice.is_cuda) {
        return create_cuda(trainer);
    }
    const dpr_host_device_options_t options = {
        .clock = trainer->clock, .spin = cores_are_free, .chaos_seed = trainer->config->chaos_seed};
    DPR_TRY(dpr_host_device_create(&options, &trainer->device));
    return dpr_host_kernels_create(&trainer->kernels);
}

/* ---- Pipeline and loaders ---- */

static dpr_pipeline_options_t pipeline_options(const dpr_trainer_t *trainer)
{
    const dpr_train_config_t *config = trainer->config;
    return (dpr_pipeline_options_t){
        .program = &trainer->program,
        .graph = {.recv_slots = config->recv_slots,
                  .recv_ahead = config->recv_ahead,
                  .send_slots = config->send_slots},
        .model = trainer->model,
        .comm = trainer->comm,
        .device = trainer->device,
        .kernels = trainer->kernels,
        .optimizer = &config->optimizer,
        .total_steps = trainer->total_steps,
        .poison = config->chaos_seed != 0,
        .memory_limit_bytes = (size_t)config->memory_limit_bytes,
        .record = config->cuda_graph,
    };
}

static dpr_status_t create_records(dpr_trainer_t *trainer)
{
    const size_t steps = (size_t)trainer->total_steps;
    DPR_TRY(dpr_calloc(steps, sizeof(dpr_step_sample_t), &trainer->samples));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->loss));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->reduction_sec));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->update_sec));
    DPR_TRY(trainer_explain_create(trainer));
    return trainer_create_feeds(trainer);
}

dpr_forecast_options_t trainer_forecast_options(dpr_trainer_t *trainer)
{
    return (dpr_forecast_options_t){.pipeline = trainer->pipeline,
                                    .comm = trainer->comm,
                                    .device = trainer->device,
                                    .cost_model = &trainer->cost_model,
                                    .loss_scale = 1.0f / (float)trainer->global_batch,
                                    .calibrate_steps = trainer->config->calibrate_steps,
                                    .seed = trainer->config->seed};
}

/* A cost file for another number of stages or ranks is bad input, to be known before the run. */
static dpr_status_t check_cost_model(dpr_trainer_t *trainer)
{
    const dpr_forecast_options_t options = trainer_forecast_options(trainer);
    return dpr_forecast_check(&options);
}

/* ---- The whole: after each part the ranks agree, so that all fail or none does ---- */

static dpr_status_t agree(dpr_trainer_t *trainer, dpr_status_t status)
{
    return dpr_comm_agree(trainer->comm, status, NULL);
}

static dpr_status_t make_program(dpr_trainer_t *trainer)
{
    const char *schedule = trainer->config->schedule;
    if (schedule != NULL && strcmp(schedule, "auto") == 0) {
        return trainer_schedule_auto(trainer->config, &trainer->choice, trainer->comm,
                                     &trainer->program);
    }
    return dpr_train_config_program(trainer->config, trainer->ranks, &trainer->program);
}

static dpr_status_t set_up(dpr_trainer_t *trainer)
{
    DPR_TRY(agree(trainer, make_program(trainer)));
    DPR_TRY(agree(trainer, create_device(trainer)));
    dpr_comm_set_device(trainer->comm, trainer->device);
    DPR_TRY(trainer_open_data(trainer));
    const dpr_pipeline_options_t options = pipeline_options(trainer);
    DPR_TRY(agree(trainer, dpr_pipeline_check(&options)));
    if (trainer->clock == DPR_CLOCK_MODEL) {
        DPR_TRY(
            agree(trainer, dpr_cost_model_read(trainer->config->cost_model, &trainer->cost_model)));
    }
    DPR_TRY(dpr_pipeline_create(&options, &trainer->pipeline));
    DPR_TRY(agree(trainer, create_records(trainer)));
    DPR_TRY(agree(trainer, check_cost_model(trainer)));
    return agree(trainer, trainer->config->verify ? trainer_verify_create(trainer) : DPR_OK);
}

dpr_status_t dpr_trainer_create(const dpr_train_config_t *config, const dpr_device_choice_t *choice,
                                dpr_comm_t *comm, dpr_trainer_t **out)
{
    dpr_trainer_t *trainer;
    DPR_TRY(dpr_calloc(1, sizeof *trainer, &trainer));
    trainer->config = config;
    trainer->choice = *choice;
    trainer->comm = comm;
    trainer->rank = dpr_comm_rank(comm);
    trainer->ranks = dpr_comm_size(comm);
    const dpr_status_t status = set_up(trainer);
    if (status != DPR_OK) {
        dpr_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return DPR_OK;
}

void dpr_trainer_destroy(dpr_trainer_t *trainer)
{
    if (trainer == NULL) {
        return;
    }
    trainer_verify_destroy(trainer);
    trainer_explain_destroy(trainer);
    dpr_pipeline_destroy(trainer->pipeline);
    trainer_destroy_feeds(trainer);
    dpr_kernels_destroy(trainer->kernels);
    dpr_device_destroy(trainer->device);
    dpr_dataset_free(&trainer->train);
    dpr_dataset_free(&trainer->test);
    dpr_cost_model_free(&trainer->cost_model);
    dpr_forecast_free(&trainer->forecast);
    dpr_program_free(&trainer->program);
    free(trainer->samples);
    free(trainer->loss);
    free(trainer->reduction_sec);
    free(trainer->update_sec);
    free(trainer);
}
