/* Calibrates, sets the costs, simulates. */
#include "runtime/forecast.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "models/simulate.h"
#include "runtime/calibrate.h"

/* ---- Costs ---- */

static bool is_model(const dpr_forecast_options_t *options)
{
    return dpr_device_clock(options->device) == DPR_CLOCK_MODEL;
}

static dpr_status_t fill_costs(const dpr_forecast_options_t *options,
                               const dpr_forecast_t *forecast, const dpr_graph_t *graph,
                               double *cost)
{
    const size_t bytes = dpr_pipeline_message_bytes(options->pipeline);
    return is_model(options) ? dpr_cost_model_fill(options->cost_model, graph, bytes, cost)
                             : dpr_cost_table_fill(&forecast->table, graph, bytes, cost);
}

/* What virtual clocks charge. */
static dpr_status_t set_costs(const dpr_forecast_options_t *options, const dpr_forecast_t *forecast)
{
    dpr_pipeline_t *pipeline = options->pipeline;
    DPR_TRY(
        fill_costs(options, forecast, dpr_pipeline_graph(pipeline), dpr_pipeline_cost(pipeline)));
    return fill_costs(options, forecast, dpr_pipeline_eval_graph(pipeline),
                      dpr_pipeline_eval_cost(pipeline));
}

dpr_status_t dpr_forecast_check(const dpr_forecast_options_t *options)
{
    return is_model(options) ? set_costs(options, NULL) : DPR_OK;
}

/* ---- Calibration ---- */

/* Sets every op's cost in the table: 0 to have the links' alone, NAN to have them measured. */
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

/* An all-reduce is charged as one exchange over the slowest link, there and back. */
static void set_reduction_cost(const dpr_cost_table_t *table, dpr_pipeline_t *pipeline)
{
    double latency = 0.0;
    double sec_per_byte = 0.0;
    for (int i = 0; i < table->ranks * table->ranks; i++) {
        if (isfinite(table->latency_sec[i])) {
            latency = fmax(latency, 2.0 * table->latency_sec[i]);
            sec_per_byte = fmax(sec_per_byte, 1.0 / table->bandwidth_bytes_per_sec[i]);
        }
    }
    dpr_pipeline_set_reduction_cost(pipeline, latency, sec_per_byte);
}

static dpr_status_t calibrate(const dpr_forecast_options_t *options, dpr_forecast_t *forecast)
{
    dpr_pipeline_t *pipeline = options->pipeline;
    dpr_cost_table_t *table = &forecast->table;
    DPR_TRY(dpr_cost_table_init(table, forecast->graph->ranks, forecast->graph->stages));
    DPR_TRY(dpr_calibrate_links(options->comm, forecast->graph,
                                dpr_pipeline_message_bytes(pipeline), table));
    set_op_costs(table, 0.0);
    DPR_TRY(set_costs(options, forecast));
    set_reduction_cost(table, pipeline);
    set_op_costs(table, NAN);
    return dpr_calibrate_ops(pipeline, options->comm, options->device, 0, options->loss_scale,
                             options->calibrate_steps, table, &forecast->durations,
                             forecast->exchanges);
}

/* Under the model clock there is nothing to draw: one calibration step, which is the cost model. */
static dpr_status_t use_cost_model(const dpr_forecast_options_t *options, dpr_forecast_t *forecast)
{
    const dpr_graph_t *graph = forecast->graph;
    DPR_TRY(dpr_durations_init(graph, 1, &forecast->durations));
    return fill_costs(options, forecast, graph, forecast->durations.sec);
}

/* ---- The whole ---- */

static dpr_status_t allocate(dpr_forecast_t *forecast)
{
    const size_t nodes = (size_t)forecast->graph->node_count;
    DPR_TRY(dpr_calloc(nodes, sizeof(double), &forecast->mean_cost));
    DPR_TRY(dpr_calloc(nodes, sizeof(double), &forecast->typical_cost));
    DPR_TRY(dpr_calloc(nodes, sizeof(double), &forecast->typical_delay_sec));
    DPR_TRY(dpr_timeline_init(&forecast->at_means, forecast->graph));
    return dpr_timeline_init(&forecast->typical, forecast->graph);
}

static dpr_status_t predict(const dpr_forecast_options_t *options, dpr_forecast_t *forecast)
{
    const dpr_graph_t *graph = forecast->graph;
    DPR_TRY(fill_costs(options, forecast, graph, forecast->mean_cost));
    dpr_simulate(graph, forecast->mean_cost, &forecast->at_means);
    DPR_TRY(dpr_predict(&forecast->durations, is_model(options) ? 1 : DPR_FORECAST_DRAWS,
                        options->seed, &forecast->promised, forecast->typical_cost,
                        forecast->typical_delay_sec));
    dpr_simulate_delayed(graph, forecast->typical_cost, forecast->typical_delay_sec, NULL,
                         &forecast->typical);
    return DPR_OK;
}

dpr_status_t dpr_forecast_make(const dpr_forecast_options_t *options, dpr_forecast_t *forecast)
{
    *forecast = (dpr_forecast_t){.graph = dpr_pipeline_graph(options->pipeline)};
    DPR_TRY(dpr_comm_agree(options->comm, allocate(forecast), NULL));
    DPR_TRY(is_model(options) ? use_cost_model(options, forecast) : calibrate(options, forecast));
    DPR_TRY(set_costs(options, forecast));
    return predict(options, forecast);
}

void dpr_forecast_free(dpr_forecast_t *forecast)
{
    dpr_cost_table_free(&forecast->table);
    dpr_durations_free(&forecast->durations);
    dpr_measurement_free(&forecast->promised);
    dpr_timeline_free(&forecast->at_means);
    dpr_timeline_free(&forecast->typical);
    free(forecast->mean_cost);
    free(forecast->typical_cost);
    free(forecast->typical_delay_sec);
    *forecast = (dpr_forecast_t){0};
}
