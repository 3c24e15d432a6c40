/* Timelines: storage, and the summary that every report starts from. */
#include "schedule/timeline.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

dpr_status_t dpr_timeline_init(dpr_timeline_t *timeline, const dpr_graph_t *graph)
{
    const size_t count = (size_t)graph->node_count;
    double *times;
    DPR_TRY(dpr_calloc(4 * count, sizeof *times, &times));
    *timeline = (dpr_timeline_t){
        .graph = graph,
        .start = times,
        .end = times + count,
        .sender_ready = times + 2 * count,
        .receiver_ready = times + 3 * count,
    };
    return DPR_OK;
}

void dpr_timeline_free(dpr_timeline_t *timeline)
{
    free(timeline->start); /* one block holds all four */
    *timeline = (dpr_timeline_t){0};
}

static double span(const dpr_timeline_t *timeline)
{
    double first = INFINITY;
    double last = -INFINITY;
    for (int32_t node = 0; node < timeline->graph->node_count; node++) {
        first = fmin(first, timeline->start[node]);
        last = fmax(last, timeline->end[node]);
    }
    return timeline->graph->node_count > 0 ? last - first : 0.0;
}

dpr_status_t dpr_timeline_summarize(const dpr_timeline_t *timeline, dpr_timeline_summary_t *summary)
{
    const dpr_graph_t *graph = timeline->graph;
    const size_t ranks = (size_t)graph->ranks;
    double *per_rank;
    DPR_TRY(dpr_calloc(3 * ranks, sizeof *per_rank, &per_rank));
    *summary = (dpr_timeline_summary_t){
        .span_sec = span(timeline),
        .busy_sec = per_rank,
        .bubble_sec = per_rank + ranks,
        .rank_bubble_ratio = per_rank + 2 * ranks,
    };
    double ratios = 0.0;
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        double busy = 0.0;
        for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
            busy += timeline->end[n] - timeline->start[n];
        }
        const double bubble = summary->span_sec - busy;
        summary->busy_sec[rank] = busy;
        summary->bubble_sec[rank] = bubble;
        summary->rank_bubble_ratio[rank] =
            summary->span_sec > 0.0 ? bubble / summary->span_sec : 0.0;
        ratios += summary->rank_bubble_ratio[rank];
    }
    summary->bubble_ratio = ratios / (double)graph->ranks;
    return DPR_OK;
}

void dpr_timeline_summary_free(dpr_timeline_summary_t *summary)
{
    free(summary->busy_sec); /* one block holds all three */
    *summary = (dpr_timeline_summary_t){0};
}
