/*
 * dualpipe_bench scheduler: what enqueuing a command costs, and what recording a step's times does.
 *
 * Enqueuing: programs of several schedules and sizes with a model so small that only commands are
 * left, under the model clock. Recording: steps of the real model, in turn without collecting
 * times, with collecting them, and with gathering the whole timeline from all ranks.
 */
#include <stdlib.h>
#include <time.h>

#include "apps/bench_rig.h"
#include "base/log.h"
#include "base/memory.h"
#include "runtime/measure.h"
#include "schedule/generators.h"

enum { DEFAULT_LARGE = 64, EVENTS = 256, VALUES = 6 };

typedef struct bench {
    const bench_rig_options_t *options;
    bench_rank_t *self;
    plan_table_t *enqueue;
    plan_table_t *recording;
    plan_table_t *facts;
    double *values[VALUES]; /* [repeats] each */
} bench_t;

/* ---- Enqueuing ---- */

static const plan_column_t enqueue_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"ranks", "P", PLAN_INT},
    {"micro_batches", "M", PLAN_INT},
    {"commands_per_rank", "commands a rank", PLAN_REAL},
    {"cpu_ns_per_command", "CPU ns", PLAN_REAL},
    {"cpu_p25_ns", NULL, PLAN_REAL},
    {"cpu_p75_ns", NULL, PLAN_REAL},
    {"wall_ns_per_command", "wall ns", PLAN_REAL},
    {"wall_p25_ns", NULL, PLAN_REAL},
    {"wall_p75_ns", NULL, PLAN_REAL},
};

/* One step; nanoseconds a command on this rank. */
static dpr_status_t enqueue_step(bench_rig_t *rig, double *cpu_ns, double *wall_ns)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(rig->pipeline);
    const double commands = dpr_executor_command_count(executor);
    double cpu_before, cpu_after;
    uint64_t ignored;
    dpr_device_clock_rebase(rig->machine->device);
    DPR_TRY(dpr_comm_barrier(rig->self->comm));
    dpr_executor_scheduler_cost(executor, &cpu_before, &ignored);
    const double begin = bench_now_sec();
    DPR_TRY(dpr_pipeline_forward_backward(rig->pipeline, 0, 1.0f));
    const double wall_sec = bench_now_sec() - begin;
    dpr_executor_scheduler_cost(executor, &cpu_after, &ignored);
    DPR_TRY(dpr_pipeline_synchronize(rig->pipeline));
    *cpu_ns = 1e9 * (cpu_after - cpu_before) / commands;
    *wall_ns = 1e9 * wall_sec / commands;
    return DPR_OK;
}

/* Median and quartiles of this rank's values, means over the ranks. */
static dpr_status_t add_spread(const bench_t *bench, double *values)
{
    bench_spread_t spread;
    DPR_TRY(bench_spread_over_ranks(bench->self, values, (size_t)bench->options->common.repeats,
                                    &spread));
    bench_spread_cells(bench->enqueue, &spread);
    return DPR_OK;
}

static dpr_status_t measure_enqueue(bench_t *bench, bench_rig_t *rig)
{
    const bench_common_t *common = &bench->options->common;
    double commands;
    for (int i = -common->warm_up; i < common->repeats; i++) {
        double cpu_ns, wall_ns;
        DPR_TRY(enqueue_step(rig, &cpu_ns, &wall_ns));
        if (i >= 0) {
            bench->values[0][i] = cpu_ns;
            bench->values[1][i] = wall_ns;
        }
    }
    DPR_TRY(bench_mean_over_ranks(
        bench->self, dpr_executor_command_count(dpr_pipeline_executor(rig->pipeline)), &commands));
    plan_table_text(bench->enqueue, rig->program.name);
    plan_table_int(bench->enqueue, bench->self->ranks);
    plan_table_int(bench->enqueue, rig->program.micro_batches);
    plan_table_real(bench->enqueue, commands);
    DPR_TRY(add_spread(bench, bench->values[0]));
    return add_spread(bench, bench->values[1]);
}

/* ---- Recording ---- */

typedef enum way {
    WAY_BARE,
    WAY_COLLECT,
    WAY_GATHER,
} way_t;

enum { WAYS = 3 };

static const char *const way_names[WAYS] = {"nothing", "times collected", "timeline gathered"};

static const plan_column_t recording_columns[] = {
    {"schedule", "schedule", PLAN_TEXT},
    {"micro_batches", "M", PLAN_INT},
    {"recorded", "recorded", PLAN_TEXT},
    BENCH_SPREAD_COLUMNS("step_", "step s"),
    {"over_bare", "longer by", PLAN_PERCENT},
    {"recording_sec", "recording s", PLAN_REAL},
    {"recording_ns_per_command", "ns a command", PLAN_REAL},
    {"recording_ratio", "of the step", PLAN_PERCENT},
};

static dpr_status_t record(bench_rig_t *rig, way_t way, dpr_record_t *records,
                           dpr_timeline_t *timeline)
{
    const dpr_executor_t *executor = dpr_pipeline_executor(rig->pipeline);
    dpr_step_sample_t sample;
    if (way >= WAY_COLLECT) {
        dpr_executor_collect(executor, records);
        dpr_step_sample_take(timeline->graph, records, dpr_executor_command_count(executor),
                             &sample);
    }
    return way >= WAY_GATHER ? dpr_measure_timeline(rig->self->comm, executor, 0.0, timeline)
                             : DPR_OK;
}

/* The three ways in turn: values[way] gets the steps' times with the recording, values[WAYS + way]
 * the recordings' own. */
static dpr_status_t record_steps(bench_t *bench, bench_rig_t *rig, dpr_record_t *records,
                                 dpr_timeline_t *timeline)
{
    const bench_common_t *common = &bench->options->common;
    for (int i = -common->warm_up * WAYS; i < common->repeats * WAYS; i++) {
        const int way = (i + common->warm_up * WAYS) % WAYS;
        DPR_TRY(dpr_comm_barrier(rig->self->comm));
        const double begin = bench_now_sec();
        DPR_TRY(bench_rig_step(rig));
        const double middle = bench_now_sec();
        DPR_TRY(record(rig, (way_t)way, records, timeline));
        const double end = bench_now_sec();
        if (i >= 0) {
            bench->values[way][i / WAYS] = end - begin;
            bench->values[WAYS + way][i / WAYS] = end - middle;
        }
    }
    return DPR_OK;
}

static dpr_status_t add_recording(bench_t *bench, const bench_rig_t *rig, way_t way,
                                  double bare_sec, double *step_sec)
{
    plan_table_t *table = bench->recording;
    const size_t repeats = (size_t)bench->options->common.repeats;
    const double commands = dpr_executor_command_count(dpr_pipeline_executor(rig->pipeline));
    const bench_spread_t step = bench_spread_of(bench->values[way], repeats);
    double recording_sec = bench_spread_of(bench->values[WAYS + way], repeats).median;
    DPR_TRY(bench_most_over_ranks(bench->self, step.median, step_sec));
    DPR_TRY(bench_mean_over_ranks(bench->self, recording_sec, &recording_sec));
    plan_table_text(table, rig->program.name);
    plan_table_int(table, rig->program.micro_batches);
    plan_table_text(table, way_names[way]);
    plan_table_real(table, *step_sec);
    plan_table_real(table, step.p25);
    plan_table_real(table, step.p75);
    plan_table_real(table, way == WAY_BARE ? 0.0 : *step_sec / bare_sec - 1.0);
    plan_table_real(table, recording_sec);
    plan_table_real(table, 1e9 * recording_sec / commands);
    plan_table_real(table, recording_sec / (way == WAY_BARE ? *step_sec : bare_sec));
    return DPR_OK;
}

static dpr_status_t measure_recording(bench_t *bench, bench_rig_t *rig)
{
    const dpr_graph_t *graph = dpr_pipeline_graph(rig->pipeline);
    const dpr_executor_t *executor = dpr_pipeline_executor(rig->pipeline);
    dpr_record_t *records = NULL;
    dpr_timeline_t timeline = {0};
    double bare_sec = 0.0;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_timeline_init(&timeline, graph), free_records);
    DPR_TRY_GOTO(
        dpr_calloc((size_t)dpr_executor_command_count(executor), sizeof *records, &records),
        free_records);
    DPR_TRY_GOTO(record_steps(bench, rig, records, &timeline), free_records);
    for (int way = 0; way < WAYS; way++) {
        double step_sec;
        DPR_TRY_GOTO(add_recording(bench, rig, (way_t)way, bare_sec, &step_sec), free_records);
        bare_sec = way == WAY_BARE ? step_sec : bare_sec;
    }

free_records:
    free(records);
    dpr_timeline_free(&timeline);
    return status;
}

/* Each command records one event more than its order needs: its start. CPU nanoseconds of that. */
static dpr_status_t measure_event(const bench_t *bench, bench_machine_t *machine, double *ns)
{
    dpr_stream_t *stream = NULL;
    dpr_event_t *event = NULL;
    struct timespec before, after;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_stream_create(machine->device, "event", 0, &stream), destroy_event);
    DPR_TRY_GOTO(dpr_event_create(machine->device, &event), destroy_event);
    for (int i = 0; i < bench->options->common.repeats; i++) {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        for (int k = 0; k < EVENTS; k++) {
            DPR_TRY_GOTO(dpr_event_record(event, stream), destroy_event);
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        DPR_TRY_GOTO(dpr_stream_synchronize(stream), destroy_event);
        bench->values[0][i] = (1e9 * (double)(after.tv_sec - before.tv_sec) +
                               (double)(after.tv_nsec - before.tv_nsec)) /
                              EVENTS;
    }
    *ns = bench_spread_of(bench->values[0], (size_t)bench->options->common.repeats).median;
    status = bench_mean_over_ranks(bench->self, *ns, ns);

destroy_event:
    dpr_stream_destroy(stream);
    dpr_event_destroy(event);
    return status;
}

/* ---- The rigs ---- */

typedef dpr_status_t (*measure_fn_t)(bench_t *bench, bench_rig_t *rig);

static dpr_status_t with_rig(bench_t *bench, bench_machine_t *machine,
                             const dpr_train_config_t *config, measure_fn_t measure)
{
    bench_rig_t rig;
    DPR_TRY(bench_rig_open(bench->self, machine, config, &rig));
    bench->self->live = true;
    DPR_TRY(measure(bench, &rig));
    bench->self->live = false;
    bench_rig_close(&rig);
    return DPR_OK;
}

/* As small as a model can be. */
static dpr_train_config_t empty_config(const bench_t *bench)
{
    dpr_train_config_t config = bench->options->load.config;
    config.hidden = 1;
    config.ffn = 1;
    config.blocks = 2 * bench->self->ranks;
    config.micro_batch_size = 1;
    return config;
}

static dpr_status_t measure_programs(bench_t *bench, bench_machine_t *machine)
{
    static const bench_list_t usual = {.count = 2, .values = {0, DEFAULT_LARGE}};
    const bench_load_t *load = &bench->options->load;
    const bench_list_t *sizes = load->micro_batches.count > 0 ? &load->micro_batches : &usual;
    for (int i = 0; i < load->schedules.count * sizes->count; i++) {
        dpr_train_config_t config = empty_config(bench);
        config.schedule = load->schedules.names[i / sizes->count];
        config.micro_batches = sizes->values[i % sizes->count];
        const int ranks = bench->self->ranks;
        if (config.micro_batches > 0
                ? dpr_schedule_allows(config.schedule, ranks, config.micro_batches)
                : dpr_schedule_find(config.schedule)->min_micro_batches(ranks) > 0) {
            DPR_TRY(with_rig(bench, machine, &config, measure_enqueue));
        }
    }
    return plan_table_rows(bench->enqueue) > 0
               ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID,
                          "none of the schedules asked for can run on %d ranks with the "
                          "--micro-batches asked for",
                          bench->self->ranks);
}

/* The first schedule that these ranks allow, with the model asked for. */
static dpr_status_t measure_real(bench_t *bench, bench_machine_t *machine)
{
    const bench_load_t *load = &bench->options->load;
    dpr_train_config_t config = load->config;
    for (int i = 0; i < load->schedules.count && config.schedule == NULL; i++) {
        const char *name = load->schedules.names[i];
        if (dpr_schedule_find(name)->min_micro_batches(bench->self->ranks) > 0) {
            config.schedule = name;
        }
    }
    return with_rig(bench, machine, &config, measure_recording);
}

/* ---- The command ---- */

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"event_cpu_ns", "CPU ns of an event", PLAN_REAL},
};

enum {
    ENQUEUE_COLUMNS = sizeof enqueue_columns / sizeof enqueue_columns[0],
    RECORDING_COLUMNS = sizeof recording_columns / sizeof recording_columns[0],
    FACTS = sizeof fact_columns / sizeof fact_columns[0]
};

static dpr_status_t set_up(bench_t *bench)
{
    for (int i = 0; i < VALUES; i++) {
        DPR_TRY(
            dpr_calloc((size_t)bench->options->common.repeats, sizeof(double), &bench->values[i]));
    }
    DPR_TRY(plan_table_create(enqueue_columns, ENQUEUE_COLUMNS, &bench->enqueue));
    DPR_TRY(plan_table_create(recording_columns, RECORDING_COLUMNS, &bench->recording));
    return plan_table_create(fact_columns, FACTS, &bench->facts);
}

static void tear_down(bench_t *bench)
{
    for (int i = 0; i < VALUES; i++) {
        free(bench->values[i]);
    }
    plan_table_destroy(bench->enqueue);
    plan_table_destroy(bench->recording);
    plan_table_destroy(bench->facts);
}

/* Opens a machine with the clock asked for; closes it unless the job is to be aborted. */
static dpr_status_t with_machine(bench_t *bench, const char *clock,
                                 dpr_status_t (*measure)(bench_t *, bench_machine_t *))
{
    bench_common_t common = bench->options->common;
    bench_machine_t machine;
    common.clock = clock;
    DPR_TRY(bench_machine_open(&common, bench->self, &machine));
    const dpr_status_t status = measure(bench, &machine);
    if (!bench->self->live) {
        bench_machine_close(&machine);
    }
    return status;
}

static dpr_status_t measure_recordings(bench_t *bench, bench_machine_t *machine)
{
    double event_ns;
    DPR_TRY(measure_real(bench, machine));
    bench->self->live = true;
    DPR_TRY(measure_event(bench, machine, &event_ns));
    bench->self->live = false;
    bench_machine_cells(machine, &bench->options->common, bench->facts);
    plan_table_real(bench->facts, event_ns);
    return DPR_OK;
}

static dpr_status_t measure(bench_t *bench)
{
    DPR_TRY(dpr_comm_agree(bench->self->comm, set_up(bench), NULL));
    DPR_TRY(with_machine(bench, "model", measure_programs));
    DPR_TRY(with_machine(bench, bench->options->common.clock, measure_recordings));
    const plan_section_t sections[] = {
        {.key = "enqueue", .title = "Enqueuing a command", .table = bench->enqueue},
        {.key = "recording", .title = "Recording a step", .table = bench->recording},
    };
    return dpr_comm_agree(
        bench->self->comm,
        bench->self->rank == 0
            ? bench_report_write(&bench->options->common, "scheduler", bench->facts, sections, 2)
            : DPR_OK,
        NULL);
}

static dpr_status_t run(const void *arguments, bench_rank_t *self)
{
    bench_t bench = {.options = arguments, .self = self};
    const dpr_status_t status = measure(&bench);
    tear_down(&bench);
    return status;
}

static const struct argp argp = {
    .parser = bench_rig_options_parse,
    .children = bench_load_children,
    .doc = "Times the executor's enqueuing with a model of size one under the model clock, and "
           "what recording a step of the model asked for adds to it.\vCPU ns: of the thread that "
           "enqueues, a command. wall ns: the whole call, with what is not a command. longer by: "
           "against the step of which nothing is recorded; ns a command and of the step: the "
           "recording by itself."};

static void set_defaults(void *arguments)
{
    bench_rig_options_t *options = arguments;
    bench_rig_options_default(options, 4, 20, 3);
    (void)bench_parse_schedules("schedule", "dualpipe,1f1b,interleaved-1f1b,zbv",
                                &options->load.schedules);
}

const bench_command_t bench_scheduler_command = {
    .name = "scheduler",
    .summary = "ns a command enqueued, and what recording costs",
    .options_bytes = sizeof(bench_rig_options_t),
    .set_defaults = set_defaults,
    .argp = &argp,
    .run = run,
};
