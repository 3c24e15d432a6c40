/*
 * Initial parameters of a stage. Every value depends on the seed, the tensor, its block's number in
 * the whole model and its index alone, so a model comes out the same however it is cut into stages.
 */
#include <math.h>

#include "base/random.h"
#include "kernels/stage_layout.h"

/* Sets the weights' random numbers apart from others made from the same seed. */
#define STREAM_WEIGHTS (UINT64_C(0x57) << 56)

/* Small, so that training starts from nearly even probabilities. */
static const double classifier_scale = 0.1;

/*
 * The standard deviation of a matrix: 1 / sqrt(in), so that its output's variance is its input's.
 * W2, which writes to the residual path, is scaled down by 1 / sqrt(2 blocks): GPT-2 scales
 * residual layers by 1 / sqrt(their number), two a block (Radford et al., "Language Models are
 * Unsupervised Multitask Learners", 2019, section 2.3); the two is kept.
 */
static double deviation(const dpr_model_config_t *config, dpr_tensor_t tensor)
{
    switch (tensor) {
    case DPR_TENSOR_PROJECTION_WEIGHT:
        return 1.0 / sqrt((double)config->input);
    case DPR_TENSOR_W1:
        return 1.0 / sqrt((double)config->hidden);
    case DPR_TENSOR_W2:
        return 1.0 / sqrt((double)config->ffn) / sqrt(2.0 * (double)config->blocks);
    case DPR_TENSOR_CLASSIFIER_WEIGHT:
        return classifier_scale / sqrt((double)config->hidden);
    default:
        return 0.0;
    }
}

static void fill(const dpr_model_config_t *config, dpr_tensor_t tensor, int block, size_t count,
                 float *values)
{
    const double scale = deviation(config, tensor);
    const uint64_t stream = STREAM_WEIGHTS | (uint64_t)block << 8 | (uint64_t)tensor;
    const float constant = tensor == DPR_TENSOR_GAMMA ? 1.0F : 0.0F;
    for (size_t i = 0; i < count; i++) {
        values[i] =
            scale > 0.0 ? (float)(scale * dpr_random_normal(config->seed, stream, i)) : constant;
    }
}

void dpr_stage_initial_parameters(const dpr_model_config_t *config,
                                  const dpr_stage_layout_t *layout, float *parameters)
{
    for (int t = 0; t < DPR_TENSORS; t++) {
        const dpr_tensor_place_t *place = &layout->tensor[t];
        for (int i = 0; i < place->copies; i++) {
            const int block =
                dpr_tensor_is_of_block((dpr_tensor_t)t) ? layout->shape.first_block + i : 0;
            fill(config, (dpr_tensor_t)t, block, place->count,
                 parameters + place->offset + (size_t)i * place->stride);
        }
    }
}
