/* Tables: aligned text, CSV and JSON of the same cells. */
#include "apps/plan_table.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

enum { BAR_WIDTH = 32, CELL_TEXT = 64 };

typedef struct cell {
    bool has_value;
    char *text; /* PLAN_TEXT; owned */
    int64_t integer;
    double real;
} cell_t;

struct plan_table {
    const plan_column_t *columns;
    int column_count;
    cell_t *cells;
    size_t count;
    size_t capacity;
    dpr_status_t status; /* of filling */
};

dpr_status_t plan_table_create(const plan_column_t *columns, int count, plan_table_t **table)
{
    plan_table_t *made;
    DPR_TRY(dpr_calloc(1, sizeof *made, &made));
    *made = (plan_table_t){.columns = columns, .column_count = count};
    *table = made;
    return DPR_OK;
}

void plan_table_destroy(plan_table_t *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i].text);
    }
    free(table->cells);
    free(table);
}

dpr_status_t plan_tables_create(const plan_shape_t *shapes, int count, plan_table_t **tables)
{
    for (int i = 0; i < count; i++) {
        const dpr_status_t status =
            plan_table_create(shapes[i].columns, shapes[i].count, &tables[i]);
        if (status != DPR_OK) {
            plan_tables_destroy(tables, i);
            return status;
        }
    }
    return DPR_OK;
}

void plan_tables_destroy(plan_table_t **tables, int count)
{
    for (int i = 0; i < count; i++) {
        plan_table_destroy(tables[i]);
    }
}

static void append(plan_table_t *table, cell_t cell)
{
    if (table->status == DPR_OK) {
        table->status =
            dpr_reserve(&table->cells, &table->capacity, table->count + 1, sizeof *table->cells);
    }
    if (table->status != DPR_OK) {
        free(cell.text);
        return;
    }
    table->cells[table->count++] = cell;
}

static plan_style_t next_style(const plan_table_t *table)
{
    return table->columns[table->count % (size_t)table->column_count].style;
}

void plan_table_text(plan_table_t *table, const char *text)
{
    assert(table->status != DPR_OK || next_style(table) == PLAN_TEXT);
    char *copy = strdup(text);
    if (copy == NULL && table->status == DPR_OK) {
        table->status = dpr_fail(DPR_ERR_MEMORY, "no memory for a table");
    }
    append(table, (cell_t){.has_value = true, .text = copy});
}

void plan_table_int(plan_table_t *table, int64_t value)
{
    const plan_style_t style = next_style(table);
    assert(table->status != DPR_OK || style == PLAN_INT || style == PLAN_BYTES ||
           style == PLAN_BOOL);
    append(table, (cell_t){.has_value = true, .integer = value});
}

void plan_table_real(plan_table_t *table, double value)
{
    const plan_style_t style = next_style(table);
    assert(table->status != DPR_OK || style == PLAN_REAL || style == PLAN_PERCENT ||
           style == PLAN_BAR);
    append(table, (cell_t){.has_value = !isnan(value), .real = value});
}

void plan_table_none(plan_table_t *table)
{
    append(table, (cell_t){.has_value = false});
}

void plan_table_int_if(plan_table_t *table, bool has, int64_t value)
{
    if (has) {
        plan_table_int(table, value);
    } else {
        plan_table_none(table);
    }
}

void plan_table_text_if(plan_table_t *table, const char *text)
{
    if (text != NULL) {
        plan_table_text(table, text);
    } else {
        plan_table_none(table);
    }
}

int plan_table_rows(const plan_table_t *table)
{
    return (int)(table->count / (size_t)table->column_count);
}

static const cell_t *cell_at(const plan_table_t *table, int row, int column)
{
    return &table->cells[(size_t)row * (size_t)table->column_count + (size_t)column];
}

char *plan_format_bytes(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    for (; fabs(bytes) >= 1024.0 && unit + 1 < sizeof units / sizeof units[0]; unit++) {
        bytes /= 1024.0;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
    return text;
}

/* ---- For a person ---- */

static const char *format_number(plan_style_t style, const cell_t *cell, char text[CELL_TEXT])
{
    switch (style) {
    case PLAN_BYTES:
        return plan_format_bytes((double)cell->integer, text, CELL_TEXT);
    case PLAN_REAL:
        snprintf(text, CELL_TEXT, "%.6g", cell->real);
        return text;
    case PLAN_PERCENT:
        snprintf(text, CELL_TEXT, "%.2f %%", 100.0 * cell->real);
        return text;
    case PLAN_BAR: {
        const int length = (int)lround(fmin(1.0, fmax(0.0, cell->real)) * BAR_WIDTH);
        memset(text, '#', (size_t)length);
        text[length] = '\0';
        return text;
    }
    default:
        snprintf(text, CELL_TEXT, "%lld", (long long)cell->integer);
        return text;
    }
}

/* The cell's own text, or one written into `text`. */
static const char *format_cell(plan_style_t style, const cell_t *cell, char text[CELL_TEXT])
{
    if (!cell->has_value) {
        return style == PLAN_BAR ? "" : "-";
    }
    if (style == PLAN_TEXT) {
        return cell->text;
    }
    if (style == PLAN_BOOL) {
        return cell->integer != 0 ? "yes" : "no";
    }
    if ((style == PLAN_REAL || style == PLAN_PERCENT) && isinf(cell->real)) {
        return "unlimited";
    }
    return format_number(style, cell, text);
}

static bool left_aligned(plan_style_t style)
{
    return style == PLAN_TEXT || style == PLAN_BAR || style == PLAN_BOOL;
}

/* Columns a text takes: bytes that do not continue a UTF-8 character. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

/* Prints a cell, padded; `pending` holds back blanks, so that no line ends in them. */
static void print_padded(FILE *out, const char *text, int width, bool left, int *pending)
{
    const int pad = width - width_of(text);
    const int before = left ? 0 : pad;
    if (text[0] != '\0') {
        fprintf(out, "%*s%s", *pending + before, "", text);
        *pending = left ? pad : 0;
    } else {
        *pending += width;
    }
}

static int column_width(const plan_table_t *table, int column)
{
    int width = width_of(table->columns[column].title);
    for (int row = 0; row < plan_table_rows(table); row++) {
        char text[CELL_TEXT];
        const int own =
            width_of(format_cell(table->columns[column].style, cell_at(table, row, column), text));
        width = own > width ? own : width;
    }
    return width;
}

/* Row -1 is the titles. */
static void print_row(const plan_table_t *table, int row, const int *widths, FILE *out)
{
    int pending = 0;
    bool first = true;
    for (int column = 0; column < table->column_count; column++) {
        const plan_column_t *of = &table->columns[column];
        if (of->title == NULL) {
            continue;
        }
        char text[CELL_TEXT];
        pending += first ? 0 : 2;
        first = false;
        print_padded(
            out, row < 0 ? of->title : format_cell(of->style, cell_at(table, row, column), text),
            widths[column], left_aligned(of->style), &pending);
    }
    putc('\n', out);
}

static dpr_status_t print_table(const plan_table_t *table, FILE *out)
{
    int *widths;
    DPR_TRY(dpr_calloc((size_t)table->column_count, sizeof *widths, &widths));
    for (int column = 0; column < table->column_count; column++) {
        widths[column] = table->columns[column].title != NULL ? column_width(table, column) : 0;
    }
    for (int row = -1; row < plan_table_rows(table); row++) {
        print_row(table, row, widths, out);
    }
    free(widths);
    return DPR_OK;
}

static void print_facts(const plan_table_t *facts, FILE *out)
{
    int width = 0;
    for (int column = 0; column < facts->column_count; column++) {
        const char *title = facts->columns[column].title;
        const int own = title != NULL ? width_of(title) : 0;
        width = own > width ? own : width;
    }
    for (int column = 0; column < facts->column_count; column++) {
        const plan_column_t *of = &facts->columns[column];
        if (of->title != NULL) {
            char text[CELL_TEXT];
            fprintf(out, "%-*s  %s\n", width, of->title,
                    format_cell(of->style, cell_at(facts, 0, column), text));
        }
    }
}

static dpr_status_t write_text(const plan_table_t *facts, const plan_section_t *sections, int count,
                               FILE *out)
{
    bool something = false;
    if (facts != NULL) {
        print_facts(facts, out);
        something = true;
    }
    for (int i = 0; i < count; i++) {
        if (plan_table_rows(sections[i].table) == 0) {
            continue;
        }
        fputs(something ? "\n" : "", out);
        something = true;
        if (sections[i].title != NULL) {
            fprintf(out, "%s\n", sections[i].title);
        }
        DPR_TRY(print_table(sections[i].table, out));
    }
    return DPR_OK;
}

/* ---- For programs ---- */

static void write_csv_text(const char *text, FILE *out)
{
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, out);
        return;
    }
    putc('"', out);
    for (; *text != '\0'; text++) {
        fputs(*text == '"' ? "\"" : "", out);
        putc(*text, out);
    }
    putc('"', out);
}

static void write_csv_cell(plan_style_t style, const cell_t *cell, FILE *out)
{
    if (!cell->has_value) {
        return;
    }
    switch (style) {
    case PLAN_TEXT:
        write_csv_text(cell->text, out);
        break;
    case PLAN_REAL:
    case PLAN_PERCENT:
        fprintf(out, "%.17g", cell->real);
        break;
    case PLAN_BOOL:
        fputs(cell->integer != 0 ? "true" : "false", out);
        break;
    default:
        fprintf(out, "%lld", (long long)cell->integer);
        break;
    }
}

/* A line for each fact: key, value. */
static void write_csv_facts(const plan_table_t *facts, FILE *out)
{
    fputs("key,value\n", out);
    for (int column = 0; column < facts->column_count; column++) {
        const plan_column_t *of = &facts->columns[column];
        if (of->key != NULL) {
            fprintf(out, "%s,", of->key);
            write_csv_cell(of->style, cell_at(facts, 0, column), out);
            putc('\n', out);
        }
    }
}

static void write_csv(const plan_table_t *facts, const plan_section_t *sections, int count,
                      FILE *out)
{
    for (int i = 0; i < count; i++) {
        const plan_table_t *table = sections[i].table;
        fputs(i > 0 ? "\n" : "", out);
        for (int row = -1; row < plan_table_rows(table); row++) {
            const char *separator = "";
            for (int column = 0; column < table->column_count; column++) {
                const plan_column_t *of = &table->columns[column];
                if (of->key == NULL) {
                    continue;
                }
                fputs(separator, out);
                separator = ",";
                if (row < 0) {
                    fputs(of->key, out);
                } else {
                    write_csv_cell(of->style, cell_at(table, row, column), out);
                }
            }
            putc('\n', out);
        }
    }
    if (facts != NULL) {
        fputs(count > 0 ? "\n" : "", out);
        write_csv_facts(facts, out);
    }
}

static json_t *cell_to_json(plan_style_t style, const cell_t *cell)
{
    if (!cell->has_value) {
        return json_null();
    }
    switch (style) {
    case PLAN_TEXT:
        return json_string(cell->text);
    case PLAN_REAL:
    case PLAN_PERCENT:
        return isinf(cell->real) ? json_null() : json_real(cell->real);
    case PLAN_BOOL:
        return json_boolean(cell->integer != 0);
    default:
        return json_integer(cell->integer);
    }
}

/* Adds a row's cells to an object; false where memory ran out. */
static bool row_into_json(const plan_table_t *table, int row, json_t *object)
{
    for (int column = 0; column < table->column_count; column++) {
        const plan_column_t *of = &table->columns[column];
        if (of->key != NULL &&
            json_object_set_new(object, of->key,
                                cell_to_json(of->style, cell_at(table, row, column))) != 0) {
            return false;
        }
    }
    return true;
}

static bool section_into_json(const plan_section_t *section, json_t *root)
{
    json_t *rows = json_array();
    if (json_object_set_new(root, section->key, rows) != 0) {
        return false;
    }
    for (int row = 0; row < plan_table_rows(section->table); row++) {
        json_t *object = json_object();
        if (json_array_append_new(rows, object) != 0 ||
            !row_into_json(section->table, row, object)) {
            return false;
        }
    }
    return true;
}

static dpr_status_t write_json(const char *name, const plan_table_t *facts,
                               const plan_section_t *sections, int count, FILE *out)
{
    json_t *root = json_pack("{s:s, s:i}", "format", name, "version", 1);
    bool made = root != NULL && (facts == NULL || row_into_json(facts, 0, root));
    for (int i = 0; i < count && made; i++) {
        made = section_into_json(&sections[i], root);
    }
    const bool written = made && json_dumpf(root, out, JSON_INDENT(2)) == 0;
    putc('\n', out);
    json_decref(root);
    if (!made) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot make the JSON: no memory, or a name is not UTF-8");
    }
    return written ? DPR_OK : dpr_fail(DPR_ERR_SYSTEM, "cannot write the JSON: %m");
}

dpr_status_t plan_report_write(plan_format_t format, const char *name, const plan_table_t *facts,
                               const plan_section_t *sections, int count, FILE *out)
{
    if (facts != NULL) {
        DPR_TRY(facts->status);
    }
    for (int i = 0; i < count; i++) {
        DPR_TRY(sections[i].table->status);
    }
    if (format == PLAN_FORMAT_JSON) {
        DPR_TRY(write_json(name, facts, sections, count, out));
    } else if (format == PLAN_FORMAT_CSV) {
        write_csv(facts, sections, count, out);
    } else {
        DPR_TRY(write_text(facts, sections, count, out));
    }
    return ferror(out) == 0 ? DPR_OK : dpr_fail(DPR_ERR_SYSTEM, "cannot write the report: %m");
}
