/* Options that several commands have. */
#include "apps/plan_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/plan.h"
#include "base/log.h"

enum key { KEY_JSON = 0x3000, KEY_CSV, KEY_COST, KEY_SCHEDULES, KEY_RANKS, KEY_MICRO_BATCHES };

/* ---- Numbers ---- */

dpr_status_t plan_parse_real(const char *option, const char *text, double least, double most,
                             double *value)
{
    char *end;
    const double parsed = strtod(text, &end);
    if (end == text || *end != '\0' || !(parsed >= least && parsed <= most)) {
        return dpr_fail(DPR_ERR_INVALID, "--%s '%s': expected a number from %g to %g", option, text,
                        least, most);
    }
    *value = parsed;
    return DPR_OK;
}

/* The factor that a suffix stands for, 0 where it is none. */
static uint64_t factor_of(const char *suffix)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } factors[] = {
        {"", 1},
        {"k", UINT64_C(1000)},
        {"K", UINT64_C(1000)},
        {"M", UINT64_C(1000000)},
        {"G", UINT64_C(1000000000)},
        {"T", UINT64_C(1000000000000)},
        {"Ki", UINT64_C(1) << 10},
        {"Mi", UINT64_C(1) << 20},
        {"Gi", UINT64_C(1) << 30},
        {"Ti", UINT64_C(1) << 40},
    };
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        if (strcmp(factors[i].suffix, suffix) == 0) {
            return factors[i].factor;
        }
    }
    return 0;
}

dpr_status_t plan_parse_count(const char *option, const char *text, uint64_t least, uint64_t most,
                              uint64_t *value)
{
    char *end = NULL;
    uint64_t parsed = 0;
    errno = 0;
    bool right = text[0] >= '0' && text[0] <= '9';
    if (right) {
        parsed = strtoull(text, &end, 10);
        const uint64_t factor = factor_of(end);
        right = errno == 0 && factor > 0 && !__builtin_mul_overflow(parsed, factor, &parsed) &&
                parsed >= least && parsed <= most;
    }
    if (!right) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--%s '%s': expected a whole number from %llu to %llu, such as 250M (K, M, "
                        "G, T: times 1000; Ki, Mi, Gi, Ti: times 1024)",
                        option, text, (unsigned long long)least, (unsigned long long)most);
    }
    *value = parsed;
    return DPR_OK;
}

dpr_status_t plan_expect_int(const char *option, int value, int least, int most)
{
    if (value == 0) {
        return dpr_fail(DPR_ERR_INVALID, "--%s is missing: expected a whole number from %d to %d",
                        option, least, most);
    }
    return DPR_OK;
}

/* ---- Output ---- */

static error_t parse_output(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    plan_format_t *format = state->input;
    const plan_format_t before = *format;
    if (key != KEY_JSON && key != KEY_CSV) {
        return ARGP_ERR_UNKNOWN;
    }
    *format = key == KEY_JSON ? PLAN_FORMAT_JSON : PLAN_FORMAT_CSV;
    if (before != PLAN_FORMAT_TEXT && before != *format) {
        return plan_argp_error(dpr_fail(DPR_ERR_INVALID, "give either --json or --csv, not both"));
    }
    return 0;
}

static const struct argp_option output_options[] = {
    {.name = "json", .key = KEY_JSON, .doc = "Print JSON (docs/plan-json.md)", .group = 8},
    {.name = "csv", .key = KEY_CSV, .doc = "Print the tables as CSV"},
    {0},
};

const struct argp plan_output_argp = {.options = output_options, .parser = parse_output};

/* ---- Costs ---- */

static error_t parse_cost(int key, char *arg, struct argp_state *state)
{
    if (key != KEY_COST) {
        return ARGP_ERR_UNKNOWN;
    }
    return plan_argp_error(dpr_uniform_costs_parse(arg, state->input));
}

static const struct argp_option cost_options[] = {
    {.name = "cost",
     .key = KEY_COST,
     .arg = "F=1,I=1,...",
     .doc =
         "Time of a forward F, of the halves I and W of a backward, of a whole one B (I + W), of "
         "an overlapped pair FB (F + B) and of a transfer (wire); default F=1,I=1,W=1,wire=0"},
    {0},
};

const struct argp plan_cost_argp = {.options = cost_options, .parser = parse_cost};

/* ---- Several schedules ---- */

static dpr_status_t parse_names(const char *list, plan_schedules_t *schedules)
{
    if (strlen(list) >= sizeof schedules->text) {
        return dpr_fail(DPR_ERR_INVALID, "--schedule: the list is longer than %zu characters",
                        sizeof schedules->text - 1);
    }
    strcpy(schedules->text, list);
    schedules->count = 0;
    char *rest = schedules->text;
    for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
        if (name[0] == '\0') {
            return dpr_fail(DPR_ERR_INVALID,
                            "--schedule '%s': expected one name or more, with commas between them",
                            list);
        }
        if (schedules->count == PLAN_MAX_SCHEDULES) {
            return dpr_fail(DPR_ERR_INVALID, "--schedule: more than %d names", PLAN_MAX_SCHEDULES);
        }
        if (dpr_schedule_find(name) == NULL) {
            DPR_TRY(dpr_schedule_check(name, 1, 1)); /* says what is known */
        }
        schedules->names[schedules->count++] = name;
    }
    return DPR_OK;
}

static error_t parse_schedules(int key, char *arg, struct argp_state *state)
{
    plan_schedules_t *schedules = state->input;
    switch (key) {
    case KEY_SCHEDULES:
        return plan_argp_error(parse_names(arg, schedules));
    case KEY_RANKS:
        return plan_argp_error(plan_parse_int("ranks", arg, 1, DPR_MAX_RANKS, &schedules->ranks));
    case KEY_MICRO_BATCHES:
        return plan_argp_error(plan_parse_int("micro-batches", arg, 1, DPR_MAX_MICRO_BATCHES,
                                              &schedules->micro_batches));
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option schedules_options[] = {
    {.name = "schedule",
     .key = KEY_SCHEDULES,
     .arg = "NAME,...",
     .doc = "Schedules, with commas between them (default: all)"},
    {.name = "ranks", .key = KEY_RANKS, .arg = "P", .doc = "Number of pipeline ranks"},
    {.name = "micro-batches", .key = KEY_MICRO_BATCHES, .arg = "M", .doc = "Micro-batches a step"},
    {0},
};

const struct argp plan_schedules_argp = {.options = schedules_options, .parser = parse_schedules};

dpr_status_t plan_schedules_complete(plan_schedules_t *schedules, bool ranks_needed)
{
    if (ranks_needed) {
        DPR_TRY(plan_expect_int("ranks", schedules->ranks, 1, DPR_MAX_RANKS));
    }
    DPR_TRY(plan_expect_int("micro-batches", schedules->micro_batches, 1, DPR_MAX_MICRO_BATCHES));
    if (schedules->count == 0) {
        size_t count;
        const dpr_schedule_t *all = dpr_schedule_list(&count);
        for (size_t i = 0; i < count && i < PLAN_MAX_SCHEDULES; i++) {
            schedules->names[schedules->count++] = all[i].name;
        }
    }
    return DPR_OK;
}

dpr_status_t plan_schedules_check_work(const plan_schedules_t *schedules, int stages)
{
    int64_t cells = 0;
    for (int i = 0; i < schedules->count; i++) {
        const int each = dpr_schedule_stages_per_rank(schedules->names[i]);
        const int ranks = stages > 0 ? stages / each : schedules->ranks;
        if (dpr_schedule_allows(schedules->names[i], ranks, schedules->micro_batches)) {
            cells += (int64_t)each * ranks * schedules->micro_batches;
        }
    }
    /* what is too large by itself has its own message */
    if (cells > PLAN_MAX_CELLS && schedules->count > 1) {
        return dpr_fail(DPR_ERR_INVALID,
                        "too much to play out: %lld stages x micro-batches of all schedules, at "
                        "most %d: lower --%s or --micro-batches, or name fewer schedules with "
                        "--schedule",
                        (long long)cells, (int)PLAN_MAX_CELLS, stages > 0 ? "stages" : "ranks");
    }
    return DPR_OK;
}

dpr_status_t plan_expect_some(int found, const plan_schedules_t *schedules)
{
    if (found > 0) {
        return DPR_OK;
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "--micro-batches %d: none of the schedules can run them; the report says why",
                    schedules->micro_batches);
}
