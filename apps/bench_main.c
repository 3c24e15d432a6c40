/*
 * dualpipe_bench: measures the parts that a training step is made of, and the step itself.
 *
 * Exit codes: 0 success; 1 a benchmark failed; 2 bad input; 3 a result was not correct.
 */
#include <stdlib.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/commands.h"
#include "apps/program.h"
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
            exit(PROGRAM_OK);
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
        return PROGRAM_FAILURE;
    }
    command->set_defaults(options);
    int code = PROGRAM_BAD_INPUT;
    if (argp_parse(command->argp, argc, argv, flags, NULL, options) == 0) {
        const dpr_status_t checked = check(command, options);
        code = checked == DPR_OK ? bench_launch(command, options, fingerprint(argc, argv))
                                 : (int)program_exit_of(checked);
    }
    free(options);
    return code;
}

int main(int argc, char *argv[])
{
    command_name_t names[COMMANDS];
    const command_menu_t menu = {
        .program = "dualpipe_bench",
        .doc = "Benchmarks of the DualPipe runtime, from one product to a whole step.\v",
        .closing =
            "\nAlone a command runs on threads of one process (--ranks), under a launcher on "
            "its ranks.\n\nExit codes: 0 success, 1 failure, 2 bad input, 3 a result was not "
            "correct.\n\nExamples:\n"
            "  dualpipe_bench gemm\n"
            "  mpirun -np 2 dualpipe_bench step --hidden 1024 --ffn 4096 --json step.json\n"
            "  mpirun -np 8 dualpipe_bench referee --csv referee.csv --plot referee.svg",
        .names = names,
        .count = COMMANDS};
    int choice;
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = (command_name_t){commands[i]->name, commands[i]->summary};
    }
    dpr_cuda_environment();
    bench_messages_start("dualpipe_bench");
    const unsigned flags = program_is_first_rank() ? 0 : (unsigned)answer_silently(argc, argv);
    if (command_choose(&menu, flags, &argc, &argv, &choice) != DPR_OK) {
        return PROGRAM_BAD_INPUT;
    }
    return command_end("dualpipe_bench", run_command(commands[choice], argc, argv, flags));
}
