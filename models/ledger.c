/* The ledger: idle intervals, and the causes of each by what released the op that ended it. */
#include "models/ledger.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

const char *dpr_cause_name(dpr_cause_t cause)
{
    static const char *const names[] = {
#define X(name, text, meaning) text,
        DPR_CAUSE_MAP(X)
#undef X
    };
    assert(cause < DPR_CAUSES);
    return names[cause];
}

const char *dpr_cause_text(dpr_cause_t cause)
{
    static const char *const texts[] = {
#define X(name, text, meaning) meaning,
        DPR_CAUSE_MAP(X)
#undef X
    };
    assert(cause < DPR_CAUSES);
    return texts[cause];
}

/* ---- One wait ---- */

typedef struct accounts {
    const dpr_timeline_t *timeline;
    const double *cost;
    const double *enqueued_sec;
    dpr_ledger_t *ledger;
    size_t capacity; /* of ledger->idle */
} accounts_t;

/* Charges `amount` of what is left of a wait to a cause; returns what is left then. */
static double charge(double *sec, double left, double amount)
{
    const double part = fmin(left, fmax(amount, 0.0));
    *sec += part;
    return left - part;
}

/* How a transfer came to start: three moments, none before the one above it. */
typedef struct transfer_start {
    int32_t producer;
    int32_t previous;    /* the message that kept the channel busy, or -1 */
    double produced_sec; /* the producer ended */
    double queue_sec;    /* and the messages before it had moved, as either side has them */
    double buffer_sec;   /* and its receive buffer was free */
} transfer_start_t;

static transfer_start_t start_of(const dpr_timeline_t *timeline, int32_t transfer)
{
    const dpr_graph_t *graph = timeline->graph;
    transfer_start_t found = {.producer = -1, .previous = -1};
    double moved = -INFINITY;
    double freed = -INFINITY;
    for (int32_t e = graph->edge_begin[transfer]; e < graph->edge_begin[transfer + 1]; e++) {
        const dpr_edge_t *edge = &graph->edges[e];
        const double end = timeline->end[edge->from];
        if (edge->kind == DPR_EDGE_DATA) {
            found.producer = edge->from;
        } else if (edge->kind == DPR_EDGE_RECV_BUFFER) {
            freed = end;
        } else if (end > moved) {
            moved = end;
            found.previous = edge->from;
        }
    }
    assert(found.producer >= 0);
    found.produced_sec = timeline->end[found.producer];
    found.queue_sec = fmax(found.produced_sec, moved);
    found.buffer_sec = fmax(found.queue_sec, freed);
    return found;
}

/* A wait for an op of another rank to end. */
static void explain_producer(const accounts_t *accounts, int32_t producer, double left, double *sec)
{
    const dpr_timeline_t *timeline = accounts->timeline;
    if (accounts->cost != NULL) {
        const double expected = timeline->start[producer] + accounts->cost[producer];
        left = charge(&sec[DPR_CAUSE_STRAGGLER], left, timeline->end[producer] - expected);
    }
    sec[DPR_CAUSE_DEPENDENCY] += left;
}

/* A wait for the end of a transfer. */
static void explain_transfer(const accounts_t *accounts, int32_t transfer, double left, double *sec)
{
    const dpr_timeline_t *timeline = accounts->timeline;
    for (;;) {
        const transfer_start_t start = start_of(timeline, transfer);
        const double began = timeline->start[transfer];
        left = charge(&sec[DPR_CAUSE_HOST], left, began - start.buffer_sec);
        left = charge(&sec[DPR_CAUSE_BUFFER], left, start.buffer_sec - start.queue_sec);
        left = charge(&sec[DPR_CAUSE_WIRE], left, timeline->end[transfer] - began);
        const double queued = fmin(left, start.queue_sec - start.produced_sec);
        if (left - queued > 0.0) {
            explain_producer(accounts, start.producer, left - queued, sec);
        }
        if (!(queued > 0.0)) {
            return;
        }
        transfer = start.previous;
        left = queued;
    }
}

/* The edge that let an op start: the one of which the source ended last; of equal ones the first,
 * which is ORDER. NULL where the op waits for nothing. */
static const dpr_edge_t *last_edge(const dpr_timeline_t *timeline, int32_t op)
{
    const dpr_graph_t *graph = timeline->graph;
    const dpr_edge_t *last = NULL;
    for (int32_t e = graph->edge_begin[op]; e < graph->edge_begin[op + 1]; e++) {
        if (last == NULL || timeline->end[graph->edges[e].from] > timeline->end[last->from]) {
            last = &graph->edges[e];
        }
    }
    return last;
}

/* What passed between the last of an op's edges and its start. Returns what is left of `gap`. */
static double explain_start(accounts_t *accounts, dpr_idle_t *idle, double gap,
                            const dpr_edge_t *edge)
{
    const double let_sec = edge != NULL ? accounts->timeline->end[edge->from] : -INFINITY;
    const double released = fmax(idle->start_sec, let_sec);
    const double left = charge(&idle->sec[DPR_CAUSE_HOST], gap, idle->end_sec - released);
    idle->release = edge != NULL ? edge->from : -1;
    if (accounts->enqueued_sec != NULL) {
        (void)charge(&accounts->ledger->late_sec[idle->rank], idle->sec[DPR_CAUSE_HOST],
                     accounts->enqueued_sec[idle->op] - released);
    }
    return left;
}

/* The interval before a rank's first op. */
static void explain_fill(accounts_t *accounts, dpr_idle_t *idle)
{
    idle->sec[DPR_CAUSE_FILL] = explain_start(accounts, idle, idle->end_sec - idle->start_sec,
                                              last_edge(accounts->timeline, idle->op));
}

/* The interval between an op and the one before it on its rank. */
static void explain_gap(accounts_t *accounts, dpr_idle_t *idle)
{
    const dpr_edge_t *edge = last_edge(accounts->timeline, idle->op); /* there is ORDER */
    const double gap = idle->end_sec - idle->start_sec;
    if (gap < 0.0) {
        idle->release = edge->from;
        idle->sec[DPR_CAUSE_HOST] = gap;
        return;
    }
    const double left = explain_start(accounts, idle, gap, edge);
    if (!(left > 0.0)) {
        return;
    }
    if (edge->kind == DPR_EDGE_SEND_BUFFER) {
        idle->sec[DPR_CAUSE_BUFFER] += left;
    } else if (dpr_node_is_transfer(&accounts->timeline->graph->nodes[edge->from])) {
        explain_transfer(accounts, edge->from, left, idle->sec);
    } else {
        explain_producer(accounts, edge->from, left, idle->sec);
    }
}

/* ---- The ranks ---- */

static dpr_status_t add_idle(accounts_t *accounts, int32_t rank, int32_t op, double start_sec,
                             double end_sec)
{
    dpr_ledger_t *ledger = accounts->ledger;
    if (start_sec == end_sec) {
        return DPR_OK;
    }
    DPR_TRY(dpr_reserve(&ledger->idle, &accounts->capacity, ledger->idle_count + 1,
                        sizeof *ledger->idle));
    dpr_idle_t *idle = &ledger->idle[ledger->idle_count++];
    *idle = (dpr_idle_t){
        .rank = rank, .op = op, .release = -1, .start_sec = start_sec, .end_sec = end_sec};
    if (op < 0) {
        idle->sec[DPR_CAUSE_DRAIN] = end_sec - start_sec;
    } else if (op == accounts->timeline->graph->rank_begin[rank]) {
        explain_fill(accounts, idle);
    } else {
        explain_gap(accounts, idle);
    }
    for (int c = 0; c < DPR_CAUSES; c++) {
        ledger->sec[rank * DPR_CAUSES + c] += idle->sec[c];
    }
    return DPR_OK;
}

static dpr_status_t add_rank(accounts_t *accounts, int32_t rank)
{
    const dpr_timeline_t *timeline = accounts->timeline;
    const int32_t begin = timeline->graph->rank_begin[rank];
    const int32_t end = timeline->graph->rank_begin[rank + 1];
    const double span_end = accounts->ledger->start_sec + accounts->ledger->span_sec;
    double free_since = accounts->ledger->start_sec;
    for (int32_t n = begin; n < end; n++) {
        DPR_TRY(add_idle(accounts, rank, n, free_since, timeline->start[n]));
        free_since = timeline->end[n];
    }
    return add_idle(accounts, rank, -1, free_since, span_end);
}

static double first_start(const dpr_timeline_t *timeline)
{
    double first = INFINITY;
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        first = fmin(first, timeline->start[n]);
    }
    return timeline->graph->node_count > 0 ? first : 0.0;
}

static dpr_status_t prepare(const dpr_timeline_t *timeline, dpr_ledger_t *ledger)
{
    const size_t ranks = (size_t)timeline->graph->ranks;
    dpr_timeline_summary_t summary;
    DPR_TRY(dpr_calloc(ranks * (DPR_CAUSES + 2), sizeof *ledger->sec, &ledger->sec));
    ledger->bubble_sec = ledger->sec + ranks * DPR_CAUSES;
    ledger->late_sec = ledger->bubble_sec + ranks;
    DPR_TRY(dpr_timeline_summarize(timeline, &summary));
    ledger->span_sec = summary.span_sec;
    for (size_t r = 0; r < ranks; r++) {
        ledger->bubble_sec[r] = summary.bubble_sec[r];
    }
    dpr_timeline_summary_free(&summary);
    ledger->start_sec = first_start(timeline);
    return DPR_OK;
}

dpr_status_t dpr_ledger_init(const dpr_timeline_t *timeline, const double *cost,
                             const double *enqueued_sec, dpr_ledger_t *ledger)
{
    dpr_ledger_t kept = {.ranks = timeline->graph->ranks};
    accounts_t accounts = {
        .timeline = timeline, .cost = cost, .enqueued_sec = enqueued_sec, .ledger = &kept};
    dpr_status_t status;
    DPR_TRY_GOTO(prepare(timeline, &kept), free_kept);
    for (int32_t rank = 0; rank < kept.ranks; rank++) {
        DPR_TRY_GOTO(add_rank(&accounts, rank), free_kept);
    }
    *ledger = kept;
    return DPR_OK;
free_kept:
    dpr_ledger_free(&kept);
    return status;
}

void dpr_ledger_free(dpr_ledger_t *ledger)
{
    free(ledger->sec); /* one block holds what is per rank */
    free(ledger->idle);
    *ledger = (dpr_ledger_t){0};
}

double dpr_ledger_mean_ratio(const dpr_ledger_t *ledger, dpr_cause_t cause)
{
    double sum = 0.0;
    for (int rank = 0; rank < ledger->ranks; rank++) {
        sum += dpr_ledger_sec(ledger, rank, cause);
    }
    return ledger->span_sec > 0.0 ? sum / ledger->ranks / ledger->span_sec : 0.0;
}
