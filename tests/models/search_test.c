/* The search, held against trying every layout by itself. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/search.h"
#include "tests/models/extremes.h"
#include "tests/models/machine.h"

typedef struct tried {
    dpr_layout_t layout;
    double step_sec;
    uint64_t peak_bytes;
} tried_t;

enum { TRIED_MAX = 4096 };

/* Every combination of plain loops that fits. */
static int try_all(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                   const dpr_search_options_t *options, tried_t *tried, int *refused)
{
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    int found = 0;
    *refused = 0;
    count = options->schedule != NULL ? 1 : count;
    for (size_t i = 0; i < count; i++) {
        const char *name = options->schedule != NULL ? options->schedule : schedules[i].name;
        for (int P = options->min_ranks; P <= options->max_ranks; P++) {
            for (int M = 1; M <= options->global_batch; M++) {
                for (int D = 1; P * D <= options->max_devices; D++) {
                    if (options->global_batch % (M * D) != 0 || !dpr_schedule_allows(name, P, M)) {
                        continue;
                    }
                    const dpr_layout_t layout = {name, P, M, options->global_batch / (M * D), D};
                    dpr_throughput_t alone;
                    assert_int_equal(dpr_throughput_predict(workload, hardware, &layout, &alone),
                                     DPR_OK);
                    if ((double)alone.peak_bytes > options->memory_bytes) {
                        (*refused)++;
                        continue;
                    }
                    assert_true(found < TRIED_MAX);
                    tried[found++] = (tried_t){layout, alone.step.step_sec, alone.peak_bytes};
                }
            }
        }
    }
    return found;
}

static bool is_same(const dpr_candidate_t *a, const tried_t *b)
{
    return strcmp(a->schedule, b->layout.schedule) == 0 && a->ranks == b->layout.ranks &&
           a->micro_batches == b->layout.micro_batches &&
           a->micro_batch_size == b->layout.micro_batch_size && a->replicas == b->layout.replicas;
}

static void all_that_fits_is_found_in_order(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    static tried_t tried[TRIED_MAX];
    const dpr_search_options_t all[] = {
        {2, 8, 8, 64, 80e9, NULL, 0},
        {1, 6, 12, 24, 1.5e8, NULL, 2},
        {4, 4, 16, 32, 80e9, "dualpipe", 1},
        {1, 4, 8, 16, 80e9, "interleaved-1f1b:3", 1},
    };
    for (size_t o = 0; o < sizeof all / sizeof all[0]; o++) {
        int refused;
        const int count = try_all(&workload, &hardware, &all[o], tried, &refused);
        dpr_search_t search;
        assert_int_equal(dpr_search_run(&workload, &hardware, &all[o], &search), DPR_OK);
        assert_int_equal(search.count, count);
        assert_int_equal(search.too_large, refused);
        assert_int_equal(search.considered, count + refused);
        int matched = 0;
        for (int i = 0; i < search.count; i++) {
            assert_true(i == 0 || search.candidates[i].step.step_sec >=
                                      search.candidates[i - 1].step.step_sec);
            for (int t = 0; t < count; t++) {
                if (is_same(&search.candidates[i], &tried[t])) {
                    matched++;
                    assert_true(search.candidates[i].step.step_sec == tried[t].step_sec);
                    assert_int_equal(search.candidates[i].peak_bytes, tried[t].peak_bytes);
                }
            }
        }
        assert_int_equal(matched, count);
        dpr_search_free(&search);
    }
}

static bool dominates(const dpr_candidate_t *a, const dpr_candidate_t *b)
{
    return a->step.step_sec <= b->step.step_sec && a->peak_bytes <= b->peak_bytes &&
           (a->step.step_sec < b->step.step_sec || a->peak_bytes < b->peak_bytes);
}

static void the_front_is_what_nothing_dominates(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_search_options_t options = {2, 8, 8, 64, 80e9, NULL, 0};
    dpr_search_t search;
    assert_int_equal(dpr_search_run(&workload, &hardware, &options, &search), DPR_OK);
    assert_true(search.front_count > 1);
    assert_int_equal(search.front[0], 0);
    int next = 0;
    for (int i = 0; i < search.count; i++) {
        bool dominated = false;
        bool repeated = false; /* the same in both as an earlier one: one of them is enough */
        for (int j = 0; j < search.count; j++) {
            dominated |= dominates(&search.candidates[j], &search.candidates[i]);
            repeated |= j < i &&
                        search.candidates[j].step.step_sec == search.candidates[i].step.step_sec &&
                        search.candidates[j].peak_bytes == search.candidates[i].peak_bytes;
        }
        const bool in_front = next < search.front_count && search.front[next] == i;
        assert_int_equal(in_front, !dominated && !repeated);
        next += in_front;
    }
    assert_int_equal(next, search.front_count);
    dpr_search_free(&search);
}

static void the_number_of_threads_does_not_show(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    dpr_search_options_t options = {2, 6, 12, 48, 80e9, NULL, 1};
    dpr_search_t one;
    assert_int_equal(dpr_search_run(&workload, &hardware, &options, &one), DPR_OK);
    for (int threads = 2; threads < 6; threads++) {
        options.threads = threads;
        dpr_search_t many;
        assert_int_equal(dpr_search_run(&workload, &hardware, &options, &many), DPR_OK);
        assert_int_equal(one.count, many.count);
        for (int i = 0; i < one.count; i++) {
            assert_memory_equal(&one.candidates[i].step, &many.candidates[i].step,
                                sizeof(dpr_step_t));
            assert_ptr_equal(one.candidates[i].schedule, many.candidates[i].schedule);
            assert_int_equal(one.candidates[i].micro_batches, many.candidates[i].micro_batches);
        }
        dpr_search_free(&many);
    }
    dpr_search_free(&one);
}

/* The limit is met exactly by what needs exactly that much. */
static void the_memory_limit_is_to_the_byte(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    dpr_search_options_t options = {4, 4, 4, 16, 80e9, NULL, 0};
    dpr_search_t search;
    assert_int_equal(dpr_search_run(&workload, &hardware, &options, &search), DPR_OK);
    const dpr_candidate_t least = search.candidates[search.front[search.front_count - 1]];
    dpr_search_free(&search);
    options.memory_bytes = (double)least.peak_bytes;
    assert_int_equal(dpr_search_run(&workload, &hardware, &options, &search), DPR_OK);
    assert_true(search.count >= 1);
    assert_int_equal(search.candidates[0].peak_bytes, least.peak_bytes);
    dpr_search_free(&search);
    options.memory_bytes -= 1.0;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_search_run(&workload, &hardware, &options, &search));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(message, "none of");
    assert_contains(message, "allow more memory");
}

/* What cannot run or fit is not heard of. */
static void refused_candidates_are_quiet(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    dpr_workload_t workload = real_workload();
    workload.sequence = 1 << 24;
    const dpr_search_options_t options = {2, 4, 8, 64, 1e18, NULL, 1};
    dpr_search_t search;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_search_run(&workload, &hardware, &options, &search));
    assert_int_equal(status, DPR_OK);
    assert_string_equal(message, "");
    dpr_search_free(&search);
}

static void the_winner_reacts_as_its_parts_do(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_search_options_t options = {2, 8, 8, 64, 80e9, NULL, 0};
    dpr_sensitivity_t found;
    assert_int_equal(dpr_sensitivity_run(&workload, &hardware, &options, 0.1, &found), DPR_OK);
    const dpr_step_t *step = &found.winner.step;
    for (int up = 0; up < 2; up++) {
        const double change = up ? 0.1 : -0.1;
        const dpr_sensitivity_entry_t *reduce = &found.entries[5][up];
        const dpr_sensitivity_entry_t *update = &found.entries[6][up];
        assert_string_equal(dpr_cost_factor_name(5), "reduction");
        assert_string_equal(dpr_cost_factor_name(6), "update");
        assert_close(reduce->change, change);
        assert_close(reduce->step_sec, step->step_sec + change * step->reduce_sec);
        assert_close(reduce->step_change, change * step->reduce_sec / step->step_sec);
        assert_close(update->step_sec, step->step_sec + change * step->update_sec);
    }
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        const dpr_sensitivity_entry_t *less = &found.entries[k][0];
        const dpr_sensitivity_entry_t *more = &found.entries[k][1];
        assert_true(less->step_sec <= step->step_sec && step->step_sec <= more->step_sec);
        for (int up = 0; up < 2; up++) {
            const dpr_sensitivity_entry_t *entry = &found.entries[k][up];
            assert_true(entry->winner.step.step_sec <= entry->step_sec);
            assert_true(entry->overtaken || entry->winner.step.step_sec == entry->step_sec);
        }
    }
}

/* Which cost is varied shows where only that cost is there: on the plain machine an F is a third.
 */
static void each_cost_is_varied_by_itself(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = plain_machine();
    dpr_workload_t workload = small_workload();
    workload.layers = 1e-9; /* no attention: F = I = W */
    const dpr_search_options_t options = {1, 1, 1, 4, 0.0, "1f1b", 0};
    dpr_sensitivity_t found;
    assert_int_equal(dpr_sensitivity_run(&workload, &hardware, &options, 0.3, &found), DPR_OK);
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        assert_true(fabs(found.entries[k][0].step_change - (k < 3 ? -0.1 : 0.0)) < 1e-6);
        assert_true(fabs(found.entries[k][1].step_change - (k < 3 ? 0.1 : 0.0)) < 1e-6);
    }
    const double bad[] = {0.0, 1.0, -0.1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message,
                dpr_sensitivity_run(&workload, &hardware, &options, bad[i], &found));
        assert_int_equal(status, DPR_ERR_INVALID);
    }
}

static void another_winner_is_named(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_search_options_t options = {2, 8, 8, 64, 80e9, NULL, 0};
    dpr_sensitivity_t found;
    assert_int_equal(dpr_sensitivity_run(&workload, &hardware, &options, 0.9, &found), DPR_OK);
    int overtaken = 0;
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        for (int up = 0; up < 2; up++) {
            const dpr_sensitivity_entry_t *entry = &found.entries[k][up];
            overtaken += entry->overtaken;
            assert_int_equal(entry->overtaken,
                             entry->winner.schedule != found.winner.schedule ||
                                 entry->winner.ranks != found.winner.ranks ||
                                 entry->winner.micro_batches != found.winner.micro_batches ||
                                 entry->winner.replicas != found.winner.replicas);
        }
    }
    assert_true(overtaken > 0);
}

static void a_search_without_end_is_refused(void **state)
{
    (void)state;
    const dpr_hardware_t hardware = real_machine();
    const dpr_workload_t workload = real_workload();
    const dpr_search_options_t all[] = {{1, 4096, 1 << 20, 1 << 20, 80e9, NULL, 0},
                                        {1, 4096, 4096, 720720, 80e9, "1f1b", 0},
                                        {1, 4096, 4096, 4096, 80e9, NULL, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dpr_search_t search;
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message, dpr_search_run(&workload, &hardware, &all[i], &search));
        assert_int_equal(status, DPR_ERR_INVALID);
        assert_contains(message, "narrow the ranks");
    }
}

static void extreme_inputs_are_errors_or_sane_results(void **state)
{
    (void)state;
    dice_t dice = {.seed = 31};
    const dpr_hardware_t hardware = real_machine();
    int accepted = 0;
    for (int i = 0; i < 1500; i++) {
        dpr_workload_t workload = real_workload();
        dpr_search_options_t options = {2, 2, 4, 8, 80e9, NULL, 1};
        int *ints[] = {&options.min_ranks,    &options.max_ranks, &options.max_devices,
                       &options.global_batch, &options.threads,   &workload.hidden,
                       &workload.sequence};
        *ints[dice_roll(&dice, 7)] = extreme_int(&dice);
        if (dice_roll(&dice, 4) == 0) {
            options.memory_bytes = extreme_real(&dice);
        }
        if (options.global_batch > 64 && options.global_batch <= 1 << 20) {
            options.global_batch = 64; /* allowed, but slow */
        }
        if (dice_roll(&dice, 8) == 0) {
            workload.parameters = dpr_random_bits(9, 0, (uint64_t)i) >> dice_roll(&dice, 64);
        }
        dpr_search_t search;
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message, dpr_search_run(&workload, &hardware, &options, &search));
        if (status != DPR_OK) {
            assert_int_equal(status, DPR_ERR_INVALID);
            assert_true(strlen(message) > 0);
            continue;
        }
        accepted++;
        assert_sane(search.candidates[0].step.step_sec);
        dpr_search_free(&search);
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_fits_is_found_in_order),
        cmocka_unit_test(the_front_is_what_nothing_dominates),
        cmocka_unit_test(the_number_of_threads_does_not_show),
        cmocka_unit_test(the_memory_limit_is_to_the_byte),
        cmocka_unit_test(refused_candidates_are_quiet),
        cmocka_unit_test(the_winner_reacts_as_its_parts_do),
        cmocka_unit_test(each_cost_is_varied_by_itself),
        cmocka_unit_test(another_winner_is_named),
        cmocka_unit_test(a_search_without_end_is_refused),
        cmocka_unit_test(extreme_inputs_are_errors_or_sane_results),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
