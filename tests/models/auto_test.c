/* The scheduler: never worse than what is known, within its limits, and above its bound. */
#include "models/auto.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "models/compare.h"
#include "models/simulate.h"
#include "tests/schedule/schedule_testing.h"

static const double triples[][3] = {{1.0, 1.0, 1.0}, {1.0, 1.2, 0.8}, {1.0, 0.7, 1.3}};

enum { TRIPLES = 3 };

static dpr_auto_request_t request_of(dpr_auto_placement_t placement, int ranks, int micro_batches)
{
    dpr_auto_request_t request = DPR_AUTO_REQUEST_DEFAULT;
    request.ranks = ranks;
    request.micro_batches = micro_batches;
    request.placement = placement;
    request.budget_sec = 0.0;
    request.iterations = 3000;
    return request;
}

static void set_costs(dpr_auto_request_t *request, const double *triple, double wire)
{
    request->costs.f = triple[0];
    request->costs.i = triple[1];
    request->costs.w = triple[2];
    request->costs.wire = wire;
}

/* Makespan of a program by the graph alone, and its largest peak. */
static double play(const dpr_auto_request_t *request, const dpr_program_t *program, int *peak)
{
    dpr_graph_t *graph = make_graph(program);
    double *cost = calloc(2 * (size_t)graph->node_count, sizeof *cost);
    assert_non_null(cost);
    if (request->table != NULL) {
        assert_int_equal(dpr_cost_table_fill(request->table, graph, request->message_bytes, cost),
                         DPR_OK);
    } else {
        const dpr_uniform_costs_t costs =
            dpr_costs_of_cut(&request->costs, program->ranks, program->stages);
        dpr_uniform_costs_fill(&costs, graph, cost);
    }
    const double makespan = dpr_simulate_makespan(graph, cost, cost + graph->node_count);
    *peak = 0;
    for (int r = 0; r < graph->ranks; r++) {
        const int held = dpr_graph_peak_activations(graph, r);
        *peak = held > *peak ? held : *peak;
        if (request->rank_activations != NULL) {
            assert_true(held <= request->rank_activations[r]);
        }
    }
    free(cost);
    dpr_graph_destroy(graph);
    return makespan;
}

/* Runs a request, and checks all that must hold of any result. */
static dpr_auto_report_t run(const dpr_auto_request_t *request, dpr_program_t *program)
{
    dpr_auto_report_t report;
    assert_int_equal(dpr_auto_schedule(request, program, &report), DPR_OK);
    assert_int_equal(program->ranks, request->ranks);
    assert_int_equal(program->micro_batches, request->micro_batches);
    assert_int_equal(program->stages, report.stages);
    assert_int_equal(dpr_program_check(program), DPR_OK);
    int peak;
    assert_near(play(request, program, &peak), report.makespan_sec);
    assert_int_equal(peak, report.peak_activations);
    assert_true(request->rank_activations != NULL || peak <= report.activations);
    assert_true(report.lower_bound_sec <= report.makespan_sec + 1e-9);
    for (int i = 0; i < report.rival_count; i++) {
        const dpr_auto_rival_t *rival = &report.rivals[i];
        if (rival->runs && rival->fits && rival->same_placement) {
            assert_true(report.makespan_sec <= rival->makespan_sec + 1e-9);
            assert_true(report.lower_bound_sec <= rival->makespan_sec + 1e-9);
            assert_true(report.best_fixed >= 0);
        }
    }
    return report;
}

static const dpr_auto_rival_t *rival_of(const dpr_auto_report_t *report, const char *name)
{
    for (int i = 0; i < report->rival_count; i++) {
        if (strcmp(report->rivals[i].name, name) == 0) {
            return &report->rivals[i];
        }
    }
    return NULL;
}

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

/* ---- Brute force ---- */

/* All orders of one rank's F, I and W of M micro-batches, each kind in order, within a limit. */
typedef struct lists {
    int micro_batches;
    int limit;
    int count;
    char text[64][16];
} lists_t;

static void extend(lists_t *lists, char *text, const int *done)
{
    static const char kinds[] = "FIW";
    const int M = lists->micro_batches;
    if (done[2] == M) {
        assert_true(lists->count < 64);
        strcpy(lists->text[lists->count++], text);
        return;
    }
    for (int kind = 0; kind < 3; kind++) {
        const int end = kind == 0 ? M : done[kind - 1];
        if (done[kind] == end || (kind == 0 && done[0] - done[2] == lists->limit)) {
            continue;
        }
        int next[3] = {done[0], done[1], done[2]};
        next[kind]++;
        const size_t length = strlen(text);
        text[length] = kinds[kind];
        extend(lists, text, next);
        text[length] = '\0';
    }
}

static void append_list(dpr_program_t *program, int rank, const char *list)
{
    int done[3] = {0, 0, 0};
    for (const char *at = list; *at != '\0'; at++) {
        const int kind = *at == 'F' ? 0 : *at == 'I' ? 1 : 2;
        const dpr_action_kind_t kinds[] = {DPR_ACTION_F, DPR_ACTION_I, DPR_ACTION_W};
        assert_int_equal(
            dpr_program_append(program, rank, dpr_action(kinds[kind], rank, done[kind]++)), DPR_OK);
    }
}

static bool runs(const dpr_program_t *program)
{
    dpr_graph_t *graph;
    const dpr_status_t status = dpr_graph_create(program, NULL, &graph);
    if (status != DPR_OK) {
        assert_int_equal(status, DPR_ERR_DEADLOCK);
        return false;
    }
    dpr_graph_destroy(graph);
    return true;
}

/* The shortest of all programs of two ranks; the micro-batches being equal, order within a kind
 * changes nothing. */
static double shortest_of_all(const dpr_auto_request_t *request, int *programs)
{
    lists_t lists = {.micro_batches = request->micro_batches, .limit = request->activations};
    char text[16] = "";
    extend(&lists, text, (const int[3]){0, 0, 0});
    double shortest = INFINITY;
    for (int a = 0; a < lists.count; a++) {
        for (int b = 0; b < lists.count; b++) {
            dpr_program_t program;
            assert_int_equal(dpr_program_init(&program, "all", 2, 2, request->micro_batches),
                             DPR_OK);
            append_list(&program, 0, lists.text[a]);
            append_list(&program, 1, lists.text[b]);
            dpr_program_finish(&program);
            if (runs(&program)) {
                int peak;
                const double makespan = play(request, &program, &peak);
                assert_true(peak <= request->activations);
                shortest = makespan < shortest ? makespan : shortest;
            }
            dpr_program_free(&program);
        }
    }
    *programs = lists.count * lists.count;
    return shortest;
}

static void small_ones_are_the_shortest_there_are(void **state)
{
    (void)state;
    static const double costs[][4] = {
        {1.0, 1.0, 1.0, 0.0}, {1.0, 1.2, 0.8, 0.1}, {1.0, 0.7, 1.3, 0.5}, {2.0, 3.0, 0.5, 1.0}};
    for (int limit = 1; limit <= 3; limit++) {
        for (size_t c = 0; c < sizeof costs / sizeof costs[0]; c++) {
            dpr_auto_request_t request = request_of(DPR_AUTO_ONE_TO_ONE, 2, 3);
            request.activations = limit;
            set_costs(&request, costs[c], costs[c][3]);
            dpr_program_t program;
            const dpr_auto_report_t report = run(&request, &program);
            int programs;
            const double shortest = shortest_of_all(&request, &programs);
            assert_int_equal(programs, limit == 1 ? 1 : limit == 2 ? 21 * 21 : 42 * 42);
            assert_near(report.makespan_sec, shortest);
            assert_true(report.lower_bound_sec <= shortest + 1e-9);
            dpr_program_free(&program);
        }
    }
}

/* The same for V on two ranks with one micro-batch: a rank has stages r and 3-r, and of each F, I
 * and W in this order. Letters: FIW of the earlier stage, fiw of the later. */
static void extend_v(lists_t *lists, char *text, const int *done)
{
    const size_t length = strlen(text);
    if (length == 6) {
        assert_true(lists->count < 64);
        strcpy(lists->text[lists->count++], text);
        return;
    }
    for (int lane = 0; lane < 2; lane++) {
        if (done[lane] < 3) {
            int next[2] = {done[0], done[1]};
            text[length] = (lane == 0 ? "FIW" : "fiw")[next[lane]++];
            extend_v(lists, text, next);
            text[length] = '\0';
        }
    }
}

static void append_v(dpr_program_t *program, int rank, const char *list)
{
    for (const char *at = list; *at != '\0'; at++) {
        static const char letters[] = "FIWfiw";
        static const dpr_action_kind_t kinds[] = {DPR_ACTION_F, DPR_ACTION_I, DPR_ACTION_W};
        const int place = (int)(strchr(letters, *at) - letters);
        const int last = 2 * program->ranks - 1;
        assert_int_equal(
            dpr_program_append(program, rank,
                               dpr_action(kinds[place % 3], place < 3 ? rank : last - rank, 0)),
            DPR_OK);
    }
}

/* The shortest of all V programs of one micro-batch on one or two ranks. */
static double shortest_v(const dpr_auto_request_t *request, int *programs)
{
    lists_t lists = {0};
    char text[16] = "";
    extend_v(&lists, text, (const int[2]){0, 0});
    const int P = request->ranks;
    const int others = P == 2 ? lists.count : 1;
    double shortest = INFINITY;
    for (int a = 0; a < lists.count * others; a++) {
        dpr_program_t program;
        assert_int_equal(dpr_program_init(&program, "all", P, 2 * P, 1), DPR_OK);
        append_v(&program, 0, lists.text[a / others]);
        if (P == 2) {
            append_v(&program, 1, lists.text[a % others]);
        }
        dpr_program_finish(&program);
        if (runs(&program)) {
            int peak;
            const double makespan = play(request, &program, &peak);
            shortest = makespan < shortest ? makespan : shortest;
        }
        dpr_program_free(&program);
    }
    *programs = lists.count * others;
    return shortest;
}

/* At the turn nothing is sent: a bound that charges a wire there is above the shortest. */
static void small_v_are_the_shortest_there_are(void **state)
{
    (void)state;
    static const double costs[][4] = {
        {1.0, 1.0, 1.0, 0.0}, {1.0, 1.2, 0.8, 0.1}, {0.75, 1.85, 0.17, 0.5}, {1.0, 1.0, 1.0, 5.0}};
    for (int P = 1; P <= 2; P++) {
        for (size_t c = 0; c < sizeof costs / sizeof costs[0]; c++) {
            dpr_auto_request_t request = request_of(DPR_AUTO_V, P, 1);
            set_costs(&request, costs[c], costs[c][3]);
            dpr_program_t program;
            const dpr_auto_report_t report = run(&request, &program);
            dpr_program_free(&program);
            int programs;
            const double shortest = shortest_v(&request, &programs);
            assert_int_equal(programs, P == 1 ? 20 : 20 * 20);
            assert_near(report.makespan_sec, shortest);
            assert_true(report.lower_bound_sec <= shortest + 1e-9);
            /* P = 1: the work. P = 2: down and up half of the model in each stage, two wires each
             * way, and the W of the first stage at the end: one micro-batch can but pass. */
            const double pass =
                P == 1 ? costs[c][0] + costs[c][1] + costs[c][2]
                       : 2.0 * (costs[c][0] + costs[c][1]) + costs[c][2] / 2.0 + 4.0 * costs[c][3];
            assert_true(report.lower_bound_sec >= pass - 1e-9);
        }
    }
}

/* ---- The bound, at random ---- */

/* No fixed schedule of the placement is below the bound of a limit that it keeps to: what dualpipe
 * needs, one with which all run, and a tight one. */
static void check_bound(const dpr_auto_request_t *of, int tight, int *compared)
{
    const int limits[] = {0, 4 * of->micro_batches * of->ranks + 2, tight};
    dpr_auto_request_t request = *of;
    dpr_program_t program;
    for (int l = 0; l < 3; l++) {
        request.activations = limits[l];
        const dpr_auto_report_t report = run(&request, &program);
        dpr_program_free(&program);
        for (int i = 0; i < report.rival_count; i++) {
            const dpr_auto_rival_t *rival = &report.rivals[i];
            if (rival->runs && rival->same_placement && rival->fits) {
                assert_true(report.lower_bound_sec <= rival->makespan_sec + 1e-9);
                (*compared)++;
            }
            assert_true(l != 1 || !rival->runs || rival->fits);
        }
    }
}

static void nothing_is_below_the_bound(void **state)
{
    (void)state;
    static const double wires[] = {0.0, 0.1, 0.5, 5.0};
    static const int sizes[][2] = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {2, 3}, {2, 8},
                                   {3, 2}, {3, 6}, {4, 2}, {4, 6}, {4, 8}, {5, 10}};
    uint64_t draws = 0;
    int compared = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int p = 0; p <= DPR_AUTO_PLACEMENTS; p++) {
            const bool even = sizes[i][0] % 2 == 0 && sizes[i][1] % 2 == 0;
            if (p == DPR_AUTO_BIDIRECTIONAL && !even) {
                continue;
            }
            for (int turn = 0; turn < 12; turn++) {
                double triple[3];
                for (int k = 0; k < 3; k++) {
                    triple[k] =
                        0.1 + 2.0 * (double)(dpr_random_bits(11, 0, draws++) % 1000) / 1000.0;
                }
                dpr_auto_request_t request =
                    request_of((dpr_auto_placement_t)p, sizes[i][0], sizes[i][1]);
                request.iterations = 100;
                set_costs(&request, triple, wires[turn % 4]);
                if (turn >= 8) { /* fused ops that cost less than their parts */
                    request.costs.b = 0.8 * (triple[1] + triple[2]);
                    request.costs.fb = 0.7 * (triple[0] + triple[1] + triple[2]);
                }
                check_bound(&request, 2 + turn % 5, &compared);
            }
        }
    }
    assert_true(compared > 6000);
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

/* ---- Cost tables ---- */

/* A table that says what the uniform costs say of the placement's own stages. */
static void fill_table(dpr_cost_table_t *table, const dpr_uniform_costs_t *costs)
{
    const double row[] = {costs->f, NAN, costs->i, costs->w};
    const int P = table->ranks;
    for (int i = 0; i < P * table->stages; i++) {
        memcpy(&table->compute[4 * i], row, sizeof row);
    }
    for (int i = 0; i < P * P; i++) {
        table->latency_sec[i] = costs->wire / 2.0;
        table->bandwidth_bytes_per_sec[i] = 2.0 * 1000.0 / costs->wire;
    }
}

static void a_table_of_equal_costs_is_the_uniform_ones(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, 8);
    set_costs(&request, triples[2], 0.125);
    dpr_program_t program;
    const dpr_auto_report_t uniform = run(&request, &program);
    dpr_program_free(&program);
    dpr_cost_table_t table;
    assert_int_equal(dpr_cost_table_init(&table, 4, 8), DPR_OK);
    const dpr_uniform_costs_t own = dpr_costs_of_cut(&request.costs, 4, 8);
    fill_table(&table, &own);
    request.table = &table;
    request.message_bytes = 1000;
    const dpr_auto_report_t tabled = run(&request, &program);
    assert_near(tabled.lower_bound_sec, uniform.lower_bound_sec);
    assert_near(tabled.list_sec, uniform.list_sec);
    assert_false(rival_of(&tabled, "dualpipe")->runs); /* another placement: the table knows not */
    assert_true(rival_of(&tabled, "zbv")->runs);
    dpr_program_free(&program);
    /* any: the table is of V's stages alone, and its limit counts whole ones */
    request.placement = DPR_AUTO_ANY;
    request.activations = 5;
    const dpr_auto_report_t any = run(&request, &program);
    assert_near(any.makespan_sec, tabled.makespan_sec);
    assert_int_equal(any.activations, 10);
    assert_string_equal(any.placement, "v");
    assert_false(rival_of(&any, "dualpipe")->runs);
    dpr_program_free(&program);
    dpr_cost_table_free(&table);
}

static void a_slow_stage_is_planned_for(void **state)
{
    (void)state;
    dpr_cost_table_t table;
    assert_int_equal(dpr_cost_table_init(&table, 4, 4), DPR_OK);
    const dpr_uniform_costs_t costs = {1.0, 1.2, 0.8, -1.0, -1.0, 0.125};
    fill_table(&table, &costs);
    table.compute[(1 * 4 + 1) * 4] = 1.5; /* F of stage 1 */
    dpr_auto_request_t request = request_of(DPR_AUTO_ONE_TO_ONE, 4, 8);
    request.table = &table;
    request.message_bytes = 1000;
    dpr_program_t program;
    const dpr_auto_report_t report = run(&request, &program);
    /* rank 1: F of stage 0 and a wire before its work of 8 x 3.5 */
    assert_true(report.lower_bound_sec >= 1.125 + 8 * 3.5 - 1e-9);
    dpr_program_free(&program);
    /* any: both placements of four stages; without F of stage 3 on rank 0 not from both ends */
    request.placement = DPR_AUTO_ANY;
    run(&request, &program);
    dpr_program_free(&program);
    table.compute[(0 * 4 + 3) * 4] = NAN;
    const dpr_auto_report_t any = run(&request, &program);
    assert_string_equal(any.placement, "one-to-one");
    assert_false(rival_of(&any, "dualpipe")->runs);
    dpr_program_free(&program);
    table.compute[(2 * 4 + 2) * 4 + 3] = NAN; /* W of stage 2 */
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_auto_schedule(&request, &program, NULL));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "rank 2, stage 2");
    assert_contains(text, "W");
    dpr_cost_table_free(&table);
}

/* Fused ops that cost less than their parts help the fixed schedules; the bound must know. */
static void cheap_fused_ops_stay_above_the_bound(void **state)
{
    (void)state;
    for (int p = 0; p < DPR_AUTO_PLACEMENTS; p++) {
        dpr_auto_request_t request = request_of((dpr_auto_placement_t)p, 4, 8);
        request.costs.b = 1.2;
        request.costs.fb = 1.5;
        dpr_program_t program;
        const dpr_auto_report_t report = run(&request, &program);
        assert_string_equal(report.rivals[report.best_fixed].name, report.fixed);
        dpr_program_free(&program);
    }
}

/* ---- What is refused ---- */

static void expect_refusal(const dpr_auto_request_t *request, const char *part)
{
    dpr_program_t program;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_auto_schedule(request, &program, NULL));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, part);
}

static void impossible_limits_are_refused_with_the_least(void **state)
{
    (void)state;
    static const int32_t limits[] = {4, 1, 4, 4};
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 4, 8);
    request.activations = 1;
    expect_refusal(&request, "placement v needs at least 2");
    request.rank_activations = limits;
    expect_refusal(&request, "rank 1: a limit of 1");
    request = request_of(DPR_AUTO_ONE_TO_ONE, 4, 8);
    request.activations = -1;
    expect_refusal(&request, "placement one-to-one needs at least 1");
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    dpr_auto_request_t request = request_of(DPR_AUTO_V, 0, 8);
    expect_refusal(&request, "0 ranks: expected 1 to 256");
    request = request_of(DPR_AUTO_V, 257, 8);
    expect_refusal(&request, "257 ranks");
    request = request_of(DPR_AUTO_V, 4, 0);
    expect_refusal(&request, "0 micro-batches");
    request = request_of(DPR_AUTO_V, 256, 513);
    expect_refusal(&request, "at most 512 micro-batches");
    request = request_of(DPR_AUTO_ANY, 256, 1025);
    expect_refusal(&request, "at most 1024 micro-batches");
    request = request_of(DPR_AUTO_ANY, 4, 8);
    request.activations = -1;
    expect_refusal(&request, "placement one-to-one needs at least 1");
    request = request_of(DPR_AUTO_ANY, 0, 8);
    expect_refusal(&request, "0 ranks: expected 1 to 256");
    request = request_of((dpr_auto_placement_t)7, 4, 8);
    expect_refusal(&request, "unknown placement 7");
    request = request_of(DPR_AUTO_BIDIRECTIONAL, 3, 8);
    expect_refusal(&request, "both must be even");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.costs.w = NAN;
    expect_refusal(&request, "a cost is nan");
    request.costs.w = 1e300;
    expect_refusal(&request, "expected at most 1e300");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.budget_sec = -1.0;
    expect_refusal(&request, "a budget of -1 seconds");
    request = request_of(DPR_AUTO_V, 4, 8);
    request.iterations = -5;
    expect_refusal(&request, "-5 iterations");
}

static void edges_are_planned(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 5}, {2, 1}, {3, 2}, {5, 7}, {6, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int p = 0; p < DPR_AUTO_BIDIRECTIONAL; p++) {
            dpr_auto_request_t request =
                request_of((dpr_auto_placement_t)p, sizes[i][0], sizes[i][1]);
            request.iterations = 500;
            dpr_program_t program;
            run(&request, &program);
            dpr_program_free(&program);
            set_costs(&request, (const double[3]){0.0, 0.0, 0.0}, 0.0);
            const dpr_auto_report_t report = run(&request, &program);
            assert_true(report.makespan_sec == 0.0 && report.lower_bound_sec == 0.0);
            dpr_program_free(&program);
        }
    }
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
        cmocka_unit_test(small_ones_are_the_shortest_there_are),
        cmocka_unit_test(small_v_are_the_shortest_there_are),
        cmocka_unit_test(nothing_is_below_the_bound),
        cmocka_unit_test(any_is_no_worse_than_any_fixed_schedule),
        cmocka_unit_test(any_returns_a_fixed_schedule_that_fuses),
        cmocka_unit_test(any_takes_the_best_placement),
        cmocka_unit_test(iterations_decide_alone),
        cmocka_unit_test(the_search_shortens_what_the_lists_give),
        cmocka_unit_test(a_table_of_equal_costs_is_the_uniform_ones),
        cmocka_unit_test(a_slow_stage_is_planned_for),
        cmocka_unit_test(cheap_fused_ops_stay_above_the_bound),
        cmocka_unit_test(impossible_limits_are_refused_with_the_least),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(edges_are_planned),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
