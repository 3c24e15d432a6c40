/*
 * The critical path of a timeline: from the node that ended last, back through the edge that
 * determined each start. Only what lies on it can make the step shorter.
 */
#ifndef DPR_MODELS_CRITICAL_PATH_H
#define DPR_MODELS_CRITICAL_PATH_H

#include "schedule/timeline.h"

enum { DPR_PATH_BEGINS = -1 };

typedef struct dpr_path_link {
    int32_t node;
    int32_t reason;   /* dpr_edge_kind_t from the link before; DPR_PATH_BEGINS on the first */
    double wait_sec;  /* from the end of the link before (the first: from the span's start) to its
                         start: 0 where it is simulated; else the host's, or the clocks' */
    double spent_sec; /* from its start to its end */
} dpr_path_link_t;

/* The links, earliest first. Their waits and times add up to the span. */
typedef struct dpr_critical_path {
    dpr_path_link_t *links;
    size_t count;
    double compute_sec;
    double wire_sec;
    double wait_sec;
} dpr_critical_path_t;

/*
 * Finds the path in a timeline of a graph that dpr_graph_verify has accepted. Of edges that end at
 * once it takes the first in the graph's order, so that it stays on a rank where it can. Release
 * with dpr_critical_path_free. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_critical_path_init(const dpr_timeline_t *timeline, dpr_critical_path_t *path);
void dpr_critical_path_free(dpr_critical_path_t *path);

/* A reason for a person: "after the op before it on its rank". */
const char *dpr_path_reason_text(int32_t reason);

#endif
