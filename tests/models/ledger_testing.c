/* See ledger_testing.h. */
#include "tests/models/ledger_testing.h"

#include <stdlib.h>

#include "base/memory.h"

static double *make_array(const dpr_graph_t *graph)
{
    double *array;
    assert_int_equal(dpr_calloc((size_t)graph->node_count, sizeof *array, &array), DPR_OK);
    return array;
}

run_t make_run(dpr_program_t program, const dpr_graph_options_t *options)
{
    run_t run = {.program = program};
    assert_int_equal(dpr_graph_create(&run.program, options, &run.graph), DPR_OK);
    run.cost = make_array(run.graph);
    run.taken = make_array(run.graph);
    run.delay = make_array(run.graph);
    run.enqueued = make_array(run.graph);
    assert_int_equal(dpr_timeline_init(&run.timeline, run.graph), DPR_OK);
    return run;
}

void free_run(run_t *run)
{
    dpr_ledger_free(&run->ledger);
    dpr_timeline_free(&run->timeline);
    free(run->cost);
    free(run->taken);
    free(run->delay);
    free(run->enqueued);
    dpr_graph_destroy(run->graph);
    dpr_program_free(&run->program);
}

/* Every node starts `delay` after the last of its edges. */
static void play_into(const run_t *run, dpr_timeline_t *timeline)
{
    const dpr_graph_t *graph = run->graph;
    for (int32_t i = 0; i < graph->node_count; i++) {
        const int32_t n = graph->order[i];
        double side[2] = {0.0, 0.0};
        for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
            const int which = graph->edges[e].kind >= DPR_EDGE_RECV_ORDER;
            side[which] = fmax(side[which], timeline->end[graph->edges[e].from]);
        }
        timeline->sender_ready[n] = side[0] + run->delay[n];
        timeline->receiver_ready[n] = side[1] + run->delay[n];
        timeline->start[n] = fmax(side[0], side[1]) + run->delay[n];
        timeline->end[n] = timeline->start[n] + run->taken[n];
    }
}

void play(run_t *run)
{
    play_into(run, &run->timeline);
    dpr_ledger_free(&run->ledger);
    assert_int_equal(dpr_ledger_init(&run->timeline, run->cost, run->enqueued, &run->ledger),
                     DPR_OK);
}

run_t play_text(const char *text, const dpr_graph_options_t *options, double wire)
{
    run_t run = make_run(parse_program(text), options);
    for (int32_t n = 0; n < run.graph->node_count; n++) {
        const dpr_node_t *node = &run.graph->nodes[n];
        run.cost[n] = dpr_node_is_transfer(node) ? wire : node->kind == DPR_NODE_B ? 2.0 : 1.0;
        run.taken[n] = run.cost[n];
    }
    play(&run);
    return run;
}

int32_t find_node(const dpr_graph_t *graph, int kind, int stage, int micro_batch)
{
    for (int32_t n = 0; n < graph->node_count; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        if (node->kind == kind && node->stage == stage && node->micro_batch == micro_batch) {
            return n;
        }
    }
    fail_msg("no such node: kind %d, stage %d, micro-batch %d", kind, stage, micro_batch);
    return -1;
}

static dpr_program_t any_program(dice_t *dice)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (;;) {
        const int which = dice_roll(dice, (int)count + 1);
        if (which == (int)count) {
            return random_program(dice);
        }
        const int ranks = 1 + dice_roll(dice, 6);
        const int micro_batches = 1 + dice_roll(dice, 16);
        if (schedules[which].allows(ranks, micro_batches)) {
            return make_program(schedules[which].name, ranks, micro_batches);
        }
    }
}

run_t any_run(dice_t *dice, bool measured)
{
    const dpr_graph_options_t options = {.recv_ahead = dice_roll(dice, 3)};
    run_t run = make_run(any_program(dice), &options);
    for (int32_t n = 0; n < run.graph->node_count; n++) {
        const bool is_transfer = n >= run.graph->compute_count;
        run.cost[n] = is_transfer ? dice_real(dice, 0.0, 0.7) : dice_real(dice, 0.1, 2.0);
        run.taken[n] = run.cost[n];
        if (measured && dice_roll(dice, 4) == 0) {
            run.taken[n] *= dice_real(dice, 0.5, 2.0);
        }
        if (measured && dice_roll(dice, 4) == 0) {
            run.delay[n] = dice_real(dice, 0.0, 0.5);
        }
    }
    play(&run);
    return run;
}
