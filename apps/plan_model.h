/*
 * Which model is trained, as options: what memory and comparison need of it. One child parser of
 * argp for three descriptions (--model): a transformer, the runtime's MLP, or plain sizes.
 */
#ifndef DPR_APPS_PLAN_MODEL_H
#define DPR_APPS_PLAN_MODEL_H

#include "apps/option_table.h"
#include "models/compare.h"
#include "models/memory.h"

typedef enum plan_model_kind {
    PLAN_MODEL_TRANSFORMER,
    PLAN_MODEL_MLP,
    PLAN_MODEL_SIZES,
} plan_model_kind_t;

typedef struct plan_model {
    plan_model_kind_t kind;
    unsigned given;      /* a bit for each row of the options that was */
    uint64_t parameters; /* of one of P shares; 0: not given */
    int hidden;
    int sequence;
    int heads;
    int layers;
    int ffn;
    int blocks;
    int input;
    int classes;
    int batch;
    int micro_batch_size;
    bool recompute_attention;
    uint64_t saved_bytes; /* sizes: of one of P shares and a micro-batch */
    uint64_t wstate_bytes;
    uint64_t message_bytes;
    dpr_dtype_t dtype;
    dpr_state_kind_t optimizer;
    uint32_t slot_alignment;
    int ranks; /* of plan_model_complete */
} plan_model_t;

#define PLAN_MODEL_DEFAULT                                                                         \
    {                                                                                              \
        .dtype = DPR_DTYPE_BF16, .optimizer = DPR_STATE_ADAMW, .input = 784, .classes = 10,        \
        .slot_alignment = DPR_MEMORY_SLOT_ALIGNMENT                                                \
    }

/* Of a plan_model_t. */
extern const option_row_t plan_model_options[];

/* Whether any option of the model was given. */
bool plan_model_is_given(const plan_model_t *model);

/*
 * Checks the options against each other and fills what follows from them, for P ranks and M
 * micro-batches. Errors: DPR_ERR_INVALID, naming the option.
 */
dpr_status_t plan_model_complete(plan_model_t *model, int ranks, int micro_batches);

/* Fills stage[0 .. stages-1]: a dpr_stage_memory_fn_t; `model` is a completed plan_model_t. */
dpr_status_t plan_model_stages(void *model, int stages, dpr_stage_memory_t *stage);

dpr_memory_format_t plan_model_format(const plan_model_t *model);

/* Of one activation between stages. Errors: those of plan_model_stages. */
dpr_status_t plan_model_message_bytes(plan_model_t *model, int64_t *bytes);

#endif
