/* What the tests of the scheduler share: requests, and a run that is checked for all that must hold
 * of any result. */
#ifndef DPR_TESTS_AUTO_TESTING_H
#define DPR_TESTS_AUTO_TESTING_H

#include "models/auto.h"
#include "tests/schedule/schedule_testing.h"

enum { TRIPLES = 3 };

/* Costs of F, I and W. */
extern const double triples[TRIPLES][3];

/* With 3000 iterations and no limit in time. */
dpr_auto_request_t request_of(dpr_auto_placement_t placement, int ranks, int micro_batches);
void set_costs(dpr_auto_request_t *request, const double *triple, double wire);

/* Makespan of a program by the graph alone, and its largest peak. */
double play(const dpr_auto_request_t *request, const dpr_program_t *program, int *peak);

/* Runs a request, and checks all that must hold of any result. */
dpr_auto_report_t run(const dpr_auto_request_t *request, dpr_program_t *program);

/* NULL where the report has none of that name. */
const dpr_auto_rival_t *rival_of(const dpr_auto_report_t *report, const char *name);

#endif
