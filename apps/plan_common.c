/* What dualpipe_plan's commands share: where the program comes from, numbers, exit codes. */
#include "apps/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"

enum key { KEY_SCHEDULE = 0x1000, KEY_RANKS, KEY_MICRO_BATCHES, KEY_SCHEDULE_FILE };

dpr_status_t plan_parse_int(const char *option, const char *text, int least, int most, int *value)
{
    char *end;
    errno = 0;
    const long parsed = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || parsed < least || parsed > most) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected a whole number from %d to %d", option,
                        text, least, most);
    }
    *value = (int)parsed;
    return DPR_OK;
}

error_t plan_argp_error(dpr_status_t status)
{
    return status == DPR_OK ? 0 : EINVAL;
}

plan_exit_t plan_exit_of(dpr_status_t status)
{
    switch (status) {
    case DPR_OK:
        return PLAN_OK;
    case DPR_ERR_INVALID:
    case DPR_ERR_PARSE:
    case DPR_ERR_IO:
    case DPR_ERR_DATA:
    case DPR_ERR_PROGRAM:
    case DPR_ERR_DEADLOCK:
    case DPR_ERR_UNSUPPORTED:
        return PLAN_BAD_INPUT;
    default:
        return PLAN_FAILURE;
    }
}

static error_t parse_generator(int key, char *arg, struct argp_state *state)
{
    plan_source_t *source = state->input;
    switch (key) {
    case KEY_SCHEDULE:
        source->schedule = arg;
        return 0;
    case KEY_RANKS:
        return plan_argp_error(plan_parse_int("ranks", arg, 1, DPR_MAX_RANKS, &source->ranks));
    case KEY_MICRO_BATCHES:
        return plan_argp_error(
            plan_parse_int("micro-batches", arg, 1, DPR_MAX_MICRO_BATCHES, &source->micro_batches));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The schedules and their needs, after argp's list of options. */
static char *list_schedules(int key, const char *text, void *input)
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
    fprintf(out, "Schedules of P ranks and M micro-batches:");
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "\n  %s: %s\n      needs %s", schedules[i].name, schedules[i].summary,
                schedules[i].needs);
    }
    fclose(out);
    return list; /* argp frees it */
}

static const struct argp_option generator_options[] = {
    {.name = "schedule", .key = KEY_SCHEDULE, .arg = "NAME", .doc = "Schedule to generate"},
    {.name = "ranks", .key = KEY_RANKS, .arg = "P", .doc = "Number of pipeline ranks"},
    {.name = "micro-batches", .key = KEY_MICRO_BATCHES, .arg = "M", .doc = "Micro-batches a step"},
    {0},
};

const struct argp plan_generator_argp = {
    .options = generator_options, .parser = parse_generator, .help_filter = list_schedules};

static error_t parse_file(int key, char *arg, struct argp_state *state)
{
    plan_source_t *source = state->input;
    if (key != KEY_SCHEDULE_FILE) {
        return ARGP_ERR_UNKNOWN;
    }
    source->file = arg;
    return 0;
}

static const struct argp_option file_options[] = {
    {.name = "schedule-file",
     .key = KEY_SCHEDULE_FILE,
     .arg = "CSV",
     .doc = "Program to read instead, one line of actions per rank, as the schedule command prints "
            "it"},
    {0},
};

const struct argp plan_file_argp = {.options = file_options, .parser = parse_file};

static dpr_status_t expect_size(const plan_source_t *source, const char *option, int given,
                                int found, const char *what)
{
    if (given > 0 && given != found) {
        return dpr_fail(DPR_ERR_INVALID, "--%s %d: %s holds %d %s; leave the option out", option,
                        given, source->file, found, what);
    }
    return DPR_OK;
}

static dpr_status_t load_file(const plan_source_t *source, dpr_program_t *program)
{
    if (source->schedule != NULL) {
        return dpr_fail(DPR_ERR_INVALID, "give either --schedule or --schedule-file, not both");
    }
    dpr_program_t read;
    DPR_TRY(dpr_csv_read(source->file, &read));
    dpr_status_t status = expect_size(source, "ranks", source->ranks, read.ranks, "ranks");
    if (status == DPR_OK) {
        status = expect_size(source, "micro-batches", source->micro_batches, read.micro_batches,
                             "micro-batches");
    }
    if (status != DPR_OK) {
        dpr_program_free(&read);
        return status;
    }
    *program = read;
    return DPR_OK;
}

/* "--schedule 'x': expected one of ..." */
static dpr_status_t fail_schedule(const char *what)
{
    char names[512] = "";
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    for (size_t i = 0; i < count; i++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", schedules[i].name);
    }
    return dpr_fail(DPR_ERR_INVALID, "--schedule %s: expected one of %s", what, names);
}

dpr_status_t plan_source_load(const plan_source_t *source, dpr_program_t *program)
{
    if (source->file != NULL) {
        return load_file(source, program);
    }
    if (source->schedule == NULL) {
        return fail_schedule("is missing");
    }
    if (dpr_schedule_find(source->schedule) == NULL) {
        const size_t length = strcspn(source->schedule, ":");
        if (length == strlen("interleaved-1f1b") &&
            strncmp(source->schedule, "interleaved-1f1b", length) == 0) {
            return dpr_schedule_check(source->schedule, 1, 1); /* says which v there are */
        }
        char quoted[64];
        snprintf(quoted, sizeof quoted, "'%s'", source->schedule);
        return fail_schedule(quoted);
    }
    if (source->ranks == 0) {
        return dpr_fail(DPR_ERR_INVALID, "--ranks is missing: expected a whole number from 1 to %d",
                        DPR_MAX_RANKS);
    }
    if (source->micro_batches == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--micro-batches is missing: expected a whole number from 1 to %d",
                        DPR_MAX_MICRO_BATCHES);
    }
    return dpr_schedule_generate(source->schedule, source->ranks, source->micro_batches, program);
}
