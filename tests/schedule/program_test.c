/* Programs: building, comparing, and what dpr_program_check accepts and how it words what not. */
#include "tests/schedule/schedule_testing.h"

#include <string.h>

#include "base/log.h"

/* Checks a program of which the text is well-formed; its message must hold `part`. */
static void expect_rejected(const char *text, const char *part)
{
    dpr_program_t program = parse_program(text);
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_program_check(&program));
    assert_int_equal(status, DPR_ERR_PROGRAM);
    assert_contains(message, part);
    dpr_program_free(&program);
}

static void expect_accepted(const char *text)
{
    dpr_program_t program = parse_program(text);
    assert_int_equal(dpr_program_check(&program), DPR_OK);
    dpr_program_free(&program);
}

static void complete_programs_are_accepted(void **state)
{
    (void)state;
    expect_accepted("0F0,0B0\n");
    expect_accepted("0F0,0I0,0W0\n");
    expect_accepted("0F0,1F0,0F1\n1F1\n"); /* forward only */
    expect_accepted("0F0,0F1,0B0,0B1\n1F0,(1F1;1B0)OVERLAP_F_B,1B1\n");
    expect_accepted("0F0,0B0\n,\n"); /* a rank without work */
}

static void duplicates_are_named_with_both_places(void **state)
{
    (void)state;
    expect_rejected("0F0,0F0,0B0\n",
                    "rank 0, action 1 (0F0): duplicate: 0F0 stands already on rank "
                    "0, action 0");
    expect_rejected("0F0,0B0\n0F0,0B0\n", "rank 1, action 0 (0F0): duplicate: 0F0 stands already "
                                          "on rank 0, action 0");
    expect_rejected("0F0,0B0,0B0\n", "duplicate: 0B0");
    expect_rejected("0F0,0I0,0I0,0W0\n", "duplicate: 0I0");
    expect_rejected("0F0,0I0,0W0,0W0\n", "duplicate: 0W0");
    expect_rejected("0F0,0F1,0B0,(0F1;0B0)OVERLAP_F_B\n", "duplicate: 0F1");
}

static void a_weight_backward_comes_after_its_input_backward(void **state)
{
    (void)state;
    expect_rejected("0F0,0W0,0I0\n",
                    "rank 0, action 1 (0W0): expected 0I0 before it, found it after, action 2");
    expect_rejected("0F0,0W0\n", "expected 0I0 before it, found none");
}

static void a_backward_comes_after_its_forward_on_the_same_rank(void **state)
{
    (void)state;
    expect_rejected("0B0,0F0\n", "expected 0F0 before it, found it after, action 1");
    expect_rejected("0B0\n0F0\n", "expected 0F0 before it on the same rank, found it on rank 1");
    expect_rejected("0F0\n0B0\n", "expected 0F0 before it on the same rank, found it on rank 0");
    expect_rejected("0F0,0I0\n0W0\n", "expected 0F0 before it on the same rank");
    expect_rejected("0F0,0B0,0B1\n", "expected 0F1 before it, found none");
}

static void a_backward_is_whole_or_split_not_both(void **state)
{
    (void)state;
    expect_rejected("0F0,0I0,0B0\n", "0I0 stands on rank 0, action 1; expected either one B or one "
                                     "I and one W");
    expect_rejected("0F0,0B0,0I0\n", "0B0 stands on rank 0");
    expect_rejected("0F0,0B0,0W0\n", "0B0 stands on rank 0");
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    expect_rejected("0F0,0B0,0F2,0B2\n", "no rank runs 0F1");
    expect_rejected("0F0,1F0,1B0\n", "0F0 has no backward: expected 0B0, or 0I0 and 0W0");
    expect_rejected("0F0,0I0\n", "0I0 has no W: expected 0W0 after it");
}

static void an_overlapped_pair_is_of_two_micro_batches(void **state)
{
    (void)state;
    expect_rejected("0F0,(1F0;0B0)OVERLAP_F_B,1B0\n", "two different micro-batches");
}

static void numbers_out_of_range_are_rejected(void **state)
{
    (void)state;
    dpr_program_t program;
    assert_int_equal(dpr_program_init(&program, "test", 1, 1, 1), DPR_OK);
    assert_int_equal(dpr_program_append(&program, 0, dpr_action(DPR_ACTION_F, 1, 0)), DPR_OK);
    dpr_program_finish(&program);
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_program_check(&program));
    assert_int_equal(status, DPR_ERR_PROGRAM);
    assert_contains(message, "expected a stage of 0 to 0");
    dpr_program_free(&program);
}

static void sizes_beyond_the_limits_are_refused(void **state)
{
    (void)state;
    static const int sizes[][3] = {{0, 1, 1},
                                   {1, 0, 1},
                                   {1, 1, 0},
                                   {-1, 1, 1},
                                   {DPR_MAX_RANKS + 1, 1, 1},
                                   {1, DPR_MAX_STAGES + 1, 1},
                                   {1, 1, DPR_MAX_MICRO_BATCHES + 1},
                                   {1, DPR_MAX_STAGES, DPR_MAX_MICRO_BATCHES}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        dpr_program_t program;
        assert_int_equal(dpr_program_init(&program, "test", sizes[i][0], sizes[i][1], sizes[i][2]),
                         DPR_ERR_INVALID);
    }
}

static void programs_compare_by_content(void **state)
{
    (void)state;
    static const char *const texts[] = {"0F0,0B0\n1F0,1B0\n", "0F0,0B0\n1F0,1I0,1W0\n",
                                        "0F0,0B0,1F0,1B0\n", "0F0,0B0\n1F0,1B0\n,\n",
                                        "0F0,0B0,1F0\n1B0\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t j = 0; j < sizeof texts / sizeof texts[0]; j++) {
            dpr_program_t a = parse_program(texts[i]);
            dpr_program_t b = parse_program(texts[j]);
            assert_int_equal(dpr_program_equal(&a, &b), i == j);
            dpr_program_free(&a);
            dpr_program_free(&b);
        }
    }
}

static void an_evaluation_keeps_the_forwards_in_order(void **state)
{
    (void)state;
    dpr_program_t program = make_program("dualpipe", 2, 4);
    dpr_program_t forwards;
    assert_false(dpr_program_is_forward_only(&program));
    assert_int_equal(dpr_program_forward_only(&program, &forwards), DPR_OK);
    dpr_program_t expected = parse_program("0F0,1F2,0F1,1F3\n0F2,1F0,0F3,1F1\n");
    assert_true(dpr_program_equal(&forwards, &expected));
    assert_true(dpr_program_is_forward_only(&forwards));
    assert_int_equal(dpr_program_check(&forwards), DPR_OK);
    dpr_program_free(&program);
    dpr_program_free(&forwards);
    dpr_program_free(&expected);
}

static void holders_are_the_ranks_of_a_stage(void **state)
{
    (void)state;
    dpr_program_t program = make_program("dualpipe", 4, 8);
    int32_t holders[8];
    assert_int_equal(dpr_program_holders(&program, holders), DPR_OK);
    static const int32_t expected[8] = {0, 3, 1, 2, 1, 2, 0, 3};
    assert_memory_equal(holders, expected, sizeof expected);
    dpr_program_free(&program);

    program = make_program("1f1b", 2, 2);
    assert_int_equal(dpr_program_holders(&program, holders), DPR_OK);
    static const int32_t single[4] = {0, -1, 1, -1};
    assert_memory_equal(holders, single, sizeof single);
    dpr_program_free(&program);

    program = parse_program("0F0\n0F1\n0F2\n");
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_program_holders(&program, holders));
    assert_int_equal(status, DPR_ERR_PROGRAM);
    assert_contains(message, "stage 0 is on ranks 0, 1 and 2");
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complete_programs_are_accepted),
        cmocka_unit_test(duplicates_are_named_with_both_places),
        cmocka_unit_test(a_weight_backward_comes_after_its_input_backward),
        cmocka_unit_test(a_backward_comes_after_its_forward_on_the_same_rank),
        cmocka_unit_test(a_backward_is_whole_or_split_not_both),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(an_overlapped_pair_is_of_two_micro_batches),
        cmocka_unit_test(numbers_out_of_range_are_rejected),
        cmocka_unit_test(sizes_beyond_the_limits_are_refused),
        cmocka_unit_test(programs_compare_by_content),
        cmocka_unit_test(an_evaluation_keeps_the_forwards_in_order),
        cmocka_unit_test(holders_are_the_ranks_of_a_stage),
    };
    return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
