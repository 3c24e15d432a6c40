/*
 * The memory contract: what is predicted of each rank's device memory is what a run of the program
 * then holds at its peak, byte for byte; the pools that make up the arena are as large as the
 * schedules promise; and a plan that does not fit a limit is refused with the schedules that would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "rig.h"
#include "runtime/arena.h"
#include "schedule/csv.h"
#include "schedule/generators.h"

/* The optimizer of the rig's runs; its kind alone decides about memory. */
static dpr_memory_spec_t spec_of(const rig_config_t *config)
{
    static const dpr_optimizer_config_t adamw = {.kind = DPR_OPTIMIZER_ADAMW};
    return (dpr_memory_spec_t){.program = config->program,
                               .graph = config->graph,
                               .model = config->model,
                               .optimizer = config->update ? &adamw : NULL};
}

static void expect_held_as_predicted(const rig_config_t *config)
{
    const dpr_memory_spec_t spec = spec_of(config);
    dpr_pipeline_memory_t predicted[RIG_MAX_RANKS];
    rig_result_t result;
    assert_int_equal(dpr_memory_predict(&spec, predicted), DPR_OK);
    rig_run(config, &result);
    assert_int_equal(result.status, DPR_OK);
    for (int r = 0; r < config->program->ranks; r++) {
        const dpr_pipeline_memory_t *m = &predicted[r];
        assert_int_equal(m->total_bytes, m->arena_bytes + m->stage_bytes + m->optimizer_bytes +
                                             m->batch_bytes + m->rest_bytes);
        if (result.held_bytes[r] != m->total_bytes) {
            print_error("%s on %d ranks: rank %d holds %zu bytes, %zu were predicted\n",
                        config->program->name, config->program->ranks, r, result.held_bytes[r],
                        m->total_bytes);
        }
        assert_int_equal(result.held_bytes[r], m->total_bytes);
    }
    rig_result_free(&result);
}

/* The two least numbers of micro-batches from 2P on that the schedule allows. */
static void every_schedule_holds_what_is_predicted(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 2; ranks <= 4; ranks += 2) {
            int played = 0;
            for (int m = 2 * ranks; m <= 4 * ranks && played < 2; m++) {
                if (!schedules[i].allows(ranks, m)) {
                    continue;
                }
                dpr_program_t program;
                rig_config_t config;
                assert_int_equal(dpr_schedule_generate(schedules[i].name, ranks, m, &program),
                                 DPR_OK);
                rig_config_default(&config, &program);
                config.steps = 2;
                config.model.blocks = program.stages + 1; /* stages of unequal size */
                config.update = played == 0;
                expect_held_as_predicted(&config);
                dpr_program_free(&program);
                played++;
            }
            assert_int_equal(played, 2);
        }
    }
}

static void slots_and_sizes_are_counted(void **state)
{
    (void)state;
    static const dpr_graph_options_t options[] = {
        {.recv_ahead = 0}, {.recv_ahead = 5, .send_slots = 4}, {.recv_slots = 8, .send_slots = 3}};
    dpr_program_t program;
    assert_int_equal(dpr_schedule_generate("dualpipe", 4, 10, &program), DPR_OK);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        rig_config_t config;
        rig_config_default(&config, &program);
        config.steps = 1;
        config.graph = options[i];
        config.model.hidden = 67; /* slots are padded, parameters are not */
        config.model.ffn = 65;
        config.model.micro_batch_size = 5;
        expect_held_as_predicted(&config);
    }
    dpr_program_free(&program);
}

/* Its sends are put off and its receives reordered to match: it runs, to the same gradients, and
 * holds what is predicted. */
static void a_lowered_program_runs_and_holds_what_is_predicted(void **state)
{
    (void)state;
    static const char text[] = "0UNSHARD,0F0,0F1,0SEND_F1,0SEND_F0,0F2,0SEND_F2,0RECV_B1,0RECV_B0,"
                               "0RECV_B2,0B0,0B1,0B2\n"
                               "1RECV_F1,1RECV_F0,1F0,1B0,1RECV_F2,1F1,1B1,1SEND_B1,1SEND_B0,1F2,"
                               "1I2,1SEND_B2,1W2\n";
    dpr_program_t program;
    rig_config_t config;
    rig_result_t reference, result;
    assert_int_equal(dpr_csv_parse(text, sizeof text - 1, "text", &program), DPR_OK);
    rig_config_default(&config, &program);
    expect_held_as_predicted(&config);
    rig_run(&config, &result);
    rig_run_reference(&config, &reference);
    assert_int_equal(result.status, DPR_OK);
    assert_true(rig_gradient_difference(&config, &result, &reference) <= 1e-5);
    rig_result_free(&reference);
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* ---- Where the activations lie ---- */

typedef struct saved_pool {
    int32_t slots;
    size_t bytes; /* of all slots, in the arena */
} saved_pool_t;

/* The SAVED pool of a rank, as the arena lays it out; with one block to each of `parts`. */
static saved_pool_t saved_pool_of(const char *schedule, int ranks, int micro_batches, int rank,
                                  int blocks)
{
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_arena_t arena;
    dpr_stage_shape_t shapes[2 * RIG_MAX_RANKS];
    rig_config_t config;
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, &program), DPR_OK);
    assert_int_equal(dpr_graph_create(&program, NULL, &graph), DPR_OK);
    rig_config_default(&config, &program);
    config.model.blocks = blocks;
    config.model.hidden = 64; /* a multiple of the slots' alignment: the sizes are exact */
    config.model.ffn = 64;
    for (int s = 0; s < program.stages; s++) {
        assert_int_equal(dpr_stage_shape(&config.model, program.stages, s, &shapes[s]), DPR_OK);
        shapes[s].saved_bytes = (size_t)shapes[s].blocks * 4096; /* nothing but the blocks' */
    }
    assert_int_equal(dpr_arena_init(&arena, graph, rank, shapes), DPR_OK);
    const int32_t index = DPR_POOL_KINDS * rank + DPR_POOL_SAVED;
    const saved_pool_t pool = {.slots = graph->pools[index].slots,
                               .bytes = arena.pool_offset[index + 1] - arena.pool_offset[index]};
    assert_int_equal(pool.slots, dpr_graph_peak_activations(graph, rank));
    dpr_arena_free(&arena);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
    return pool;
}

/* Of the same model, dualpipe holds P + 1 sets of a stage and dualpipev 2P + 1 of half a stage. */
static void dualpipe_and_dualpipev_hold_p_plus_one_activations(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 8; ranks += 2) {
        const int m = 4 * ranks;
        const int blocks = 2 * ranks;
        const size_t stage_bytes = 2 * 4096; /* of the P stages of the model, two blocks each */
        int32_t most = 0, most_v = 0;
        size_t bytes = 0, bytes_v = 0;
        for (int r = 0; r < ranks; r++) {
            const saved_pool_t pool = saved_pool_of("dualpipe", ranks, m, r, blocks);
            const saved_pool_t pool_v = saved_pool_of("dualpipev", ranks, m, r, blocks);
            most = pool.slots > most ? pool.slots : most;
            most_v = pool_v.slots > most_v ? pool_v.slots : most_v;
            bytes = pool.bytes > bytes ? pool.bytes : bytes;
            bytes_v = pool_v.bytes > bytes_v ? pool_v.bytes : bytes_v;
        }
        assert_int_equal(most, ranks + 1);
        assert_int_equal(most_v, 2 * ranks + 1);
        assert_int_equal(bytes, (size_t)(ranks + 1) * stage_bytes);
        assert_int_equal(2 * bytes_v, (size_t)(2 * ranks + 1) * stage_bytes);
    }
}

/* ---- Limits ---- */

static size_t fullest(const rig_config_t *config)
{
    const dpr_memory_spec_t spec = spec_of(config);
    dpr_pipeline_memory_t predicted[RIG_MAX_RANKS];
    size_t most = 0;
    assert_int_equal(dpr_memory_predict(&spec, predicted), DPR_OK);
    for (int r = 0; r < config->program->ranks; r++) {
        most = predicted[r].total_bytes > most ? predicted[r].total_bytes : most;
    }
    return most;
}

static void expect_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find\n    %s\nin\n    %s\n", part, text);
        fail();
    }
}

static void a_limit_refuses_the_first_byte_too_many(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    char needed[64];
    assert_int_equal(dpr_schedule_generate("gpipe", 4, 16, &program), DPR_OK);
    rig_config_default(&config, &program);
    config.steps = 1;
    config.model.blocks = 8;
    const size_t most = fullest(&config);
    config.memory_limit_bytes = most;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_OK);
    rig_result_free(&result);

    config.memory_limit_bytes = most - 1;
    rig_run(&config, &result);
    assert_int_equal(result.status, DPR_ERR_INVALID);
    snprintf(needed, sizeof needed, "%zu bytes needed", most);
    expect_contains(result.messages, needed);
    snprintf(needed, sizeof needed, "--memory-limit allows %zu;", most - 1);
    expect_contains(result.messages, needed);
    expect_contains(result.messages, "cannot hold its part of schedule gpipe");
    for (int r = 0; r < program.ranks; r++) {
        assert_int_equal(result.held_bytes[r], 0); /* refused before anything was allocated */
    }
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* What a message says of each schedule is what a limit does to it. */
static void the_schedules_named_are_those_that_fit(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    dpr_program_t program;
    rig_config_t config;
    assert_int_equal(dpr_schedule_generate("1f1b", 4, 16, &program), DPR_OK);
    rig_config_default(&config, &program);
    config.model.blocks = 8;
    const dpr_memory_spec_t spec = spec_of(&config);
    const size_t limit = fullest(&config);
    char text[1024];
    int fit = 0, too_large = 0;
    dpr_memory_describe_fitting(&spec, limit, text, sizeof text);
    for (size_t i = 0; i < count; i++) {
        rig_config_t other = config;
        dpr_program_t generated;
        if (!schedules[i].allows(4, 16)) {
            continue;
        }
        assert_int_equal(dpr_schedule_generate(schedules[i].name, 4, 16, &generated), DPR_OK);
        other.program = &generated;
        const size_t needed = fullest(&other);
        char named[96];
        snprintf(named, sizeof named, " %s (%zu bytes)", schedules[i].name, needed);
        assert_int_equal(strstr(text, named) != NULL, needed <= limit);
        fit += needed <= limit;
        too_large += needed > limit;
        dpr_program_free(&generated);
    }
    assert_true(fit > 0 && too_large > 0);

    dpr_memory_describe_fitting(&spec, 1, text, sizeof text);
    expect_contains(text, "no schedule would fit");
    dpr_program_free(&program);
}

/* A message about more than fits its buffer is cut, not written beyond it. */
static void a_short_buffer_cuts_the_list(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    char text[100];
    assert_int_equal(dpr_schedule_generate("1f1b", 2, 4, &program), DPR_OK);
    rig_config_default(&config, &program);
    config.model.blocks = 4;
    const dpr_memory_spec_t spec = spec_of(&config);
    memset(text, 'x', sizeof text);
    dpr_memory_describe_fitting(&spec, SIZE_MAX, text, 90);
    assert_int_equal(strlen(text), 89);
    assert_int_equal(text[90], 'x');
    dpr_program_free(&program);
}

static void sizes_beyond_the_address_space_are_refused(void **state)
{
    (void)state;
    dpr_program_t program;
    rig_config_t config;
    dpr_pipeline_memory_t predicted[2];
    char refused[1024];
    dpr_log_capture_t capture;
    assert_int_equal(dpr_schedule_generate("1f1b", 2, 4, &program), DPR_OK);
    rig_config_default(&config, &program);
    config.model.hidden = 1 << 20;
    config.model.ffn = 1 << 22;
    config.model.blocks = 1 << 19; /* 2^61 parameters a stage */
    const dpr_memory_spec_t spec = spec_of(&config);
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    const dpr_status_t status = dpr_memory_predict(&spec, predicted);
    dpr_log_capture_end(&capture);
    assert_true(status == DPR_ERR_MEMORY || status == DPR_ERR_INVALID);
    assert_true(refused[0] != '\0');
    dpr_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_holds_what_is_predicted),
        cmocka_unit_test(slots_and_sizes_are_counted),
        cmocka_unit_test(a_lowered_program_runs_and_holds_what_is_predicted),
        cmocka_unit_test(dualpipe_and_dualpipev_hold_p_plus_one_activations),
        cmocka_unit_test(a_limit_refuses_the_first_byte_too_many),
        cmocka_unit_test(the_schedules_named_are_those_that_fit),
        cmocka_unit_test(a_short_buffer_cuts_the_list),
        cmocka_unit_test(sizes_beyond_the_address_space_are_refused),
    };
    return cmocka_run_group_tests_name("memory_contract", tests, NULL, NULL);
}
