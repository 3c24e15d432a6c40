/*
 * Every call that orders work in a step is needed, whoever makes it (the executor, the device's
 * recordings, the operations of the host by which --comm mpi moves a device's memory): a run that
 * leaves out one cudaStreamWaitEvent, cuStreamWaitValue32 or cudaEventRecord goes wrong for some
 * seed of the stand-in, unless other edges imply the order, which is then shown (wait_proof.h), or
 * nothing in the step waits for the event.
 *
 *      the calls of a right run, on each device
 *      cudaStreamWaitEvent     the executor's waits, one for one
 *      cuStreamWaitValue32     the transfers' operations, one for one, then the all-reduces' pieces
 *      cudaEventRecord         those that a later cudaStreamWaitEvent waits for
 *
 * A transport in this process stands for MPI; what orders the device's side (comm/staging.c,
 * device/cuda/cuda_host_op.c) is the same.
 *
 * There are many mutants, and each run takes one part of them in turn, by the day:
 * DPR_MUTATION_PART names a part, from 1, or says "all".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mutant.h"
#include "wait_proof.h"

enum { SEEDS = 2000, SEEDS_OF_IMPLIED = 2, SEEDS_OF_RIGHT = 5, WORDS = 128 };

/* ---- Programs ---- */

typedef struct subject {
    const char *title;
    const char *schedule;
    rig_comm_t comm;
    bool record;
} subject_t;

static const subject_t subjects[] = {
    {"NCCL, enqueued", "dualpipev", RIG_NCCL, false},
    {"NCCL, recorded", "dualpipe", RIG_NCCL, true},
    {"host's transfers", "1f1b", RIG_LOCAL, false},
    {"host's transfers, replicas", "dualpipe", RIG_LOCAL, false},
};
enum { SUBJECTS = sizeof subjects / sizeof subjects[0] };

/* Two steps. What is recorded is played twice: what it has missed has been done once, by the first.
 * Of what is enqueued the second step is watched, whose events all have been recorded before: the
 * lack of a record must show in what it orders, not in its time. */
static void make_config(const subject_t *subject, dpr_program_t *program, rig_config_t *config)
{
    cuda_generate(subject->schedule, MUTANT_RANKS, 4, program);
    cuda_config_default(config, program);
    config->comm = subject->comm;
    config->record = subject->record;
    config->steps = 2;
    config->one_slot = true;
    config->no_eval = true;
    config->poison = true;
    config->graph.recv_ahead = 0; /* the fewest buffers, so that they are used again */
}

/* ---- What is known of a call ---- */

typedef enum need {
    NEEDED,
    IMPLIED,    /* by other edges */
    UNATTENDED, /* a record that nothing waits for: only its time is read */
} need_t;

typedef struct suspect {
    const standin_call_t *call;
    standin_omission_t omission; /* that leaves it out */
    int number;                  /* of its function on its device, from 1 */
    need_t need;
    char words[WORDS];
} suspect_t;

typedef struct bench {
    const subject_t *subject;
    dpr_program_t program;
    rig_config_t config;
    dpr_graph_t *graph;
    mutant_facts_t *facts;
} bench_t;

static bool is_same_function(const standin_call_t *a, const char *function)
{
    return strcmp(a->function, function) == 0;
}

/* The executor's waits are numbered with those of a joined step last; it makes them around. */
static const dpr_executor_wait_t *executor_wait(const bench_t *bench, int rank, int number)
{
    const mutant_facts_t *facts = bench->facts;
    int made = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < facts->wait_count[rank]; i++) {
            const dpr_executor_wait_t *wait = &facts->waits[rank][i];
            const int its_round = wait->kind == DPR_EXECUTOR_WAIT_ALL_FORK   ? 0
                                  : wait->kind == DPR_EXECUTOR_WAIT_ALL_JOIN ? 2
                                                                             : 1;
            if (its_round == round && (round == 1 || bench->subject->record) && ++made == number) {
                return wait;
            }
        }
    }
    return NULL;
}

static proof_transfers_t transfers_of(const bench_t *bench)
{
    return bench->subject->comm == RIG_NCCL ? PROOF_MEETING : PROOF_STAGED;
}

static need_t need_of_wait(const bench_t *bench, int rank, const dpr_executor_wait_t *wait)
{
    return wait->kind == DPR_EXECUTOR_WAIT_EDGE &&
                   proof_wait_is_implied(bench->graph, wait, rank, transfers_of(bench))
               ? IMPLIED
               : NEEDED;
}

static void describe_wait(const bench_t *bench, int rank, const dpr_executor_wait_t *wait,
                          char *words)
{
    static const char *const kinds[] = {"edge", "fork", "join", "stream's fork", "stream's join"};
    const char(*commands)[MUTANT_NAME_BYTES] = bench->facts->commands[rank];
    snprintf(words, WORDS, "%s of %.40s after %.40s", kinds[wait->kind], commands[wait->command],
             wait->source >= 0 ? commands[wait->source] : "what was before");
}

/* The node of the transfer that is the rank's `number`-th from 1; -1 where there are fewer. */
static int32_t transfer_node(const bench_t *bench, int rank, int number, bool *sends, char *words)
{
    for (int i = 0; i < bench->facts->command_count[rank]; i++) {
        char verb[8], what[8];
        int stage, micro_batch;
        const char *name = bench->facts->commands[rank][i];
        if (sscanf(name, "%7s %7s s%d m%d", verb, what, &stage, &micro_batch) != 4 ||
            --number > 0) {
            continue;
        }
        const int32_t kind = strcmp(what, "act") == 0 ? DPR_NODE_SEND_ACT : DPR_NODE_SEND_GRAD;
        *sends = strcmp(verb, "send") == 0;
        snprintf(words, WORDS, "%s", name);
        for (int32_t node = 0; node < bench->graph->node_count; node++) {
            const dpr_node_t *it = &bench->graph->nodes[node];
            if (it->kind == kind && it->stage == stage && it->micro_batch == micro_batch) {
                return node;
            }
        }
    }
    return -1;
}

static void judge_hold(const bench_t *bench, suspect_t *suspect)
{
    bool sends = false;
    snprintf(suspect->words, WORDS, "a piece of an all-reduce");
    const int32_t node =
        transfer_node(bench, suspect->call->device, suspect->number, &sends, suspect->words);
    suspect->need =
        node >= 0 && sends && proof_send_hold_is_implied(bench->graph, node) ? IMPLIED : NEEDED;
}

static void judge_wait(const bench_t *bench, suspect_t *suspect)
{
    const int rank = suspect->call->device;
    const dpr_executor_wait_t *wait = executor_wait(bench, rank, suspect->number);
    assert_non_null(wait);
    suspect->need = need_of_wait(bench, rank, wait);
    describe_wait(bench, rank, wait, suspect->words);
}

/* A record is needed where one of the waits for it is, until the event is recorded again. Where
 * each of them is implied, all of them are: the first in any order cannot need the others. */
static void judge_record(const bench_t *bench, suspect_t *suspect)
{
    const mutant_facts_t *facts = bench->facts;
    const standin_call_t *record = suspect->call;
    int waits = 0; /* of the device's, so far */
    suspect->need = UNATTENDED;
    snprintf(suspect->words, WORDS, "event %d in stream %d", record->event, record->stream);
    for (int i = 0; i < facts->call_count; i++) {
        const standin_call_t *call = &facts->calls[i];
        const bool is_wait = is_same_function(call, "cudaStreamWaitEvent");
        if (call->device != record->device) {
            continue;
        }
        waits += is_wait;
        if (call <= record || call->event != record->event) {
            continue;
        }
        if (!is_wait && is_same_function(call, record->function)) {
            return;
        }
        if (is_wait && suspect->need != NEEDED) {
            const dpr_executor_wait_t *wait = executor_wait(bench, record->device, waits);
            assert_non_null(wait);
            suspect->need = need_of_wait(bench, record->device, wait);
            describe_wait(bench, record->device, wait, suspect->words);
        }
    }
}

/* Fills in all but the call. */
static void judge(const bench_t *bench, suspect_t *suspect)
{
    const standin_call_t *call = suspect->call;
    unsigned long on_stream = 0;
    suspect->number = 0;
    for (const standin_call_t *other = bench->facts->calls; other <= call; other++) {
        const bool counts =
            other->device == call->device && is_same_function(other, call->function);
        suspect->number += counts;
        on_stream += counts && other->stream == call->stream;
    }
    suspect->omission = (standin_omission_t){.function = call->function,
                                             .device = call->device,
                                             .stream = call->stream,
                                             .call = on_stream};
    if (is_same_function(call, "cudaStreamWaitEvent")) {
        judge_wait(bench, suspect);
    } else if (is_same_function(call, "cuStreamWaitValue32")) {
        judge_hold(bench, suspect);
    } else {
        judge_record(bench, suspect); /* an external one of a recording only tells the time */
    }
}

/* ---- Mutants ---- */

typedef struct tally {
    int noticed;
    int crashed; /* of them */
    int hung;    /* of them */
    int implied;
    int unattended;
    int unnoticed;
    uint64_t most_seeds;
} tally_t;

static void print_suspect(const suspect_t *suspect, const char *what)
{
    print_message("  rank %d: %s %d (%s): %s\n", suspect->call->device, suspect->call->function,
                  suspect->number, suspect->words, what);
}

/* Poison that a stream puts into a buffer after its last use is not kept away by what implies a
 * wait. */
static void try_implied(const bench_t *bench, const suspect_t *suspect, tally_t *tally)
{
    uint64_t seed;
    rig_config_t clean = bench->config;
    clean.poison = false;
    assert_int_equal(mutant_try(&clean, bench->facts, &suspect->omission, SEEDS_OF_IMPLIED, &seed),
                     MUTANT_RIGHT);
    tally->implied++;
    print_suspect(suspect, "implied by other edges");
}

static void try_needed(const bench_t *bench, const suspect_t *suspect, tally_t *tally)
{
    uint64_t seed;
    const mutant_verdict_t verdict =
        mutant_try(&bench->config, bench->facts, &suspect->omission, SEEDS, &seed);
    assert_int_not_equal(verdict, MUTANT_NOT_MADE);
    if (verdict == MUTANT_RIGHT) {
        tally->unnoticed++;
        print_suspect(suspect, "left out, and nobody notices");
        return;
    }
    tally->noticed++;
    tally->crashed += verdict == MUTANT_CRASHED;
    tally->hung += verdict == MUTANT_HUNG;
    tally->most_seeds = seed > tally->most_seeds ? seed : tally->most_seeds;
}

static int part_count(void)
{
    return cuda_tests_are_short() ? 24 : 6;
}

/* The part of this run, from 0; -1: all. */
static int part_to_run(void)
{
    const char *text = getenv("DPR_MUTATION_PART");
    if (text != NULL && strcmp(text, "all") == 0) {
        return -1;
    }
    const long asked = text != NULL ? strtol(text, NULL, 10) : 0;
    const long chosen = asked >= 1 ? asked - 1 : (long)(time(NULL) / (24 * 60 * 60));
    return (int)(chosen % part_count());
}

static void open_bench(const subject_t *subject, bench_t *bench)
{
    *bench = (bench_t){.subject = subject, .facts = mutant_facts_new()};
    make_config(subject, &bench->program, &bench->config);
    assert_int_equal(dpr_graph_create(&bench->program, &bench->config.graph, &bench->graph),
                     DPR_OK);
    assert_true(mutant_learn(&bench->config, bench->facts));
    assert_in_range(bench->facts->call_count, 1, MUTANT_CALLS);
}

static void close_bench(bench_t *bench)
{
    dpr_graph_destroy(bench->graph);
    dpr_program_free(&bench->program);
    mutant_facts_free(bench->facts);
}

/* Every wait of the executor was a call on its device, and no other was made. */
static void check_counts(const bench_t *bench)
{
    const mutant_facts_t *facts = bench->facts;
    for (int rank = 0; rank < MUTANT_RANKS; rank++) {
        int waits = 0;
        int holds = 0;
        for (int i = 0; i < facts->call_count; i++) {
            const standin_call_t *call = &facts->calls[i];
            waits += call->device == rank && is_same_function(call, "cudaStreamWaitEvent");
            holds += call->device == rank && is_same_function(call, "cuStreamWaitValue32");
        }
        assert_non_null(executor_wait(bench, rank, waits));
        assert_null(executor_wait(bench, rank, waits + 1));
        assert_true((holds > 0) == (bench->subject->comm == RIG_LOCAL));
    }
}

static void report(const bench_t *bench, const char *function, const tally_t *tally)
{
    print_message("%-26s %-10s %-24s %3d noticed where they are left out (by seed %llu at the "
                  "latest; %d crash, %d hang), %d implied, %d that nothing waits for; %d never "
                  "noticed\n",
                  bench->subject->title, bench->subject->schedule, function, tally->noticed,
                  (unsigned long long)tally->most_seeds, tally->crashed, tally->hung,
                  tally->implied, tally->unattended, tally->unnoticed);
}

static void try_function(const bench_t *bench, const char *function, tally_t *tally)
{
    const int part = part_to_run();
    for (int i = 0, number = 0; i < bench->facts->call_count; i++) {
        suspect_t suspect = {.call = &bench->facts->calls[i]};
        if (!is_same_function(suspect.call, function) ||
            (number++ % part_count() != part && part >= 0)) {
            continue;
        }
        judge(bench, &suspect);
        if (suspect.need == NEEDED) {
            try_needed(bench, &suspect, tally);
        } else if (suspect.need == IMPLIED) {
            try_implied(bench, &suspect, tally);
        } else {
            tally->unattended++;
        }
    }
}

static void check_subject(const subject_t *subject)
{
    static const char *const functions[] = {"cudaStreamWaitEvent", "cuStreamWaitValue32",
                                            "cudaEventRecord", "cudaEventRecordWithFlags"};
    bench_t bench;
    uint64_t seed;
    open_bench(subject, &bench);
    check_counts(&bench);
    assert_int_equal(mutant_try(&bench.config, bench.facts, NULL, SEEDS_OF_RIGHT, &seed),
                     MUTANT_RIGHT);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        tally_t tally = {0};
        try_function(&bench, functions[i], &tally);
        if (tally.noticed + tally.implied + tally.unattended + tally.unnoticed > 0) {
            report(&bench, functions[i], &tally);
        }
        assert_int_equal(tally.unnoticed, 0);
    }
    close_bench(&bench);
}

static void every_call_that_orders_a_step_is_missed_where_it_is_left_out(void **state)
{
    (void)state;
    const int part = part_to_run();
    if (part < 0) {
        print_message("all parts\n");
    } else {
        print_message("part %d of %d\n", part + 1, part_count());
    }
    for (int i = 0; i < SUBJECTS; i++) {
        check_subject(&subjects[i]);
    }
}

/* ---- What the test itself is worth ---- */

/* A runtime that never makes a wait it needs is not taken for a right one: the waits counted are
 * not those planned, and seeds go wrong. */
static void a_wait_that_is_missing_altogether_is_found(void **state)
{
    (void)state;
    bench_t bench;
    uint64_t seed;
    int found = 0;
    open_bench(&subjects[0], &bench);
    for (int i = 0; i < bench.facts->wait_count[0] && found == 0; i++) {
        rig_config_t lacking = bench.config;
        if (need_of_wait(&bench, 0, &bench.facts->waits[0][i]) != NEEDED) {
            continue;
        }
        lacking.drop_rank = 0;
        lacking.drop_wait = i + 1;
        const int calls = bench.facts->call_count;
        if (mutant_learn(&lacking, bench.facts)) { /* in order it may seem right */
            assert_int_equal(bench.facts->call_count, calls - 1);
        }
        assert_true(mutant_learn(&bench.config, bench.facts));
        assert_int_not_equal(mutant_try(&lacking, bench.facts, NULL, SEEDS, &seed), MUTANT_RIGHT);
        found++;
    }
    assert_int_equal(found, 1);
    close_bench(&bench);
}

/* And one that is not needed is not taken for one that is: what only a watchdog asks for is never
 * missed. */
static void a_call_that_is_not_needed_is_never_missed(void **state)
{
    (void)state;
    bench_t bench;
    uint64_t seed;
    int right = 0;
    open_bench(&subjects[2], &bench);
    for (int i = bench.facts->call_count - 1; i >= 0 && right == 0; i--) {
        suspect_t suspect = {.call = &bench.facts->calls[i]};
        judge(&bench, &suspect);
        if (suspect.need == UNATTENDED && mutant_try(&bench.config, bench.facts, &suspect.omission,
                                                     SEEDS_OF_RIGHT, &seed) == MUTANT_RIGHT) {
            right++;
        }
    }
    assert_int_equal(right, 1);
    const standin_omission_t never = {
        .function = "cudaStreamWaitEvent", .device = 0, .call = MUTANT_CALLS};
    assert_int_equal(mutant_try(&bench.config, bench.facts, &never, 1, &seed), MUTANT_NOT_MADE);
    close_bench(&bench);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_that_orders_a_step_is_missed_where_it_is_left_out),
        cmocka_unit_test(a_wait_that_is_missing_altogether_is_found),
        cmocka_unit_test(a_call_that_is_not_needed_is_never_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
