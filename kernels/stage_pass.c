/*
 * The MLP stage's passes: the order in which its kernels are enqueued. A pass is a run of parts,
 * one for each block and one for either end, so that two passes can be interleaved. stage_layout.h
 * has the picture of the data.
 */
#include <assert.h>

#include "kernels/stage_impl.h"

/* What a part works on. */
typedef struct pass {
    dpr_stage_t *stage;
    dpr_stream_t *stream;
    const dpr_stage_buffers_t *buffers;
    float loss_scale; /* forward only */
} pass_t;

static const float *parameter(const pass_t *pass, dpr_tensor_t tensor, int block)
{
    const dpr_tensor_place_t *place = &pass->stage->layout.tensor[tensor];
    return pass->stage->parameters + place->offset + (size_t)block * place->stride;
}

/* A weight or bias as products read it. */
static const void *operand(const pass_t *pass, dpr_tensor_t tensor, int block)
{
    const dpr_stage_t *stage = pass->stage;
    const dpr_tensor_place_t *place = &stage->layout.tensor[tensor];
    const size_t first = place->offset + (size_t)block * place->stride;
    if (stage->working == NULL) {
        return stage->parameters + first;
    }
    return (const char *)stage->working + first * dpr_dtype_bytes(stage->config.dtype);
}

static float *gradient(const pass_t *pass, dpr_tensor_t tensor, int block)
{
    const dpr_tensor_place_t *place = &pass->stage->layout.tensor[tensor];
    return pass->stage->gradients + place->offset + (size_t)block * place->stride;
}

static void *at(void *set, size_t offset)
{
    return (char *)set + offset;
}

/* The buffers of one block in SAVED and WSTATE. */
typedef struct block_saved {
    void *n;
    void *pre;
    void *h;
    float *mean;
    float *rstd;
} block_saved_t;

static block_saved_t block_saved(const pass_t *pass, int block)
{
    const dpr_saved_place_t *place = &pass->stage->layout.saved;
    const size_t base = place->blocks + (size_t)block * place->block_stride;
    void *saved = pass->buffers->saved;
    return (block_saved_t){.n = at(saved, base + place->n),
                           .pre = at(saved, base + place->pre),
                           .h = at(saved, base + place->h),
                           .mean = at(saved, base + place->mean),
                           .rstd = at(saved, base + place->rstd)};
}

typedef struct block_wstate {
    void *da;
    void *dn;
} block_wstate_t;

static block_wstate_t block_wstate(const pass_t *pass, int block)
{
    const dpr_wstate_place_t *place = &pass->stage->layout.wstate;
    const size_t base = place->blocks + (size_t)block * place->block_stride;
    void *wstate = pass->buffers->wstate;
    return (block_wstate_t){.da = at(wstate, base + place->da), .dn = at(wstate, base + place->dn)};
}

static void *dlogits(const pass_t *pass)
{
    return at(pass->buffers->saved, pass->stage->layout.saved.dlogits);
}

/* Boundary k within the stage, as the position it has among those that SAVED and WSTATE hold. */
static size_t boundary_inside(const pass_t *pass, int k)
{
    return (size_t)(pass->stage->layout.shape.is_first ? k : k - 1);
}

/* x_k to write: every boundary but the ACT_IN of a stage that is not the first. */
static void *activation_out(const pass_t *pass, int k)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    const dpr_saved_place_t *place = &pass->stage->layout.saved;
    if (k == shape->blocks && !shape->is_last) {
        return pass->buffers->act_out;
    }
    return at(pass->buffers->saved,
              place->boundaries + boundary_inside(pass, k) * place->boundary_stride);
}

static const void *activation(const pass_t *pass, int k)
{
    if (k == 0 && !pass->stage->layout.shape.is_first) {
        return pass->buffers->act_in;
    }
    return activation_out(pass, k);
}

/* g_k to write: every boundary but the GRAD_IN of a stage that is not the last. */
static void *boundary_gradient_out(const pass_t *pass, int k)
{
    const dpr_wstate_place_t *place = &pass->stage->layout.wstate;
    if (k == 0 && !pass->stage->layout.shape.is_first) {
        return pass->buffers->grad_out;
    }
    return at(pass->buffers->wstate,
              place->boundaries + boundary_inside(pass, k) * place->boundary_stride);
}

static const void *boundary_gradient(const pass_t *pass, int k)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    if (k == shape->blocks && !shape->is_last) {
        return pass->buffers->grad_in;
    }
    return boundary_gradient_out(pass, k);
}

/* The samples as products read them. */
static const void *input_operand(const pass_t *pass)
{
    if (pass->stage->working == NULL) {
        return pass->buffers->input;
    }
    return at(pass->buffers->saved, pass->stage->layout.saved.input);
}

static dpr_status_t project(const pass_t *pass)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    const dpr_model_config_t *c = &pass->stage->config;
    if (pass->stage->working != NULL) {
        DPR_TRY(kernels->convert(
            kernels, pass->stream, (size_t)c->micro_batch_size * (size_t)c->input,
            pass->buffers->input, at(pass->buffers->saved, pass->stage->layout.saved.input)));
    }
    return kernels->linear_forward(kernels, pass->stream, c->micro_batch_size, c->input, c->hidden,
                                   input_operand(pass),
                                   operand(pass, DPR_TENSOR_PROJECTION_WEIGHT, 0),
                                   operand(pass, DPR_TENSOR_PROJECTION_BIAS, 0), DPR_EPILOGUE_NONE,
                                   NULL, activation_out(pass, 0));
}

static dpr_status_t block_forward(const pass_t *pass, int i)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    dpr_stream_t *stream = pass->stream;
    const dpr_model_config_t *c = &pass->stage->config;
    const int rows = c->micro_batch_size;
    const block_saved_t s = block_saved(pass, i);
    const void *x = activation(pass, i);
    DPR_TRY(kernels->layernorm_forward(kernels, stream, rows, c->hidden, x,
                                       parameter(pass, DPR_TENSOR_GAMMA, i),
                                       parameter(pass, DPR_TENSOR_BETA, i), s.n, s.mean, s.rstd));
    DPR_TRY(kernels->linear_forward(
        kernels, stream, rows, c->hidden, c->ffn, s.n, operand(pass, DPR_TENSOR_W1, i),
        operand(pass, DPR_TENSOR_B1, i), DPR_EPILOGUE_GELU, s.pre, s.h));
    return kernels->linear_forward(kernels, stream, rows, c->ffn, c->hidden, s.h,
                                   operand(pass, DPR_TENSOR_W2, i), operand(pass, DPR_TENSOR_B2, i),
                                   DPR_EPILOGUE_RESIDUAL, (void *)x, /* a residual is only read */
                                   activation_out(pass, i + 1));
}

/* Logits go where their gradient will be, which replaces them. */
static dpr_status_t classify(const pass_t *pass)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    const dpr_model_config_t *c = &pass->stage->config;
    void *logits = dlogits(pass);
    DPR_TRY(kernels->linear_forward(kernels, pass->stream, c->micro_batch_size, c->hidden,
                                    c->classes, activation(pass, pass->stage->layout.shape.blocks),
                                    operand(pass, DPR_TENSOR_CLASSIFIER_WEIGHT, 0),
                                    operand(pass, DPR_TENSOR_CLASSIFIER_BIAS, 0), DPR_EPILOGUE_NONE,
                                    NULL, logits));
    return kernels->softmax_cross_entropy(kernels, pass->stream, c->micro_batch_size, c->classes,
                                          logits, pass->buffers->labels, pass->loss_scale, logits,
                                          pass->buffers->result);
}

static dpr_status_t classifier_backward_input(const pass_t *pass)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    const dpr_model_config_t *c = &pass->stage->config;
    return kernels->linear_backward_input(
        kernels, pass->stream, c->micro_batch_size, c->hidden, c->classes, dlogits(pass),
        operand(pass, DPR_TENSOR_CLASSIFIER_WEIGHT, 0), NULL,
        boundary_gradient_out(pass, pass->stage->layout.shape.blocks));
}

static dpr_status_t classifier_backward_weight(const pass_t *pass)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    const dpr_model_config_t *c = &pass->stage->config;
    return kernels->linear_backward_weight(
        kernels, pass->stream, c->micro_batch_size, c->hidden, c->classes,
        activation(pass, pass->stage->layout.shape.blocks), dlogits(pass),
        gradient(pass, DPR_TENSOR_CLASSIFIER_WEIGHT, 0),
        gradient(pass, DPR_TENSOR_CLASSIFIER_BIAS, 0));
}

static dpr_status_t block_backward_input(const pass_t *pass, int i)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    dpr_stream_t *stream = pass->stream;
    const dpr_model_config_t *c = &pass->stage->config;
    const int rows = c->micro_batch_size;
    const block_saved_t s = block_saved(pass, i);
    const block_wstate_t w = block_wstate(pass, i);
    const void *dy = boundary_gradient(pass, i + 1);
    DPR_TRY(kernels->linear_backward_input(kernels, stream, rows, c->ffn, c->hidden, dy,
                                           operand(pass, DPR_TENSOR_W2, i), s.pre, w.da));
    DPR_TRY(kernels->linear_backward_input(kernels, stream, rows, c->hidden, c->ffn, w.da,
                                           operand(pass, DPR_TENSOR_W1, i), NULL, w.dn));
    return kernels->layernorm_backward_input(
        kernels, stream, rows, c->hidden, w.dn, activation(pass, i),
        parameter(pass, DPR_TENSOR_GAMMA, i), s.mean, s.rstd, dy, boundary_gradient_out(pass, i));
}

static dpr_status_t block_backward_weight(const pass_t *pass, int i)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    dpr_stream_t *stream = pass->stream;
    const dpr_model_config_t *c = &pass->stage->config;
    const int rows = c->micro_batch_size;
    const block_saved_t s = block_saved(pass, i);
    const block_wstate_t w = block_wstate(pass, i);
    DPR_TRY(kernels->linear_backward_weight(
        kernels, stream, rows, c->ffn, c->hidden, s.h, boundary_gradient(pass, i + 1),
        gradient(pass, DPR_TENSOR_W2, i), gradient(pass, DPR_TENSOR_B2, i)));
    DPR_TRY(kernels->linear_backward_weight(kernels, stream, rows, c->hidden, c->ffn, s.n, w.da,
                                            gradient(pass, DPR_TENSOR_W1, i),
                                            gradient(pass, DPR_TENSOR_B1, i)));
    return kernels->layernorm_backward_weight(
        kernels, stream, rows, c->hidden, w.dn, activation(pass, i), s.mean, s.rstd,
        gradient(pass, DPR_TENSOR_GAMMA, i), gradient(pass, DPR_TENSOR_BETA, i));
}

static dpr_status_t projection_backward_weight(const pass_t *pass)
{
    dpr_kernels_t *kernels = pass->stage->kernels;
    const dpr_model_config_t *c = &pass->stage->config;
    return kernels->linear_backward_weight(
        kernels, pass->stream, c->micro_batch_size, c->input, c->hidden, input_operand(pass),
        boundary_gradient(pass, 0), gradient(pass, DPR_TENSOR_PROJECTION_WEIGHT, 0),
        gradient(pass, DPR_TENSOR_PROJECTION_BIAS, 0));
}

/*
 * Parts. Every pass has blocks + 2 of them, in the order of the forward: 0 is the projection, i + 1
 * block i, blocks + 1 the classifier. The backward runs them from the last. An end that the stage
 * does not have is a part that does nothing.
 */
typedef dpr_status_t (*part_fn_t)(const pass_t *pass, int part);

static int part_count(const pass_t *pass)
{
    return pass->stage->layout.shape.blocks + 2;
}

static dpr_status_t forward_part(const pass_t *pass, int part)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    if (part == 0) {
        return shape->is_first ? project(pass) : DPR_OK;
    }
    if (part <= shape->blocks) {
        return block_forward(pass, part - 1);
    }
    return shape->is_last ? classify(pass) : DPR_OK;
}

static dpr_status_t backward_input_part(const pass_t *pass, int part)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    if (part == 0) {
        return DPR_OK; /* nobody needs the gradient of the samples */
    }
    if (part <= shape->blocks) {
        return block_backward_input(pass, part - 1);
    }
    return shape->is_last ? classifier_backward_input(pass) : DPR_OK;
}

static dpr_status_t backward_weight_part(const pass_t *pass, int part)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    if (part == 0) {
        return shape->is_first ? projection_backward_weight(pass) : DPR_OK;
    }
    if (part <= shape->blocks) {
        return block_backward_weight(pass, part - 1);
    }
    return shape->is_last ? classifier_backward_weight(pass) : DPR_OK;
}

/* Both at once, while the part's buffers are in cache. */
static dpr_status_t backward_part(const pass_t *pass, int part)
{
    DPR_TRY(backward_input_part(pass, part));
    return backward_weight_part(pass, part);
}

static void check_forward(const pass_t *pass)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    const dpr_stage_buffers_t *b = pass->buffers;
    assert(b->saved != NULL);
    assert(shape->is_first ? b->input != NULL : b->act_in != NULL);
    assert(shape->is_last ? b->labels != NULL && b->result != NULL : b->act_out != NULL);
}

static void check_backward(const pass_t *pass)
{
    const dpr_stage_shape_t *shape = &pass->stage->layout.shape;
    const dpr_stage_buffers_t *b = pass->buffers;
    assert(b->saved != NULL && b->wstate != NULL);
    assert(shape->is_first ? b->input != NULL : b->act_in != NULL && b->grad_out != NULL);
    assert(shape->is_last || b->grad_in != NULL);
}

static dpr_status_t run_backward(dpr_stage_t *stage, dpr_stream_t *stream,
                                 const dpr_stage_buffers_t *buffers, part_fn_t part)
{
    const pass_t pass = {.stage = stage, .stream = stream, .buffers = buffers};
    check_backward(&pass);
    for (int k = part_count(&pass) - 1; k >= 0; k--) {
        DPR_TRY(part(&pass, k));
    }
    return DPR_OK;
}

dpr_status_t dpr_stage_forward(dpr_stage_t *stage, dpr_stream_t *stream,
                               const dpr_stage_buffers_t *buffers, float loss_scale)
{
    const pass_t pass = {
        .stage = stage, .stream = stream, .buffers = buffers, .loss_scale = loss_scale};
    check_forward(&pass);
    for (int k = 0; k < part_count(&pass); k++) {
        DPR_TRY(forward_part(&pass, k));
    }
    return DPR_OK;
}

dpr_status_t dpr_stage_backward_input(dpr_stage_t *stage, dpr_stream_t *stream,
                                      const dpr_stage_buffers_t *buffers)
{
    return run_backward(stage, stream, buffers, backward_input_part);
}

dpr_status_t dpr_stage_backward_weight(dpr_stage_t *stage, dpr_stream_t *stream,
                                       const dpr_stage_buffers_t *buffers)
{
    return run_backward(stage, stream, buffers, backward_weight_part);
}

dpr_status_t dpr_stage_backward(dpr_stage_t *stage, dpr_stream_t *stream,
                                const dpr_stage_buffers_t *buffers)
{
    return run_backward(stage, stream, buffers, backward_part);
}

dpr_status_t dpr_stage_forward_backward(dpr_stage_t *f_stage, const dpr_stage_buffers_t *f_buffers,
                                        dpr_stage_t *b_stage, const dpr_stage_buffers_t *b_buffers,
                                        dpr_stream_t *stream, dpr_stream_t *second,
                                        float loss_scale)
{
    const pass_t f = {
        .stage = f_stage, .stream = stream, .buffers = f_buffers, .loss_scale = loss_scale};
    const pass_t b = {
        .stage = b_stage, .stream = second != NULL ? second : stream, .buffers = b_buffers};
    check_forward(&f);
    check_backward(&b);
    const int f_parts = part_count(&f);
    const int b_parts = part_count(&b);
    for (int k = 0; k < f_parts || k < b_parts; k++) {
        if (k < f_parts) {
            DPR_TRY(forward_part(&f, k));
        }
        if (k < b_parts) {
            DPR_TRY(backward_part(&b, b_parts - 1 - k));
        }
    }
    return DPR_OK;
}
