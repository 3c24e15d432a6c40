/* The explanation as text. */
#include "runtime/explanation.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/log.h"

double dpr_explanation_overlap(const dpr_explanation_t *explanation)
{
    return explanation->fused_sec > 0.0 ? 1.0 - explanation->fused_sec / explanation->separate_sec
                                        : NAN;
}

int dpr_explanation_kinds(const dpr_explanation_t *explanation,
                          dpr_kind_error_t kinds[DPR_EXPLAINED_KINDS])
{
    static const char *const names[DPR_EXPLAINED_KINDS] = {"F", "B", "I", "W", "F&B", "wire"};
    static const int kind_of[DPR_NODE_KINDS] = {
        [DPR_NODE_F] = 0,  [DPR_NODE_B] = 1,        [DPR_NODE_I] = 2,        [DPR_NODE_W] = 3,
        [DPR_NODE_FB] = 4, [DPR_NODE_SEND_ACT] = 5, [DPR_NODE_SEND_GRAD] = 5};
    const dpr_run_t *run = explanation->run;
    dpr_kind_error_t sums[DPR_EXPLAINED_KINDS] = {0};
    int32_t counts[DPR_EXPLAINED_KINDS] = {0};
    int found = 0;
    for (int32_t n = 0; n < run->graph->node_count; n++) {
        const int kind = kind_of[run->graph->nodes[n].kind];
        sums[kind].predicted_sec += run->expected_cost[n];
        sums[kind].measured_sec += run->measured_cost[n];
        counts[kind]++;
    }
    for (int kind = 0; kind < DPR_EXPLAINED_KINDS; kind++) {
        if (counts[kind] > 0) {
            kinds[found++] =
                (dpr_kind_error_t){.name = names[kind],
                                   .predicted_sec = sums[kind].predicted_sec / counts[kind],
                                   .measured_sec = sums[kind].measured_sec / counts[kind]};
        }
    }
    return found;
}

/* A number to print, without the sign of a zero that rounding made. */
static double shown(double value)
{
    return fabs(value) < 0.005 ? 0.0 : value;
}

/* ---- Why the ranks were idle ---- */

static void print_causes(const dpr_ledger_t *ledger, FILE *out)
{
    fprintf(out, "idle because of   ");
    const char *separator = "";
    for (int c = 0; c < DPR_CAUSES; c++) {
        const double ratio = dpr_ledger_mean_ratio(ledger, (dpr_cause_t)c);
        if (fabs(ratio) >= 0.00005) {
            fprintf(out, "%s%s %.2f %%", separator, dpr_cause_name((dpr_cause_t)c), 100.0 * ratio);
            separator = ", ";
        }
    }
    fprintf(out, "%s of the span\n", *separator == '\0' ? "nothing" : "");
}

static void print_ledger(const dpr_ledger_t *ledger, FILE *out)
{
    fprintf(out, "\nwhy each rank was idle, ms\nrank      bubble");
    for (int c = 0; c < DPR_CAUSES; c++) {
        fprintf(out, "  %10s", dpr_cause_name((dpr_cause_t)c));
    }
    fprintf(out, "\n");
    for (int rank = 0; rank < ledger->ranks; rank++) {
        fprintf(out, "%4d  %10.3f", rank, 1e3 * ledger->bubble_sec[rank]);
        for (int c = 0; c < DPR_CAUSES; c++) {
            fprintf(out, "  %10.3f", 1e3 * dpr_ledger_sec(ledger, rank, (dpr_cause_t)c));
        }
        fprintf(out, "\n");
    }
}

/* ---- How wrong the prediction was ---- */

static void print_parts(const dpr_error_parts_t *parts, double unit, FILE *out)
{
    fprintf(out, "cost %+.2f, wire %+.2f, host %+.2f, order %+.2f", shown(parts->cost / unit),
            shown(parts->wire / unit), shown(parts->host / unit), shown(parts->order / unit));
}

static void print_error(const dpr_prediction_error_t *error, FILE *out)
{
    const dpr_error_parts_t *span = &error->span_sec;
    const dpr_error_parts_t *bubble = &error->bubble_ratio;
    const double percent = 0.01 * span->measured;
    const double point = 0.01;
    const char *blamed;
    if (span->measured <= 0.0) {
        return;
    }
    const double largest = dpr_error_largest_part(span, &blamed);
    fprintf(out, "its time          %.3f ms, predicted %.3f ms: %+.2f %%, of which ",
            1e3 * span->measured, 1e3 * span->predicted,
            shown((span->predicted - span->measured) / percent));
    print_parts(span, percent, out);
    if (fabs(largest) >= 0.01 * percent) {
        fprintf(out, "; most is %s", blamed);
    }
    fprintf(out, "\nits bubble        %.2f %%, predicted %.2f %%: %+.2f points, of which ",
            bubble->measured / point, bubble->predicted / point,
            shown((bubble->predicted - bubble->measured) / point));
    print_parts(bubble, point, out);
    fprintf(out, "; rank by rank %.2f on average\n", error->mean_absolute_bubble_error / point);
}

/* Which kind's cost was wrong. */
static void print_kinds(const dpr_explanation_t *e, FILE *out)
{
    dpr_kind_error_t kinds[DPR_EXPLAINED_KINDS];
    const int count = dpr_explanation_kinds(e, kinds);
    const char *separator = "";
    fprintf(out, "its ops           ");
    for (int i = 0; i < count; i++) {
        const double measured = kinds[i].measured_sec;
        if (measured > 0.0) {
            fprintf(out, "%s%s %+.2f %%", separator, kinds[i].name,
                    shown(100.0 * (kinds[i].predicted_sec / measured - 1.0)));
            separator = ", ";
        }
    }
    fprintf(out, "%s: mean cost predicted over that of the last steps, less 1\n",
            *separator == '\0' ? "cost nothing" : "");
}

static void print_rank_errors(const dpr_prediction_error_t *error, FILE *out)
{
    const double point = 0.01;
    fprintf(out, "\nbubble, points    predicted   measured      error       cost       wire       "
                 "host      order\n");
    for (int rank = 0; rank < error->ranks; rank++) {
        const dpr_error_parts_t *parts = &error->rank_bubble_ratio[rank];
        fprintf(out, "rank %4d         %10.2f %10.2f %+10.2f %+10.2f %+10.2f %+10.2f %+10.2f\n",
                rank, parts->predicted / point, parts->measured / point,
                (parts->predicted - parts->measured) / point, parts->cost / point,
                parts->wire / point, parts->host / point, parts->order / point);
    }
}

/* ---- Promises ---- */

static double promise_error(const dpr_promise_t *promise)
{
    return promise->span_measured_sec > 0.0
               ? 100.0 * (promise->span_predicted_sec / promise->span_measured_sec - 1.0)
               : 0.0;
}

static void print_promises(const dpr_explanation_t *e, FILE *out)
{
    double error = 0.0;
    double rank_error = 0.0;
    for (int i = 1; i < e->promise_count; i++) {
        error += fabs(promise_error(&e->promises[i])) / (e->promise_count - 1);
        rank_error += e->promises[i].mean_rank_error / (e->promise_count - 1);
    }
    if (e->promise_count > 1) {
        fprintf(out,
                "predicted anew    %d time%s from measured steps: %.2f %% off in step time, %.2f "
                "points in the ranks' bubbles (calibration, until then: %+.2f %%, %.2f)\n",
                e->promise_count - 1, e->promise_count == 2 ? "" : "s", error, 100.0 * rank_error,
                shown(promise_error(&e->promises[0])), 100.0 * e->promises[0].mean_rank_error);
    }
}

static void print_every_promise(const dpr_explanation_t *e, FILE *out)
{
    fprintf(out, "\nprediction for steps      predicted ms  measured ms    error %%  bubble "
                 "predicted  measured %%  ranks off by, points\n");
    for (int i = 0; i < e->promise_count; i++) {
        const dpr_promise_t *p = &e->promises[i];
        fprintf(out, "%8ld to %8ld  %15.3f %12.3f %+10.2f  %16.2f %11.2f  %20.2f\n",
                p->first_step + 1, p->end_step, 1e3 * p->span_predicted_sec,
                1e3 * p->span_measured_sec, promise_error(p), 100.0 * p->bubble_predicted,
                100.0 * p->bubble_measured, 100.0 * p->mean_rank_error);
    }
}

/* ---- Clocks ---- */

static void print_clocks(const dpr_explanation_t *e, FILE *out)
{
    fprintf(out,
            "\nclocks against rank 0's   offset ms  drift, us/s  uncertain by, us  exchanges\n");
    for (int rank = 1; rank < e->run->graph->ranks; rank++) {
        const dpr_clock_fit_t *clock = &e->clocks[rank];
        fprintf(out, "rank %4d            %15.3f %12.3f %17.1f %10d\n", rank,
                1e3 * clock->offset_sec, 1e6 * clock->drift, 1e6 * clock->uncertainty_sec,
                clock->samples);
    }
}

/* ---- The whole ---- */

dpr_status_t dpr_explanation_print(const dpr_explanation_t *e, bool details, FILE *out)
{
    const dpr_run_analysis_t *analysis = e->analysis;
    fprintf(out,
            "explained         step %ld, the nearest to the medians of the last %d (of %ld; %.1f "
            "KiB of records)\n",
            e->step + 1, e->steps_kept, e->steps_seen, (double)e->history_bytes / 1024.0);
    print_causes(&analysis->measured.ledger, out);
    print_error(&analysis->error, out);
    print_kinds(e, out);
    if (e->fused_sec > 0.0) {
        const double overlap = dpr_explanation_overlap(e);
        if (isnan(overlap)) {
            fprintf(out,
                    "F&B               takes %.3f ms on average of its kinds; no F and B ran "
                    "alone to compare\n",
                    1e3 * e->fused_sec);
        } else {
            fprintf(out, "F&B               saves %.2f %% of F and B one after the other\n",
                    shown(100.0 * overlap));
        }
    }
    print_promises(e, out);
    if (details) {
        print_ledger(&analysis->measured.ledger, out);
        print_rank_errors(&analysis->error, out);
        print_every_promise(e, out);
    }
    if (details && e->clocks != NULL && e->run->graph->ranks > 1) {
        print_clocks(e, out);
    }
    return ferror(out) ? dpr_fail(DPR_ERR_IO, "cannot write the explanation: %s", strerror(errno))
                       : DPR_OK;
}
