/* dualpipe_plan throughput: how fast a layout trains a model on a machine. */
#include <stdio.h>

#include "apps/plan.h"
#include "apps/plan_machine.h"
#include "apps/plan_options.h"

enum { SIZE_MAX_INT = 1 << 20 };

typedef struct options {
    plan_source_t source;
    plan_machine_t machine;
    plan_format_t format;
    int size;
    int replicas;
} options_t;

static const option_row_t own_options[] = {
    {"micro-batch-size", "N", "Samples of a micro-batch (default 1)", OPTION_FIELD(options_t, size),
     1, SIZE_MAX_INT},
    {"replicas", "N", "Data-parallel copies of the pipeline (default 1)",
     OPTION_FIELD(options_t, replicas), 1, SIZE_MAX_INT},
    {0},
};

static const char doc[] =
    "Predicts the step time of a transformer on a machine: the pipeline by simulation, then the "
    "reduction of gradients and the optimizer. docs/models-throughput.md has the formulas."
    "\vExample:\n"
    "  dualpipe_plan throughput --schedule dualpipe --ranks 8 --micro-batches 32 \\\n"
    "      --parameters 7G --hidden 4096 --sequence 4096 --hardware h100";

static const plan_column_t fact_columns[] = {
    PLAN_MACHINE_COLUMNS,
    PLAN_LAYOUT_COLUMNS,
    {"devices", "devices", PLAN_INT},
    {"global_batch", "global batch", PLAN_INT},
    PLAN_TIME_COLUMNS("step", "step"),
    PLAN_TIME_COLUMNS("pipeline", "  pipeline"),
    PLAN_TIME_COLUMNS("reduction", "  reduction"),
    PLAN_TIME_COLUMNS("update", "  update"),
    {"bubble_ratio", "bubble", PLAN_PERCENT},
    {"samples_per_sec", "samples/s", PLAN_REAL},
    {"tokens_per_sec", "tokens/s", PLAN_REAL},
    {"flops_per_step", "FLOPs a step", PLAN_REAL},
    {"flops_per_sec_per_device", "FLOP/s a device", PLAN_REAL},
    {"utilization", "model FLOPs utilization", PLAN_PERCENT},
    {"peak_bytes", "memory of the fullest rank", PLAN_BYTES},
    {"memory_bytes", "memory of a device", PLAN_BYTES},
    {"fits", "fits", PLAN_BOOL},
};

static const plan_column_t cost_columns[] = {
    {"cost", "cost", PLAN_TEXT},
    PLAN_TIME_COLUMNS("mean", "mean"),
};

static void fill_facts(plan_table_t *facts, const plan_machine_t *machine,
                       const dpr_layout_t *layout, const dpr_throughput_t *found)
{
    plan_table_machine(facts, machine);
    plan_table_text(facts, layout->schedule);
    plan_table_int(facts, layout->ranks);
    plan_table_int(facts, layout->micro_batches);
    plan_table_int(facts, layout->micro_batch_size);
    plan_table_int(facts, layout->replicas);
    plan_table_int(facts, found->devices);
    plan_table_int(facts, (int64_t)found->global_batch);
    plan_table_time(facts, found->step.step_sec);
    plan_table_time(facts, found->step.pipeline_sec);
    plan_table_time(facts, found->step.reduce_sec);
    plan_table_time(facts, found->step.update_sec);
    plan_table_real(facts, found->step.bubble_ratio);
    plan_table_real(facts, found->samples_per_sec);
    plan_table_real(facts, found->tokens_per_sec);
    plan_table_real(facts, found->flops_per_step);
    plan_table_real(facts, found->flops_per_sec_per_device);
    plan_table_real(facts, found->utilization);
    plan_table_int(facts, (int64_t)found->peak_bytes);
    plan_table_int(facts, (int64_t)machine->hardware.memory_bytes);
    plan_table_int(facts, found->fits);
}

static void fill_costs(plan_table_t *costs, const dpr_uniform_costs_t *found)
{
    const struct {
        const char *name;
        double sec;
    } all[] = {{"F", found->f}, {"I", found->i},   {"W", found->w},
               {"B", found->b}, {"FB", found->fb}, {"wire", found->wire}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        plan_table_text(costs, all[i].name);
        plan_table_time(costs, all[i].sec);
    }
}

enum { FACTS, COSTS, TABLES };

static const plan_shape_t shapes[TABLES] = {PLAN_SHAPE(fact_columns), PLAN_SHAPE(cost_columns)};

static dpr_status_t report(const options_t *options, const dpr_layout_t *layout,
                           const dpr_throughput_t *found)
{
    plan_table_t *tables[TABLES];
    DPR_TRY(plan_tables_create(shapes, TABLES, tables));
    fill_facts(tables[FACTS], &options->machine, layout, found);
    fill_costs(tables[COSTS], &found->costs);
    const plan_section_t sections[] = {{"costs", "Costs of one op", tables[COSTS]}};
    const dpr_status_t status = plan_report_write(options->format, "dualpipe-plan-throughput",
                                                  tables[FACTS], sections, 1, stdout);
    plan_tables_destroy(tables, TABLES);
    return status;
}

static dpr_status_t run(void *arguments)
{
    options_t *options = arguments;
    const plan_source_t *source = &options->source;
    DPR_TRY(plan_source_check(source));
    DPR_TRY(plan_machine_complete(&options->machine));
    const dpr_layout_t layout = {source->schedule, source->ranks, source->micro_batches,
                                 options->size, options->replicas};
    dpr_throughput_t found;
    DPR_TRY(dpr_throughput_predict(&options->machine.workload, &options->machine.hardware, &layout,
                                   &found));
    return report(options, &layout, &found);
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_generator_options, offsetof(options_t, source), plan_generator_help},
    {plan_machine_options, .offset = offsetof(options_t, machine)},
    {plan_output_options, .offset = offsetof(options_t, format)},
    {0},
};

const plan_command_t plan_throughput_command = {
    .name = "throughput",
    .summary = "step time, tokens per second, FLOPs utilization",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .defaults = &(const options_t){.machine = PLAN_MACHINE_DEFAULT, .size = 1, .replicas = 1},
    .run = run,
};
