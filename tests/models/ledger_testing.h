/*
 * What the tests of the ledger, the critical path and the prediction's error share: a program that
 * ran, with what was predicted, what its nodes took and how late each started.
 */
#ifndef DPR_TESTS_LEDGER_TESTING_H
#define DPR_TESTS_LEDGER_TESTING_H

#include "models/ledger.h"
#include "tests/schedule/schedule_testing.h"

enum { PROGRAMS = 1000 };

typedef struct run {
    dpr_program_t program;
    dpr_graph_t *graph;
    double *cost;  /* predicted */
    double *taken; /* what the nodes took */
    double *delay; /* from the last of its edges to its start */
    double *enqueued;
    dpr_timeline_t timeline;
    dpr_ledger_t ledger;
} run_t;

/* Takes the program; all costs 0, not played. */
run_t make_run(dpr_program_t program, const dpr_graph_options_t *options);
void free_run(run_t *run);

/* The timeline and the ledger of what the run now holds: every node starts `delay` after the last
 * of its edges. */
void play(run_t *run);

/* A program in text with costs of 1, B of 2 and the given time of a transfer, played. */
run_t play_text(const char *text, const dpr_graph_options_t *options, double wire);

/* Any program with any costs, played; measured, some nodes take longer and some start late. */
run_t any_run(dice_t *dice, bool measured);

/* The node of that kind, stage and micro-batch, which must be there. */
int32_t find_node(const dpr_graph_t *graph, int kind, int stage, int micro_batch);

/* One micro-batch through two ranks. */
#define THERE_AND_BACK "0F0,0B0\n1F0,1B0\n"

#endif
