/* What a run measured and predicted, put together on rank 0. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"

/* Steps at the start that are left out of the measurement where there are enough: caches and clocks
 * settle. */
enum { WARM_UP_STEPS = 2, ENOUGH_STEPS = 10 };

long trainer_first_measured(const dpr_trainer_t *trainer)
{
    return trainer->total_steps >= ENOUGH_STEPS ? WARM_UP_STEPS : 0;
}

/* ---- Parameters: one hash, and replicas equal ---- */

static dpr_status_t hash_held_stages(dpr_trainer_t *trainer, uint64_t *hashes)
{
    dpr_stream_t *stream;
    dpr_status_t status = DPR_OK;
    DPR_TRY(dpr_stream_create(trainer->device, "hash", 0, &stream));
    for (int s = 0; s < trainer->program.stages && status == DPR_OK; s++) {
        dpr_stage_t *stage = dpr_pipeline_stage(trainer->pipeline, s);
        const size_t bytes = dpr_pipeline_shapes(trainer->pipeline)[s].parameters * sizeof(float);
        void *copy;
        if (stage == NULL) {
            continue;
        }
        DPR_TRY_GOTO(dpr_device_alloc(trainer->device, DPR_MEMORY_PINNED, bytes, &copy),
                     destroy_stream);
        status = dpr_stream_copy(stream, copy, dpr_stage_parameters(stage), bytes);
        if (status == DPR_OK) {
            status = dpr_stream_synchronize(stream);
        }
        hashes[s] = XXH3_64bits(copy, bytes);
        dpr_device_free(trainer->device, DPR_MEMORY_PINNED, copy);
    }

destroy_stream:
    dpr_stream_destroy(stream);
    return status;
}

/* all[rank * S + stage], 0 where not held. */
static dpr_status_t join_hashes(const dpr_trainer_t *trainer, const uint64_t *all, char *text,
                                size_t size)
{
    XXH64_hash_t joined = 0;
    dpr_status_t status = DPR_OK;
    const int stages = trainer->program.stages;
    for (int s = 0; s < stages; s++) {
        const int owner = dpr_pipeline_owner(trainer->pipeline, s);
        const uint64_t hash = all[owner * stages + s];
        for (int r = 0; r < trainer->ranks; r++) {
            const uint64_t other = all[r * stages + s];
            if (other != 0 && other != hash) {
                status = dpr_fail(DPR_ERR_MISMATCH,
                                  "the replicas of stage %d on ranks %d and %d have drifted apart",
                                  s, owner, r);
            }
        }
        joined = XXH3_64bits_withSeed(&hash, sizeof hash, joined);
    }
    snprintf(text, size, "%016llx", (unsigned long long)joined);
    return status;
}

static dpr_status_t hash_parameters(dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    const size_t stages = (size_t)trainer->program.stages;
    uint64_t *mine = NULL;
    uint64_t *all = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(stages, sizeof *mine, &mine), free_hashes);
    DPR_TRY_GOTO(dpr_calloc(stages * (size_t)trainer->ranks, sizeof *all, &all), free_hashes);
    DPR_TRY_GOTO(hash_held_stages(trainer, mine), free_hashes);
    DPR_TRY_GOTO(dpr_comm_allgather(trainer->comm, mine, stages * sizeof *mine, all), free_hashes);
    status = join_hashes(trainer, all, report->parameters_hash, sizeof report->parameters_hash);

free_hashes:
    free(mine);
    free(all);
    return status;
}

/* ---- Facts ---- */

static void fill_run(const dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    const dpr_model_config_t *model = &trainer->model;
    const dpr_stage_shape_t *shapes = dpr_pipeline_shapes(trainer->pipeline);
    dpr_device_info_t info;
    dpr_device_info(trainer->device, &info);
    snprintf(report->schedule, sizeof report->schedule, "%s", trainer->program.name);
    snprintf(report->data, sizeof report->data, "%s", trainer->config->data);
    snprintf(report->device, sizeof report->device, "%s", info.name);
    snprintf(report->device_reason, sizeof report->device_reason, "%s", trainer->choice.reason);
    snprintf(report->dtype, sizeof report->dtype, "%s", dpr_dtype_name(model->dtype));
    dpr_comm_describe(trainer->comm, report->comm, sizeof report->comm);
    report->cuda_graph = trainer->config->cuda_graph;
    snprintf(report->clock, sizeof report->clock, "%s", dpr_clock_name(trainer->clock));
    snprintf(report->clock_reason, sizeof report->clock_reason, "%s", trainer->clock_reason);
    snprintf(report->optimizer, sizeof report->optimizer, "%s",
             dpr_optimizer_kind_name(trainer->config->optimizer.kind));
    report->ranks = trainer->ranks;
    report->stages = trainer->program.stages;
    report->micro_batches = trainer->program.micro_batches;
    report->micro_batch_size = model->micro_batch_size;
    report->input = model->input;
    report->hidden = model->hidden;
    report->ffn = model->ffn;
    report->blocks = model->blocks;
    report->classes = model->classes;
    report->seed = trainer->config->seed;
    for (int s = 0; s < trainer->program.stages; s++) {
        report->parameters += (double)shapes[s].parameters;
        report->gemm_flops_per_step +=
            trainer->program.micro_batches *
            (shapes[s].forward_flops + shapes[s].input_flops + shapes[s].weight_flops);
    }
}

/* Moves the per-step losses into the report. */
static void fill_results(dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    const long steps = trainer->total_steps;
    report->epochs = (int)((steps + trainer->steps_per_epoch - 1) / trainer->steps_per_epoch);
    report->steps = steps;
    report->loss = trainer->loss;
    trainer->loss = NULL;
    if (trainer->tested) {
        report->test_accuracy = trainer->test_accuracy;
        report->test_loss = trainer->test_loss;
        report->test_samples = trainer->test_samples;
    }
    report->train_sec = trainer->train_sec;
    report->samples_per_sec = (double)steps * (double)trainer->global_batch / trainer->train_sec;
    report->verify = trainer->verifier.result;
    if (trainer->train_feed.loader != NULL) {
        dpr_loader_stalls_t stalls;
        dpr_loader_stalls(trainer->train_feed.loader, &stalls);
        report->loader_stalls = stalls.count;
        report->loader_stall_sec = stalls.sec;
    }
}

static void fill_scheduler(const dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(trainer->pipeline);
    double cpu_sec;
    uint64_t commands;
    dpr_executor_scheduler_cost(executor, &cpu_sec, &commands);
    report->scheduler_ns_per_op = commands > 0 ? 1e9 * cpu_sec / (double)commands : 0.0;
    report->scheduler_ops_per_step = dpr_executor_command_count(executor);
    const long first = trainer_first_measured(trainer);
    const size_t count = (size_t)(trainer->total_steps - first);
    report->reduction_sec = dpr_percentile(trainer->reduction_sec + first, count, 0.5);
    report->update_sec = dpr_percentile(trainer->update_sec + first, count, 0.5);
}

/* ---- Prediction and measurement ---- */

bool trainer_closed_form(const dpr_trainer_t *trainer, dpr_bubble_t *form)
{
    dpr_uniform_costs_t costs;
    char refused[512];
    dpr_log_capture_t capture; /* a program from a file has no closed form, which is no fault */
    dpr_uniform_costs_mean(trainer->forecast.graph, trainer->forecast.mean_cost, &costs);
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    const dpr_status_t status = dpr_bubble_closed_form(
        trainer->program.name, trainer->ranks, trainer->program.micro_batches, &costs, form);
    dpr_log_capture_end(&capture);
    return status == DPR_OK;
}

static void fill_prediction(const dpr_trainer_t *trainer, const dpr_timeline_summary_t *at_means,
                            dpr_train_report_t *report)
{
    const dpr_forecast_t *forecast = &trainer->forecast;
    dpr_uniform_costs_mean(forecast->graph, forecast->mean_cost, &report->costs);
    report->step_predicted_sec = forecast->promised.span_sec;
    report->step_at_means_sec = at_means->span_sec;
    report->bubble_simulated = forecast->promised.bubble_ratio;
    report->bubble_at_means = at_means->bubble_ratio;
    report->has_closed_form = trainer_closed_form(trainer, &report->closed_form);
}

static void fill_measurement(const dpr_trainer_t *trainer, const dpr_measurement_t *measured,
                             const dpr_timeline_t *last_step, dpr_train_report_t *report)
{
    report->step_measured_sec = measured->span_sec;
    report->step_p10_sec = measured->span_p10_sec;
    report->step_p90_sec = measured->span_p90_sec;
    report->bubble_measured = measured->bubble_ratio;
    report->timeline_difference = dpr_timeline_difference(last_step, &trainer->forecast.at_means);
    for (int r = 0; r < trainer->ranks; r++) {
        report->clock_uncertainty_sec =
            fmax(report->clock_uncertainty_sec, trainer->explainer.clocks[r].uncertainty_sec);
    }
}

/* What each rank tells of its device and memory. */
typedef struct rank_facts {
    double arena_bytes;
    double predicted_bytes;
    double workspace_bytes;
    double peak_bytes;
    dpr_device_info_t device;
} rank_facts_t;

static dpr_status_t gather_facts(const dpr_trainer_t *trainer, rank_facts_t *all)
{
    dpr_pipeline_memory_t memory;
    size_t now, peak;
    dpr_pipeline_memory(trainer->pipeline, &memory);
    dpr_device_memory_usage(trainer->device, &now, &peak);
    rank_facts_t mine = {.arena_bytes = (double)memory.arena_bytes,
                         .predicted_bytes = (double)memory.total_bytes,
                         .workspace_bytes = (double)memory.workspace_bytes,
                         .peak_bytes = (double)peak};
    dpr_device_info(trainer->device, &mine.device);
    return dpr_comm_allgather(trainer->comm, &mine, sizeof mine, all);
}

static void set_device(const dpr_device_info_t *info, dpr_rank_report_t *rank)
{
    snprintf(rank->device, sizeof rank->device, "%s", info->name);
    snprintf(rank->driver, sizeof rank->driver, "%s", info->driver);
    snprintf(rank->pci, sizeof rank->pci, "%s", info->pci);
    rank->numa_node = info->numa_node;
}

static dpr_status_t fill_ranks(dpr_trainer_t *trainer, const dpr_measurement_t *measured,
                               dpr_train_report_t *report)
{
    rank_facts_t *facts;
    DPR_TRY(dpr_calloc((size_t)trainer->ranks, sizeof *facts, &facts));
    dpr_status_t status = gather_facts(trainer, facts);
    if (status == DPR_OK) {
        status = dpr_calloc((size_t)trainer->ranks, sizeof *report->rank, &report->rank);
    }
    for (int r = 0; r < trainer->ranks && status == DPR_OK; r++) {
        report->rank[r] = (dpr_rank_report_t){
            .bubble_closed_form = report->has_closed_form ? report->closed_form.bubble_ratio : NAN,
            .bubble_simulated = trainer->forecast.promised.rank_bubble_ratio[r],
            .bubble_measured = measured->rank_bubble_ratio[r],
            .busy_predicted_sec = trainer->forecast.promised.busy_sec[r],
            .busy_measured_sec = measured->busy_sec[r],
            .peak_activations =
                dpr_graph_peak_activations(dpr_pipeline_graph(trainer->pipeline), r),
            .arena_bytes = facts[r].arena_bytes,
            .predicted_memory_bytes = facts[r].predicted_bytes,
            .workspace_bytes = facts[r].workspace_bytes,
            .memory_bytes = facts[r].peak_bytes,
        };
        set_device(&facts[r].device, &report->rank[r]);
    }
    free(facts);
    return status;
}

static double last_step_offset(const dpr_trainer_t *trainer)
{
    const dpr_clock_fit_t *clock = &trainer->explainer.clock;
    return trainer->total_steps > 0
               ? dpr_clock_offset_at(clock,
                                     trainer->samples[trainer->total_steps - 1].first_start_sec)
               : 0.0;
}

static dpr_status_t fill_bubbles(dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    const long first = trainer_first_measured(trainer);
    dpr_timeline_summary_t at_means = {0};
    dpr_measurement_t measured = {0};
    dpr_timeline_t last_step = {0};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_timeline_summarize(&trainer->forecast.at_means, &at_means), free_parts);
    DPR_TRY_GOTO(dpr_measure_gather(trainer->comm, trainer->samples + first,
                                    trainer->total_steps - first, 0.0, &measured),
                 free_parts);
    DPR_TRY_GOTO(dpr_timeline_init(&last_step, dpr_pipeline_graph(trainer->pipeline)), free_parts);
    DPR_TRY_GOTO(dpr_measure_timeline(trainer->comm, dpr_pipeline_executor(trainer->pipeline),
                                      last_step_offset(trainer), &last_step),
                 free_parts);
    fill_prediction(trainer, &at_means, report);
    fill_measurement(trainer, &measured, &last_step, report);
    status = fill_ranks(trainer, &measured, report);

free_parts:
    dpr_timeline_free(&last_step);
    dpr_measurement_free(&measured);
    dpr_timeline_summary_free(&at_means);
    return status;
}

/* ---- The whole ---- */

/* The comparison took place on rank 0; every rank's answer is its. */
static dpr_status_t judge_verification(dpr_trainer_t *trainer)
{
    const dpr_verify_report_t *result = &trainer->verifier.result;
    dpr_status_t status = DPR_OK;
    if (trainer->rank == 0 && result->done &&
        !(result->loss_difference <= result->tolerance &&
          result->gradient_difference <= result->tolerance)) {
        status = dpr_fail(DPR_ERR_MISMATCH,
                          "verification failed: losses differ from one process by %.2e and "
                          "gradients by %.2e relative, %.0e is allowed",
                          result->loss_difference, result->gradient_difference, result->tolerance);
    }
    return dpr_comm_agree(trainer->comm, status, NULL);
}

dpr_status_t trainer_report(dpr_trainer_t *trainer, dpr_train_report_t *report)
{
    fill_run(trainer, report);
    fill_results(trainer, report);
    fill_scheduler(trainer, report);
    DPR_TRY(trainer_explain(trainer));
    report->explanation = trainer->explainer.is_explained ? &trainer->explainer.explanation : NULL;
    DPR_TRY(fill_bubbles(trainer, report));
    const dpr_status_t hashed =
        dpr_comm_agree(trainer->comm, hash_parameters(trainer, report), NULL);
    const dpr_status_t verified = judge_verification(trainer);
    return hashed != DPR_OK ? hashed : verified;
}
