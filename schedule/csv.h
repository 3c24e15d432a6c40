/*
 * Programs as text: the compute-only CSV of PyTorch's pipelining package (torch.distributed.
 * pipelining.schedules), in both directions. One line per rank, actions separated by commas; stage,
 * kind, micro-batch: 2F0, 2I0, 2W0, 2B0; overlapped: (0F7;7B3)OVERLAP_F_B.
 *
 * The lowered form of the same package (compute_comms) is read, too. Besides compute actions it
 * holds, of the posting rank's own stage,
 *
 *     2SEND_F0  the activation that 2F0 makes leaves for stage 3's rank
 *     3RECV_F0  the activation that 3F0 takes comes in
 *     3SEND_B0  the gradient that 3B0 (or 3I0) makes leaves for stage 2's rank
 *     2RECV_B0  the gradient that 2B0 (or 2I0) takes comes in
 *     2UNSHARD, 2RESHARD, 2REDUCE_GRAD   passed over, with a notice that counts them
 *
 * Sends and receives are checked against what the compute actions need, and kept: they say in which
 * order each channel's messages are posted at either end (dpr_program_t.posts).
 */
#ifndef DPR_SCHEDULE_CSV_H
#define DPR_SCHEDULE_CSV_H

#include <stdio.h>

#include "schedule/program.h"

/*
 * Parses a program of `length` bytes. `source` names it in messages (a file name). The number of
 * ranks is the number of lines, S and M follow from the largest numbers of compute actions. Blanks
 * around actions, empty cells, CRLF and a missing last newline are allowed. A blank line is a rank
 * without work, but not at the end of the file, where blank lines are passed over; there, a line
 * with a comma is one. Errors: DPR_ERR_PARSE, logged as "source:line:column: expected ..., found
 * ..."; DPR_ERR_MEMORY. Only the text is judged here, and sends and receives where there are any;
 * call dpr_program_check for the rest.
 */
dpr_status_t dpr_csv_parse(const char *text, size_t length, const char *source,
                           dpr_program_t *program);

/* Reads and parses a file. Errors: DPR_ERR_IO (with the reason), and those of dpr_csv_parse. */
dpr_status_t dpr_csv_read(const char *path, dpr_program_t *program);

/* Writes the program's compute actions, one line per rank. Errors: DPR_ERR_IO. */
dpr_status_t dpr_csv_write(const dpr_program_t *program, FILE *out);

#endif
