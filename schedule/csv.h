/*
 * Programs as text: the compute-only CSV of PyTorch's pipelining package (torch.distributed.
 * pipelining.schedules), in both directions. One line per rank, actions separated by commas; stage,
 * kind, micro-batch: 2F0, 2I0, 2W0, 2B0; overlapped: (0F7;7B3)OVERLAP_F_B.
 */
#ifndef DPR_SCHEDULE_CSV_H
#define DPR_SCHEDULE_CSV_H

#include <stdio.h>

#include "schedule/program.h"

/*
 * Parses a program of `length` bytes. `source` names it in messages (a file name). The number of
 * ranks is the number of lines, S and M follow from the largest numbers seen. Blanks around
 * actions, empty cells, CRLF and a missing last newline are allowed. Errors: DPR_ERR_PARSE, logged
 * as "source:line:column: expected ..., found ..."; DPR_ERR_MEMORY. Only the text is judged here;
 * call dpr_program_check for the rest.
 */
dpr_status_t dpr_csv_parse(const char *text, size_t length, const char *source,
                           dpr_program_t *program);

/* Reads and parses a file. Errors: DPR_ERR_IO (with the reason), and those of dpr_csv_parse. */
dpr_status_t dpr_csv_read(const char *path, dpr_program_t *program);

/* Writes the program, one line per rank. Errors: DPR_ERR_IO. */
dpr_status_t dpr_csv_write(const dpr_program_t *program, FILE *out);

#endif
