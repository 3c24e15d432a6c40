/* The published table: its numbers, and what generated programs say of them. */
#include <math.h>

#include "base/log.h"
#include "models/bubbles.h"
#include "models/published.h"
#include "tests/schedule/schedule_testing.h"

static const dpr_uniform_costs_t unit = DPR_UNIFORM_COSTS_DEFAULT;

static void numbers_are_those_of_the_table(void **state)
{
    (void)state;
    const dpr_uniform_costs_t costs = {.f = 1.0, .i = 1.25, .w = 0.75, .b = -1.0, .fb = 2.5};
    dpr_published_t rows[DPR_PUBLISHED_ROWS];
    assert_int_equal(dpr_published_table(8, &costs, rows), DPR_OK);
    const double bubbles[] = {7 * 3.0, 7 * 1.5, 3 * (2.5 + 2.0 - 2.25), 3 * (2.5 + 2.0 - 2.25)};
    const int numbers[][3] = {{1, 8, 8}, {1, 8, 8}, {2, 9, 8}, {2, 9, 4}};
    for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
        assert_true(rows[i].applies);
        assert_true(fabs(rows[i].bubble_sec - bubbles[i]) < 1e-12);
        assert_int_equal(rows[i].parameters, numbers[i][0]);
        assert_int_equal(rows[i].activations, numbers[i][1]);
        assert_int_equal(rows[i].devices, numbers[i][2]);
    }
    assert_int_equal(dpr_published_table(7, &unit, rows), DPR_OK);
    assert_true(rows[0].applies && rows[1].applies);
    assert_true(!rows[2].applies && !rows[3].applies);
}

/* Stages, activations and devices of a program are those of its row, for the least M and above. */
static void programs_hold_what_the_table_says(void **state)
{
    (void)state;
    for (int PP = 2; PP <= 32; PP += 2) {
        dpr_published_t rows[DPR_PUBLISHED_ROWS];
        assert_int_equal(dpr_published_table(PP, &unit, rows), DPR_OK);
        for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
            dpr_program_t program = make_program(rows[i].schedule, rows[i].devices, 2 * PP + 2);
            dpr_graph_t *graph = make_graph(&program);
            int peak = 0;
            for (int r = 0; r < graph->ranks; r++) {
                const int own = dpr_graph_peak_activations(graph, r);
                peak = own > peak ? own : peak;
            }
            assert_int_equal(graph->stages, PP);
            assert_int_equal(peak, rows[i].activations);
            int32_t holders[64];
            int held = 0;
            assert_int_equal(dpr_program_holders(&program, holders), DPR_OK);
            for (int k = 0; k < 2 * PP; k++) {
                held += holders[k] == 0; /* stages of which rank 0 keeps the parameters */
            }
            assert_int_equal(held, rows[i].parameters);
            dpr_graph_destroy(graph);
            dpr_program_free(&program);
        }
    }
}

/* With F = I >= W and F&B = F + B the table and the closed forms are one. */
static void bubbles_are_the_closed_forms_where_those_are_exact(void **state)
{
    (void)state;
    dice_t dice = {3, 0};
    for (int PP = 2; PP <= 32; PP += 2) {
        dpr_uniform_costs_t costs = unit;
        costs.f = costs.i = dice_real(&dice, 0.5, 2.0);
        costs.w = dice_real(&dice, 0.1, costs.f);
        dpr_published_t rows[DPR_PUBLISHED_ROWS];
        assert_int_equal(dpr_published_table(PP, &costs, rows), DPR_OK);
        for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
            dpr_bubble_t bubble;
            assert_int_equal(
                dpr_bubble_closed_form(rows[i].schedule, rows[i].devices, 2 * PP, &costs, &bubble),
                DPR_OK);
            assert_int_equal(bubble.exactness, DPR_EXACT);
            assert_true(fabs(bubble.bubble_sec - rows[i].bubble_sec) < 1e-9);
        }
    }
}

static void impossible_tables_are_refused(void **state)
{
    (void)state;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    dpr_published_t rows[DPR_PUBLISHED_ROWS] = {{.devices = 77}};
    const int stages[] = {0, -1, DPR_MAX_STAGES + 1};
    for (int i = 0; i < 3; i++) {
        CAPTURE(status, text, dpr_published_table(stages[i], &unit, rows));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_contains(text, "1 to 8192");
    }
    const double bad[] = {NAN, INFINITY, -1.0, 1e308};
    for (int i = 0; i < 4; i++) {
        dpr_uniform_costs_t costs = unit;
        costs.f = bad[i];
        CAPTURE(status, text, dpr_published_table(8, &costs, rows));
        assert_int_equal(status, DPR_ERR_INVALID);
    }
    assert_int_equal(rows[0].devices, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_table),
        cmocka_unit_test(programs_hold_what_the_table_says),
        cmocka_unit_test(bubbles_are_the_closed_forms_where_those_are_exact),
        cmocka_unit_test(impossible_tables_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
