/* The scheduler: never worse than what is known, and within its limits. */
#include "auto_testing.h"

/* Where each action runs is the placement's. */
static void programs_have_the_placement(void **state)
{
    (void)state;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        const dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 6);
        dpr_program_t program;
        run(&request, &program);
        for (int r = 0; r < 4; r++) {
            for (size_t i = program.begin[r]; i < program.begin[r + 1]; i++) {
                const dpr_action_t *action = &program.actions[i];
                const int s = action->stage;
                int rank = s < 4 ? s : 7 - s;
                if (p == DPR_AUTO_BIDIRECTIONAL && action->micro_batch >= 3) {
                    rank = 3 - s;
                }
                assert_int_equal(rank, r);
            }
        }
        dpr_program_free(&program);
    }
}

static void never_worse_than_the_fixed_schedules(void **state)
{
    (void)state;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        for (int t = 0; t < TRIPLES; t++) {
            for (int wire = 0; wire < 2; wire++) {
                dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 8);
                set_costs(&request, triples[t], 0.1 * wire);
                dpr_program_t program;
                run(&request, &program);
                dpr_program_free(&program);
                request.iterations = 0; /* no search at all */
                run(&request, &program);
                dpr_program_free(&program);
            }
        }
    }
}

/* Of the rows: V at what dualpipe needs beats dualpipe in all of them, and every fixed
 * schedule in most. */
static void shorter_than_dualpipe_with_the_same_activations(void **state)
{
    (void)state;
    int rows = 0;
    int better = 0;
    for (int M = 8; M <= 16; M += 8) {
        for (int t = 0; t < TRIPLES; t++) {
            for (int wire = 0; wire < 2; wire++) {
                dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, M);
                set_costs(&request, triples[t], 0.1 * wire);
                dpr_program_t program;
                const dpr_auto_report_t report = run(&request, &program);
                dpr_program_free(&program);
                assert_int_equal(report.activations, 10);
                const dpr_auto_rival_t *dualpipe = rival_of(&report, "dualpipe");
                assert_true(dualpipe->runs && dualpipe->fits && !dualpipe->same_placement);
                assert_true(dualpipe->peak_shares == 5.0);
                assert_true(report.makespan_sec < dualpipe->makespan_sec - 1e-9);
                const dpr_auto_rival_t *best = &report.rivals[report.best_fixed];
                better += report.makespan_sec < best->makespan_sec - 1e-9;
                rows++;
            }
        }
    }
    assert_int_equal(rows, 12);
    assert_true(better >= 7); /* with F = I = W and no wire, zbv is at the bound */
}

/* Where the bound is reached, it is the best there is: zbv's and zb2p's fill, (P-1)F/2 and (P-1)F;
 * from both ends (P/2-1)F, where no fixed schedule is. */
static void reaches_the_bound_where_it_is_known(void **state)
{
    (void)state;
    static const double bubbles[DPR_AUTO_PLACEMENTS] = {1.5, 3.0, 1.0};
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        const dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 8);
        dpr_program_t program;
        const dpr_auto_report_t report = run(&request, &program);
        assert_near(report.bubble_sec, bubbles[p]);
        assert_near(report.lower_bound_sec, 8 * 3.0 + bubbles[p]);
        dpr_program_free(&program);
    }
}

static void holds_every_limit(void **state)
{
    (void)state;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        const int least = dpr_auto_least_activations((dpr_auto_placement_t)p);
        double first = 0.0;
        double last = 0.0;
        for (int limit = least; limit <= 12; limit += limit < 4 ? 1 : 4) {
            dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 8);
            request.activations = limit;
            dpr_program_t program;
            const dpr_auto_report_t report = run(&request, &program);
            assert_int_equal(report.activations, limit);
            assert_true(report.peak_activations <= limit);
            first = limit == least ? report.makespan_sec : first;
            last = report.makespan_sec;
            dpr_program_free(&program);
        }
        assert_true(last < first - 1.0); /* room is time */
    }
}

static void holds_limits_of_single_ranks(void **state)
{
    (void)state;
    static const int32_t limits[] = {8, 3, 5, 2};
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, 8);
    request.rank_activations = limits;
    dpr_program_t program;
    run(&request, &program); /* play() holds it against every rank's own */
    dpr_program_free(&program);
}

static void one_set_a_rank_goes_one_by_one(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_ONE_TO_ONE, 2, 3);
    request.activations = 1;
    dpr_program_t program;
    const dpr_auto_report_t report = run(&request, &program);
    /* rank 0 holds a set from F0 over F1 I1 to I0 W0: five units, three times */
    assert_near(report.lower_bound_sec, 15.0);
    assert_near(report.makespan_sec, 15.0);
    assert_int_equal(report.peak_activations, 1);
    dpr_program_free(&program);
}

/* ---- Any placement ---- */

/* The limit in shares: what fits V's 2N sets and one-to-one's N. */
static void any_is_no_worse_than_any_fixed_schedule(void **state)
{
    (void)state;
    for (int t = 0; t < 2 * TRIPLES; t++) {
        dpr_auto_request_t request = request_of(DPR_AUTO_ANY, 4, 8);
        set_costs(&request, triples[t / 2], 0.1 * (t % 2));
        for (int limit = 0; limit <= 8; limit += limit == 0 ? 1 : 3) {
            request.activations = limit;
            request.iterations = 600;
            dpr_program_t program;
            const dpr_auto_report_t report = run(&request, &program);
            const int shares = limit == 0 ? 5 : limit;
            assert_int_equal(report.activations, shares * report.stages / 4);
            for (int i = 0; i < report.rival_count; i++) {
                const dpr_auto_rival_t *rival = &report.rivals[i];
                if (rival->runs) {
                    assert_true(rival->fits == (rival->peak_shares <= shares));
                    assert_true(rival->same_placement);
                    assert_true(!rival->fits || report.makespan_sec <= rival->makespan_sec + 1e-9);
                }
            }
            assert_true(report.iterations <= 600);
            dpr_program_free(&program);
        }
    }
}

static void any_returns_a_fixed_schedule_that_fuses(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_ANY, 4, 8);
    request.costs.b = 1.5;
    request.costs.fb = 2.0;
    dpr_program_t program;
    dpr_auto_report_t report = run(&request, &program);
    assert_near(report.makespan_sec, 21.0);
    assert_string_equal(report.fixed, "dualpipe");
    assert_string_equal(report.placement, "bidirectional");
    assert_string_equal(program.name, "dualpipe");
    dpr_program_free(&program);
    request.activations = 1; /* one set of a whole stage: dualpipe needs five */
    report = run(&request, &program);
    assert_false(rival_of(&report, "dualpipe")->fits);
    dpr_program_free(&program);
    request = request_of(DPR_AUTO_ANY, 3, 5); /* odd: never bidirectional */
    report = run(&request, &program);
    assert_string_not_equal(report.placement, "bidirectional");
    dpr_program_free(&program);
}

/* Of the three alone, that with the least fill: from both ends; with odd M, V. */
static void any_takes_the_best_placement(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_ANY, 4, 8);
    dpr_program_t program;
    dpr_auto_report_t report = run(&request, &program);
    assert_near(report.bubble_sec, 1.0);
    assert_near(report.lower_bound_sec, 25.0);
    assert_string_equal(report.placement, "bidirectional");
    dpr_program_free(&program);
    request.micro_batches = 9;
    report = run(&request, &program);
    assert_near(report.bubble_sec, 1.5);
    assert_near(report.lower_bound_sec, 28.5);
    assert_string_equal(report.placement, "v");
    dpr_program_free(&program);
}

/* ---- The same again ---- */

static void iterations_decide_alone(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_ANY, 4, 12);
    set_costs(&request, triples[1], 0.1);
    request.iterations = 2000;
    dpr_program_t first;
    dpr_program_t again;
    const dpr_auto_report_t one = run(&request, &first);
    const dpr_auto_report_t two = run(&request, &again);
    assert_true(dpr_program_equal(&first, &again));
    assert_true(one.iterations == two.iterations && one.iterations <= 2000);
    assert_true(one.makespan_sec == two.makespan_sec);
    dpr_program_free(&again);
    request.seed = 99;
    run(&request, &again);
    assert_false(dpr_program_equal(&first, &again));
    dpr_program_free(&again);
    dpr_program_free(&first);
}

static void the_search_shortens_what_the_lists_give(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_BIDIRECTIONAL, 4, 8);
    set_costs(&request, triples[1], 0.1);
    dpr_program_t program;
    const dpr_auto_report_t report = run(&request, &program);
    assert_true(report.makespan_sec < report.list_sec - 0.05);
    assert_null(report.fixed);
    assert_string_equal(program.name, "auto");
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_have_the_placement),
        cmocka_unit_test(never_worse_than_the_fixed_schedules),
        cmocka_unit_test(shorter_than_dualpipe_with_the_same_activations),
        cmocka_unit_test(reaches_the_bound_where_it_is_known),
        cmocka_unit_test(holds_every_limit),
        cmocka_unit_test(holds_limits_of_single_ranks),
        cmocka_unit_test(one_set_a_rank_goes_one_by_one),
        cmocka_unit_test(any_is_no_worse_than_any_fixed_schedule),
        cmocka_unit_test(any_returns_a_fixed_schedule_that_fuses),
        cmocka_unit_test(any_takes_the_best_placement),
        cmocka_unit_test(iterations_decide_alone),
        cmocka_unit_test(the_search_shortens_what_the_lists_give),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
