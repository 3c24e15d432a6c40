/* Predicted against measured as an SVG, panels beside each other. */
#ifndef DPR_APPS_BENCH_PLOT_H
#define DPR_APPS_BENCH_PLOT_H

#include "base/status.h"

/* x measured, y predicted; points of one series have one colour. Finite numbers. */
typedef struct bench_plot_point {
    const char *series;
    double x;
    double y;
} bench_plot_point_t;

typedef struct bench_plot_panel {
    const char *title;
    const char *unit;
    const bench_plot_point_t *points;
    int count;
} bench_plot_panel_t;

/* Both axes of a panel run from 0 to the same end, so that a right prediction lies on the diagonal.
 * Errors: DPR_ERR_IO, logged with the path. */
dpr_status_t bench_plot_write(const bench_plot_panel_t *panels, int count, const char *path);

#endif
