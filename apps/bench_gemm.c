/*
 * dualpipe_bench gemm: the three products of a linear layer through the kernels' seam, against the
 * library's bare product on the same operands and against the machine's peak.
 *
 * Seam and bare product alternate; on several ranks all measure at the same time, as in a step, and
 * the table has their means. Before anything is timed, entries of both results are held against a
 * sum in double precision.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench_layer.h"
#include "apps/option_table.h"
#include "base/log.h"
#include "base/memory.h"

typedef struct gemm_options {
    bench_common_t common;
    bench_list_t rows;
    bench_list_t in;
    bench_list_t out;
    double peak; /* FLOP/s of one rank; 0: measured */
} gemm_options_t;

typedef struct bench {
    const gemm_options_t *options;
    bench_rank_t *self;
    bench_machine_t machine;
    dpr_stream_t *stream;
    dpr_event_t *begin;
    dpr_event_t *end;
    double *times[2]; /* [repeats]: the seam's and the bare product's */
    double peak;
    plan_table_t *table;
} bench_t;

/* ---- Timing ---- */

static dpr_status_t timed(bench_t *bench, const bench_layer_t *layer, bench_product_t kind,
                          bool is_bare, double *sec)
{
    DPR_TRY(dpr_event_record(bench->begin, bench->stream));
    DPR_TRY(is_bare ? bench_layer_play_bare(&bench->machine, layer, kind)
                    : bench_layer_play(&bench->machine, layer, kind));
    DPR_TRY(dpr_event_record(bench->end, bench->stream));
    DPR_TRY(dpr_stream_synchronize(bench->stream));
    *sec = dpr_event_sec(bench->end) - dpr_event_sec(bench->begin);
    return DPR_OK;
}

static dpr_status_t time_both(bench_t *bench, const bench_layer_t *layer, bench_product_t kind)
{
    const bench_common_t *common = &bench->options->common;
    DPR_TRY(dpr_comm_barrier(bench->self->comm));
    for (int i = -common->warm_up; i < common->repeats; i++) {
        double ignored;
        DPR_TRY(timed(bench, layer, kind, false, i < 0 ? &ignored : &bench->times[0][i]));
        DPR_TRY(timed(bench, layer, kind, true, i < 0 ? &ignored : &bench->times[1][i]));
    }
    return DPR_OK;
}

/* The best rate of large square products: what the machine can do at all. */
static dpr_status_t measure_peak(bench_t *bench)
{
    static const int sides[] = {512, 1024, 1536};
    enum { ROUNDS = 5 };
    double best = 0.0;
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        bench_layer_t layer;
        dpr_status_t status =
            bench_layer_open(&bench->machine, bench->stream, sides[i], sides[i], sides[i], &layer);
        const double flops = 2.0 * pow(sides[i], 3.0);
        for (int round = 0; round < ROUNDS && status == DPR_OK; round++) {
            double sec;
            status = timed(bench, &layer, BENCH_FORWARD, true, &sec);
            best = status == DPR_OK ? fmax(best, flops / sec) : best;
        }
        bench_layer_close(&bench->machine, &layer);
        DPR_TRY(status);
    }
    return bench_mean_over_ranks(bench->self, best, &bench->peak);
}

/* ---- The table ---- */

static const plan_column_t columns[] = {
    {"rows", "rows", PLAN_INT},
    {"in", "in", PLAN_INT},
    {"out", "out", PLAN_INT},
    {"product", "product", PLAN_TEXT},
    BENCH_SPREAD_COLUMNS("", "s"),
    BENCH_SPREAD_COLUMNS("plain_", "plain s"),
    {"flops_per_sec", "FLOP/s", PLAN_REAL},
    {"plain_flops_per_sec", "plain FLOP/s", PLAN_REAL},
    {"of_plain", "of plain", PLAN_PERCENT},
    {"of_peak", "of peak", PLAN_PERCENT},
    {"plain_of_peak", "plain of peak", PLAN_PERCENT},
};

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"peak_flops_per_sec", "peak FLOP/s of a rank", PLAN_REAL},
    {"peak_source", "peak source", PLAN_TEXT},
};

enum {
    COUNT = sizeof columns / sizeof columns[0],
    FACTS = sizeof fact_columns / sizeof fact_columns[0]
};

static dpr_status_t add_row(bench_t *bench, const bench_layer_t *layer, bench_product_t kind)
{
    const dpr_plain_product_t product = bench_layer_product(layer, kind);
    const double flops = bench_product_flops(&product);
    const size_t repeats = (size_t)bench->options->common.repeats;
    bench_spread_t seam, plain;
    plan_table_t *table = bench->table;
    DPR_TRY(bench_spread_over_ranks(bench->self, bench->times[0], repeats, &seam));
    DPR_TRY(bench_spread_over_ranks(bench->self, bench->times[1], repeats, &plain));
    plan_table_int(table, layer->rows);
    plan_table_int(table, layer->in);
    plan_table_int(table, layer->out);
    plan_table_text(table, bench_product_names[kind]);
    bench_spread_cells(table, &seam);
    bench_spread_cells(table, &plain);
    plan_table_real(table, flops / seam.median);
    plan_table_real(table, flops / plain.median);
    plan_table_real(table, plain.median / seam.median);
    plan_table_real(table, flops / seam.median / bench->peak);
    plan_table_real(table, flops / plain.median / bench->peak);
    return DPR_OK;
}

static dpr_status_t measure_layer(bench_t *bench, const bench_layer_t *layer)
{
    for (int kind = 0; kind < BENCH_PRODUCTS; kind++) {
        DPR_TRY(bench_layer_check(&bench->machine, layer, (bench_product_t)kind, false));
        if (strcmp(bench->machine.kernels->kind, "host") == 0) {
            DPR_TRY(bench_layer_check(&bench->machine, layer, (bench_product_t)kind,
                                      true)); /* elsewhere of that size only */
        }
        DPR_TRY(time_both(bench, layer, (bench_product_t)kind));
        DPR_TRY(add_row(bench, layer, (bench_product_t)kind));
    }
    return DPR_OK;
}

static dpr_status_t measure_all(bench_t *bench)
{
    const gemm_options_t *options = bench->options;
    bench->peak = options->peak;
    if (options->peak == 0.0) {
        DPR_TRY(measure_peak(bench));
    }
    for (int i = 0; i < options->in.count * options->rows.count; i++) {
        const int pair = i % options->in.count;
        bench_layer_t layer;
        dpr_status_t status = bench_layer_open(
            &bench->machine, bench->stream, options->rows.values[i / options->in.count],
            options->in.values[pair], options->out.values[pair], &layer);
        if (status == DPR_OK) {
            status = measure_layer(bench, &layer);
        }
        bench_layer_close(&bench->machine, &layer);
        DPR_TRY(status);
    }
    return DPR_OK;
}

/* ---- The command ---- */

static dpr_status_t set_up(bench_t *bench)
{
    const size_t repeats = (size_t)bench->options->common.repeats;
    DPR_TRY(dpr_stream_create(bench->machine.device, "compute", 0, &bench->stream));
    DPR_TRY(bench->machine.kernels->prepare(bench->machine.kernels, bench->stream));
    DPR_TRY(dpr_event_create(bench->machine.device, &bench->begin));
    DPR_TRY(dpr_event_create(bench->machine.device, &bench->end));
    DPR_TRY(dpr_calloc(repeats, sizeof(double), &bench->times[0]));
    DPR_TRY(dpr_calloc(repeats, sizeof(double), &bench->times[1]));
    return plan_table_create(columns, COUNT, &bench->table);
}

static dpr_status_t report(bench_t *bench)
{
    plan_table_t *facts;
    const plan_section_t section = {.key = "products", .title = NULL, .table = bench->table};
    DPR_TRY(plan_table_create(fact_columns, FACTS, &facts));
    bench_machine_cells(&bench->machine, &bench->options->common, facts);
    plan_table_real(facts, bench->peak);
    plan_table_text(facts, bench->options->peak > 0.0 ? "given" : "measured peak");
    const dpr_status_t status =
        bench_report_write(&bench->options->common, "gemm", facts, &section, 1);
    plan_table_destroy(facts);
    return status;
}

static dpr_status_t measure(bench_t *bench)
{
    DPR_TRY(dpr_comm_agree(bench->self->comm, set_up(bench), NULL));
    bench->self->live = true;
    DPR_TRY(measure_all(bench));
    bench->self->live = false;
    return dpr_comm_agree(bench->self->comm, bench->self->rank == 0 ? report(bench) : DPR_OK, NULL);
}

static dpr_status_t run(const void *arguments, bench_rank_t *self)
{
    bench_t bench = {.options = arguments, .self = self};
    DPR_TRY(bench_machine_open(&bench.options->common, self, &bench.machine));
    const dpr_status_t status = measure(&bench);
    if (!self->live) {
        dpr_stream_destroy(bench.stream);
        dpr_event_destroy(bench.begin);
        dpr_event_destroy(bench.end);
        bench_machine_close(&bench.machine);
    }
    free(bench.times[0]);
    free(bench.times[1]);
    plan_table_destroy(bench.table);
    return status;
}

/* ---- Options ---- */

enum key { KEY_ROWS = 0x7000, KEY_IN, KEY_OUT, KEY_PEAK };

enum { MOST = 1 << 16 };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    gemm_options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case KEY_ROWS:
        return plan_argp_error(bench_parse_list("rows", arg, 1, MOST, &options->rows));
    case KEY_IN:
        return plan_argp_error(bench_parse_list("in", arg, 1, MOST, &options->in));
    case KEY_OUT:
        return plan_argp_error(bench_parse_list("out", arg, 1, MOST, &options->out));
    case KEY_PEAK:
        return plan_argp_error(plan_parse_real("peak", arg, 1.0, 1e18, &options->peak));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_list[] = {
    {.doc = "Layers:", .group = 1},
    {.name = "rows",
     .key = KEY_ROWS,
     .arg = "N,...",
     .doc = "Rows of the activations (default 32)",
     .group = 1},
    {.name = "in",
     .key = KEY_IN,
     .arg = "N,...",
     .doc = "Inputs of the layers (default 256,1024,1024,4096)",
     .group = 1},
    {.name = "out",
     .key = KEY_OUT,
     .arg = "N,...",
     .doc = "Outputs, one for each of --in (default 1024,256,4096,1024)",
     .group = 1},
    {.name = "peak",
     .key = KEY_PEAK,
     .arg = "FLOPS",
     .doc = "A rank's peak, such as 1.2e11 (default: the best of large square products)",
     .group = 1},
    {0},
};

static const struct argp_child children[] = {{.argp = &bench_common_argp}, {0}};

static const struct argp argp = {
    .options = option_list,
    .parser = parse,
    .children = children,
    .doc = "Times the three products of linear layers as the stages call them, against the "
           "library's bare products on the same operands."};

static void set_defaults(void *arguments)
{
    gemm_options_t *options = arguments;
    *options = (gemm_options_t){.common = bench_common_default(1, 31, 3),
                                .rows = {.count = 1, .values = {32}},
                                .in = {.count = 4, .values = {256, 1024, 1024, 4096}},
                                .out = {.count = 4, .values = {1024, 256, 4096, 1024}}};
}

static dpr_status_t check_options(void *arguments)
{
    const gemm_options_t *options = arguments;
    return options->in.count == options->out.count
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID,
                          "--in has %d numbers and --out %d: expected one of --out for each of "
                          "--in",
                          options->in.count, options->out.count);
}

const bench_command_t bench_gemm_command = {
    .name = "gemm",
    .summary = "the products of linear layers, against plain BLAS and the peak",
    .options_bytes = sizeof(gemm_options_t),
    .set_defaults = set_defaults,
    .argp = &argp,
    .check = check_options,
    .run = run,
};
