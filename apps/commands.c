/* See commands.h. */
#include "apps/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "apps/option_table.h"
#include "apps/program.h"
#include "base/log.h"

typedef struct choice {
    const command_menu_t *menu;
    int command;
    int at; /* its place in argv */
} choice_t;

/* The commands, one a line, after argp's list of options. */
static char *list_commands(int key, const char *text, void *input)
{
    if (key != ARGP_KEY_HELP_POST_DOC) {
        return (char *)text;
    }
    const command_menu_t *menu = ((const choice_t *)input)->menu;
    char *list = NULL;
    size_t length;
    FILE *out = open_memstream(&list, &length);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "Commands (%s COMMAND --help says more):\n", menu->program);
    for (int i = 0; i < menu->count; i++) {
        fprintf(out, "  %-12s %s\n", menu->names[i].name, menu->names[i].summary);
    }
    fputs(menu->closing, out);
    fclose(out);
    return list; /* argp frees it */
}

static dpr_status_t find_command(const command_menu_t *menu, const char *name, int *command)
{
    char names[256] = "";
    for (int i = 0; i < menu->count; i++) {
        if (strcmp(menu->names[i].name, name) == 0) {
            *command = i;
            return DPR_OK;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", menu->names[i].name);
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
        return plan_argp_error(find_command(choice->menu, arg, &choice->command));
    case ARGP_KEY_NO_ARGS:
        return plan_argp_error(
            dpr_fail(DPR_ERR_INVALID, "a command is missing; --help lists them"));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

dpr_status_t command_choose(const command_menu_t *menu, unsigned flags, int *argc, char ***argv,
                            int *choice)
{
    static char name[64]; /* argv[0] from now on */
    const struct argp argp = {.parser = parse,
                              .args_doc = "COMMAND [OPTION...]",
                              .doc = menu->doc,
                              .help_filter = list_commands};
    choice_t found = {.menu = menu};
    argp_err_exit_status = PROGRAM_BAD_INPUT;
    if (argp_parse(&argp, *argc, *argv, ARGP_IN_ORDER | flags, NULL, &found) != 0) {
        return DPR_ERR_INVALID;
    }
    snprintf(name, sizeof name, "%s %s", menu->program, menu->names[found.command].name);
    *argc -= found.at;
    *argv += found.at;
    (*argv)[0] = name;
    *choice = found.command;
    return DPR_OK;
}

int command_end(const char *program, int code)
{
    if (fflush(stdout) != 0 && code == PROGRAM_OK) {
        fprintf(stderr, "%s: error: %s\n", program, strerror(errno));
        return PROGRAM_FAILURE;
    }
    return code;
}
