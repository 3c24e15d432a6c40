/*
 * docs/schedules.md draws small examples. Each is drawn again from the simulation, with F = I = W =
 * 1 and no wire time, and must be the same to the character:
 *
 *     1f1b, P = 2, M = 2                       name and size, then one line a rank
 *     rank 0  F0 F1       B0--- B1---          three characters a unit of time
 *     rank 1     F0 B0--- F1 B1---             lower case: the second of the rank's two stages
 *
 * So is the table of simulated bubbles, in which a rank's stages together have these costs.
 */
#include "tests/schedule/schedule_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/costs.h"
#include "models/simulate.h"

static const char *document_path;

enum { LINE_MAX_LENGTH = 512, UNIT_WIDTH = 3 };

/* The first stage of rank r is r in every family; all others are its second. */
static char letter(dpr_action_kind_t kind, int rank, int stage)
{
    static const char upper[] = {'F', 'B', 'I', 'W'};
    static const char lower[] = {'f', 'b', 'i', 'w'};
    return stage == rank ? upper[kind] : lower[kind];
}

static void draw_node(const dpr_timeline_t *timeline, int32_t n, char *line)
{
    const dpr_node_t *node = &timeline->graph->nodes[n];
    char text[48];
    int length;
    if (node->kind == DPR_NODE_FB) {
        length = snprintf(text, sizeof text, "%c%d%c%d",
                          letter(DPR_ACTION_F, node->rank, node->stage), node->micro_batch,
                          letter(DPR_ACTION_B, node->rank, node->b_stage), node->b_micro_batch);
    } else {
        length = snprintf(text, sizeof text, "%c%d",
                          letter((dpr_action_kind_t)node->kind, node->rank, node->stage),
                          node->micro_batch);
    }
    const int begin = UNIT_WIDTH * (int)timeline->start[n];
    const int end = UNIT_WIDTH * (int)timeline->end[n];
    assert_true(end < LINE_MAX_LENGTH && length < end - begin);
    memset(line + begin, '-', (size_t)(end - begin - 1));
    memcpy(line + begin, text, (size_t)length);
}

static void draw_rank(const dpr_timeline_t *timeline, int rank, char *line)
{
    char cells[LINE_MAX_LENGTH];
    memset(cells, ' ', sizeof cells);
    const int32_t *begin = timeline->graph->rank_begin;
    for (int32_t n = begin[rank]; n < begin[rank + 1]; n++) {
        draw_node(timeline, n, cells);
    }
    int length = LINE_MAX_LENGTH - 1;
    while (length > 0 && cells[length - 1] == ' ') {
        length--;
    }
    snprintf(line, 2 * LINE_MAX_LENGTH, "rank %d  %.*s\n", rank, length, cells);
}

/* A program played with F = I = W = 1 / stages_per_rank. */
typedef struct played {
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_timeline_t timeline;
} played_t;

static void play(const char *name, int ranks, int micro_batches, int stages_per_rank,
                 played_t *played)
{
    played->program = make_program(name, ranks, micro_batches);
    played->graph = make_graph(&played->program);
    const double one = 1.0 / stages_per_rank;
    const dpr_uniform_costs_t costs = {one, one, one, -1.0, -1.0, 0.0};
    double *cost = calloc((size_t)played->graph->node_count, sizeof *cost);
    assert_non_null(cost);
    dpr_uniform_costs_fill(&costs, played->graph, cost);
    assert_int_equal(dpr_timeline_init(&played->timeline, played->graph), DPR_OK);
    dpr_simulate(played->graph, cost, &played->timeline);
    free(cost);
}

static void put_away(played_t *played)
{
    dpr_timeline_free(&played->timeline);
    dpr_graph_destroy(played->graph);
    dpr_program_free(&played->program);
}

static void expect_drawing(FILE *document, const char *name, int ranks, int micro_batches)
{
    played_t played;
    play(name, ranks, micro_batches, 1, &played);
    for (int r = 0; r < ranks; r++) {
        char expected[2 * LINE_MAX_LENGTH];
        char found[2 * LINE_MAX_LENGTH] = "";
        draw_rank(&played.timeline, r, expected);
        assert_non_null(fgets(found, sizeof found, document));
        assert_string_equal(found, expected);
    }
    put_away(&played);
}

static void every_schedule_is_drawn_as_it_is_simulated(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    bool *drawn = calloc(count, sizeof *drawn);
    assert_non_null(drawn);
    FILE *document = fopen(document_path, "rb");
    assert_non_null(document);
    char line[2 * LINE_MAX_LENGTH];
    while (fgets(line, sizeof line, document) != NULL) {
        char name[32];
        int ranks;
        int micro_batches;
        char end;
        if (sscanf(line, "%31[^,], P = %d, M = %d%c", name, &ranks, &micro_batches, &end) == 4 &&
            end == '\n') {
            const dpr_schedule_t *schedule = dpr_schedule_find(name);
            assert_non_null(schedule);
            drawn[schedule - schedules] = true;
            expect_drawing(document, name, ranks, micro_batches);
        }
    }
    fclose(document);
    for (size_t i = 0; i < count; i++) {
        if (!drawn[i]) {
            fail_msg("%s draws no %s", document_path, schedules[i].name);
        }
    }
    free(drawn);
}

/* One row, as docs/schedules.md spells it: P = 8, M = 32. */
static void expect_row(const char *name, const char *line)
{
    const int v = dpr_schedule_stages_per_rank(name);
    played_t played;
    play(name, 8, 32, v, &played);
    dpr_timeline_summary_t summary;
    assert_int_equal(dpr_timeline_summarize(&played.timeline, &summary), DPR_OK);
    double pause = 0.0;
    int least = INT32_MAX;
    int most = 0;
    for (int r = 0; r < 8; r++) {
        const int32_t first = played.graph->rank_begin[r];
        const int32_t last = played.graph->rank_begin[r + 1] - 1;
        const double own =
            played.timeline.end[last] - played.timeline.start[first] - summary.busy_sec[r];
        const int peak = dpr_graph_peak_activations(played.graph, r);
        pause = own > pause ? own : pause;
        least = peak < least ? peak : least;
        most = peak > most ? peak : most;
    }
    char expected[256];
    snprintf(expected, sizeof expected, "| %s | %g | %.1f %% | %g | %g, %g |\n", name,
             summary.bubble_sec[0], 100.0 * summary.bubble_ratio, pause, (double)least / v,
             (double)most / v);
    assert_string_equal(line, expected);
    dpr_timeline_summary_free(&summary);
    put_away(&played);
}

static void the_table_of_bubbles_is_as_simulated(void **state)
{
    (void)state;
    FILE *document = fopen(document_path, "rb");
    assert_non_null(document);
    char line[2 * LINE_MAX_LENGTH];
    size_t rows = 0;
    while (fgets(line, sizeof line, document) != NULL) {
        char name[32];
        double bubble;
        double percent;
        if (sscanf(line, "| %31[^| ] | %lf | %lf %%", name, &bubble, &percent) == 3) {
            expect_row(name, line);
            rows++;
        }
    }
    fclose(document);
    size_t count;
    dpr_schedule_list(&count);
    assert_true(rows >= count);
}

int main(int argc, char **argv)
{
    document_path = argc > 1 ? argv[1] : "docs/schedules.md";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_is_drawn_as_it_is_simulated),
        cmocka_unit_test(the_table_of_bubbles_is_as_simulated),
    };
    return cmocka_run_group_tests_name("drawings", tests, NULL, NULL);
}
