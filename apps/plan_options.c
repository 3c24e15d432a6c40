/* See plan_options.h. */
#include "apps/plan_options.h"

#include <string.h>

#include "apps/plan.h"
#include "base/log.h"

dpr_status_t plan_expect_int(const char *option, int value, int least, int most)
{
    if (value == 0) {
        return dpr_fail(DPR_ERR_INVALID, "--%s is missing: expected a whole number from %d to %d",
                        option, least, most);
    }
    return DPR_OK;
}

/* ---- Output ---- */

static dpr_status_t take_format(const option_row_t *row, char *text, void *into)
{
    (void)text;
    plan_format_t *format = into;
    const plan_format_t before = *format;
    *format = strcmp(row->name, "json") == 0 ? PLAN_FORMAT_JSON : PLAN_FORMAT_CSV;
    if (before != PLAN_FORMAT_TEXT && before != *format) {
        return dpr_fail(DPR_ERR_INVALID, "give either --json or --csv, not both");
    }
    return DPR_OK;
}

const option_row_t plan_output_options[] = {
    {"json", NULL, "Print JSON (docs/plan-json.md)", .take = take_format, .group = 8},
    {"csv", NULL, "Print the tables as CSV", .take = take_format},
    {0},
};

/* ---- Costs ---- */

static dpr_status_t take_cost(const option_row_t *row, char *text, void *into)
{
    (void)row;
    return dpr_uniform_costs_parse(text, into);
}

const option_row_t plan_cost_options[] = {
    {"cost", "F=1,I=1,...",
     "Time of a forward F, of the halves I and W of a backward, of a whole one B (I + W), of an "
     "overlapped pair FB (F + B) and of a transfer (wire); default F=1,I=1,W=1,wire=0",
     .take = take_cost},
    {0},
};

void plan_table_costs(plan_table_t *table, const dpr_uniform_costs_t *costs)
{
    plan_table_real(table, costs->f);
    plan_table_real(table, costs->i);
    plan_table_real(table, costs->w);
    plan_table_real(table, dpr_uniform_b(costs));
    plan_table_real(table, dpr_uniform_fb(costs));
    plan_table_real(table, costs->wire);
}

/* ---- Several schedules ---- */

static dpr_status_t take_names(const option_row_t *row, char *list, void *into)
{
    (void)row;
    plan_schedules_t *schedules = into;
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

const option_row_t plan_schedules_options[] = {
    {"schedule", "NAME,...", "Schedules, with commas between them (default: all)",
     .take = take_names},
    {"ranks", "P", "Number of pipeline ranks", OPTION_FIELD(plan_schedules_t, ranks), 1,
     DPR_MAX_RANKS},
    {"micro-batches", "M", "Micro-batches a step", OPTION_FIELD(plan_schedules_t, micro_batches), 1,
     DPR_MAX_MICRO_BATCHES},
    {0},
};

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

dpr_status_t plan_schedules_expect_none(const plan_schedules_t *schedules)
{
    return schedules->count == 0 && schedules->ranks == 0 && schedules->micro_batches == 0
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "give either --schedule-file or --schedule, --ranks and "
                                           "--micro-batches, not both");
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

/* ---- Schedules that cannot run ---- */

static const plan_column_t reason_columns[] = {
    {"schedule", "not possible", PLAN_TEXT},
    {"reason", "", PLAN_TEXT},
};

const plan_shape_t plan_reason_shape = PLAN_SHAPE(reason_columns);

void plan_reason_add(plan_table_t *reasons, const char *schedule, const char *reason)
{
    char line[512];
    snprintf(line, sizeof line, "%.*s", (int)strcspn(reason, "\n"), reason);
    plan_table_text(reasons, schedule);
    plan_table_text(reasons, line);
}

bool plan_schedules_allow(const plan_schedules_t *schedules, const char *schedule,
                          plan_table_t *reasons)
{
    char reason[512];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, reason, sizeof reason);
    const dpr_status_t allowed =
        dpr_schedule_check(schedule, schedules->ranks, schedules->micro_batches);
    dpr_log_capture_end(&capture);
    if (allowed != DPR_OK) {
        plan_reason_add(reasons, schedule, reason);
    }
    return allowed == DPR_OK;
}
