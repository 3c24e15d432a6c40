/*
 * The published comparison of schedules for a model of PP stages: DeepSeek-AI 2024, "DeepSeek-V3
 * Technical Report" (arXiv 2412.19437), table 2, with the row of DualPipeV from the table in the
 * DualPipe repository of the same authors.
 *
 *                 bubble                    parameters   activations   devices
 *     1F1B        (PP-1)(F+B)               1x           PP            PP
 *     ZB1P        (PP-1)(F+B-2W)            1x           PP            PP
 *     DualPipe    (PP/2-1)(F&B+B-3W)        2x           PP+1          PP
 *     DualPipeV   (PP/2-1)(F&B+B-3W)        2x           PP+1          PP/2
 *
 * Costs are of one stage and micro-batch; B is the full backward, I + W. Activations count saved
 * sets of one stage and micro-batch on the device that holds most, parameters stages on a device.
 * bubbles.h says where the simulation agrees.
 */
#ifndef DPR_MODELS_PUBLISHED_H
#define DPR_MODELS_PUBLISHED_H

#include "models/costs.h"

enum { DPR_PUBLISHED_ROWS = 4 };

typedef struct dpr_published {
    const char *schedule;           /* as dpr_schedule_list names it */
    const char *title;              /* as published */
    const char *bubble_formula;     /* "(PP-1)(F+B)" */
    const char *activation_formula; /* "PP", "PP+1" */
    const char *device_formula;     /* "PP", "PP/2" */
    bool applies;                   /* false: this PP has none, for DualPipe(V) needs an even one */
    double bubble_sec;              /* as published, below 0 where W is too long for it to hold */
    int parameters;                 /* stages on a device: 1 or 2 */
    int activations;
    int devices;
} dpr_published_t;

/* Fills rows[DPR_PUBLISHED_ROWS]. Errors: DPR_ERR_INVALID where stages is not in
 * 1 .. DPR_MAX_STAGES or a cost is negative or not finite. */
dpr_status_t dpr_published_table(int stages, const dpr_uniform_costs_t *costs,
                                 dpr_published_t *rows);

#endif
