/* The shape of a stage: what it consists of, how large it is, and where its parts lie. */
#include "kernels/stage_layout.h"

#include "base/log.h"

const char *dpr_tensor_name(dpr_tensor_t tensor)
{
    static const char *const names[DPR_TENSORS] = {
        [DPR_TENSOR_PROJECTION_WEIGHT] = "projection weight",
        [DPR_TENSOR_W1] = "W1",
        [DPR_TENSOR_W2] = "W2",
        [DPR_TENSOR_CLASSIFIER_WEIGHT] = "classifier weight",
        [DPR_TENSOR_PROJECTION_BIAS] = "projection bias",
        [DPR_TENSOR_GAMMA] = "gamma",
        [DPR_TENSOR_BETA] = "beta",
        [DPR_TENSOR_B1] = "b1",
        [DPR_TENSOR_B2] = "b2",
        [DPR_TENSOR_CLASSIFIER_BIAS] = "classifier bias",
    };
    return names[tensor];
}

bool dpr_tensor_is_of_block(dpr_tensor_t tensor)
{
    switch (tensor) {
    case DPR_TENSOR_PROJECTION_WEIGHT:
    case DPR_TENSOR_PROJECTION_BIAS:
    case DPR_TENSOR_CLASSIFIER_WEIGHT:
    case DPR_TENSOR_CLASSIFIER_BIAS:
        return false;
    default:
        return true;
    }
}

/* Sizes, in an arithmetic that remembers whether anything overflowed. */
typedef struct checked {
    bool overflow;
} checked_t;

static size_t add(checked_t *checked, size_t a, size_t b)
{
    size_t sum;
    checked->overflow |= __builtin_add_overflow(a, b, &sum);
    return sum;
}

static size_t multiply(checked_t *checked, size_t a, size_t b)
{
    size_t product;
    checked->overflow |= __builtin_mul_overflow(a, b, &product);
    return product;
}

/* Bytes of a buffer of rows x columns elements, rounded up to the alignment. */
static size_t buffer_bytes(checked_t *checked, size_t rows, size_t columns, size_t element)
{
    const size_t bytes = multiply(checked, multiply(checked, rows, columns), element);
    const size_t align = DPR_STAGE_ALIGN_BYTES;
    return add(checked, bytes, align - 1) / align * align;
}

static dpr_status_t check_config(const dpr_model_config_t *config, int stages, int stage)
{
    const struct {
        const char *name;
        int value;
    } sizes[] = {
        {"input", config->input},     {"hidden", config->hidden},
        {"ffn", config->ffn},         {"classes", config->classes},
        {"blocks", config->blocks},   {"micro-batch size", config->micro_batch_size},
        {"number of stages", stages},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value < 1) {
            return dpr_fail(DPR_ERR_INVALID, "model: %s is %d; it must be at least 1",
                            sizes[i].name, sizes[i].value);
        }
    }
    if (stage < 0 || stage >= stages) {
        return dpr_fail(DPR_ERR_INVALID, "model: stage %d does not exist; there are stages 0 to %d",
                        stage, stages - 1);
    }
    if (config->blocks < stages) {
        return dpr_fail(DPR_ERR_INVALID,
                        "model: %d blocks cannot be cut into %d stages, each of which needs one; "
                        "use at least %d blocks or at most %d stages",
                        config->blocks, stages, stages, config->blocks);
    }
    return DPR_OK;
}

static void cut(const dpr_model_config_t *config, int stages, int stage, dpr_stage_shape_t *shape)
{
    const int64_t blocks = config->blocks;
    const int first = (int)(stage * blocks / stages);
    const int end = (int)((stage + 1) * blocks / stages);
    *shape = (dpr_stage_shape_t){.stage = stage,
                                 .stages = stages,
                                 .first_block = first,
                                 .blocks = end - first,
                                 .is_first = stage == 0,
                                 .is_last = stage == stages - 1};
}

/* Products only; the rest is linear in the activations. */
static void count_flops(const dpr_model_config_t *config, dpr_stage_shape_t *shape)
{
    const double rows = config->micro_batch_size;
    const double block = 2.0 * 2.0 * rows * config->hidden * config->ffn;
    const double projection = 2.0 * rows * config->input * config->hidden;
    const double classifier = 2.0 * rows * config->hidden * config->classes;
    shape->input_flops = shape->blocks * block + (shape->is_last ? classifier : 0.0);
    shape->forward_flops = shape->input_flops + (shape->is_first ? projection : 0.0);
    shape->weight_flops = shape->forward_flops;
}

/* Places one tensor group after another: the tensors of a group alternate block by block. */
static void place_group(checked_t *checked, dpr_stage_layout_t *layout, size_t *end, int copies,
                        const dpr_tensor_t *tensors, int count)
{
    size_t stride = 0;
    for (int i = 0; i < count; i++) {
        dpr_tensor_place_t *place = &layout->tensor[tensors[i]];
        place->offset = add(checked, *end, stride);
        place->copies = copies;
        stride = add(checked, stride, place->count);
    }
    for (int i = 0; i < count; i++) {
        layout->tensor[tensors[i]].stride = stride;
    }
    *end = add(checked, *end, multiply(checked, stride, (size_t)copies));
}

static void place_parameters(checked_t *checked, const dpr_model_config_t *config,
                             dpr_stage_layout_t *layout)
{
    const size_t input = (size_t)config->input;
    const size_t hidden = (size_t)config->hidden;
    const size_t ffn = (size_t)config->ffn;
    const size_t classes = (size_t)config->classes;
    dpr_tensor_place_t *tensor = layout->tensor;
    tensor[DPR_TENSOR_PROJECTION_WEIGHT].count = multiply(checked, input, hidden);
    tensor[DPR_TENSOR_W1].count = multiply(checked, hidden, ffn);
    tensor[DPR_TENSOR_W2].count = tensor[DPR_TENSOR_W1].count;
    tensor[DPR_TENSOR_CLASSIFIER_WEIGHT].count = multiply(checked, hidden, classes);
    tensor[DPR_TENSOR_PROJECTION_BIAS].count = hidden;
    tensor[DPR_TENSOR_GAMMA].count = hidden;
    tensor[DPR_TENSOR_BETA].count = hidden;
    tensor[DPR_TENSOR_B1].count = ffn;
    tensor[DPR_TENSOR_B2].count = hidden;
    tensor[DPR_TENSOR_CLASSIFIER_BIAS].count = classes;

    dpr_stage_shape_t *shape = &layout->shape;
    const int first = shape->is_first ? 1 : 0;
    const int last = shape->is_last ? 1 : 0;
    size_t end = 0;
    place_group(checked, layout, &end, first, (dpr_tensor_t[]){DPR_TENSOR_PROJECTION_WEIGHT}, 1);
    place_group(checked, layout, &end, shape->blocks,
                (dpr_tensor_t[]){DPR_TENSOR_W1, DPR_TENSOR_W2}, 2);
    place_group(checked, layout, &end, last, (dpr_tensor_t[]){DPR_TENSOR_CLASSIFIER_WEIGHT}, 1);
    shape->decayed = end;
    place_group(checked, layout, &end, first, (dpr_tensor_t[]){DPR_TENSOR_PROJECTION_BIAS}, 1);
    place_group(checked, layout, &end, shape->blocks,
                (dpr_tensor_t[]){DPR_TENSOR_GAMMA, DPR_TENSOR_BETA, DPR_TENSOR_B1, DPR_TENSOR_B2},
                4);
    place_group(checked, layout, &end, last, (dpr_tensor_t[]){DPR_TENSOR_CLASSIFIER_BIAS}, 1);
    shape->parameters = end;
    (void)multiply(checked, end, sizeof(float)); /* its bytes must count, too */
    shape->working_bytes = config->dtype == DPR_DTYPE_BF16
                               ? multiply(checked, end, dpr_dtype_bytes(config->dtype))
                               : 0;
}

/* Returns where a buffer of rows x columns elements begins and moves *end behind it. */
static size_t place(checked_t *checked, size_t *end, size_t rows, size_t columns, size_t element)
{
    const size_t begin = *end;
    *end = add(checked, begin, buffer_bytes(checked, rows, columns, element));
    return begin;
}

static void place_saved(checked_t *checked, const dpr_model_config_t *config, size_t inside,
                        dpr_stage_layout_t *layout)
{
    dpr_stage_shape_t *shape = &layout->shape;
    dpr_saved_place_t *saved = &layout->saved;
    const size_t element = dpr_dtype_bytes(config->dtype);
    const size_t rows = (size_t)config->micro_batch_size;
    const size_t hidden = (size_t)config->hidden;
    const size_t ffn = (size_t)config->ffn;
    const bool copies_input = shape->is_first && shape->working_bytes > 0;
    saved->boundaries = 0;
    saved->boundary_stride = buffer_bytes(checked, rows, hidden, element);
    saved->blocks = multiply(checked, inside, saved->boundary_stride);
    size_t end = 0;
    saved->n = place(checked, &end, rows, hidden, element);
    saved->pre = place(checked, &end, rows, ffn, element);
    saved->h = place(checked, &end, rows, ffn, element);
    saved->mean = place(checked, &end, rows, 1, sizeof(float));
    saved->rstd = place(checked, &end, rows, 1, sizeof(float));
    saved->block_stride = end;
    end = add(checked, saved->blocks, multiply(checked, (size_t)shape->blocks, end));
    saved->dlogits =
        place(checked, &end, shape->is_last ? rows : 0, (size_t)config->classes, element);
    saved->input = place(checked, &end, copies_input ? rows : 0, (size_t)config->input, element);
    shape->saved_bytes = end;
}

static void place_wstate(checked_t *checked, const dpr_model_config_t *config, size_t inside,
                         dpr_stage_layout_t *layout)
{
    dpr_stage_shape_t *shape = &layout->shape;
    dpr_wstate_place_t *wstate = &layout->wstate;
    const size_t element = dpr_dtype_bytes(config->dtype);
    const size_t rows = (size_t)config->micro_batch_size;
    const size_t hidden = (size_t)config->hidden;
    wstate->boundaries = 0;
    wstate->boundary_stride = buffer_bytes(checked, rows, hidden, element);
    wstate->blocks = multiply(checked, inside, wstate->boundary_stride);
    size_t end = 0;
    wstate->da = place(checked, &end, rows, (size_t)config->ffn, element);
    wstate->dn = place(checked, &end, rows, hidden, element);
    wstate->block_stride = end;
    shape->wstate_bytes =
        add(checked, wstate->blocks, multiply(checked, (size_t)shape->blocks, end));
}

static void place_buffers(checked_t *checked, const dpr_model_config_t *config,
                          dpr_stage_layout_t *layout)
{
    dpr_stage_shape_t *shape = &layout->shape;
    const size_t element = dpr_dtype_bytes(config->dtype);
    const size_t values =
        multiply(checked, (size_t)config->micro_batch_size, (size_t)config->hidden);
    const size_t inside =
        (size_t)shape->blocks - 1 + (shape->is_first ? 1 : 0) + (shape->is_last ? 1 : 0);
    shape->activation_bytes = multiply(checked, values, element);
    place_saved(checked, config, inside, layout);
    place_wstate(checked, config, inside, layout);
}

dpr_status_t dpr_stage_layout(const dpr_model_config_t *config, int stages, int stage,
                              dpr_stage_layout_t *layout)
{
    DPR_TRY(check_config(config, stages, stage));
    dpr_stage_layout_t made = {0};
    checked_t checked = {false};
    cut(config, stages, stage, &made.shape);
    count_flops(config, &made.shape);
    place_parameters(&checked, config, &made);
    place_buffers(&checked, config, &made);
    if (checked.overflow) {
        return dpr_fail(DPR_ERR_INVALID,
                        "model: stage %d of %d (hidden %d, ffn %d, micro-batch size %d) is too "
                        "large to address; lower these, or use more stages",
                        stage, stages, config->hidden, config->ffn, config->micro_batch_size);
    }
    *layout = made;
    return DPR_OK;
}

dpr_status_t dpr_stage_shape(const dpr_model_config_t *config, int stages, int stage,
                             dpr_stage_shape_t *shape)
{
    dpr_stage_layout_t layout;
    DPR_TRY(dpr_stage_layout(config, stages, stage, &layout));
    *shape = layout.shape;
    return DPR_OK;
}
