/* Memory: ranks add up what their stages and pools take, and the models' formulas. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/memory.h"
#include "tests/schedule/schedule_testing.h"

enum { MAX_STAGES = 64 };

static dpr_memory_format_t packed(dpr_dtype_t dtype, dpr_state_kind_t state)
{
    dpr_memory_format_t format = dpr_memory_format(dtype, state);
    format.slot_alignment = 1;
    return format;
}

/* Counts one schedule whose stage s has 10 + s parameters, saves 1000 + s bytes, leaves 100 + s. */
static void count(const char *schedule, int P, int M, dpr_rank_memory_t *ranks, dpr_graph_t **graph)
{
    dpr_stage_memory_t stages[MAX_STAGES];
    for (int s = 0; s < MAX_STAGES; s++) {
        stages[s] =
            (dpr_stage_memory_t){10 + (uint64_t)s, 7, 1000 + (uint64_t)s, 100 + (uint64_t)s};
    }
    dpr_program_t program = make_program(schedule, P, M);
    *graph = make_graph(&program);
    const dpr_memory_format_t format = packed(DPR_DTYPE_BF16, DPR_STATE_SGD);
    assert_int_equal(dpr_memory_count(*graph, stages, &format, ranks), DPR_OK);
    dpr_program_free(&program);
}

static void a_rank_holds_its_stages_and_its_pools(void **state)
{
    (void)state;
    dpr_rank_memory_t ranks[4];
    dpr_graph_t *graph;
    count("1f1b", 4, 8, ranks, &graph);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(ranks[r].stages, 1);
        assert_int_equal(ranks[r].parameters, 10 + r);
        assert_int_equal(ranks[r].parameter_bytes, 2 * (10 + r));
        assert_int_equal(ranks[r].gradient_bytes, 2 * (10 + r));
        assert_int_equal(ranks[r].optimizer_bytes, (4 + 4) * (10 + r)); /* momentum and master */
        assert_int_equal(ranks[r].peak_activations, 4 - r);
        assert_int_equal(ranks[r].saved_bytes, (4 - r) * (1000 + r));
        assert_int_equal(ranks[r].handover_bytes, 0);
    }
    dpr_graph_destroy(graph);
    count("dualpipe", 4, 8, ranks, &graph);
    for (int r = 0; r < 4; r++) {
        const int larger = r > 3 - r ? r : 3 - r;
        assert_int_equal(ranks[r].stages, 2);
        assert_int_equal(ranks[r].parameters, 20 + 3);
        assert_int_equal(ranks[r].saved_bytes, ranks[r].peak_activations * (1000 + larger));
    }
    dpr_graph_destroy(graph);
}

/* The bytes of every pool of a graph, by where the total says they are. */
static void every_pool_is_counted_once(void **state)
{
    (void)state;
    size_t count_;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count_);
    for (size_t i = 0; i < count_; i++) {
        const int P = 4;
        const int M = 12;
        if (!schedules[i].allows(P, M)) {
            continue;
        }
        dpr_rank_memory_t ranks[4];
        dpr_graph_t *graph;
        count(schedules[i].name, P, M, ranks, &graph);
        uint64_t slots[4] = {0};
        for (int32_t p = 0; p < graph->pool_count; p++) {
            const dpr_pool_t *pool = &graph->pools[p];
            if (pool->kind == DPR_POOL_ACT || pool->kind == DPR_POOL_GRAD) {
                slots[pool->rank] += (uint64_t)pool->slots;
            }
        }
        for (int r = 0; r < P; r++) {
            const dpr_rank_memory_t *m = &ranks[r];
            assert_int_equal(m->handover_bytes + m->receive_bytes + m->send_bytes, 7 * slots[r]);
            assert_int_equal(m->total_bytes, m->parameter_bytes + m->gradient_bytes +
                                                 m->optimizer_bytes + m->saved_bytes +
                                                 m->wstate_bytes + m->handover_bytes +
                                                 m->receive_bytes + m->send_bytes);
            assert_true(m->receive_bytes > 0 && m->send_bytes > 0);
        }
        dpr_graph_destroy(graph);
    }
}

static void formats_are_sixteen_bytes_a_parameter_with_adamw(void **state)
{
    (void)state;
    for (int dtype = DPR_DTYPE_FP32; dtype <= DPR_DTYPE_BF16; dtype++) {
        const dpr_memory_format_t adamw = dpr_memory_format((dpr_dtype_t)dtype, DPR_STATE_ADAMW);
        const dpr_memory_format_t sgd = dpr_memory_format((dpr_dtype_t)dtype, DPR_STATE_SGD);
        assert_int_equal(adamw.parameter_bytes + adamw.gradient_bytes + adamw.optimizer_bytes, 16);
        assert_int_equal(adamw.optimizer_bytes - sgd.optimizer_bytes, 4);
    }
    dpr_dtype_t dtype;
    dpr_state_kind_t kind;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    assert_int_equal(dpr_dtype_parse("bf16", &dtype), DPR_OK);
    assert_int_equal(dtype, DPR_DTYPE_BF16);
    assert_int_equal(dpr_state_kind_parse("sgd", &kind), DPR_OK);
    assert_int_equal(kind, DPR_STATE_SGD);
    CAPTURE(status, text, dpr_dtype_parse("fp8", &dtype));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "fp32, tf32 or bf16");
    CAPTURE(status, text, dpr_state_kind_parse("lion", &kind));
    assert_int_equal(status, DPR_ERR_INVALID);
}

static void slots_are_aligned(void **state)
{
    (void)state;
    dpr_stage_memory_t stages[2] = {{1, 255, 257, 1}, {1, 255, 257, 1}};
    dpr_program_t program = make_program("zb1p", 2, 2);
    dpr_graph_t *graph = make_graph(&program);
    dpr_rank_memory_t ranks[2];
    const dpr_memory_format_t format = dpr_memory_format(DPR_DTYPE_FP32, DPR_STATE_ADAMW);
    assert_int_equal(dpr_memory_count(graph, stages, &format, ranks), DPR_OK);
    assert_int_equal(ranks[0].saved_bytes, 512 * ranks[0].peak_activations);
    assert_int_equal(ranks[0].send_bytes % 256, 0);
    assert_int_equal(ranks[0].wstate_bytes % 256, 0);
    stages[0].saved_bytes = (uint64_t)INT64_MAX;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, text, dpr_memory_count(graph, stages, &format, ranks));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "2^63");
    stages[0].saved_bytes = 1;
    stages[1].parameters = (uint64_t)INT64_MAX / 8;
    CAPTURE(status, text, dpr_memory_count(graph, stages, &format, ranks));
    assert_int_equal(status, DPR_ERR_INVALID);
    dpr_graph_destroy(graph);
    dpr_program_free(&program);
}

static void the_largest_rank_is_found(void **state)
{
    (void)state;
    dpr_rank_memory_t ranks[4] = {{.total_bytes = 3}, {.total_bytes = 5}, {.total_bytes = 5}};
    assert_int_equal(dpr_memory_largest(ranks, 4), 1);
    assert_int_equal(dpr_memory_largest(ranks, 1), 0);
}

/* ---- Models ---- */

static const dpr_transformer_model_t paper = {.parameters = 1000,
                                              .layers = 3,
                                              .hidden = 64,
                                              .heads = 8,
                                              .sequence = 128,
                                              .micro_batch_size = 2,
                                              .dtype = DPR_DTYPE_BF16,
                                              .keeps_attention = true};

static void transformer_layers_save_what_is_published(void **state)
{
    (void)state;
    dpr_stage_memory_t stage;
    const uint64_t sbh = 128 * 2 * 64;
    assert_int_equal(dpr_transformer_memory(&paper, 1, &stage), DPR_OK);
    /* s b h (34 + 5 a s / h) */
    assert_int_equal(stage.saved_bytes, 3 * sbh * (34 + 5 * 8 * 128 / 64));
    assert_int_equal(stage.activation_bytes, 2 * sbh);
    assert_int_equal(stage.wstate_bytes, 3 * 18 * sbh);
    assert_int_equal(stage.parameters, 1000);
    dpr_transformer_model_t model = paper;
    model.keeps_attention = false;
    assert_int_equal(dpr_transformer_memory(&model, 3, &stage), DPR_OK);
    assert_int_equal(stage.saved_bytes, 34 * sbh);
    assert_int_equal(stage.parameters, 334);
    model.dtype = DPR_DTYPE_FP32; /* masks stay one byte */
    assert_int_equal(dpr_transformer_memory(&model, 3, &stage), DPR_OK);
    assert_int_equal(stage.saved_bytes, 66 * sbh);
    assert_int_equal(stage.activation_bytes, 4 * sbh);
    assert_true(dpr_transformer_layers(3 * (12 * 64 * 64 + 13 * 64), 64) == 3.0);
    assert_true(dpr_transformer_layers(1, 64) == 1.0);
}

static void refuse_transformer(const dpr_transformer_model_t *model, int stages, const char *word)
{
    char text[CAPTURED_MAX];
    dpr_status_t status;
    dpr_stage_memory_t stage = {.parameters = 77};
    CAPTURE(status, text, dpr_transformer_memory(model, stages, &stage));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, word);
    assert_int_equal(stage.parameters, 77);
}

static void impossible_transformers_are_refused(void **state)
{
    (void)state;
    dpr_transformer_model_t model = paper;
    refuse_transformer(&model, 0, "number of stages");
    model.hidden = 0;
    refuse_transformer(&model, 1, "hidden");
    model = paper;
    model.sequence = INT_MAX;
    model.heads = INT_MAX;
    refuse_transformer(&model, 1, "2^53");
    model = paper;
    model.parameters = UINT64_MAX;
    refuse_transformer(&model, 1, "parameters");
    const double layers[] = {0.0, -1.0, NAN, INFINITY, 1e7};
    for (int i = 0; i < 5; i++) {
        model = paper;
        model.layers = layers[i];
        refuse_transformer(&model, 1, "layers");
    }
}

static const dpr_mlp_model_t mlp = {.input = 784,
                                    .hidden = 30,
                                    .ffn = 50,
                                    .classes = 10,
                                    .blocks = 10,
                                    .micro_batch_size = 6,
                                    .dtype = DPR_DTYPE_FP32};

static void mlp_stages_have_what_their_blocks_have(void **state)
{
    (void)state;
    dpr_stage_memory_t stages[10];
    assert_int_equal(dpr_mlp_memory(&mlp, 4, stages), DPR_OK); /* 2 3 2 3 blocks */
    const uint64_t block = 2 * 30 * 50 + 3 * 30 + 50;
    assert_int_equal(stages[0].parameters, 784 * 30 + 30 + 2 * block);
    assert_int_equal(stages[1].parameters, 3 * block);
    assert_int_equal(stages[3].parameters, 30 * 10 + 10 + 3 * block);
    assert_int_equal(stages[2].activation_bytes, 6 * 30 * 4);
    /* 720 -> 768, 1200 -> 1216, 24 -> 64, 240 -> 256 */
    assert_int_equal(stages[1].saved_bytes, 2 * 768 + 3 * (768 + 2 * 1216 + 2 * 64));
    assert_int_equal(stages[3].saved_bytes, 3 * 768 + 3 * (768 + 2 * 1216 + 2 * 64) + 256);
    assert_int_equal(stages[0].wstate_bytes, 2 * 768 + 2 * (1216 + 768));
    dpr_mlp_model_t half = mlp;
    half.dtype = DPR_DTYPE_BF16;
    assert_int_equal(dpr_mlp_memory(&half, 4, stages), DPR_OK);
    assert_int_equal(stages[2].activation_bytes, 6 * 30 * 2);
    /* 360 -> 384, 600 -> 640, 24 -> 64; the first stage keeps the input in bf16: 9408 */
    assert_int_equal(stages[0].saved_bytes, 2 * 384 + 2 * (384 + 2 * 640 + 2 * 64) + 9408);
    assert_int_equal(stages[1].saved_bytes, 2 * 384 + 3 * (384 + 2 * 640 + 2 * 64));
}

static void impossible_mlps_are_refused(void **state)
{
    (void)state;
    char text[CAPTURED_MAX];
    dpr_status_t status;
    dpr_stage_memory_t stages[16];
    CAPTURE(status, text, dpr_mlp_memory(&mlp, 11, stages));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "at least 11 blocks or at most 10 stages");
    dpr_mlp_model_t model = mlp;
    model.ffn = -5;
    CAPTURE(status, text, dpr_mlp_memory(&model, 2, stages));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "ffn is -5");
    model = mlp;
    model.hidden = model.ffn = model.micro_batch_size = INT_MAX;
    CAPTURE(status, text, dpr_mlp_memory(&model, 2, stages));
    assert_int_equal(status, DPR_ERR_INVALID);
    assert_contains(text, "2^63");
}

/* Whatever sizes it is given: an answer below 2^63 that is right in doubles, or an error. */
static void extreme_sizes_are_right_or_refused(void **state)
{
    (void)state;
    dice_t dice = {5, 0};
    int accepted = 0;
    for (int round = 0; round < 20000; round++) {
        int size[6];
        for (int i = 0; i < 6; i++) {
            size[i] = dice_roll(&dice, 20) == 0 ? -dice_roll(&dice, 3)
                                                : (int)exp2(dice_real(&dice, 0.0, 31.0) - 1e-6);
        }
        const dpr_mlp_model_t model = {size[0], size[1], size[2],       size[3],
                                       3,       size[4], DPR_DTYPE_FP32};
        dpr_stage_memory_t stages[2];
        char text[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, text, dpr_mlp_memory(&model, 2, stages));
        const double h = size[1];
        const double n = size[2];
        const double parameters = 2.0 * (2.0 * h * n + 3.0 * h + n) + h * size[3] + size[3];
        if (status != DPR_OK) {
            assert_int_equal(status, DPR_ERR_INVALID);
            assert_true(text[0] != '\0');
            continue;
        }
        accepted++;
        assert_true(fabs((double)stages[1].parameters - parameters) <= 1e-12 * parameters);
        assert_true((double)stages[1].saved_bytes >= 4.0 * size[4] * (2.0 * h + 2.0 * n));
        assert_true(stages[1].saved_bytes <= (uint64_t)INT64_MAX);
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_holds_its_stages_and_its_pools),
        cmocka_unit_test(every_pool_is_counted_once),
        cmocka_unit_test(formats_are_sixteen_bytes_a_parameter_with_adamw),
        cmocka_unit_test(slots_are_aligned),
        cmocka_unit_test(the_largest_rank_is_found),
        cmocka_unit_test(transformer_layers_save_what_is_published),
        cmocka_unit_test(impossible_transformers_are_refused),
        cmocka_unit_test(mlp_stages_have_what_their_blocks_have),
        cmocka_unit_test(impossible_mlps_are_refused),
        cmocka_unit_test(extreme_sizes_are_right_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
