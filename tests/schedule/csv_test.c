/* Programs as CSV: what is read, what is refused and where, and that nothing is lost both ways. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"

static void expect_error(const char *text, const char *message)
{
    dpr_program_t program;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_csv_parse(text, strlen(text), "plan.csv", &program));
    assert_int_equal(status, DPR_ERR_PARSE);
    assert_string_equal(captured, message);
}

static char *write_text(const dpr_program_t *program, size_t *length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, length);
    assert_non_null(out);
    assert_int_equal(dpr_csv_write(program, out), DPR_OK);
    fclose(out);
    return text;
}

static void every_kind_of_action_is_read(void **state)
{
    (void)state;
    dpr_program_t program = parse_program("0F0,1I2,3W4,5B6\n(7F8;9B10)OVERLAP_F_B\n");
    assert_int_equal(program.ranks, 2);
    assert_int_equal(program.stages, 10);
    assert_int_equal(program.micro_batches, 11);
    assert_int_equal(dpr_program_size(&program), 5);
    assert_int_equal(program.actions[1].kind, DPR_ACTION_I);
    assert_int_equal(program.actions[2].kind, DPR_ACTION_W);
    assert_int_equal(program.actions[3].kind, DPR_ACTION_B);
    const dpr_action_t *fb = &program.actions[4];
    assert_int_equal(fb->kind, DPR_ACTION_FB);
    assert_int_equal(fb->stage, 7);
    assert_int_equal(fb->micro_batch, 8);
    assert_int_equal(fb->b_stage, 9);
    assert_int_equal(fb->b_micro_batch, 10);
    dpr_program_free(&program);
}

static void layout_does_not_matter(void **state)
{
    (void)state;
    dpr_program_t expected = parse_program("0F0,0B0\n1F0,1B0\n");
    static const char *const texts[] = {"0F0,0B0\n1F0,1B0", "0F0,0B0\r\n1F0,1B0\r\n",
                                        " 0F0 ,\t0B0\n1F0 , 1B0 \n", "0F0,,0B0,\n,1F0,1B0,,\n",
                                        "00F00,0B0\r\n1F0,01B0\r"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        dpr_program_t program = parse_program(texts[i]);
        assert_true(dpr_program_equal(&program, &expected));
        dpr_program_free(&program);
    }
    dpr_program_free(&expected);
}

static void expect_ranks(const char *text, int ranks, const char *written)
{
    dpr_program_t program = parse_program(text);
    assert_int_equal(program.ranks, ranks);
    size_t length;
    char *again = write_text(&program, &length);
    assert_string_equal(again, written);
    free(again);
    dpr_program_free(&program);
}

static void an_empty_line_is_a_rank_without_work_but_not_at_the_end(void **state)
{
    (void)state;
    expect_ranks("0F0,0B0\n\n1F0,1B0", 3, "0F0,0B0\n,\n1F0,1B0\n");
    expect_ranks("\n \t\r\n0F0,0B0\n", 3, ",\n,\n0F0,0B0\n");
    expect_ranks("0F0,0B0\n\n", 1, "0F0,0B0\n");
    expect_ranks("0F0,0B0\r\n \r\n\t\n\n  ", 1, "0F0,0B0\n");
    expect_ranks("0F0,0B0\n,", 2, "0F0,0B0\n,\n");
    expect_ranks("0F0,0B0\n,\n\n,\n\n", 4, "0F0,0B0\n,\n,\n,\n");
}

static void errors_say_where_and_what_was_expected(void **state)
{
    (void)state;
    expect_error("", "plan.csv:1:1: expected one line of actions per rank, found end of file");
    expect_error("\n\n", "plan.csv:1:1: expected one line of actions per rank, found end of line");
    expect_error(",\n,\n", "plan.csv:3:1: expected at least one action, found end of file");
    expect_error("0F0,0X0\n", "plan.csv:1:6: expected F, B, I or W, found 'X0'");
    expect_error(
        "0F0\n1F0,F1\n",
        "plan.csv:2:5: expected an action such as 2F0 or (0F7;7B3)OVERLAP_F_B, found 'F1'");
    expect_error("0F\n", "plan.csv:1:3: expected a micro-batch number, found end of line");
    expect_error("0F", "plan.csv:1:3: expected a micro-batch number, found end of file");
    expect_error("0F0 0B0\n", "plan.csv:1:5: expected ',' or the end of the line, found '0B0'");
    expect_error("0F0;0B0\n", "plan.csv:1:4: expected ',' or the end of the line, found ';0B0'");
    expect_error("(0F1;0B0)\n", "plan.csv:1:10: expected OVERLAP_F_B, found end of line");
    expect_error("(0B1;0F0)OVERLAP_F_B\n",
                 "plan.csv:1:3: expected F, the forward of an overlapped pair, found 'B1'");
    expect_error("(0F1;0I0)OVERLAP_F_B\n",
                 "plan.csv:1:7: expected B, the backward of an overlapped pair, found 'I0'");
    expect_error("(0F1,0B0)OVERLAP_F_B\n", "plan.csv:1:5: expected ';', found ',0B0'");
    expect_error("0F0,\x01\n", "plan.csv:1:5: expected an action such as 2F0 or "
                               "(0F7;7B3)OVERLAP_F_B, found byte 0x01");
    expect_error("0F0\r0B0\n",
                 "plan.csv:1:4: expected ',' or the end of the line, found byte 0x0d");
}

static void numbers_beyond_the_limits_are_errors(void **state)
{
    (void)state;
    expect_error("8192F0\n",
                 "plan.csv:1:1: expected a stage number of at most 8191, found '8192F0'");
    expect_error("0F65536\n",
                 "plan.csv:1:3: expected a micro-batch number of at most 65535, found '65536'");
    expect_error("0F99999999999999999999999\n", "plan.csv:1:3: expected a micro-batch number of at "
                                                "most 65535, found '9999999999999999'");
    expect_error("0F65535,8191F0\n",
                 "plan.csv:1:9: expected a program of at most 67108864 stages x micro-batches, "
                 "found '8191F0'");
    expect_error("(8191F65535;0B0)OVERLAP_F_B\n",
                 "plan.csv:1:1: expected a program of at most 67108864 stages x micro-batches, "
                 "found '(8191F65535'");
    char lines[DPR_MAX_RANKS + 4] = "";
    memset(lines, '\n', DPR_MAX_RANKS);
    memcpy(lines + DPR_MAX_RANKS, "0F0", 4);
    expect_error(lines, "plan.csv:4097:1: expected at most 4096 lines, one per rank, found '0F0'");
    memcpy(lines + DPR_MAX_RANKS - 1, "0F0", 4);
    dpr_program_t most = parse_program(lines);
    assert_int_equal(most.ranks, DPR_MAX_RANKS);
    dpr_program_free(&most);
}

static void files_that_cannot_be_read_are_named(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nonexistent/plan.csv", "/"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        dpr_program_t program;
        char captured[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, captured, dpr_csv_read(paths[i], &program));
        assert_int_equal(status, DPR_ERR_IO);
        assert_contains(captured, paths[i]);
    }
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL) {
        skip();
    }
    dpr_program_t program = make_program("gpipe", 2, 2);
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_csv_write(&program, full));
    assert_int_equal(status, DPR_ERR_IO);
    dpr_program_free(&program);
    fclose(full);
}

static void expect_round_trip(const dpr_program_t *program)
{
    size_t length;
    char *text = write_text(program, &length);
    dpr_program_t again;
    assert_int_equal(dpr_csv_parse(text, length, "again", &again), DPR_OK);
    assert_true(dpr_program_equal(program, &again));
    dpr_program_free(&again);
    free(text);
}

static void every_schedule_survives_the_round_trip(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int m = 1; m <= 4 * ranks; m++) {
                if (schedules[i].allows(ranks, m)) {
                    dpr_program_t program = make_program(schedules[i].name, ranks, m);
                    expect_round_trip(&program);
                    dpr_program_free(&program);
                }
            }
        }
    }
}

/* Changes, drops, doubles or moves a few bytes. Returns the new length; text has room for it. */
static size_t mutate_text(dice_t *dice, char *text, size_t length)
{
    static const char bytes[] = "0123456789FBIW(),;\n\r \t_OVERLAP-+xX\x00\x7f\xff";
    for (int changes = 1 + dice_roll(dice, 4); changes > 0 && length > 1; changes--) {
        const size_t at = (size_t)dice_roll(dice, (int)length);
        const size_t run = 1 + (size_t)dice_roll(dice, (int)(length - at < 12 ? length - at : 12));
        switch (dice_roll(dice, 4)) {
        case 0:
            text[at] = bytes[dice_roll(dice, (int)sizeof bytes)];
            break;
        case 1: /* drop a run */
            memmove(text + at, text + at + run, length - at - run);
            length -= run;
            break;
        case 2: /* double a run */
            memmove(text + at + run, text + at, length - at);
            length += run;
            break;
        default: /* cut */
            length = dice_roll(dice, 8) == 0 ? at + 1 : length;
            break;
        }
    }
    return length;
}

/* Every text gives a program, which can be written and read again, or a message. */
static void ten_thousand_mutated_texts_give_a_program_or_an_error(void **state)
{
    (void)state;
    dice_t dice = {.seed = 2024};
    dpr_program_t program = make_program("dualpipe", 4, 8);
    size_t length;
    char *text = write_text(&program, &length);
    dpr_program_free(&program);
    int parsed = 0;
    for (int i = 0; i < 10000; i++) {
        /* a copy of its exact size, so that a read beyond the end shows under a sanitizer */
        char *work = malloc(length + 64);
        memcpy(work, text, length);
        const size_t mutated = mutate_text(&dice, work, length);
        work = realloc(work, mutated);
        char captured[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, captured, dpr_csv_parse(work, mutated, "fuzz", &program));
        if (status == DPR_OK) {
            parsed++;
            expect_round_trip(&program);
            CAPTURE(status, captured, dpr_program_check(&program));
            assert_int_equal(captured[0] == '\0', status == DPR_OK);
            dpr_program_free(&program);
        } else {
            assert_int_equal(status, DPR_ERR_PARSE);
            assert_contains(captured, "fuzz:");
            assert_contains(captured, ": expected ");
        }
        free(work);
    }
    assert_in_range(parsed, 500, 9500); /* the mutations reach both sides */
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_action_is_read),
        cmocka_unit_test(layout_does_not_matter),
        cmocka_unit_test(an_empty_line_is_a_rank_without_work_but_not_at_the_end),
        cmocka_unit_test(errors_say_where_and_what_was_expected),
        cmocka_unit_test(numbers_beyond_the_limits_are_errors),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(every_schedule_survives_the_round_trip),
        cmocka_unit_test(ten_thousand_mutated_texts_give_a_program_or_an_error),
    };
    return cmocka_run_group_tests_name("csv", tests, NULL, NULL);
}
