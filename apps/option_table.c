/* See option_table.h. */
#include "apps/option_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { MAX_TABLES = 8, FIRST_KEY = 0x1000 /* beyond all letters */ };

/* ---- Values ---- */

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

/* The digits and the factor; false where there are none, the suffix is not known or the number is
 * beyond 2^64 - 1. */
static bool read_count(const char *text, uint64_t *value)
{
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    const uint64_t parsed = strtoull(text, &end, 10);
    const uint64_t factor = factor_of(end);
    return errno == 0 && factor > 0 && !__builtin_mul_overflow(parsed, factor, value);
}

dpr_status_t plan_parse_count(const char *option, const char *text, uint64_t least, uint64_t most,
                              uint64_t *value)
{
    uint64_t parsed;
    if (!read_count(text, &parsed) || parsed < least || parsed > most) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--%s '%s': expected a whole number from %llu to %llu, such as 250M (K, M, "
                        "G, T: times 1000; Ki, Mi, Gi, Ti: times 1024)",
                        option, text, (unsigned long long)least, (unsigned long long)most);
    }
    *value = parsed;
    return DPR_OK;
}

/* ---- Fields ---- */

dpr_status_t option_take_flag(const option_row_t *row, char *text, void *into)
{
    (void)text;
    *(bool *)option_place(row, into) = true;
    return DPR_OK;
}

dpr_status_t option_take_text(const option_row_t *row, char *text, void *into)
{
    *(const char **)option_place(row, into) = text;
    return DPR_OK;
}

dpr_status_t option_take_int(const option_row_t *row, char *text, void *into)
{
    return plan_parse_int(row->name, text, (int)row->least, (int)row->most,
                          option_place(row, into));
}

dpr_status_t option_take_real(const option_row_t *row, char *text, void *into)
{
    return plan_parse_real(row->name, text, row->least, row->most, option_place(row, into));
}

dpr_status_t option_take_count(const option_row_t *row, char *text, void *into)
{
    return plan_parse_count(row->name, text, (uint64_t)row->least, (uint64_t)row->most,
                            option_place(row, into));
}

dpr_status_t option_take_seed(const option_row_t *row, char *text, void *into)
{
    return plan_parse_count(row->name, text, 0, UINT64_MAX, option_place(row, into));
}

/* ---- Rows and argp ---- */

static bool is_last(const option_row_t *row)
{
    return row->name == NULL && row->doc == NULL;
}

static int key_of(const option_row_t *rows, const option_row_t *row)
{
    if (row->name == NULL) {
        return 0; /* a heading */
    }
    return row->letter != 0 ? row->letter : FIRST_KEY + (int)(row - rows);
}

void option_rows_show(const option_row_t *rows, struct argp_option shown[OPTION_MAX_ROWS])
{
    int count = 0;
    for (const option_row_t *row = rows; !is_last(row); row++) {
        assert(count < OPTION_MAX_ROWS - 1);
        shown[count++] = (struct argp_option){.name = row->name,
                                              .key = key_of(rows, row),
                                              .arg = row->arg,
                                              .flags = row->flags,
                                              .doc = row->doc,
                                              .group = row->group};
    }
    shown[count] = (struct argp_option){0};
}

const option_row_t *option_rows_find(const option_row_t *rows, int key)
{
    for (const option_row_t *row = rows; !is_last(row); row++) {
        if (row->name != NULL && key_of(rows, row) == key) {
            return row;
        }
    }
    return NULL;
}

error_t plan_argp_error(dpr_status_t status)
{
    return status == DPR_OK ? 0 : EINVAL;
}

/* ---- Command lines ---- */

/* A table at work: what argp hands to its parser. */
typedef struct bound {
    const option_row_t *rows;
    void *into;
} bound_t;

typedef struct parsing {
    const command_line_t *line;
    void *options;
    int count;
    bound_t bound[MAX_TABLES];
} parsing_t;

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    const bound_t *bound = state->input;
    const option_row_t *row = option_rows_find(bound->rows, key);
    return row == NULL ? ARGP_ERR_UNKNOWN : plan_argp_error(row->take(row, text, bound->into));
}

static error_t parse_argument(int key, char *text, struct argp_state *state)
{
    parsing_t *parsing = state->input;
    if (key == ARGP_KEY_INIT) {
        for (int i = 0; i < parsing->count; i++) {
            state->child_inputs[i] = &parsing->bound[i];
        }
        return 0;
    }
    return key == ARGP_KEY_ARG && parsing->line->take_argument != NULL
               ? plan_argp_error(parsing->line->take_argument(text, parsing->options))
               : ARGP_ERR_UNKNOWN;
}

dpr_status_t command_line_parse(const command_line_t *line, int argc, char **argv, void *options)
{
    parsing_t parsing = {.line = line, .options = options};
    struct argp_option shown[MAX_TABLES][OPTION_MAX_ROWS];
    struct argp argps[MAX_TABLES];
    struct argp_child children[MAX_TABLES + 1] = {0};
    for (const option_table_t *table = line->tables; table->rows != NULL; table++) {
        const int i = parsing.count++;
        assert(i < MAX_TABLES);
        option_rows_show(table->rows, shown[i]);
        argps[i] = (struct argp){
            .options = shown[i], .parser = parse_option, .help_filter = table->help_filter};
        children[i].argp = &argps[i];
        parsing.bound[i] = (bound_t){.rows = table->rows, .into = (char *)options + table->offset};
    }
    const struct argp argp = {.parser = parse_argument,
                              .args_doc = line->args_doc,
                              .doc = line->doc,
                              .children = children};
    return argp_parse(&argp, argc, argv, 0, NULL, &parsing) == 0 ? DPR_OK : DPR_ERR_INVALID;
}
