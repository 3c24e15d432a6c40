/*
 * dualpipe_plan: the analytical models alone. One machine, no MPI, no GPU.
 *
 * Exit codes: 0 success; 1 a failure of this machine (memory, a full disk); 2 bad input (options,
 * files, programs that are not valid).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/plan.h"
#include "apps/program.h"
#include "base/memory.h"

static const plan_command_t *const commands[] = {
    &plan_schedule_command, &plan_simulate_command,   &plan_bubbles_command,
    &plan_compare_command,  &plan_comm_command,       &plan_memory_command,
    &plan_verify_command,   &plan_throughput_command, &plan_scaling_command,
    &plan_search_command,   &plan_auto_command,       &plan_sensitivity_command,
    &plan_report_command,
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const char *argp_program_version = "dualpipe_plan " DPR_VERSION;

static void print_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    fprintf(stderr, "dualpipe_plan: %s: %s\n", program_level_name(level), message);
}

static int run(const plan_command_t *command, int argc, char *argv[])
{
    void *options;
    if (dpr_calloc(1, command->options_bytes, &options) != DPR_OK) {
        return PROGRAM_FAILURE;
    }
    if (command->defaults != NULL) {
        memcpy(options, command->defaults, command->options_bytes);
    }
    dpr_status_t status = command_line_parse(&command->line, argc, argv, options);
    if (status == DPR_OK) {
        status = command->run(options);
    }
    free(options);
    return (int)program_exit_of(status);
}

int main(int argc, char *argv[])
{
    command_name_t names[COMMANDS];
    const command_menu_t menu = {
        .program = "dualpipe_plan",
        .doc = "Plans pipeline schedules: the analytical models of the DualPipe runtime.\v",
        .closing = "\nExit codes: 0 success, 1 failure, 2 bad input.\n\nExample:\n"
                   "  dualpipe_plan simulate --schedule dualpipe --ranks 8 --micro-batches 20",
        .names = names,
        .count = COMMANDS};
    int choice;
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = (command_name_t){commands[i]->name, commands[i]->summary};
    }
    dpr_log_set_sink(print_message, NULL);
    if (command_choose(&menu, 0, &argc, &argv, &choice) != DPR_OK) {
        return PROGRAM_BAD_INPUT;
    }
    return command_end("dualpipe_plan", run(commands[choice], argc, argv));
}
