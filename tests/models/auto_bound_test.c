/* The scheduler against all programs there are, where they are few, and its lower bound. */
#include "auto_testing.h"

#include <string.h>

#include "base/random.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_are_the_shortest_there_are),
        cmocka_unit_test(small_v_are_the_shortest_there_are),
        cmocka_unit_test(nothing_is_below_the_bound),
    };
    return cmocka_run_group_tests_name("auto bound", tests, NULL, NULL);
}
