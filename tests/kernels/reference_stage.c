/* A stage in double. */
#include "reference_stage.h"

#include <string.h>

#include "reference.h"

size_t reference_stage_scratch(const dpr_model_config_t *config)
{
    const size_t rows = (size_t)config->micro_batch_size;
    const size_t widths =
        2 * (size_t)config->hidden + (size_t)config->ffn + (size_t)config->classes + 2;
    return rows * widths;
}

static const double *tensor(const reference_stage_t *s, dpr_tensor_t tensor, int block)
{
    const dpr_tensor_place_t *place = &s->layout.tensor[tensor];
    return s->parameters + place->offset + (size_t)block * place->stride;
}

/* output += the block's branch. */
static void add_block(reference_stage_t *s, int i)
{
    const size_t rows = (size_t)s->config.micro_batch_size;
    const size_t hidden = (size_t)s->config.hidden;
    const size_t ffn = (size_t)s->config.ffn;
    double *n = s->scratch;
    double *y = n + rows * hidden;
    double *h = y + rows * hidden;
    double *mean = h + rows * ffn;
    double *rstd = mean + rows;
    reference_layernorm(rows, hidden, s->output, tensor(s, DPR_TENSOR_GAMMA, i),
                        tensor(s, DPR_TENSOR_BETA, i), n, mean, rstd);
    reference_linear(rows, hidden, ffn, n, tensor(s, DPR_TENSOR_W1, i), tensor(s, DPR_TENSOR_B1, i),
                     h);
    for (size_t k = 0; k < rows * ffn; k++) {
        h[k] = reference_gelu(h[k]);
    }
    reference_linear(rows, ffn, hidden, h, tensor(s, DPR_TENSOR_W2, i), tensor(s, DPR_TENSOR_B2, i),
                     y);
    for (size_t k = 0; k < rows * hidden; k++) {
        s->output[k] += y[k];
    }
}

double reference_stage_objective(void *stage)
{
    reference_stage_t *s = stage;
    const size_t rows = (size_t)s->config.micro_batch_size;
    const size_t hidden = (size_t)s->config.hidden;
    const size_t classes = (size_t)s->config.classes;
    if (s->layout.shape.is_first) {
        reference_linear(rows, (size_t)s->config.input, hidden, s->input,
                         tensor(s, DPR_TENSOR_PROJECTION_WEIGHT, 0),
                         tensor(s, DPR_TENSOR_PROJECTION_BIAS, 0), s->output);
    } else {
        memcpy(s->output, s->input, rows * hidden * sizeof *s->output);
    }
    for (int i = 0; i < s->layout.shape.blocks; i++) {
        add_block(s, i);
    }
    if (s->layout.shape.is_last) {
        double result[2];
        reference_linear(rows, hidden, classes, s->output,
                         tensor(s, DPR_TENSOR_CLASSIFIER_WEIGHT, 0),
                         tensor(s, DPR_TENSOR_CLASSIFIER_BIAS, 0), s->scratch);
        reference_softmax_cross_entropy(rows, classes, s->scratch, s->labels, s->loss_scale, NULL,
                                        result);
        return result[0];
    }
    double sum = 0.0;
    for (size_t k = 0; k < rows * hidden; k++) {
        sum += s->gradient[k] * s->output[k];
    }
    return sum;
}
