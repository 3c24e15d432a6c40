/*
 * Tables: what a command found, once, to be printed aligned for a person, as CSV or as JSON.
 *
 *     report = facts (a table of one row) + sections (tables of any number of rows)
 *
 * A table is filled cell by cell, row by row. Where memory ran out the table remembers it, and
 * writing it fails; so filling needs no checks.
 */
#ifndef DPR_APPS_PLAN_TABLE_H
#define DPR_APPS_PLAN_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum plan_style {
    PLAN_TEXT,    /* left-aligned */
    PLAN_INT,     /* int64_t */
    PLAN_REAL,    /* six significant digits; NaN is "no value" */
    PLAN_PERCENT, /* a fraction; shown as per cent */
    PLAN_BYTES,   /* int64_t; shown with a binary unit */
    PLAN_BAR,     /* a fraction from 0 to 1, drawn; not in CSV and JSON */
    PLAN_BOOL,    /* "yes" or "no" */
} plan_style_t;

typedef struct plan_column {
    const char *key;   /* in CSV and JSON; NULL: not there */
    const char *title; /* for a person; NULL: not there */
    plan_style_t style;
} plan_column_t;

typedef struct plan_table plan_table_t;

/* `columns` must outlive the table. Errors: DPR_ERR_MEMORY. */
dpr_status_t plan_table_create(const plan_column_t *columns, int count, plan_table_t **table);
void plan_table_destroy(plan_table_t *table); /* NULL is allowed */

/* The columns of a table. Several of them, as a report has; on an error none are left. */
typedef struct plan_shape {
    const plan_column_t *columns;
    int count;
} plan_shape_t;

#define PLAN_SHAPE(columns)                                                                        \
    {                                                                                              \
        (columns), (int)(sizeof(columns) / sizeof(columns)[0])                                     \
    }

dpr_status_t plan_tables_create(const plan_shape_t *shapes, int count, plan_table_t **tables);
void plan_tables_destroy(plan_table_t **tables, int count);

/* The next cell, which must be of the column's style; texts are copied. plan_table_none: no value,
 * "-" for a person and null in JSON; infinite numbers are "unlimited" for a person and null. */
void plan_table_text(plan_table_t *table, const char *text);
void plan_table_int(plan_table_t *table, int64_t value); /* PLAN_INT, PLAN_BYTES, PLAN_BOOL */
void plan_table_real(plan_table_t *table, double value); /* PLAN_REAL, PLAN_PERCENT, PLAN_BAR */
void plan_table_none(plan_table_t *table);

/* The value, or none where `has` is false; the text, or none where it is NULL. */
void plan_table_int_if(plan_table_t *table, bool has, int64_t value);
void plan_table_text_if(plan_table_t *table, const char *text);

/* Whole rows so far. */
int plan_table_rows(const plan_table_t *table);

/* Writes bytes for a person: "512 B", "1.50 GiB". Returns text. */
char *plan_format_bytes(double bytes, char *text, size_t size);

typedef struct plan_section {
    const char *key;   /* in JSON */
    const char *title; /* for a person, above the table; NULL: none */
    const plan_table_t *table;
} plan_section_t;

typedef enum plan_format {
    PLAN_FORMAT_TEXT,
    PLAN_FORMAT_CSV,
    PLAN_FORMAT_JSON,
} plan_format_t;

/*
 * Writes a report to `out`. Text: the facts a line each, then the sections. CSV: the sections, each
 * with a header, then the facts, "key,value" a line, an empty line between them; so who reads the
 * first table alone needs to know nothing of the rest. JSON: one object with "format" (the given
 * name), "version" 1, the facts as keys and the sections as arrays of objects. `facts` may be NULL;
 * empty sections are left out of the text. Errors: DPR_ERR_MEMORY; DPR_ERR_SYSTEM where `out`
 * fails.
 */
dpr_status_t plan_report_write(plan_format_t format, const char *name, const plan_table_t *facts,
                               const plan_section_t *sections, int count, FILE *out);

#endif
