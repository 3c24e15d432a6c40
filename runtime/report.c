/* The report as a table for a person. */
#include "runtime/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void dpr_train_report_free(dpr_train_report_t *report)
{
    free(report->loss);
    free(report->rank);
    *report = (dpr_train_report_t){0};
}

static void print_run(const dpr_train_report_t *r, FILE *out)
{
    fprintf(out,
            "%s on %d ranks, %d stages, %d micro-batches of %d; %d blocks, hidden %d, ffn %d, "
            "%.2f M parameters\n",
            r->schedule, r->ranks, r->stages, r->micro_batches, r->micro_batch_size, r->blocks,
            r->hidden, r->ffn, r->parameters / 1e6);
    fprintf(out, "device %s (%s)\n%s%s; transfers by %s; clock %s (%s)\n\n", r->device,
            r->device_reason, r->dtype, r->cuda_graph ? ", the step replayed as a CUDA graph" : "",
            r->comm, r->clock, r->clock_reason);
    if (r->test_samples > 0) {
        fprintf(out, "test accuracy     %.2f %%  (loss %.4f, %ld samples)\n",
                100.0 * r->test_accuracy, r->test_loss, r->test_samples);
    }
    fprintf(out, "samples/s         %.0f  (%ld steps in %.1f s of real time)\n", r->samples_per_sec,
            r->steps, r->train_sec);
    if (r->steps > 0) {
        fprintf(out, "loss              %.4f -> %.4f\n", r->loss[0], r->loss[r->steps - 1]);
    }
}

static void print_step(const dpr_train_report_t *r, FILE *out)
{
    const bool timed = r->step_measured_sec > 0.0; /* costs of nothing are allowed */
    fprintf(out,
            "step time         %.3f ms measured (p10 %.3f, p90 %.3f), %.3f ms predicted: %+.2f %%\n"
            "                  (%.3f ms and a bubble of %.2f %% if every op took its mean)\n",
            1e3 * r->step_measured_sec, 1e3 * r->step_p10_sec, 1e3 * r->step_p90_sec,
            1e3 * r->step_predicted_sec,
            timed ? 100.0 * (r->step_predicted_sec / r->step_measured_sec - 1.0) : 0.0,
            1e3 * r->step_at_means_sec, timed ? 100.0 * r->bubble_at_means : 0.0);
    fprintf(out, "beside the step   %.3f ms replica reduction, %.3f ms norm and optimizer\n",
            1e3 * r->reduction_sec, 1e3 * r->update_sec);
    fprintf(out, "costs (means)     F %.3f, B %.3f, I %.3f, W %.3f, F&B %.3f, wire %.4f ms\n",
            1e3 * r->costs.f, 1e3 * dpr_uniform_b(&r->costs), 1e3 * r->costs.i, 1e3 * r->costs.w,
            1e3 * dpr_uniform_fb(&r->costs), 1e3 * r->costs.wire);
    if (timed) {
        fprintf(out, "GEMM throughput   %.2f GFLOP/s a rank while busy\n",
                r->gemm_flops_per_step / 1e9 /
                    (r->step_measured_sec * (1.0 - r->bubble_measured) * r->ranks));
    }
    fprintf(out, "scheduler         %.0f ns of CPU time per op, %.0f ops a step on rank 0\n",
            r->scheduler_ns_per_op, r->scheduler_ops_per_step);
    fprintf(out, "parameters        XXH3 %s\n\n", r->parameters_hash);
}

static void print_ratio(FILE *out, double ratio)
{
    if (isnan(ratio)) {
        fprintf(out, "  %9s", "-");
    } else {
        fprintf(out, "  %7.2f %%", 100.0 * ratio);
    }
}

static void print_points(FILE *out, double predicted, double measured)
{
    if (isnan(predicted) || isnan(measured)) {
        fprintf(out, "  %9s", "-");
    } else {
        fprintf(out, "  %+9.2f", 100.0 * (predicted - measured));
    }
}

static void print_bubbles(FILE *out, double closed_form, double simulated, double measured)
{
    print_ratio(out, closed_form);
    print_ratio(out, simulated);
    print_ratio(out, measured);
    print_points(out, closed_form, measured);
    print_points(out, simulated, measured);
}

static void print_ranks(const dpr_train_report_t *r, FILE *out)
{
    fprintf(out, "bubble, of the span                              error, points\n");
    fprintf(out, "rank  closed form  simulated   measured  closed f.  simulated  activations  "
                 "memory, bytes (predicted)\n");
    for (int i = 0; i < r->ranks; i++) {
        const dpr_rank_report_t *rank = &r->rank[i];
        fprintf(out, "%4d  ", i);
        print_bubbles(out, rank->bubble_closed_form, rank->bubble_simulated, rank->bubble_measured);
        fprintf(out, "  %11d  %.0f (%.0f)\n", rank->peak_activations, rank->memory_bytes,
                rank->predicted_memory_bytes);
    }
    fprintf(out, "mean  ");
    print_bubbles(out, r->has_closed_form ? r->closed_form.bubble_ratio : NAN, r->bubble_simulated,
                  r->bubble_measured);
    fprintf(out, "\n");
    if (r->has_closed_form) {
        static const char *const words[] = {[DPR_EXACT] = "exact here",
                                            [DPR_LOWER_BOUND] = "a lower bound here",
                                            [DPR_UPPER_BOUND] = "an upper bound here",
                                            [DPR_APPROXIMATE] = "an approximation here"};
        fprintf(out, "closed form: %s (exact where %s)\n", words[r->closed_form.exactness],
                r->closed_form.condition);
    }
}

/* GPUs have an identity; the host's ranks share theirs. */
static void print_devices(const dpr_train_report_t *r, FILE *out)
{
    if (r->ranks < 1 || r->rank[0].pci[0] == '\0') {
        return;
    }
    fprintf(out, "rank  PCI id            NUMA node  GPU\n");
    for (int i = 0; i < r->ranks; i++) {
        const dpr_rank_report_t *rank = &r->rank[i];
        char node[16] = "-";
        if (rank->numa_node >= 0) {
            snprintf(node, sizeof node, "%d", rank->numa_node);
        }
        fprintf(out, "%4d  %-16s  %9s  %s, %s\n", i, rank->pci, node, rank->device, rank->driver);
    }
}

static void print_verify(const dpr_verify_report_t *verify, FILE *out)
{
    if (verify->done) {
        const bool holds = verify->loss_difference <= verify->tolerance &&
                           verify->gradient_difference <= verify->tolerance;
        fprintf(out,
                "verify: %s: %ld steps against one process: losses differ by %.2e, gradients by "
                "%.2e relative (allowed %.0e)\n",
                holds ? "passed" : "FAILED", verify->steps, verify->loss_difference,
                verify->gradient_difference, verify->tolerance);
    }
}

dpr_status_t dpr_train_report_print(const dpr_train_report_t *report, bool details, FILE *out)
{
    print_run(report, out);
    print_step(report, out);
    print_ranks(report, out);
    if (report->explanation != NULL) {
        fprintf(out, "\n");
        DPR_TRY(dpr_explanation_print(report->explanation, details, out));
    }
    print_devices(report, out);
    print_verify(&report->verify, out);
    if (fflush(out) != 0 || ferror(out)) {
        return dpr_fail(DPR_ERR_IO, "cannot write the report: %s", strerror(errno));
    }
    return DPR_OK;
}
