/* Options of a model on a machine, and of a search's limits. */
#include "apps/plan_machine.h"

#include <string.h>
#include <unistd.h>

#include "apps/plan.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "runtime/hardware_file.h"

enum { SIZE_MAX_INT = 1 << 20, SEQUENCE_MAX = 1 << 24 };

/* ---- The model and the machine ---- */

static dpr_status_t take_precision(const option_row_t *row, char *text, void *into)
{
    (void)row;
    plan_machine_t *machine = into;
    machine->has_precision = true;
    return dpr_precision_parse(text, &machine->workload.precision);
}

static dpr_status_t take_optimizer(const option_row_t *row, char *text, void *into)
{
    return dpr_state_kind_parse(text, option_place(row, into));
}

const option_row_t plan_machine_options[] = {
    {"hardware", "NAME|FILE",
     "h100 (default), h200, a100, b200, cpu-generic, a description file, or measure: this machine, "
     "a device being one core",
     OPTION_FIELD(plan_machine_t, name)},
    {"hardware-output", "FILE",
     "Where --hardware measure writes the description (default hardware-measured.json)",
     OPTION_FIELD(plan_machine_t, output)},
    {"precision", "NAME", "fp32, tf32 or bf16 (default: bf16 where the hardware has it, else fp32)",
     .take = take_precision},
    {"parameters", "N", "Of the whole model: 7G", OPTION_FIELD(plan_machine_t, workload.parameters),
     1, 1e15},
    {"layers", "L", "Default: as many as the parameters and hidden make, 12 h^2 + 13 h each",
     OPTION_FIELD(plan_machine_t, workload.layers), 1.0, 1e6},
    {"hidden", "H", "Width of an activation", OPTION_FIELD(plan_machine_t, workload.hidden), 1,
     SIZE_MAX_INT},
    {"sequence", "S", "Tokens of a sample", OPTION_FIELD(plan_machine_t, workload.sequence), 1,
     SEQUENCE_MAX},
    {"optimizer", "NAME", "adamw (default) or sgd",
     OPTION_BY(take_optimizer, plan_machine_t, workload.state)},
    {"fb-factor", "X",
     "Time of an overlapped F&B over that of F and B, 0.5 to 1 (default 1: no gain)",
     OPTION_FIELD(plan_machine_t, workload.fb_factor), 0.5, 1.0},
    {0},
};

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

/* ---- A search's limits ---- */

static dpr_status_t take_memory(const option_row_t *row, char *text, void *into)
{
    dpr_search_options_t *options = into;
    uint64_t bytes;
    DPR_TRY(plan_parse_count(row->name, text, 1, UINT64_C(1000000000000000000), &bytes));
    options->memory_bytes = (double)bytes;
    return DPR_OK;
}

const option_row_t plan_space_options[] = {
    {"min-ranks", "P", "Fewest pipeline ranks (1)", OPTION_FIELD(dpr_search_options_t, min_ranks),
     1, DPR_MAX_RANKS},
    {"max-ranks", "P", "Most pipeline ranks", OPTION_FIELD(dpr_search_options_t, max_ranks), 1,
     DPR_MAX_RANKS},
    {"max-devices", "N", "Most devices, ranks times replicas (default: --max-ranks)",
     OPTION_FIELD(dpr_search_options_t, max_devices), 1, SIZE_MAX_INT},
    {"batch", "N", "Samples of a step, all replicas",
     OPTION_FIELD(dpr_search_options_t, global_batch), 1, SIZE_MAX_INT},
    {"memory", "BYTES",
     "Of a device; with K, M, G or T: powers of 1000; with Ki, Mi, Gi or Ti: of 1024 (default: "
     "what the hardware has)",
     .take = take_memory},
    {"schedule", "NAME", "Only this one (default: all)",
     OPTION_FIELD(dpr_search_options_t, schedule)},
    {"threads", "N", "0 (default): all cores", OPTION_FIELD(dpr_search_options_t, threads), 0, 256},
    {0},
};

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
