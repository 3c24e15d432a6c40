/* The command line of dualpipe_train, by argp. */
#include "apps/train_options.h"

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/option_table.h"
#include "apps/program.h"
#include "base/log.h"
#include "schedule/generators.h"

/* ---- Values. The config's check knows the upper ends ---- */

static dpr_status_t parse_whole(const option_row_t *row, const char *text, long most, long *out)
{
    const long least = (long)row->least;
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || value < least || value > most) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a whole number from %ld up", row->name,
                        text, least);
    }
    *out = value;
    return DPR_OK;
}

static dpr_status_t take_int(const option_row_t *row, char *text, void *into)
{
    long value = 0;
    DPR_TRY(parse_whole(row, text, INT_MAX, &value));
    *(int *)option_place(row, into) = (int)value;
    return DPR_OK;
}

static dpr_status_t take_long(const option_row_t *row, char *text, void *into)
{
    return parse_whole(row, text, LONG_MAX, option_place(row, into));
}

static dpr_status_t take_seed(const option_row_t *row, char *text, void *into)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno == ERANGE || value > INT64_MAX) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a whole number from 0 to 2^63 - 1",
                        row->name, text);
    }
    *(uint64_t *)option_place(row, into) = value;
    return DPR_OK;
}

/* What a suffix multiplies by, as for dualpipe_plan: powers of 1000, with an i of 1024; 0: none. */
static uint64_t factor_of(const char *suffix)
{
    static const char letters[] = "KMGT";
    const char letter = suffix[0] == 'k' ? 'K' : suffix[0];
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
    const bool binary = found != NULL && suffix[1] == 'i';
    if (letter == '\0') {
        return 1;
    }
    if (found == NULL || suffix[binary ? 2 : 1] != '\0') {
        return 0;
    }
    uint64_t factor = 1;
    for (const char *at = letters; at <= found; at++) {
        factor *= binary ? 1024 : 1000;
    }
    return factor;
}

static dpr_status_t take_bytes(const option_row_t *row, char *text, void *into)
{
    const uint64_t most = UINT64_C(1) << 60;
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    const uint64_t factor = factor_of(end);
    if (text[0] < '0' || text[0] > '9' || factor == 0 || errno == ERANGE || number < 1 ||
        number > most / factor) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--%s '%s': give bytes from 1 to 2^60, such as 65536, 300M or 2Gi (K, M, "
                        "G, T: times 1000; Ki, Mi, Gi, Ti: times 1024)",
                        row->name, text);
    }
    *(uint64_t *)option_place(row, into) = (uint64_t)number * factor;
    return DPR_OK;
}

static dpr_status_t parse_finite(const option_row_t *row, const char *text, double *out)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value)) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a finite number", row->name, text);
    }
    *out = value;
    return DPR_OK;
}

static dpr_status_t take_real(const option_row_t *row, char *text, void *into)
{
    return parse_finite(row, text, option_place(row, into));
}

static dpr_status_t take_float(const option_row_t *row, char *text, void *into)
{
    double value = 0.0;
    DPR_TRY(parse_finite(row, text, &value));
    if (fabs(value) > FLT_MAX) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a number within single precision",
                        row->name, text);
    }
    *(float *)option_place(row, into) = (float)value;
    return DPR_OK;
}

/* Names the option, which the parser below does not know. */
static dpr_status_t take_dtype(const option_row_t *row, char *text, void *into)
{
    char refused[256];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    const dpr_status_t status = dpr_dtype_parse(text, option_place(row, into));
    dpr_log_capture_end(&capture);
    if (status != DPR_OK) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s' is unknown: give one of fp32, tf32, bf16",
                        row->name, text);
    }
    return DPR_OK;
}

static dpr_status_t take_optimizer(const option_row_t *row, char *text, void *into)
{
    return dpr_optimizer_kind_parse(text, option_place(row, into));
}

static dpr_status_t take_lr_schedule(const option_row_t *row, char *text, void *into)
{
    return dpr_lr_schedule_parse(text, option_place(row, into));
}

static dpr_status_t take_drawing(const option_row_t *row, char *text, void *into)
{
    train_options_t *options = into;
    long width = 0;
    options->output.ascii = true;
    if (text != NULL) {
        DPR_TRY(parse_whole(row, text, INT_MAX, &width));
        options->output.width = (int)width;
    }
    return DPR_OK;
}

/* ---- The options ---- */

enum { KEY_HELP = 'h', KEY_VERSION = 'V' };

/* clang-format off */
#define BY(function, field) OPTION_BY(function, train_options_t, field)
#define TEXT(field)         OPTION_FIELD(train_options_t, field)
#define FLAG(field)         OPTION_FIELD(train_options_t, field)
#define INT(field, least)   BY(take_int, field), least
#define LONG(field, least)  BY(take_long, field), least
#define REAL(field)         BY(take_real, field)
#define FLOAT(field)        BY(take_float, field)

static const option_row_t rows[] = {
    {.doc = "Schedule:", .group = 1},
    {"schedule", "NAME", "(default: dualpipe on an even number of ranks, dualpipev on an odd one, 1f1b on one)", TEXT(config.schedule)},
    {"schedule-file", "CSV", "a program to play instead: one line per rank, as dualpipe_plan schedule prints", TEXT(config.schedule_file)},
    {"micro-batches", "M", "micro-batches a step (default: the least allowed from 5/2 of the ranks up)", INT(config.micro_batches, 1)},
    {"activations", "N", "auto: most activations of a stage that a rank may hold (default: 2P+2, what dualpipe needs)", INT(config.activations, 1)},
    {"auto-budget", "SECONDS", "auto: how long to search (default 2)", REAL(config.auto_budget_sec)},
    {"recv-slots", "N", "receive buffers a channel; 0 (default): what the schedule needs and --recv-ahead more", INT(config.recv_slots, 0)},
    {"recv-ahead", "N", "receives posted ahead of need (default 2)", INT(config.recv_ahead, 0)},
    {"send-slots", "N", "send buffers a channel; 0 (default): 2, or more where the schedule needs it", INT(config.send_slots, 0)},
    {.doc = "Model:", .group = 2},
    {"micro-batch-size", "N", "samples in a micro-batch (default 32)", INT(config.micro_batch_size, 1)},
    {"hidden", "N", "width of the activations (default 256)", INT(config.hidden, 1)},
    {"ffn", "N", "inner width of a block (default 1024)", INT(config.ffn, 1)},
    {"blocks", "N", "residual blocks in all, at least one a stage (default 16, or twice the ranks where that is more)", INT(config.blocks, 1)},
    {.doc = "Training:", .group = 3},
    {"data", "DATA", "fashion-mnist (default), a folder with the four IDX files, or synthetic[:KEY=VALUE,...]", TEXT(config.data)},
    {"epochs", "N", "passes over the training data (default 3)", INT(config.epochs, 1)},
    {"steps", "N", "stop after N steps (default: what the epochs make; 3 with --verify)", LONG(config.steps, 1)},
    {"optimizer", "NAME", "adamw (default) or sgd (with momentum)", BY(take_optimizer, config.optimizer.kind)},
    {"lr", "X", "peak learning rate (default 1e-3)", FLOAT(config.optimizer.learning_rate)},
    {"lr-schedule", "NAME", "cosine (default) or constant, after the warm-up", BY(take_lr_schedule, config.optimizer.schedule)},
    {"min-lr", "X", "where the cosine ends, as a fraction of --lr (default 0.1)", FLOAT(config.optimizer.min_lr_fraction)},
    {"warmup", "N", "steps of linear warm-up (default 20)", LONG(config.optimizer.warmup_steps, 0)},
    {"beta1", "X", "AdamW's first moment decay (default 0.9)", FLOAT(config.optimizer.beta1)},
    {"beta2", "X", "AdamW's second moment decay (default 0.999)", FLOAT(config.optimizer.beta2)},
    {"momentum", "X", "SGD's momentum (default 0.9)", FLOAT(config.optimizer.momentum)},
    {"weight-decay", "X", "of the weight matrices (default 0.01)", FLOAT(config.optimizer.weight_decay)},
    {"clip", "X", "largest global gradient norm; 0: no clipping (default 1)", FLOAT(config.optimizer.clip_norm)},
    {"seed", "N", "of the weights and the order of the samples (default 1)", BY(take_seed, config.seed)},
    {.doc = "Device and clock:", .group = 4},
    {"device", "NAME", "cuda, host, or auto (default): cuda where every node has a usable GPU for each of its ranks, else host", TEXT(config.device)},
    {"dtype", "NAME", "fp32 (default), tf32 or bf16 (with fp32 master weights); the latter two need --device cuda", BY(take_dtype, config.dtype)},
    {"comm", "NAME", "nccl, mpi, or auto (default): nccl on cuda, mpi on host; with mpi several ranks may share a GPU", TEXT(config.comm)},
    {"comm-ctas", "N", "nccl: most CTAs of each communicator, from 1 to 64 (default 4), so that transfers leave the multiprocessors to compute", INT(config.comm_ctas, 1)},
    {"cuda-graph", NULL, "cuda with nccl: record the step once as a CUDA graph and replay it", FLAG(config.cuda_graph)},
    {"timeout", "SECONDS", "end the job, naming the ops that every rank waits in, when a step takes longer; 0: never (default 600)", REAL(config.timeout_sec)},
    {"clock", "NAME", "wall: real time; core: every op costs the CPU time it used; model: costs from --cost-model; auto (default): wall where every rank has a core of its own, else core", TEXT(config.clock)},
    {"cost-model", "COSTS", "F=1e-3,I=1e-3,W=1e-3[,B=,FB=,wire=] in seconds, or a cost file; implies --clock model", TEXT(config.cost_model)},
    {"calibrate", "N", "steps played to calibrate the costs (default 30)", INT(config.calibrate_steps, 1)},
    {"refresh", "N", "after every N steps predict anew from the last measured steps, and compare with what follows; 0: never (default: half of the steps)", LONG(config.refresh_steps, 0)},
    {"memory-limit", "BYTES", "refuse a plan of which a rank would hold more device memory, before the launch; with K, M, G or T: powers of 1000; with Ki, Mi, Gi or Ti: of 1024 (default: what the device has)", BY(take_bytes, config.memory_limit_bytes)},
    {"chaos", "SEED", "host device: delay and reorder whatever the device's contract leaves free, by this seed; 0 (default): not at all", BY(take_seed, config.chaos_seed)},
    {.doc = "Output:", .group = 5},
    {"verify", NULL, "run the same steps in one process and compare losses and gradients", FLAG(config.verify)},
    {"report", "FILE.json", "write all results as JSON", TEXT(output.report)},
    {"details", NULL, "print rank by rank why it was idle, how wrong its prediction was, and its clock", FLAG(output.details)},
    {"ascii", "WIDTH", "draw the predicted and the measured step, as wide as the terminal or as given", .take = take_drawing, .least = 1, .flags = OPTION_ARG_OPTIONAL},
    {"html", "FILE.html", "write both steps, the ledger and the errors as a page to look at", TEXT(output.html)},
    {"trace", "FILE.json", "write both steps as a Chrome trace, which Perfetto draws", TEXT(output.trace)},
    {"save", "FILE.json", "save the explained step for dualpipe_plan report", TEXT(output.save)},
    {"quiet", NULL, "print errors only", FLAG(quiet), .letter = 'q'},
    {.doc = "Help:", .group = -1},
    {"help", NULL, "print this list", .letter = KEY_HELP},
    {"version", NULL, "print the version", .letter = KEY_VERSION},
    {0},
};
/* clang-format on */

static const char doc[] =
    "Trains an MLP over pipeline ranks, one MPI process each, and measures the bubbles of the run "
    "against their prediction.\v"
    "Examples:\n"
    "  mpirun -np 8 dualpipe_train\n"
    "  mpirun -np 4 dualpipe_train --schedule 1f1b --micro-batches 16 --report run.json\n"
    "  mpirun -np 8 dualpipe_train --data synthetic --verify\n\n"
    "Exit codes: 0 success, 1 the run failed, 2 bad input, 3 a verification failed.";

/* ---- Parsing ---- */

typedef struct parse_state {
    train_options_t *options;
    int bad; /* index of the argument that argp did not take */
    dpr_status_t status;
} parse_state_t;

/* Answers --help or --version; under a launcher one rank does. */
static void show(int key, const struct argp_state *state, train_options_t *options)
{
    options->shown = true;
    if (!program_is_first_rank()) {
        return;
    }
    if (key == KEY_HELP) {
        argp_help(state->root_argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC,
                  state->name);
    } else {
        puts("dualpipe_train " DPR_VERSION);
    }
}

static error_t parse_one(int key, char *text, struct argp_state *state)
{
    parse_state_t *parse = state->input;
    if (key == ARGP_KEY_ERROR) {
        parse->bad = state->next - 1;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        parse->status =
            dpr_fail(DPR_ERR_INVALID, "unexpected argument '%s': see --help for the options", text);
        return EINVAL;
    }
    const option_row_t *row = option_rows_find(rows, key);
    if (row == NULL) {
        return ARGP_ERR_UNKNOWN;
    }
    if (parse->options->shown) {
        return 0;
    }
    if (key == KEY_HELP || key == KEY_VERSION) {
        show(key, state, parse->options);
        return 0;
    }
    parse->status = row->take(row, text, parse->options);
    return plan_argp_error(parse->status);
}

/* Puts the schedules' names before what the option's text says. */
static char *filter_help(int key, const char *text, void *input)
{
    (void)input;
    const option_row_t *row = option_rows_find(rows, key);
    if (row == NULL || strcmp(row->name, "schedule") != 0) {
        return (char *)text;
    }
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    char *filled = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&filled, &size);
    if (out == NULL) {
        return (char *)text;
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i > 0 ? ", " : "", schedules[i].name);
    }
    fprintf(out, ", or auto: built for the calibrated costs %s", text);
    fclose(out);
    return filled; /* argp frees it */
}

dpr_status_t train_options_parse(int argc, char **argv, train_options_t *options)
{
    struct argp_option shown[OPTION_MAX_ROWS];
    const struct argp argp = {
        .options = shown, .parser = parse_one, .doc = doc, .help_filter = filter_help};
    parse_state_t parse = {.options = options, .status = DPR_OK};
    option_rows_show(rows, shown);
    *options = (train_options_t){0};
    dpr_train_config_default(&options->config);
    const error_t error =
        argp_parse(&argp, argc, argv, ARGP_NO_EXIT | ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &parse);
    if (options->shown) {
        return DPR_OK;
    }
    if (parse.status != DPR_OK) {
        return parse.status;
    }
    if (error != 0) {
        const char *option = parse.bad > 0 && parse.bad < argc ? argv[parse.bad] : "";
        return dpr_fail(DPR_ERR_INVALID,
                        "option '%s' is unknown, ambiguous or lacks its value: see --help", option);
    }
    if (options->config.verify && options->config.steps == 0) {
        options->config.steps = 3;
    }
    if (options->config.cost_model != NULL && strcmp(options->config.clock, "auto") == 0) {
        options->config.clock = "model";
    }
    return dpr_train_config_check(&options->config);
}
