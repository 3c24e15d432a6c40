/* A linear layer's operands, its three products both ways, and whether they are right. */
#include "apps/bench_layer.h"

#include <math.h>

#include "base/log.h"
#include "base/random.h"

enum { CHECKED_ENTRIES = 64 };

const char *const bench_product_names[BENCH_PRODUCTS] = {"forward", "input", "weight"};

/* ---- Operands ---- */

static dpr_status_t alloc_floats(bench_machine_t *machine, dpr_memory_kind_t kind, size_t count,
                                 float **out)
{
    void *memory;
    DPR_TRY(dpr_device_alloc(machine->device, kind, count * sizeof(float), &memory));
    *out = memory;
    return DPR_OK;
}

static size_t largest(const size_t *values)
{
    const size_t two = values[0] > values[1] ? values[0] : values[1];
    return two > values[2] ? two : values[2];
}

void bench_layer_close(bench_machine_t *machine, bench_layer_t *layer)
{
    float *const device[] = {layer->x, layer->w, layer->y, layer->b, layer->into};
    for (size_t i = 0; i < sizeof device / sizeof device[0]; i++) {
        if (device[i] != NULL) {
            dpr_device_free(machine->device, DPR_MEMORY_DEVICE, device[i]);
        }
    }
    if (layer->host != NULL) {
        dpr_device_free(machine->device, DPR_MEMORY_PINNED, layer->host);
    }
}

static dpr_status_t allocate(bench_machine_t *machine, bench_layer_t *layer)
{
    float **const operands[] = {&layer->x, &layer->w, &layer->y};
    for (int i = 0; i < 3; i++) {
        DPR_TRY(alloc_floats(machine, DPR_MEMORY_DEVICE, layer->floats[i], operands[i]));
        layer->host_floats += layer->floats[i];
    }
    DPR_TRY(alloc_floats(machine, DPR_MEMORY_DEVICE, (size_t)layer->out, &layer->b));
    DPR_TRY(alloc_floats(machine, DPR_MEMORY_DEVICE, largest(layer->floats), &layer->into));
    return alloc_floats(machine, DPR_MEMORY_PINNED, layer->host_floats + largest(layer->floats),
                        &layer->host);
}

dpr_status_t bench_layer_open(bench_machine_t *machine, dpr_stream_t *stream, int rows, int in,
                              int out, bench_layer_t *layer)
{
    *layer = (bench_layer_t){.stream = stream, .rows = rows, .in = in, .out = out};
    layer->floats[0] = (size_t)rows * (size_t)in;
    layer->floats[1] = (size_t)in * (size_t)out;
    layer->floats[2] = (size_t)rows * (size_t)out;
    DPR_TRY(allocate(machine, layer));
    for (size_t i = 0; i < layer->host_floats; i++) {
        layer->host[i] = (float)(dpr_random_uniform(1, 4, i) - 0.5);
    }
    float *const operands[] = {layer->x, layer->w, layer->y};
    const float *from = layer->host;
    for (int i = 0; i < 3; i++) {
        DPR_TRY(
            dpr_stream_copy(layer->stream, operands[i], from, layer->floats[i] * sizeof(float)));
        from += layer->floats[i];
    }
    DPR_TRY(dpr_stream_fill(layer->stream, layer->b, 0, (size_t)layer->out * sizeof(float)));
    return dpr_stream_synchronize(layer->stream);
}

/* ---- The products ---- */

dpr_status_t bench_layer_play(bench_machine_t *machine, const bench_layer_t *layer,
                              bench_product_t kind)
{
    dpr_kernels_t *kernels = machine->kernels;
    switch (kind) {
    case BENCH_FORWARD:
        return kernels->linear_forward(kernels, layer->stream, layer->rows, layer->in, layer->out,
                                       layer->x, layer->w, layer->b, DPR_EPILOGUE_NONE, NULL,
                                       layer->into);
    case BENCH_INPUT:
        return kernels->linear_backward_input(kernels, layer->stream, layer->rows, layer->in,
                                              layer->out, layer->y, layer->w, NULL, layer->into);
    default:
        return kernels->linear_backward_weight(kernels, layer->stream, layer->rows, layer->in,
                                               layer->out, layer->x, layer->y, layer->into,
                                               layer->b);
    }
}

dpr_plain_product_t bench_layer_product(const bench_layer_t *layer, bench_product_t kind)
{
    const int rows = layer->rows;
    const int in = layer->in;
    const int out = layer->out;
    switch (kind) {
    case BENCH_FORWARD:
        return (dpr_plain_product_t){.m = rows, .n = out, .k = in};
    case BENCH_INPUT:
        return (dpr_plain_product_t){.m = rows, .n = in, .k = out, .transpose_b = true};
    default:
        return (dpr_plain_product_t){
            .m = in, .n = out, .k = rows, .transpose_a = true, .accumulate = true};
    }
}

/* The operands of a product in device memory, or in the host's copy. */
static void operands_of(const bench_layer_t *layer, bench_product_t kind, bool on_host,
                        const float **a, const float **b)
{
    const float *x = on_host ? layer->host : layer->x;
    const float *w = on_host ? layer->host + layer->floats[0] : layer->w;
    const float *y = on_host ? layer->host + layer->floats[0] + layer->floats[1] : layer->y;
    *a = kind == BENCH_INPUT ? y : x;
    *b = kind == BENCH_WEIGHT ? y : w;
}

dpr_status_t bench_layer_play_bare(bench_machine_t *machine, const bench_layer_t *layer,
                                   bench_product_t kind)
{
    const dpr_plain_product_t product = bench_layer_product(layer, kind);
    const float *a;
    const float *b;
    operands_of(layer, kind, false, &a, &b);
    return bench_plain_product(machine->kernels, layer->stream, &product, a, b, layer->into);
}

/* ---- Correctness ---- */

/* One entry of the product in double, and the sum of its terms' magnitudes. */
static double entry(const dpr_plain_product_t *p, const float *a, const float *b, int row,
                    int column, double *magnitude)
{
    double sum = 0.0;
    *magnitude = 0.0;
    for (int i = 0; i < p->k; i++) {
        const size_t at_a = p->transpose_a ? (size_t)i * (size_t)p->m + (size_t)row
                                           : (size_t)row * (size_t)p->k + (size_t)i;
        const size_t at_b = p->transpose_b ? (size_t)column * (size_t)p->k + (size_t)i
                                           : (size_t)i * (size_t)p->n + (size_t)column;
        const double term = (double)a[at_a] * (double)b[at_b];
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

/* Plays one product from a cleared result and looks at some entries. The bias is 0 by then. */
dpr_status_t bench_layer_check(bench_machine_t *machine, const bench_layer_t *layer,
                               bench_product_t kind, bool is_bare)
{
    const dpr_plain_product_t product = bench_layer_product(layer, kind);
    const size_t bytes = (size_t)product.m * (size_t)product.n * sizeof(float);
    float *result = layer->host + layer->host_floats;
    const float *a;
    const float *b;
    DPR_TRY(dpr_stream_fill(layer->stream, layer->into, 0, bytes));
    DPR_TRY(is_bare ? bench_layer_play_bare(machine, layer, kind)
                    : bench_layer_play(machine, layer, kind));
    DPR_TRY(dpr_stream_copy(layer->stream, result, layer->into, bytes));
    DPR_TRY(dpr_stream_fill(layer->stream, layer->b, 0, (size_t)layer->out * sizeof(float)));
    DPR_TRY(dpr_stream_synchronize(layer->stream));
    operands_of(layer, kind, true, &a, &b);
    for (uint64_t i = 0; i < CHECKED_ENTRIES; i++) {
        const int row = (int)(dpr_random_bits(1, 5, 2 * i) % (uint64_t)product.m);
        const int column = (int)(dpr_random_bits(1, 5, 2 * i + 1) % (uint64_t)product.n);
        double magnitude;
        const double expected = entry(&product, a, b, row, column, &magnitude);
        const double got = result[(size_t)row * (size_t)product.n + (size_t)column];
        if (!(fabs(got - expected) <= 1e-5 * magnitude)) {
            return dpr_fail(DPR_ERR_MISMATCH,
                            "the %s product of %d x %d x %d %s: entry (%d, %d) is %g, expected %g",
                            bench_product_names[kind], product.m, product.n, product.k,
                            is_bare ? "by the library" : "through the seam", row, column, got,
                            expected);
        }
    }
    return DPR_OK;
}
