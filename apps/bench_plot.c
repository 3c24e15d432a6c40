/*
 * A small SVG: a square panel each, the diagonal, dots and a legend.
 *
 *      title            title
 *     +-------+        +-------+    # series
 *     |     / |        |     / |    # series
 *     |  /    |        |  /    |
 *     +-------+        +-------+
 */
#include "apps/bench_plot.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum {
    SIDE = 320, /* of a panel's square */
    LEFT = 70,  /* room for its labels */
    TOP = 40,
    BOTTOM = 50,
    LEGEND = 160,
    MAX_SERIES = 32,
};

/* Told apart by the colour-blind: Okabe and Ito, "Color universal design" (2008). */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000", "#f0e442"};

enum { COLOURS = sizeof colours / sizeof colours[0] };

typedef struct series_list {
    int count;
    const char *names[MAX_SERIES];
} series_list_t;

/* Its place in the list, which it joins where it is new; the last where the list is full. */
static int find_series(series_list_t *list, const char *name)
{
    for (int i = 0; i < list->count; i++) {
        if (strcmp(list->names[i], name) == 0) {
            return i;
        }
    }
    if (list->count < MAX_SERIES) {
        list->names[list->count++] = name;
    }
    return list->count - 1;
}

/* The first 1, 2 or 5 times a power of ten that cuts `most` into at most five. */
static double tick_step(double most)
{
    const double raw = most / 5.0;
    const double power = pow(10.0, floor(log10(raw)));
    const double factors[] = {1.0, 2.0, 5.0};
    for (int i = 0; i < 3; i++) {
        if (factors[i] * power >= raw) {
            return factors[i] * power;
        }
    }
    return 10.0 * power;
}

static double axis_end(const bench_plot_panel_t *panel)
{
    double most = 0.0;
    for (int i = 0; i < panel->count; i++) {
        most = fmax(most, fmax(panel->points[i].x, panel->points[i].y));
    }
    most = most > 0.0 ? most : 1.0;
    const double step = tick_step(most);
    return step * ceil(1.02 * most / step);
}

static void draw_axes(FILE *out, const bench_plot_panel_t *panel, double left, double end)
{
    const double bottom = TOP + SIDE;
    const double step = tick_step(end);
    fprintf(out, "<text x='%g' y='%d' font-weight='bold'>%s, %s</text>\n", left, TOP - 14,
            panel->title, panel->unit);
    for (int i = 0; i * step <= end * 1.0001; i++) {
        const double at = i * step / end * SIDE;
        fprintf(out,
                "<path d='M%g %g v%d M%g %g h%d' stroke='#ddd' fill='none'/>\n"
                "<text x='%g' y='%g' text-anchor='middle'>%g</text>\n"
                "<text x='%g' y='%g' text-anchor='end'>%g</text>\n",
                left + at, bottom, -SIDE, left, bottom - at, SIDE, left + at, bottom + 18, i * step,
                left - 8, bottom - at + 4, i * step);
    }
    fprintf(
        out,
        "<path d='M%g %g l%d %d' stroke='#888' stroke-dasharray='4 3'/>\n"
        "<rect x='%g' y='%d' width='%d' height='%d' fill='none' stroke='#444'/>\n"
        "<text x='%g' y='%g' text-anchor='middle'>measured</text>\n"
        "<text transform='translate(%g %d) rotate(-90)' text-anchor='middle'>predicted</text>\n",
        left, bottom, SIDE, -SIDE, left, TOP, SIDE, SIDE, left + SIDE / 2.0, bottom + 38, left - 48,
        TOP + SIDE / 2);
}

static void draw_panel(FILE *out, const bench_plot_panel_t *panel, double left,
                       series_list_t *series)
{
    const double end = axis_end(panel);
    draw_axes(out, panel, left, end);
    for (int i = 0; i < panel->count; i++) {
        const bench_plot_point_t *point = &panel->points[i];
        fprintf(out,
                "<circle cx='%g' cy='%g' r='4.5' fill='%s' fill-opacity='.8' stroke='#333'>"
                "<title>%s: measured %g, predicted %g %s</title></circle>\n",
                left + fmax(point->x, 0.0) / end * SIDE,
                TOP + SIDE - fmax(point->y, 0.0) / end * SIDE,
                colours[find_series(series, point->series) % COLOURS], point->series, point->x,
                point->y, panel->unit);
    }
}

static void draw_legend(FILE *out, const series_list_t *series, int left)
{
    for (int i = 0; i < series->count; i++) {
        fprintf(out,
                "<circle cx='%d' cy='%d' r='4.5' fill='%s' stroke='#333'/>"
                "<text x='%d' y='%d'>%s</text>\n",
                left, TOP + 10 + 20 * i, colours[i % COLOURS], left + 12, TOP + 14 + 20 * i,
                series->names[i]);
    }
}

dpr_status_t bench_plot_write(const bench_plot_panel_t *panels, int count, const char *path)
{
    series_list_t series = {0};
    const int width = count * (LEFT + SIDE) + LEGEND + 30;
    const int height = TOP + SIDE + BOTTOM;
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "--plot %s cannot be written: %m", path);
    }
    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
            "viewBox='0 0 %d %d' font-family='sans-serif' font-size='12'>\n"
            "<rect width='100%%' height='100%%' fill='white'/>\n",
            width, height, width, height);
    for (int i = 0; i < count; i++) {
        draw_panel(out, &panels[i], LEFT + i * (LEFT + SIDE), &series);
    }
    draw_legend(out, &series, count * (LEFT + SIDE) + 30);
    fputs("</svg>\n", out);
    const bool failed = ferror(out) != 0;
    return fclose(out) == 0 && !failed
               ? DPR_OK
               : dpr_fail(DPR_ERR_IO, "--plot %s cannot be written: %m", path);
}
