/* Options of dualpipe_bench that say which program and model is played. */
#include "apps/bench_rig.h"
#include "apps/option_table.h"

enum key {
    KEY_SCHEDULE = 0x6000,
    KEY_MICRO_BATCHES,
    KEY_MICRO_BATCH_SIZE,
    KEY_HIDDEN,
    KEY_FFN,
    KEY_BLOCKS,
    KEY_SEED,
};

static dpr_status_t take_model(int key, char *arg, dpr_train_config_t *config)
{
    int seed = 0;
    switch (key) {
    case KEY_MICRO_BATCH_SIZE:
        return plan_parse_int("micro-batch-size", arg, 1, 1 << 20, &config->micro_batch_size);
    case KEY_HIDDEN:
        return plan_parse_int("hidden", arg, 1, 1 << 20, &config->hidden);
    case KEY_FFN:
        return plan_parse_int("ffn", arg, 1, 1 << 22, &config->ffn);
    case KEY_BLOCKS:
        return plan_parse_int("blocks", arg, 1, 1 << 20, &config->blocks);
    default:
        DPR_TRY(plan_parse_int("seed", arg, 0, INT32_MAX, &seed));
        config->seed = (uint64_t)seed;
        return DPR_OK;
    }
}

static error_t parse_model(int key, char *arg, struct argp_state *state)
{
    bench_load_t *load = state->input;
    return key < KEY_MICRO_BATCH_SIZE || key > KEY_SEED
               ? ARGP_ERR_UNKNOWN
               : plan_argp_error(take_model(key, arg, &load->config));
}

static const struct argp_option model_options[] = {
    {.doc = "Model:", .group = 3},
    {.name = "micro-batch-size",
     .key = KEY_MICRO_BATCH_SIZE,
     .arg = "N",
     .doc = "Samples in a micro-batch (default 32)",
     .group = 3},
    {.name = "hidden",
     .key = KEY_HIDDEN,
     .arg = "N",
     .doc = "Width of the activations (default 256)",
     .group = 3},
    {.name = "ffn",
     .key = KEY_FFN,
     .arg = "N",
     .doc = "Inner width of a block (default 1024)",
     .group = 3},
    {.name = "blocks",
     .key = KEY_BLOCKS,
     .arg = "N",
     .doc = "Residual blocks (default: of a program 16, or twice the ranks where that is more; of "
            "one stage 1)",
     .group = 3},
    {.name = "seed", .key = KEY_SEED, .arg = "N", .doc = "Of weights and batch", .group = 3},
    {0},
};

const struct argp bench_load_model_argp = {.options = model_options, .parser = parse_model};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bench_load_t *load = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = load;
        return 0;
    case KEY_SCHEDULE:
        return plan_argp_error(bench_parse_schedules("schedule", arg, &load->schedules));
    case KEY_MICRO_BATCHES:
        return plan_argp_error(
            bench_parse_list("micro-batches", arg, 1, DPR_MAX_MICRO_BATCHES, &load->micro_batches));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option load_options[] = {
    {.doc = "Programs:", .group = 2},
    {.name = "schedule",
     .key = KEY_SCHEDULE,
     .arg = "NAME,...",
     .doc = "Schedules, with commas between them",
     .group = 2},
    {.name = "micro-batches",
     .key = KEY_MICRO_BATCHES,
     .arg = "M,...",
     .doc = "Micro-batches a step (default: the least allowed from 5/2 of the ranks up)",
     .group = 2},
    {0},
};

static const struct argp_child children[] = {{.argp = &bench_load_model_argp}, {0}};

const struct argp bench_load_argp = {
    .options = load_options, .parser = parse, .children = children};

void bench_load_default(bench_load_t *load)
{
    *load = (bench_load_t){0};
    dpr_train_config_default(&load->config);
}

/* ---- Commands with no options of their own ---- */

const struct argp_child bench_load_children[] = {
    {.argp = &bench_load_argp}, {.argp = &bench_common_argp}, {0}};

const struct argp_child bench_load_model_children[] = {
    {.argp = &bench_load_model_argp}, {.argp = &bench_common_argp}, {0}};

error_t bench_rig_options_parse(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    bench_rig_options_t *options = state->input;
    if (key != ARGP_KEY_INIT) {
        return ARGP_ERR_UNKNOWN;
    }
    state->child_inputs[0] = &options->load;
    state->child_inputs[1] = &options->common;
    return 0;
}

void bench_rig_options_default(bench_rig_options_t *options, int ranks, int repeats, int warm_up)
{
    options->common = bench_common_default(ranks, repeats, warm_up);
    bench_load_default(&options->load);
}
