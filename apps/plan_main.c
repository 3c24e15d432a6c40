/*
 * dualpipe_plan: the analytical models alone. One machine, no MPI, no GPU.
 *
 * Exit codes: 0 success; 1 a failure of this machine (memory, a full disk); 2 bad input (options,
 * files, programs that are not valid).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "apps/plan.h"
#include "base/log.h"

static const plan_command_t commands[] = {
    {"schedule", "print a schedule as CSV", plan_schedule_run},
    {"simulate", "predict makespan, bubbles and peak activations", plan_simulate_run},
    {"bubbles", "closed forms beside the simulation, and the published table", plan_bubbles_run},
    {"compare", "all schedules side by side, for one model", plan_compare_run},
    {"comm", "messages, bytes, bandwidth needed, reductions", plan_comm_run},
    {"memory", "what every rank holds", plan_memory_run},
    {"verify", "check a program: data flow, deadlock, placement", plan_verify_run},
    {"throughput", "step time, tokens per second, FLOPs utilization", plan_throughput_run},
    {"scaling", "weak and strong scaling, and where it stops paying", plan_scaling_run},
    {"search", "the best layout within limits", plan_search_run},
    {"auto", "the best program that a scheduler finds within limits", plan_auto_run},
    {"sensitivity", "what each cost does to the best layout", plan_sensitivity_run},
    {"report", "draw, explain or compare saved runs", plan_report_run},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const char *argp_program_version = "dualpipe_plan " DPR_VERSION;

static void print_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    fprintf(stderr, "dualpipe_plan: %s: %s\n", levels[level], message);
}

/* The commands, one a line, after argp's list of options. */
static char *list_commands(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC) {
        return (char *)text;
    }
    char *list = NULL;
    size_t length;
    FILE *out = open_memstream(&list, &length);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "Commands (dualpipe_plan COMMAND --help says more):\n");
    for (int i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out, "\nExit codes: 0 success, 1 failure, 2 bad input.\n\nExample:\n"
                 "  dualpipe_plan simulate --schedule dualpipe --ranks 8 --micro-batches 20");
    fclose(out);
    return list; /* argp frees it */
}

typedef struct choice {
    const plan_command_t *command;
    int at; /* its place in argv */
} choice_t;

static dpr_status_t find_command(const char *name, const plan_command_t **command)
{
    char names[256] = "";
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            *command = &commands[i];
            return DPR_OK;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", commands[i].name);
    }
    return dpr_fail(DPR_ERR_INVALID, "unknown command '%s': expected one of %s", name, names);
}

/* Stops at the first word, which is the command; what follows is for that to parse. */
static error_t parse(int key, char *arg, struct argp_state *state)
{
    choice_t *choice = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        choice->at = state->next - 1;
        state->next = state->argc;
        return plan_argp_error(find_command(arg, &choice->command));
    case ARGP_KEY_NO_ARGS:
        return plan_argp_error(
            dpr_fail(DPR_ERR_INVALID, "a command is missing; --help lists them"));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char *argv[])
{
    static const struct argp argp = {
        .parser = parse,
        .args_doc = "COMMAND [OPTION...]",
        .doc = "Plans pipeline schedules: the analytical models of the DualPipe runtime.\v",
        .help_filter = list_commands};
    dpr_log_set_sink(print_message, NULL);
    argp_err_exit_status = PLAN_BAD_INPUT;
    choice_t choice = {0};
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice) != 0) {
        return PLAN_BAD_INPUT;
    }
    char name[64];
    snprintf(name, sizeof name, "dualpipe_plan %s", choice.command->name);
    argv[choice.at] = name;
    const int code = choice.command->run(argc - choice.at, argv + choice.at);
    if (fflush(stdout) != 0 && code == PLAN_OK) {
        print_message(NULL, DPR_LOG_ERROR, strerror(errno));
        return PLAN_FAILURE;
    }
    return code;
}
