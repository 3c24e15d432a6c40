/*
 * The schedule families: pure functions (ranks, micro-batches) -> program, one file per family, and
 * the table that names them.
 */
#ifndef DPR_SCHEDULE_GENERATORS_H
#define DPR_SCHEDULE_GENERATORS_H

#include "schedule/program.h"

typedef struct dpr_schedule {
    const char *name;    /* as on the command line: "dualpipe" */
    const char *summary; /* one line for --help */
    const char *needs;   /* what P and M must satisfy, in words: "P even, M even, M >= 2P" */
    /* Stages of P ranks: P, or 2P where each rank holds two (and ":v" says nothing else). */
    int (*stages)(int ranks);
    /* Smallest number of micro-batches that P ranks can run, or 0 where P itself is not allowed. */
    int (*min_micro_batches)(int ranks);
    /* Whether (P, M) is allowed. */
    bool (*allows)(int ranks, int micro_batches);
    /* Fills `program` (uninitialised); called only where `allows` says yes. */
    dpr_status_t (*generate)(int ranks, int micro_batches, dpr_program_t *program);
    /* The same with v stages on every rank, where a name may ask for them ("interleaved-1f1b:3");
     * NULL where the placement is fixed. */
    dpr_status_t (*generate_of)(int ranks, int micro_batches, int stages_per_rank,
                                dpr_program_t *program);
} dpr_schedule_t;

/* The schedules, in the order in which they are listed to users; ends at *count. */
const dpr_schedule_t *dpr_schedule_list(size_t *count);

/*
 * The schedule of that name, or NULL; not logged, the caller knows what else it could mean. A name
 * with a number of stages ("interleaved-1f1b:3") finds the schedule without it
 * ("interleaved-1f1b").
 */
const dpr_schedule_t *dpr_schedule_find(const char *name);

/*
 * The stages that each of P ranks holds under that name (3 for "interleaved-1f1b:3"), or 0 where
 * the name is unknown.
 */
int dpr_schedule_stages_per_rank(const char *name);

/*
 * Whether the schedule of that name can run P ranks and M micro-batches. Errors: DPR_ERR_INVALID
 * where the name is unknown (the message lists the names) or (P, M) is not allowed (the message
 * says what the schedule needs and the nearest allowed values).
 */
dpr_status_t dpr_schedule_check(const char *name, int ranks, int micro_batches);

/* Whether dpr_schedule_check succeeds; nothing is logged. */
bool dpr_schedule_allows(const char *name, int ranks, int micro_batches);

/* Generates a program by name. Errors: those of dpr_schedule_check; DPR_ERR_MEMORY. */
dpr_status_t dpr_schedule_generate(const char *name, int ranks, int micro_batches,
                                   dpr_program_t *program);

#endif
