/* dualpipe_plan schedule: prints a schedule as CSV. */
#include "apps/plan.h"

#include <stdio.h>

#include "schedule/csv.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = state->input;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const char doc[] =
    "Prints the program that a schedule plays: one line per rank, its actions in order (2F0 is the "
    "forward of stage 2, micro-batch 0; B its backward; I and W the backward's halves)."
    "\vExample:\n"
    "  dualpipe_plan schedule --schedule dualpipe --ranks 4 --micro-batches 8";

int plan_schedule_run(int argc, char *argv[])
{
    static const struct argp_child children[] = {{.argp = &plan_generator_argp}, {0}};
    static const struct argp argp = {.parser = parse, .doc = doc, .children = children};
    plan_source_t source = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &source) != 0) {
        return PLAN_BAD_INPUT;
    }
    dpr_program_t program;
    dpr_status_t status = plan_source_load(&source, &program);
    if (status != DPR_OK) {
        return plan_exit_of(status);
    }
    status = dpr_csv_write(&program, stdout);
    dpr_program_free(&program);
    return status == DPR_OK ? PLAN_OK : PLAN_FAILURE;
}
