/*
 * Timeline: when each node of a graph ran. The same type for a prediction and a measurement, so
 * that both are compared, drawn and explained by the same code.
 */
#ifndef DPR_SCHEDULE_TIMELINE_H
#define DPR_SCHEDULE_TIMELINE_H

#include "schedule/graph.h"

/*
 * Seconds from the start of the step, node by node. For a compute op sender_ready and
 * receiver_ready equal start. For a transfer, start = max(sender_ready, receiver_ready): before it
 * one side waited, after it bytes moved.
 */
typedef struct dpr_timeline {
    const dpr_graph_t *graph; /* not owned; outlives the timeline */
    double *start;
    double *end;
    double *sender_ready;
    double *receiver_ready;
} dpr_timeline_t;

dpr_status_t dpr_timeline_init(dpr_timeline_t *timeline, const dpr_graph_t *graph);
void dpr_timeline_free(dpr_timeline_t *timeline);

/*
 * Span: from the first start to the last end of any F, B, I, W or transfer, over all ranks. A
 * rank's bubble is the span minus the time its compute stream was busy; its bubble ratio is bubble
 * / span.
 */
typedef struct dpr_timeline_summary {
    double span_sec;
    double bubble_ratio;       /* mean over the ranks */
    double *busy_sec;          /* per rank */
    double *bubble_sec;        /* per rank */
    double *rank_bubble_ratio; /* per rank */
} dpr_timeline_summary_t;

dpr_status_t dpr_timeline_summarize(const dpr_timeline_t *timeline,
                                    dpr_timeline_summary_t *summary);
void dpr_timeline_summary_free(dpr_timeline_summary_t *summary);

#endif
