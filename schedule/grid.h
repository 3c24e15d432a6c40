/*
 * Schedules from a grid of time (internal to schedule/). A rank's actions are a few queues, each of
 * one kind on one stage, micro-batch after micro-batch at times of its own:
 *
 *     F of stage 0   0   2       8   10
 *     B of stage 0       3   5        11  13       ->   F0 F1 B0 B1 F2 F3 B2 B3
 *
 * Only the order is kept; played as early as it goes, it squeezes out the grid's holes. Where the
 * grid has every action later than what it needs, the order cannot deadlock.
 */
#ifndef DPR_SCHEDULE_GRID_H
#define DPR_SCHEDULE_GRID_H

#include "schedule/program.h"

typedef struct grid_queue {
    dpr_action_kind_t kind;
    int stage;
    int first_micro_batch;
    int first_time; /* of the first micro-batch; the others follow as grid_repeat_t says */
} grid_queue_t;

/* How a queue goes on: `burst` micro-batches `step` apart, the next burst `period` after. */
typedef struct grid_repeat {
    int burst;
    int step;
    int period;
} grid_repeat_t;

enum { GRID_MAX_QUEUES = 6 };

/*
 * Appends to `rank` what its queues hold, `micro_batches` each, in order of time; of two at one
 * time, the queue that stands first. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_grid_append(dpr_program_t *program, int rank, const grid_queue_t *queues,
                             int count, int micro_batches, grid_repeat_t repeat);

#endif
