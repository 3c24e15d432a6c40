/* One row of the referee's grid: calibrated, predicted, played, measured, compared. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench_referee.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/prediction_error.h"
#include "models/simulate.h"
#include "runtime/calibrate.h"
#include "runtime/measure.h"

enum { PREDICTION_DRAWS = 400 };

/* A row at work. */
typedef struct trial {
    const referee_options_t *options;
    const dpr_cost_model_t *costs; /* model clock */
    bench_rig_t *rig;
    const dpr_graph_t *graph;
    dpr_cost_table_t table;
    dpr_durations_t durations;
    double offset_sec;
    double *cost; /* [node_count], at the means */
    dpr_timeline_t predicted;
    dpr_measurement_t prediction;
    dpr_step_sample_t *samples; /* [steps] of this rank */
    dpr_record_t *records;
    referee_parts_t step_parts;   /* sums over the steps */
    referee_parts_t bubble_parts; /* likewise */
} trial_t;

static bool is_model(const trial_t *trial)
{
    return trial->rig->machine->clock == DPR_CLOCK_MODEL;
}

/* ---- Calibration, as the trainer does it ---- */

static dpr_status_t fill_costs(trial_t *trial, const dpr_graph_t *graph, double *cost)
{
    const size_t bytes = dpr_pipeline_message_bytes(trial->rig->pipeline);
    return is_model(trial) ? dpr_cost_model_fill(trial->costs, graph, bytes, cost)
                           : dpr_cost_table_fill(&trial->table, graph, bytes, cost);
}

/* What the virtual clocks charge. */
static dpr_status_t set_costs(trial_t *trial)
{
    dpr_pipeline_t *pipeline = trial->rig->pipeline;
    DPR_TRY(fill_costs(trial, trial->graph, dpr_pipeline_cost(pipeline)));
    return fill_costs(trial, dpr_pipeline_eval_graph(pipeline), dpr_pipeline_eval_cost(pipeline));
}

static void set_op_costs(dpr_cost_table_t *table, double cost)
{
    const size_t rows = (size_t)table->ranks * (size_t)table->stages;
    for (size_t i = 0; i < 4 * rows; i++) {
        table->compute[i] = cost;
    }
    for (size_t i = 0; i < rows * (size_t)table->stages; i++) {
        table->fb[i] = cost;
    }
}

static dpr_status_t calibrate(trial_t *trial)
{
    bench_rig_t *rig = trial->rig;
    const size_t bytes = dpr_pipeline_message_bytes(rig->pipeline);
    double uncertainty_sec;
    DPR_TRY(dpr_cost_table_init(&trial->table, trial->graph->ranks, trial->graph->stages));
    DPR_TRY(dpr_calibrate_links(rig->machine->comm, trial->graph, bytes, &trial->table,
                                &trial->offset_sec, &uncertainty_sec));
    if (rig->machine->clock != DPR_CLOCK_WALL) {
        trial->offset_sec = 0.0; /* the ranks' virtual clocks start each step together */
    }
    set_op_costs(&trial->table, 0.0);
    DPR_TRY(set_costs(trial));
    set_op_costs(&trial->table, NAN);
    return dpr_calibrate_ops(rig->pipeline, rig->machine->comm, rig->machine->device, 0, 1.0F,
                             trial->options->calibrate_steps, trial->offset_sec, &trial->table,
                             &trial->durations);
}

/* Under the model clock there is nothing to measure: one calibration step, the cost model's. */
static dpr_status_t use_cost_model(trial_t *trial)
{
    trial->durations = (dpr_durations_t){.graph = trial->graph, .steps = 1};
    DPR_TRY(dpr_calloc((size_t)trial->graph->node_count, sizeof(double), &trial->durations.sec));
    return fill_costs(trial, trial->graph, trial->durations.sec);
}

static dpr_status_t predict(trial_t *trial)
{
    DPR_TRY(is_model(trial) ? use_cost_model(trial) : calibrate(trial));
    DPR_TRY(set_costs(trial));
    DPR_TRY(fill_costs(trial, trial->graph, trial->cost));
    dpr_simulate(trial->graph, trial->cost, &trial->predicted);
    return dpr_predict(&trial->durations, is_model(trial) ? 1 : PREDICTION_DRAWS,
                       trial->rig->config.seed, &trial->prediction);
}

/* ---- Steps ---- */

static void add_parts(const dpr_error_parts_t *error, referee_parts_t *parts)
{
    parts->cost += error->cost;
    parts->wire += error->wire;
    parts->rest += error->rest;
}

/* Why this step was not as simulated at mean costs. Collective. */
static dpr_status_t explain_step(trial_t *trial, dpr_timeline_t *measured)
{
    dpr_prediction_error_t error;
    DPR_TRY(dpr_measure_timeline(trial->rig->self->comm,
                                 dpr_pipeline_executor(trial->rig->pipeline), trial->offset_sec,
                                 measured));
    DPR_TRY(dpr_prediction_error_init(&trial->predicted, trial->cost, measured, &error));
    add_parts(&error.span_sec, &trial->step_parts);
    add_parts(&error.bubble_ratio, &trial->bubble_parts);
    dpr_prediction_error_free(&error);
    return DPR_OK;
}

static dpr_status_t play_steps(trial_t *trial, dpr_timeline_t *measured)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(trial->rig->pipeline);
    for (int k = -trial->options->common.warm_up; k < trial->options->steps; k++) {
        DPR_TRY(bench_rig_step(trial->rig));
        if (k >= 0) {
            dpr_executor_collect(executor, trial->records);
            dpr_step_sample_take(trial->graph, trial->records, dpr_executor_command_count(executor),
                                 &trial->samples[k]);
            DPR_TRY(explain_step(trial, measured));
        }
    }
    return DPR_OK;
}

static dpr_status_t measure(trial_t *trial, dpr_measurement_t *measurement)
{
    dpr_timeline_t timeline;
    DPR_TRY(dpr_timeline_init(&timeline, trial->graph));
    const dpr_status_t status = play_steps(trial, &timeline);
    dpr_timeline_free(&timeline);
    DPR_TRY(status);
    return dpr_measure_gather(trial->rig->self->comm, trial->samples, trial->options->steps,
                              trial->offset_sec, measurement);
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
    dpr_uniform_costs_mean(trial->graph, trial->cost, &costs);
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    row->has_closed_form =
        dpr_bubble_closed_form(program->name, program->ranks, program->micro_batches, &costs,
                               &bubble) == DPR_OK;
    dpr_log_capture_end(&capture);
    row->exactness = bubble.exactness;
    outcome->closed_step_sec = row->has_closed_form ? bubble.bubble_sec + bubble.busy_sec : NAN;
    outcome->closed_bubble = row->has_closed_form ? bubble.bubble_ratio : NAN;
}

/* Means over the steps. What the spread of the costs was known to do belongs to the prediction, so
 * it is taken out of the costs' part. */
static void fill_parts(const trial_t *trial, referee_outcome_t *outcome)
{
    const double steps = trial->options->steps;
    const double spread_sec = outcome->predicted_step_sec - outcome->means_step_sec;
    const double spread_bubble = outcome->predicted_bubble - outcome->means_bubble;
    outcome->step_parts = (referee_parts_t){.cost = trial->step_parts.cost / steps - spread_sec,
                                            .wire = trial->step_parts.wire / steps,
                                            .rest = trial->step_parts.rest / steps};
    outcome->bubble_parts =
        (referee_parts_t){.cost = trial->bubble_parts.cost / steps - spread_bubble,
                          .wire = trial->bubble_parts.wire / steps,
                          .rest = trial->bubble_parts.rest / steps};
}

static dpr_status_t compare(const trial_t *trial, const dpr_measurement_t *measured,
                            referee_row_t *row, referee_outcome_t *outcome)
{
    const dpr_measurement_t *prediction = &trial->prediction;
    dpr_timeline_summary_t means;
    DPR_TRY(dpr_timeline_summarize(&trial->predicted, &means));
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
    fill_parts(trial, outcome);
    return DPR_OK;
}

/* "host or order" is what no cost explains. */
static const char *largest_part(const referee_parts_t *parts)
{
    const double cost = fabs(parts->cost);
    const double wire = fabs(parts->wire);
    const double rest = fabs(parts->rest);
    if (cost >= wire && cost >= rest) {
        return "cost";
    }
    return wire >= rest ? "wire" : "host or order";
}

const char *referee_blame(const referee_outcome_t *outcome)
{
    if (!(fabs(referee_step_error(outcome)) <= REFEREE_STEP_LIMIT)) {
        return largest_part(&outcome->step_parts);
    }
    if (!(outcome->bubble_error <= REFEREE_BUBBLE_LIMIT)) {
        return largest_part(&outcome->bubble_parts);
    }
    return "-";
}

/* ---- The whole ---- */

static dpr_status_t trial_init(trial_t *trial)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(trial->rig->pipeline);
    trial->graph = dpr_pipeline_graph(trial->rig->pipeline);
    DPR_TRY(dpr_calloc((size_t)trial->graph->node_count, sizeof(double), &trial->cost));
    DPR_TRY(dpr_calloc((size_t)trial->options->steps, sizeof *trial->samples, &trial->samples));
    DPR_TRY(dpr_calloc((size_t)dpr_executor_command_count(executor), sizeof *trial->records,
                       &trial->records));
    return dpr_timeline_init(&trial->predicted, trial->graph);
}

static void trial_free(trial_t *trial)
{
    dpr_cost_table_free(&trial->table);
    dpr_durations_free(&trial->durations);
    dpr_measurement_free(&trial->prediction);
    dpr_timeline_free(&trial->predicted);
    free(trial->cost);
    free(trial->samples);
    free(trial->records);
}

static dpr_status_t run_trial(trial_t *trial, bench_rank_t *self, referee_row_t *row,
                              referee_outcome_t *outcome)
{
    dpr_measurement_t measured = {0};
    DPR_TRY(dpr_comm_agree(self->comm, trial_init(trial), NULL));
    if (is_model(trial)) { /* a cost file for other stages is bad input, the same on all ranks */
        DPR_TRY(dpr_comm_agree(self->comm, fill_costs(trial, trial->graph, trial->cost), NULL));
    }
    self->live = true;
    DPR_TRY(predict(trial));
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
