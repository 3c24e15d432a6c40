/*
 * Which model on which machine, as options: what throughput, scaling, search and sensitivity need.
 * Here --parameters are those of the whole model, because its layout is what is asked for.
 */
#ifndef DPR_APPS_PLAN_MACHINE_H
#define DPR_APPS_PLAN_MACHINE_H

#include "apps/plan.h"
#include "apps/plan_table.h"
#include "models/search.h"

typedef struct plan_machine {
    const char *name;        /* --hardware */
    const char *output;      /* --hardware-output, of --hardware measure */
    dpr_hardware_t hardware; /* of plan_machine_complete */
    dpr_workload_t workload;
    bool has_precision;
} plan_machine_t;

#define PLAN_MACHINE_DEFAULT                                                                       \
    {                                                                                              \
        .name = "h100", .output = "hardware-measured.json", .workload = {                          \
            .precision = DPR_PRECISION_BF16,                                                       \
            .state = DPR_STATE_ADAMW,                                                              \
            .fb_factor = 1.0                                                                       \
        }                                                                                          \
    }

/* Of a plan_machine_t. */
extern const option_row_t plan_machine_options[];

/* Reads or measures the hardware, and checks what is missing. Errors: DPR_ERR_INVALID, naming the
 * option; those of dpr_hardware_read and dpr_hardware_measure. */
dpr_status_t plan_machine_complete(plan_machine_t *machine);

/* plan_measure.c: measures this machine and writes its description to `path`. */
dpr_status_t plan_measure(const char *path, dpr_hardware_t *hardware);

/* --min-ranks, --max-ranks, --max-devices, --batch, --memory, --schedule, --threads. Of a
 * dpr_search_options_t. */
extern const option_row_t plan_space_options[];

/* Defaults of what was not given. Errors: DPR_ERR_INVALID, naming the option. */
dpr_status_t plan_space_complete(dpr_search_options_t *options);

/* A time takes two columns, one in seconds for JSON and CSV, one in milliseconds for a person. */
#define PLAN_TIME_COLUMNS(key, title)                                                              \
    {key "_sec", NULL, PLAN_REAL},                                                                 \
    {                                                                                              \
        NULL, title " ms", PLAN_REAL                                                               \
    }
void plan_table_time(plan_table_t *table, double sec);

/* The columns of a layout: schedule, ranks, micro-batches, micro-batch size, replicas. */
#define PLAN_LAYOUT_COLUMNS                                                                        \
    {"schedule", "schedule", PLAN_TEXT}, {"ranks", "ranks", PLAN_INT},                             \
        {"micro_batches", "micro-batches", PLAN_INT}, {"micro_batch_size", "size", PLAN_INT},      \
    {                                                                                              \
        "replicas", "replicas", PLAN_INT                                                           \
    }
void plan_table_candidate(plan_table_t *table, const dpr_candidate_t *candidate);

/* What every report of these commands opens with. */
#define PLAN_MACHINE_COLUMNS                                                                       \
    {"hardware", "hardware", PLAN_TEXT}, {"precision", "precision", PLAN_TEXT},                    \
        {"parameters", "parameters", PLAN_INT}, {"hidden", "hidden", PLAN_INT},                    \
    {                                                                                              \
        "sequence", "sequence", PLAN_INT                                                           \
    }
void plan_table_machine(plan_table_t *table, const plan_machine_t *machine);

#endif
