/* Options that all commands of dualpipe_bench have, and how their lists are read. */
#include <stdio.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/option_table.h"
#include "base/log.h"
#include "schedule/generators.h"

enum key {
    KEY_DEVICE = 0x5000,
    KEY_CLOCK,
    KEY_RANKS,
    KEY_REPEATS,
    KEY_WARM_UP,
    KEY_JSON,
    KEY_CSV,
    KEY_QUIET = 'q',
};

enum { MAX_THREAD_RANKS = 64, MAX_REPEATS = 1000000 };

dpr_status_t bench_parse_list(const char *option, const char *text, int least, int most,
                              bench_list_t *list)
{
    bench_list_t parsed = {0};
    const char *at = text;
    for (;;) {
        char part[32];
        const size_t length = strcspn(at, ",");
        if (parsed.count == BENCH_MAX_LIST || length >= sizeof part) {
            return dpr_fail(DPR_ERR_INVALID,
                            "--%s '%s': expected at most %d numbers from %d to %d, with commas "
                            "between them",
                            option, text, (int)BENCH_MAX_LIST, least, most);
        }
        memcpy(part, at, length);
        part[length] = '\0';
        DPR_TRY(plan_parse_int(option, part, least, most, &parsed.values[parsed.count++]));
        if (at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    *list = parsed;
    return DPR_OK;
}

dpr_status_t bench_parse_schedules(const char *option, const char *text, bench_names_t *names)
{
    if (strlen(text) >= sizeof names->text) {
        return dpr_fail(DPR_ERR_INVALID, "--%s: the list is longer than %zu characters", option,
                        sizeof names->text - 1);
    }
    strcpy(names->text, text);
    names->count = 0;
    char *rest = names->text;
    for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
        if (names->count == BENCH_MAX_LIST) {
            return dpr_fail(DPR_ERR_INVALID, "--%s: more than %d names", option,
                            (int)BENCH_MAX_LIST);
        }
        if (dpr_schedule_find(name) == NULL) {
            DPR_TRY(dpr_schedule_check(name, 1, 1)); /* says what is known */
        }
        names->names[names->count++] = name;
    }
    return DPR_OK;
}

static dpr_status_t check_word(const char *option, const char *text, const char *const *words)
{
    char list[96] = "";
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            return DPR_OK;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", words[i]);
    }
    return dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected one of %s", option, text, list);
}

static dpr_status_t take(int key, char *arg, bench_common_t *common)
{
    static const char *const devices[] = {"auto", "host", "cuda", NULL};
    static const char *const clocks[] = {"auto", "wall", "core", "model", NULL};
    switch (key) {
    case KEY_DEVICE:
        common->device = arg;
        return check_word("device", arg, devices);
    case KEY_CLOCK:
        common->clock = arg;
        return check_word("clock", arg, clocks);
    case KEY_RANKS:
        return plan_parse_int("ranks", arg, 1, MAX_THREAD_RANKS, &common->ranks);
    case KEY_REPEATS:
        return plan_parse_int("repeats", arg, 1, MAX_REPEATS, &common->repeats);
    case KEY_WARM_UP:
        return plan_parse_int("warm-up", arg, 0, MAX_REPEATS, &common->warm_up);
    case KEY_JSON:
        common->json_path = arg;
        return DPR_OK;
    case KEY_CSV:
        common->csv_path = arg;
        return DPR_OK;
    default:
        common->quiet = true;
        return DPR_OK;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key == ARGP_KEY_ARG) {
        return plan_argp_error(
            dpr_fail(DPR_ERR_INVALID, "unexpected argument '%s': see --help for the options", arg));
    }
    if ((key < KEY_DEVICE || key > KEY_CSV) && key != KEY_QUIET) {
        return ARGP_ERR_UNKNOWN;
    }
    return plan_argp_error(take(key, arg, state->input));
}

static const struct argp_option options[] = {
    {.doc = "Machine:", .group = 7},
    {.name = "device",
     .key = KEY_DEVICE,
     .arg = "NAME",
     .doc = "auto (default), host or cuda",
     .group = 7},
    {.name = "clock",
     .key = KEY_CLOCK,
     .arg = "NAME",
     .doc = "wall: real time; core: every op costs the CPU time it used; auto (default): wall "
            "where every rank has a core of its own, else core",
     .group = 7},
    {.name = "ranks",
     .key = KEY_RANKS,
     .arg = "P",
     .doc = "Threads to run as ranks where no launcher started any",
     .group = 7},
    {.name = "repeats",
     .key = KEY_REPEATS,
     .arg = "N",
     .doc = "How often each thing is measured; what is printed are medians",
     .group = 7},
    {.name = "warm-up",
     .key = KEY_WARM_UP,
     .arg = "N",
     .doc = "How often before that, not counted",
     .group = 7},
    {.doc = "Output:", .group = 8},
    {.name = "json",
     .key = KEY_JSON,
     .arg = "FILE",
     .doc = "Write JSON (docs/bench.md); - is standard output",
     .group = 8},
    {.name = "csv", .key = KEY_CSV, .arg = "FILE", .doc = "Write CSV, likewise", .group = 8},
    {.name = "quiet", .key = KEY_QUIET, .doc = "Print errors only", .group = 8},
    {0},
};

const struct argp bench_common_argp = {.options = options, .parser = parse};
