/* Runs for tests. */
#include "tests/runtime/run_testing.h"

#include <stdlib.h>

#include "base/memory.h"
#include "models/simulate.h"

static double *make_array(const dpr_graph_t *graph)
{
    double *array;
    assert_int_equal(dpr_calloc((size_t)graph->node_count, sizeof *array, &array), DPR_OK);
    return array;
}

void make_run(run_fixture_t *fixture, dpr_program_t program, const dpr_graph_options_t *options)
{
    const dpr_graph_options_t chosen =
        options != NULL ? *options : (dpr_graph_options_t)DPR_GRAPH_OPTIONS_DEFAULT;
    const dpr_uniform_costs_t costs = {.f = 1, .i = 1, .w = 0.7, .b = -1, .fb = -1, .wire = 0.3};
    *fixture = (run_fixture_t){.program = program,
                               .facts = {{"device", "host"}, {"data", "<b>\"synthetic\" \u00e9"}}};
    assert_int_equal(dpr_graph_create(&fixture->program, &chosen, &fixture->graph), DPR_OK);
    fixture->cost = make_array(fixture->graph);
    dpr_uniform_costs_fill(&costs, fixture->graph, fixture->cost);
    fixture->run = (dpr_run_t){
        .schedule = fixture->program.name,
        .clock = "simulation",
        .unit = "",
        .facts = fixture->facts,
        .fact_count = 2,
        .program = &fixture->program,
        .options = chosen,
        .graph = fixture->graph,
        .cost = fixture->cost,
    };
    assert_int_equal(dpr_timeline_init(&fixture->run.predicted, fixture->graph), DPR_OK);
    dpr_simulate(fixture->graph, fixture->cost, &fixture->run.predicted);
}

/* Every node a little longer, transfers that wait, and a clock that does not begin at 0. */
static void measure(run_fixture_t *fixture, dice_t *dice)
{
    const dpr_graph_t *graph = fixture->graph;
    dpr_timeline_t *measured = &fixture->run.measured;
    for (int32_t n = 0; n < graph->node_count; n++) {
        fixture->measured_cost[n] = fixture->cost[n] * dice_real(dice, 0.9, 1.3);
    }
    dpr_simulate(graph, fixture->measured_cost, measured);
    for (int32_t n = 0; n < graph->node_count; n++) {
        measured->start[n] += 0.125;
        measured->end[n] += 0.125;
        measured->sender_ready[n] += 0.125;
        measured->receiver_ready[n] += 0.125;
        fixture->enqueued_sec[n] = measured->start[n] - dice_real(dice, 0.0, 1.0);
        fixture->expected_cost[n] = fixture->cost[n] / 1.1;
        fixture->delay_sec[n] = dice_real(dice, 0.0, 0.1);
    }
    dpr_simulate_delayed(graph, fixture->cost, fixture->delay_sec, NULL, &fixture->run.predicted);
}

void make_measured_run(run_fixture_t *fixture, dpr_program_t program,
                       const dpr_graph_options_t *options, dice_t *dice)
{
    make_run(fixture, program, options);
    const dpr_graph_t *graph = fixture->graph;
    fixture->expected_cost = make_array(graph);
    fixture->delay_sec = make_array(graph);
    fixture->measured_cost = make_array(graph);
    fixture->enqueued_sec = make_array(graph);
    fixture->links[0] = (dpr_run_link_t){.source = 0,
                                         .destination = graph->ranks - 1,
                                         .latency_sec = 5e-6,
                                         .bandwidth_bytes_per_sec = 25e9};
    assert_int_equal(dpr_timeline_init(&fixture->run.measured, graph), DPR_OK);
    measure(fixture, dice);
    dpr_run_t *run = &fixture->run;
    run->clock = "core";
    run->unit = "s";
    run->expected_cost = fixture->expected_cost;
    run->delay_sec = fixture->delay_sec;
    run->is_measured = true;
    run->measured_cost = fixture->measured_cost;
    run->enqueued_sec = fixture->enqueued_sec;
    run->has_closed_form = true;
    run->closed_form = (dpr_bubble_t){.bubble_sec = 2.5,
                                      .busy_sec = 7.5,
                                      .bubble_ratio = 0.25,
                                      .exactness = DPR_LOWER_BOUND,
                                      .condition = "W <= F"};
    run->links = fixture->links;
    run->link_count = 1;
    run->message_bytes = 4096;
}

void free_run(run_fixture_t *fixture)
{
    dpr_timeline_free(&fixture->run.predicted);
    dpr_timeline_free(&fixture->run.measured);
    dpr_graph_destroy(fixture->graph);
    dpr_program_free(&fixture->program);
    free(fixture->cost);
    free(fixture->expected_cost);
    free(fixture->delay_sec);
    free(fixture->measured_cost);
    free(fixture->enqueued_sec);
}
