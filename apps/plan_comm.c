/* dualpipe_plan comm: messages and bytes, what the links must bear, and gradient reductions. */
#include "apps/plan_comm.h"
#include "apps/plan.h"

static dpr_status_t take_bytes(const option_row_t *row, char *text, void *into)
{
    uint64_t bytes;
    DPR_TRY(plan_parse_count(row->name, text, 1, (uint64_t)row->most, &bytes));
    *(int64_t *)option_place(row, into) = (int64_t)bytes;
    return DPR_OK;
}

static const option_row_t own_options[] = {
    {"schedule-file", "CSV", "Program to read instead of --schedule, --ranks and --micro-batches",
     OPTION_FIELD(plan_comm_t, file)},
    {"message-bytes", "N", "Bytes of one activation or gradient between stages (default 1Mi)",
     OPTION_BY(take_bytes, plan_comm_t, message_bytes), 1, 0x1p50},
    {"gradient-bytes", "N",
     "Bytes of the parameters' gradients of one rank's share of the model: count the reductions, "
     "too",
     OPTION_BY(take_bytes, plan_comm_t, gradient_bytes), 1, 0x1p44},
    {"replicas", "R", "Data-parallel copies of the pipeline (default 1)",
     OPTION_FIELD(plan_comm_t, replicas), 1, 1 << 20},
    {"tolerance", "X",
     "Transfers count as hidden while the step is at most X longer, as a fraction (default 0.01)",
     OPTION_FIELD(plan_comm_t, tolerance), 0.0, 10.0},
    {"latency", "T", "Time before the first byte of a message, in the unit of --cost (default 0)",
     OPTION_FIELD(plan_comm_t, latency), 0.0, 1e300},
    {"crossover", NULL, "Also find the wire time at which each two schedules change places",
     OPTION_FIELD(plan_comm_t, crossover)},
    {"most-wire", "T", "Longest wire time to look at for that (default 4 (F+B))",
     OPTION_FIELD(plan_comm_t, most_wire), 1e-300, 1e300},
    {0},
};

static const char doc[] =
    "Counts the messages of a step, per channel, rank and schedule; finds the wire time that stays "
    "hidden, hence the bandwidth needed, and the gradient reductions after the step. The model is "
    "the same for all: costs are of one of P stages."
    "\vExamples:\n"
    "  dualpipe_plan comm --ranks 4 --micro-batches 16 --message-bytes 16Mi\n"
    "  dualpipe_plan comm --schedule dualpipe --ranks 4 --micro-batches 8 \\\n"
    "      --gradient-bytes 500M --replicas 2\n"
    "  dualpipe_plan comm --schedule 1f1b,zb1p,dualpipe --ranks 8 \\\n"
    "      --micro-batches 32 --crossover";

static dpr_status_t run(void *options)
{
    plan_comm_t *comm = options;
    DPR_TRY(comm->file != NULL ? plan_schedules_expect_none(&comm->schedules)
                               : plan_schedules_complete(&comm->schedules, true));
    return plan_comm_report(comm);
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_schedules_options, .offset = offsetof(plan_comm_t, schedules)},
    {plan_cost_options, .offset = offsetof(plan_comm_t, costs)},
    {plan_output_options, .offset = offsetof(plan_comm_t, format)},
    {0},
};

const plan_command_t plan_comm_command = {
    .name = "comm",
    .summary = "messages, bytes, bandwidth needed, reductions",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(plan_comm_t),
    .defaults = &(const plan_comm_t){.costs = DPR_UNIFORM_COSTS_DEFAULT,
                                     .message_bytes = 1 << 20,
                                     .replicas = 1,
                                     .tolerance = 0.01},
    .run = run,
};
