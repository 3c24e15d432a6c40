/* One row of the referee's grid: calibrated, predicted, played, measured, compared. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench_referee.h"
#include "base/log.h"
#include "base/memory.h"
#include "runtime/forecast.h"
#include "runtime/history.h"

/* A row at work. */
typedef struct trial {
    const referee_options_t *options;
    const dpr_cost_model_t *costs; /* model clock */
    bench_rig_t *rig;
    const dpr_graph_t *graph;
    dpr_forecast_t forecast;
    dpr_clock_fit_t clock; /* of this rank */
    dpr_history_t *history;
    dpr_durations_t durations;  /* of the steps played */
    dpr_timeline_t typical;     /* the step nearest to their medians */
    double *enqueued_sec;       /* likewise */
    dpr_step_sample_t *samples; /* [steps] of this rank, by rank 0's clock */
} trial_t;

static dpr_forecast_options_t forecast_options(const trial_t *trial)
{
    return (dpr_forecast_options_t){.pipeline = trial->rig->pipeline,
                                    .comm = trial->rig->machine->comm,
                                    .device = trial->rig->machine->device,
                                    .cost_model = trial->costs,
                                    .loss_scale = 1.0F,
                                    .calibrate_steps = trial->options->calibrate_steps,
                                    .seed = trial->rig->config.seed};
}

/* ---- Steps ---- */

static dpr_status_t play_steps(trial_t *trial)
{
    const int commands = dpr_executor_command_count(dpr_pipeline_executor(trial->rig->pipeline));
    for (int k = -trial->options->common.warm_up; k < trial->options->steps; k++) {
        DPR_TRY(bench_rig_step(trial->rig));
        if (k >= 0) {
            dpr_step_sample_t *sample = &trial->samples[k];
            dpr_step_sample_take(trial->graph, dpr_history_take(trial->history, k), commands,
                                 sample);
            sample->first_start_sec = dpr_clock_to_rank0(&trial->clock, sample->first_start_sec);
            sample->last_end_sec = dpr_clock_to_rank0(&trial->clock, sample->last_end_sec);
        }
    }
    return DPR_OK;
}

static dpr_status_t measure(trial_t *trial, dpr_measurement_t *measurement)
{
    dpr_comm_t *comm = trial->rig->self->comm;
    if (trial->rig->machine->clock == DPR_CLOCK_WALL) {
        trial->clock = dpr_clock_fit(trial->forecast.exchanges, 2);
    }
    DPR_TRY(play_steps(trial));
    DPR_TRY(dpr_history_gather(trial->history, comm, trial->graph, &trial->clock,
                               trial->options->steps, &trial->durations, &trial->typical,
                               trial->enqueued_sec, NULL));
    return dpr_measure_gather(comm, trial->samples, trial->options->steps, 0.0, measurement);
}

/* Why the step nearest to the medians was not as the draw nearest to the prediction. */
static dpr_status_t explain(const trial_t *trial, referee_outcome_t *outcome)
{
    const dpr_forecast_t *forecast = &trial->forecast;
    const bool is_wall = trial->rig->machine->clock == DPR_CLOCK_WALL;
    const dpr_prediction_t prediction = {.timeline = &forecast->typical,
                                         .cost = forecast->typical_cost,
                                         .delay_sec = forecast->typical_delay_sec};
    dpr_prediction_error_t error;
    DPR_TRY(dpr_prediction_error_init(&prediction, &trial->typical,
                                      is_wall ? trial->enqueued_sec : NULL, &error));
    outcome->step_parts = error.span_sec;
    outcome->bubble_parts = error.bubble_ratio;
    dpr_prediction_error_free(&error);
    return DPR_OK;
}

/* ---- Comparison ---- */

/* The closed form at the mean costs, where the schedule has one. */
static void fill_closed_form(const trial_t *trial, referee_row_t *row, referee_outcome_t *outcome)
{
    const dpr_program_t *program = &trial->rig->program;
    dpr_uniform_costs_t costs;
    dpr_bubble_t bubble = {0};
    dpr_log_capture_t capture; /* that there is none is no fault */
    char refused[512];
    dpr_uniform_costs_mean(trial->graph, trial->forecast.mean_cost, &costs);
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    row->has_closed_form =
        dpr_bubble_closed_form(program->name, program->ranks, program->micro_batches, &costs,
                               &bubble) == DPR_OK;
    dpr_log_capture_end(&capture);
    row->exactness = bubble.exactness;
    outcome->closed_step_sec = row->has_closed_form ? bubble.bubble_sec + bubble.busy_sec : NAN;
    outcome->closed_bubble = row->has_closed_form ? bubble.bubble_ratio : NAN;
}

static dpr_status_t compare(const trial_t *trial, const dpr_measurement_t *measured,
                            referee_row_t *row, referee_outcome_t *outcome)
{
    const dpr_measurement_t *prediction = &trial->forecast.promised;
    dpr_timeline_summary_t means;
    DPR_TRY(dpr_timeline_summarize(&trial->forecast.at_means, &means));
    *outcome = (referee_outcome_t){
        .means_step_sec = means.span_sec,
        .means_bubble = means.bubble_ratio,
        .predicted_step_sec = prediction->span_sec,
        .predicted_bubble = prediction->bubble_ratio,
        .measured_step_sec = measured->span_sec,
        .measured_p10_sec = measured->span_p10_sec,
        .measured_p90_sec = measured->span_p90_sec,
        .measured_bubble = measured->bubble_ratio,
    };
    dpr_timeline_summary_free(&means);
    for (int r = 0; r < measured->ranks; r++) {
        outcome->bubble_error +=
            fabs(measured->rank_bubble_ratio[r] - prediction->rank_bubble_ratio[r]) /
            measured->ranks;
    }
    fill_closed_form(trial, row, outcome);
    return explain(trial, outcome);
}

const char *referee_blame(const referee_outcome_t *outcome)
{
    const char *blamed = "-";
    if (!(fabs(referee_step_error(outcome)) <= REFEREE_STEP_LIMIT)) {
        (void)dpr_error_largest_part(&outcome->step_parts, &blamed);
    } else if (!(outcome->bubble_error <= REFEREE_BUBBLE_LIMIT)) {
        (void)dpr_error_largest_part(&outcome->bubble_parts, &blamed);
    }
    return blamed;
}

/* ---- The whole ---- */

static dpr_status_t trial_init(trial_t *trial)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(trial->rig->pipeline);
    trial->graph = dpr_pipeline_graph(trial->rig->pipeline);
    DPR_TRY(dpr_calloc((size_t)trial->graph->node_count, sizeof(double), &trial->enqueued_sec));
    DPR_TRY(dpr_calloc((size_t)trial->options->steps, sizeof *trial->samples, &trial->samples));
    DPR_TRY(dpr_history_create(executor, trial->options->steps, &trial->history));
    return dpr_timeline_init(&trial->typical, trial->graph);
}

static void trial_free(trial_t *trial)
{
    dpr_forecast_free(&trial->forecast);
    dpr_history_destroy(trial->history);
    dpr_durations_free(&trial->durations);
    dpr_timeline_free(&trial->typical);
    free(trial->enqueued_sec);
    free(trial->samples);
}

static dpr_status_t run_trial(trial_t *trial, bench_rank_t *self, referee_row_t *row,
                              referee_outcome_t *outcome)
{
    dpr_measurement_t measured = {0};
    const dpr_forecast_options_t forecast = forecast_options(trial);
    DPR_TRY(dpr_comm_agree(self->comm, trial_init(trial), NULL));
    /* a cost file for other stages is bad input, the same on all ranks */
    DPR_TRY(dpr_comm_agree(self->comm, dpr_forecast_check(&forecast), NULL));
    self->live = true;
    DPR_TRY(dpr_forecast_make(&forecast, &trial->forecast));
    DPR_TRY(measure(trial, &measured));
    const dpr_status_t status = compare(trial, &measured, row, outcome);
    dpr_measurement_free(&measured);
    DPR_TRY(status);
    self->live = false;
    return DPR_OK;
}

dpr_status_t referee_run_row(const referee_options_t *options, bench_rank_t *self,
                             bench_machine_t *machine, const dpr_cost_model_t *costs,
                             const dpr_train_config_t *config, referee_row_t *row,
                             referee_outcome_t *outcome)
{
    bench_rig_t rig;
    DPR_TRY(bench_rig_open(self, machine, config, &rig));
    trial_t trial = {.options = options, .costs = costs, .rig = &rig};
    snprintf(row->schedule, sizeof row->schedule, "%s", rig.program.name);
    row->micro_batches = rig.program.micro_batches;
    row->stages = rig.program.stages;
    row->model = rig.model;
    const dpr_status_t status = run_trial(&trial, self, row, outcome);
    trial_free(&trial);
    if (!self->live) { /* else the job is aborted */
        bench_rig_close(&rig);
    }
    return status;
}
