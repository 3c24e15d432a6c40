/* Comparison: the same model under every schedule, and why a schedule does not run. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "models/compare.h"
#include "models/published.h"
#include "tests/models/extremes.h"
#include "tests/schedule/schedule_testing.h"

static dpr_compare_config_t config_of(int ranks, int micro_batches)
{
    return (dpr_compare_config_t){.ranks = ranks,
                                  .micro_batches = micro_batches,
                                  .costs = DPR_UNIFORM_COSTS_DEFAULT,
                                  .message_bytes = 1000};
}

static void every_schedule_does_the_same_work(void **state)
{
    (void)state;
    dpr_compare_config_t config = config_of(4, 8);
    config.costs =
        (dpr_uniform_costs_t){.f = 1.5, .i = 2.0, .w = 0.5, .b = -1.0, .fb = -1.0, .wire = 0.25};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        dpr_comparison_t row;
        assert_int_equal(dpr_compare_schedule(&config, schedules[i].name, &row), DPR_OK);
        assert_true(row.runs);
        assert_string_equal(row.schedule, schedules[i].name);
        assert_int_equal(row.stages, schedules[i].stages(4));
        assert_true(fabs(row.step_sec - row.bubble_sec - 8 * 4.0) < 1e-9);
        assert_true(fabs(row.bubble_ratio - row.bubble_sec / row.step_sec) < 1e-12);
        assert_true(row.has_closed_form);
        assert_int_equal(row.traffic.bytes, 1000 * row.traffic.messages);
        assert_int_equal(row.memory_bytes, 0);
    }
}

static void shares_are_those_of_the_model(void **state)
{
    (void)state;
    const dpr_compare_config_t config = config_of(4, 8);
    dpr_comparison_t row;
    assert_int_equal(dpr_compare_schedule(&config, "1f1b", &row), DPR_OK);
    assert_int_equal(row.peak_activations, 4);
    assert_true(row.activation_shares == 4.0 && row.parameter_copies == 1.0);
    assert_true(row.step_sec == 8 * 3 + 9);
    assert_int_equal(row.traffic.messages, 2 * 8 * 3);
    assert_int_equal(row.most_sent_bytes, 16 * 1000);
    assert_int_equal(dpr_compare_schedule(&config, "dualpipe", &row), DPR_OK);
    assert_int_equal(row.peak_activations, 5);
    assert_true(row.activation_shares == 5.0 && row.parameter_copies == 2.0);
    assert_true(row.step_sec == 8 * 3 + 2);
    assert_int_equal(dpr_compare_schedule(&config, "dualpipev", &row), DPR_OK);
    assert_int_equal(row.peak_activations, 9);
    assert_true(row.activation_shares == 4.5 && row.parameter_copies == 1.0);
    assert_true(fabs(row.step_sec - (8 * 3 + 3)) < 1e-9); /* (P-1) 2 halved */
    dpr_compare_config_t own = config;
    own.costs_of_own_stages = true;
    assert_int_equal(dpr_compare_schedule(&own, "dualpipev", &row), DPR_OK);
    assert_true(fabs(row.step_sec - 2 * (8 * 3 + 3)) < 1e-9);
    dpr_comparison_t loops;
    assert_int_equal(dpr_compare_schedule(&config, "interleaved-1f1b:4", &loops), DPR_OK);
    assert_int_equal(loops.stages, 16);
    assert_true(fabs(loops.step_sec - (8 * 3 + 9.0 / 4.0)) < 1e-9);
}

static void a_schedule_that_cannot_run_says_why(void **state)
{
    (void)state;
    const dpr_compare_config_t config = config_of(3, 5);
    dpr_comparison_t row;
    assert_int_equal(dpr_compare_schedule(&config, "dualpipe", &row), DPR_OK);
    assert_false(row.runs);
    assert_string_equal(row.schedule, "dualpipe");
    assert_contains(row.reason, "P even");
    assert_null(strchr(row.reason, '\n'));
    assert_int_equal(dpr_compare_schedule(&config, "dualpipev", &row), DPR_OK);
    assert_false(row.runs);
    assert_contains(row.reason, "M >= 2P");
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_compare_schedule(&config, "nonsense", &row));
    assert_int_equal(status, DPR_ERR_INVALID);
    CAPTURE(status, text, dpr_compare_schedule(&config, "interleaved-1f1b:0", &row));
    assert_int_equal(status, DPR_ERR_INVALID);
}

static void a_program_from_a_file_is_compared_alike(void **state)
{
    (void)state;
    const dpr_compare_config_t config = config_of(1, 1); /* the program brings its own */
    dpr_program_t program = parse_program("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
    dpr_comparison_t row;
    assert_int_equal(dpr_compare_program(&config, &program, &row), DPR_OK);
    assert_true(row.runs);
    assert_false(row.has_closed_form);
    assert_int_equal(row.stages, 2);
    assert_true(row.step_sec == 9.0); /* 1F1B of two: 2 x 3 + 1 x 3 */
    dpr_program_free(&program);
    program = parse_program("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"); /* deadlocks */
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_compare_program(&config, &program, &row));
    assert_int_equal(status, DPR_ERR_DEADLOCK);
    dpr_program_free(&program);
}

static dpr_status_t stage_memory(void *user, int stages, dpr_stage_memory_t *stage)
{
    const uint64_t total = *(const uint64_t *)user;
    for (int s = 0; s < stages; s++) {
        stage[s] = (dpr_stage_memory_t){total / (uint64_t)stages, 8, 1600 / (uint64_t)stages, 0};
    }
    return DPR_OK;
}

static void memory_is_of_the_rank_that_holds_most(void **state)
{
    (void)state;
    uint64_t parameters = 1600;
    dpr_compare_config_t config = config_of(4, 8);
    config.stage_memory = stage_memory;
    config.stage_memory_user = &parameters;
    config.memory_format = dpr_memory_format(DPR_DTYPE_FP32, DPR_STATE_ADAMW);
    config.memory_format.slot_alignment = 1;
    dpr_comparison_t row;
    assert_int_equal(dpr_compare_schedule(&config, "1f1b", &row), DPR_OK);
    assert_int_equal(row.activation_bytes, 4 * 400);
    assert_in_range(row.memory_bytes, 16 * 400 + 1600, 16 * 400 + 1600 + 200);
    assert_int_equal(dpr_compare_schedule(&config, "dualpipev", &row), DPR_OK);
    assert_int_equal(row.activation_bytes, 9 * 200);
    assert_int_equal(dpr_compare_schedule(&config, "dualpipe", &row), DPR_OK);
    assert_in_range(row.memory_bytes, 16 * 800 + 2000, 16 * 800 + 2000 + 300);
}

static void costs_and_sizes_that_are_none_are_refused(void **state)
{
    (void)state;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    dpr_comparison_t row = {.stages = 77};
    const double bad[] = {NAN, INFINITY, -0.5, 1e308};
    for (int i = 0; i < 4; i++) {
        dpr_compare_config_t config = config_of(4, 8);
        config.costs.f = bad[i];
        CAPTURE(status, text, dpr_compare_schedule(&config, "1f1b", &row));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_int_equal(row.stages, 77);
    }
    dpr_compare_config_t config = config_of(64, 65536);
    CAPTURE(status, text, dpr_compare_schedule(&config, "1f1b", &row));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "1048576");
}

/* A cost that would be taken as the default where it is negative. */
static dpr_uniform_costs_t roll_costs(dice_t *dice)
{
    return (dpr_uniform_costs_t){.f = extreme_real(dice),
                                 .i = extreme_real(dice),
                                 .w = extreme_real(dice),
                                 .b = dice_roll(dice, 2) == 0 ? -1.0 : extreme_real(dice),
                                 .fb = dice_roll(dice, 2) == 0 ? -1.0 : extreme_real(dice),
                                 .wire = extreme_real(dice)};
}

static void check_answer(const dpr_comparison_t *row)
{
    assert_sane(row->step_sec);
    assert_sane(row->bubble_ratio);
    assert_true(row->bubble_ratio <= 1.0);
    assert_sane(row->bubble_sec);
    assert_true(row->bubble_sec <= row->step_sec);
    if (row->has_closed_form) {
        assert_sane(row->closed_form.bubble_sec);
        assert_sane(row->closed_form.busy_sec);
    }
    assert_true(row->traffic.messages >= 0 && row->traffic.bytes >= 0);
}

/* Whatever it is given: an answer that can be, or an error that says something. */
static void extreme_inputs_are_answered_or_refused(void **state)
{
    (void)state;
    dice_t dice = {17, 0};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    int answered = 0;
    for (int round = 0; round < 20000; round++) {
        dpr_compare_config_t config = config_of(extreme_int(&dice), extreme_int(&dice));
        if (dice_roll(&dice, 2) == 0) {
            config = config_of(1 + dice_roll(&dice, 6), 1 + dice_roll(&dice, 16));
        }
        if ((int64_t)config.ranks * config.micro_batches > 4096) {
            continue; /* would be right, and slow */
        }
        config.costs = roll_costs(&dice);
        config.message_bytes = dice_roll(&dice, 8) == 0 ? INT64_MAX : dice_roll(&dice, 5) - 1;
        char text[CAPTURED_MAX];
        dpr_status_t status;
        dpr_comparison_t row;
        const char *schedule = schedules[dice_roll(&dice, (int)count)].name;
        CAPTURE(status, text, dpr_compare_schedule(&config, schedule, &row));
        if (status != DPR_OK) {
            assert_int_equal(status, DPR_ERR_INVALID);
            assert_true(text[0] != '\0');
        } else if (row.runs) {
            check_answer(&row);
            answered++;
        } else {
            assert_true(row.reason[0] != '\0');
        }
        dpr_published_t rows[DPR_PUBLISHED_ROWS];
        CAPTURE(status, text, dpr_published_table(extreme_int(&dice), &config.costs, rows));
        for (int i = 0; i < DPR_PUBLISHED_ROWS && status == DPR_OK; i++) {
            assert_true(isfinite(rows[i].bubble_sec));
        }
    }
    assert_true(answered > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_does_the_same_work),
        cmocka_unit_test(shares_are_those_of_the_model),
        cmocka_unit_test(a_schedule_that_cannot_run_says_why),
        cmocka_unit_test(a_program_from_a_file_is_compared_alike),
        cmocka_unit_test(memory_is_of_the_rank_that_holds_most),
        cmocka_unit_test(costs_and_sizes_that_are_none_are_refused),
        cmocka_unit_test(extreme_inputs_are_answered_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
