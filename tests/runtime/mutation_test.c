/*
 * Mutated programs: whatever the verifier lets through runs to the right gradients, with buffers
 * poisoned and the device in chaos; nothing hangs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "rig.h"
#include "schedule/generators.h"

enum { MUTANTS = 300, LEAST_RUN = 25, LEAST_REJECTED = 25 };

static uint64_t draw(uint64_t mutant, uint64_t *counter, uint64_t below)
{
    return dpr_random_bits(2024, mutant, (*counter)++) % below;
}

static void swap(dpr_action_t *a, dpr_action_t *b)
{
    const dpr_action_t kept = *a;
    *a = *b;
    *b = kept;
}

/* Swaps two actions of one rank, near to one another more often than not. */
static void swap_within_rank(dpr_program_t *program, uint64_t mutant, uint64_t *counter)
{
    const uint64_t rank = draw(mutant, counter, (uint64_t)program->ranks);
    const size_t begin = program->begin[rank];
    const uint64_t count = program->begin[rank + 1] - begin;
    const uint64_t at = draw(mutant, counter, count);
    const uint64_t far = draw(mutant, counter, 3) == 0 ? count : 3;
    const uint64_t other = (at + 1 + draw(mutant, counter, far)) % count;
    swap(&program->actions[begin + at], &program->actions[begin + other]);
}

/* Swaps two micro-batches of one stage wherever they stand: still complete, often in another order.
 */
static void swap_micro_batches(dpr_program_t *program, uint64_t mutant, uint64_t *counter)
{
    const int32_t stage = (int32_t)draw(mutant, counter, (uint64_t)program->stages);
    const int32_t a = (int32_t)draw(mutant, counter, (uint64_t)program->micro_batches);
    const int32_t b = (int32_t)draw(mutant, counter, (uint64_t)program->micro_batches);
    for (size_t i = 0; i < dpr_program_size(program); i++) {
        dpr_action_t *action = &program->actions[i];
        if (action->stage == stage && (action->micro_batch == a || action->micro_batch == b)) {
            action->micro_batch = action->micro_batch == a ? b : a;
        }
        if (action->b_stage == stage &&
            (action->b_micro_batch == a || action->b_micro_batch == b)) {
            action->b_micro_batch = action->b_micro_batch == a ? b : a;
        }
    }
}

static void drop_or_repeat(dpr_program_t *program, uint64_t mutant, uint64_t *counter)
{
    const size_t size = dpr_program_size(program);
    const size_t to = draw(mutant, counter, size);
    program->actions[to] = program->actions[draw(mutant, counter, size)];
}

static void mutate(dpr_program_t *program, uint64_t mutant)
{
    uint64_t counter = 0;
    const uint64_t times = 1 + draw(mutant, &counter, 2);
    for (uint64_t i = 0; i < times; i++) {
        switch (draw(mutant, &counter, 8)) {
        case 0:
            drop_or_repeat(program, mutant, &counter);
            break;
        case 1:
        case 2:
            swap_micro_batches(program, mutant, &counter);
            break;
        default:
            swap_within_rank(program, mutant, &counter);
            break;
        }
    }
}

static bool is_valid(const dpr_program_t *program)
{
    char messages[4096];
    dpr_log_capture_t capture;
    dpr_graph_t *graph = NULL;
    dpr_log_capture_begin(&capture, messages, sizeof messages);
    const dpr_status_t status = dpr_graph_create(program, NULL, &graph);
    dpr_log_capture_end(&capture);
    if (status != DPR_OK) {
        assert_true(messages[0] != '\0'); /* a refusal says why */
    }
    dpr_graph_destroy(graph);
    return status == DPR_OK;
}

static void check_run(const dpr_program_t *program, uint64_t mutant)
{
    rig_config_t config;
    rig_result_t pipelined, reference;
    rig_config_default(&config, program);
    config.steps = 1;
    config.poison = true;
    config.chaos_seed = mutant + 1;
    rig_run(&config, &pipelined);
    assert_int_equal(pipelined.status, DPR_OK);
    rig_run_reference(&config, &reference);
    assert_true(rig_gradient_difference(&config, &pipelined, &reference) <= 1e-5);
    rig_result_free(&pipelined);
    rig_result_free(&reference);
}

static void mutants_are_refused_or_run_to_the_right_gradients(void **state)
{
    (void)state;
    static const struct {
        const char *schedule;
        int ranks, micro_batches;
    } parents[] = {{"gpipe", 3, 4},    {"1f1b", 3, 5},      {"zb1p", 3, 4},
                   {"dualpipe", 4, 8}, {"dualpipev", 2, 5}, {"dualpipev", 3, 6}};
    int run = 0;
    int rejected = 0;
    for (uint64_t mutant = 0; mutant < MUTANTS; mutant++) {
        const size_t parent = mutant % (sizeof parents / sizeof parents[0]);
        dpr_program_t program;
        assert_int_equal(dpr_schedule_generate(parents[parent].schedule, parents[parent].ranks,
                                               parents[parent].micro_batches, &program),
                         DPR_OK);
        mutate(&program, mutant);
        if (is_valid(&program)) {
            check_run(&program, mutant);
            run++;
        } else {
            rejected++;
        }
        dpr_program_free(&program);
    }
    print_message("%d mutants ran, %d were refused\n", run, rejected);
    assert_true(run >= LEAST_RUN && rejected >= LEAST_REJECTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutants_are_refused_or_run_to_the_right_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
