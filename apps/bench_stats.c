/* Numbers of dualpipe_bench: spreads, means over ranks, and the report. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "apps/bench.h"
#include "base/log.h"
#include "base/memory.h"
#include "runtime/measure.h"

bench_spread_t bench_spread_of(double *values, size_t count)
{
    return (bench_spread_t){
        .median = dpr_percentile(values, count, 0.5),
        .p25 = dpr_percentile(values, count, 0.25),
        .p75 = dpr_percentile(values, count, 0.75),
        .least = values[0], /* sorted by now */
        .most = values[count - 1],
    };
}

void bench_spread_cells(plan_table_t *table, const bench_spread_t *spread)
{
    plan_table_real(table, spread->median);
    plan_table_real(table, spread->p25);
    plan_table_real(table, spread->p75);
}

static dpr_status_t over_ranks(const bench_rank_t *self, double mine, double *mean, double *most)
{
    double *all;
    DPR_TRY(dpr_calloc((size_t)self->ranks, sizeof *all, &all));
    const dpr_status_t status = dpr_comm_allgather(self->comm, &mine, sizeof mine, all);
    double sum = 0.0;
    *most = -INFINITY;
    for (int r = 0; r < self->ranks; r++) {
        sum += all[r];
        *most = fmax(*most, all[r]);
    }
    *mean = sum / self->ranks;
    free(all);
    return status;
}

dpr_status_t bench_mean_over_ranks(const bench_rank_t *self, double mine, double *mean)
{
    double most;
    return over_ranks(self, mine, mean, &most);
}

dpr_status_t bench_most_over_ranks(const bench_rank_t *self, double mine, double *most)
{
    double mean;
    return over_ranks(self, mine, &mean, most);
}

dpr_status_t bench_spread_over_ranks(const bench_rank_t *self, double *values, size_t count,
                                     bench_spread_t *spread)
{
    *spread = bench_spread_of(values, count);
    DPR_TRY(bench_mean_over_ranks(self, spread->median, &spread->median));
    DPR_TRY(bench_mean_over_ranks(self, spread->p25, &spread->p25));
    return bench_mean_over_ranks(self, spread->p75, &spread->p75);
}

double bench_now_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool is_standard_output(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static dpr_status_t write_file(plan_format_t format, const char *path, const char *name,
                               const plan_table_t *facts, const plan_section_t *sections, int count)
{
    if (is_standard_output(path)) {
        return plan_report_write(format, name, facts, sections, count, stdout);
    }
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "%s cannot be written: %m", path);
    }
    dpr_status_t status = plan_report_write(format, name, facts, sections, count, out);
    if (fclose(out) != 0 && status == DPR_OK) {
        status = dpr_fail(DPR_ERR_IO, "%s cannot be written: %m", path);
    }
    return status;
}

dpr_status_t bench_report_write(const bench_common_t *common, const char *command,
                                const plan_table_t *facts, const plan_section_t *sections,
                                int count)
{
    char name[64];
    snprintf(name, sizeof name, "dualpipe_bench %s", command);
    if (!common->quiet && !is_standard_output(common->json_path) &&
        !is_standard_output(common->csv_path)) {
        DPR_TRY(plan_report_write(PLAN_FORMAT_TEXT, name, facts, sections, count, stdout));
    }
    if (common->csv_path != NULL) {
        DPR_TRY(write_file(PLAN_FORMAT_CSV, common->csv_path, name, facts, sections, count));
    }
    if (common->json_path != NULL) {
        DPR_TRY(write_file(PLAN_FORMAT_JSON, common->json_path, name, facts, sections, count));
    }
    return DPR_OK;
}
