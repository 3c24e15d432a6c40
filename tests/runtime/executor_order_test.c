/*
 * All ranks enqueue their transfers in one order: taken off the ranks' lists one by one, a transfer
 * always comes up that is the next at both of its ends. Then nothing that CUDA or NCCL make wait
 * along the order of enqueuing can deadlock (docs/nccl.md). Held for every schedule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "rig.h"
#include "schedule/generators.h"

enum { RANKS_MAX = 8, TRANSFERS_MAX = 1024, KIND_BYTES = 8 };

typedef struct transfer {
    char kind[KIND_BYTES];
    int stage;
    int micro_batch;
    int source;
    int destination;
} transfer_t;

/* Of each rank in its order; each rank's thread writes its own. */
typedef struct lists {
    transfer_t transfers[RANKS_MAX][TRANSFERS_MAX];
    int count[RANKS_MAX];
} lists_t;

static void read_list(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    lists_t *lists = user;
    const dpr_executor_t *executor = dpr_pipeline_executor(pipeline);
    for (int32_t i = 0; i < dpr_executor_command_count(executor); i++) {
        const char *name = dpr_executor_command_name(executor, i);
        transfer_t *it = &lists->transfers[rank][lists->count[rank]];
        const int sent = sscanf(name, "send %7s s%d m%d to %d", it->kind, &it->stage,
                                &it->micro_batch, &it->destination);
        it->source = rank;
        if (sent != 4) {
            it->destination = rank;
            if (sscanf(name, "recv %7s s%d m%d from %d", it->kind, &it->stage, &it->micro_batch,
                       &it->source) != 4) {
                continue; /* it computes */
            }
        }
        assert_true(++lists->count[rank] < TRANSFERS_MAX);
    }
}

static bool same(const transfer_t *a, const transfer_t *b)
{
    return strcmp(a->kind, b->kind) == 0 && a->stage == b->stage &&
           a->micro_batch == b->micro_batch && a->source == b->source &&
           a->destination == b->destination;
}

/* How many transfers are left when none is the next at both ends. */
static int left_over(const lists_t *lists, int ranks)
{
    int next[RANKS_MAX] = {0};
    int left = 0;
    for (bool found = true; found;) {
        found = false;
        for (int r = 0; r < ranks; r++) {
            const transfer_t *it = &lists->transfers[r][next[r]];
            const int peer = it->destination;
            if (next[r] < lists->count[r] && it->source == r && next[peer] < lists->count[peer] &&
                same(it, &lists->transfers[peer][next[peer]])) {
                next[r]++;
                next[peer]++;
                found = true;
            }
        }
    }
    for (int r = 0; r < ranks; r++) {
        left += lists->count[r] - next[r];
    }
    return left;
}

static void check(const char *schedule, int ranks, int micro_batches)
{
    static lists_t lists;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, &program), DPR_OK);
    memset(&lists, 0, sizeof lists);
    rig_config_default(&config, &program);
    config.steps = 1;
    config.no_eval = true;
    config.inspect = read_list;
    config.user = &lists;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    assert_true(lists.count[0] > 0);
    if (left_over(&lists, ranks) > 0) {
        fail_msg("%s, %d ranks, %d micro-batches: %d transfers are in no common order", schedule,
                 ranks, micro_batches, left_over(&lists, ranks));
    }
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void all_ranks_enqueue_transfers_in_one_order(void **state)
{
    (void)state;
    size_t count;
    int checked = 0;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 2; ranks <= RANKS_MAX; ranks *= 2) {
            for (int m = 2 * ranks; m <= 2 * ranks + 1; m++) {
                if (dpr_schedule_allows(schedules[i].name, ranks, m)) {
                    check(schedules[i].name, ranks, m);
                    checked++;
                }
            }
        }
    }
    assert_true(checked > (int)count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranks_enqueue_transfers_in_one_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
