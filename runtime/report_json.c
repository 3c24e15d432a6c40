/* The report as JSON; docs/report-schema.md describes every key. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "runtime/report.h"

/* A number, or null where it is not finite: JSON has neither NaN nor infinity. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *model_json(const dpr_train_report_t *r)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:o}", "input", r->input, "hidden", r->hidden,
                     "ffn", r->ffn, "blocks", r->blocks, "classes", r->classes, "parameters",
                     json_integer((json_int_t)r->parameters));
}

static json_t *loss_json(const dpr_train_report_t *r)
{
    json_t *array = json_array();
    for (long k = 0; k < r->steps; k++) {
        json_array_append_new(array, number(r->loss[k]));
    }
    return array;
}

static json_t *bubbles_json(double closed_form, double simulated, double measured)
{
    return json_pack("{s:o, s:o, s:o}", "closed_form", number(closed_form), "simulated",
                     number(simulated), "measured", number(measured));
}

/* What a rank computed on; the host has neither a driver nor a PCI id. */
static json_t *device_json(const dpr_rank_report_t *rank)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "name", rank->device, "driver",
                     rank->driver[0] != '\0' ? json_string(rank->driver) : json_null(), "pci",
                     rank->pci[0] != '\0' ? json_string(rank->pci) : json_null(), "numa_node",
                     rank->numa_node >= 0 ? json_integer(rank->numa_node) : json_null());
}

static json_t *ranks_json(const dpr_train_report_t *r)
{
    json_t *array = json_array();
    for (int i = 0; i < r->ranks; i++) {
        const dpr_rank_report_t *rank = &r->rank[i];
        json_array_append_new(
            array,
            json_pack("{s:i, s:o, s:{s:o, s:o}, s:i, s:o, s:o, s:o, s:o, s:o}", "rank", i,
                      "bubble_ratio",
                      bubbles_json(rank->bubble_closed_form, rank->bubble_simulated,
                                   rank->bubble_measured),
                      "busy_sec", "predicted", number(rank->busy_predicted_sec), "measured",
                      number(rank->busy_measured_sec), "peak_activations", rank->peak_activations,
                      "arena_bytes", json_integer((json_int_t)rank->arena_bytes), "workspace_bytes",
                      json_integer((json_int_t)rank->workspace_bytes), "predicted_memory_bytes",
                      json_integer((json_int_t)rank->predicted_memory_bytes), "memory_bytes",
                      json_integer((json_int_t)rank->memory_bytes), "device", device_json(rank)));
    }
    return array;
}

static json_t *step_time_json(const dpr_train_report_t *r)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "predicted",
                     number(r->step_predicted_sec), "predicted_at_means",
                     number(r->step_at_means_sec), "measured", number(r->step_measured_sec),
                     "measured_p10", number(r->step_p10_sec), "measured_p90",
                     number(r->step_p90_sec), "error_percent",
                     number(100.0 * (r->step_predicted_sec / r->step_measured_sec - 1.0)),
                     "reduction", number(r->reduction_sec), "update", number(r->update_sec));
}

static json_t *costs_json(const dpr_uniform_costs_t *costs)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "F", number(costs->f), "I", number(costs->i),
                     "W", number(costs->w), "B", number(dpr_uniform_b(costs)), "FB",
                     number(dpr_uniform_fb(costs)), "wire", number(costs->wire));
}

static json_t *closed_form_json(const dpr_train_report_t *r)
{
    static const char *const words[] = {[DPR_EXACT] = "exact",
                                        [DPR_LOWER_BOUND] = "lower_bound",
                                        [DPR_UPPER_BOUND] = "upper_bound",
                                        [DPR_APPROXIMATE] = "approximate"};
    if (!r->has_closed_form) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:s, s:s}", "bubble_sec", number(r->closed_form.bubble_sec),
                     "bubble_ratio", number(r->closed_form.bubble_ratio), "exactness",
                     words[r->closed_form.exactness], "condition", r->closed_form.condition);
}

static json_t *verify_json(const dpr_verify_report_t *verify)
{
    if (!verify->done) {
        return json_null();
    }
    return json_pack("{s:I, s:o, s:o, s:o}", "steps", (json_int_t)verify->steps, "loss_difference",
                     number(verify->loss_difference), "gradient_difference",
                     number(verify->gradient_difference), "tolerance", number(verify->tolerance));
}

static json_t *run_json(const dpr_train_report_t *r)
{
    return json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:I, s:o}",
        "schedule", r->schedule, "rank_count", r->ranks, "stages", r->stages, "micro_batches",
        r->micro_batches, "micro_batch_size", r->micro_batch_size, "data", r->data, "device",
        r->device, "device_reason", r->device_reason, "dtype", r->dtype, "comm", r->comm,
        "cuda_graph", (int)r->cuda_graph, "clock", r->clock, "clock_reason", r->clock_reason,
        "optimizer", r->optimizer, "seed", (json_int_t)r->seed, "model", model_json(r));
}

static json_t *results_json(const dpr_train_report_t *r)
{
    return json_pack("{s:i, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:s}", "epochs", r->epochs, "steps",
                     (json_int_t)r->steps, "loss", loss_json(r), "test_accuracy",
                     number(r->test_samples > 0 ? r->test_accuracy : NAN), "test_loss",
                     number(r->test_samples > 0 ? r->test_loss : NAN), "test_samples",
                     (json_int_t)r->test_samples, "train_sec", number(r->train_sec),
                     "samples_per_sec", number(r->samples_per_sec), "parameters_hash",
                     r->parameters_hash);
}

static json_t *measures_json(const dpr_train_report_t *r)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o}, s:{s:I, s:o}, s:o, s:o}",
                     "step_time_sec", step_time_json(r), "cost_sec", costs_json(&r->costs),
                     "closed_form", closed_form_json(r), "bubble_ratio",
                     bubbles_json(r->has_closed_form ? r->closed_form.bubble_ratio : NAN,
                                  r->bubble_simulated, r->bubble_measured),
                     "timeline_difference", number(r->timeline_difference), "clock_uncertainty_sec",
                     number(r->clock_uncertainty_sec), "gemm_flops_per_step",
                     number(r->gemm_flops_per_step), "scheduler", "ns_per_op",
                     number(r->scheduler_ns_per_op), "ops_per_step",
                     number(r->scheduler_ops_per_step), "loader", "stalls",
                     (json_int_t)r->loader_stalls, "stall_sec", number(r->loader_stall_sec),
                     "ranks", ranks_json(r), "verify", verify_json(&r->verify));
}

static json_t *explanation_json(const dpr_train_report_t *r)
{
    return json_pack("{s:o}", "explanation",
                     r->explanation != NULL ? dpr_explanation_json(r->explanation) : json_null());
}

dpr_status_t dpr_train_report_write_json(const dpr_train_report_t *report, const char *path)
{
    json_t *root = json_pack("{s:s, s:i}", "format", "dualpipe-train-report", "version", 1);
    json_t *const parts[] = {run_json(report), results_json(report), measures_json(report),
                             explanation_json(report)};
    bool complete = root != NULL;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        complete = complete && parts[i] != NULL && json_object_update(root, parts[i]) == 0;
        json_decref(parts[i]);
    }
    dpr_status_t status = DPR_OK;
    if (!complete) {
        status = dpr_fail(DPR_ERR_MEMORY, "cannot build the report for %s", path);
    } else if (json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) != 0) {
        status = dpr_fail(DPR_ERR_IO, "cannot write the report to %s: %s", path, strerror(errno));
    }
    json_decref(root);
    return status;
}
