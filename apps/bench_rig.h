/*
 * The rig of dualpipe_bench: a rank's device and kernels, and a pipeline with a synthetic batch,
 * set up as dualpipe_train sets up its own.
 */
#ifndef DPR_APPS_BENCH_RIG_H
#define DPR_APPS_BENCH_RIG_H

#include "apps/bench.h"
#include "runtime/config.h"
#include "runtime/pipeline.h"

/* A rank's device; kept over all that a command measures. */
typedef struct bench_machine {
    dpr_comm_t *comm;      /* what channels are opened on */
    dpr_comm_t *over_comm; /* cuda: NCCL, owned; else NULL */
    dpr_clock_t clock;
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    int node_ranks; /* of the node where cores are scarcest */
    int node_cores;
} bench_machine_t;

/*
 * Opens the device that the options ask for; `clock` "auto" is wall where every rank has a core of
 * its own, else core. Collective; all ranks agree on the status. Release with bench_machine_close.
 */
dpr_status_t bench_machine_open(const bench_common_t *common, const bench_rank_t *self,
                                bench_machine_t *machine);
void bench_machine_close(bench_machine_t *machine); /* collective; a zeroed one is allowed */

/* The columns that say on what was measured, for a table of facts, and their cells. */
#define BENCH_MACHINE_COLUMNS                                                                      \
    {"device", "device", PLAN_TEXT}, {"clock", "clock", PLAN_TEXT}, {"ranks", "ranks", PLAN_INT},  \
        {"cores", "cores of the node", PLAN_INT}, {"transport", "transport", PLAN_TEXT},           \
    {                                                                                              \
        "repeats", "repeats", PLAN_INT                                                             \
    }
void bench_machine_cells(const bench_machine_t *machine, const bench_common_t *common,
                         plan_table_t *facts);

/* Options of the model and the program. */
typedef struct bench_load {
    bench_names_t schedules; /* none: the default of dualpipe_train */
    bench_list_t micro_batches;
    dpr_train_config_t config; /* of the model; schedule and micro-batches are set for each row */
} bench_load_t;

/* Their input: a bench_load_t. The second has the model's options alone. */
extern const struct argp bench_load_argp;
extern const struct argp bench_load_model_argp;
void bench_load_default(bench_load_t *load);

/* All that a command has which plays such a load and has no options of its own: the parser of its
 * argp, and that one's children, with the whole load or with the model alone. */
typedef struct bench_rig_options {
    bench_common_t common;
    bench_load_t load;
} bench_rig_options_t;

error_t bench_rig_options_parse(int key, char *arg, struct argp_state *state);
extern const struct argp_child bench_load_children[];
extern const struct argp_child bench_load_model_children[];
void bench_rig_options_default(bench_rig_options_t *options, int ranks, int repeats, int warm_up);

/* A pipeline of one schedule, ready to play. */
typedef struct bench_rig {
    const bench_rank_t *self;
    bench_machine_t *machine;
    dpr_train_config_t config;
    dpr_program_t program;
    dpr_model_config_t model;
    dpr_pipeline_t *pipeline;
    float *inputs; /* pinned; NULL where not needed */
    int32_t *labels;
    size_t global_batch;
    long step; /* the next */
} bench_rig_t;

/*
 * Opens the pipeline of `config` and loads its batch. Collective; the ranks agree on every failure.
 * Release with bench_rig_close. Errors: those of dpr_train_config_program and dpr_pipeline_create.
 */
dpr_status_t bench_rig_open(const bench_rank_t *self, bench_machine_t *machine,
                            const dpr_train_config_t *config, bench_rig_t *rig);
void bench_rig_close(bench_rig_t *rig); /* collective; a zeroed one is allowed */

/* One whole training step, as dualpipe_train plays it: the batch that is loaded, the update, and
 * the next batch's copy meanwhile. Errors: DPR_ERR_MISMATCH where the loss or the gradients are not
 * finite; those of the pipeline. */
dpr_status_t bench_rig_step(bench_rig_t *rig);

/* Products of all ranks in one step, floating-point operations. */
double bench_rig_flops(const bench_rig_t *rig);

#endif
