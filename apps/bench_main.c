/*
 * dualpipe_bench: measures the parts that a training step is made of, and the step itself.
 *
 * Exit codes: 0 success; 1 a benchmark failed; 2 bad input; 3 a result was not correct.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/plan.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "device/device.h"

static const bench_command_t *const commands[] = {
    &bench_gemm_command,      &bench_p2p_command,  &bench_overlap_command,
    &bench_scheduler_command, &bench_step_command, &bench_referee_command,
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const char *argp_program_version = "dualpipe_bench " DPR_VERSION;

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
    fprintf(out, "Commands (dualpipe_bench COMMAND --help says more):\n");
    for (int i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out, "\nAlone a command runs on threads of one process (--ranks), under a launcher on "
                 "its ranks.\n\nExit codes: 0 success, 1 failure, 2 bad input, 3 a result was not "
                 "correct.\n\nExamples:\n"
                 "  dualpipe_bench gemm\n"
                 "  mpirun -np 2 dualpipe_bench step --hidden 1024 --ffn 4096 --json step.json\n"
                 "  mpirun -np 8 dualpipe_bench referee --csv referee.csv --plot referee.svg");
    fclose(out);
    return list; /* argp frees it */
}

typedef struct choice {
    const bench_command_t *command;
    int at; /* its place in argv */
} choice_t;

static dpr_status_t find_command(const char *name, const bench_command_t **command)
{
    char names[256] = "";
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            *command = commands[i];
            return DPR_OK;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", commands[i]->name);
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

/* Whether `argument` asks for help or the version, which only the first rank answers. */
static bool asks_for_text(const char *argument)
{
    static const struct {
        const char *name;
        size_t least; /* characters by which it is known */
    } texts[] = {{"-?", 2}, {"-V", 2}, {"--help", 4}, {"--usage", 4}, {"--version", 4}};
    const size_t length = strlen(argument);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (length >= texts[i].least && strncmp(argument, texts[i].name, length) == 0) {
            return true;
        }
    }
    return false;
}

/* Ranks but the first say nothing of the command line, which is the same for all. */
static int answer_silently(int argc, char *argv[])
{
    for (int i = 1; i < argc; i++) {
        if (asks_for_text(argv[i])) {
            exit(PLAN_OK);
        }
    }
    return ARGP_SILENT;
}

/* A number that stands for the arguments. */
static uint64_t fingerprint(int argc, char *argv[])
{
    uint64_t number = 0;
    for (int i = 0; i < argc; i++) {
        for (const char *at = argv[i]; *at != '\0'; at++) {
            number = dpr_random_mix(number ^ (unsigned char)*at);
        }
        number = dpr_random_mix(number);
    }
    return number;
}

static dpr_status_t check(const bench_command_t *command, void *options)
{
    const bench_common_t *common = options;
    if (!command->has_model_clock && strcmp(common->clock, "model") == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--clock 'model': %s measures, so expected one of auto, wall, core",
                        command->name);
    }
    return command->check != NULL ? command->check(options) : DPR_OK;
}

static int run_command(const bench_command_t *command, int argc, char *argv[], unsigned flags)
{
    void *options;
    if (dpr_calloc(1, command->options_bytes, &options) != DPR_OK) {
        return PLAN_FAILURE;
    }
    command->set_defaults(options);
    int code = PLAN_BAD_INPUT;
    if (argp_parse(command->argp, argc, argv, flags, NULL, options) == 0) {
        const dpr_status_t checked = check(command, options);
        code = checked == DPR_OK ? bench_launch(command, options, fingerprint(argc, argv))
                                 : (int)plan_exit_of(checked);
    }
    free(options);
    return code;
}

int main(int argc, char *argv[])
{
    static const struct argp argp = {
        .parser = parse,
        .args_doc = "COMMAND [OPTION...]",
        .doc = "Benchmarks of the DualPipe runtime, from one product to a whole step.\v",
        .help_filter = list_commands};
    dpr_cuda_environment();
    bench_messages_start("dualpipe_bench");
    argp_err_exit_status = PLAN_BAD_INPUT;
    const unsigned flags = bench_is_first_rank() ? 0 : (unsigned)answer_silently(argc, argv);
    choice_t choice = {0};
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER | flags, NULL, &choice) != 0) {
        return PLAN_BAD_INPUT;
    }
    char name[64];
    snprintf(name, sizeof name, "dualpipe_bench %s", choice.command->name);
    argv[choice.at] = name;
    const int code = run_command(choice.command, argc - choice.at, argv + choice.at, flags);
    if (fflush(stdout) != 0 && code == PLAN_OK) {
        fprintf(stderr, "dualpipe_bench: error: %s\n", strerror(errno));
        return PLAN_FAILURE;
    }
    return code;
}
