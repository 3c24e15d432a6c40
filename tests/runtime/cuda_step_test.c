/*
 * What a step asks of CUDA, counted by the software stand-in: it creates, allocates and frees
 * nothing, it uses nothing for the first time, and the host waits as often for a long program as
 * for a short one, enqueued or recorded.
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

/* Calls of `functions` in each step of all ranks together, as `counter` has them. */
static void count(const char *const *functions, size_t (*counter)(void), int micro_batches,
                  bool record, size_t *calls)
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
    config.count = counter;
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
        count(creating, count_calls, 4, record == 1, calls);
        assert_true(record == 0 || calls[0] > 0); /* the recording */
        for (int k = 1; k < STEPS; k++) {
            assert_int_equal(calls[k], 0);
        }
    }
}

/*
 * Not even the first step, whichever of its micro-batches' alignments: products are planned, and
 * sums of every size connected, before. 15 floats of input a micro-batch, so that batches begin at
 * odd multiples of 4, 8, 16 and 32 bytes.
 */
static void a_step_meets_nothing_for_the_first_time(void **state)
{
    static const char *const first_uses[] = {"AlgoGetHeuristic", "connect:", NULL};
    (void)state;
    for (int record = 0; record < 2; record++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t result;
        counted = first_uses;
        cuda_generate("dualpipe", 2, 8, &program);
        cuda_config_default(&config, &program);
        config.model.input = 5;
        config.model.micro_batch_size = 3;
        config.update = true;
        config.record = record == 1;
        config.count = count_calls;
        cuda_run_checked(&config, 3, &result);
        assert_true(standin_calls("cublasLtMatmulAlgoGetHeuristic") > 0);
        assert_true(standin_calls("connect:ncclAllReduce") > 0);
        for (int k = 0; k < config.steps; k++) {
            assert_int_equal(result.counted[k], 0);
        }
        rig_result_free(&result);
        dpr_program_free(&program);
    }
}

/* Before the first step a sum is taken that cannot be connected on rank 0, after the opening's, so
 * that rank 1 waits for it on its GPU. */
static void a_sum_that_fails_before_the_first_step_ends_all_ranks(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    char text[512];
    standin_reset(&(standin_options_t){
        .devices = 2,
        .memory_bytes = (size_t)2 << 30,
        .compute_major = 8,
        .failure = {.function = "connect:ncclAllReduce", .call = 2, .on_device = true}});
    cuda_generate("1f1b", 2, 4, &program);
    cuda_config_default(&config, &program);
    rig_run(&config, &result);
    standin_drain();
    assert_true(standin_failed());
    assert_int_equal(result.status, DPR_ERR_COMM);
    assert_int_equal(standin_misuses(), 0);
    assert_int_equal(standin_leaks(text, sizeof text), 0);
    rig_result_free(&result);
    dpr_program_free(&program);
}

static void a_recorded_step_is_one_launch_on_each_rank(void **state)
{
    (void)state;
    size_t calls[STEPS];
    count(launching, count_calls, 4, true, calls);
    for (int k = 0; k < STEPS; k++) {
        assert_int_equal(calls[k], 2);
    }
    count(launching, count_calls, 4, false, calls);
    assert_int_equal(calls[STEPS - 1], 0);
}

/*
 * Now and then, by time, the device aligns its clock: it then waits for a stream and for an event,
 * as often for the one as for the other, while a step waits for no event. So the waits of a step
 * are those for streams less those for events.
 */
static size_t count_waits(void)
{
    return count_calls() - 2 * (size_t)standin_calls("cudaEventSynchronize");
}

static void the_host_waits_no_more_often_in_a_longer_step(void **state)
{
    (void)state;
    size_t some[STEPS];
    size_t more[STEPS];
    for (int record = 0; record < 2; record++) {
        count(synchronizing, count_waits, 4, record == 1, some);
        count(synchronizing, count_waits, 12, record == 1, more);
        assert_true(some[0] > 0);
        for (int k = 1; k < STEPS; k++) {
            assert_int_equal(some[k], some[0]);
            assert_int_equal(more[k], some[0]);
        }
    }
}

/* What was seen of the ranks' steps before the last. */
typedef struct seen {
    const dpr_pipeline_t *pipeline[2];
    int steps[2];
    int early[2];    /* commands that began before they were enqueued */
    int together[2]; /* commands enqueued at the time of the step's first */
    int commands[2];
} seen_t;

static void keep_pipeline(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    ((seen_t *)user)->pipeline[rank] = pipeline;
}

static void look_at_step(void *user, int rank, int step)
{
    enum { COMMANDS_MAX = 256 };
    seen_t *seen = user;
    dpr_record_t records[COMMANDS_MAX];
    const dpr_executor_t *executor = dpr_pipeline_executor(seen->pipeline[rank]);
    const int count = dpr_executor_command_count(executor);
    if (step == 0) {
        return;
    }
    assert_true(count <= COMMANDS_MAX);
    dpr_executor_collect(executor, records);
    for (int i = 0; i < count; i++) {
        /* the GPU's events are on the host's clock to some microseconds */
        seen->early[rank] += !(records[i].enqueued_sec <= records[i].ready_sec + 1e-3);
        seen->together[rank] += records[i].enqueued_sec == records[0].enqueued_sec;
    }
    seen->commands[rank] += count;
    seen->steps[rank]++;
}

/* Played from a recording, all commands of a step are enqueued by its one launch. */
static void commands_know_when_they_were_enqueued(void **state)
{
    (void)state;
    for (int record = 0; record < 2; record++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t result;
        seen_t seen = {0};
        cuda_generate("dualpipev", 2, 4, &program);
        cuda_config_default(&config, &program);
        config.steps = STEPS;
        config.record = record == 1;
        config.one_slot = true;
        config.inspect = keep_pipeline;
        config.hold = look_at_step;
        config.user = &seen;
        cuda_run_checked(&config, 3, &result);
        for (int rank = 0; rank < 2; rank++) {
            assert_int_equal(seen.steps[rank], STEPS - 1);
            assert_int_equal(seen.early[rank], 0);
            assert_int_equal(seen.together[rank],
                             record == 1 ? seen.commands[rank] : seen.steps[rank]);
        }
        rig_result_free(&result);
        dpr_program_free(&program);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_creates_and_allocates_nothing),
        cmocka_unit_test(a_step_meets_nothing_for_the_first_time),
        cmocka_unit_test(a_sum_that_fails_before_the_first_step_ends_all_ranks),
        cmocka_unit_test(a_recorded_step_is_one_launch_on_each_rank),
        cmocka_unit_test(commands_know_when_they_were_enqueued),
        cmocka_unit_test(the_host_waits_no_more_often_in_a_longer_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
