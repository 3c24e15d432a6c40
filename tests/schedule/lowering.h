/*
 * Writing a lowered CSV file, which only tests need: what the reader of such files is held against.
 */
#ifndef DPR_TESTS_SCHEDULE_LOWERING_H
#define DPR_TESTS_SCHEDULE_LOWERING_H

#include <stddef.h>

#include "schedule/graph.h"

/*
 * The text of a program as PyTorch would lower it: every send after the action that makes what is
 * sent, every receive before the action that takes it, in the order of the channels of `graph`,
 * which is the program's. The caller frees the text, of *length bytes.
 */
char *write_lowered(const dpr_program_t *program, const dpr_graph_t *graph, size_t *length);

#endif
