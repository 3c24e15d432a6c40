/* What a stage needs, for the runtime's MLP and for a transformer; formulas in memory.h. */
#include <math.h>

#include "base/log.h"
#include "models/checked.h"
#include "models/memory.h"

enum { MLP_ALIGN_BYTES = 64 };

/* Bytes of rows x columns numbers, rounded up to the alignment of the stage's buffers. */
static uint64_t buffer(checked_t *checked, uint64_t rows, uint64_t columns, uint64_t bytes)
{
    const uint64_t exact =
        checked_multiply(checked, checked_multiply(checked, rows, columns), bytes);
    return checked_align(checked, exact, MLP_ALIGN_BYTES);
}

typedef struct size_check {
    const char *name;
    int value;
} size_check_t;

static dpr_status_t check_sizes(const char *model, const size_check_t *sizes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (sizes[i].value < 1) {
            return dpr_fail(DPR_ERR_INVALID, "%s: %s is %d; it must be at least 1", model,
                            sizes[i].name, sizes[i].value);
        }
    }
    return DPR_OK;
}

static dpr_status_t check_mlp(const dpr_mlp_model_t *model, int stages)
{
    const size_check_t sizes[] = {
        {"input", model->input},
        {"hidden", model->hidden},
        {"ffn", model->ffn},
        {"classes", model->classes},
        {"blocks", model->blocks},
        {"micro-batch size", model->micro_batch_size},
        {"the number of stages", stages},
    };
    DPR_TRY(check_sizes("MLP", sizes, sizeof sizes / sizeof sizes[0]));
    if (model->blocks < stages) {
        return dpr_fail(DPR_ERR_INVALID,
                        "MLP: %d blocks cannot be cut into %d stages, each of which needs one; use "
                        "at least %d blocks or at most %d stages",
                        model->blocks, stages, stages, model->blocks);
    }
    return DPR_OK;
}

static uint64_t mlp_parameters(checked_t *checked, const dpr_mlp_model_t *model, uint64_t blocks,
                               bool is_first, bool is_last)
{
    const uint64_t h = (uint64_t)model->hidden;
    const uint64_t n = (uint64_t)model->ffn;
    const uint64_t input = (uint64_t)model->input;
    const uint64_t classes = (uint64_t)model->classes;
    const uint64_t block = checked_add(checked, checked_multiply(checked, 2 * h, n), 3 * h + n);
    uint64_t sum = checked_multiply(checked, blocks, block);
    if (is_first) {
        sum =
            checked_add(checked, sum, checked_add(checked, checked_multiply(checked, input, h), h));
    }
    if (is_last) {
        sum = checked_add(checked, sum,
                          checked_add(checked, checked_multiply(checked, h, classes), classes));
    }
    return sum;
}

static dpr_stage_memory_t mlp_stage(checked_t *checked, const dpr_mlp_model_t *model, int stages,
                                    int s)
{
    const bool is_first = s == 0;
    const bool is_last = s == stages - 1;
    const int64_t all = model->blocks;
    const uint64_t blocks = (uint64_t)((s + 1) * all / stages - s * all / stages);
    const uint64_t inside = blocks - 1 + (is_first ? 1 : 0) + (is_last ? 1 : 0);
    const uint64_t rows = (uint64_t)model->micro_batch_size;
    const uint64_t e = dpr_dtype_bytes(model->dtype);
    const uint64_t narrow = buffer(checked, rows, (uint64_t)model->hidden, e);
    const uint64_t wide = buffer(checked, rows, (uint64_t)model->ffn, e);
    const uint64_t statistics = buffer(checked, rows, 1, 4);
    const uint64_t ends = checked_multiply(checked, inside, narrow);
    const uint64_t saved_block = checked_add(
        checked, checked_add(checked, narrow, checked_add(checked, wide, wide)), 2 * statistics);
    dpr_stage_memory_t stage = {
        .parameters = mlp_parameters(checked, model, blocks, is_first, is_last),
        .activation_bytes =
            checked_multiply(checked, checked_multiply(checked, rows, (uint64_t)model->hidden), e),
        .saved_bytes = checked_add(checked, ends, checked_multiply(checked, blocks, saved_block)),
        .wstate_bytes = checked_add(
            checked, ends, checked_multiply(checked, blocks, checked_add(checked, wide, narrow))),
    };
    if (is_last) {
        stage.saved_bytes = checked_add(checked, stage.saved_bytes,
                                        buffer(checked, rows, (uint64_t)model->classes, e));
    }
    if (is_first && model->dtype == DPR_DTYPE_BF16) { /* the input's copy (stage_layout.h) */
        stage.saved_bytes = checked_add(checked, stage.saved_bytes,
                                        buffer(checked, rows, (uint64_t)model->input, e));
    }
    return stage;
}

dpr_status_t dpr_mlp_memory(const dpr_mlp_model_t *model, int stages, dpr_stage_memory_t *stage)
{
    DPR_TRY(check_mlp(model, stages));
    checked_t checked = {false};
    for (int s = 0; s < stages; s++) {
        stage[s] = mlp_stage(&checked, model, stages, s);
    }
    if (checked.overflow) {
        return dpr_fail(DPR_ERR_INVALID,
                        "MLP: a stage (hidden %d, ffn %d, micro-batch size %d) is larger than "
                        "2^63 - 1; lower these",
                        model->hidden, model->ffn, model->micro_batch_size);
    }
    return DPR_OK;
}

/* Doubles count whole numbers exactly up to here. */
#define EXACT_MAX 0x1p53

static dpr_status_t check_transformer(const dpr_transformer_model_t *model, int stages)
{
    const size_check_t sizes[] = {
        {"hidden", model->hidden},        {"heads", model->heads},
        {"sequence", model->sequence},    {"micro-batch size", model->micro_batch_size},
        {"the number of stages", stages},
    };
    DPR_TRY(check_sizes("transformer", sizes, sizeof sizes / sizeof sizes[0]));
    if (!(model->layers > 0.0 && model->layers <= 1e6)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "transformer: the number of layers is %g; it must be above 0 and at most "
                        "1000000",
                        model->layers);
    }
    if (model->parameters < 1 || (double)model->parameters > EXACT_MAX) {
        return dpr_fail(DPR_ERR_INVALID,
                        "transformer: the number of parameters is %llu; it must be from 1 to 2^53",
                        (unsigned long long)model->parameters);
    }
    return DPR_OK;
}

dpr_status_t dpr_transformer_memory(const dpr_transformer_model_t *model, int stages,
                                    dpr_stage_memory_t *stage)
{
    DPR_TRY(check_transformer(model, stages));
    const double e = dpr_dtype_bytes(model->dtype);
    const double sb = (double)model->sequence * model->micro_batch_size;
    const double sbh = sb * model->hidden;
    const double attention = model->keeps_attention
                                 ? (double)model->heads * model->sequence * sb * (2.0 * e + 1.0)
                                 : 0.0;
    const double layer = sbh * (16.0 * e + 2.0) + attention;
    /* first times the layers, then through the stages: exact wherever the quotient is */
    const double saved = ceil(layer * model->layers / stages);
    const double wstate = ceil(9.0 * sbh * e * model->layers / stages);
    if (layer * model->layers > EXACT_MAX || sbh * e > EXACT_MAX) {
        return dpr_fail(DPR_ERR_INVALID,
                        "transformer: the activations of a micro-batch exceed 2^53 bytes (sequence "
                        "%d, micro-batch size %d, hidden %d, heads %d); lower these",
                        model->sequence, model->micro_batch_size, model->hidden, model->heads);
    }
    const uint64_t S = (uint64_t)stages;
    *stage = (dpr_stage_memory_t){
        .parameters = (model->parameters + S - 1) / S,
        .activation_bytes = (uint64_t)(sbh * e),
        .saved_bytes = (uint64_t)saved,
        .wstate_bytes = (uint64_t)wstate,
    };
    return DPR_OK;
}

double dpr_transformer_layers(uint64_t parameters, int hidden)
{
    const double h = hidden;
    return fmax(1.0, round((double)parameters / (12.0 * h * h + 13.0 * h)));
}
