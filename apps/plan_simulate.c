/* dualpipe_plan simulate: the predicted timeline of a program in numbers. */
#include "apps/plan.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "apps/plan_options.h"
#include "apps/plan_perturb.h"
#include "apps/plan_view.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/bubbles.h"
#include "models/simulate.h"

typedef struct options {
    plan_source_t source;
    dpr_uniform_costs_t costs;
    dpr_graph_options_t graph;
    plan_perturb_t perturb;
    plan_view_t view;
    bool json;
} options_t;

static const option_row_t graph_options[] = {
    {"recv-slots", "N",
     "Receive buffers a channel; 0 (default): what the schedule needs and --recv-ahead more",
     OPTION_FIELD(dpr_graph_options_t, recv_slots), 0, DPR_MAX_MICRO_BATCHES},
    {"recv-ahead", "N", "Receives posted ahead of need (default 2)",
     OPTION_FIELD(dpr_graph_options_t, recv_ahead), 0, DPR_MAX_MICRO_BATCHES},
    {"send-slots", "N",
     "Send buffers a channel; 0 (default): 2, or more where the schedule needs it",
     OPTION_FIELD(dpr_graph_options_t, send_slots), 0, DPR_MAX_MICRO_BATCHES},
    {0},
};

static const option_row_t own_options[] = {
    {"json", NULL, "Print JSON", OPTION_FIELD(options_t, json)},
    {0},
};

static const char doc[] =
    "Simulates a program with the given costs: makespan, bubbles and peak activations, beside the "
    "closed form of its bubble and whether that is exact for these costs."
    "\vExamples:\n"
    "  dualpipe_plan simulate --schedule dualpipe --ranks 8 --micro-batches 20\n"
    "  dualpipe_plan simulate --schedule-file plan.csv --cost F=1,B=2,wire=0.1\n"
    "  dualpipe_plan simulate --schedule 1f1b --ranks 4 --micro-batches 16 \\\n"
    "      --straggler 2=1.3 --jitter 0.1\n"
    "  dualpipe_plan simulate --schedule dualpipe --ranks 4 --micro-batches 8 \\\n"
    "      --ascii --ledger --trace step.json --html step.html";

/* What is printed. */
typedef struct result {
    const options_t *options;
    const dpr_program_t *program;
    const dpr_graph_t *graph;
    dpr_timeline_t timeline;
    double *cost;
    double *expected; /* cost[node] but for the stragglers */
    dpr_timeline_summary_t summary;
    bool has_form;
    dpr_bubble_t form;
    dpr_uniform_costs_t costs; /* means, where there is a cost file */
    dpr_montecarlo_t drawn;    /* where there is jitter */
} result_t;

static void print_form(const result_t *result)
{
    if (!result->has_form) {
        printf("closed form    none known for this program\n");
        return;
    }
    printf("closed form    bubble %g, ratio %.2f %% (%s", result->form.bubble_sec,
           100.0 * result->form.bubble_ratio, dpr_exactness_name(result->form.exactness));
    if (result->form.exactness == DPR_EXACT) {
        printf(" for these costs)\n");
    } else {
        printf("; exact where: %s)\n", result->form.condition);
    }
}

static void print_drawn(const result_t *result)
{
    const dpr_distribution_t *span = &result->drawn.span_sec;
    const dpr_distribution_t *ratio = &result->drawn.bubble_ratio;
    if (result->options->perturb.jitter > 0.0) {
        printf("with jitter    makespan mean %g, p95 %g, from %g to %g; bubble mean %.2f %%, p95 "
               "%.2f %% (%d draws)\n",
               span->mean, span->p95, span->min, span->max, 100.0 * ratio->mean, 100.0 * ratio->p95,
               result->options->perturb.draws);
    }
}

static void print_text(const result_t *result)
{
    const dpr_program_t *program = result->program;
    const dpr_uniform_costs_t *costs = &result->costs;
    const dpr_timeline_summary_t *summary = &result->summary;
    printf("schedule       %s\n"
           "ranks          %d\n"
           "stages         %d\n"
           "micro-batches  %d\n"
           "cost           F %g, I %g, W %g, B %g, FB %g, wire %g\n"
           "makespan       %g\n"
           "bubble ratio   %.2f %%\n",
           result->options->source.file != NULL ? result->options->source.file : program->name,
           program->ranks, program->stages, program->micro_batches, costs->f, costs->i, costs->w,
           dpr_uniform_b(costs), dpr_uniform_fb(costs), costs->wire, summary->span_sec,
           100.0 * summary->bubble_ratio);
    print_form(result);
    print_drawn(result);
    printf("\n%5s  %12s  %12s  %12s  %16s\n", "rank", "busy", "bubble", "bubble ratio",
           "peak activations");
    for (int r = 0; r < program->ranks; r++) {
        printf("%5d  %12g  %12g  %10.2f %%  %16d\n", r, summary->busy_sec[r],
               summary->bubble_sec[r], 100.0 * summary->rank_bubble_ratio[r],
               dpr_graph_peak_activations(result->graph, r));
    }
}

static json_t *form_to_json(const result_t *result)
{
    if (!result->has_form) {
        return json_null();
    }
    return json_pack("{s:f, s:f, s:s, s:s}", "bubble", result->form.bubble_sec, "bubble_ratio",
                     result->form.bubble_ratio, "exactness",
                     dpr_exactness_name(result->form.exactness), "condition",
                     result->form.condition);
}

static json_t *ranks_to_json(const result_t *result)
{
    const dpr_timeline_summary_t *summary = &result->summary;
    json_t *ranks = json_array();
    for (int r = 0; r < result->program->ranks; r++) {
        json_array_append_new(ranks, json_pack("{s:i, s:f, s:f, s:f, s:i}", "rank", r, "busy",
                                               summary->busy_sec[r], "bubble",
                                               summary->bubble_sec[r], "bubble_ratio",
                                               summary->rank_bubble_ratio[r], "peak_activations",
                                               dpr_graph_peak_activations(result->graph, r)));
    }
    return ranks;
}

static json_t *distribution_to_json(const dpr_distribution_t *found)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "mean", found->mean, "deviation",
                     found->deviation, "min", found->min, "median", found->median, "p95",
                     found->p95, "max", found->max);
}

static json_t *drawn_to_json(const result_t *result)
{
    const plan_perturb_t *perturb = &result->options->perturb;
    if (perturb->jitter <= 0.0) {
        return json_null();
    }
    return json_pack("{s:f, s:i, s:o, s:o}", "variation", perturb->jitter, "draws", perturb->draws,
                     "makespan", distribution_to_json(&result->drawn.span_sec), "bubble_ratio",
                     distribution_to_json(&result->drawn.bubble_ratio));
}

/* ---- The run, for what draws and saves it ---- */

enum { RUN_FACTS = 1, FACT_TEXT = 128 };

typedef struct described {
    dpr_run_t run;
    dpr_run_fact_t facts[RUN_FACTS];
    char costs[FACT_TEXT];
} described_t;

static void describe_run(const result_t *result, described_t *described)
{
    const options_t *options = result->options;
    const dpr_uniform_costs_t *costs = &result->costs;
    snprintf(described->costs, sizeof described->costs, "F %g, I %g, W %g, B %g, FB %g, wire %g",
             costs->f, costs->i, costs->w, dpr_uniform_b(costs), dpr_uniform_fb(costs),
             costs->wire);
    described->facts[0] = (dpr_run_fact_t){"mean costs", described->costs};
    described->run = (dpr_run_t){
        .schedule = options->source.file != NULL ? options->source.file : result->program->name,
        .clock = "simulation",
        .unit = options->perturb.cost_file != NULL ? "s" : "",
        .facts = described->facts,
        .fact_count = RUN_FACTS,
        .program = result->program,
        .options = options->graph,
        .graph = result->graph,
        .cost = result->cost,
        .expected_cost = result->expected,
        .predicted = result->timeline,
        .has_closed_form = result->has_form,
        .closed_form = result->form,
    };
}

static dpr_status_t print_json(const result_t *result)
{
    const dpr_program_t *program = result->program;
    const dpr_uniform_costs_t *costs = &result->costs;
    json_t *cost =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "F", costs->f, "I", costs->i, "W", costs->w,
                  "B", dpr_uniform_b(costs), "FB", dpr_uniform_fb(costs), "wire", costs->wire);
    json_t *root = json_pack(
        "{s:s, s:i, s:s, s:s?, s:i, s:i, s:i, s:o, s:f, s:f, s:o, s:o, s:o}", "format",
        "dualpipe-plan-simulate", "version", 1, "schedule", program->name, "schedule_file",
        result->options->source.file, "ranks", program->ranks, "stages", program->stages,
        "micro_batches", program->micro_batches, "cost", cost, "makespan", result->summary.span_sec,
        "bubble_ratio", result->summary.bubble_ratio, "closed_form", form_to_json(result), "jitter",
        drawn_to_json(result), "per_rank", ranks_to_json(result));
    if (root == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot build the JSON");
    }
    described_t described;
    describe_run(result, &described);
    const dpr_status_t viewed = plan_view_json(&result->options->view, &described.run, root);
    if (viewed != DPR_OK) {
        json_decref(root);
        return viewed;
    }
    const bool printed = json_dumpf(root, stdout, JSON_INDENT(2)) == 0;
    putchar('\n');
    json_decref(root);
    return printed ? DPR_OK : dpr_fail(DPR_ERR_SYSTEM, "cannot write the JSON to standard output");
}

/* What the ops would take on ranks that are all as fast as they should be. The stragglers' factors
 * are the costs of ops of 1; a cost file, which may be a pipe, is not read again. */
static dpr_status_t expect(const dpr_graph_t *graph, const double *cost, result_t *result)
{
    plan_perturb_t stragglers = result->options->perturb;
    dpr_uniform_costs_t ones = {.f = 1, .i = 1, .w = 1, .b = 1, .fb = 1, .wire = 1};
    stragglers.cost_file = NULL;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *result->expected, &result->expected));
    DPR_TRY(plan_perturb_fill(&stragglers, graph, &ones, result->expected));
    for (int32_t n = 0; n < graph->node_count; n++) {
        result->expected[n] = cost[n] / result->expected[n];
    }
    return DPR_OK;
}

static dpr_status_t simulate(const dpr_graph_t *graph, result_t *result)
{
    const plan_perturb_t *perturb = &result->options->perturb;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *result->cost, &result->cost));
    DPR_TRY(dpr_timeline_init(&result->timeline, graph));
    DPR_TRY(plan_perturb_fill(perturb, graph, &result->costs, result->cost));
    DPR_TRY(expect(graph, result->cost, result));
    if (perturb->jitter > 0.0) {
        DPR_TRY(plan_perturb_draw(perturb, graph, result->cost, &result->drawn));
    }
    dpr_simulate(graph, result->cost, &result->timeline);
    DPR_TRY(dpr_timeline_summarize(&result->timeline, &result->summary));
    if (!isfinite(result->summary.span_sec)) {
        dpr_timeline_summary_free(&result->summary);
        return dpr_fail(DPR_ERR_INVALID, "the costs sum to more than a number can hold: expected "
                                         "smaller ones");
    }
    return DPR_OK;
}

static dpr_status_t find_form(result_t *result)
{
    if (result->options->source.file != NULL ||
        !plan_perturb_is_uniform(&result->options->perturb)) {
        return DPR_OK;
    }
    char reason[512];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const dpr_status_t status = dpr_bubble_closed_form(
        result->program->name, result->program->ranks, result->program->micro_batches,
        &result->options->costs, &result->form);
    dpr_log_capture_end(&capture);
    result->has_form = status == DPR_OK;
    return status == DPR_ERR_UNSUPPORTED ? DPR_OK : status;
}

static dpr_status_t play(const options_t *options, const dpr_program_t *program)
{
    dpr_graph_t *graph;
    DPR_TRY(dpr_graph_create(program, &options->graph, &graph));
    result_t result = {
        .options = options, .program = program, .graph = graph, .costs = options->costs};
    dpr_status_t status;
    DPR_TRY_GOTO(simulate(graph, &result), free_timeline);
    DPR_TRY_GOTO(find_form(&result), free_summary);
    if (options->json) {
        status = print_json(&result);
    } else {
        print_text(&result);
        described_t described;
        describe_run(&result, &described);
        status = plan_view_print(&options->view, &described.run);
    }
free_summary:
    dpr_timeline_summary_free(&result.summary);
free_timeline:
    dpr_timeline_free(&result.timeline);
    free(result.cost);
    free(result.expected);
    dpr_graph_destroy(graph);
    return status;
}

static dpr_status_t run(void *arguments)
{
    const options_t *options = arguments;
    dpr_program_t program;
    DPR_TRY(plan_view_check(&options->view, options->json));
    DPR_TRY(plan_source_load(&options->source, &program));
    const dpr_status_t status = play(options, &program);
    dpr_program_free(&program);
    return status;
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_cost_options, .offset = offsetof(options_t, costs)},
    {graph_options, .offset = offsetof(options_t, graph)},
    {plan_generator_options, offsetof(options_t, source), plan_generator_help},
    {plan_file_options, .offset = offsetof(options_t, source)},
    {plan_perturb_options, .offset = offsetof(options_t, perturb)},
    {plan_view_options, .offset = offsetof(options_t, view)},
    {0},
};

const plan_command_t plan_simulate_command = {
    .name = "simulate",
    .summary = "predict makespan, bubbles and peak activations",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.costs = DPR_UNIFORM_COSTS_DEFAULT,
                                   .graph = DPR_GRAPH_OPTIONS_DEFAULT,
                                   .perturb = PLAN_PERTURB_DEFAULT},
    .run = run,
};
