/*
 * dualpipe_bench p2p: latency and bandwidth of channels by message size, against plain MPI between
 * the same two ranks in the same run, and all channels of a schedule at once.
 *
 * What arrived is compared with what was sent.
 */
#include <stdlib.h>
#include <string.h>

#include "apps/bench_lines.h"
#include "apps/bench_plain.h"
#include "apps/option_table.h"
#include "base/log.h"
#include "base/memory.h"

typedef struct p2p_options {
    bench_common_t common;
    bench_list_t sizes; /* bytes */
    int messages;
    bench_names_t schedule;
    bench_plain_mpi_t plain;
} p2p_options_t;

enum { MAX_BYTES = 1 << 28, SMALL_BYTES = 8 };

typedef struct bench {
    const p2p_options_t *options;
    bench_rank_t *self;
    bench_machine_t machine;
    double *values;
    plan_table_t *pair_table;
    plan_table_t *channel_table;
    bench_lines_t lines;
    int line_count;
    bench_line_t *line;
} bench_t;

/* ---- The pair: by size and pattern ---- */

static dpr_status_t play_pattern(bench_t *bench, bench_pattern_t pattern, size_t bytes, double *sec)
{
    double secs[2];
    if (pattern == BENCH_LATENCY) {
        return bench_lines_play_latency(&bench->lines, &bench->line[0], &bench->line[1], bytes,
                                        sec);
    }
    return bench_lines_play(&bench->lines, bench->line, pattern == BENCH_ONE_WAY ? 1 : 2, bytes,
                            secs, sec);
}

static const plan_column_t pair_columns[] = {
    {"bytes", "bytes", PLAN_INT},
    {"pattern", "pattern", PLAN_TEXT},
    BENCH_SPREAD_COLUMNS("", "s a message"),
    {"bytes_per_sec", "B/s", PLAN_REAL},
    {"plain_sec", "plain MPI s", PLAN_REAL},
    {"plain_bytes_per_sec", "plain MPI B/s", PLAN_REAL},
    {"over_plain", "over plain", PLAN_REAL},
};

static void add_pair_row(bench_t *bench, int size, bench_pattern_t pattern)
{
    static const char *const names[BENCH_PATTERNS] = {"latency", "one way", "both ways"};
    const p2p_options_t *options = bench->options;
    const bench_spread_t spread = bench_spread_of(bench->values, (size_t)options->common.repeats);
    const double bytes = (pattern == BENCH_BOTH_WAYS ? 2.0 : 1.0) * options->sizes.values[size];
    const double plain = options->plain.sec[pattern][size];
    plan_table_t *table = bench->pair_table;
    plan_table_int(table, options->sizes.values[size]);
    plan_table_text(table, names[pattern]);
    bench_spread_cells(table, &spread);
    plan_table_real(table, bytes / spread.median);
    if (options->plain.done) {
        plan_table_real(table, plain);
        plan_table_real(table, bytes / plain);
        plan_table_real(table, spread.median / plain);
    } else {
        for (int i = 0; i < 3; i++) {
            plan_table_none(table);
        }
    }
}

static dpr_status_t measure_pattern(bench_t *bench, int size, bench_pattern_t pattern)
{
    const bench_common_t *common = &bench->options->common;
    const size_t bytes = (size_t)bench->options->sizes.values[size];
    for (int i = -common->warm_up; i < common->repeats; i++) {
        double sec;
        DPR_TRY(play_pattern(bench, pattern, bytes, &sec));
        if (i >= 0) {
            bench->values[i] = sec;
        }
    }
    DPR_TRY(bench_line_check(&bench->lines, &bench->line[0], bytes));
    if (pattern != BENCH_ONE_WAY) {
        DPR_TRY(bench_line_check(&bench->lines, &bench->line[1], bytes));
    }
    add_pair_row(bench, size, pattern);
    return DPR_OK;
}

/* ---- All channels of a schedule ---- */

static const plan_column_t channel_columns[] = {
    {"source", "from", PLAN_INT},
    {"destination", "to", PLAN_INT},
    {"kind", "carries", PLAN_TEXT},
    {"bytes", "bytes", PLAN_INT},
    {"small_sec", "s of 8 bytes", PLAN_REAL},
    {"alone_sec", "alone s", PLAN_REAL},
    {"alone_bytes_per_sec", "alone B/s", PLAN_REAL},
    {"together_sec", "all at once s", PLAN_REAL},
    {"together_bytes_per_sec", "all at once B/s", PLAN_REAL},
};

/* Median over the repeats of one line's seconds a message, on every rank. */
static dpr_status_t measure_line(bench_t *bench, bench_line_t *line, size_t bytes, double *sec)
{
    const bench_common_t *common = &bench->options->common;
    for (int i = -common->warm_up; i < common->repeats; i++) {
        double mine, most;
        DPR_TRY(bench_lines_play(&bench->lines, line, 1, bytes, &mine, &most));
        if (i >= 0) {
            bench->values[i] = most;
        }
    }
    *sec = bench_spread_of(bench->values, (size_t)common->repeats).median;
    return bench_line_check(&bench->lines, line, bytes);
}

/* together[line]: medians of what each line took while all were busy; 0 where not received here. */
static dpr_status_t measure_together(bench_t *bench, size_t bytes, double *together)
{
    const bench_common_t *common = &bench->options->common;
    const int lines = bench->line_count - 2;
    double *secs;
    DPR_TRY(dpr_calloc((size_t)lines * (size_t)common->repeats, sizeof *secs, &secs));
    dpr_status_t status = DPR_OK;
    for (int i = -common->warm_up; i < common->repeats && status == DPR_OK; i++) {
        double most;
        status = bench_lines_play(&bench->lines, bench->line + 2, lines, bytes, together, &most);
        for (int line = 0; line < lines && i >= 0; line++) {
            secs[line * common->repeats + i] = together[line];
        }
    }
    for (int line = 0; line < lines; line++) {
        together[line] =
            bench_spread_of(secs + line * common->repeats, (size_t)common->repeats).median;
    }
    free(secs);
    return status;
}

static dpr_status_t add_channel_row(bench_t *bench, bench_line_t *line, size_t bytes,
                                    double together)
{
    plan_table_t *table = bench->channel_table;
    double small, alone, all;
    DPR_TRY(measure_line(bench, line, SMALL_BYTES, &small));
    DPR_TRY(measure_line(bench, line, bytes, &alone));
    DPR_TRY(bench_most_over_ranks(bench->self, together, &all));
    plan_table_int(table, line->source);
    plan_table_int(table, line->destination);
    plan_table_text(table, line->kind);
    plan_table_int(table, (int64_t)bytes);
    const double reals[] = {small, alone, (double)bytes / alone, all, (double)bytes / all};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        plan_table_real(table, reals[i]);
    }
    return DPR_OK;
}

static dpr_status_t measure_channels(bench_t *bench)
{
    const bench_list_t *sizes = &bench->options->sizes;
    double *together;
    DPR_TRY(dpr_calloc((size_t)bench->line_count, sizeof *together, &together));
    dpr_status_t status = DPR_OK;
    for (int size = 0; size < sizes->count && status == DPR_OK; size++) {
        const size_t bytes = (size_t)sizes->values[size];
        status = measure_together(bench, bytes, together);
        for (int i = 2; i < bench->line_count && status == DPR_OK; i++) {
            status = bench_line_check(&bench->lines, &bench->line[i], bytes);
            if (status == DPR_OK) {
                status = add_channel_row(bench, &bench->line[i], bytes, together[i - 2]);
            }
        }
    }
    free(together);
    return status;
}

/* ---- Set-up ---- */

/* Two lines between ranks 0 and 1, then the schedule's channels. */
static dpr_status_t list_lines(bench_t *bench, const dpr_graph_t *graph)
{
    bench->line_count = 2 + graph->channel_count;
    DPR_TRY(dpr_calloc((size_t)bench->line_count, sizeof *bench->line, &bench->line));
    bench->line[0] = (bench_line_t){.source = 0, .destination = 1};
    bench->line[1] = (bench_line_t){.source = 1, .destination = 0};
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        bench->line[2 + c] = (bench_line_t){
            .source = channel->source,
            .destination = channel->destination,
            .kind = channel->kind == DPR_NODE_SEND_ACT ? "activations" : "gradients"};
    }
    return DPR_OK;
}

static dpr_status_t read_schedule(bench_t *bench)
{
    const bench_names_t *names = &bench->options->schedule;
    dpr_train_config_t config;
    dpr_program_t program;
    dpr_graph_t *graph;
    dpr_train_config_default(&config);
    config.schedule = names->count > 0 ? names->names[0] : NULL;
    DPR_TRY(dpr_train_config_program(&config, bench->self->ranks, &program));
    dpr_status_t status = dpr_graph_build(&program, NULL, &graph);
    dpr_program_free(&program);
    DPR_TRY(status);
    status = list_lines(bench, graph);
    dpr_graph_destroy(graph);
    return status;
}

static dpr_status_t prepare_alone(bench_t *bench)
{
    const p2p_options_t *options = bench->options;
    void *memory;
    if (bench->self->ranks < 2) {
        return dpr_fail(DPR_ERR_INVALID, "p2p needs at least 2 ranks, but there is 1: give "
                                         "--ranks, or start it with a launcher");
    }
    bench->lines.most_bytes = SMALL_BYTES;
    for (int i = 0; i < options->sizes.count; i++) {
        const size_t bytes = (size_t)options->sizes.values[i];
        bench->lines.most_bytes = bytes > bench->lines.most_bytes ? bytes : bench->lines.most_bytes;
    }
    DPR_TRY(read_schedule(bench));
    DPR_TRY(dpr_device_alloc(bench->machine.device, DPR_MEMORY_PINNED, bench->lines.most_bytes,
                             &memory));
    bench->lines.host = memory;
    DPR_TRY(dpr_calloc((size_t)options->common.repeats, sizeof(double), &bench->values));
    DPR_TRY(plan_table_create(pair_columns, sizeof pair_columns / sizeof pair_columns[0],
                              &bench->pair_table));
    return plan_table_create(channel_columns, sizeof channel_columns / sizeof channel_columns[0],
                             &bench->channel_table);
}

/* ---- The command ---- */

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"messages", "messages", PLAN_INT},
};

static dpr_status_t report(const bench_t *bench)
{
    plan_table_t *facts;
    const plan_section_t sections[] = {
        {.key = "pair", .title = "Between ranks 0 and 1", .table = bench->pair_table},
        {.key = "channels", .title = "Channels of the schedule", .table = bench->channel_table},
    };
    DPR_TRY(plan_table_create(fact_columns, sizeof fact_columns / sizeof fact_columns[0], &facts));
    bench_machine_cells(&bench->machine, &bench->options->common, facts);
    plan_table_int(facts, bench->options->messages);
    const dpr_status_t status =
        bench_report_write(&bench->options->common, "p2p", facts, sections, 2);
    plan_table_destroy(facts);
    return status;
}

static dpr_status_t measure_all(bench_t *bench)
{
    for (int i = 0; i < bench->line_count; i++) {
        DPR_TRY(bench_line_open(&bench->lines, &bench->line[i]));
    }
    for (int size = 0; size < bench->options->sizes.count; size++) {
        for (int pattern = 0; pattern < BENCH_PATTERNS; pattern++) {
            DPR_TRY(measure_pattern(bench, size, (bench_pattern_t)pattern));
        }
    }
    return measure_channels(bench);
}

static dpr_status_t measure(bench_t *bench)
{
    DPR_TRY(dpr_comm_agree(bench->self->comm, prepare_alone(bench), NULL));
    bench->self->live = true;
    if (bench->options->plain.done && !bench->options->plain.correct) {
        return dpr_fail(DPR_ERR_MISMATCH, "a message by plain MPI did not arrive as it was sent");
    }
    DPR_TRY(measure_all(bench));
    bench->self->live = false;
    return dpr_comm_agree(bench->self->comm, bench->self->rank == 0 ? report(bench) : DPR_OK, NULL);
}

static void tear_down(bench_t *bench)
{
    for (int i = 0; i < bench->line_count; i++) {
        bench_line_close(&bench->lines, &bench->line[i]);
    }
    if (bench->lines.host != NULL) {
        dpr_device_free(bench->machine.device, DPR_MEMORY_PINNED, bench->lines.host);
    }
    bench_machine_close(&bench->machine);
}

static dpr_status_t run(const void *arguments, bench_rank_t *self)
{
    bench_t bench = {.options = arguments, .self = self};
    bench.lines = (bench_lines_t){
        .self = self, .machine = &bench.machine, .messages = bench.options->messages};
    DPR_TRY(bench_machine_open(&bench.options->common, self, &bench.machine));
    const dpr_status_t status = measure(&bench);
    if (!self->live) {
        tear_down(&bench);
    }
    free(bench.line);
    free(bench.values);
    plan_table_destroy(bench.pair_table);
    plan_table_destroy(bench.channel_table);
    return status;
}

/* ---- Options ---- */

enum key { KEY_SIZES = 0x7000, KEY_MESSAGES, KEY_SCHEDULE };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    p2p_options_t *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case KEY_SIZES:
        return plan_argp_error(bench_parse_list("sizes", arg, 1, MAX_BYTES, &options->sizes));
    case KEY_MESSAGES:
        return plan_argp_error(plan_parse_int("messages", arg, 1, 100000, &options->messages));
    case KEY_SCHEDULE:
        return plan_argp_error(bench_parse_schedules("schedule", arg, &options->schedule));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_list[] = {
    {.doc = "Messages:", .group = 1},
    {.name = "sizes",
     .key = KEY_SIZES,
     .arg = "BYTES,...",
     .doc = "Sizes (default 8,1024,32768,262144,1048576)",
     .group = 1},
    {.name = "messages",
     .key = KEY_MESSAGES,
     .arg = "N",
     .doc = "Messages a measurement (default 200, fewer of large ones)",
     .group = 1},
    {.name = "schedule",
     .key = KEY_SCHEDULE,
     .arg = "NAME",
     .doc = "Whose channels are all used at once (default: that of dualpipe_train)",
     .group = 1},
    {0},
};

static const struct argp_child children[] = {{.argp = &bench_common_argp}, {0}};

static const struct argp argp = {
    .options = option_list,
    .parser = parse,
    .children = children,
    .doc = "Times messages through the communication seam by the wall clock. Under a launcher the "
           "same bytes go by MPI_Send and MPI_Recv first.\vlatency: one way of a message that "
           "waits for the one before. one way and both ways: messages one behind the other; B/s "
           "counts both ways together. over plain: seconds over plain MPI's."};

static void set_defaults(void *arguments)
{
    p2p_options_t *options = arguments;
    *options = (p2p_options_t){
        .common = bench_common_default(2, 11, 2),
        .sizes = {.count = 5, .values = {SMALL_BYTES, 1024, 32768, 262144, 1048576}},
        .messages = 200};
    options->common.clock = "wall";
}

static dpr_status_t check_options(void *arguments)
{
    const p2p_options_t *options = arguments;
    if (options->schedule.count > 1) {
        return dpr_fail(DPR_ERR_INVALID, "--schedule: expected one name, but %d were given",
                        options->schedule.count);
    }
    return strcmp(options->common.clock, "core") == 0
               ? dpr_fail(DPR_ERR_INVALID,
                          "--clock 'core': p2p measures real time, so expected wall or auto")
               : DPR_OK;
}

static void prepare(void *arguments)
{
    p2p_options_t *options = arguments;
    bench_plain_mpi_t *plain = &options->plain;
    options->common.clock = "wall";
    *plain = (bench_plain_mpi_t){.sizes = options->sizes.count,
                                 .messages = options->messages,
                                 .repeats = options->common.repeats,
                                 .warm_up = options->common.warm_up};
    for (int i = 0; i < plain->sizes; i++) {
        plain->bytes[i] = (size_t)options->sizes.values[i];
    }
    bench_plain_mpi_request(plain);
}

const bench_command_t bench_p2p_command = {
    .name = "p2p",
    .summary = "latency and bandwidth of channels, against plain MPI",
    .options_bytes = sizeof(p2p_options_t),
    .set_defaults = set_defaults,
    .argp = &argp,
    .check = check_options,
    .prepare = prepare,
    .run = run,
};
