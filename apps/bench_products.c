/* A step's products and nothing else: each stage's linear layers, node by node of the program. */
#include "apps/bench_products.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "kernels/stage_layout.h"

/* One linear layer of a stage: y [rows][out] = x [rows][in] W. */
typedef struct linear {
    int in;
    int out;
    size_t offset; /* of W in the stage's parameters, floats */
    bool is_first; /* of the whole model: no gradient of its input */
} linear_t;

/* A stage's layers in forward order. */
typedef struct stage_layers {
    int count;
    linear_t *linear;
    float *weights;
    float *gradients;
} stage_layers_t;

struct bench_products {
    bench_rig_t *rig;
    dpr_stream_t *stream;
    dpr_event_t *begin;
    dpr_event_t *end;
    stage_layers_t *stages; /* [S]; empty where not held */
    void *scratch[2];       /* [rows][widest] */
    double flops;           /* enqueued since the last play began */
};

dpr_status_t bench_plain_product(dpr_kernels_t *kernels, dpr_stream_t *stream,
                                 const dpr_plain_product_t *product, const void *a, const void *b,
                                 void *c)
{
    if (strcmp(kernels->kind, "host") == 0) {
        return dpr_host_plain_product(stream, product, a, b, c);
    }
    return kernels->linear_backward_input(kernels, stream, product->m, product->n, product->k, a, b,
                                          NULL, c);
}

static dpr_status_t multiply(bench_products_t *products, const dpr_plain_product_t *product,
                             const void *a, const void *b, void *c)
{
    products->flops += bench_product_flops(product);
    return bench_plain_product(products->rig->machine->kernels, products->stream, product, a, b, c);
}

/* ---- The three products of a layer ---- */

static dpr_status_t forward(bench_products_t *products, const stage_layers_t *layers)
{
    const int rows = products->rig->model.micro_batch_size;
    for (int i = 0; i < layers->count; i++) {
        const linear_t *linear = &layers->linear[i];
        const dpr_plain_product_t product = {.m = rows, .n = linear->out, .k = linear->in};
        DPR_TRY(multiply(products, &product, products->scratch[i % 2],
                         layers->weights + linear->offset, products->scratch[1 - i % 2]));
    }
    return DPR_OK;
}

static dpr_status_t layer_input(bench_products_t *products, const stage_layers_t *layers, int i)
{
    const linear_t *linear = &layers->linear[i];
    const dpr_plain_product_t product = {.m = products->rig->model.micro_batch_size,
                                         .n = linear->in,
                                         .k = linear->out,
                                         .transpose_b = true};
    return linear->is_first
               ? DPR_OK
               : multiply(products, &product, products->scratch[i % 2],
                          layers->weights + linear->offset, products->scratch[1 - i % 2]);
}

static dpr_status_t layer_weight(bench_products_t *products, const stage_layers_t *layers, int i)
{
    const linear_t *linear = &layers->linear[i];
    const dpr_plain_product_t product = {.m = linear->in,
                                         .n = linear->out,
                                         .k = products->rig->model.micro_batch_size,
                                         .transpose_a = true,
                                         .accumulate = true};
    return multiply(products, &product, products->scratch[0], products->scratch[1],
                    layers->gradients + linear->offset);
}

static dpr_status_t backward(bench_products_t *products, const stage_layers_t *layers, bool input,
                             bool weight)
{
    for (int i = layers->count - 1; i >= 0; i--) {
        if (input) {
            DPR_TRY(layer_input(products, layers, i));
        }
        if (weight) {
            DPR_TRY(layer_weight(products, layers, i));
        }
    }
    return DPR_OK;
}

static dpr_status_t play_node(bench_products_t *products, const dpr_node_t *node)
{
    const stage_layers_t *layers = &products->stages[node->stage];
    switch ((dpr_node_kind_t)node->kind) {
    case DPR_NODE_F:
        return forward(products, layers);
    case DPR_NODE_B:
        return backward(products, layers, true, true);
    case DPR_NODE_I:
        return backward(products, layers, true, false);
    case DPR_NODE_W:
        return backward(products, layers, false, true);
    case DPR_NODE_FB:
        DPR_TRY(forward(products, layers));
        return backward(products, &products->stages[node->b_stage], true, true);
    default:
        return DPR_OK;
    }
}

dpr_status_t bench_products_play(bench_products_t *products, double *sec, double *flops)
{
    const bench_rig_t *rig = products->rig;
    const dpr_graph_t *graph = dpr_pipeline_graph(rig->pipeline);
    const int rank = rig->self->rank;
    if (rig->machine->clock != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(rig->machine->device);
    }
    products->flops = 0.0;
    DPR_TRY(dpr_event_record(products->begin, products->stream));
    for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
        DPR_TRY(play_node(products, &graph->nodes[n]));
    }
    DPR_TRY(dpr_event_record(products->end, products->stream));
    DPR_TRY(dpr_stream_synchronize(products->stream));
    *sec = dpr_event_sec(products->end) - dpr_event_sec(products->begin);
    *flops = products->flops;
    return DPR_OK;
}

/* ---- Set-up ---- */

static void add_linear(stage_layers_t *layers, const dpr_tensor_place_t *place, int copy, int in,
                       int out, bool is_first)
{
    if (copy < place->copies) {
        layers->linear[layers->count++] =
            (linear_t){.in = in,
                       .out = out,
                       .offset = place->offset + (size_t)copy * place->stride,
                       .is_first = is_first};
    }
}

static dpr_status_t list_layers(const bench_rig_t *rig, int s, stage_layers_t *layers)
{
    const dpr_model_config_t *model = &rig->model;
    dpr_stage_t *stage = dpr_pipeline_stage(rig->pipeline, s);
    dpr_stage_layout_t layout;
    if (stage == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_stage_layout(model, rig->program.stages, s, &layout));
    const dpr_tensor_place_t *places = layout.tensor;
    DPR_TRY(dpr_calloc(2 * (size_t)layout.shape.blocks + 2, sizeof(linear_t), &layers->linear));
    layers->weights = dpr_stage_parameters(stage);
    layers->gradients = dpr_stage_gradients(stage);
    add_linear(layers, &places[DPR_TENSOR_PROJECTION_WEIGHT], 0, model->input, model->hidden, true);
    for (int block = 0; block < layout.shape.blocks; block++) {
        add_linear(layers, &places[DPR_TENSOR_W1], block, model->hidden, model->ffn, false);
        add_linear(layers, &places[DPR_TENSOR_W2], block, model->ffn, model->hidden, false);
    }
    add_linear(layers, &places[DPR_TENSOR_CLASSIFIER_WEIGHT], 0, model->hidden, model->classes,
               false);
    return DPR_OK;
}

/* Small random values in all scratch, so that no product meets numbers of another speed. */
static dpr_status_t fill_scratch(bench_products_t *products, size_t count)
{
    dpr_device_t *device = products->rig->machine->device;
    void *values;
    DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_PINNED, count * sizeof(float), &values));
    float *at = values;
    for (size_t i = 0; i < count; i++) {
        at[i] = (float)(0.02 * (dpr_random_uniform(1, 3, i) - 0.5));
    }
    dpr_status_t status = DPR_OK;
    for (int i = 0; i < 2 && status == DPR_OK; i++) {
        status = dpr_device_alloc(device, DPR_MEMORY_DEVICE, count * sizeof(float),
                                  &products->scratch[i]);
        if (status == DPR_OK) {
            status = dpr_stream_copy(products->stream, products->scratch[i], values,
                                     count * sizeof(float));
        }
    }
    const dpr_status_t copied = dpr_stream_synchronize(products->stream);
    dpr_device_free(device, DPR_MEMORY_PINNED, values);
    return status == DPR_OK ? copied : status;
}

static dpr_status_t set_up(bench_products_t *products)
{
    bench_rig_t *rig = products->rig;
    const dpr_model_config_t *model = &rig->model;
    dpr_device_t *device = rig->machine->device;
    const int widths[] = {model->input, model->hidden, model->ffn, model->classes};
    int widest = 0;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        widest = widths[i] > widest ? widths[i] : widest;
    }
    DPR_TRY(dpr_stream_create(device, "compute", 0, &products->stream));
    DPR_TRY(rig->machine->kernels->prepare(rig->machine->kernels, products->stream));
    DPR_TRY(dpr_event_create(device, &products->begin));
    DPR_TRY(dpr_event_create(device, &products->end));
    DPR_TRY(dpr_calloc((size_t)rig->program.stages, sizeof *products->stages, &products->stages));
    for (int s = 0; s < rig->program.stages; s++) {
        DPR_TRY(list_layers(rig, s, &products->stages[s]));
    }
    return fill_scratch(products, (size_t)model->micro_batch_size * (size_t)widest);
}

dpr_status_t bench_products_open(bench_rig_t *rig, bench_products_t **out)
{
    bench_products_t *products;
    DPR_TRY(dpr_calloc(1, sizeof *products, &products));
    products->rig = rig;
    const dpr_status_t status = set_up(products);
    if (status != DPR_OK) {
        bench_products_close(products);
        return status;
    }
    *out = products;
    return DPR_OK;
}

void bench_products_close(bench_products_t *products)
{
    if (products == NULL) {
        return;
    }
    dpr_stream_destroy(products->stream);
    dpr_event_destroy(products->begin);
    dpr_event_destroy(products->end);
    for (int i = 0; i < 2; i++) {
        if (products->scratch[i] != NULL) {
            dpr_device_free(products->rig->machine->device, DPR_MEMORY_DEVICE,
                            products->scratch[i]);
        }
    }
    for (int s = 0; products->stages != NULL && s < products->rig->program.stages; s++) {
        free(products->stages[s].linear);
    }
    free(products->stages);
    free(products);
}
