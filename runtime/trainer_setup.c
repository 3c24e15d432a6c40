/* Sets a training run up: options compared, device and clock chosen, data opened, pipeline made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"

enum { CONFIG_TEXT_BYTES = 4096 };

/* ---- Options: the same on all ranks ---- */

static size_t line_length(const char *text)
{
    return strcspn(text, "\n");
}

/* Names the first option in which two ranks differ. */
static dpr_status_t fail_with_difference(const char *zero, const char *mine, int rank)
{
    while (*zero != '\0' && *mine != '\0' && line_length(zero) == line_length(mine) &&
           memcmp(zero, mine, line_length(zero)) == 0) {
        zero += line_length(zero) + (zero[line_length(zero)] == '\n');
        mine += line_length(mine) + (mine[line_length(mine)] == '\n');
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "ranks were started with different options: rank 0 has '%.*s', rank %d has "
                    "'%.*s'; start all ranks with the same command line",
                    (int)line_length(zero), zero, rank, (int)line_length(mine), mine);
}

static dpr_status_t compare_config(dpr_trainer_t *trainer)
{
    char *all;
    char mine[CONFIG_TEXT_BYTES] = "";
    if (dpr_train_config_format(trainer->config, mine, sizeof mine) >= sizeof mine) {
        return dpr_fail(DPR_ERR_INVALID, "the options are longer than %d characters together",
                        CONFIG_TEXT_BYTES);
    }
    DPR_TRY(dpr_calloc((size_t)trainer->ranks, sizeof mine, &all));
    dpr_status_t status = dpr_comm_allgather(trainer->comm, mine, sizeof mine, all);
    if (status == DPR_OK && memcmp(all, mine, sizeof mine) != 0) {
        status = fail_with_difference(all, mine, trainer->rank);
    }
    free(all);
    return status;
}

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

static dpr_status_t create_device(dpr_trainer_t *trainer)
{
    int node_ranks, node_cores;
    DPR_TRY(find_scarcest_node(trainer, &node_ranks, &node_cores));
    choose_clock(trainer, node_ranks, node_cores);
    if (strcmp(trainer->config->device, "cuda") == 0) {
        DPR_TRY(dpr_cuda_device_create(dpr_comm_node_rank(trainer->comm), trainer->clock,
                                       &trainer->device));
        return dpr_cuda_kernels_create(trainer->device, DPR_DTYPE_FP32, &trainer->kernels);
    }
    /* A compute stream and the communicator's thread are busy on each rank. */
    const bool cores_are_free = 2 * node_ranks <= node_cores;
    const dpr_host_device_options_t options = {
        .clock = trainer->clock, .spin = cores_are_free, .chaos_seed = trainer->config->chaos_seed};
    DPR_TRY(dpr_host_device_create(&options, &trainer->device));
    if (strcmp(dpr_comm_kind(trainer->comm), "mpi") == 0) {
        dpr_comm_mpi_set_spin(trainer->comm, cores_are_free);
    }
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
    };
}

static dpr_status_t create_records(dpr_trainer_t *trainer)
{
    const size_t steps = (size_t)trainer->total_steps;
    const int32_t commands = dpr_executor_command_count(dpr_pipeline_executor(trainer->pipeline));
    DPR_TRY(dpr_calloc((size_t)commands, sizeof(dpr_record_t), &trainer->records));
    DPR_TRY(dpr_calloc(steps, sizeof(dpr_step_sample_t), &trainer->samples));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->loss));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->reduction_sec));
    DPR_TRY(dpr_calloc(steps, sizeof(double), &trainer->update_sec));
    const dpr_graph_t *graph = dpr_pipeline_graph(trainer->pipeline);
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof(double), &trainer->predicted_cost));
    DPR_TRY(dpr_timeline_init(&trainer->predicted, graph));
    return trainer_create_feeds(trainer);
}

/* A cost file for another number of stages or ranks is bad input, to be known before the run. */
static dpr_status_t check_cost_model(dpr_trainer_t *trainer)
{
    if (trainer->clock != DPR_CLOCK_MODEL) {
        return DPR_OK;
    }
    return dpr_cost_model_fill(&trainer->cost_model, dpr_pipeline_graph(trainer->pipeline),
                               dpr_pipeline_message_bytes(trainer->pipeline),
                               trainer->predicted_cost);
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
        return trainer_schedule_auto(trainer->config, trainer->comm, &trainer->program);
    }
    return dpr_train_config_program(trainer->config, trainer->ranks, &trainer->program);
}

static dpr_status_t set_up(dpr_trainer_t *trainer)
{
    DPR_TRY(agree(trainer, compare_config(trainer)));
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

dpr_status_t dpr_trainer_create(const dpr_train_config_t *config, dpr_comm_t *comm,
                                dpr_trainer_t **out)
{
    dpr_trainer_t *trainer;
    DPR_TRY(dpr_calloc(1, sizeof *trainer, &trainer));
    trainer->config = config;
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
    dpr_pipeline_destroy(trainer->pipeline);
    trainer_destroy_feeds(trainer);
    dpr_kernels_destroy(trainer->kernels);
    dpr_device_destroy(trainer->device);
    dpr_dataset_free(&trainer->train);
    dpr_dataset_free(&trainer->test);
    dpr_cost_model_free(&trainer->cost_model);
    dpr_cost_table_free(&trainer->table);
    dpr_durations_free(&trainer->durations);
    dpr_measurement_free(&trainer->prediction);
    free(trainer->predicted_cost);
    dpr_timeline_free(&trainer->predicted);
    dpr_program_free(&trainer->program);
    free(trainer->records);
    free(trainer->samples);
    free(trainer->loss);
    free(trainer->reduction_sec);
    free(trainer->update_sec);
    free(trainer);
}
