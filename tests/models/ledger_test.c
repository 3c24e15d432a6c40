/* The ledger: known causes come out as themselves, and on random programs they add up. */
#include "tests/models/ledger_testing.h"

typedef struct causes {
    double fill, drain, dependency, straggler, wire, buffer, host;
} causes_t;

#define assert_causes(run, rank, ...)                                                              \
    assert_causes_at(run, rank, (causes_t){__VA_ARGS__}, __FILE__, __LINE__)

static void assert_causes_at(const run_t *run, int rank, causes_t expected, const char *file,
                             int line)
{
    const double want[DPR_CAUSES] = {expected.fill,      expected.drain, expected.dependency,
                                     expected.straggler, expected.wire,  expected.buffer,
                                     expected.host};
    for (int c = 0; c < DPR_CAUSES; c++) {
        const double got = dpr_ledger_sec(&run->ledger, rank, (dpr_cause_t)c);
        if (!(fabs(got - want[c]) <= 1e-12)) {
            print_error("rank %d, %s: %.15g, expected %.15g\n", rank,
                        dpr_cause_name((dpr_cause_t)c), got, want[c]);
            _fail(file, line);
        }
    }
}

/* ---- Known causes ---- */

/*      rank 0   F |                 | B B
 *      wire       |-|         |---|
 *      rank 1          F B B                    */
static void a_step_has_fill_wire_dependency_and_drain(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    assert_near(run.ledger.span_sec, 7.0);
    assert_near(run.ledger.bubble_sec[0], 4.0);
    assert_causes(&run, 0, .dependency = 3.5, .wire = 0.5);
    assert_causes(&run, 1, .fill = 1.5, .drain = 2.5);
    assert_int_equal(run.ledger.idle_count, 3);
    const dpr_idle_t *idle = &run.ledger.idle[0];
    assert_int_equal(idle->rank, 0);
    assert_int_equal(idle->op, find_node(run.graph, DPR_NODE_B, 0, 0));
    assert_int_equal(idle->release, find_node(run.graph, DPR_NODE_SEND_GRAD, 1, 0));
    assert_near(idle->start_sec, 1.0);
    assert_near(idle->end_sec, 5.0);
    assert_int_equal(run.ledger.idle[1].release, find_node(run.graph, DPR_NODE_SEND_ACT, 0, 0));
    assert_int_equal(run.ledger.idle[2].op, -1);
    assert_near(dpr_ledger_mean_ratio(&run.ledger, DPR_CAUSE_FILL), 1.5 / 2 / 7.0);
    free_run(&run);
}

static void a_slow_producer_is_a_straggler_by_its_excess_alone(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    run.taken[find_node(run.graph, DPR_NODE_B, 1, 0)] += 0.75;
    play(&run);
    assert_causes(&run, 0, .dependency = 3.5, .wire = 0.5, .straggler = 0.75);
    assert_causes(&run, 1, .fill = 1.5, .drain = 2.5);

    /* not the producer, but the op before it: the rank only sees that the producer was late */
    run.taken[find_node(run.graph, DPR_NODE_B, 1, 0)] -= 0.75;
    run.taken[find_node(run.graph, DPR_NODE_F, 1, 0)] += 0.75;
    play(&run);
    assert_causes(&run, 0, .dependency = 4.25, .wire = 0.5);

    /* an excess above the wait counts for the wait */
    run.taken[find_node(run.graph, DPR_NODE_B, 1, 0)] += 9.0;
    run.cost[find_node(run.graph, DPR_NODE_B, 1, 0)] -= 9.0;
    play(&run);
    assert_causes(&run, 0, .straggler = 13.25, .wire = 0.5);

    /* without predicted costs there are none */
    dpr_ledger_free(&run.ledger);
    assert_int_equal(dpr_ledger_init(&run.timeline, NULL, NULL, &run.ledger), DPR_OK);
    assert_causes(&run, 0, .dependency = 13.25, .wire = 0.5);
    assert_causes(&run, 1, .fill = 1.5, .drain = 2.5);
    free_run(&run);
}

static void a_slow_link_is_wire(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    run.taken[find_node(run.graph, DPR_NODE_SEND_GRAD, 1, 0)] += 0.25;
    play(&run);
    assert_causes(&run, 0, .dependency = 3.5, .wire = 0.75);
    assert_causes(&run, 1, .fill = 1.5, .drain = 2.75);
    free_run(&run);
}

static void a_late_start_is_the_hosts(void **state)
{
    (void)state;
    run_t run = play_text(THERE_AND_BACK, NULL, 0.5);
    const int32_t late = find_node(run.graph, DPR_NODE_B, 0, 0);
    run.delay[late] = 0.5;
    run.enqueued[late] = 5.375;
    play(&run);
    assert_causes(&run, 0, .dependency = 3.5, .wire = 0.5, .host = 0.5);
    assert_near(run.ledger.late_sec[0], 0.375);
    assert_near(run.ledger.late_sec[1], 0.0);

    run.enqueued[late] = 6.0; /* capped by the wait */
    play(&run);
    assert_near(run.ledger.late_sec[0], 0.5);

    /* a transfer that was late, by the rank that waited for it */
    run.delay[late] = 0.0;
    run.delay[find_node(run.graph, DPR_NODE_SEND_GRAD, 1, 0)] = 0.125;
    play(&run);
    assert_causes(&run, 0, .dependency = 3.5, .wire = 0.5, .host = 0.125);
    assert_near(run.ledger.late_sec[0], 0.0);
    free_run(&run);
}

/* Without the wait for the one receive buffer, the second input would have come in time. */
static void a_receive_buffer_that_is_not_free_is_buffer(void **state)
{
    (void)state;
    static const char text[] = "0F0,0F1\n1F0,1F1\n";
    const dpr_graph_options_t one = {.recv_slots = 1, .send_slots = 2};
    run_t run = play_text(text, &one, 0.5);
    assert_causes(&run, 0, .drain = 2.0);
    assert_causes(&run, 1, .fill = 1.5, .buffer = 0.5);
    free_run(&run);

    const dpr_graph_options_t two = {.recv_slots = 2, .send_slots = 2};
    run = play_text(text, &two, 0.5);
    assert_causes(&run, 1, .fill = 1.5);
    free_run(&run);

    /* in time but for the wire itself: 1.25 of 2 were paid to the buffer, the rest moved bytes */
    run = play_text(text, &one, 0.75);
    run.taken[find_node(run.graph, DPR_NODE_SEND_ACT, 0, 1)] = 2.0;
    play(&run); /* F1 ends at 2; F0 of rank 1 from 1.75 to 2.75, then 2 of wire */
    assert_causes(&run, 1, .fill = 1.75, .buffer = 0.75, .wire = 1.25);
    free_run(&run);
}

static void a_send_buffer_that_is_not_free_is_buffer(void **state)
{
    (void)state;
    const dpr_graph_options_t one = {.recv_slots = 2, .send_slots = 1};
    run_t run = play_text("0F0,0F1\n1F0,1F1\n", &one, 0.5);
    assert_causes(&run, 0, .buffer = 0.5, .drain = 1.5);
    assert_causes(&run, 1, .fill = 1.5, .wire = 0.5);
    free_run(&run);
}

/* A first op that was enqueued late: the other rank waits for it as for any producer. */
static void a_first_op_that_is_late_is_the_hosts(void **state)
{
    (void)state;
    run_t run = play_text("0F0,0F1\n1F0,1F1\n", NULL, 0.5);
    assert_causes(&run, 1, .fill = 1.5);
    const int32_t second = find_node(run.graph, DPR_NODE_F, 1, 0);
    run.delay[second] = 0.75;
    play(&run);
    run.enqueued[second] = run.timeline.start[second] - 0.25;
    dpr_ledger_free(&run.ledger);
    assert_int_equal(dpr_ledger_init(&run.timeline, run.cost, run.enqueued, &run.ledger), DPR_OK);
    assert_causes(&run, 1, .fill = 1.5, .host = 0.75);
    assert_near(run.ledger.late_sec[1], 0.5);
    free_run(&run);
}

/* F2 waits for its message, which waits for F1's, which nobody needs yet. */
static void a_message_behind_another_is_charged_with_its_causes(void **state)
{
    (void)state;
    run_t run = play_text("0F0,0F1,0F2\n1F0,1F2,1F1\n",
                          &(dpr_graph_options_t){.recv_slots = 3, .send_slots = 3}, 2.0);
    assert_causes(&run, 1, .fill = 3.0, .wire = 3.0);
    run.delay[find_node(run.graph, DPR_NODE_SEND_ACT, 0, 1)] = 0.5;
    play(&run);
    assert_causes(&run, 1, .fill = 3.0, .wire = 3.0, .host = 0.5);
    free_run(&run);
}

/* Clocks that are aligned badly put an op before the end of the last one. */
static void an_overlap_is_a_negative_wait_for_the_host(void **state)
{
    (void)state;
    run_t run = play_text("0F0,0F1\n1F0,1F1\n", NULL, 0.5);
    const int32_t op = find_node(run.graph, DPR_NODE_F, 0, 1);
    run.timeline.start[op] -= 0.25;
    dpr_ledger_free(&run.ledger);
    assert_int_equal(dpr_ledger_init(&run.timeline, run.cost, run.enqueued, &run.ledger), DPR_OK);
    assert_causes(&run, 0, .host = -0.25, .drain = run.ledger.span_sec - 2.0);
    assert_near(run.ledger.bubble_sec[0], run.ledger.span_sec - 2.25);
    assert_near(run.ledger.late_sec[0], 0.0);
    free_run(&run);
}

/* ---- Random programs ---- */

static double sum_of(const double sec[DPR_CAUSES])
{
    double sum = 0.0;
    for (int c = 0; c < DPR_CAUSES; c++) {
        sum += sec[c];
    }
    return sum;
}

static void assert_ledger_adds_up(const run_t *run)
{
    const dpr_ledger_t *ledger = &run->ledger;
    const double rounding = 1e-12 * ledger->span_sec;
    double idle_sec[64] = {0};
    assert_true(ledger->ranks <= 64);
    for (size_t i = 0; i < ledger->idle_count; i++) {
        const dpr_idle_t *idle = &ledger->idle[i];
        const double length = idle->end_sec - idle->start_sec;
        assert_true(length > 0.0);
        assert_true(fabs(sum_of(idle->sec) - length) <= rounding);
        for (int c = 0; c < DPR_CAUSES; c++) {
            assert_true(idle->sec[c] >= 0.0);
        }
        idle_sec[idle->rank] += length;
    }
    for (int rank = 0; rank < ledger->ranks; rank++) {
        const double sum = sum_of(&ledger->sec[rank * DPR_CAUSES]);
        assert_true(fabs(sum - ledger->bubble_sec[rank]) <= rounding);
        assert_true(fabs(idle_sec[rank] - ledger->bubble_sec[rank]) <= rounding);
    }
}

static void causes_add_up_to_the_bubble(void **state)
{
    (void)state;
    dice_t dice = {.seed = 6};
    double seen[DPR_CAUSES] = {0};
    for (int i = 0; i < PROGRAMS; i++) {
        run_t run = any_run(&dice, i % 2 == 1);
        assert_ledger_adds_up(&run);
        for (int rank = 0; rank < run.ledger.ranks; rank++) {
            for (int c = 0; c < DPR_CAUSES; c++) {
                seen[c] += dpr_ledger_sec(&run.ledger, rank, (dpr_cause_t)c);
            }
            if (i % 2 == 0) { /* simulated: nothing takes longer than predicted or starts late */
                assert_true(dpr_ledger_sec(&run.ledger, rank, DPR_CAUSE_HOST) == 0.0);
                assert_true(dpr_ledger_sec(&run.ledger, rank, DPR_CAUSE_STRAGGLER) == 0.0);
            }
        }
        free_run(&run);
    }
    for (int c = 0; c < DPR_CAUSES; c++) {
        assert_true(seen[c] > 0.0);
    }
}

static const dpr_idle_t *idle_before(const dpr_ledger_t *ledger, int32_t op)
{
    for (size_t i = 0; i < ledger->idle_count; i++) {
        if (ledger->idle[i].op == op) {
            return &ledger->idle[i];
        }
    }
    return NULL;
}

/* That from one ledger to the other the interval grew by `more`, all of it under one cause. */
static void assert_grew_by(const dpr_idle_t *before, const dpr_idle_t *after, dpr_cause_t cause,
                           double more)
{
    for (int c = 0; c < DPR_CAUSES; c++) {
        const double grown = after->sec[c] - before->sec[c];
        assert_near(grown, c == (int)cause ? more : 0.0);
    }
}

/*
 * Plays the run with `more` added to one entry of taken[] or delay[]. Where the wait before `op`
 * begins as it did, and still ends with the same release, all that was added is under `cause`.
 */
static bool disturb(run_t *run, double *entry, const dpr_idle_t *idle, dpr_cause_t cause,
                    double more)
{
    const dpr_idle_t before = *idle;
    *entry += more;
    play(run);
    const dpr_idle_t *after = idle_before(&run->ledger, before.op);
    const bool is_defined =
        after != NULL && after->start_sec == before.start_sec && after->release == before.release;
    if (is_defined) {
        assert_grew_by(&before, after, cause, more);
    }
    *entry -= more;
    play(run);
    return is_defined;
}

/* The op that the transfer was waiting for when it started, and nothing else; or -1. */
static int32_t waiting_producer(const run_t *run, const dpr_idle_t *idle)
{
    const dpr_graph_t *graph = run->graph;
    if (idle->sec[DPR_CAUSE_DEPENDENCY] <= 0.0 || idle->release < graph->compute_count) {
        return -1;
    }
    for (int32_t e = graph->edge_begin[idle->release]; e < graph->edge_begin[idle->release + 1];
         e++) {
        const int32_t from = graph->edges[e].from;
        if (graph->edges[e].kind == DPR_EDGE_DATA) {
            return run->timeline.end[from] == run->timeline.start[idle->release] ? from : -1;
        }
    }
    return -1;
}

static void a_delay_appears_under_its_own_cause_alone(void **state)
{
    (void)state;
    dice_t dice = {.seed = 7};
    int stragglers = 0;
    int links = 0;
    int hosts = 0;
    int firsts = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        run_t run = any_run(&dice, false);
        for (int attempt = 0; attempt < 4 && run.ledger.idle_count > 0; attempt++) {
            const size_t which = (size_t)dice_roll(&dice, (int)run.ledger.idle_count);
            const double more = dice_real(&dice, 0.1, 1.0);
            const dpr_idle_t idle = run.ledger.idle[which];
            if (idle.op < 0) {
                continue; /* drain */
            }
            firsts += idle.op == run.graph->rank_begin[idle.rank];
            hosts += disturb(&run, &run.delay[idle.op], &idle, DPR_CAUSE_HOST, more);
            if (idle.sec[DPR_CAUSE_BUFFER] == 0.0 && idle.release >= run.graph->compute_count &&
                idle.sec[DPR_CAUSE_WIRE] >= run.cost[idle.release] - 1e-12) {
                links += disturb(&run, &run.taken[idle.release], &idle, DPR_CAUSE_WIRE, more);
            }
            const int32_t producer = waiting_producer(&run, &idle);
            if (producer >= 0) {
                stragglers += disturb(&run, &run.taken[producer], &idle, DPR_CAUSE_STRAGGLER, more);
            }
        }
        free_run(&run);
    }
    assert_true(firsts > 200);
    assert_true(hosts > 1000); /* of some 4,000 tried: the test did look */
    assert_true(links > 1000);
    assert_true(stragglers > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_has_fill_wire_dependency_and_drain),
        cmocka_unit_test(a_slow_producer_is_a_straggler_by_its_excess_alone),
        cmocka_unit_test(a_slow_link_is_wire),
        cmocka_unit_test(a_late_start_is_the_hosts),
        cmocka_unit_test(a_receive_buffer_that_is_not_free_is_buffer),
        cmocka_unit_test(a_send_buffer_that_is_not_free_is_buffer),
        cmocka_unit_test(a_first_op_that_is_late_is_the_hosts),
        cmocka_unit_test(a_message_behind_another_is_charged_with_its_causes),
        cmocka_unit_test(an_overlap_is_a_negative_wait_for_the_host),
        cmocka_unit_test(causes_add_up_to_the_bubble),
        cmocka_unit_test(a_delay_appears_under_its_own_cause_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
