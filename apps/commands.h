/* A program of several commands: its first word chooses one, and its --help lists them. */
#ifndef DPR_APPS_COMMANDS_H
#define DPR_APPS_COMMANDS_H

#include "base/status.h"

typedef struct command_name {
    const char *name;
    const char *summary; /* one line of the list */
} command_name_t;

typedef struct command_menu {
    const char *program;
    const char *doc;     /* the head of its help, with "\v" at the end */
    const char *closing; /* what comes behind the list */
    const command_name_t *names;
    int count;
} command_menu_t;

/*
 * Parses argv up to the first word and finds its command: *choice is its place in the menu, and
 * *argc and *argv become the command's own, with "PROGRAM COMMAND" as argv[0]. `flags` are
 * argp_parse's. Answers --help and --version, and ends the program then. Call once. Errors:
 * DPR_ERR_INVALID, logged or printed.
 */
dpr_status_t command_choose(const command_menu_t *menu, unsigned flags, int *argc, char ***argv,
                            int *choice);

/* Sends out what is left to print; returns the program's exit code, `code` unless that fails. */
int command_end(const char *program, int code);

#endif
