/* What the three programs share: exit codes, what a launcher says of the ranks, words of messages.
 */
#ifndef DPR_APPS_PROGRAM_H
#define DPR_APPS_PROGRAM_H

#include <stdbool.h>

#include "base/log.h"
#include "base/status.h"

typedef enum program_exit {
    PROGRAM_OK = 0,
    PROGRAM_FAILURE = 1,     /* not the user's fault: this machine, a full disk, another rank */
    PROGRAM_BAD_INPUT = 2,   /* options, files, programs that are not valid */
    PROGRAM_NOT_CORRECT = 3, /* a result was wrong: a verification, what a benchmark computed */
} program_exit_t;

/* Of what a command line or a file led to. What is right with one program and not with the others
 * is theirs to say: a result that was wrong, a model too large. */
program_exit_t program_exit_of(dpr_status_t status);

/* Whether a launcher started several ranks, and whether this is the first of them (also without).
 * Known before MPI is: under a launcher every rank parses the same --help, and one answers. */
bool program_has_launcher(void);
bool program_is_first_rank(void);

/* Whether the file of an option can be written; one that this makes is taken away again, so that a
 * run that fails leaves none. NULL is allowed. Errors: DPR_ERR_IO, naming the option. */
dpr_status_t program_check_writable(const char *option, const char *path);

static inline dpr_status_t program_first_error(dpr_status_t first, dpr_status_t second)
{
    return first != DPR_OK ? first : second;
}

/* "error", "warning", ... */
const char *program_level_name(dpr_log_level_t level);

#endif
