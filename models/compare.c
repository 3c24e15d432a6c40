/* Comparison: plays a schedule out and gathers what each model says of it. */
#include "models/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/simulate.h"
#include "schedule/generators.h"

dpr_uniform_costs_t dpr_costs_of_cut(const dpr_uniform_costs_t *costs, int ranks, int stages)
{
    const double share = (double)ranks / stages;
    return (dpr_uniform_costs_t){.f = costs->f * share,
                                 .i = costs->i * share,
                                 .w = costs->w * share,
                                 .b = costs->b * share, /* what is negative stays so */
                                 .fb = costs->fb * share,
                                 .wire = costs->wire};
}

static dpr_status_t check_costs(const dpr_uniform_costs_t *costs)
{
    const double all[] = {
        costs->f, costs->i, costs->w, dpr_uniform_b(costs), dpr_uniform_fb(costs), costs->wire};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!isfinite(all[i]) || all[i] < 0.0) {
            return dpr_fail(DPR_ERR_INVALID, "a cost is %g: expected a finite number, 0 or more",
                            all[i]);
        }
    }
    return DPR_OK;
}

static dpr_status_t check_cells(int stages, int micro_batches)
{
    if ((int64_t)stages * micro_batches > DPR_COMPARE_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "%d stages of %d micro-batches are too many to play out here: at most %d "
                        "in all",
                        stages, micro_batches, DPR_COMPARE_MAX_CELLS);
    }
    return DPR_OK;
}

static dpr_status_t compare_timeline(const dpr_graph_t *graph, const dpr_uniform_costs_t *costs,
                                     dpr_comparison_t *comparison)
{
    double *cost;
    dpr_timeline_t timeline;
    dpr_timeline_summary_t summary;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *cost, &cost));
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_timeline_init(&timeline, graph), free_cost);
    dpr_uniform_costs_fill(costs, graph, cost);
    dpr_simulate(graph, cost, &timeline);
    DPR_TRY_GOTO(dpr_timeline_summarize(&timeline, &summary), free_timeline);
    comparison->step_sec = summary.span_sec;
    comparison->bubble_ratio = summary.bubble_ratio;
    comparison->bubble_sec = summary.bubble_ratio * summary.span_sec;
    dpr_timeline_summary_free(&summary);
    if (!isfinite(comparison->step_sec)) {
        status = dpr_fail(DPR_ERR_INVALID, "the costs are too large: their sum is not finite");
    }
free_timeline:
    dpr_timeline_free(&timeline);
free_cost:
    free(cost);
    return status;
}

static dpr_status_t compare_traffic(const dpr_graph_t *graph, int64_t message_bytes,
                                    dpr_comparison_t *comparison)
{
    dpr_traffic_counts_t counts;
    DPR_TRY(dpr_traffic_count(graph, message_bytes, &counts));
    comparison->traffic = counts.total;
    for (int32_t r = 0; r < graph->ranks; r++) {
        const int64_t bytes = counts.sent[r].bytes;
        comparison->most_sent_bytes =
            bytes > comparison->most_sent_bytes ? bytes : comparison->most_sent_bytes;
    }
    dpr_traffic_free(&counts);
    return DPR_OK;
}

/* Parameters and activations in shares of the model: stages of one parameter each. */
static void compare_shares(const dpr_rank_memory_t *ranks, const dpr_graph_t *graph,
                           dpr_comparison_t *comparison)
{
    for (int32_t r = 0; r < graph->ranks; r++) {
        if (ranks[r].stages > comparison->stages_per_rank) {
            comparison->stages_per_rank = ranks[r].stages;
        }
        if (ranks[r].peak_activations > comparison->peak_activations) {
            comparison->peak_activations = ranks[r].peak_activations;
        }
    }
    const double share = (double)graph->ranks / graph->stages;
    comparison->activation_shares = comparison->peak_activations * share;
    comparison->parameter_copies = comparison->stages_per_rank * share;
}

static dpr_status_t compare_memory(const dpr_compare_config_t *config, const dpr_graph_t *graph,
                                   dpr_comparison_t *comparison)
{
    dpr_stage_memory_t *stages;
    dpr_rank_memory_t *ranks = NULL;
    dpr_memory_format_t format = {.slot_alignment = 1};
    DPR_TRY(dpr_calloc((size_t)graph->stages, sizeof *stages, &stages));
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)graph->ranks, sizeof *ranks, &ranks), free_all);
    if (config->stage_memory != NULL) {
        format = config->memory_format;
        DPR_TRY_GOTO(config->stage_memory(config->stage_memory_user, graph->stages, stages),
                     free_all);
    }
    DPR_TRY_GOTO(dpr_memory_count(graph, stages, &format, ranks), free_all);
    compare_shares(ranks, graph, comparison);
    if (config->stage_memory != NULL) {
        const int largest = dpr_memory_largest(ranks, graph->ranks);
        comparison->memory_bytes = ranks[largest].total_bytes;
        comparison->activation_bytes = ranks[largest].saved_bytes;
    }
free_all:
    free(ranks);
    free(stages);
    return status;
}

static dpr_status_t compare_graph(const dpr_compare_config_t *config, const dpr_graph_t *graph,
                                  dpr_comparison_t *comparison)
{
    const dpr_uniform_costs_t costs =
        config->costs_of_own_stages ? config->costs
                                    : dpr_costs_of_cut(&config->costs, graph->ranks, graph->stages);
    DPR_TRY(check_costs(&costs));
    DPR_TRY(compare_timeline(graph, &costs, comparison));
    DPR_TRY(compare_traffic(graph, config->message_bytes, comparison));
    DPR_TRY(compare_memory(config, graph, comparison));
    dpr_log_capture_t capture;
    char text[256];
    dpr_log_capture_begin(&capture, text, sizeof text);
    comparison->has_closed_form =
        dpr_schedule_find(comparison->schedule) != NULL &&
        dpr_bubble_closed_form(comparison->schedule, graph->ranks, graph->micro_batches, &costs,
                               &comparison->closed_form) == DPR_OK;
    dpr_log_capture_end(&capture);
    return DPR_OK;
}

dpr_status_t dpr_compare_program(const dpr_compare_config_t *config, const dpr_program_t *program,
                                 dpr_comparison_t *comparison)
{
    dpr_graph_t *graph;
    dpr_comparison_t made = {.runs = true, .stages = program->stages};
    DPR_TRY(check_costs(&config->costs));
    DPR_TRY(check_cells(program->stages, program->micro_batches));
    snprintf(made.schedule, sizeof made.schedule, "%s", program->name);
    DPR_TRY(dpr_graph_create(program, NULL, &graph));
    const dpr_status_t status = compare_graph(config, graph, &made);
    dpr_graph_destroy(graph);
    if (status == DPR_OK) {
        *comparison = made;
    }
    return status;
}

/* Whether the schedule allows (P, M); if not, `comparison` says why, without the newline that ends
 * a captured message. */
static bool runs(const dpr_compare_config_t *config, const char *schedule,
                 dpr_comparison_t *comparison)
{
    dpr_log_capture_t capture;
    dpr_comparison_t refused = {.runs = false};
    snprintf(refused.schedule, sizeof refused.schedule, "%s", schedule);
    dpr_log_capture_begin(&capture, refused.reason, sizeof refused.reason);
    const dpr_status_t status = dpr_schedule_check(schedule, config->ranks, config->micro_batches);
    dpr_log_capture_end(&capture);
    refused.reason[strcspn(refused.reason, "\n")] = '\0';
    *comparison = refused;
    return status == DPR_OK;
}

static dpr_status_t check_sizes(const dpr_compare_config_t *config)
{
    if (config->ranks < 1 || config->ranks > DPR_MAX_RANKS) {
        return dpr_fail(DPR_ERR_INVALID, "%d ranks: expected 1 to %d", config->ranks,
                        DPR_MAX_RANKS);
    }
    if (config->micro_batches < 1 || config->micro_batches > DPR_MAX_MICRO_BATCHES) {
        return dpr_fail(DPR_ERR_INVALID, "%d micro-batches: expected 1 to %d",
                        config->micro_batches, DPR_MAX_MICRO_BATCHES);
    }
    return DPR_OK;
}

dpr_status_t dpr_compare_schedule(const dpr_compare_config_t *config, const char *schedule,
                                  dpr_comparison_t *comparison)
{
    DPR_TRY(check_sizes(config));
    if (dpr_schedule_find(schedule) == NULL) {
        return dpr_schedule_check(schedule, config->ranks, config->micro_batches);
    }
    dpr_comparison_t refused;
    if (!runs(config, schedule, &refused)) {
        *comparison = refused;
        return DPR_OK;
    }
    DPR_TRY(
        check_cells(dpr_schedule_stages_per_rank(schedule) * config->ranks, config->micro_batches));
    dpr_program_t program;
    DPR_TRY(dpr_schedule_generate(schedule, config->ranks, config->micro_batches, &program));
    /* a program carries its family's name, which the table may spell with an option */
    snprintf(program.name, sizeof program.name, "%s", schedule);
    const dpr_status_t status = dpr_compare_program(config, &program, comparison);
    dpr_program_free(&program);
    return status;
}
