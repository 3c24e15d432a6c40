/*
 * What a training run is asked to do: the options of dualpipe_train, resolved and checked.
 */
#ifndef DPR_RUNTIME_CONFIG_H
#define DPR_RUNTIME_CONFIG_H

#include "base/dtype.h"
#include "runtime/optimizer.h"
#include "schedule/program.h"

/* Strings are borrowed and outlive the config. */
typedef struct dpr_train_config {
    const char *schedule; /* NULL: dualpipe where P allows it, else dualpipev, 1f1b on one rank */
    const char *schedule_file; /* a CSV; takes the place of schedule and micro_batches */
    int micro_batches;         /* 0: the least the schedule allows from 5P/2 up */
    int activations;        /* auto: most saved sets of a stage on a rank; 0: what dualpipe needs */
    double auto_budget_sec; /* auto: of the search */
    int micro_batch_size;
    int hidden;
    int ffn;
    int blocks;       /* 0: 16, or 2P where that is more */
    const char *data; /* dataset.h */
    int epochs;
    long steps; /* 0: what the epochs make */
    dpr_optimizer_config_t optimizer;
    uint64_t seed;
    dpr_dtype_t dtype;
    const char *device;     /* "auto", "host", "cuda" */
    const char *comm;       /* "auto", "nccl", "mpi" */
    int comm_ctas;          /* nccl: CTAs of a communicator; 0: device_choice.h's default */
    bool cuda_graph;        /* the step is recorded once and replayed */
    long refresh_steps;     /* predict anew after so many steps; 0: never; -1: half of them */
    double timeout_sec;     /* a step that takes longer ends the job; 0: never */
    const char *clock;      /* "auto", "wall", "core", "model" */
    const char *cost_model; /* cost_file.h; NULL: none */
    int calibrate_steps;
    bool verify;
    int recv_slots; /* 0: what the schedule needs, and recv_ahead more */
    int recv_ahead;
    int send_slots; /* 0: two, or what the schedule needs */
    uint64_t chaos_seed;
    uint64_t memory_limit_bytes; /* of device memory a rank; 0: what the device has */
} dpr_train_config_t;

/* The defaults that `dualpipe_train` runs with when nothing is said. */
void dpr_train_config_default(dpr_train_config_t *config);

/*
 * Checks ranges that need nothing else. Errors: DPR_ERR_INVALID, logged with the option's name, the
 * value and what is allowed.
 */
dpr_status_t dpr_train_config_check(const dpr_train_config_t *config);

/*
 * The program that the config asks for on `ranks` ranks: generated, or read from the file and
 * checked. Errors: those of dpr_schedule_generate, dpr_csv_read and dpr_program_check.
 */
dpr_status_t dpr_train_config_program(const dpr_train_config_t *config, int ranks,
                                      dpr_program_t *program);

/* What was asked for, or the default: 16, or 2P where that is more, so that schedules of one and of
 * two stages a rank train the same model; never fewer than the program's stages. */
int dpr_train_config_blocks(const dpr_train_config_t *config, int ranks, int stages);

/*
 * Everything that must be the same on all ranks as lines of "--option value\n", in a fixed order,
 * for comparing. Returns the length that it needs, as snprintf does.
 */
size_t dpr_train_config_format(const dpr_train_config_t *config, char *text, size_t size);

#endif
