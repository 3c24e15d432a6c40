/* dualpipe_plan schedule: prints a schedule as CSV, or as JSON. */
#include "apps/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"

typedef struct options {
    plan_source_t source;
    bool json;
} options_t;

static const option_row_t own_options[] = {
    {"json", NULL, "Print JSON instead (docs/plan-json.md)", OPTION_FIELD(options_t, json)},
    {0},
};

static const char doc[] =
    "Prints the program that a schedule plays: one line per rank, its actions in order (2F0 is the "
    "forward of stage 2, micro-batch 0; B its backward; I and W the backward's halves)."
    "\vExample:\n"
    "  dualpipe_plan schedule --schedule dualpipe --ranks 4 --micro-batches 8";

/* The actions of one line of the CSV, in which none holds a comma; the line is cut into pieces. */
static json_t *line_to_json(char *line)
{
    json_t *actions = json_array();
    char *rest = NULL;
    for (char *action = strtok_r(line, ",", &rest); action != NULL;
         action = strtok_r(NULL, ",", &rest)) {
        json_array_append_new(actions, json_string(action));
    }
    return actions;
}

/* One array of actions a rank, from the text of the CSV; NULL where memory ran out. */
static json_t *ranks_to_json(const dpr_program_t *program)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    const bool written = dpr_csv_write(program, out) == DPR_OK;
    const bool closed = fclose(out) == 0;
    json_t *ranks = written && closed ? json_array() : NULL;
    char *rest = text;
    for (int r = 0; r < program->ranks && ranks != NULL && rest != NULL; r++) {
        json_array_append_new(ranks, line_to_json(strsep(&rest, "\n")));
    }
    free(text);
    return ranks;
}

static dpr_status_t print_json(const char *name, const dpr_program_t *program)
{
    json_t *root = json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:o}", "format",
                             "dualpipe-plan-schedule", "version", 1, "schedule", name, "ranks",
                             program->ranks, "stages", program->stages, "micro_batches",
                             program->micro_batches, "actions", ranks_to_json(program));
    if (root == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "no memory for the JSON");
    }
    const bool printed = json_dumpf(root, stdout, JSON_INDENT(2)) == 0;
    putchar('\n');
    json_decref(root);
    return printed && fflush(stdout) == 0
               ? DPR_OK
               : dpr_fail(DPR_ERR_SYSTEM, "cannot write the JSON to standard output: %m");
}

static dpr_status_t run(void *arguments)
{
    const options_t *options = arguments;
    dpr_program_t program;
    DPR_TRY(plan_source_load(&options->source, &program));
    const dpr_status_t status = options->json ? print_json(options->source.schedule, &program)
                                              : dpr_csv_write(&program, stdout);
    dpr_program_free(&program);
    return status == DPR_OK ? DPR_OK : DPR_ERR_SYSTEM; /* no input of the user's failed */
}

static const option_table_t tables[] = {
    {.rows = own_options},
    {plan_generator_options, offsetof(options_t, source), plan_generator_help},
    {0},
};

const plan_command_t plan_schedule_command = {
    .name = "schedule",
    .summary = "print a schedule as CSV",
    .line = {.tables = tables, .doc = doc},
    .options_bytes = sizeof(options_t),
    .run = run,
};
