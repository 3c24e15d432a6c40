/* No two buffers that are alive at once share a slot, whatever the costs; and no slot is wasted. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>

#include "models/simulate.h"

/* From when to when a buffer holds its slot. */
typedef struct life {
    int32_t pool;
    int32_t slot;
    double begin;
    double end;
} life_t;

typedef struct lives {
    const dpr_graph_t *graph;
    const dpr_timeline_t *timeline;
    life_t *lives;
    size_t count;
} lives_t;

static void add_life(lives_t *lives, dpr_buffer_t buffer, int32_t writer, int32_t reader)
{
    if (buffer.pool < 0) {
        return;
    }
    assert_in_range(buffer.pool, 0, lives->graph->pool_count - 1);
    assert_in_range(buffer.slot, 0, lives->graph->pools[buffer.pool].slots - 1);
    lives->lives[lives->count++] = (life_t){
        buffer.pool, buffer.slot, lives->timeline->start[writer], lives->timeline->end[reader]};
}

/* What a cell's buffers are, by the header's table alone. */
static void add_cell(lives_t *lives, int stage, int micro_batch)
{
    const dpr_graph_t *graph = lives->graph;
    const dpr_cell_t *cell = &graph->cells[stage * graph->micro_batches + micro_batch];
    const dpr_cell_t *below = stage > 0 ? cell - graph->micro_batches : NULL;
    const dpr_cell_t *above = stage + 1 < graph->stages ? cell + graph->micro_batches : NULL;
    const bool forward_only = graph->forward_only;
    const int32_t last = forward_only ? cell->forward : cell->weight;

    add_life(lives, cell->buffer[DPR_BUFFER_SAVED], cell->forward, last);
    assert_int_equal(cell->buffer[DPR_BUFFER_ACT_IN].pool >= 0, below != NULL);
    assert_int_equal(cell->buffer[DPR_BUFFER_ACT_OUT].pool >= 0, above != NULL);
    assert_int_equal(cell->buffer[DPR_BUFFER_GRAD_IN].pool >= 0, above != NULL && !forward_only);
    assert_int_equal(cell->buffer[DPR_BUFFER_GRAD_OUT].pool >= 0, below != NULL && !forward_only);
    if (below != NULL) {
        add_life(lives, cell->buffer[DPR_BUFFER_ACT_IN],
                 below->rank == cell->rank ? below->forward : below->send_act, last);
    }
    if (above != NULL && above->rank != cell->rank) {
        add_life(lives, cell->buffer[DPR_BUFFER_ACT_OUT], cell->forward, cell->send_act);
    }
    if (forward_only) {
        return;
    }
    add_life(lives, cell->buffer[DPR_BUFFER_WSTATE], cell->backward, cell->weight);
    if (above != NULL) {
        add_life(lives, cell->buffer[DPR_BUFFER_GRAD_IN],
                 above->rank == cell->rank ? above->backward : above->send_grad, last);
    }
    if (below != NULL && below->rank != cell->rank) {
        add_life(lives, cell->buffer[DPR_BUFFER_GRAD_OUT], cell->backward, cell->send_grad);
    }
}

static int compare_lives(const void *a, const void *b)
{
    const life_t *x = a;
    const life_t *y = b;
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    if (x->slot != y->slot) {
        return x->slot < y->slot ? -1 : 1;
    }
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Every slot of every pool is used, and by one buffer at a time. */
static void expect_disjoint(const lives_t *lives)
{
    qsort(lives->lives, lives->count, sizeof *lives->lives, compare_lives);
    int32_t used = 0;
    for (size_t i = 0; i < lives->count; i++) {
        const life_t *life = &lives->lives[i];
        if (i == 0 || life[-1].pool != life->pool || life[-1].slot != life->slot) {
            used++;
        } else {
            assert_true(life[-1].end <= life->begin);
        }
    }
    int32_t slots = 0;
    for (int32_t p = 0; p < lives->graph->pool_count; p++) {
        slots += lives->graph->pools[p].slots;
    }
    assert_int_equal(used, slots);
}

/* The largest number of SAVED sets that one rank held at once equals what the graph says. */
static void expect_peaks(const lives_t *lives)
{
    for (int32_t rank = 0; rank < lives->graph->ranks; rank++) {
        const int32_t pool = DPR_POOL_KINDS * rank + DPR_POOL_SAVED;
        int most = 0;
        for (size_t i = 0; i < lives->count; i++) {
            int alive = 0;
            for (size_t j = 0; j < lives->count && lives->lives[i].pool == pool; j++) {
                alive += lives->lives[j].pool == pool &&
                         lives->lives[j].begin <= lives->lives[i].begin &&
                         lives->lives[j].end > lives->lives[i].begin;
            }
            most = alive > most ? alive : most;
        }
        assert_int_equal(dpr_graph_peak_activations(lives->graph, rank), most);
    }
}

static void expect_slots(dice_t *dice, const dpr_program_t *program,
                         const dpr_graph_options_t *options)
{
    dpr_graph_t *graph = NULL;
    assert_int_equal(dpr_graph_create(program, options, &graph), DPR_OK);
    const size_t cells = (size_t)(graph->stages * graph->micro_batches);
    double *cost = malloc((size_t)graph->node_count * sizeof *cost);
    dpr_timeline_t timeline;
    assert_int_equal(dpr_timeline_init(&timeline, graph), DPR_OK);
    lives_t lives = {.graph = graph, .timeline = &timeline};
    lives.lives = calloc(DPR_BUFFER_KINDS * cells, sizeof *lives.lives);
    for (int round = 0; round < 3; round++) {
        for (int32_t n = 0; n < graph->node_count; n++) {
            cost[n] = dice_real(dice, 0.01, round == 0 ? 0.02 : 4.0);
        }
        dpr_simulate(graph, cost, &timeline);
        lives.count = 0;
        for (int s = 0; s < graph->stages; s++) {
            for (int m = 0; m < graph->micro_batches; m++) {
                add_cell(&lives, s, m);
            }
        }
        expect_disjoint(&lives);
    }
    expect_peaks(&lives);
    for (int32_t p = 0; p < graph->pool_count; p++) {
        const dpr_pool_t *pool = &graph->pools[p];
        assert_int_equal(pool->channel < 0, p < DPR_POOL_KINDS * graph->ranks);
        if (pool->channel < 0) {
            assert_int_equal(pool->rank, p / DPR_POOL_KINDS);
            assert_int_equal(pool->kind, p % DPR_POOL_KINDS);
        }
    }
    free(lives.lives);
    free(cost);
    dpr_timeline_free(&timeline);
    dpr_graph_destroy(graph);
}

static void slots_of_every_schedule_hold_one_buffer_at_a_time(void **state)
{
    (void)state;
    dice_t dice = {.seed = 21};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 6; ranks++) {
            for (int m = 1; m <= 3 * ranks; m++) {
                if (schedules[i].allows(ranks, m)) {
                    dpr_program_t program = make_program(schedules[i].name, ranks, m);
                    const dpr_graph_options_t options = {.recv_ahead = dice_roll(&dice, 3)};
                    expect_slots(&dice, &program, &options);
                    dpr_program_free(&program);
                }
            }
        }
    }
}

static void slots_of_random_programs_hold_one_buffer_at_a_time(void **state)
{
    (void)state;
    dice_t dice = {.seed = 22};
    for (int i = 0; i < 1500; i++) {
        dpr_program_t program = random_program(&dice);
        const dpr_graph_options_t options = {.recv_ahead = dice_roll(&dice, 3)};
        expect_slots(&dice, &program, &options);
        dpr_program_free(&program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_of_every_schedule_hold_one_buffer_at_a_time),
        cmocka_unit_test(slots_of_random_programs_hold_one_buffer_at_a_time),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
