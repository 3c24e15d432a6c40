/* Enumerates the candidates of a search and plays them, group by group, over the cores. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/parallel.h"
#include "models/search_impl.h"

enum { DEVICES_MAX = 1 << 20, BATCH_MAX = 1 << 20, STEPS_MAX = 1 << 22 };

/* Lowering a cell costs some sixteen times as much as playing it; 2^27 cells are lowered in a
 * minute or two on one core (bench/models_bench.c). */
enum { WORK_MAX = 1 << 27, LOWERING_OVER_PLAYING = 16 };

/* ---- What to try ---- */

static dpr_status_t check_int(const char *name, int value, int least, int most)
{
    return value >= least && value <= most
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID, "search: %s is %d: expected %d to %d", name, value,
                          least, most);
}

static dpr_status_t check_options(const search_task_t *task)
{
    const dpr_search_options_t *options = task->options;
    DPR_TRY(check_int("the most ranks", options->max_ranks, 1, DPR_MAX_RANKS));
    DPR_TRY(check_int("the fewest ranks", options->min_ranks, 1, options->max_ranks));
    DPR_TRY(check_int("the most devices", options->max_devices, options->max_ranks, DEVICES_MAX));
    DPR_TRY(check_int("the global batch", options->global_batch, 1, BATCH_MAX));
    DPR_TRY(check_int("threads", options->threads, 0, DPR_MAX_THREADS));
    if (!(options->memory_bytes >= 0.0 && options->memory_bytes <= 1e18)) {
        return dpr_fail(DPR_ERR_INVALID, "search: the memory limit is %g bytes: expected 1 to 1e18",
                        options->memory_bytes);
    }
    if (options->schedule != NULL && dpr_schedule_find(options->schedule) == NULL) {
        return dpr_schedule_check(options->schedule, 1, 1); /* says which names there are */
    }
    return DPR_OK;
}

static dpr_status_t add_candidate(search_task_t *task, const search_group_t *group, int replicas)
{
    const int64_t steps = (int64_t)(task->candidate_count + 1) * task->variant_count;
    if (task->candidate_count == DPR_MAX_SEARCH_CANDIDATES || steps > STEPS_MAX) {
        return dpr_fail(DPR_ERR_INVALID,
                        "search: more than %d candidates: narrow the ranks, the devices or the "
                        "schedules",
                        task->candidate_count);
    }
    DPR_TRY(dpr_reserve(&task->candidates, &task->candidate_capacity,
                        (size_t)task->candidate_count + 1, sizeof *task->candidates));
    task->candidates[task->candidate_count++] = (dpr_candidate_t){
        .schedule = group->schedule,
        .ranks = group->ranks,
        .micro_batches = group->micro_batches,
        .micro_batch_size = task->options->global_batch / group->micro_batches / replicas,
        .replicas = replicas,
    };
    return DPR_OK;
}

static dpr_status_t add_group(search_task_t *task, search_group_t group)
{
    const int64_t cells =
        (int64_t)dpr_schedule_stages_per_rank(group.schedule) * group.ranks * group.micro_batches;
    if (cells > DPR_SEARCH_MAX_CELLS) {
        task->skipped++;
        return DPR_OK;
    }
    if (task->group_count == DPR_MAX_SEARCH_GROUPS) {
        return dpr_fail(DPR_ERR_INVALID, "search: more than %d groups: narrow the ranks",
                        (int)DPR_MAX_SEARCH_GROUPS);
    }
    group.first = task->candidate_count;
    const int samples = task->options->global_batch / group.micro_batches;
    const int most = task->options->max_devices / group.ranks;
    for (int i = 0; i < task->divisor_count && task->divisors[i] <= most; i++) {
        if (samples % task->divisors[i] == 0) {
            DPR_TRY(add_candidate(task, &group, task->divisors[i]));
        }
    }
    group.count = task->candidate_count - group.first;
    task->work +=
        (double)cells * (1.0 + (double)group.count * task->variant_count / LOWERING_OVER_PLAYING);
    if (task->work > WORK_MAX) {
        return dpr_fail(DPR_ERR_INVALID,
                        "search: more work than some minutes (%d groups so far): narrow the ranks, "
                        "the batch or the schedules",
                        task->group_count);
    }
    DPR_TRY(dpr_reserve(&task->groups, &task->group_capacity, (size_t)task->group_count + 1,
                        sizeof *task->groups));
    task->groups[task->group_count++] = group;
    return DPR_OK;
}

static dpr_status_t add_schedule(search_task_t *task, const char *schedule)
{
    const dpr_search_options_t *options = task->options;
    for (int ranks = options->min_ranks; ranks <= options->max_ranks; ranks++) {
        for (int i = 0; i < task->divisor_count; i++) {
            const int m = task->divisors[i];
            if (dpr_schedule_allows(schedule, ranks, m)) {
                DPR_TRY(add_group(task, (search_group_t){
                                            .schedule = schedule,
                                            .ranks = ranks,
                                            .micro_batches = m,
                                        }));
            }
        }
    }
    return DPR_OK;
}

/* The largest first, so that no core is left with one at the end. */
static int compare_groups(const void *a, const void *b)
{
    const search_group_t *left = a;
    const search_group_t *right = b;
    const int64_t left_cells = (int64_t)left->ranks * left->micro_batches;
    const int64_t right_cells = (int64_t)right->ranks * right->micro_batches;
    if (left_cells != right_cells) {
        return left_cells > right_cells ? -1 : 1;
    }
    return left->first - right->first;
}

static void find_divisors(search_task_t *task)
{
    for (int d = 1; d <= task->options->global_batch; d++) {
        if (task->options->global_batch % d == 0) {
            task->divisors[task->divisor_count++] = d;
        }
    }
}

static dpr_status_t enumerate(search_task_t *task)
{
    find_divisors(task);
    size_t count;
    const dpr_schedule_t *schedules = dpr_schedule_list(&count);
    if (task->options->schedule != NULL) {
        schedules = dpr_schedule_find(task->options->schedule);
        count = 1;
    }
    for (size_t i = 0; i < count; i++) {
        DPR_TRY(add_schedule(task, task->options->schedule != NULL ? task->options->schedule
                                                                   : schedules[i].name));
    }
    if (task->group_count == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "search: no schedule can run a batch of %d on %d to %d ranks: each number "
                        "of micro-batches must divide the batch%s%s",
                        task->options->global_batch, task->options->min_ranks,
                        task->options->max_ranks, count == 1 ? ", and it needs " : "",
                        count == 1 ? schedules->needs : "");
    }
    qsort(task->groups, (size_t)task->group_count, sizeof *task->groups, compare_groups);
    return DPR_OK;
}

/* ---- Playing ---- */

/* A model too large to count is too large to fit, and nobody needs to hear of it. */
static dpr_status_t size_quietly(const search_task_t *task, dpr_stepper_t *stepper,
                                 dpr_candidate_t *candidate)
{
    char message[256];
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, message, sizeof message);
    dpr_status_t status =
        dpr_step_size(stepper, task->workload, candidate->micro_batch_size, &candidate->peak_bytes);
    dpr_log_capture_end(&capture);
    if (status == DPR_ERR_INVALID) {
        candidate->peak_bytes = UINT64_MAX;
        status = DPR_OK;
    }
    return status;
}

static dpr_status_t play_candidate(search_task_t *task, dpr_stepper_t *stepper, int index)
{
    dpr_candidate_t *candidate = &task->candidates[index];
    DPR_TRY(size_quietly(task, stepper, candidate));
    task->fits[index] =
        candidate->peak_bytes != UINT64_MAX && (double)candidate->peak_bytes <= task->memory_bytes;
    if (!task->fits[index]) {
        return DPR_OK;
    }
    dpr_step_t *steps = &task->steps[(size_t)index * (size_t)task->variant_count];
    for (int v = 0; v < task->variant_count; v++) {
        DPR_TRY(dpr_step_play(stepper, task->workload, task->hardware, candidate->micro_batch_size,
                              candidate->replicas, &task->variants[v], &steps[v]));
    }
    candidate->step = steps[0];
    return DPR_OK;
}

static dpr_status_t play_group(void *context, int worker, int64_t index)
{
    search_task_t *task = context;
    const search_group_t *group = &task->groups[index];
    dpr_stepper_t *stepper = &task->steppers[worker];
    dpr_program_t program = {0};
    dpr_graph_t *graph = NULL;
    dpr_status_t status;
    DPR_TRY(dpr_schedule_generate(group->schedule, group->ranks, group->micro_batches, &program));
    DPR_TRY_GOTO(dpr_graph_create(&program, NULL, &graph), free_program);
    DPR_TRY_GOTO(dpr_stepper_set(stepper, graph), free_graph);
    for (int i = 0; i < group->count; i++) {
        DPR_TRY_GOTO(play_candidate(task, stepper, group->first + i), free_graph);
    }
free_graph:
    dpr_graph_destroy(graph);
free_program:
    dpr_program_free(&program);
    return status;
}

static dpr_status_t check_any_fits(const search_task_t *task)
{
    int smallest = 0;
    for (int i = 0; i < task->candidate_count; i++) {
        if (task->fits[i]) {
            return DPR_OK;
        }
        if (task->candidates[i].peak_bytes < task->candidates[smallest].peak_bytes) {
            smallest = i;
        }
    }
    const dpr_candidate_t *least = &task->candidates[smallest];
    return dpr_fail(DPR_ERR_INVALID,
                    "search: none of %d candidates fits in %.6g bytes a device: the smallest, %s "
                    "on %d ranks with %d micro-batches of %d, needs %.6g; allow more memory or "
                    "more ranks",
                    task->candidate_count, task->memory_bytes, least->schedule, least->ranks,
                    least->micro_batches, least->micro_batch_size, (double)least->peak_bytes);
}

dpr_status_t search_task_run(search_task_t *task)
{
    DPR_TRY(dpr_workload_check(task->workload));
    DPR_TRY(dpr_hardware_check(task->hardware));
    DPR_TRY(dpr_hardware_has(task->hardware, task->workload->precision));
    DPR_TRY(check_options(task));
    task->memory_bytes = task->options->memory_bytes > 0.0 ? task->options->memory_bytes
                                                           : task->hardware->memory_bytes;
    DPR_TRY(enumerate(task));
    const size_t candidates = (size_t)task->candidate_count;
    DPR_TRY(dpr_calloc(candidates, sizeof *task->fits, &task->fits));
    DPR_TRY(
        dpr_calloc(candidates * (size_t)task->variant_count, sizeof *task->steps, &task->steps));
    task->threads = dpr_parallel_threads(task->options->threads, task->group_count);
    DPR_TRY(dpr_calloc((size_t)task->threads, sizeof *task->steppers, &task->steppers));
    DPR_TRY(dpr_parallel_for(task->threads, task->group_count, play_group, task));
    return check_any_fits(task);
}

void search_task_free(search_task_t *task)
{
    for (int i = 0; task->steppers != NULL && i < task->threads; i++) {
        dpr_stepper_free(&task->steppers[i]);
    }
    free(task->steppers);
    free(task->steps);
    free(task->fits);
    free(task->candidates);
    free(task->groups);
}
