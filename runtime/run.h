/*
 * A run: everything that is needed to draw and to explain one step, as plain data. A simulation has
 * a prediction alone; a training run has a measurement beside it.
 *
 *     program + options --> graph --+-- cost[node] -----> predicted timeline --+
 *                                   +-- executor -------> measured timeline ---+--> dpr_run_analyse
 *                                                                              |
 *                    runtime/run_file (saves) <------- dpr_run_t --------------+--> runtime/page
 *
 * Nothing in a dpr_run_t is owned by it: whoever fills one keeps what it points to for as long as
 * it is used. Arrays of "node_count" have an entry for each node of the graph.
 */
#ifndef DPR_RUNTIME_RUN_H
#define DPR_RUNTIME_RUN_H

#include "models/bubbles.h"
#include "models/critical_path.h"
#include "models/ledger.h"
#include "models/prediction_error.h"

/* Times of a run are within +-DPR_RUN_MOST_SEC, so that no sum of them overflows. */
#define DPR_RUN_MOST_SEC 1e100

/* One line of a report's head: what was run, on what. UTF-8. */
typedef struct dpr_run_fact {
    const char *name;
    const char *value;
} dpr_run_fact_t;

/* What a calibrated link takes: latency + bytes / bandwidth. */
typedef struct dpr_run_link {
    int32_t source;
    int32_t destination;
    double latency_sec;
    double bandwidth_bytes_per_sec;
} dpr_run_link_t;

typedef struct dpr_run {
    const char *schedule;        /* "dualpipe"; for a program from a file, what to call it */
    const char *clock;           /* "wall", "core", "model"; of a simulation "simulation" */
    const char *unit;            /* of all times: "s", or "" where a cost of 1 is just 1 */
    const dpr_run_fact_t *facts; /* [fact_count] */
    size_t fact_count;

    const dpr_program_t *program;
    dpr_graph_options_t options; /* with which `graph` was created from `program` */
    const dpr_graph_t *graph;    /* verified */

    const double *cost;          /* [node_count]: what `predicted` was simulated with */
    const double *expected_cost; /* [node_count] or NULL: what the ops should take, where `cost` is
                                    of one step with stragglers, on purpose or drawn */
    const double *delay_sec;     /* [node_count] or NULL: and with these delays of the starts */
    dpr_timeline_t predicted;    /* of `graph` */

    bool is_measured;        /* whether there is what follows */
    dpr_timeline_t measured; /* of `graph`: one step */
    const double
        *measured_cost; /* [node_count] or NULL: what the nodes took on average of the last steps */
    const double *enqueued_sec; /* [node_count] or NULL: when the host enqueued them */

    bool has_closed_form;
    dpr_bubble_t closed_form;

    const dpr_run_link_t *links; /* [link_count] */
    size_t link_count;
    double message_bytes; /* of a transfer; 0: not known */
} dpr_run_t;

/* One timeline of a run, explained. */
typedef struct dpr_run_side {
    const dpr_timeline_t *timeline; /* the run's; NULL where the run has none */
    dpr_timeline_summary_t summary;
    dpr_ledger_t ledger;
    dpr_critical_path_t path;
} dpr_run_side_t;

typedef struct dpr_run_analysis {
    dpr_run_side_t predicted;
    dpr_run_side_t measured; /* zeroed where the run is not measured, as is `error` */
    dpr_prediction_error_t error;
} dpr_run_analysis_t;

/*
 * Whether a run can be saved and drawn. Errors: DPR_ERR_INVALID, logged with the text or the node,
 * where a text is NULL, not UTF-8 or has control characters, the clock is none of those, a time is
 * not within DPR_RUN_MOST_SEC, or a cost is negative or above it.
 */
dpr_status_t dpr_run_check(const dpr_run_t *run);

/*
 * Explains a run that dpr_run_check accepts (it is called here): stragglers are ops over
 * expected_cost, or where there is none over cost. Release with dpr_run_analysis_free.
 * Errors: those of dpr_run_check; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_run_analyse(const dpr_run_t *run, dpr_run_analysis_t *analysis);
void dpr_run_analysis_free(dpr_run_analysis_t *analysis);

/* From `sec` on, a rank holds `sets` saved sets of activations. */
typedef struct dpr_run_held {
    double sec;
    int sets;
} dpr_run_held_t;

/*
 * How many saved sets rank `rank` holds over time: a set is held from the start of its forward to
 * the end of its backward (of the weights). `held` has room for two entries an op of the rank.
 * Returns how many were written; times ascend as the rank's ops do.
 */
size_t dpr_run_held(const dpr_timeline_t *timeline, int32_t rank, dpr_run_held_t *held);

#endif
