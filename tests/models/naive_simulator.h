/*
 * A second simulator, to hold the first against: it plays the program event by event, with ranks,
 * channels and buffer slots as things that are busy or free, and knows nothing of edges. From the
 * graph it takes only names: node numbers, the channels' message orders, and which slot a buffer
 * is.
 */
#ifndef DPR_TESTS_NAIVE_SIMULATOR_H
#define DPR_TESTS_NAIVE_SIMULATOR_H

#include "schedule/graph.h"

/*
 * Fills start[node] and end[node] (NAN for what never ran). Returns true where everything ran,
 * false where the program stalled.
 */
bool naive_simulate(const dpr_program_t *program, const dpr_graph_t *graph, const double *cost,
                    double *start, double *end);

#endif
