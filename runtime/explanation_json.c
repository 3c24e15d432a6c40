/* The explanation as JSON; docs/report-schema.md describes every key. */
#include <jansson.h>
#include <math.h>

#include "runtime/explanation.h"

/* A number, or null where it is not finite: JSON has neither NaN nor infinity. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *parts_json(const dpr_error_parts_t *parts)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "predicted", number(parts->predicted),
                     "measured", number(parts->measured), "cost", number(parts->cost), "wire",
                     number(parts->wire), "host", number(parts->host), "order",
                     number(parts->order));
}

static json_t *causes_json(const dpr_ledger_t *ledger, int rank)
{
    json_t *causes = json_object();
    for (int c = 0; c < DPR_CAUSES; c++) {
        (void)json_object_set_new(causes, dpr_cause_name((dpr_cause_t)c),
                                  number(dpr_ledger_sec(ledger, rank, (dpr_cause_t)c)));
    }
    return causes;
}

static json_t *kinds_json(const dpr_explanation_t *e)
{
    dpr_kind_error_t kinds[DPR_EXPLAINED_KINDS];
    const int count = dpr_explanation_kinds(e, kinds);
    json_t *array = json_array();
    for (int i = 0; i < count; i++) {
        (void)json_array_append_new(array,
                                    json_pack("{s:s, s:o, s:o}", "kind", kinds[i].name,
                                              "predicted_sec", number(kinds[i].predicted_sec),
                                              "measured_sec", number(kinds[i].measured_sec)));
    }
    return array;
}

static json_t *ranks_json(const dpr_explanation_t *e)
{
    const dpr_ledger_t *ledger = &e->analysis->measured.ledger;
    json_t *ranks = json_array();
    for (int rank = 0; rank < ledger->ranks; rank++) {
        (void)json_array_append_new(
            ranks,
            json_pack("{s:i, s:o, s:o, s:o}", "rank", rank, "bubble_sec",
                      number(ledger->bubble_sec[rank]), "idle_sec", causes_json(ledger, rank),
                      "bubble_ratio", parts_json(&e->analysis->error.rank_bubble_ratio[rank])));
    }
    return ranks;
}

static json_t *promises_json(const dpr_explanation_t *e)
{
    json_t *promises = json_array();
    for (int i = 0; i < e->promise_count; i++) {
        const dpr_promise_t *p = &e->promises[i];
        (void)json_array_append_new(
            promises,
            json_pack("{s:s, s:I, s:I, s:{s:o, s:o}, s:{s:o, s:o}, s:o}", "from",
                      i == 0 ? "calibration" : "measured steps", "first_step",
                      (json_int_t)p->first_step, "end_step", (json_int_t)p->end_step,
                      "step_time_sec", "predicted", number(p->span_predicted_sec), "measured",
                      number(p->span_measured_sec), "bubble_ratio", "predicted",
                      number(p->bubble_predicted), "measured", number(p->bubble_measured),
                      "mean_rank_error", number(p->mean_rank_error)));
    }
    return promises;
}

static json_t *clocks_json(const dpr_explanation_t *e)
{
    if (e->clocks == NULL) {
        return json_null();
    }
    json_t *clocks = json_array();
    for (int rank = 0; rank < e->run->graph->ranks; rank++) {
        const dpr_clock_fit_t *clock = &e->clocks[rank];
        (void)json_array_append_new(
            clocks,
            json_pack("{s:i, s:o, s:o, s:o, s:i}", "rank", rank, "offset_sec",
                      number(clock->offset_sec), "drift", number(clock->drift), "uncertainty_sec",
                      number(clock->uncertainty_sec), "exchanges", clock->samples));
    }
    return clocks;
}

json_t *dpr_explanation_json(const dpr_explanation_t *e)
{
    const dpr_run_side_t *measured = &e->analysis->measured;
    const dpr_prediction_error_t *error = &e->analysis->error;
    return json_pack(
        "{s:I, s:i, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:{s:o, s:o, s:o}, s:o, "
        "s:o}",
        "step", (json_int_t)e->step, "steps_kept", e->steps_kept, "steps_seen",
        (json_int_t)e->steps_seen, "history_bytes", json_integer((json_int_t)e->history_bytes),
        "step_time_sec", parts_json(&error->span_sec), "bubble_ratio",
        parts_json(&error->bubble_ratio), "mean_rank_error",
        number(error->mean_absolute_bubble_error), "ops", kinds_json(e), "ranks", ranks_json(e),
        "critical_path_sec", "compute", number(measured->path.compute_sec), "wire",
        number(measured->path.wire_sec), "wait", number(measured->path.wait_sec), "overlap",
        "fused_sec", number(e->fused_sec), "separate_sec", number(e->separate_sec), "saved_ratio",
        number(dpr_explanation_overlap(e)), "promises", promises_json(e), "clocks", clocks_json(e));
}
