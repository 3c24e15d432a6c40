/*
 * Drawings: a timeline as text for a terminal, one line a rank, time from left to right.
 *
 *     rank 0 |F0-F1-......B0-----B1-----|     F B I W: that op; X: F and B overlapped
 *     rank 1 |...F0-B0-----F1-B1-----...|     digits: its micro-batch, where they fit ("X7,3": F of
 *             0                        9      7, B of 3); -: goes on; .: idle
 *
 * A column shows what its rank did for the largest part of it.
 */
#ifndef DPR_RUNTIME_DRAWING_H
#define DPR_RUNTIME_DRAWING_H

#include <stdio.h>

#include "schedule/timeline.h"

enum { DPR_DRAWING_MIN_WIDTH = 40, DPR_DRAWING_MAX_WIDTH = 10000, DPR_DRAWING_WIDTH = 100 };

typedef struct dpr_drawing_options {
    int width;       /* columns of a line, from DPR_DRAWING_MIN_WIDTH to DPR_DRAWING_MAX_WIDTH */
    bool has_colour; /* ANSI colours by kind, of a palette that the colour-blind can tell apart */
    /* The span that is drawn, seconds; both 0: the timeline's own. So that two are drawn on one
     * axis. */
    double from_sec;
    double to_sec;
} dpr_drawing_options_t;

/*
 * Draws to `out`. Errors: DPR_ERR_INVALID where the width is out of range, a time is not finite or
 * the span ends before it begins; DPR_ERR_MEMORY; DPR_ERR_IO.
 */
dpr_status_t dpr_drawing_print(const dpr_timeline_t *timeline, const dpr_drawing_options_t *options,
                               FILE *out);

/* The columns of the terminal behind `out`, within the allowed range; DPR_DRAWING_WIDTH where it
 * is none. */
int dpr_drawing_terminal_width(FILE *out);

/* Whether `out` is a terminal and the environment does not ask for no colour (NO_COLOR, or TERM is
 * dumb). */
bool dpr_drawing_terminal_has_colour(FILE *out);

#endif
