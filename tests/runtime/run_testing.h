/* What the tests of saved runs and of pages share: runs with everything that a run can have. */
#ifndef DPR_TESTS_RUN_TESTING_H
#define DPR_TESTS_RUN_TESTING_H

#include "runtime/run.h"
#include "tests/schedule/schedule_testing.h"

typedef struct run_fixture {
    dpr_run_t run;
    dpr_program_t program;
    dpr_graph_t *graph;
    double *cost;
    double *expected_cost;
    double *measured_cost;
    double *delay_sec;
    double *enqueued_sec;
    dpr_run_fact_t facts[2];
    dpr_run_link_t links[1];
} run_fixture_t;

/* A simulation of the program, which the fixture takes over. `options` NULL means the default. */
void make_run(run_fixture_t *fixture, dpr_program_t program, const dpr_graph_options_t *options);

/* The same and a measurement that differs from it at random, with links and a closed form. */
void make_measured_run(run_fixture_t *fixture, dpr_program_t program,
                       const dpr_graph_options_t *options, dice_t *dice);

void free_run(run_fixture_t *fixture);

#endif
