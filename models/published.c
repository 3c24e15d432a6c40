/* The published table of schedules, with numbers. */
#include "models/published.h"

#include <math.h>

#include "base/log.h"

static dpr_status_t check(int stages, const double costs[4])
{
    if (stages < 1 || stages > DPR_MAX_STAGES) {
        return dpr_fail(DPR_ERR_INVALID, "%d stages: expected 1 to %d", stages, DPR_MAX_STAGES);
    }
    for (int i = 0; i < 4; i++) {
        if (!isfinite(costs[i]) || costs[i] < 0.0) {
            return dpr_fail(DPR_ERR_INVALID, "a cost is %g: expected a finite number, 0 or more",
                            costs[i]);
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_published_table(int stages, const dpr_uniform_costs_t *costs,
                                 dpr_published_t *rows)
{
    const double f = costs->f;
    const double w = costs->w;
    const double b = dpr_uniform_b(costs);
    const double fb = dpr_uniform_fb(costs);
    const double all[4] = {f, w, b, fb};
    DPR_TRY(check(stages, all));
    const double one_way = stages - 1;
    const double two_way = stages / 2 - 1;
    const bool even = stages % 2 == 0;
    const dpr_published_t table[DPR_PUBLISHED_ROWS] = {
        {"1f1b", "1F1B", "(PP-1)(F+B)", "PP", "PP", true, one_way * (f + b), 1, stages, stages},
        {"zb1p", "ZB1P", "(PP-1)(F+B-2W)", "PP", "PP", true, one_way * (f + b - 2.0 * w), 1, stages,
         stages},
        {"dualpipe", "DualPipe", "(PP/2-1)(F&B+B-3W)", "PP+1", "PP", even,
         two_way * (fb + b - 3.0 * w), 2, stages + 1, stages},
        {"dualpipev", "DualPipeV", "(PP/2-1)(F&B+B-3W)", "PP+1", "PP/2", even,
         two_way * (fb + b - 3.0 * w), 2, stages + 1, stages / 2},
    };
    for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
        if (!isfinite(table[i].bubble_sec)) {
            return dpr_fail(DPR_ERR_INVALID, "the costs are too large: a bubble is not finite");
        }
    }
    for (int i = 0; i < DPR_PUBLISHED_ROWS; i++) {
        rows[i] = table[i];
    }
    return DPR_OK;
}
