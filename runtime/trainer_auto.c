/*
 * --schedule auto: a program built for the costs of this run.
 *
 *     zbv, set up and calibrated  ->  table of costs  ->  models/auto on rank 0  ->  the program,
 * to all
 *
 * The costs are calibrated on zbv because it plays every stage's F, I and W in the same V
 * placement.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/auto.h"
#include "runtime/calibrate.h"
#include "runtime/trainer_impl.h"
#include "schedule/csv.h"

static const char probe_schedule[] = "zbv";

/* The model clock measures nothing: its table is what the cost model says of the probe's ops. */
static dpr_status_t find_costs(dpr_trainer_t *probe, dpr_cost_table_t *table)
{
    DPR_TRY(trainer_prepare(probe));
    dpr_forecast_t *forecast = &probe->forecast;
    if (probe->clock == DPR_CLOCK_MODEL) {
        DPR_TRY(dpr_cost_table_init(&forecast->table, probe->ranks, probe->program.stages));
        DPR_TRY(dpr_calibrate_from_durations(&forecast->durations, &forecast->table));
    }
    *table = forecast->table;
    forecast->table = (dpr_cost_table_t){0};
    return DPR_OK;
}

static dpr_status_t calibrate_probe(const dpr_train_config_t *config,
                                    const dpr_device_choice_t *choice, dpr_comm_t *comm,
                                    dpr_cost_table_t *table, dpr_auto_request_t *request)
{
    dpr_train_config_t probe_config = *config;
    dpr_trainer_t *probe;
    probe_config.schedule = probe_schedule;
    probe_config.verify = false;
    probe_config.memory_limit_bytes = 0; /* the program that is run must keep to it, not this one */
    DPR_TRY(dpr_trainer_create(&probe_config, choice, comm, &probe));
    request->micro_batches = probe->program.micro_batches;
    request->message_bytes = dpr_pipeline_message_bytes(probe->pipeline);
    const dpr_status_t status = dpr_comm_agree(comm, find_costs(probe, table), NULL);
    dpr_trainer_destroy(probe);
    return status;
}

static void tell(const dpr_auto_report_t *report)
{
    const dpr_auto_rival_t *best =
        report->best_fixed >= 0 ? &report->rivals[report->best_fixed] : NULL;
    char rivals[512] = "";
    for (int i = 0; i < report->rival_count; i++) {
        const dpr_auto_rival_t *rival = &report->rivals[i];
        const size_t used = strlen(rivals);
        if (rival->runs && rival->same_placement) {
            snprintf(rivals + used, sizeof rivals - used, "%s%s %.3f ms%s", used > 0 ? ", " : "",
                     rival->name, 1e3 * rival->makespan_sec,
                     rival->fits ? "" : " (over the limit)");
        }
    }
    dpr_log(DPR_LOG_INFO,
            "auto: %s, %.3f ms predicted with at most %d activations a rank (limit %d); no program "
            "of this placement can be under %.3f ms; fixed schedules: %s; %.2f %% shorter than the "
            "best that fits, %s",
            report->fixed != NULL ? report->fixed : "a new program", 1e3 * report->makespan_sec,
            report->peak_activations, report->activations, 1e3 * report->lower_bound_sec, rivals,
            best != NULL ? 100.0 * (1.0 - report->makespan_sec / best->makespan_sec) : 0.0,
            best != NULL ? best->name : "of which there is none");
}

/* Rank 0 searches, since a search that time ends may end differently elsewhere; *text is its CSV.
 */
static dpr_status_t search(const dpr_auto_request_t *request, char **text, size_t *length)
{
    dpr_program_t program;
    dpr_auto_report_t report;
    DPR_TRY(dpr_auto_schedule(request, &program, &report));
    tell(&report);
    dpr_status_t status = DPR_ERR_MEMORY;
    FILE *out = open_memstream(text, length);
    if (out != NULL) {
        status = dpr_csv_write(&program, out);
        fclose(out);
    }
    dpr_program_free(&program);
    return status;
}

/* Gives every rank rank 0's text; `text` and `length` are rank 0's. */
static dpr_status_t share_text(dpr_comm_t *comm, const char *text, uint64_t length, char **out,
                               size_t *out_length)
{
    const size_t ranks = (size_t)dpr_comm_size(comm);
    uint64_t *lengths = NULL;
    char *mine = NULL;
    char *all = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *lengths, &lengths), free_parts);
    DPR_TRY_GOTO(dpr_comm_allgather(comm, &length, sizeof length, lengths), free_parts);
    DPR_TRY_GOTO(dpr_calloc(lengths[0], 1, &mine), free_parts);
    DPR_TRY_GOTO(dpr_calloc(lengths[0] * ranks, 1, &all), free_parts);
    if (text != NULL) {
        memcpy(mine, text, length);
    }
    DPR_TRY_GOTO(dpr_comm_allgather(comm, mine, lengths[0], all), free_parts);
    *out_length = lengths[0];
    *out = all;
    all = NULL;

free_parts:
    free(lengths);
    free(mine);
    free(all);
    return status;
}

static dpr_status_t search_and_share(const dpr_auto_request_t *request, dpr_comm_t *comm,
                                     dpr_program_t *program)
{
    char *text = NULL;
    size_t length = 0;
    char *shared;
    size_t shared_length;
    dpr_status_t status = DPR_OK;
    if (dpr_comm_rank(comm) == 0) {
        status = search(request, &text, &length);
    }
    status = dpr_comm_agree(comm, status, NULL);
    if (status == DPR_OK) {
        status = share_text(comm, text, length, &shared, &shared_length);
    }
    free(text);
    DPR_TRY(status);
    status = dpr_csv_parse(shared, shared_length, "auto", program);
    free(shared);
    DPR_TRY(status);
    snprintf(program->name, sizeof program->name, "auto");
    return DPR_OK;
}

dpr_status_t trainer_schedule_auto(const dpr_train_config_t *config,
                                   const dpr_device_choice_t *choice, dpr_comm_t *comm,
                                   dpr_program_t *program)
{
    dpr_auto_request_t request = DPR_AUTO_REQUEST_DEFAULT;
    dpr_cost_table_t table = {0};
    DPR_TRY(calibrate_probe(config, choice, comm, &table, &request));
    request.ranks = dpr_comm_size(comm);
    request.placement = DPR_AUTO_V;
    request.table = &table;
    request.activations = config->activations;
    request.budget_sec = config->auto_budget_sec;
    request.seed = config->seed;
    const dpr_status_t status = search_and_share(&request, comm, program);
    dpr_cost_table_free(&table);
    return status;
}
