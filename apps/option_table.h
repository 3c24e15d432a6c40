/*
 * Command lines as tables: an option's name, its help, the field that it fills and the range of its
 * value stand in one row.
 *
 *     rows of the command itself ----+
 *     rows that several have --------+--> argp --> the command's options, a struct
 *
 * argp (glibc) does the parsing and prints the help; here rows become its tables, and values
 * fields. A message names the option, what was given and what is expected.
 */
#ifndef DPR_APPS_OPTION_TABLE_H
#define DPR_APPS_OPTION_TABLE_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct option_row option_row_t;

/*
 * Reads an option's value into the struct that the row's table is for. `text` is NULL where the
 * option has no value; it points into argv. Errors: DPR_ERR_INVALID, logged.
 */
typedef dpr_status_t (*option_take_fn_t)(const option_row_t *row, char *text, void *into);

/* A row without a name is a heading of the help; one without a doc, too, ends the table. */
struct option_row {
    const char *name;
    const char *arg; /* of its value in the help; NULL: it has none */
    const char *doc;
    option_take_fn_t take;
    size_t offset; /* of the field */
    double least;  /* of a number */
    double most;
    int group;  /* as argp has it: 0 is that of the row before */
    int flags;  /* argp's */
    int letter; /* its short name; 0: none */
};

/* How fields of these types are read: a flag becomes true, a text points into argv, the others are
 * plan_parse_int, plan_parse_real and plan_parse_count within the row's range. */
dpr_status_t option_take_flag(const option_row_t *row, char *text, void *into);
dpr_status_t option_take_text(const option_row_t *row, char *text, void *into);
dpr_status_t option_take_int(const option_row_t *row, char *text, void *into);
dpr_status_t option_take_real(const option_row_t *row, char *text, void *into);
dpr_status_t option_take_count(const option_row_t *row, char *text, void *into);

/* A row's field, read as its type is; behind it stand the least and the most of a number. */
/* clang-format off */
#define OPTION_FIELD(type, field)                            \
    .take = _Generic(((type *)0)->field,                     \
                     bool: option_take_flag,                 \
                     int: option_take_int,                   \
                     double: option_take_real,               \
                     uint64_t: option_take_count,            \
                     const char *: option_take_text),        \
    .offset = offsetof(type, field)
/* clang-format on */

/* One that a function of the command's reads: option_place finds it. */
#define OPTION_BY(function, type, field) .take = (function), .offset = offsetof(type, field)

static inline void *option_place(const option_row_t *row, void *into)
{
    return (char *)into + row->offset;
}

/* A seed, any number from 0 on, into a uint64_t. */
dpr_status_t option_take_seed(const option_row_t *row, char *text, void *into);

/* ---- Command lines ---- */

typedef struct option_table {
    const option_row_t *rows;
    size_t offset; /* of the struct that they fill, in the command's options */
    char *(*help_filter)(int key, const char *text, void *input); /* as argp has it; or NULL */
} option_table_t;

typedef struct command_line {
    const option_table_t *tables; /* at most 8; ends with a zeroed one */
    const char *args_doc;         /* of arguments that are no options; NULL: there are none */
    const char *doc;              /* what the command does, "\v", what comes behind its options */
    dpr_status_t (*take_argument)(char *text, void *options); /* NULL: there are none */
} command_line_t;

/* Fills `options`, which has its defaults. Answers --help and --version, and ends the program then.
 * Errors: DPR_ERR_INVALID, logged or printed. */
dpr_status_t command_line_parse(const command_line_t *line, int argc, char **argv, void *options);

enum { OPTION_MAX_ROWS = 72 };

/* The two halves of it, for a program that calls argp by itself: rows as argp's table, and the
 * option that it found; ARGP_ERR_UNKNOWN where none of the rows has that key. */
void option_rows_show(const option_row_t *rows, struct argp_option shown[OPTION_MAX_ROWS]);
const option_row_t *option_rows_find(const option_row_t *rows, int key);

/* ---- Values ---- */

/*
 * Numbers from `least` to `most`; messages name the option, the text and the range. plan_parse_real
 * refuses NaN. plan_parse_count takes a whole number with an optional factor: K or k, M, G, T
 * (powers of 1000) or Ki, Mi, Gi, Ti (of 1024).
 */
dpr_status_t plan_parse_int(const char *option, const char *text, int least, int most, int *value);
dpr_status_t plan_parse_real(const char *option, const char *text, double least, double most,
                             double *value);
dpr_status_t plan_parse_count(const char *option, const char *text, uint64_t least, uint64_t most,
                              uint64_t *value);

/* What an argp parser returns for a status: 0, or EINVAL, on which argp_parse gives up. */
error_t plan_argp_error(dpr_status_t status);

#endif
