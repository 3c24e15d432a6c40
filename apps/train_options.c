/* The command line of dualpipe_train, by argp. */
#include "apps/train_options.h"

#include <argp.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/generators.h"

#define DPR_VERSION_TEXT "dualpipe_train " DPR_VERSION

enum key {
    KEY_SCHEDULE = 256,
    KEY_SCHEDULE_FILE,
    KEY_MICRO_BATCHES,
    KEY_ACTIVATIONS,
    KEY_AUTO_BUDGET,
    KEY_MICRO_BATCH_SIZE,
    KEY_HIDDEN,
    KEY_FFN,
    KEY_BLOCKS,
    KEY_DATA,
    KEY_EPOCHS,
    KEY_STEPS,
    KEY_OPTIMIZER,
    KEY_LR,
    KEY_LR_SCHEDULE,
    KEY_MIN_LR,
    KEY_WARMUP,
    KEY_BETA1,
    KEY_BETA2,
    KEY_MOMENTUM,
    KEY_WEIGHT_DECAY,
    KEY_CLIP,
    KEY_SEED,
    KEY_DTYPE,
    KEY_DEVICE,
    KEY_COMM,
    KEY_COMM_CTAS,
    KEY_CUDA_GRAPH,
    KEY_TIMEOUT,
    KEY_REFRESH,
    KEY_CLOCK,
    KEY_COST_MODEL,
    KEY_CALIBRATE,
    KEY_VERIFY,
    KEY_REPORT,
    KEY_DETAILS,
    KEY_ASCII,
    KEY_HTML,
    KEY_TRACE,
    KEY_SAVE,
    KEY_RECV_SLOTS,
    KEY_RECV_AHEAD,
    KEY_SEND_SLOTS,
    KEY_MEMORY_LIMIT,
    KEY_CHAOS,
    KEY_HELP = 'h',
    KEY_QUIET = 'q',
    KEY_VERSION = 'V',
};

/* clang-format off */
static const struct argp_option argp_options[] = {
    {.doc = "Schedule:", .group = 1},
    {"schedule", KEY_SCHEDULE, "NAME", 0, "(default: dualpipe on an even number of ranks, dualpipev on an odd one, 1f1b on one)", 1},
    {"schedule-file", KEY_SCHEDULE_FILE, "CSV", 0, "a program to play instead: one line per rank, as dualpipe_plan schedule prints", 1},
    {"micro-batches", KEY_MICRO_BATCHES, "M", 0, "micro-batches a step (default: the least allowed from 5/2 of the ranks up)", 1},
    {"activations", KEY_ACTIVATIONS, "N", 0, "auto: most activations of a stage that a rank may hold (default: 2P+2, what dualpipe needs)", 1},
    {"auto-budget", KEY_AUTO_BUDGET, "SECONDS", 0, "auto: how long to search (default 2)", 1},
    {"recv-slots", KEY_RECV_SLOTS, "N", 0, "receive buffers a channel; 0 (default): what the schedule needs and --recv-ahead more", 1},
    {"recv-ahead", KEY_RECV_AHEAD, "N", 0, "receives posted ahead of need (default 2)", 1},
    {"send-slots", KEY_SEND_SLOTS, "N", 0, "send buffers a channel; 0 (default): 2, or more where the schedule needs it", 1},
    {.doc = "Model:", .group = 2},
    {"micro-batch-size", KEY_MICRO_BATCH_SIZE, "N", 0, "samples in a micro-batch (default 32)", 2},
    {"hidden", KEY_HIDDEN, "N", 0, "width of the activations (default 256)", 2},
    {"ffn", KEY_FFN, "N", 0, "inner width of a block (default 1024)", 2},
    {"blocks", KEY_BLOCKS, "N", 0, "residual blocks in all, at least one a stage (default 16, or twice the ranks where that is more)", 2},
    {.doc = "Training:", .group = 3},
    {"data", KEY_DATA, "DATA", 0, "fashion-mnist (default), a folder with the four IDX files, or synthetic[:KEY=VALUE,...]", 3},
    {"epochs", KEY_EPOCHS, "N", 0, "passes over the training data (default 3)", 3},
    {"steps", KEY_STEPS, "N", 0, "stop after N steps (default: what the epochs make; 3 with --verify)", 3},
    {"optimizer", KEY_OPTIMIZER, "NAME", 0, "adamw (default) or sgd (with momentum)", 3},
    {"lr", KEY_LR, "X", 0, "peak learning rate (default 1e-3)", 3},
    {"lr-schedule", KEY_LR_SCHEDULE, "NAME", 0, "cosine (default) or constant, after the warm-up", 3},
    {"min-lr", KEY_MIN_LR, "X", 0, "where the cosine ends, as a fraction of --lr (default 0.1)", 3},
    {"warmup", KEY_WARMUP, "N", 0, "steps of linear warm-up (default 20)", 3},
    {"beta1", KEY_BETA1, "X", 0, "AdamW's first moment decay (default 0.9)", 3},
    {"beta2", KEY_BETA2, "X", 0, "AdamW's second moment decay (default 0.999)", 3},
    {"momentum", KEY_MOMENTUM, "X", 0, "SGD's momentum (default 0.9)", 3},
    {"weight-decay", KEY_WEIGHT_DECAY, "X", 0, "of the weight matrices (default 0.01)", 3},
    {"clip", KEY_CLIP, "X", 0, "largest global gradient norm; 0: no clipping (default 1)", 3},
    {"seed", KEY_SEED, "N", 0, "of the weights and the order of the samples (default 1)", 3},
    {.doc = "Device and clock:", .group = 4},
    {"device", KEY_DEVICE, "NAME", 0, "cuda, host, or auto (default): cuda where every node has a usable GPU for each of its ranks, else host", 4},
    {"dtype", KEY_DTYPE, "NAME", 0, "fp32 (default), tf32 or bf16 (with fp32 master weights); the latter two need --device cuda", 4},
    {"comm", KEY_COMM, "NAME", 0, "nccl, mpi, or auto (default): nccl on cuda, mpi on host; with mpi several ranks may share a GPU", 4},
    {"comm-ctas", KEY_COMM_CTAS, "N", 0, "nccl: most CTAs of each communicator, from 1 to 64 (default 4), so that transfers leave the multiprocessors to compute", 4},
    {"cuda-graph", KEY_CUDA_GRAPH, NULL, 0, "cuda with nccl: record the step once as a CUDA graph and replay it", 4},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "end the job, naming the ops that every rank waits in, when a step takes longer; 0: never (default 600)", 4},
    {"clock", KEY_CLOCK, "NAME", 0, "wall: real time; core: every op costs the CPU time it used; model: costs from --cost-model; auto (default): wall where every rank has a core of its own, else core", 4},
    {"cost-model", KEY_COST_MODEL, "COSTS", 0, "F=1e-3,I=1e-3,W=1e-3[,B=,FB=,wire=] in seconds, or a cost file; implies --clock model", 4},
    {"calibrate", KEY_CALIBRATE, "N", 0, "steps played to calibrate the costs (default 30)", 4},
    {"refresh", KEY_REFRESH, "N", 0, "after every N steps predict anew from the last measured steps, and compare with what follows; 0: never (default: half of the steps)", 4},
    {"memory-limit", KEY_MEMORY_LIMIT, "BYTES", 0, "refuse a plan of which a rank would hold more device memory, before the launch; with K, M, G or T: powers of 1000; with Ki, Mi, Gi or Ti: of 1024 (default: what the device has)", 4},
    {"chaos", KEY_CHAOS, "SEED", 0, "host device: delay and reorder whatever the device's contract leaves free, by this seed; 0 (default): not at all", 4},
    {.doc = "Output:", .group = 5},
    {"verify", KEY_VERIFY, NULL, 0, "run the same steps in one process and compare losses and gradients", 5},
    {"report", KEY_REPORT, "FILE.json", 0, "write all results as JSON", 5},
    {"details", KEY_DETAILS, NULL, 0, "print rank by rank why it was idle, how wrong its prediction was, and its clock", 5},
    {"ascii", KEY_ASCII, "WIDTH", OPTION_ARG_OPTIONAL, "draw the predicted and the measured step, as wide as the terminal or as given", 5},
    {"html", KEY_HTML, "FILE.html", 0, "write both steps, the ledger and the errors as a page to look at", 5},
    {"trace", KEY_TRACE, "FILE.json", 0, "write both steps as a Chrome trace, which Perfetto draws", 5},
    {"save", KEY_SAVE, "FILE.json", 0, "save the explained step for dualpipe_plan report", 5},
    {"quiet", KEY_QUIET, NULL, 0, "print errors only", 5},
    {.doc = "Help:", .group = -1},
    {"help", KEY_HELP, NULL, 0, "print this list", -1},
    {"version", KEY_VERSION, NULL, 0, "print the version", -1},
    {0},
};
/* clang-format on */

static const char argp_doc[] =
    "Trains an MLP over pipeline ranks, one MPI process each, and measures the bubbles of the run "
    "against their prediction.\v"
    "Examples:\n"
    "  mpirun -np 8 dualpipe_train\n"
    "  mpirun -np 4 dualpipe_train --schedule 1f1b --micro-batches 16 --report run.json\n"
    "  mpirun -np 8 dualpipe_train --data synthetic --verify\n\n"
    "Exit codes: 0 success, 1 the run failed, 2 bad input, 3 a verification failed.";

/* Under a launcher every rank parses the same --help; one answers. */
static bool is_first_rank(void)
{
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                            "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        if (value != NULL) {
            return atoi(value) == 0;
        }
    }
    return true;
}

static dpr_status_t parse_integer(const char *option, const char *text, long least, long most,
                                  long *out)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || value < least || value > most) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a whole number from %ld up", option, text,
                        least);
    }
    *out = value;
    return DPR_OK;
}

/* Whole numbers from 0, or from 1 where 0 means "default" inside the config; the config's check
 * knows the upper ends. */
static dpr_status_t parse_from(const char *option, const char *text, int least, int *out)
{
    long value = 0;
    DPR_TRY(parse_integer(option, text, least, INT_MAX, &value));
    *out = (int)value;
    return DPR_OK;
}

static dpr_status_t parse_int(const char *option, const char *text, int *out)
{
    return parse_from(option, text, 0, out);
}

static dpr_status_t parse_count(const char *option, const char *text, int *out)
{
    return parse_from(option, text, 1, out);
}

static dpr_status_t parse_long(const char *option, const char *text, long least, long *out)
{
    return parse_integer(option, text, least, LONG_MAX, out);
}

static dpr_status_t parse_seed(const char *option, const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno == ERANGE || value > INT64_MAX) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a whole number from 0 to 2^63 - 1",
                        option, text);
    }
    *out = value;
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

static dpr_status_t parse_bytes(const char *option, const char *text, uint64_t *out)
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
                        option, text);
    }
    *out = (uint64_t)number * factor;
    return DPR_OK;
}

static dpr_status_t parse_seconds(const char *option, const char *text, double *out)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value)) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a finite number", option, text);
    }
    *out = value;
    return DPR_OK;
}

static dpr_status_t parse_float(const char *option, const char *text, float *out)
{
    double value = 0.0;
    DPR_TRY(parse_seconds(option, text, &value));
    if (fabs(value) > FLT_MAX) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': give a number within single precision", option,
                        text);
    }
    *out = (float)value;
    return DPR_OK;
}

/* Names the option, which the parser below does not know. */
static dpr_status_t parse_dtype(const char *text, dpr_dtype_t *out)
{
    char refused[256];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    const dpr_status_t status = dpr_dtype_parse(text, out);
    dpr_log_capture_end(&capture);
    if (status != DPR_OK) {
        return dpr_fail(DPR_ERR_INVALID, "--dtype '%s' is unknown: give one of fp32, tf32, bf16",
                        text);
    }
    return DPR_OK;
}

/* Options of the optimizer. */
static dpr_status_t take_training(int key, char *text, dpr_train_config_t *config)
{
    dpr_optimizer_config_t *o = &config->optimizer;
    switch (key) {
    case KEY_OPTIMIZER:
        return dpr_optimizer_kind_parse(text, &o->kind);
    case KEY_LR:
        return parse_float("lr", text, &o->learning_rate);
    case KEY_LR_SCHEDULE:
        return dpr_lr_schedule_parse(text, &o->schedule);
    case KEY_MIN_LR:
        return parse_float("min-lr", text, &o->min_lr_fraction);
    case KEY_WARMUP:
        return parse_long("warmup", text, 0, &o->warmup_steps);
    case KEY_BETA1:
        return parse_float("beta1", text, &o->beta1);
    case KEY_BETA2:
        return parse_float("beta2", text, &o->beta2);
    case KEY_MOMENTUM:
        return parse_float("momentum", text, &o->momentum);
    case KEY_WEIGHT_DECAY:
        return parse_float("weight-decay", text, &o->weight_decay);
    case KEY_CLIP:
        return parse_float("clip", text, &o->clip_norm);
    case KEY_DATA:
        config->data = text;
        return DPR_OK;
    case KEY_EPOCHS:
        return parse_count("epochs", text, &config->epochs);
    case KEY_STEPS:
        return parse_long("steps", text, 1, &config->steps);
    default:
        return parse_seed("seed", text, &config->seed);
    }
}

/* Options of the schedule, the model and the device. */
static dpr_status_t take_pipeline(int key, char *text, dpr_train_config_t *config)
{
    switch (key) {
    case KEY_SCHEDULE:
        config->schedule = text;
        return DPR_OK;
    case KEY_SCHEDULE_FILE:
        config->schedule_file = text;
        return DPR_OK;
    case KEY_MICRO_BATCHES:
        return parse_count("micro-batches", text, &config->micro_batches);
    case KEY_ACTIVATIONS:
        return parse_count("activations", text, &config->activations);
    case KEY_AUTO_BUDGET:
        return parse_seconds("auto-budget", text, &config->auto_budget_sec);
    case KEY_MICRO_BATCH_SIZE:
        return parse_count("micro-batch-size", text, &config->micro_batch_size);
    case KEY_HIDDEN:
        return parse_count("hidden", text, &config->hidden);
    case KEY_FFN:
        return parse_count("ffn", text, &config->ffn);
    case KEY_BLOCKS:
        return parse_count("blocks", text, &config->blocks);
    case KEY_RECV_SLOTS:
        return parse_int("recv-slots", text, &config->recv_slots);
    case KEY_RECV_AHEAD:
        return parse_int("recv-ahead", text, &config->recv_ahead);
    case KEY_SEND_SLOTS:
        return parse_int("send-slots", text, &config->send_slots);
    case KEY_MEMORY_LIMIT:
        return parse_bytes("memory-limit", text, &config->memory_limit_bytes);
    case KEY_DEVICE:
        config->device = text;
        return DPR_OK;
    case KEY_DTYPE:
        return parse_dtype(text, &config->dtype);
    case KEY_COMM:
        config->comm = text;
        return DPR_OK;
    case KEY_COMM_CTAS:
        return parse_count("comm-ctas", text, &config->comm_ctas);
    case KEY_CUDA_GRAPH:
        config->cuda_graph = true;
        return DPR_OK;
    case KEY_TIMEOUT:
        return parse_seconds("timeout", text, &config->timeout_sec);
    case KEY_REFRESH:
        return parse_long("refresh", text, 0, &config->refresh_steps);
    case KEY_CLOCK:
        config->clock = text;
        return DPR_OK;
    case KEY_COST_MODEL:
        config->cost_model = text;
        return DPR_OK;
    case KEY_CALIBRATE:
        return parse_count("calibrate", text, &config->calibrate_steps);
    default:
        return parse_seed("chaos", text, &config->chaos_seed);
    }
}

static dpr_status_t take_output(int key, char *text, train_options_t *options)
{
    switch (key) {
    case KEY_VERIFY:
        options->config.verify = true;
        return DPR_OK;
    case KEY_REPORT:
        options->output.report = text;
        return DPR_OK;
    case KEY_TRACE:
        options->output.trace = text;
        return DPR_OK;
    case KEY_HTML:
        options->output.html = text;
        return DPR_OK;
    case KEY_SAVE:
        options->output.save = text;
        return DPR_OK;
    case KEY_DETAILS:
        options->output.details = true;
        return DPR_OK;
    case KEY_ASCII:
        options->output.ascii = true;
        return text == NULL ? DPR_OK : parse_count("ascii", text, &options->output.width);
    default:
        options->quiet = true;
        return DPR_OK;
    }
}

typedef struct parse_state {
    train_options_t *options;
    int bad; /* index of the argument that argp did not take */
    dpr_status_t status;
} parse_state_t;

static dpr_status_t take_option(int key, char *text, struct argp_state *state,
                                train_options_t *options)
{
    switch (key) {
    case KEY_HELP:
        if (is_first_rank()) {
            argp_help(state->root_argp, stdout,
                      ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, state->name);
        }
        options->shown = true;
        return DPR_OK;
    case KEY_VERSION:
        if (is_first_rank()) {
            puts(DPR_VERSION_TEXT);
        }
        options->shown = true;
        return DPR_OK;
    case KEY_VERIFY:
    case KEY_REPORT:
    case KEY_TRACE:
    case KEY_HTML:
    case KEY_SAVE:
    case KEY_DETAILS:
    case KEY_ASCII:
    case KEY_QUIET:
        return take_output(key, text, options);
    default:
        break;
    }
    const bool training = (key >= KEY_DATA && key <= KEY_SEED);
    return training ? take_training(key, text, &options->config)
                    : take_pipeline(key, text, &options->config);
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
    if ((key < KEY_SCHEDULE || key > KEY_CHAOS) && key != KEY_HELP && key != KEY_QUIET &&
        key != KEY_VERSION) {
        return ARGP_ERR_UNKNOWN;
    }
    if (parse->options->shown) {
        return 0;
    }
    parse->status = take_option(key, text, state, parse->options);
    return parse->status == DPR_OK ? 0 : EINVAL;
}

/* Puts the schedules' names before what the option's text says. */
static char *filter_help(int key, const char *text, void *input)
{
    (void)input;
    if (key != KEY_SCHEDULE) {
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
    static const struct argp argp = {
        .options = argp_options, .parser = parse_one, .doc = argp_doc, .help_filter = filter_help};
    parse_state_t parse = {.options = options, .status = DPR_OK};
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
