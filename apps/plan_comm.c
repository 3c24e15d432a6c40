/* dualpipe_plan comm: messages and bytes, what the links must bear, and gradient reductions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "apps/plan_comm.h"
#include "apps/plan_options.h"
#include "base/log.h"
#include "base/memory.h"
#include "schedule/csv.h"

enum key {
    KEY_FILE = 0x2000,
    KEY_MESSAGE_BYTES,
    KEY_GRADIENT_BYTES,
    KEY_REPLICAS,
    KEY_TOLERANCE,
    KEY_LATENCY,
    KEY_CROSSOVER,
    KEY_MOST_WIRE,
};

static error_t parse_sizes(int key, const char *arg, plan_comm_t *comm)
{
    uint64_t bytes = 0;
    const char *option = key == KEY_MESSAGE_BYTES ? "message-bytes" : "gradient-bytes";
    const dpr_status_t status = plan_parse_count(
        option, arg, 1, key == KEY_MESSAGE_BYTES ? UINT64_C(1) << 50 : UINT64_C(1) << 44, &bytes);
    *(key == KEY_MESSAGE_BYTES ? &comm->message_bytes : &comm->gradient_bytes) = (int64_t)bytes;
    return plan_argp_error(status);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    plan_comm_t *comm = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &comm->schedules;
        state->child_inputs[1] = &comm->costs;
        state->child_inputs[2] = &comm->format;
        return 0;
    case KEY_FILE:
        comm->file = arg;
        return 0;
    case KEY_MESSAGE_BYTES:
    case KEY_GRADIENT_BYTES:
        return parse_sizes(key, arg, comm);
    case KEY_REPLICAS:
        return plan_argp_error(plan_parse_int("replicas", arg, 1, 1 << 20, &comm->replicas));
    case KEY_TOLERANCE:
        return plan_argp_error(plan_parse_real("tolerance", arg, 0.0, 10.0, &comm->tolerance));
    case KEY_LATENCY:
        return plan_argp_error(plan_parse_real("latency", arg, 0.0, 1e300, &comm->latency));
    case KEY_CROSSOVER:
        comm->crossover = true;
        return 0;
    case KEY_MOST_WIRE:
        return plan_argp_error(plan_parse_real("most-wire", arg, 1e-300, 1e300, &comm->most_wire));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* clang-format off */
static const struct argp_option own_options[] = {
    {"schedule-file", KEY_FILE, "CSV", 0, "Program to read instead of --schedule, --ranks and --micro-batches", 0},
    {"message-bytes", KEY_MESSAGE_BYTES, "N", 0, "Bytes of one activation or gradient between stages (default 1Mi)", 0},
    {"gradient-bytes", KEY_GRADIENT_BYTES, "N", 0, "Bytes of the parameters' gradients of one rank's share of the model: count the reductions, too", 0},
    {"replicas", KEY_REPLICAS, "R", 0, "Data-parallel copies of the pipeline (default 1)", 0},
    {"tolerance", KEY_TOLERANCE, "X", 0, "Transfers count as hidden while the step is at most X longer, as a fraction (default 0.01)", 0},
    {"latency", KEY_LATENCY, "T", 0, "Time before the first byte of a message, in the unit of --cost (default 0)", 0},
    {"crossover", KEY_CROSSOVER, NULL, 0, "Also find the wire time at which each two schedules change places", 0},
    {"most-wire", KEY_MOST_WIRE, "T", 0, "Longest wire time to look at for that (default 4 (F+B))", 0},
    {0},
};
/* clang-format on */

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

int plan_comm_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_schedules_argp},
                                                 {.argp = &plan_cost_argp},
                                                 {.argp = &plan_output_argp},
                                                 {0}};
    static const struct argp argp = {
        .options = own_options, .parser = parse, .doc = doc, .children = children};
    plan_comm_t comm = {.costs = DPR_UNIFORM_COSTS_DEFAULT,
                        .message_bytes = 1 << 20,
                        .replicas = 1,
                        .tolerance = 0.01};
    if (argp_parse(&argp, argc, argv, 0, NULL, &comm) != 0) {
        return PLAN_BAD_INPUT;
    }
    if (comm.file != NULL && (comm.schedules.count > 0 || comm.schedules.ranks > 0 ||
                              comm.schedules.micro_batches > 0)) {
        return plan_exit_of(dpr_fail(DPR_ERR_INVALID, "give either --schedule-file or --schedule, "
                                                      "--ranks and --micro-batches, not both"));
    }
    if (comm.file == NULL) {
        const dpr_status_t status = plan_schedules_complete(&comm.schedules, true);
        if (status != DPR_OK) {
            return plan_exit_of(status);
        }
    }
    return plan_exit_of(plan_comm_report(&comm));
}
