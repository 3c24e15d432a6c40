/* The simulator against an independent one, and what verify promises against both. */
#include "tests/schedule/schedule_testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/simulate.h"
#include "tests/models/naive_simulator.h"

static double *random_costs(dice_t *dice, const dpr_graph_t *graph)
{
    double *cost = malloc((size_t)graph->node_count * sizeof *cost);
    for (int32_t n = 0; n < graph->node_count; n++) {
        /* now and then nothing at all, so that many things happen at once */
        cost[n] = dice_roll(dice, 6) == 0 ? 0.0 : dice_real(dice, 0.1, 4.0);
    }
    return cost;
}

static double *new_times(const dpr_graph_t *graph)
{
    return malloc((size_t)graph->node_count * sizeof(double));
}

static const dpr_cell_t *cell_of(const dpr_graph_t *graph, int stage, int micro_batch)
{
    return &graph->cells[stage * graph->micro_batches + micro_batch];
}

/* When the receiver has the slot of its j-th message free: looked up among those before it. */
static double slot_ready(const dpr_graph_t *graph, const dpr_channel_t *channel, int j,
                         const double *end)
{
    const bool is_act = channel->kind == DPR_NODE_SEND_ACT;
    const dpr_buffer_kind_t kind = is_act ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN;
    int32_t slot = -1;
    for (int i = j; i >= 0; i--) {
        const dpr_node_t *node = &graph->nodes[graph->recv_messages[channel->first + i]];
        const dpr_cell_t *cell =
            cell_of(graph, is_act ? node->stage + 1 : node->stage - 1, node->micro_batch);
        if (i == j) {
            slot = cell->buffer[kind].slot;
        } else if (cell->buffer[kind].slot == slot) {
            return end[graph->forward_only ? cell->forward : cell->weight];
        }
    }
    return 0.0;
}

/* A side of a transfer is ready when its stream has come to it and its buffer is: at the sender
 * produced, at the receiver free. */
static void expect_ready_times(const dpr_timeline_t *timeline)
{
    const dpr_graph_t *graph = timeline->graph;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        double before = 0.0;
        for (int32_t j = 0; j < channel->count; j++) {
            const int32_t index = graph->send_messages[channel->first + j];
            const dpr_node_t *node = &graph->nodes[index];
            const dpr_cell_t *cell = cell_of(graph, node->stage, node->micro_batch);
            const int32_t producer =
                channel->kind == DPR_NODE_SEND_ACT ? cell->forward : cell->backward;
            assert_true(timeline->sender_ready[index] == fmax(before, timeline->end[producer]));
            assert_true(timeline->receiver_ready[index] ==
                        fmax(before, slot_ready(graph, channel, j, timeline->end)));
            before = timeline->end[index];
        }
    }
}

/* Simulates both ways; every node must run once, at the same time. */
static void expect_equal_simulations(const dpr_program_t *program, const dpr_graph_t *graph,
                                     const double *cost)
{
    dpr_timeline_t timeline;
    assert_int_equal(dpr_timeline_init(&timeline, graph), DPR_OK);
    dpr_simulate(graph, cost, &timeline);
    double *start = new_times(graph);
    double *end = new_times(graph);
    assert_true(naive_simulate(program, graph, cost, start, end));
    double last = 0.0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        assert_true(timeline.start[n] == start[n]);
        assert_true(timeline.end[n] == end[n]);
        assert_true(timeline.start[n] ==
                    fmax(timeline.sender_ready[n], timeline.receiver_ready[n]));
        if (n < graph->compute_count) {
            assert_true(timeline.sender_ready[n] == timeline.receiver_ready[n]);
        }
        last = fmax(last, end[n]);
    }
    expect_ready_times(&timeline);
    assert_true(dpr_simulate_makespan(graph, cost, end) == last);
    assert_memory_equal(end, timeline.end, (size_t)graph->node_count * sizeof *end);
    free(start);
    free(end);
    dpr_timeline_free(&timeline);
}

static void both_simulators_agree_on_random_programs_slots_and_costs(void **state)
{
    (void)state;
    dice_t dice = {.seed = 11};
    int verified = 0;
    for (int i = 0; i < 3000; i++) {
        dpr_program_t program = random_program(&dice);
        const dpr_graph_options_t options = {.recv_slots = dice_roll(&dice, 4),
                                             .recv_ahead = dice_roll(&dice, 3),
                                             .send_slots = dice_roll(&dice, 4)};
        dpr_graph_t *graph = NULL;
        assert_int_equal(dpr_graph_build(&program, &options, &graph), DPR_OK);
        double *cost = random_costs(&dice, graph);
        char captured[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, captured, dpr_graph_verify(graph));
        if (status == DPR_OK) {
            verified++;
            expect_equal_simulations(&program, graph, cost);
        } else {
            assert_int_equal(status, DPR_ERR_DEADLOCK);
            double *start = new_times(graph);
            double *end = new_times(graph);
            assert_false(naive_simulate(&program, graph, cost, start, end));
            free(start);
            free(end);
        }
        free(cost);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
    assert_in_range(verified, 1500, 2999); /* both sides were tried */
}

/* No node is ready before the last of its edges, its delay and its release, nor later. */
static void delays_and_releases_hold_back_exactly(void **state)
{
    (void)state;
    dice_t dice = {.seed = 14};
    for (int i = 0; i < 300; i++) {
        dpr_program_t program = random_program(&dice);
        dpr_graph_t *graph = make_graph(&program);
        double *cost = random_costs(&dice, graph);
        double *delay = random_costs(&dice, graph);
        double *release = random_costs(&dice, graph);
        dpr_timeline_t timeline;
        assert_int_equal(dpr_timeline_init(&timeline, graph), DPR_OK);
        for (int32_t n = 0; n < graph->node_count; n++) {
            release[n] = 10.0 * release[n] - 5.0;
        }
        dpr_simulate_delayed(graph, cost, delay, release, &timeline);
        for (int32_t n = 0; n < graph->node_count; n++) {
            double ready = 0.0;
            for (int32_t e = graph->edge_begin[n]; e < graph->edge_begin[n + 1]; e++) {
                ready = fmax(ready, timeline.end[graph->edges[e].from]);
            }
            assert_true(timeline.start[n] == fmax(ready + delay[n], release[n]));
            assert_true(timeline.start[n] ==
                        fmax(timeline.sender_ready[n], timeline.receiver_ready[n]));
            assert_true(timeline.end[n] == timeline.start[n] + cost[n]);
        }
        dpr_timeline_free(&timeline);
        free(cost);
        free(delay);
        free(release);
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
}

static void both_simulators_agree_on_every_schedule(void **state)
{
    (void)state;
    dice_t dice = {.seed = 12};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int m = 1; m <= 3 * ranks; m++) {
                if (!schedules[i].allows(ranks, m)) {
                    continue;
                }
                dpr_program_t program = make_program(schedules[i].name, ranks, m);
                dpr_graph_t *graph = make_graph(&program);
                double *cost = random_costs(&dice, graph);
                expect_equal_simulations(&program, graph, cost);
                free(cost);
                dpr_graph_destroy(graph);
                dpr_program_free(&program);
            }
        }
    }
}

/* Posts two messages of a channel in another order on one side, or one slot fewer. */
static void reordered_channels_stall_where_verify_says_so(void **state)
{
    (void)state;
    dice_t dice = {.seed = 13};
    int deadlocks = 0;
    for (int i = 0; i < 500; i++) {
        dpr_program_t program = random_program(&dice);
        dpr_graph_t *graph = make_graph(&program);
        if (graph->channel_count > 0) {
            const dpr_channel_t *channel = &graph->channels[dice_roll(&dice, graph->channel_count)];
            int32_t *messages =
                (dice_roll(&dice, 2) == 0 ? graph->send_messages : graph->recv_messages) +
                channel->first;
            const int a = dice_roll(&dice, channel->count);
            const int b = dice_roll(&dice, channel->count);
            const int32_t message = messages[a];
            messages[a] = messages[b];
            messages[b] = message;
            assert_int_equal(dpr_graph_connect(graph), DPR_OK);
            char captured[CAPTURED_MAX];
            dpr_status_t status;
            CAPTURE(status, captured, dpr_graph_verify(graph));
            assert_int_equal(status, a == b ? DPR_OK : DPR_ERR_DEADLOCK);
            deadlocks += a != b;
        }
        dpr_graph_destroy(graph);
        dpr_program_free(&program);
    }
    assert_true(deadlocks > 100);
}

typedef enum change { SWAP, SWAP_NEIGHBOURS, DROP, DOUBLE, MOVE, RETAG } change_t;

/* The same action of another stage or micro-batch, or another action of the same. */
static dpr_action_t retag(dice_t *dice, const dpr_program_t *program, dpr_action_t action)
{
    switch (dice_roll(dice, 3)) {
    case 0:
        action.stage = dice_roll(dice, program->stages);
        break;
    case 1:
        action.micro_batch = dice_roll(dice, program->micro_batches);
        break;
    default:
        if (action.kind != DPR_ACTION_FB) {
            action.kind = (dpr_action_kind_t)dice_roll(dice, DPR_ACTION_FB);
        }
        break;
    }
    return action;
}

static void append(dpr_program_t *program, int rank, dpr_action_t action)
{
    assert_int_equal(dpr_program_append(program, rank, action), DPR_OK);
}

/* A copy with one change at a random action. */
static dpr_program_t mutate_program(dice_t *dice, dpr_program_t *program)
{
    static const change_t changes[] = {SWAP, SWAP, SWAP_NEIGHBOURS, SWAP_NEIGHBOURS, DROP, DOUBLE,
                                       MOVE, RETAG};
    const change_t change = changes[dice_roll(dice, sizeof changes / sizeof changes[0])];
    const size_t size = dpr_program_size(program);
    const size_t at = (size_t)dice_roll(dice, (int)size);
    const size_t other = change == SWAP ? (size_t)dice_roll(dice, (int)size) : (at + 1) % size;
    const int to = dice_roll(dice, program->ranks);
    const dpr_action_t action = program->actions[at];
    if (change == SWAP || change == SWAP_NEIGHBOURS) {
        program->actions[at] = program->actions[other];
        program->actions[other] = action;
    } else if (change == RETAG) {
        program->actions[at] = retag(dice, program, action);
    }
    dpr_program_t mutated;
    assert_int_equal(dpr_program_init(&mutated, "mutated", program->ranks, program->stages,
                                      program->micro_batches),
                     DPR_OK);
    for (int rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            if (i != at || (change != DROP && change != MOVE)) {
                append(&mutated, rank, program->actions[i]);
            }
            if (i == at && change == DOUBLE) {
                append(&mutated, rank, action);
            }
        }
        if (change == MOVE && rank == to) {
            append(&mutated, rank, action);
        }
    }
    dpr_program_finish(&mutated);
    return mutated;
}

/* Rejected with a message, or verified and then every node runs; which, the naive simulator says.
 */
static dpr_status_t judge(dice_t *dice, const dpr_program_t *program)
{
    dpr_graph_t *graph = NULL;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_graph_build(program, NULL, &graph));
    if (status != DPR_OK) {
        assert_int_equal(status, DPR_ERR_PROGRAM);
        assert_true(strlen(captured) > 10);
        return status;
    }
    double *cost = random_costs(dice, graph);
    CAPTURE(status, captured, dpr_graph_verify(graph));
    if (status == DPR_OK) {
        expect_equal_simulations(program, graph, cost);
    } else {
        assert_int_equal(status, DPR_ERR_DEADLOCK);
        assert_contains(captured, " waits for ");
        double *start = new_times(graph);
        double *end = new_times(graph);
        assert_false(naive_simulate(program, graph, cost, start, end));
        free(start);
        free(end);
    }
    free(cost);
    dpr_graph_destroy(graph);
    return status;
}

/* A random program, or a schedule at the least size it allows from P = 2 or 4 and 2 more M up. */
static dpr_program_t any_program(dice_t *dice)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    const dpr_schedule_t *schedule = &schedules[dice_roll(dice, (int)count)];
    const int ranks = 2 * (1 + dice_roll(dice, 2));
    const int least = schedule->min_micro_batches(ranks);
    if (least == 0 || dice_roll(dice, 3) == 0) {
        return random_program(dice);
    }
    int micro_batches = least + 2;
    while (!schedule->allows(ranks, micro_batches)) {
        micro_batches++;
    }
    return make_program(schedule->name, ranks, micro_batches);
}

static void mutated_programs_are_rejected_or_run_whole(void **state)
{
    (void)state;
    dice_t dice = {.seed = 14};
    int accepted = 0;
    int incomplete = 0;
    int deadlocked = 0;
    for (int i = 0; i < 5000; i++) {
        dpr_program_t program = any_program(&dice);
        dpr_program_t mutated = mutate_program(&dice, &program);
        const dpr_status_t status = judge(&dice, &mutated);
        accepted += status == DPR_OK;
        incomplete += status == DPR_ERR_PROGRAM;
        deadlocked += status == DPR_ERR_DEADLOCK;
        dpr_program_free(&mutated);
        dpr_program_free(&program);
    }
    assert_true(accepted > 500 && incomplete > 1000 && deadlocked > 150);
}

static void a_summary_is_span_busy_and_bubble(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,0B0\n1F0,1B0\n");
    dpr_graph_t *graph = make_graph(&program);
    /* 0F0 0B0 1F0 1B0, activation, gradient */
    const double cost[] = {1.0, 2.0, 3.0, 4.0, 0.5, 0.25};
    dpr_timeline_t timeline;
    assert_int_equal(dpr_timeline_init(&timeline, graph), DPR_OK);
    dpr_simulate(graph, cost, &timeline);
    for (int32_t n = 0; n < graph->node_count; n++) { /* a span does not start at 0 */
        timeline.start[n] += 100.0;
        timeline.end[n] += 100.0;
    }
    dpr_timeline_summary_t summary;
    assert_int_equal(dpr_timeline_summarize(&timeline, &summary), DPR_OK);
    assert_near(summary.span_sec, 10.75);
    assert_near(summary.busy_sec[0], 3.0);
    assert_near(summary.busy_sec[1], 7.0);
    assert_near(summary.bubble_sec[0], 7.75);
    assert_near(summary.rank_bubble_ratio[1], 3.75 / 10.75);
    assert_near(summary.bubble_ratio, (7.75 + 3.75) / 2.0 / 10.75);
    dpr_timeline_summary_free(&summary);
    dpr_timeline_free(&timeline);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_simulators_agree_on_random_programs_slots_and_costs),
        cmocka_unit_test(delays_and_releases_hold_back_exactly),
        cmocka_unit_test(both_simulators_agree_on_every_schedule),
        cmocka_unit_test(reordered_channels_stall_where_verify_says_so),
        cmocka_unit_test(mutated_programs_are_rejected_or_run_whole),
        cmocka_unit_test(a_summary_is_span_busy_and_bubble),
    };
    return cmocka_run_group_tests_name("simulate", tests, NULL, NULL);
}
