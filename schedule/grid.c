/* Merges a rank's queues by time. */
#include "schedule/grid.h"

#include <assert.h>

static int time_of(const grid_queue_t *queue, int i, grid_repeat_t repeat)
{
    return queue->first_time + i / repeat.burst * repeat.period + i % repeat.burst * repeat.step;
}

dpr_status_t dpr_grid_append(dpr_program_t *program, int rank, const grid_queue_t *queues,
                             int count, int micro_batches, grid_repeat_t repeat)
{
    assert(count <= GRID_MAX_QUEUES);
    int next[GRID_MAX_QUEUES] = {0};
    for (int64_t left = (int64_t)count * micro_batches; left > 0; left--) {
        int first = -1;
        int first_time = INT32_MAX;
        for (int q = 0; q < count; q++) {
            if (next[q] < micro_batches && time_of(&queues[q], next[q], repeat) < first_time) {
                first = q;
                first_time = time_of(&queues[q], next[q], repeat);
            }
        }
        const grid_queue_t *queue = &queues[first];
        const int m = queue->first_micro_batch + next[first]++;
        DPR_TRY(dpr_program_append(program, rank, dpr_action(queue->kind, queue->stage, m)));
    }
    return DPR_OK;
}
