/* The model's options and what follows from them. */
#include "apps/plan_model.h"

#include <limits.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"

enum key {
    KEY_MODEL = 0x4000,
    KEY_PARAMETERS,
    KEY_HIDDEN,
    KEY_SEQUENCE,
    KEY_HEADS,
    KEY_LAYERS,
    KEY_FFN,
    KEY_BLOCKS,
    KEY_INPUT,
    KEY_CLASSES,
    KEY_BATCH,
    KEY_MICRO_BATCH_SIZE,
    KEY_RECOMPUTE_ATTENTION,
    KEY_SAVED_BYTES,
    KEY_WSTATE_BYTES,
    KEY_MESSAGE_BYTES,
    KEY_DTYPE,
    KEY_OPTIMIZER,
    KEY_SLOT_ALIGNMENT,
    KEY_END,
};

enum { MAX_SIZE = 1 << 24, MAX_LAYERS = 1000000 };

/* Bytes of a share or a message, and its parameters: times DPR_MAX_RANKS they stay below 2^63. */
static const uint64_t MAX_BYTES = UINT64_C(1) << 50;
static const uint64_t MAX_PARAMETERS = UINT64_C(1) << 41;

static unsigned bit(int key)
{
    return 1u << (key - KEY_MODEL);
}

plan_model_t plan_model_default(void)
{
    return (plan_model_t){.dtype = DPR_DTYPE_BF16,
                          .optimizer = DPR_STATE_ADAMW,
                          .input = 784,
                          .classes = 10,
                          .slot_alignment = DPR_MEMORY_SLOT_ALIGNMENT};
}

bool plan_model_is_given(const plan_model_t *model)
{
    return model->given != 0;
}

static dpr_status_t parse_kind(const char *text, plan_model_kind_t *kind)
{
    static const char *const names[] = {"transformer", "mlp", "sizes"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], text) == 0) {
            *kind = (plan_model_kind_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "--model '%s': expected transformer, mlp or sizes", text);
}

/* Options that are whole numbers. */
static const struct int_option {
    int key;
    const char *name;
    size_t offset;
    int most;
} int_options[] = {
    {KEY_HIDDEN, "hidden", offsetof(plan_model_t, hidden), MAX_SIZE},
    {KEY_SEQUENCE, "sequence", offsetof(plan_model_t, sequence), MAX_SIZE},
    {KEY_HEADS, "heads", offsetof(plan_model_t, heads), MAX_SIZE},
    {KEY_LAYERS, "layers", offsetof(plan_model_t, layers), MAX_LAYERS},
    {KEY_FFN, "ffn", offsetof(plan_model_t, ffn), MAX_SIZE},
    {KEY_BLOCKS, "blocks", offsetof(plan_model_t, blocks), MAX_LAYERS},
    {KEY_INPUT, "input", offsetof(plan_model_t, input), MAX_SIZE},
    {KEY_CLASSES, "classes", offsetof(plan_model_t, classes), MAX_SIZE},
    {KEY_BATCH, "batch", offsetof(plan_model_t, batch), MAX_SIZE},
    {KEY_MICRO_BATCH_SIZE, "micro-batch-size", offsetof(plan_model_t, micro_batch_size), MAX_SIZE},
};

static bool take_int(int key, const char *text, plan_model_t *model, dpr_status_t *status)
{
    for (size_t i = 0; i < sizeof int_options / sizeof int_options[0]; i++) {
        if (int_options[i].key == key) {
            int value = 0;
            *status = plan_parse_int(int_options[i].name, text, 1, int_options[i].most, &value);
            memcpy((char *)model + int_options[i].offset, &value, sizeof value);
            return true;
        }
    }
    return false;
}

static dpr_status_t take_alignment(const char *text, uint32_t *alignment)
{
    int value = 0;
    DPR_TRY(plan_parse_int("slot-alignment", text, 1, 1 << 20, &value));
    *alignment = (uint32_t)value;
    return DPR_OK;
}

static dpr_status_t take_other(int key, const char *text, plan_model_t *model)
{
    switch (key) {
    case KEY_MODEL:
        return parse_kind(text, &model->kind);
    case KEY_PARAMETERS:
        return plan_parse_count("parameters", text, 1, MAX_PARAMETERS, &model->parameters);
    case KEY_SAVED_BYTES:
        return plan_parse_count("saved-bytes", text, 0, MAX_BYTES, &model->saved_bytes);
    case KEY_WSTATE_BYTES:
        return plan_parse_count("wstate-bytes", text, 0, MAX_BYTES, &model->wstate_bytes);
    case KEY_MESSAGE_BYTES:
        return plan_parse_count("message-bytes", text, 0, MAX_BYTES, &model->message_bytes);
    case KEY_DTYPE:
        return dpr_dtype_parse(text, &model->dtype);
    case KEY_OPTIMIZER:
        return dpr_state_kind_parse(text, &model->optimizer);
    case KEY_SLOT_ALIGNMENT:
        return take_alignment(text, &model->slot_alignment);
    default:
        model->recompute_attention = true;
        return DPR_OK;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    plan_model_t *model = state->input;
    if (key < KEY_MODEL || key >= KEY_END) {
        return ARGP_ERR_UNKNOWN;
    }
    dpr_status_t status;
    model->given |= bit(key);
    if (!take_int(key, arg, model, &status)) {
        status = take_other(key, arg, model);
    }
    return plan_argp_error(status);
}

/* clang-format off */
static const struct argp_option model_options[] = {
    {.doc = "Model:", .group = 4},
    {"model", KEY_MODEL, "KIND", 0, "transformer (default), mlp (the runtime's own) or sizes (plain numbers)", 4},
    {"parameters", KEY_PARAMETERS, "N", 0, "transformer, sizes: parameters of one rank's share: the model has P times as many, and a schedule with two copies of a stage holds them twice", 4},
    {"hidden", KEY_HIDDEN, "N", 0, "transformer, mlp: width of the activations", 4},
    {"sequence", KEY_SEQUENCE, "N", 0, "transformer: tokens of a sample", 4},
    {"heads", KEY_HEADS, "N", 0, "transformer: attention heads (default: of width 64)", 4},
    {"layers", KEY_LAYERS, "N", 0, "transformer: layers of the whole model (default: as many as the parameters make)", 4},
    {"recompute-attention", KEY_RECOMPUTE_ATTENTION, NULL, 0, "transformer: the inner part of attention is recomputed or fused, not kept", 4},
    {"ffn", KEY_FFN, "N", 0, "mlp: inner width of a block (default: 4 times --hidden)", 4},
    {"blocks", KEY_BLOCKS, "N", 0, "mlp: residual blocks of the whole model", 4},
    {"input", KEY_INPUT, "N", 0, "mlp: features of a sample (default 784)", 4},
    {"classes", KEY_CLASSES, "N", 0, "mlp: classes (default 10)", 4},
    {"batch", KEY_BATCH, "N", 0, "samples of a step, a multiple of --micro-batches", 4},
    {"micro-batch-size", KEY_MICRO_BATCH_SIZE, "N", 0, "samples of a micro-batch, instead of --batch", 4},
    {"saved-bytes", KEY_SAVED_BYTES, "N", 0, "sizes: activations that one rank's share keeps of a micro-batch", 4},
    {"wstate-bytes", KEY_WSTATE_BYTES, "N", 0, "sizes: what its I leaves for its W (default 0)", 4},
    {"message-bytes", KEY_MESSAGE_BYTES, "N", 0, "sizes: one activation between stages", 4},
    {"dtype", KEY_DTYPE, "NAME", 0, "fp32, tf32 or bf16 (default; with a master copy in fp32)", 4},
    {"optimizer", KEY_OPTIMIZER, "NAME", 0, "adamw (default) or sgd, with momentum", 4},
    {"slot-alignment", KEY_SLOT_ALIGNMENT, "N", 0, "buffers start at multiples of N bytes (default 256, as the runtime's)", 4},
    {0},
};
/* clang-format on */

const struct argp plan_model_argp = {.options = model_options, .parser = parse};

/* ---- What follows from them ---- */

static const char *name_of(int key)
{
    for (const struct argp_option *option = model_options;
         option->name != NULL || option->doc != NULL; option++) {
        if (option->key == key) {
            return option->name;
        }
    }
    return "";
}

/* The options that each kind of model has. */
static unsigned options_of(plan_model_kind_t kind)
{
    const unsigned all = bit(KEY_MODEL) | bit(KEY_BATCH) | bit(KEY_MICRO_BATCH_SIZE) |
                         bit(KEY_DTYPE) | bit(KEY_OPTIMIZER) | bit(KEY_SLOT_ALIGNMENT);
    switch (kind) {
    case PLAN_MODEL_TRANSFORMER:
        return all | bit(KEY_PARAMETERS) | bit(KEY_HIDDEN) | bit(KEY_SEQUENCE) | bit(KEY_HEADS) |
               bit(KEY_LAYERS) | bit(KEY_RECOMPUTE_ATTENTION);
    case PLAN_MODEL_MLP:
        return all | bit(KEY_HIDDEN) | bit(KEY_FFN) | bit(KEY_BLOCKS) | bit(KEY_INPUT) |
               bit(KEY_CLASSES);
    default:
        return all | bit(KEY_PARAMETERS) | bit(KEY_SAVED_BYTES) | bit(KEY_WSTATE_BYTES) |
               bit(KEY_MESSAGE_BYTES);
    }
}

static dpr_status_t check_kind(const plan_model_t *model)
{
    static const char *const names[] = {"transformer", "mlp", "sizes"};
    const unsigned foreign = model->given & ~options_of(model->kind);
    for (int key = KEY_MODEL; key < KEY_END; key++) {
        if (foreign & bit(key)) {
            return dpr_fail(DPR_ERR_INVALID, "--%s is not an option of --model %s", name_of(key),
                            names[model->kind]);
        }
    }
    return DPR_OK;
}

static dpr_status_t need(const plan_model_t *model, int key)
{
    if (!(model->given & bit(key))) {
        return dpr_fail(DPR_ERR_INVALID, "--%s is missing: the model needs it; see --help",
                        name_of(key));
    }
    return DPR_OK;
}

static dpr_status_t find_micro_batch_size(plan_model_t *model, int micro_batches)
{
    const bool batch = (model->given & bit(KEY_BATCH)) != 0;
    const bool size = (model->given & bit(KEY_MICRO_BATCH_SIZE)) != 0;
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
    DPR_TRY(need(model, KEY_PARAMETERS));
    DPR_TRY(need(model, KEY_HIDDEN));
    DPR_TRY(need(model, KEY_SEQUENCE));
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
    DPR_TRY(need(model, KEY_HIDDEN));
    DPR_TRY(need(model, KEY_BLOCKS));
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
        DPR_TRY(need(model, KEY_PARAMETERS));
        DPR_TRY(need(model, KEY_SAVED_BYTES));
        return need(model, KEY_MESSAGE_BYTES);
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
