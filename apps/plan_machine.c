/* Options of a model on a machine, and of a search's limits. */
#include "apps/plan_machine.h"

#include <string.h>
#include <unistd.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "runtime/hardware_file.h"

enum { SIZE_MAX_INT = 1 << 20, SEQUENCE_MAX = 1 << 24 };

enum key {
    KEY_HARDWARE = 0x5000,
    KEY_OUTPUT,
    KEY_PRECISION,
    KEY_PARAMETERS,
    KEY_LAYERS,
    KEY_HIDDEN,
    KEY_SEQUENCE,
    KEY_OPTIMIZER,
    KEY_FB_FACTOR,
    KEY_MIN_RANKS,
    KEY_MAX_RANKS,
    KEY_MAX_DEVICES,
    KEY_BATCH,
    KEY_MEMORY,
    KEY_SCHEDULE,
    KEY_THREADS,
};

/* ---- The model and the machine ---- */

plan_machine_t plan_machine_default(void)
{
    return (plan_machine_t){
        .name = "h100",
        .output = "hardware-measured.json",
        .workload = {.precision = DPR_PRECISION_BF16, .state = DPR_STATE_ADAMW, .fb_factor = 1.0},
    };
}

static error_t parse_machine(int key, char *arg, struct argp_state *state)
{
    plan_machine_t *machine = state->input;
    dpr_workload_t *workload = &machine->workload;
    switch (key) {
    case KEY_HARDWARE:
        machine->name = arg;
        return 0;
    case KEY_OUTPUT:
        machine->output = arg;
        return 0;
    case KEY_PRECISION:
        machine->has_precision = true;
        return plan_argp_error(dpr_precision_parse(arg, &workload->precision));
    case KEY_PARAMETERS:
        return plan_argp_error(plan_parse_count("parameters", arg, 1, UINT64_C(1000000000000000),
                                                &workload->parameters));
    case KEY_LAYERS:
        return plan_argp_error(plan_parse_real("layers", arg, 1.0, 1e6, &workload->layers));
    case KEY_HIDDEN:
        return plan_argp_error(plan_parse_int("hidden", arg, 1, SIZE_MAX_INT, &workload->hidden));
    case KEY_SEQUENCE:
        return plan_argp_error(
            plan_parse_int("sequence", arg, 1, SEQUENCE_MAX, &workload->sequence));
    case KEY_OPTIMIZER:
        return plan_argp_error(dpr_state_kind_parse(arg, &workload->state));
    case KEY_FB_FACTOR:
        return plan_argp_error(plan_parse_real("fb-factor", arg, 0.5, 1.0, &workload->fb_factor));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option machine_options[] = {
    {.name = "hardware",
     .key = KEY_HARDWARE,
     .arg = "NAME|FILE",
     .doc = "h100 (default), h200, a100, b200, cpu-generic, a description file, or measure: this "
            "machine, a device being one core"},
    {.name = "hardware-output",
     .key = KEY_OUTPUT,
     .arg = "FILE",
     .doc = "Where --hardware measure writes the description (default hardware-measured.json)"},
    {.name = "precision",
     .key = KEY_PRECISION,
     .arg = "NAME",
     .doc = "fp32, tf32 or bf16 (default: bf16 where the hardware has it, else fp32)"},
    {.name = "parameters", .key = KEY_PARAMETERS, .arg = "N", .doc = "Of the whole model: 7G"},
    {.name = "layers",
     .key = KEY_LAYERS,
     .arg = "L",
     .doc = "Default: as many as the parameters and hidden make, 12 h^2 + 13 h each"},
    {.name = "hidden", .key = KEY_HIDDEN, .arg = "H", .doc = "Width of an activation"},
    {.name = "sequence", .key = KEY_SEQUENCE, .arg = "S", .doc = "Tokens of a sample"},
    {.name = "optimizer", .key = KEY_OPTIMIZER, .arg = "NAME", .doc = "adamw (default) or sgd"},
    {.name = "fb-factor",
     .key = KEY_FB_FACTOR,
     .arg = "X",
     .doc = "Time of an overlapped F&B over that of F and B, 0.5 to 1 (default 1: no gain)"},
    {0},
};

const struct argp plan_machine_argp = {.options = machine_options, .parser = parse_machine};

static dpr_status_t load_hardware(plan_machine_t *machine)
{
    if (strcmp(machine->name, "measure") == 0) {
        return plan_measure(machine->output, &machine->hardware);
    }
    /* The source's folder while there is one, else the installed copy. */
    const bool in_source = access(DPR_HARDWARE_FOLDER, R_OK) == 0;
    char path[4096];
    DPR_TRY(dpr_hardware_find(machine->name,
                              in_source ? DPR_HARDWARE_FOLDER : DPR_HARDWARE_INSTALLED, path,
                              sizeof path));
    return dpr_hardware_read(path, &machine->hardware);
}

dpr_status_t plan_machine_complete(plan_machine_t *machine)
{
    dpr_workload_t *workload = &machine->workload;
    if (workload->parameters == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--parameters is missing: expected a whole number from 1 to 10^15");
    }
    DPR_TRY(plan_expect_int("hidden", workload->hidden, 1, SIZE_MAX_INT));
    DPR_TRY(plan_expect_int("sequence", workload->sequence, 1, SEQUENCE_MAX));
    DPR_TRY(load_hardware(machine));
    if (!machine->has_precision && machine->hardware.peak_flops_per_sec[DPR_PRECISION_BF16] == 0) {
        workload->precision = DPR_PRECISION_FP32;
    }
    DPR_TRY(dpr_hardware_has(&machine->hardware, workload->precision));
    return dpr_workload_check(workload);
}

dpr_status_t plan_layout_check(const plan_source_t *source)
{
    dpr_program_t program;
    DPR_TRY(plan_source_load(source, &program));
    dpr_program_free(&program);
    return DPR_OK;
}

/* ---- A search's limits ---- */

static error_t parse_space(int key, char *arg, struct argp_state *state)
{
    dpr_search_options_t *options = state->input;
    switch (key) {
    case KEY_MIN_RANKS:
        return plan_argp_error(
            plan_parse_int("min-ranks", arg, 1, DPR_MAX_RANKS, &options->min_ranks));
    case KEY_MAX_RANKS:
        return plan_argp_error(
            plan_parse_int("max-ranks", arg, 1, DPR_MAX_RANKS, &options->max_ranks));
    case KEY_MAX_DEVICES:
        return plan_argp_error(
            plan_parse_int("max-devices", arg, 1, SIZE_MAX_INT, &options->max_devices));
    case KEY_BATCH:
        return plan_argp_error(
            plan_parse_int("batch", arg, 1, SIZE_MAX_INT, &options->global_batch));
    case KEY_MEMORY: {
        uint64_t bytes = 0;
        const dpr_status_t status =
            plan_parse_count("memory", arg, 1, UINT64_C(1000000000000000000), &bytes);
        options->memory_bytes = (double)bytes;
        return plan_argp_error(status);
    }
    case KEY_SCHEDULE:
        options->schedule = arg;
        return 0;
    case KEY_THREADS:
        return plan_argp_error(plan_parse_int("threads", arg, 0, 256, &options->threads));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option space_options[] = {
    {.name = "min-ranks", .key = KEY_MIN_RANKS, .arg = "P", .doc = "Fewest pipeline ranks (1)"},
    {.name = "max-ranks", .key = KEY_MAX_RANKS, .arg = "P", .doc = "Most pipeline ranks"},
    {.name = "max-devices",
     .key = KEY_MAX_DEVICES,
     .arg = "N",
     .doc = "Most devices, ranks times replicas (default: --max-ranks)"},
    {.name = "batch", .key = KEY_BATCH, .arg = "N", .doc = "Samples of a step, all replicas"},
    {.name = "memory",
     .key = KEY_MEMORY,
     .arg = "BYTES",
     .doc = "Of a device; with K, M, G or T: powers of 1000; with Ki, Mi, Gi or Ti: of 1024 "
            "(default: what the hardware has)"},
    {.name = "schedule", .key = KEY_SCHEDULE, .arg = "NAME", .doc = "Only this one (default: all)"},
    {.name = "threads", .key = KEY_THREADS, .arg = "N", .doc = "0 (default): all cores"},
    {0},
};

const struct argp plan_space_argp = {.options = space_options, .parser = parse_space};

dpr_status_t plan_space_complete(dpr_search_options_t *options)
{
    DPR_TRY(plan_expect_int("max-ranks", options->max_ranks, 1, DPR_MAX_RANKS));
    DPR_TRY(plan_expect_int("batch", options->global_batch, 1, SIZE_MAX_INT));
    options->min_ranks = options->min_ranks > 0 ? options->min_ranks : 1;
    options->max_devices = options->max_devices > 0 ? options->max_devices : options->max_ranks;
    if (options->min_ranks > options->max_ranks) {
        return dpr_fail(DPR_ERR_INVALID, "--min-ranks %d: expected 1 to %d, which is --max-ranks",
                        options->min_ranks, options->max_ranks);
    }
    if (options->max_devices < options->max_ranks) {
        return dpr_fail(DPR_ERR_INVALID, "--max-devices %d: expected at least %d, --max-ranks",
                        options->max_devices, options->max_ranks);
    }
    return DPR_OK;
}

/* ---- Cells ---- */

void plan_table_time(plan_table_t *table, double sec)
{
    plan_table_real(table, sec);
    plan_table_real(table, sec * 1e3);
}

void plan_table_candidate(plan_table_t *table, const dpr_candidate_t *candidate)
{
    plan_table_text(table, candidate->schedule);
    plan_table_int(table, candidate->ranks);
    plan_table_int(table, candidate->micro_batches);
    plan_table_int(table, candidate->micro_batch_size);
    plan_table_int(table, candidate->replicas);
}

void plan_table_machine(plan_table_t *table, const plan_machine_t *machine)
{
    plan_table_text(table, machine->hardware.name);
    plan_table_text(table, dpr_precision_name(machine->workload.precision));
    plan_table_int(table, (int64_t)machine->workload.parameters);
    plan_table_int(table, machine->workload.hidden);
    plan_table_int(table, machine->workload.sequence);
}
