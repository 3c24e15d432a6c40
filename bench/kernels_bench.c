/*
 * How much of a block's time is matrix products: forward, backward for the input and backward for
 * the weights of one MLP block on the host device, beside the bare products of the same shapes.
 * Their ratio is the efficiency; what is missing to 1 goes into layernorm, GELU, biases and
 * launches.
 *
 *     kernels_bench                                      the two usual shapes
 *     kernels_bench --hidden 512 --ffn 2048 --clock wall --json
 *
 * Block and products are timed alternately on one stream and the medians compared. The core clock
 * (default) counts the CPU time of the stream's thread, so that other load hardly shows; the wall
 * clock also counts launches.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "device/host/host_stream.h"
#include "kernels/host/host_blas.h"
#include "kernels/stage.h"

enum { EXIT_USAGE = 2 };

typedef struct options {
    int hidden;
    int ffn;
    int micro_batch_size;
    int repeats;
    dpr_clock_t clock;
    bool json;
} options_t;

static int parse_size(const char *text, struct argp_state *state)
{
    char *end;
    const long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1 || value > 1 << 20) {
        argp_error(state, "'%s' is not a number from 1 to %d", text, 1 << 20);
    }
    return (int)value;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    options_t *options = state->input;
    switch (key) {
    case 'h':
        options->hidden = parse_size(text, state);
        return 0;
    case 'f':
        options->ffn = parse_size(text, state);
        return 0;
    case 'b':
        options->micro_batch_size = parse_size(text, state);
        return 0;
    case 'r':
        options->repeats = parse_size(text, state);
        return 0;
    case 'c':
        for (int clock = DPR_CLOCK_WALL; clock <= DPR_CLOCK_CORE; clock++) {
            if (strcmp(text, dpr_clock_name((dpr_clock_t)clock)) == 0) {
                options->clock = (dpr_clock_t)clock;
                return 0;
            }
        }
        argp_error(state, "'%s' is not a clock to measure by: wall or core", text);
        return 0;
    case 'j':
        options->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_list[] = {
    {"hidden", 'h', "N", 0, "Width of the activations (with --ffn; default: two shapes)", 0},
    {"ffn", 'f', "N", 0, "Width inside the block (default: 4 times hidden)", 0},
    {"micro-batch-size", 'b', "N", 0, "Rows (default: 32)", 0},
    {"repeats", 'r', "N", 0, "Times that each is measured (default: 51)", 0},
    {"clock", 'c', "CLOCK", 0, "core (default) or wall", 0},
    {"json", 'j', NULL, 0, "One JSON object a line instead of a table", 0},
    {0},
};

typedef enum phase {
    PHASE_FORWARD,
    PHASE_INPUT,
    PHASE_WEIGHT,
} phase_t;

enum { PHASES = 3 };

static const char *const phase_names[PHASES] = {"F", "I", "W"};

/* A middle stage of one block, with its buffers in one allocation. */
typedef struct bench {
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_stream_t *stream;
    dpr_event_t *begin;
    dpr_event_t *end;
    dpr_stage_t *stage;
    dpr_model_config_t config;
    void *memory;
    dpr_stage_buffers_t buffers;
    float *wide;     /* [rows][ffn] for the bare products */
    float *weights;  /* [2][hidden][ffn] */
    float *gradient; /* [2][hidden][ffn] */
} bench_t;

static size_t round_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static dpr_status_t make_buffers(bench_t *bench)
{
    const dpr_stage_shape_t *shape = dpr_stage_get_shape(bench->stage);
    const size_t rows = (size_t)bench->config.micro_batch_size;
    const size_t matrix = (size_t)bench->config.hidden * (size_t)bench->config.ffn * sizeof(float);
    const size_t sizes[] = {shape->activation_bytes,
                            shape->activation_bytes,
                            shape->activation_bytes,
                            shape->activation_bytes,
                            shape->saved_bytes,
                            shape->wstate_bytes,
                            rows * (size_t)bench->config.ffn * sizeof(float),
                            2 * matrix,
                            2 * matrix};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    size_t total = 0;
    for (int i = 0; i < COUNT; i++) {
        total += round_up(sizes[i]);
    }
    DPR_TRY(dpr_device_alloc(bench->device, DPR_MEMORY_DEVICE, total, &bench->memory));
    float *values = bench->memory; /* a host device: its memory is ours to write */
    for (size_t i = 0; i < total / sizeof *values; i++) {
        values[i] = (float)(dpr_random_uniform(1, 2, i) - 0.5);
    }
    char *at[COUNT];
    char *next = bench->memory;
    for (int i = 0; i < COUNT; i++) {
        at[i] = next;
        next += round_up(sizes[i]);
    }
    bench->buffers = (dpr_stage_buffers_t){.act_in = (const float *)(void *)at[0],
                                           .act_out = (float *)(void *)at[1],
                                           .grad_in = (const float *)(void *)at[2],
                                           .grad_out = (float *)(void *)at[3],
                                           .saved = at[4],
                                           .wstate = at[5]};
    bench->wide = (float *)(void *)at[6];
    bench->weights = (float *)(void *)at[7];
    bench->gradient = (float *)(void *)at[8];
    return DPR_OK;
}

static void bench_close(bench_t *bench)
{
    dpr_stage_destroy(bench->stage);
    dpr_event_destroy(bench->end);
    dpr_event_destroy(bench->begin);
    dpr_stream_destroy(bench->stream);
    if (bench->memory != NULL) {
        dpr_device_free(bench->device, DPR_MEMORY_DEVICE, bench->memory);
    }
    dpr_kernels_destroy(bench->kernels);
    dpr_device_destroy(bench->device);
}

static dpr_status_t bench_open(bench_t *bench, const options_t *options)
{
    *bench = (bench_t){.config = {.input = 1,
                                  .hidden = options->hidden,
                                  .ffn = options->ffn,
                                  .classes = 1,
                                  .blocks = 3,
                                  .micro_batch_size = options->micro_batch_size,
                                  .seed = 1}};
    const dpr_host_device_options_t host = {.clock = options->clock};
    DPR_TRY(dpr_host_device_create(&host, &bench->device));
    DPR_TRY(dpr_host_kernels_create(&bench->kernels));
    DPR_TRY(dpr_stream_create(bench->device, "compute", 0, &bench->stream));
    DPR_TRY(dpr_event_create(bench->device, &bench->begin));
    DPR_TRY(dpr_event_create(bench->device, &bench->end));
    DPR_TRY(dpr_stage_create(&bench->config, 3, 1, bench->device, bench->kernels, bench->stream,
                             &bench->stage));
    return make_buffers(bench);
}

static dpr_status_t block(bench_t *bench, phase_t phase)
{
    switch (phase) {
    case PHASE_FORWARD:
        return dpr_stage_forward(bench->stage, bench->stream, &bench->buffers, 1.0F);
    case PHASE_INPUT:
        return dpr_stage_backward_input(bench->stage, bench->stream, &bench->buffers);
    default:
        return dpr_stage_backward_weight(bench->stage, bench->stream, &bench->buffers);
    }
}

typedef struct products_args {
    const bench_t *bench;
    phase_t phase;
} products_args_t;

/* The same two products on matrices of the same size, with nothing around them. */
static void products(const void *arguments)
{
    const products_args_t *args = arguments;
    const bench_t *b = args->bench;
    const int rows = b->config.micro_batch_size;
    const int hidden = b->config.hidden;
    const int ffn = b->config.ffn;
    const size_t matrix = (size_t)hidden * (size_t)ffn;
    const float *narrow = b->buffers.act_in;
    float *result = b->buffers.act_out;
    if (args->phase == PHASE_WEIGHT) {
        const dpr_host_product_t w2 = {
            .m = ffn, .n = hidden, .k = rows, .transpose_a = true, .accumulate = true};
        const dpr_host_product_t w1 = {
            .m = hidden, .n = ffn, .k = rows, .transpose_a = true, .accumulate = true};
        dpr_host_blas_multiply(&w2, b->wide, narrow, b->gradient);
        dpr_host_blas_multiply(&w1, narrow, b->wide, b->gradient + matrix);
        return;
    }
    /* Forward: x W1 then h W2. For the input: dy W2^T then da W1^T. */
    const bool transpose = args->phase == PHASE_INPUT;
    const dpr_host_product_t up = {.m = rows, .n = ffn, .k = hidden, .transpose_b = transpose};
    const dpr_host_product_t down = {.m = rows, .n = hidden, .k = ffn, .transpose_b = transpose};
    dpr_host_blas_multiply(&up, narrow, b->weights, b->wide);
    dpr_host_blas_multiply(&down, b->wide, b->weights + matrix, result);
}

static dpr_status_t timed(bench_t *bench, phase_t phase, bool bare, double *sec)
{
    DPR_TRY(dpr_event_record(bench->begin, bench->stream));
    if (bare) {
        const products_args_t args = {.bench = bench, .phase = phase};
        DPR_TRY(dpr_host_stream_launch(bench->stream, products, &args, sizeof args));
    } else {
        DPR_TRY(block(bench, phase));
    }
    DPR_TRY(dpr_event_record(bench->end, bench->stream));
    DPR_TRY(dpr_stream_synchronize(bench->stream));
    *sec = dpr_event_sec(bench->end) - dpr_event_sec(bench->begin);
    return DPR_OK;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const options_t *options, phase_t phase, double block_sec, double bare_sec)
{
    const double flops =
        2.0 * 2.0 * options->micro_batch_size * (double)options->hidden * (double)options->ffn;
    printf(options->json
               ? "{\"hidden\": %d, \"ffn\": %d, \"micro_batch_size\": %d, \"clock\": \"%s\", "
                 "\"phase\": \"%s\", \"block_sec\": %.9f, \"products_sec\": %.9f, "
                 "\"efficiency\": %.4f, \"gflop_per_sec\": %.2f}\n"
               : "%6d %6d %5d  %-5s %-5s %12.9f %12.9f %10.3f %9.1f\n",
           options->hidden, options->ffn, options->micro_batch_size, dpr_clock_name(options->clock),
           phase_names[phase], block_sec, bare_sec, bare_sec / block_sec, flops / block_sec * 1e-9);
}

/* Two warm-up rounds are not counted: the first touches the memory, OpenBLAS allocates its own. */
static dpr_status_t measure(bench_t *bench, const options_t *options, double *times)
{
    enum { WARM_UP = 2 };
    for (int phase = 0; phase < PHASES; phase++) {
        double *block_times = times;
        double *bare_times = times + options->repeats;
        for (int i = -WARM_UP; i < options->repeats; i++) {
            double ignored;
            DPR_TRY(timed(bench, (phase_t)phase, false, i < 0 ? &ignored : &block_times[i]));
            DPR_TRY(timed(bench, (phase_t)phase, true, i < 0 ? &ignored : &bare_times[i]));
        }
        qsort(block_times, (size_t)options->repeats, sizeof *times, compare);
        qsort(bare_times, (size_t)options->repeats, sizeof *times, compare);
        report(options, (phase_t)phase, block_times[options->repeats / 2],
               bare_times[options->repeats / 2]);
    }
    return DPR_OK;
}

static dpr_status_t run(const options_t *options)
{
    double *times = NULL;
    bench_t bench = {0};
    dpr_status_t status = dpr_calloc(2 * (size_t)options->repeats, sizeof *times, &times);
    if (status == DPR_OK) {
        status = bench_open(&bench, options);
    }
    if (status == DPR_OK) {
        status = measure(&bench, options, times);
    }
    bench_close(&bench);
    free(times);
    return status;
}

static void print_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "kernels_bench: %s\n", message);
}

int main(int argc, char **argv)
{
    const struct argp argp = {
        .options = option_list,
        .parser = parse_option,
        .doc =
            "Efficiency of one MLP block on the host device: its time against the bare products'."};
    options_t options = {.micro_batch_size = 32, .repeats = 51, .clock = DPR_CLOCK_CORE};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    dpr_log_set_sink(print_message, NULL);
    if (options.ffn > 0 && options.hidden == 0) {
        fprintf(stderr, "kernels_bench: --ffn needs --hidden\n");
        return EXIT_USAGE;
    }
    if (!options.json) {
        printf("hidden    ffn  rows  clock phase    block_sec products_sec efficiency  GFLOP/s\n");
    }
    const int usual[] = {256, 1024};
    const int shapes = options.hidden > 0 ? 1 : (int)(sizeof usual / sizeof usual[0]);
    for (int i = 0; i < shapes; i++) {
        options_t shape = options;
        shape.hidden = options.hidden > 0 ? options.hidden : usual[i];
        shape.ffn = options.ffn > 0 ? options.ffn : 4 * shape.hidden;
        if (run(&shape) != DPR_OK) {
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
