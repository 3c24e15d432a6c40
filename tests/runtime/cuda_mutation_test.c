/*
 * Every event wait of the executor is needed: a run that leaves one out goes wrong for some seed of
 * the stand-in (other bits, NaN, a misuse, a deadlock), unless the other waits of the graph imply
 * it, which is then shown.
 *
 * Implied means: without the wait there still is a path in the op graph from the source's end to
 * the command (wait_proof.h). Two ways of taking transfers tell how much is taken for granted:
 *
 *     whatever happens   a send may leave before its receive has been reached
 *     rendezvous         it may not, which NCCL does not promise for short messages, but the
 *                        stand-in keeps
 *
 * What has been received has left the sender's buffer, so a path may begin at the receiver, too.
 * (Poison, which the sender's stream puts into the buffer afterwards, is not kept away by that; so
 * the implied waits are left out without it.)
 *
 * The stand-in can show no wait that rendezvous implies, so these are listed as not shown; what is
 * implied whatever happens would be superfluous on a GPU, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cuda_testing.h"
#include "wait_proof.h"

enum { SEEDS = 500, SEEDS_OF_IMPLIED = 2, NAME_BYTES = 64, EDGE_KINDS = 6, WAIT_KINDS = 5 };

/* ---- The waits of one rank ---- */

typedef struct named_wait {
    dpr_executor_wait_t wait;
    char command[NAME_BYTES];
    char source[NAME_BYTES];
} named_wait_t;

typedef struct wait_list {
    int rank;
    int32_t count;
    named_wait_t *waits; /* [count], from number 1 */
} wait_list_t;

static void list_waits(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    wait_list_t *list = user;
    const dpr_executor_t *executor = dpr_pipeline_executor(pipeline);
    if (rank != list->rank) {
        return;
    }
    list->count = dpr_executor_wait_count(executor);
    list->waits = calloc((size_t)list->count, sizeof *list->waits);
    for (int32_t i = 0; i < list->count; i++) {
        named_wait_t *named = &list->waits[i];
        dpr_executor_wait(executor, i + 1, &named->wait);
        strncpy(named->command, dpr_executor_command_name(executor, named->wait.command),
                NAME_BYTES - 1);
        if (named->wait.source >= 0) {
            strncpy(named->source, dpr_executor_command_name(executor, named->wait.source),
                    NAME_BYTES - 1);
        }
    }
}

/* ---- Mutants ---- */

typedef struct tally {
    int shown;
    int implied;
    int by_rendezvous;
    int never_missed;
    uint64_t most_seeds;
} tally_t;

/* Over all programs: what has been shown to be missed, by the edge's kind and the wait's. */
static int shown_of_edge[EDGE_KINDS];
static int shown_of_wait[WAIT_KINDS];

/* Whether the run without the wait goes wrong. */
static bool goes_wrong(const rig_config_t *config, uint64_t seed, const rig_result_t *right)
{
    cuda_outcome_t outcome;
    cuda_run(config, seed, true, 0.5, &outcome);
    const bool wrong = outcome.result.status != DPR_OK || outcome.misuses > 0 ||
                       !outcome.result.replicas_equal ||
                       outcome.result.parameters_hash != right->parameters_hash ||
                       memcmp(outcome.result.loss, right->loss, sizeof right->loss) != 0;
    rig_result_free(&outcome.result);
    return wrong;
}

static void count_shown(const dpr_graph_t *graph, const dpr_executor_wait_t *wait)
{
    const int32_t to = wait->command_node;
    shown_of_wait[wait->kind]++;
    for (int32_t e = graph->edge_begin[to]; e < graph->edge_begin[to + 1]; e++) {
        shown_of_edge[graph->edges[e].kind] += graph->edges[e].from == wait->source_node;
    }
}

static const char *kind_name(dpr_executor_wait_kind_t kind)
{
    static const char *const names[] = {"edge", "fork", "join", "stream's fork", "stream's join"};
    return names[kind];
}

/* The first seed that goes wrong, 0 where none of `seeds` does. */
static uint64_t find_seed(const rig_config_t *config, uint64_t seeds, const rig_result_t *right)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        if (goes_wrong(config, seed, right)) {
            return seed;
        }
    }
    return 0;
}

static void check_implied(const rig_config_t *config, const named_wait_t *named, bool by_rendezvous,
                          const rig_result_t *right, tally_t *tally)
{
    rig_config_t clean = *config;
    clean.poison = false;
    assert_true(find_seed(&clean, SEEDS_OF_IMPLIED, right) == 0); /* else the orders are wrong */
    tally->implied += !by_rendezvous;
    tally->by_rendezvous += by_rendezvous;
    print_message("  rank %d: %s after %s is implied by %s\n", config->drop_rank, named->command,
                  named->source, by_rendezvous ? "rendezvous" : "other waits");
}

static void check_wait(const rig_config_t *config, const named_wait_t *named,
                       const rig_result_t *right, tally_t *tally)
{
    const dpr_executor_wait_t *wait = &named->wait;
    const bool is_edge = wait->kind == DPR_EXECUTOR_WAIT_EDGE;
    if (is_edge && proof_wait_is_implied(right->graph, wait, config->drop_rank, PROOF_MEETING)) {
        check_implied(config, named,
                      !proof_wait_is_implied(right->graph, wait, config->drop_rank, PROOF_SPLIT),
                      right, tally);
        return;
    }
    const uint64_t seed = find_seed(config, SEEDS, right);
    if (seed == 0) {
        tally->never_missed++;
        print_message("  rank %d: %s of %s after %s: never missed\n", config->drop_rank,
                      kind_name(wait->kind), named->command, named->source);
        return;
    }
    tally->shown++;
    tally->most_seeds = seed > tally->most_seeds ? seed : tally->most_seeds;
    count_shown(right->graph, wait);
}

/* The right run, in order and with nothing left out; fills the list of rank `list->rank`. */
static void run_right(const rig_config_t *config, wait_list_t *list, rig_result_t *right)
{
    rig_config_t whole = *config;
    whole.inspect = list_waits;
    whole.user = list;
    whole.drop_wait = 0;
    cuda_run_checked(&whole, 0, right);
}

/* The waits of one rank: those of a step that is enqueued, or those that only a recording has. For
 * the latter the step is played twice, since what a recording has missed has been done once. */
static void check_rank(rig_config_t *config, bool record, tally_t *tally)
{
    wait_list_t list = {.rank = config->drop_rank};
    rig_result_t right;
    config->record = record;
    config->steps = record ? 2 : 1;
    run_right(config, &list, &right);
    for (config->drop_wait = 1; config->drop_wait <= list.count; config->drop_wait++) {
        const named_wait_t *named = &list.waits[config->drop_wait - 1];
        if ((named->wait.kind >= DPR_EXECUTOR_WAIT_ALL_FORK) == record) {
            check_wait(config, named, &right, tally);
        }
    }
    free(list.waits);
    rig_result_free(&right);
}

static void check_program(const char *schedule, int ranks, int micro_batches)
{
    dpr_program_t program;
    rig_config_t config;
    tally_t tally = {0};
    cuda_generate(schedule, ranks, micro_batches, &program);
    cuda_config_default(&config, &program);
    config.one_slot = true;
    config.update = false;
    config.no_eval = true;
    config.poison = true;
    config.graph.recv_ahead = 0; /* the fewest buffers, so that they are used again */
    for (config.drop_rank = 0; config.drop_rank < ranks; config.drop_rank++) {
        check_rank(&config, false, &tally);
        check_rank(&config, true, &tally);
    }
    print_message("%-18s P=%d M=%d: %d waits missed where they are left out (by seed %llu at the "
                  "latest), %d implied by others, %d by rendezvous; %d never missed\n",
                  schedule, ranks, micro_batches, tally.shown, (unsigned long long)tally.most_seeds,
                  tally.implied, tally.by_rendezvous, tally.never_missed);
    assert_int_equal(tally.never_missed, 0);
    assert_true(tally.shown > 0);
    dpr_program_free(&program);
}

static void every_kind_of_wait_was_among_them(void **state)
{
    (void)state;
    assert_true(shown_of_edge[DPR_EDGE_DATA] > 0);
    assert_true(shown_of_edge[DPR_EDGE_RECV_BUFFER] > 0);
    assert_true(cuda_tests_are_short() || shown_of_edge[DPR_EDGE_SEND_BUFFER] > 0);
    for (int kind = 0; kind < WAIT_KINDS; kind++) {
        assert_true(shown_of_wait[kind] > 0);
    }
}

static void every_event_wait_is_missed_where_it_is_left_out(void **state)
{
    (void)state;
    check_program("1f1b", 2, 4);
    check_program("dualpipev", 2, 4);
    if (cuda_tests_are_short()) {
        return;
    }
    check_program("interleaved-1f1b", 2, 4);
    check_program("zb1p", 2, 4);
    check_program("v-half", 2, 4);
    check_program("chimera", 2, 4);
    check_program("dualpipe", 2, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_wait_is_missed_where_it_is_left_out),
        cmocka_unit_test(every_kind_of_wait_was_among_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
