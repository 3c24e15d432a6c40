/*
 * Ledger: why every rank's compute stream was idle, for any timeline, predicted or measured.
 *
 *     timeline + op graph --> idle intervals --> causes of each --> causes of each rank = bubble
 *
 *      rank 0  | F0 | F1 |...........| B0 | B1 |      .  idle: ended by B0, which waited for the
 *      rank 1  |....| F0 | B0 | F1 | B1 |......|         gradient of B0 from rank 1
 *                fill          ^               drain
 *
 * Before a rank's first op, what passed until its last edge let it start is FILL, and the rest
 * HOST. An interval between two ops of a rank is attributed by the op that ended it, in this order,
 * each cause taking at most what the ones before have left:
 *
 *   HOST        the op started later than all its edges allowed
 *   BUFFER      all the rest, where the last edge was a send buffer that had not been emptied
 *   and, where it was the transfer of an input, what delayed that transfer behind its producer:
 *   HOST        it started later than all its edges allowed
 *   BUFFER      both sides were there but for the receive buffer
 *   WIRE        its bytes moved; then, where the channel was busy with the message before, that
 *               message's HOST, BUFFER and WIRE in the same way
 *   STRAGGLER   the producer took longer than its cost
 *   DEPENDENCY  the rest: the producer, on its rank, had not ended
 *
 * So a delay counts for what it cost the rank: a receive buffer that was late by 2 makes a wait of
 * 5 one of 3, even where the 2 passed while the rank still computed. The causes of an interval sum
 * to its length, those of a rank to its bubble.
 */
#ifndef DPR_MODELS_LEDGER_H
#define DPR_MODELS_LEDGER_H

#include "schedule/timeline.h"

/* Cause, name, and what it says, in the order in which reports list them. */
#define DPR_CAUSE_MAP(X)                                                                           \
    X(FILL, "fill", "before the rank's first op could start")                                      \
    X(DRAIN, "drain", "after the rank's last op")                                                  \
    X(DEPENDENCY, "dependency", "the producer of an input had not ended")                          \
    X(STRAGGLER, "straggler", "the producer took longer than its cost")                            \
    X(WIRE, "wire", "bytes were moving")                                                           \
    X(BUFFER, "buffer", "a buffer was not free")                                                   \
    X(HOST, "host", "started later than all it waited for")

typedef enum dpr_cause {
#define X(name, text, meaning) DPR_CAUSE_##name,
    DPR_CAUSE_MAP(X)
#undef X
        DPR_CAUSES,
} dpr_cause_t;

/* "fill", and "before the rank's first op". */
const char *dpr_cause_name(dpr_cause_t cause);
const char *dpr_cause_text(dpr_cause_t cause);

/* One idle interval of a rank's compute stream. */
typedef struct dpr_idle {
    int32_t rank;
    int32_t op;      /* the compute node that ended it; -1: the end of the step did */
    int32_t release; /* the node that the op waited for last; -1: none */
    double start_sec;
    double end_sec; /* before start_sec where clocks put an op before the end of the last: HOST */
    double sec[DPR_CAUSES];
} dpr_idle_t;

typedef struct dpr_ledger {
    int32_t ranks;
    double start_sec; /* of the span: the first start of any node */
    double span_sec;
    double *bubble_sec; /* per rank: span minus busy, as in dpr_timeline_summary_t */
    double *sec;        /* [rank][cause] */
    double *late_sec;   /* per rank: the part of the ops' own HOST before they were enqueued */
    dpr_idle_t *idle;   /* rank by rank, in time */
    size_t idle_count;
} dpr_ledger_t;

/*
 * Keeps the ledger of a timeline with finite times. Both arrays may be NULL, and have an entry for
 * each node of the timeline's graph: cost[node], the predicted costs in seconds, without which
 * there are no stragglers; and enqueued_sec[node], when the host enqueued it, of which the compute
 * ops' are read. O(nodes + edges). Release with dpr_ledger_free. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_ledger_init(const dpr_timeline_t *timeline, const double *cost,
                             const double *enqueued_sec, dpr_ledger_t *ledger);
void dpr_ledger_free(dpr_ledger_t *ledger);

static inline double dpr_ledger_sec(const dpr_ledger_t *ledger, int rank, dpr_cause_t cause)
{
    return ledger->sec[rank * DPR_CAUSES + (int)cause];
}

/* The ranks' mean of a cause, as a share of the span; 0 where there is no span. */
double dpr_ledger_mean_ratio(const dpr_ledger_t *ledger, dpr_cause_t cause);

#endif
