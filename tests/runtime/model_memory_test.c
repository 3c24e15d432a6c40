/*
 * The memory model against what the runtime really lays out: an MLP's stages as kernels/stage.h has
 * them, a rank's buffers as runtime/arena.h has them, the optimizer's state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "kernels/stage.h"
#include "models/memory.h"
#include "runtime/arena.h"
#include "runtime/optimizer.h"
#include "schedule/generators.h"

enum { MAX_STAGES = 32 };

static const dpr_model_config_t configs[] = {
    {.input = 784, .hidden = 30, .ffn = 50, .classes = 10, .blocks = 37, .micro_batch_size = 6},
    {.input = 3, .hidden = 16, .ffn = 64, .classes = 2, .blocks = 32, .micro_batch_size = 1},
    {.input = 100,
     .hidden = 257,
     .ffn = 129,
     .classes = 1000,
     .blocks = 64,
     .micro_batch_size = 32},
};

static dpr_mlp_model_t model_of(const dpr_model_config_t *config)
{
    return (dpr_mlp_model_t){.input = config->input,
                             .hidden = config->hidden,
                             .ffn = config->ffn,
                             .classes = config->classes,
                             .blocks = config->blocks,
                             .micro_batch_size = config->micro_batch_size,
                             .dtype = config->dtype};
}

static void stages_are_those_of_the_kernels(void **state)
{
    (void)state;
    for (size_t c = 0; c < 2 * sizeof configs / sizeof configs[0]; c++) {
        dpr_model_config_t config = configs[c / 2];
        config.dtype = c % 2 == 0 ? DPR_DTYPE_FP32 : DPR_DTYPE_BF16;
        const dpr_mlp_model_t model = model_of(&config);
        for (int stages = 1; stages <= MAX_STAGES; stages++) {
            dpr_stage_memory_t found[MAX_STAGES];
            assert_int_equal(dpr_mlp_memory(&model, stages, found), DPR_OK);
            for (int s = 0; s < stages; s++) {
                dpr_stage_shape_t shape;
                assert_int_equal(dpr_stage_shape(&config, stages, s, &shape), DPR_OK);
                assert_int_equal(found[s].parameters, shape.parameters);
                assert_int_equal(found[s].activation_bytes, shape.activation_bytes);
                assert_int_equal(found[s].saved_bytes, shape.saved_bytes);
                assert_int_equal(found[s].wstate_bytes, shape.wstate_bytes);
            }
        }
    }
}

/* The bytes of every rank's buffers, and its parameters, of one schedule. */
static void check_schedule(const char *schedule, int ranks, int micro_batches)
{
    const dpr_mlp_model_t model = model_of(&configs[0]);
    const dpr_memory_format_t format = dpr_memory_format(DPR_DTYPE_FP32, DPR_STATE_ADAMW);
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_stage_memory_t stages[MAX_STAGES];
    dpr_stage_shape_t shapes[MAX_STAGES];
    dpr_rank_memory_t found[MAX_STAGES];
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, &program), DPR_OK);
    assert_int_equal(dpr_graph_create(&program, NULL, &graph), DPR_OK);
    assert_int_equal(dpr_mlp_memory(&model, graph->stages, stages), DPR_OK);
    assert_int_equal(dpr_memory_count(graph, stages, &format, found), DPR_OK);
    for (int s = 0; s < graph->stages; s++) {
        assert_int_equal(dpr_stage_shape(&configs[0], graph->stages, s, &shapes[s]), DPR_OK);
    }
    for (int r = 0; r < ranks; r++) {
        dpr_arena_t arena;
        assert_int_equal(dpr_arena_init(&arena, graph, r, shapes), DPR_OK);
        assert_int_equal(found[r].saved_bytes + found[r].wstate_bytes + found[r].handover_bytes +
                             found[r].receive_bytes + found[r].send_bytes,
                         arena.bytes);
        dpr_arena_free(&arena);
    }
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void buffers_are_those_of_the_arena(void **state)
{
    (void)state;
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int micro_batches = ranks; micro_batches <= 3 * ranks; micro_batches += ranks) {
                if (schedules[i].allows(ranks, micro_batches)) {
                    check_schedule(schedules[i].name, ranks, micro_batches);
                }
            }
        }
    }
}

/* The runtime pads each moment of a stage to its alignment, which the model leaves out. */
static void optimizer_state_is_that_of_the_optimizer(void **state)
{
    (void)state;
    dpr_optimizer_config_t config;
    dpr_optimizer_config_default(&config);
    const struct {
        dpr_optimizer_kind_t kind;
        dpr_state_kind_t state;
    } kinds[] = {{DPR_OPTIMIZER_ADAMW, DPR_STATE_ADAMW}, {DPR_OPTIMIZER_SGD, DPR_STATE_SGD}};
    for (size_t i = 0; i < 2; i++) {
        config.kind = kinds[i].kind;
        const dpr_memory_format_t format = dpr_memory_format(DPR_DTYPE_FP32, kinds[i].state);
        assert_int_equal(dpr_optimizer_bytes(&config, 1 << 12), (1 << 12) * format.optimizer_bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_are_those_of_the_kernels),
        cmocka_unit_test(buffers_are_those_of_the_arena),
        cmocka_unit_test(optimizer_state_is_that_of_the_optimizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
