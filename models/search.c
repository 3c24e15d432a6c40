/* Orders what fits, finds the Pareto front, and asks what would change the winner. */
#include "models/search.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/search_impl.h"

static int64_t devices_of(const dpr_candidate_t *candidate)
{
    return (int64_t)candidate->ranks * candidate->replicas;
}

/* By step time, memory, devices; 0 where they are equal in all three. */
static int compare_steps(const dpr_candidate_t *a, double a_sec, const dpr_candidate_t *b,
                         double b_sec)
{
    if (a_sec != b_sec) {
        return a_sec < b_sec ? -1 : 1;
    }
    if (a->peak_bytes != b->peak_bytes) {
        return a->peak_bytes < b->peak_bytes ? -1 : 1;
    }
    return (devices_of(a) > devices_of(b)) - (devices_of(a) < devices_of(b));
}

int search_compare(const search_task_t *task, int variant, int a, int b)
{
    const size_t variants = (size_t)task->variant_count;
    const double a_sec = task->steps[(size_t)a * variants + (size_t)variant].step_sec;
    const double b_sec = task->steps[(size_t)b * variants + (size_t)variant].step_sec;
    const int order = compare_steps(&task->candidates[a], a_sec, &task->candidates[b], b_sec);
    return order != 0 ? order : a - b;
}

/* ---- Search ---- */

typedef struct entry {
    dpr_candidate_t candidate;
    int tried; /* in which order */
} entry_t;

static int compare_entries(const void *a, const void *b)
{
    const entry_t *left = a;
    const entry_t *right = b;
    const int order = compare_steps(&left->candidate, left->candidate.step.step_sec,
                                    &right->candidate, right->candidate.step.step_sec);
    return order != 0 ? order : left->tried - right->tried;
}

static dpr_status_t sort_fitting(const search_task_t *task, dpr_search_t *search)
{
    entry_t *entries;
    DPR_TRY(dpr_calloc((size_t)task->candidate_count, sizeof *entries, &entries));
    int count = 0;
    for (int i = 0; i < task->candidate_count; i++) {
        if (task->fits[i]) {
            entries[count++] = (entry_t){task->candidates[i], i};
        }
    }
    qsort(entries, (size_t)count, sizeof *entries, compare_entries);
    const dpr_status_t status =
        dpr_calloc((size_t)count, sizeof *search->candidates, &search->candidates);
    for (int i = 0; status == DPR_OK && i < count; i++) {
        search->candidates[i] = entries[i].candidate;
    }
    search->count = count;
    free(entries);
    return status;
}

/* In order of step time, each that needs less memory than all before it. */
static dpr_status_t find_front(dpr_search_t *search)
{
    DPR_TRY(dpr_calloc((size_t)search->count, sizeof *search->front, &search->front));
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < search->count; i++) {
        if (search->candidates[i].peak_bytes < least) {
            least = search->candidates[i].peak_bytes;
            search->front[search->front_count++] = i;
        }
    }
    return DPR_OK;
}

static dpr_status_t collect(const search_task_t *task, dpr_search_t *search)
{
    dpr_search_t made = {
        .considered = task->candidate_count,
        .skipped = task->skipped,
    };
    dpr_status_t status;
    DPR_TRY_GOTO(sort_fitting(task, &made), free_search);
    DPR_TRY_GOTO(find_front(&made), free_search);
    made.too_large = made.considered - made.count;
    *search = made;
    return DPR_OK;
free_search:
    dpr_search_free(&made);
    return status;
}

dpr_status_t dpr_search_run(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                            const dpr_search_options_t *options, dpr_search_t *search)
{
    const dpr_cost_factors_t unchanged = DPR_COST_FACTORS_DEFAULT;
    search_task_t task = {.workload = workload,
                          .hardware = hardware,
                          .options = options,
                          .variants = &unchanged,
                          .variant_count = 1};
    dpr_status_t status = search_task_run(&task);
    if (status == DPR_OK) {
        status = collect(&task, search);
    }
    search_task_free(&task);
    return status;
}

void dpr_search_free(dpr_search_t *search)
{
    free(search->candidates);
    free(search->front);
    *search = (dpr_search_t){0};
}

/* ---- Sensitivity ---- */

static const struct {
    const char *name;
    size_t offset;
} factors[DPR_COST_FACTORS] = {
    {"F", offsetof(dpr_cost_factors_t, f)},
    {"I", offsetof(dpr_cost_factors_t, i)},
    {"W", offsetof(dpr_cost_factors_t, w)},
    {"F&B", offsetof(dpr_cost_factors_t, fb)},
    {"wire", offsetof(dpr_cost_factors_t, wire)},
    {"reduction", offsetof(dpr_cost_factors_t, reduce)},
    {"update", offsetof(dpr_cost_factors_t, update)},
};

const char *dpr_cost_factor_name(int factor)
{
    return factors[factor].name;
}

/* Variant 0 is unchanged; 1 + 2k and 2 + 2k have cost k lowered and raised. */
enum { VARIANTS = 1 + 2 * DPR_COST_FACTORS };

static void vary(double change, dpr_cost_factors_t *variants)
{
    const dpr_cost_factors_t unchanged = DPR_COST_FACTORS_DEFAULT;
    for (int v = 0; v < VARIANTS; v++) {
        variants[v] = unchanged;
        if (v > 0) {
            const double factor = v % 2 == 1 ? 1.0 - change : 1.0 + change;
            memcpy((char *)&variants[v] + factors[(v - 1) / 2].offset, &factor, sizeof factor);
        }
    }
}

static int best_of(const search_task_t *task, int variant)
{
    int best = -1;
    for (int i = 0; i < task->candidate_count; i++) {
        if (task->fits[i] && (best < 0 || search_compare(task, variant, i, best) < 0)) {
            best = i;
        }
    }
    return best;
}

static dpr_candidate_t candidate_under(const search_task_t *task, int index, int variant)
{
    dpr_candidate_t candidate = task->candidates[index];
    candidate.step = task->steps[(size_t)index * VARIANTS + (size_t)variant];
    return candidate;
}

static void compare_variants(const search_task_t *task, double change,
                             dpr_sensitivity_t *sensitivity)
{
    const int winner = best_of(task, 0);
    sensitivity->winner = candidate_under(task, winner, 0);
    const double base = sensitivity->winner.step.step_sec;
    for (int k = 0; k < DPR_COST_FACTORS; k++) {
        for (int up = 0; up < 2; up++) {
            const int variant = 1 + 2 * k + up;
            const int best = best_of(task, variant);
            const double step_sec = candidate_under(task, winner, variant).step.step_sec;
            sensitivity->entries[k][up] = (dpr_sensitivity_entry_t){
                .change = up ? change : -change,
                .step_sec = step_sec,
                .step_change = step_sec / base - 1.0,
                .overtaken = best != winner,
                .winner = candidate_under(task, best, variant),
            };
        }
    }
}

dpr_status_t dpr_sensitivity_run(const dpr_workload_t *workload, const dpr_hardware_t *hardware,
                                 const dpr_search_options_t *options, double change,
                                 dpr_sensitivity_t *sensitivity)
{
    if (!(change > 0.0 && change < 1.0)) {
        return dpr_fail(DPR_ERR_INVALID, "a change of %g: expected above 0 and below 1", change);
    }
    dpr_cost_factors_t variants[VARIANTS];
    vary(change, variants);
    search_task_t task = {.workload = workload,
                          .hardware = hardware,
                          .options = options,
                          .variants = variants,
                          .variant_count = VARIANTS};
    const dpr_status_t status = search_task_run(&task);
    if (status == DPR_OK) {
        compare_variants(&task, change, sensitivity);
    }
    search_task_free(&task);
    return status;
}
