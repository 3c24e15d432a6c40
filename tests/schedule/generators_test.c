/* The generators: equal to the recorded programs, valid for every (P, M), and frugal as promised.
 */
#include "tests/schedule/schedule_testing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"

static const char *golden_folder;

static void expect_golden(const char *schedule, int ranks, int micro_batches, const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", golden_folder, file);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    char expected[8192];
    const size_t expected_length = fread(expected, 1, sizeof expected, in);
    fclose(in);

    dpr_program_t program = make_program(schedule, ranks, micro_batches);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    assert_int_equal(dpr_csv_write(&program, out), DPR_OK);
    fclose(out);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, length);
    free(text);
    dpr_program_free(&program);
}

static void dualpipe_is_the_recorded_program(void **state)
{
    (void)state;
    expect_golden("dualpipe", 4, 8, "dualpipe_4ranks_8mb.csv");
    expect_golden("dualpipe", 8, 20, "dualpipe_8ranks_20mb.csv");
}

static void dualpipev_is_the_recorded_program(void **state)
{
    (void)state;
    expect_golden("dualpipev", 4, 10, "dualpipev_4ranks_10mb.csv");
}

static void expect_program(const char *schedule, int ranks, int micro_batches, const char *text)
{
    dpr_program_t program = make_program(schedule, ranks, micro_batches);
    dpr_program_t expected = parse_program(text);
    assert_true(dpr_program_equal(&program, &expected));
    dpr_program_free(&program);
    dpr_program_free(&expected);
}

static void one_way_schedules_are_as_their_papers_draw_them(void **state)
{
    (void)state;
    expect_program("gpipe", 2, 3, "0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n");
    expect_program("1f1b", 3, 4,
                   "0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3\n"
                   "1F0,1F1,1B0,1F2,1B1,1F3,1B2,1B3\n"
                   "2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3\n");
    expect_program("1f1b", 3, 1, "0F0,0B0\n1F0,1B0\n2F0,2B0\n");
    expect_program("zb1p", 3, 4,
                   "0F0,0F1,0F2,0I0,0W0,0F3,0I1,0W1,0I2,0W2,0I3,0W3\n"
                   "1F0,1F1,1I0,1F2,1I1,1W0,1F3,1I2,1W1,1I3,1W2,1W3\n"
                   "2F0,2I0,2F1,2I1,2F2,2I2,2W0,2F3,2I3,2W1,2W2,2W3\n");
}

typedef void (*visit_fn_t)(const dpr_schedule_t *schedule, int ranks, int micro_batches);

/* Every P up to 16 and every allowed M up to 4P (and a little beyond, where P is small). */
static void for_every_size(visit_fn_t visit)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        int sizes = 0;
        for (int ranks = 1; ranks <= 16; ranks++) {
            for (int m = 1; m <= 4 * ranks + 4; m++) {
                if (schedules[i].allows(ranks, m)) {
                    visit(&schedules[i], ranks, m);
                    sizes++;
                }
            }
        }
        assert_true(sizes > 0);
    }
}

static void expect_valid(const dpr_schedule_t *schedule, int ranks, int micro_batches)
{
    dpr_program_t program = make_program(schedule->name, ranks, micro_batches);
    assert_string_equal(program.name, schedule->name);
    assert_int_equal(program.ranks, ranks);
    assert_int_equal(program.stages, schedule->stages(ranks));
    assert_int_equal(program.micro_batches, micro_batches);
    assert_true(micro_batches >= schedule->min_micro_batches(ranks));
    assert_int_equal(dpr_program_check(&program), DPR_OK);
    dpr_graph_destroy(make_graph(&program));

    dpr_program_t forwards;
    assert_int_equal(dpr_program_forward_only(&program, &forwards), DPR_OK);
    assert_int_equal(dpr_program_check(&forwards), DPR_OK);
    dpr_graph_destroy(make_graph(&forwards));
    dpr_program_free(&forwards);
    dpr_program_free(&program);
}

static void every_allowed_size_is_complete_and_free_of_deadlock(void **state)
{
    (void)state;
    for_every_size(expect_valid);
}

static void expect_peak(const dpr_schedule_t *schedule, int ranks, int micro_batches)
{
    dpr_program_t program = make_program(schedule->name, ranks, micro_batches);
    dpr_graph_t *graph = make_graph(&program);
    int most = 0;
    for (int r = 0; r < ranks; r++) {
        const int peak = dpr_graph_peak_activations(graph, r);
        most = peak > most ? peak : most;
        if (strcmp(schedule->name, "gpipe") == 0) {
            assert_int_equal(peak, micro_batches);
        } else if (strcmp(schedule->name, "1f1b") == 0) {
            assert_int_equal(peak, micro_batches < ranks - r ? micro_batches : ranks - r);
        } else if (strcmp(schedule->name, "zb1p") == 0) {
            assert_int_equal(peak, ranks);
        }
    }
    /* S + 1 sets, of which V has twice as many a rank, each half as large */
    if (strcmp(schedule->name, "dualpipe") == 0) {
        assert_int_equal(most, ranks + 1);
    } else if (strcmp(schedule->name, "dualpipev") == 0) {
        assert_int_equal(most, 2 * ranks + 1);
    }
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void peak_activations_are_as_promised(void **state)
{
    (void)state;
    for_every_size(expect_peak);
}

static void expect_refused(const char *schedule, int ranks, int micro_batches, const char *message)
{
    dpr_program_t program;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_schedule_generate(schedule, ranks, micro_batches, &program));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_string_equal(captured, message);
}

static void what_is_not_allowed_is_refused_with_the_nearest_that_is(void **state)
{
    (void)state;
    expect_refused("dualpipe", 5, 20,
                   "schedule dualpipe cannot run on 5 ranks: it needs P even, M even, M >= 2P; "
                   "nearest: 4 or 6");
    expect_refused("dualpipe", 1, 20,
                   "schedule dualpipe cannot run on 1 rank: it needs P even, M even, M >= 2P; "
                   "nearest: 2");
    expect_refused("dualpipe", 4, 9,
                   "schedule dualpipe on 4 ranks cannot run 9 micro-batches: it needs P even, M "
                   "even, M >= 2P; nearest: 8 or 10");
    expect_refused("dualpipev", 4, 7,
                   "schedule dualpipev on 4 ranks cannot run 7 micro-batches: it needs M >= 2P; "
                   "nearest: 8");
    expect_refused(
        "zb1p", 4, 1,
        "schedule zb1p on 4 ranks cannot run 1 micro-batch: it needs M >= P; nearest: 4");
    expect_refused("gpipe", 0, 1,
                   "schedule gpipe cannot run on 0 ranks: it needs M >= 1; nearest: 1");
}

static void an_unknown_schedule_is_answered_with_the_known_ones(void **state)
{
    (void)state;
    dpr_program_t program;
    char captured[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, captured, dpr_schedule_generate("pipe", 4, 8, &program));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(captured, "unknown schedule 'pipe': expected one of ");
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        assert_contains(captured, schedules[i].name);
        assert_ptr_equal(dpr_schedule_find(schedules[i].name), &schedules[i]);
    }
    assert_null(dpr_schedule_find("pipe"));
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    static const int huge[] = {-2147483647 - 1, -1, 0, 65537, 2147483647};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < sizeof huge / sizeof huge[0]; j++) {
            assert_false(schedules[i].allows(huge[j], 65536));
            assert_false(schedules[i].allows(4, huge[j]));
        }
        assert_false(schedules[i].allows(4096, 65536)); /* too many cells */
    }
}

/* Far out of range: refused at once, with words for what would do. */
static void absurd_numbers_are_refused(void **state)
{
    (void)state;
    static const int numbers[] = {INT_MIN, -1, 0, DPR_MAX_RANKS + 1, INT_MAX};
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t s = 0; s < count; s++) {
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            char text[512];
            dpr_log_capture_t capture;
            dpr_log_capture_begin(&capture, text, sizeof text);
            const dpr_status_t ranks = dpr_schedule_check(schedules[s].name, numbers[i], 16);
            const dpr_status_t both = dpr_schedule_check(schedules[s].name, numbers[i], numbers[i]);
            dpr_log_capture_end(&capture);
            assert_int_equal(ranks, DPR_ERR_INVALID);
            assert_int_equal(both, DPR_ERR_INVALID);
            assert_non_null(strstr(text, schedules[s].needs));
        }
        assert_int_equal(dpr_schedule_check(schedules[s].name, 4, INT_MAX), DPR_ERR_INVALID);
    }
}

int main(int argc, char **argv)
{
    golden_folder = argc > 1 ? argv[1] : "tests/golden";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dualpipe_is_the_recorded_program),
        cmocka_unit_test(dualpipev_is_the_recorded_program),
        cmocka_unit_test(one_way_schedules_are_as_their_papers_draw_them),
        cmocka_unit_test(every_allowed_size_is_complete_and_free_of_deadlock),
        cmocka_unit_test(peak_activations_are_as_promised),
        cmocka_unit_test(what_is_not_allowed_is_refused_with_the_nearest_that_is),
        cmocka_unit_test(an_unknown_schedule_is_answered_with_the_known_ones),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(absurd_numbers_are_refused),
    };
    return cmocka_run_group_tests_name("generators", tests, NULL, NULL);
}
