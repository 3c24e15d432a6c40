/* Drawings: columns are given to the ops that fill most of them, then ops are written into theirs.
 */
#include "runtime/drawing.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

enum { IDLE = -1 };

static const char letters[] = {[DPR_NODE_F] = 'F',
                               [DPR_NODE_B] = 'B',
                               [DPR_NODE_I] = 'I',
                               [DPR_NODE_W] = 'W',
                               [DPR_NODE_FB] = 'X'};

/* Black on colours of Okabe and Ito's palette ("Color Universal Design", 2008), as the nearest of
 * 256. */
static const char *const colours[] = {[DPR_NODE_F] = "\033[30;48;5;74m",    /* sky blue */
                                      [DPR_NODE_B] = "\033[30;48;5;214m",   /* orange */
                                      [DPR_NODE_I] = "\033[30;48;5;227m",   /* yellow */
                                      [DPR_NODE_W] = "\033[30;48;5;36m",    /* bluish green */
                                      [DPR_NODE_FB] = "\033[30;48;5;175m"}; /* reddish purple */
static const char plain[] = "\033[0m";

typedef struct drawing {
    const dpr_timeline_t *timeline;
    const dpr_graph_t *graph;
    const dpr_drawing_options_t *options;
    FILE *out;
    double from_sec;
    double column_sec;
    int label;     /* columns before the first of time */
    int columns;   /* of time */
    int32_t *node; /* [columns]: what a rank did there, or IDLE */
    double *most;  /* [columns]: and for how long */
    double *busy;  /* [columns]: and for how long it did anything */
    char *text;    /* [columns] */
} drawing_t;

/* ---- Columns ---- */

static int column_of(const drawing_t *d, double sec)
{
    const double column = d->column_sec > 0.0 ? floor((sec - d->from_sec) / d->column_sec) : 0.0;
    return (int)fmax(0.0, fmin(column, d->columns - 1));
}

/* Gives an op the columns of which it fills more than the ops before it. */
static void fill_columns(drawing_t *d, int32_t n)
{
    const double start = d->timeline->start[n];
    const double end = d->timeline->end[n];
    for (int c = column_of(d, start); c <= column_of(d, end); c++) {
        const double left = d->from_sec + c * d->column_sec;
        const double part = fmin(end, left + d->column_sec) - fmax(start, left);
        d->busy[c] += fmax(0.0, part);
        if (part > d->most[c]) {
            d->most[c] = part;
            d->node[c] = n;
        }
    }
}

static void find_columns(drawing_t *d, int32_t rank)
{
    for (int c = 0; c < d->columns; c++) {
        d->node[c] = IDLE;
        d->most[c] = 0.0;
        d->busy[c] = 0.0;
    }
    for (int32_t n = d->graph->rank_begin[rank]; n < d->graph->rank_begin[rank + 1]; n++) {
        fill_columns(d, n);
    }
    for (int c = 0; c < d->columns; c++) {
        if (d->column_sec - d->busy[c] > d->most[c]) {
            d->node[c] = IDLE;
        }
    }
}

/* ---- Text ---- */

/* Writes an op into its `count` columns. */
static void write_op(const dpr_node_t *node, char *text, int count)
{
    char digits[32] = "";
    memset(text, '-', (size_t)count);
    text[0] = letters[node->kind];
    if (node->kind == DPR_NODE_FB) {
        snprintf(digits, sizeof digits, "%d,%d", node->micro_batch, node->b_micro_batch);
    } else {
        snprintf(digits, sizeof digits, "%d", node->micro_batch);
    }
    const size_t length = strlen(digits);
    if (length < (size_t)count) {
        memcpy(text + 1, digits, length);
    }
}

static void print_run(const drawing_t *d, int first, int count)
{
    const int32_t n = d->node[first];
    if (n == IDLE) {
        memset(d->text, '.', (size_t)count);
    } else {
        write_op(&d->graph->nodes[n], d->text, count);
    }
    const bool is_coloured = d->options->has_colour && n != IDLE;
    fprintf(d->out, "%s%.*s%s", is_coloured ? colours[d->graph->nodes[n].kind] : "", count, d->text,
            is_coloured ? plain : "");
}

static void print_rank(drawing_t *d, int32_t rank)
{
    find_columns(d, rank);
    fprintf(d->out, "rank %*d |", d->label - 7, rank);
    for (int first = 0, c = 1; c <= d->columns; c++) {
        if (c == d->columns || d->node[c] != d->node[first]) {
            print_run(d, first, c - first);
            first = c;
        }
    }
    fprintf(d->out, "|\n");
}

/* The times at both ends, under the first and the last column. */
static void print_axis(const drawing_t *d, double to_sec)
{
    char from[32];
    char to[32];
    snprintf(from, sizeof from, "%.6g", d->from_sec);
    snprintf(to, sizeof to, "%.6g", to_sec);
    fprintf(d->out, "%*s%s%*s\n", d->label, "", from, d->columns - (int)strlen(from), to);
}

static void print_key(const drawing_t *d)
{
    static const char *const names[] = {[DPR_NODE_F] = "F",
                                        [DPR_NODE_B] = "B",
                                        [DPR_NODE_I] = "I",
                                        [DPR_NODE_W] = "W",
                                        [DPR_NODE_FB] = "X F&B"};
    bool seen[DPR_NODE_KINDS] = {false};
    for (int32_t n = 0; n < d->graph->compute_count; n++) {
        seen[d->graph->nodes[n].kind] = true;
    }
    fprintf(d->out, "%*s", d->label, "");
    for (int kind = 0; kind < DPR_NODE_SEND_ACT; kind++) {
        if (seen[kind]) {
            fprintf(d->out, "%s %s %s  ", d->options->has_colour ? colours[kind] : "", names[kind],
                    d->options->has_colour ? plain : "");
        }
    }
    fprintf(d->out, " . idle\n");
}

/* ---- The drawing ---- */

static dpr_status_t find_span(const dpr_timeline_t *timeline, const dpr_drawing_options_t *options,
                              double *from_sec, double *to_sec)
{
    double first = INFINITY;
    double last = -INFINITY;
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        if (!isfinite(timeline->start[n]) || !isfinite(timeline->end[n])) {
            char text[96];
            return dpr_fail(DPR_ERR_INVALID,
                            "cannot draw %s from %g to %g seconds: expected finite times",
                            dpr_node_format(timeline->graph, n, text, sizeof text),
                            timeline->start[n], timeline->end[n]);
        }
        first = fmin(first, timeline->start[n]);
        last = fmax(last, timeline->end[n]);
    }
    if (options->from_sec != 0.0 || options->to_sec != 0.0) {
        first = options->from_sec;
        last = options->to_sec;
    }
    if (!(isfinite(first) && isfinite(last - first) && last >= first)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "cannot draw the span from %g to %g seconds: expected a finite one that "
                        "ends after it begins",
                        first, last);
    }
    *from_sec = first;
    *to_sec = last;
    return DPR_OK;
}

dpr_status_t dpr_drawing_print(const dpr_timeline_t *timeline, const dpr_drawing_options_t *options,
                               FILE *out)
{
    if (options->width < DPR_DRAWING_MIN_WIDTH || options->width > DPR_DRAWING_MAX_WIDTH) {
        return dpr_fail(DPR_ERR_INVALID, "drawing width %d: expected %d to %d columns",
                        options->width, DPR_DRAWING_MIN_WIDTH, DPR_DRAWING_MAX_WIDTH);
    }
    double to_sec = 0.0;
    drawing_t d = {.timeline = timeline, .graph = timeline->graph, .options = options, .out = out};
    DPR_TRY(find_span(timeline, options, &d.from_sec, &to_sec));
    d.label = 7 + snprintf(NULL, 0, "%d", d.graph->ranks - 1);
    d.columns = options->width - d.label - 1;
    d.column_sec = (to_sec - d.from_sec) / d.columns;
    const size_t columns = (size_t)d.columns;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(columns, sizeof *d.node, &d.node), free_columns);
    DPR_TRY_GOTO(dpr_calloc(2 * columns, sizeof *d.most, &d.most), free_columns);
    d.busy = d.most + columns;
    DPR_TRY_GOTO(dpr_calloc(columns, sizeof *d.text, &d.text), free_columns);
    for (int32_t rank = 0; rank < d.graph->ranks; rank++) {
        print_rank(&d, rank);
    }
    print_axis(&d, to_sec);
    print_key(&d);
    status = ferror(out) ? dpr_fail(DPR_ERR_IO, "cannot write the drawing: %s", strerror(errno))
                         : DPR_OK;
free_columns:
    free(d.node);
    free(d.most);
    free(d.text);
    return status;
}

int dpr_drawing_terminal_width(FILE *out)
{
    struct winsize size;
    if (isatty(fileno(out)) != 1 || ioctl(fileno(out), TIOCGWINSZ, &size) != 0 ||
        size.ws_col == 0) {
        return DPR_DRAWING_WIDTH;
    }
    const int columns = size.ws_col;
    if (columns < DPR_DRAWING_MIN_WIDTH) {
        return DPR_DRAWING_MIN_WIDTH;
    }
    return columns < DPR_DRAWING_MAX_WIDTH ? columns : DPR_DRAWING_MAX_WIDTH;
}

bool dpr_drawing_terminal_has_colour(FILE *out)
{
    const char *off = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    return isatty(fileno(out)) == 1 && (off == NULL || off[0] == '\0') &&
           (terminal == NULL || strcmp(terminal, "dumb") != 0);
}
