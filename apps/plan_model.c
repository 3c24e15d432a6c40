/* The model's options and what follows from them. */
#include "apps/plan_model.h"

#include <assert.h>
#include <string.h>

#include "apps/plan.h"
#include "base/log.h"

enum { MAX_SIZE = 1 << 24, MAX_LAYERS = 1000000 };

/* Bytes of a share or a message, and its parameters: times DPR_MAX_RANKS they stay below 2^63. */
#define MAX_BYTES      0x1p50
#define MAX_PARAMETERS 0x1p41

/* ---- The options ---- */

/* Notes that the row's option was given. */
static void note(const option_row_t *row, plan_model_t *model)
{
    model->given |= 1u << (row - plan_model_options);
}

static dpr_status_t take_flag(const option_row_t *row, char *text, void *into)
{
    note(row, into);
    return option_take_flag(row, text, into);
}

static dpr_status_t take_int(const option_row_t *row, char *text, void *into)
{
    note(row, into);
    return option_take_int(row, text, into);
}

static dpr_status_t take_count(const option_row_t *row, char *text, void *into)
{
    note(row, into);
    return option_take_count(row, text, into);
}

static dpr_status_t take_alignment(const option_row_t *row, char *text, void *into)
{
    int value = 0;
    note(row, into);
    DPR_TRY(plan_parse_int(row->name, text, (int)row->least, (int)row->most, &value));
    *(uint32_t *)option_place(row, into) = (uint32_t)value;
    return DPR_OK;
}

static dpr_status_t take_dtype(const option_row_t *row, char *text, void *into)
{
    note(row, into);
    return dpr_dtype_parse(text, option_place(row, into));
}

static dpr_status_t take_optimizer(const option_row_t *row, char *text, void *into)
{
    note(row, into);
    return dpr_state_kind_parse(text, option_place(row, into));
}

static const char *const kind_names[] = {"transformer", "mlp", "sizes"};

static dpr_status_t take_kind(const option_row_t *row, char *text, void *into)
{
    plan_model_t *model = into;
    note(row, model);
    for (int i = 0; i < 3; i++) {
        if (strcmp(kind_names[i], text) == 0) {
            model->kind = (plan_model_kind_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected transformer, mlp or sizes", row->name,
                    text);
}

/* clang-format off */
#define INT(field, most)          OPTION_BY(take_int, plan_model_t, field), 1, most
#define COUNT(field, least, most) OPTION_BY(take_count, plan_model_t, field), least, most

const option_row_t plan_model_options[] = {
    {.doc = "Model:", .group = 4},
    {"model", "KIND", "transformer (default), mlp (the runtime's own) or sizes (plain numbers)", .take = take_kind, .group = 4},
    {"parameters", "N", "transformer, sizes: parameters of one rank's share: the model has P times as many, and a schedule with two copies of a stage holds them twice", COUNT(parameters, 1, MAX_PARAMETERS)},
    {"hidden", "N", "transformer, mlp: width of the activations", INT(hidden, MAX_SIZE)},
    {"sequence", "N", "transformer: tokens of a sample", INT(sequence, MAX_SIZE)},
    {"heads", "N", "transformer: attention heads (default: of width 64)", INT(heads, MAX_SIZE)},
    {"layers", "N", "transformer: layers of the whole model (default: as many as the parameters make)", INT(layers, MAX_LAYERS)},
    {"ffn", "N", "mlp: inner width of a block (default: 4 times --hidden)", INT(ffn, MAX_SIZE)},
    {"blocks", "N", "mlp: residual blocks of the whole model", INT(blocks, MAX_LAYERS)},
    {"input", "N", "mlp: features of a sample (default 784)", INT(input, MAX_SIZE)},
    {"classes", "N", "mlp: classes (default 10)", INT(classes, MAX_SIZE)},
    {"batch", "N", "samples of a step, a multiple of --micro-batches", INT(batch, MAX_SIZE)},
    {"micro-batch-size", "N", "samples of a micro-batch, instead of --batch", INT(micro_batch_size, MAX_SIZE)},
    {"recompute-attention", NULL, "transformer: the inner part of attention is recomputed or fused, not kept", OPTION_BY(take_flag, plan_model_t, recompute_attention)},
    {"saved-bytes", "N", "sizes: activations that one rank's share keeps of a micro-batch", COUNT(saved_bytes, 0, MAX_BYTES)},
    {"wstate-bytes", "N", "sizes: what its I leaves for its W (default 0)", COUNT(wstate_bytes, 0, MAX_BYTES)},
    {"message-bytes", "N", "sizes: one activation between stages", COUNT(message_bytes, 0, MAX_BYTES)},
    {"dtype", "NAME", "fp32, tf32 or bf16 (default; with a master copy in fp32)", OPTION_BY(take_dtype, plan_model_t, dtype)},
    {"optimizer", "NAME", "adamw (default) or sgd, with momentum", OPTION_BY(take_optimizer, plan_model_t, optimizer)},
    {"slot-alignment", "N", "buffers start at multiples of N bytes (default 256, as the runtime's)", OPTION_BY(take_alignment, plan_model_t, slot_alignment), 1, 1 << 20},
    {0},
};
/* clang-format on */

enum { ROWS = sizeof plan_model_options / sizeof plan_model_options[0] - 1 };

_Static_assert(ROWS <= 32, "plan_model_t.given has a bit for each row");

/* The options that only some kinds of model have. */
static const struct {
    const char *option;
    bool has[3]; /* [plan_model_kind_t] */
} of_kinds[] = {
    {"parameters", {true, false, true}},     {"hidden", {true, true, false}},
    {"sequence", {true, false, false}},      {"heads", {true, false, false}},
    {"layers", {true, false, false}},        {"ffn", {false, true, false}},
    {"blocks", {false, true, false}},        {"input", {false, true, false}},
    {"classes", {false, true, false}},       {"recompute-attention", {true, false, false}},
    {"saved-bytes", {false, false, true}},   {"wstate-bytes", {false, false, true}},
    {"message-bytes", {false, false, true}},
};

/* ---- What follows from them ---- */

bool plan_model_is_given(const plan_model_t *model)
{
    return model->given != 0;
}

static bool is_given(const plan_model_t *model, const char *option)
{
    for (int i = 0; i < ROWS; i++) {
        if (plan_model_options[i].name != NULL && strcmp(plan_model_options[i].name, option) == 0) {
            return (model->given >> i & 1u) != 0;
        }
    }
    assert(false); /* of that name there is none */
    return false;
}

static dpr_status_t check_kind(const plan_model_t *model)
{
    for (size_t i = 0; i < sizeof of_kinds / sizeof of_kinds[0]; i++) {
        if (is_given(model, of_kinds[i].option) && !of_kinds[i].has[model->kind]) {
            return dpr_fail(DPR_ERR_INVALID, "--%s is not an option of --model %s",
                            of_kinds[i].option, kind_names[model->kind]);
        }
    }
    return DPR_OK;
}

static dpr_status_t need(const plan_model_t *model, const char *option)
{
    return is_given(model, option)
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "--%s is missing: the model needs it; see --help",
                          option);
}

static dpr_status_t find_micro_batch_size(plan_model_t *model, int micro_batches)
{
    const bool batch = is_given(model, "batch");
    const bool size = is_given(model, "micro-batch-size");
    if (batch == size) {
        return dpr_fail(DPR_ERR_INVALID, "give one of --batch and --micro-batch-size");
    }
    if (batch && model->batch % micro_batches != 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--batch %d: expected a multiple of the %d micro-batches, such as %lld",
                        model->batch, micro_batches,
                        ((long long)model->batch / micro_batches + 1) * micro_batches);
    }
    if (batch) {
        model->micro_batch_size = model->batch / micro_batches;
    }
    return DPR_OK;
}

static dpr_status_t complete_transformer(plan_model_t *model, int micro_batches)
{
    DPR_TRY(need(model, "parameters"));
    DPR_TRY(need(model, "hidden"));
    DPR_TRY(need(model, "sequence"));
    DPR_TRY(find_micro_batch_size(model, micro_batches));
    if (model->heads == 0) {
        model->heads = model->hidden >= 64 ? model->hidden / 64 : 1;
    }
    if (model->layers == 0) {
        const double layers =
            dpr_transformer_layers(model->parameters * (uint64_t)model->ranks, model->hidden);
        if (layers > MAX_LAYERS) {
            return dpr_fail(DPR_ERR_INVALID,
                            "--parameters %llu: they make %.0f layers of hidden %d; give --layers, "
                            "at most %d",
                            (unsigned long long)model->parameters, layers, model->hidden,
                            MAX_LAYERS);
        }
        model->layers = (int)layers;
    }
    return DPR_OK;
}

static dpr_status_t complete_mlp(plan_model_t *model, int micro_batches)
{
    DPR_TRY(need(model, "hidden"));
    DPR_TRY(need(model, "blocks"));
    DPR_TRY(find_micro_batch_size(model, micro_batches));
    if (model->ffn == 0) {
        model->ffn = 4 * model->hidden;
    }
    return DPR_OK;
}

dpr_status_t plan_model_complete(plan_model_t *model, int ranks, int micro_batches)
{
    DPR_TRY(check_kind(model));
    model->ranks = ranks;
    switch (model->kind) {
    case PLAN_MODEL_TRANSFORMER:
        return complete_transformer(model, micro_batches);
    case PLAN_MODEL_MLP:
        return complete_mlp(model, micro_batches);
    default:
        DPR_TRY(need(model, "parameters"));
        DPR_TRY(need(model, "saved-bytes"));
        return need(model, "message-bytes");
    }
}

/* A stage's part of P shares, rounded up. */
static uint64_t part(uint64_t share, int ranks, int stages)
{
    const uint64_t S = (uint64_t)stages;
    return (share * (uint64_t)ranks + S - 1) / S;
}

static dpr_stage_memory_t stage_of_sizes(const plan_model_t *model, int stages)
{
    return (dpr_stage_memory_t){
        .parameters = part(model->parameters, model->ranks, stages),
        .activation_bytes = model->message_bytes,
        .saved_bytes = part(model->saved_bytes, model->ranks, stages),
        .wstate_bytes = part(model->wstate_bytes, model->ranks, stages),
    };
}

static dpr_status_t stage_of_transformer(const plan_model_t *model, int stages,
                                         dpr_stage_memory_t *stage)
{
    const dpr_transformer_model_t transformer = {
        .parameters = model->parameters * (uint64_t)model->ranks,
        .layers = model->layers,
        .hidden = model->hidden,
        .heads = model->heads,
        .sequence = model->sequence,
        .micro_batch_size = model->micro_batch_size,
        .dtype = model->dtype,
        .keeps_attention = !model->recompute_attention,
    };
    return dpr_transformer_memory(&transformer, stages, stage);
}

dpr_status_t plan_model_stages(void *user, int stages, dpr_stage_memory_t *stage)
{
    const plan_model_t *model = user;
    if (model->kind == PLAN_MODEL_MLP) {
        const dpr_mlp_model_t mlp = {.input = model->input,
                                     .hidden = model->hidden,
                                     .ffn = model->ffn,
                                     .classes = model->classes,
                                     .blocks = model->blocks,
                                     .micro_batch_size = model->micro_batch_size,
                                     .dtype = model->dtype};
        return dpr_mlp_memory(&mlp, stages, stage);
    }
    dpr_stage_memory_t each;
    if (model->kind == PLAN_MODEL_TRANSFORMER) {
        DPR_TRY(stage_of_transformer(model, stages, &each));
    } else {
        each = stage_of_sizes(model, stages);
    }
    for (int s = 0; s < stages; s++) {
        stage[s] = each;
    }
    return DPR_OK;
}

dpr_memory_format_t plan_model_format(const plan_model_t *model)
{
    dpr_memory_format_t format = dpr_memory_format(model->dtype, model->optimizer);
    format.slot_alignment = model->slot_alignment;
    return format;
}

dpr_status_t plan_model_message_bytes(plan_model_t *model, int64_t *bytes)
{
    dpr_stage_memory_t stage;
    DPR_TRY(plan_model_stages(model, 1, &stage));
    *bytes = (int64_t)stage.activation_bytes;
    return DPR_OK;
}
