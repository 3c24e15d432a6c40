/*
 * What a step asks of CUDA, counted by the software stand-in: it creates, allocates and frees
 * nothing, and the host waits as often for a long program as for a short one, enqueued or recorded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cuda_testing.h"
#include "standin.h"

enum { FUNCTIONS_MAX = 256, STEPS = 6 };

/* What is counted: calls of functions whose names contain one of these. */
static const char *const creating[] = {"Create", "Destroy",     "Malloc",  "Alloc",
                                       "Free",   "Instantiate", "Capture", NULL};
static const char *const synchronizing[] = {"Synchronize", NULL};
static const char *const launching[] = {"cudaGraphLaunch", NULL};
static const char *const *counted;

static bool is_counted(const char *name)
{
    for (int i = 0; counted[i] != NULL; i++) {
        if (strstr(name, counted[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static size_t count_calls(void)
{
    const char *names[FUNCTIONS_MAX];
    const int functions = standin_functions(names, FUNCTIONS_MAX);
    size_t calls = 0;
    assert_true(functions <= FUNCTIONS_MAX);
    for (int i = 0; i < functions; i++) {
        calls += is_counted(names[i]) ? (size_t)standin_calls(names[i]) : 0;
    }
    return calls;
}

/* Calls of `functions` in each step of all ranks together. */
static void count(const char *const *functions, int micro_batches, bool record, size_t *calls)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    counted = functions;
    cuda_generate("dualpipev", 2, micro_batches, &program);
    cuda_config_default(&config, &program);
    config.steps = STEPS;
    config.record = record;
    config.one_slot = true;
    config.count = count_calls;
    cuda_run_checked(&config, 3, &result);
    assert_true(count_calls() > 0 || functions == launching); /* it sees them outside the steps */
    memcpy(calls, result.counted, STEPS * sizeof *calls);
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void a_step_creates_and_allocates_nothing(void **state)
{
    (void)state;
    size_t calls[STEPS];
    for (int record = 0; record < 2; record++) {
        count(creating, 4, record == 1, calls);
        assert_true(record == 0 || calls[0] > 0); /* the recording */
        for (int k = 1; k < STEPS; k++) {
            assert_int_equal(calls[k], 0);
        }
    }
}

static void a_recorded_step_is_one_launch_on_each_rank(void **state)
{
    (void)state;
    size_t calls[STEPS];
    count(launching, 4, true, calls);
    for (int k = 0; k < STEPS; k++) {
        assert_int_equal(calls[k], 2);
    }
    count(launching, 4, false, calls);
    assert_int_equal(calls[STEPS - 1], 0);
}

/* Now and then, by time, the device waits to align its clock: not in the step with the fewest. */
static size_t fewest(const size_t *calls)
{
    size_t least = calls[1];
    for (int k = 2; k < STEPS; k++) {
        least = calls[k] < least ? calls[k] : least;
    }
    return least;
}

static void the_host_waits_no_more_often_in_a_longer_step(void **state)
{
    (void)state;
    size_t some[STEPS];
    size_t more[STEPS];
    for (int record = 0; record < 2; record++) {
        count(synchronizing, 4, record == 1, some);
        count(synchronizing, 12, record == 1, more);
        assert_true(fewest(some) > 0);
        assert_int_equal(fewest(some), fewest(more));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_creates_and_allocates_nothing),
        cmocka_unit_test(a_recorded_step_is_one_launch_on_each_rank),
        cmocka_unit_test(the_host_waits_no_more_often_in_a_longer_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
