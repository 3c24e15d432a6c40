/* Requests for the scheduler's tests, and the checks of every result. */
#include "auto_testing.h"

#include <stdlib.h>
#include <string.h>

#include "models/compare.h"
#include "models/simulate.h"

const double triples[TRIPLES][3] = {{1.0, 1.0, 1.0}, {1.0, 1.2, 0.8}, {1.0, 0.7, 1.3}};

dpr_auto_request_t request_of(dpr_auto_placement_t placement, int ranks, int micro_batches)
{
    dpr_auto_request_t request = DPR_AUTO_REQUEST_DEFAULT;
    request.ranks = ranks;
    request.micro_batches = micro_batches;
    request.placement = placement;
    request.budget_sec = 0.0;
    request.iterations = 3000;
    return request;
}

void set_costs(dpr_auto_request_t *request, const double *triple, double wire)
{
    request->costs.f = triple[0];
    request->costs.i = triple[1];
    request->costs.w = triple[2];
    request->costs.wire = wire;
}

double play(const dpr_auto_request_t *request, const dpr_program_t *program, int *peak)
{
    dpr_graph_t *graph = make_graph(program);
    double *cost = calloc(2 * (size_t)graph->node_count, sizeof *cost);
    assert_non_null(cost);
    if (request->table != NULL) {
        assert_int_equal(dpr_cost_table_fill(request->table, graph, request->message_bytes, cost),
                         DPR_OK);
    } else {
        const dpr_uniform_costs_t costs =
            dpr_costs_of_cut(&request->costs, program->ranks, program->stages);
        dpr_uniform_costs_fill(&costs, graph, cost);
    }
    const double makespan = dpr_simulate_makespan(graph, cost, cost + graph->node_count);
    *peak = 0;
    for (int r = 0; r < graph->ranks; r++) {
        const int held = dpr_graph_peak_activations(graph, r);
        *peak = held > *peak ? held : *peak;
        if (request->rank_activations != NULL) {
            assert_true(held <= request->rank_activations[r]);
        }
    }
    free(cost);
    dpr_graph_destroy(graph);
    return makespan;
}

dpr_auto_report_t run(const dpr_auto_request_t *request, dpr_program_t *program)
{
    dpr_auto_report_t report;
    assert_int_equal(dpr_auto_schedule(request, program, &report), DPR_OK);
    assert_int_equal(program->ranks, request->ranks);
    assert_int_equal(program->micro_batches, request->micro_batches);
    assert_int_equal(program->stages, report.stages);
    assert_int_equal(dpr_program_check(program), DPR_OK);
    int peak;
    assert_near(play(request, program, &peak), report.makespan_sec);
    assert_int_equal(peak, report.peak_activations);
    assert_true(request->rank_activations != NULL || peak <= report.activations);
    assert_true(report.lower_bound_sec <= report.makespan_sec + 1e-9);
    for (int i = 0; i < report.rival_count; i++) {
        const dpr_auto_rival_t *rival = &report.rivals[i];
        if (rival->runs && rival->fits && rival->same_placement) {
            assert_true(report.makespan_sec <= rival->makespan_sec + 1e-9);
            assert_true(report.lower_bound_sec <= rival->makespan_sec + 1e-9);
            assert_true(report.best_fixed >= 0);
        }
    }
    return report;
}

const dpr_auto_rival_t *rival_of(const dpr_auto_report_t *report, const char *name)
{
    for (int i = 0; i < report->rival_count; i++) {
        if (strcmp(report->rivals[i].name, name) == 0) {
            return &report->rivals[i];
        }
    }
    return NULL;
}
