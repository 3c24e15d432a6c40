/*
 * dualpipe_bench overlap: what a forward, a backward and both together take of a stage, alone and
 * while messages move.
 *
 *     overlap achieved  =  (F + B - F&B) / min(F, B)
 *
 * is 0 where F&B takes as long as one after the other, 1 where the shorter of the two is free. The
 * stages are two middle ones of a model of four, as a rank of DualPipe holds them. Traffic is
 * messages to the neighbour and back, as large as activations, enqueued before the op so that they
 * move while it runs; a rank without a neighbour copies within its memory instead.
 */
#include <math.h>
#include <stdlib.h>

#include "apps/bench_pair.h"
#include "base/memory.h"

enum { TRAFFIC_LEAST = 4, TRAFFIC_MOST = 512 };

typedef struct bench {
    const bench_rig_options_t *options;
    bench_rank_t *self;
    bench_machine_t machine;
    bench_pair_t pair;
    bench_traffic_t traffic;
    double *values[BENCH_OPS][2]; /* [repeats]: alone, with traffic */
    double medians[BENCH_OPS][2]; /* means over the ranks */
    plan_table_t *table;
} bench_t;

/* ---- Timing ---- */

/* `messages` 0: alone. Waits for everything. */
static dpr_status_t timed(bench_t *bench, bench_op_t op, int messages, double *sec)
{
    if (bench->machine.clock != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(bench->machine.device);
    }
    DPR_TRY(dpr_comm_barrier(bench->self->comm));
    DPR_TRY(bench_traffic_enqueue(&bench->traffic, messages));
    DPR_TRY(bench_pair_time(&bench->pair, op, sec));
    return bench_traffic_wait(&bench->traffic);
}

/* How many messages move for about twice as long as the op takes, the same on all ranks. */
static dpr_status_t count_messages(bench_t *bench, double op_sec, int *messages)
{
    double message_sec;
    DPR_TRY(dpr_comm_barrier(bench->self->comm));
    const double begin = bench_now_sec();
    DPR_TRY(bench_traffic_enqueue(&bench->traffic, TRAFFIC_LEAST));
    DPR_TRY(bench_traffic_wait(&bench->traffic));
    DPR_TRY(bench_mean_over_ranks(bench->self, (bench_now_sec() - begin) / TRAFFIC_LEAST,
                                  &message_sec));
    DPR_TRY(bench_mean_over_ranks(bench->self, op_sec, &op_sec));
    *messages = (int)fmax(TRAFFIC_LEAST, fmin(TRAFFIC_MOST, ceil(2.0 * op_sec / message_sec)));
    return DPR_OK;
}

/* All ops in turn, alone and with traffic, so that all see the same machine. */
static dpr_status_t measure_ops(bench_t *bench, const int *messages)
{
    const bench_common_t *common = &bench->options->common;
    for (int i = -common->warm_up; i < common->repeats; i++) {
        for (int op = 0; op < BENCH_OPS; op++) {
            for (int busy = 0; busy < 2; busy++) {
                double sec;
                DPR_TRY(timed(bench, (bench_op_t)op, busy != 0 ? messages[op] : 0, &sec));
                if (i >= 0) {
                    bench->values[op][busy][i] = sec;
                }
            }
        }
    }
    return DPR_OK;
}

static dpr_status_t count_all_messages(bench_t *bench, int *messages)
{
    for (int op = 0; op < BENCH_OPS; op++) {
        double sec;
        DPR_TRY(timed(bench, (bench_op_t)op, 0, &sec)); /* a first time does not count */
        DPR_TRY(timed(bench, (bench_op_t)op, 0, &sec));
        DPR_TRY(count_messages(bench, sec, &messages[op]));
    }
    return DPR_OK;
}

/* ---- The report ---- */

static const plan_column_t columns[] = {
    {"op", "op", PLAN_TEXT},
    BENCH_SPREAD_COLUMNS("alone_", "alone s"),
    BENCH_SPREAD_COLUMNS("traffic_", "with traffic s"),
    {"slowdown", "slower by", PLAN_PERCENT},
    {"messages", "messages", PLAN_INT},
    {"overlap", "overlap alone", PLAN_PERCENT},
    {"overlap_traffic", "with traffic", PLAN_PERCENT},
};

static const plan_column_t fact_columns[] = {
    BENCH_MACHINE_COLUMNS,
    {"hidden", "hidden", PLAN_INT},
    {"ffn", "ffn", PLAN_INT},
    {"blocks", "blocks a stage", PLAN_INT},
    {"micro_batch_size", "micro-batch size", PLAN_INT},
    {"message_bytes", "message bytes", PLAN_INT},
    {"traffic", "traffic", PLAN_TEXT},
};

static double overlap_of(const bench_t *bench, bench_op_t op, int busy)
{
    const double f = bench->medians[BENCH_OP_F][busy];
    const double b = bench->medians[BENCH_OP_B][busy];
    return (f + b - bench->medians[op][busy]) / fmin(f, b);
}

static dpr_status_t add_row(bench_t *bench, bench_op_t op, int messages)
{
    plan_table_text(bench->table, bench_op_names[op]);
    for (int busy = 0; busy < 2; busy++) {
        bench_spread_t spread;
        DPR_TRY(bench_spread_over_ranks(bench->self, bench->values[op][busy],
                                        (size_t)bench->options->common.repeats, &spread));
        bench_spread_cells(bench->table, &spread);
        bench->medians[op][busy] = spread.median;
    }
    plan_table_real(bench->table, bench->medians[op][1] / bench->medians[op][0] - 1.0);
    plan_table_int(bench->table, messages);
    for (int busy = 0; busy < 2; busy++) {
        if (op == BENCH_OP_FB || op == BENCH_OP_FB_TWO) {
            plan_table_real(bench->table, overlap_of(bench, op, busy));
        } else {
            plan_table_none(bench->table);
        }
    }
    return DPR_OK;
}

static dpr_status_t report(const bench_t *bench)
{
    const dpr_model_config_t *model = &bench->pair.model;
    const plan_section_t section = {.key = "ops", .title = NULL, .table = bench->table};
    plan_table_t *facts;
    DPR_TRY(plan_table_create(fact_columns, sizeof fact_columns / sizeof fact_columns[0], &facts));
    bench_machine_cells(&bench->machine, &bench->options->common, facts);
    plan_table_int(facts, model->hidden);
    plan_table_int(facts, model->ffn);
    plan_table_int(facts, model->blocks / BENCH_PAIR_STAGES);
    plan_table_int(facts, model->micro_batch_size);
    plan_table_int(facts, (int64_t)bench->traffic.bytes);
    plan_table_text(facts, bench->self->ranks > 1 ? "messages between pairs of ranks"
                                                  : "copies in memory");
    const dpr_status_t status =
        bench_report_write(&bench->options->common, "overlap", facts, &section, 1);
    plan_table_destroy(facts);
    return status;
}

/* ---- The command ---- */

static dpr_status_t set_up(bench_t *bench)
{
    for (int i = 0; i < 2 * BENCH_OPS; i++) {
        DPR_TRY(dpr_calloc((size_t)bench->options->common.repeats, sizeof(double),
                           &bench->values[i / 2][i % 2]));
    }
    DPR_TRY(plan_table_create(columns, sizeof columns / sizeof columns[0], &bench->table));
    return bench_pair_open(&bench->machine, &bench->options->load.config, &bench->pair);
}

static dpr_status_t measure_all(bench_t *bench)
{
    DPR_TRY(bench_traffic_open(&bench->machine, bench->self, bench_pair_message_bytes(&bench->pair),
                               &bench->traffic));
    DPR_TRY(bench_pair_check(&bench->pair));
    int messages[BENCH_OPS];
    DPR_TRY(count_all_messages(bench, messages));
    DPR_TRY(measure_ops(bench, messages));
    for (int op = 0; op < BENCH_OPS; op++) {
        DPR_TRY(add_row(bench, (bench_op_t)op, messages[op]));
    }
    return bench_traffic_check(&bench->traffic);
}

static dpr_status_t measure(bench_t *bench)
{
    DPR_TRY(dpr_comm_agree(bench->self->comm, set_up(bench), NULL));
    bench->self->live = true;
    DPR_TRY(measure_all(bench));
    bench->self->live = false;
    return dpr_comm_agree(bench->self->comm, bench->self->rank == 0 ? report(bench) : DPR_OK, NULL);
}

static dpr_status_t run(const void *arguments, bench_rank_t *self)
{
    bench_t bench = {.options = arguments, .self = self};
    DPR_TRY(bench_machine_open(&bench.options->common, self, &bench.machine));
    const dpr_status_t status = measure(&bench);
    if (!self->live) {
        bench_traffic_close(&bench.traffic);
        bench_pair_close(&bench.pair);
        bench_machine_close(&bench.machine);
    }
    for (int i = 0; i < 2 * BENCH_OPS; i++) {
        free(bench.values[i / 2][i % 2]);
    }
    plan_table_destroy(bench.table);
    return status;
}

static const struct argp argp = {
    .parser = bench_rig_options_parse,
    .children = bench_load_model_children,
    .doc = "Times F, B and F&B of two stages of four, alone and while messages of the size of an "
           "activation move between neighbours.\voverlap: (F + B - F&B) / min(F, B). F&B, two "
           "streams: the backward on a compute stream of its own, as on a GPU."};

static void set_defaults(void *options)
{
    bench_rig_options_default(options, 1, 31, 3);
}

const bench_command_t bench_overlap_command = {
    .name = "overlap",
    .summary = "F, B and F&B of a stage, with and without traffic",
    .options_bytes = sizeof(bench_rig_options_t),
    .set_defaults = set_defaults,
    .argp = &argp,
    .run = run,
};
