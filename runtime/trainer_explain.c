/* Keeps, predicts anew, and explains. */
#include "runtime/trainer_explain.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/costs.h"
#include "runtime/calibrate.h"
#include "runtime/trainer_impl.h"

enum { CLOCK_ROUNDS = 20 };

/* ---- Creation ---- */

/* Half of the steps by default, so that what follows is as long as what it was taken from. */
static long refresh_steps(const dpr_trainer_t *trainer)
{
    const long asked = trainer->config->refresh_steps;
    return asked >= 0 ? asked : (trainer->total_steps + 1) / 2;
}

dpr_status_t trainer_explain_create(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    const dpr_graph_t *graph = dpr_pipeline_graph(trainer->pipeline);
    const long kept =
        trainer->total_steps < EXPLAINER_STEPS ? trainer->total_steps : EXPLAINER_STEPS;
    e->refresh_steps = refresh_steps(trainer);
    e->promise_room =
        1 + (int)(e->refresh_steps > 0 ? (trainer->total_steps - 1) / e->refresh_steps : 0);
    DPR_TRY(dpr_history_create(dpr_pipeline_executor(trainer->pipeline), (int)(kept > 0 ? kept : 1),
                               &e->history));
    DPR_TRY(dpr_calloc((size_t)e->promise_room, sizeof *e->promises, &e->promises));
    DPR_TRY(dpr_calloc((size_t)e->promise_room, sizeof *e->promised, &e->promised));
    DPR_TRY(dpr_calloc((size_t)trainer->ranks, sizeof *e->clocks, &e->clocks));
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *e->measured_cost, &e->measured_cost));
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *e->enqueued_sec, &e->enqueued_sec));
    DPR_TRY(dpr_calloc((size_t)graph->channel_count, sizeof *e->links, &e->links));
    return dpr_timeline_init(&e->typical, graph);
}

void trainer_explain_destroy(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    dpr_history_destroy(e->history);
    for (int i = 0; i < e->promise_count && e->promised != NULL; i++) {
        dpr_measurement_free(&e->promised[i]);
    }
    free(e->promises);
    free(e->promised);
    free(e->clocks);
    free(e->measured_cost);
    free(e->enqueued_sec);
    free(e->links);
    dpr_durations_free(&e->measured);
    dpr_timeline_free(&e->typical);
    if (e->is_explained) {
        dpr_run_analysis_free(&e->analysis);
    }
    *e = (explainer_t){0};
}

/* ---- While the run goes on ---- */

dpr_status_t trainer_explain_clock(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    if (trainer_is_virtual(trainer)) {
        return DPR_OK; /* the ranks' virtual clocks start each step together */
    }
    const int at =
        e->exchange_count < EXPLAINER_EXCHANGES ? e->exchange_count++ : EXPLAINER_EXCHANGES - 1;
    DPR_TRY(dpr_clock_sample_take(trainer->comm, trainer->device, CLOCK_ROUNDS, &e->exchanges[at]));
    e->clock = dpr_clock_fit(e->exchanges, e->exchange_count);
    return DPR_OK;
}

/* What promise `i` promises, on rank 0: the first is the forecast. */
static const dpr_measurement_t *promised_by(const dpr_trainer_t *trainer, int i)
{
    return i == 0 ? &trainer->forecast.promised : &trainer->explainer.promised[i];
}

/* Adds a promise for the steps from `first` on, which ends the one before. */
static void add_promise(dpr_trainer_t *trainer, long first)
{
    explainer_t *e = &trainer->explainer;
    if (e->promise_count > 0) {
        e->promises[e->promise_count - 1].end_step = first;
    }
    const dpr_measurement_t *promised = promised_by(trainer, e->promise_count);
    e->promises[e->promise_count++] = (dpr_promise_t){.first_step = first,
                                                      .end_step = trainer->total_steps,
                                                      .span_predicted_sec = promised->span_sec,
                                                      .bubble_predicted = promised->bubble_ratio};
}

void trainer_explain_predicted(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    if (!trainer_is_virtual(trainer)) {
        memcpy(e->exchanges, trainer->forecast.exchanges, sizeof trainer->forecast.exchanges);
        e->exchange_count = 2;
        e->clock = dpr_clock_fit(e->exchanges, e->exchange_count);
    }
    add_promise(trainer, 0);
}

const dpr_record_t *trainer_explain_step(dpr_trainer_t *trainer, long step)
{
    return dpr_history_take(trainer->explainer.history, step);
}

dpr_status_t trainer_explain_refresh(dpr_trainer_t *trainer, long step)
{
    explainer_t *e = &trainer->explainer;
    if (e->refresh_steps == 0 || (step + 1) % e->refresh_steps != 0 ||
        step + 1 >= trainer->total_steps || e->promise_count >= e->promise_room ||
        step < trainer_first_measured(trainer)) {
        return DPR_OK;
    }
    DPR_TRY(trainer_explain_clock(trainer));
    dpr_durations_t durations = {0};
    DPR_TRY(dpr_history_gather(e->history, trainer->comm, dpr_pipeline_graph(trainer->pipeline),
                               &e->clock, dpr_history_kept(e->history), &durations, NULL, NULL,
                               NULL));
    dpr_status_t status = DPR_OK;
    if (trainer->rank == 0) {
        status = dpr_predict(&durations, DPR_FORECAST_DRAWS, trainer->config->seed,
                             &e->promised[e->promise_count], NULL, NULL);
    }
    dpr_durations_free(&durations);
    DPR_TRY(dpr_comm_agree(trainer->comm, status, NULL));
    add_promise(trainer, step + 1);
    return DPR_OK;
}

/* ---- After the run: promises kept ---- */

/* From here on the samples' times are by rank 0's clock. */
static void correct_samples(dpr_trainer_t *trainer)
{
    const dpr_clock_fit_t *clock = &trainer->explainer.clock;
    for (long k = 0; k < trainer->total_steps; k++) {
        dpr_step_sample_t *sample = &trainer->samples[k];
        sample->first_start_sec = dpr_clock_to_rank0(clock, sample->first_start_sec);
        sample->last_end_sec = dpr_clock_to_rank0(clock, sample->last_end_sec);
    }
}

static void compare_promise(const dpr_measurement_t *promised, const dpr_measurement_t *measured,
                            dpr_promise_t *promise)
{
    promise->span_measured_sec = measured->span_sec;
    promise->bubble_measured = measured->bubble_ratio;
    for (int r = 0; r < measured->ranks; r++) {
        promise->mean_rank_error +=
            fabs(measured->rank_bubble_ratio[r] - promised->rank_bubble_ratio[r]) / measured->ranks;
    }
}

static dpr_status_t judge_promises(dpr_trainer_t *trainer, long first_step)
{
    explainer_t *e = &trainer->explainer;
    for (int i = 0; i < e->promise_count; i++) {
        dpr_promise_t *promise = &e->promises[i];
        dpr_measurement_t measured;
        if (promise->first_step < first_step && first_step < promise->end_step) {
            promise->first_step = first_step;
        }
        DPR_TRY(dpr_measure_gather(trainer->comm, trainer->samples + promise->first_step,
                                   promise->end_step - promise->first_step, 0.0, &measured));
        if (trainer->rank == 0) {
            compare_promise(promised_by(trainer, i), &measured, promise);
        }
        dpr_measurement_free(&measured);
    }
    return DPR_OK;
}

/* ---- After the run: one step explained ---- */

static void find_means(const dpr_durations_t *durations, double *mean)
{
    const size_t nodes = (size_t)durations->graph->node_count;
    for (size_t n = 0; n < nodes; n++) {
        mean[n] = 0.0;
        for (int k = 0; k < durations->steps; k++) {
            mean[n] += durations->sec[(size_t)k * nodes + n] / durations->steps;
        }
    }
}

/* A full backward of stage `stage` alone; NAN where no such op ran on the rank. */
static double backward_of(const double *row)
{
    return isfinite(row[DPR_ACTION_B]) ? row[DPR_ACTION_B] : row[DPR_ACTION_I] + row[DPR_ACTION_W];
}

/* Sums over the kinds of F&B whose parts also ran alone, on the same rank. */
static dpr_status_t find_overlap(const dpr_durations_t *durations, dpr_explanation_t *explanation)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t stages = (size_t)graph->stages;
    const size_t rows = (size_t)graph->ranks * stages;
    dpr_cost_table_t table;
    double any = 0.0;
    DPR_TRY(dpr_cost_table_init(&table, graph->ranks, graph->stages));
    const dpr_status_t status = dpr_calibrate_from_durations(durations, &table);
    explanation->fused_sec = 0.0;
    explanation->separate_sec = 0.0;
    for (size_t i = 0; i < rows * stages && status == DPR_OK; i++) {
        const size_t b_row = i / stages / stages * stages + i % stages;
        const double separate =
            table.compute[4 * (i / stages) + DPR_ACTION_F] + backward_of(&table.compute[4 * b_row]);
        any = isfinite(table.fb[i]) ? any + table.fb[i] : any;
        if (isfinite(table.fb[i]) && isfinite(separate)) {
            explanation->fused_sec += table.fb[i];
            explanation->separate_sec += separate;
        }
    }
    if (explanation->fused_sec == 0.0 && any > 0.0) {
        explanation->fused_sec = any;
        explanation->separate_sec = NAN;
    }
    dpr_cost_table_free(&table);
    return status;
}

__attribute__((format(printf, 3, 4))) static void add_fact(explainer_t *e, const char *name,
                                                           const char *format, ...)
{
    va_list arguments;
    const size_t at = e->run.fact_count++;
    va_start(arguments, format);
    vsnprintf(e->texts[at], sizeof e->texts[at], format, arguments);
    va_end(arguments);
    e->facts[at] = (dpr_run_fact_t){.name = name, .value = e->texts[at]};
}

static void add_facts(const dpr_trainer_t *trainer, explainer_t *e)
{
    const dpr_model_config_t *model = &trainer->model;
    dpr_device_info_t info;
    dpr_device_info(trainer->device, &info);
    add_fact(e, "program", "dualpipe_train");
    add_fact(e, "device", "%s", info.name);
    add_fact(e, "clock", "%s", trainer->clock_reason);
    add_fact(e, "model", "%d blocks, hidden %d, ffn %d, micro-batches of %d", model->blocks,
             model->hidden, model->ffn, model->micro_batch_size);
    add_fact(e, "step", "%ld, the nearest to the medians of the last %d", e->explanation.step + 1,
             e->explanation.steps_kept);
}

/* Two channels of one pair, one for each kind of traffic, are one link. */
static bool has_link(const explainer_t *e, const dpr_channel_t *channel)
{
    for (size_t i = 0; i < e->run.link_count; i++) {
        if (e->links[i].source == channel->source &&
            e->links[i].destination == channel->destination) {
            return true;
        }
    }
    return false;
}

static void add_links(const dpr_trainer_t *trainer, explainer_t *e)
{
    const dpr_graph_t *graph = dpr_pipeline_graph(trainer->pipeline);
    const dpr_cost_table_t *table = &trainer->forecast.table;
    for (int32_t c = 0; c < graph->channel_count && table->latency_sec != NULL; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        const size_t at =
            (size_t)channel->source * (size_t)table->ranks + (size_t)channel->destination;
        if (has_link(e, channel) || !isfinite(table->latency_sec[at]) ||
            !isfinite(table->bandwidth_bytes_per_sec[at])) {
            continue; /* not measured */
        }
        e->links[e->run.link_count++] =
            (dpr_run_link_t){.source = channel->source,
                             .destination = channel->destination,
                             .latency_sec = table->latency_sec[at],
                             .bandwidth_bytes_per_sec = table->bandwidth_bytes_per_sec[at]};
    }
}

static void fill_run(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    const dpr_train_config_t *config = trainer->config;
    e->run = (dpr_run_t){
        .schedule = trainer->program.name,
        .clock = dpr_clock_name(trainer->clock),
        .unit = "s",
        .facts = e->facts,
        .program = &trainer->program,
        .options = {.recv_slots = config->recv_slots,
                    .recv_ahead = config->recv_ahead,
                    .send_slots = config->send_slots},
        .graph = dpr_pipeline_graph(trainer->pipeline),
        .cost = trainer->forecast.typical_cost,
        .expected_cost = trainer->forecast.mean_cost,
        .delay_sec = trainer->forecast.typical_delay_sec,
        .predicted = trainer->forecast.typical,
        .is_measured = true,
        .measured = e->typical,
        .measured_cost = e->measured_cost,
        .enqueued_sec = trainer_is_virtual(trainer) ? NULL : e->enqueued_sec,
        .links = e->links,
        .message_bytes = (double)dpr_pipeline_message_bytes(trainer->pipeline),
    };
    e->run.has_closed_form = trainer_closed_form(trainer, &e->run.closed_form);
    add_facts(trainer, e);
    add_links(trainer, e);
}

/* Rank 0's part. */
static dpr_status_t explain_step(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    find_means(&e->measured, e->measured_cost);
    fill_run(trainer);
    DPR_TRY(find_overlap(&e->measured, &e->explanation));
    DPR_TRY(dpr_run_analyse(&e->run, &e->analysis));
    e->is_explained = true;
    e->explanation.run = &e->run;
    e->explanation.analysis = &e->analysis;
    e->explanation.promises = e->promises;
    e->explanation.promise_count = e->promise_count;
    e->explanation.clocks = trainer_is_virtual(trainer) ? NULL : e->clocks;
    return DPR_OK;
}

dpr_status_t trainer_explain(dpr_trainer_t *trainer)
{
    explainer_t *e = &trainer->explainer;
    const long first_step = trainer_first_measured(trainer);
    if (trainer->total_steps == 0) {
        return DPR_OK;
    }
    const long measured = trainer->total_steps - first_step;
    const int kept =
        dpr_history_kept(e->history) < measured ? dpr_history_kept(e->history) : (int)measured;
    correct_samples(trainer);
    DPR_TRY(judge_promises(trainer, first_step));
    DPR_TRY(dpr_comm_allgather(trainer->comm, &e->clock, sizeof e->clock, e->clocks));
    e->explanation = (dpr_explanation_t){.steps_kept = kept,
                                         .steps_seen = dpr_history_seen(e->history),
                                         .history_bytes = dpr_history_bytes(e->history)};
    DPR_TRY(dpr_history_gather(e->history, trainer->comm, dpr_pipeline_graph(trainer->pipeline),
                               &e->clock, kept, &e->measured, &e->typical, e->enqueued_sec,
                               &e->explanation.step));
    /* A run that cannot be explained was trained all the same; the reason is logged. */
    if (trainer->rank == 0 && explain_step(trainer) != DPR_OK) {
        dpr_log(DPR_LOG_WARNING, "the run is not explained");
    }
    return DPR_OK;
}
