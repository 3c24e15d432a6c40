/* dualpipe_plan comm: what its options say, for the report on them. */
#ifndef DPR_APPS_PLAN_COMM_H
#define DPR_APPS_PLAN_COMM_H

#include "apps/plan_options.h"

typedef struct plan_comm {
    plan_schedules_t schedules; /* complete, where there is no file */
    dpr_uniform_costs_t costs;  /* of one of P stages */
    plan_format_t format;
    const char *file;
    int64_t message_bytes;
    int64_t gradient_bytes; /* of one of P shares; 0: reductions are not counted */
    int replicas;
    double tolerance;
    double latency;
    bool crossover;
    double most_wire; /* 0: 4 (F + B) */
} plan_comm_t;

/* Plays everything out and prints the report. Errors: those of the models, logged. */
dpr_status_t plan_comm_report(const plan_comm_t *comm);

#endif
