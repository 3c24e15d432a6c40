/* The command line of dualpipe_bench referee. */
#include <stdlib.h>
#include <string.h>

#include "apps/bench_referee.h"
#include "apps/plan.h"
#include "base/log.h"

enum key { KEY_SHAPE = 0x7000, KEY_STEPS, KEY_CALIBRATE, KEY_COST_MODEL, KEY_PLOT };

/* One "HIDDENxFFN[xBLOCKS[xSIZE]]"; returns where it ends, or NULL. */
static const char *parse_shape(const char *text, referee_shape_t *shape)
{
    const long most[] = {1 << 20, 1 << 22, 1 << 20, 1 << 20};
    int *const fields[] = {&shape->hidden, &shape->ffn, &shape->blocks, &shape->micro_batch_size};
    for (int i = 0; i < 4; i++) {
        char *end;
        const long value = strtol(text, &end, 10);
        if (end == text || value < 1 || value > most[i]) {
            return NULL;
        }
        *fields[i] = (int)value;
        text = end;
        if (*text != 'x') {
            return i >= 1 && (*text == '\0' || *text == ',') ? text : NULL;
        }
        text++;
    }
    return NULL;
}

static dpr_status_t parse_shapes(const char *text, referee_options_t *options)
{
    const char *at = text;
    options->shape_count = 0;
    for (;;) {
        referee_shape_t shape = {.micro_batch_size = 32};
        at = options->shape_count < REFEREE_MAX_SHAPES ? parse_shape(at, &shape) : NULL;
        if (at == NULL) {
            return dpr_fail(DPR_ERR_INVALID,
                            "--shape '%s': expected at most %d of HIDDENxFFN[xBLOCKS[xSIZE]], such "
                            "as 256x1024x16x32, each number at least 1, with commas between them",
                            text, (int)REFEREE_MAX_SHAPES);
        }
        options->shapes[options->shape_count++] = shape;
        if (*at == '\0') {
            return DPR_OK;
        }
        at++;
    }
}

static dpr_status_t take(int key, char *arg, referee_options_t *options)
{
    switch (key) {
    case KEY_SHAPE:
        return parse_shapes(arg, options);
    case KEY_STEPS:
        return plan_parse_int("steps", arg, 1, 100000, &options->steps);
    case KEY_CALIBRATE:
        return plan_parse_int("calibrate", arg, 1, 1000, &options->calibrate_steps);
    case KEY_COST_MODEL:
        options->cost_model = arg;
        return DPR_OK;
    default:
        options->plot_path = arg;
        return DPR_OK;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    referee_options_t *options = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &options->load;
        state->child_inputs[1] = &options->common;
        return 0;
    }
    return key < KEY_SHAPE || key > KEY_PLOT ? ARGP_ERR_UNKNOWN
                                             : plan_argp_error(take(key, arg, options));
}

static const struct argp_option option_list[] = {
    {.doc = "Grid:", .group = 1},
    {.name = "shape",
     .key = KEY_SHAPE,
     .arg = "HxF[xB[xN]],...",
     .doc = "Models: hidden, ffn, blocks and micro-batch size, in place of the single options",
     .group = 1},
    {.name = "steps",
     .key = KEY_STEPS,
     .arg = "N",
     .doc = "Steps measured of each row (default 20)",
     .group = 1},
    {.name = "calibrate",
     .key = KEY_CALIBRATE,
     .arg = "N",
     .doc = "Steps that each row is calibrated by (default 30)",
     .group = 1},
    {.name = "cost-model",
     .key = KEY_COST_MODEL,
     .arg = "COSTS",
     .doc = "Costs of the model clock: F=1e-3,I=1e-3,W=1e-3[,B=,FB=,wire=], or a cost file",
     .group = 1},
    {.name = "plot",
     .key = KEY_PLOT,
     .arg = "FILE.svg",
     .doc = "Draw predicted against measured",
     .group = 8},
    {0},
};

static const struct argp_child children[] = {
    {.argp = &bench_load_argp}, {.argp = &bench_common_argp}, {0}};

static const struct argp argp = {
    .options = option_list,
    .parser = parse,
    .children = children,
    .doc =
        "Runs a grid of schedules, micro-batches and models, and holds closed form and simulation "
        "against what was measured. Rows that a schedule does not allow are left out.\v"
        "--repeats runs the whole grid so often; a row is then the run of the median step error, "
        "and least and most are the extremes. error: predicted over measured step, less 1. b: mean "
        "bubble of "
        "the ranks; b error: the ranks' mean absolute error. cost, wire, host, order: what part of "
        "the measured step the error is due to. blame: the largest part, where a row is beyond 3 % "
        "or 1 point."};

static void set_defaults(void *arguments)
{
    referee_options_t *options = arguments;
    *options = (referee_options_t){.steps = 20, .calibrate_steps = 30};
    options->common =
        (bench_common_t){.device = "auto", .clock = "auto", .ranks = 2, .repeats = 1, .warm_up = 2};
    bench_load_default(&options->load);
    (void)bench_parse_schedules("schedule", "1f1b,interleaved-1f1b,zb1p,zbv,dualpipe,dualpipev",
                                &options->load.schedules);
}

static dpr_status_t check(void *arguments)
{
    const referee_options_t *options = arguments;
    const bool is_model = strcmp(options->common.clock, "model") == 0;
    if (is_model && options->cost_model == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "--clock model needs --cost-model: give costs such as "
                                         "F=1e-3,I=1e-3,W=1e-3,wire=1e-4, or a cost file");
    }
    if (!is_model && options->cost_model != NULL) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--cost-model is only used by --clock model, but the clock is %s",
                        options->common.clock);
    }
    return DPR_OK;
}

const bench_command_t bench_referee_command = {
    .name = "referee",
    .summary = "closed form, simulation and measurement of a grid, with errors",
    .options_bytes = sizeof(referee_options_t),
    .has_model_clock = true,
    .set_defaults = set_defaults,
    .argp = &argp,
    .check = check,
    .run = referee_run,
};
