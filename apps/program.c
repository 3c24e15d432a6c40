/* See program.h. */
#include "apps/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

program_exit_t program_exit_of(dpr_status_t status)
{
    switch (status) {
    case DPR_OK:
        return PROGRAM_OK;
    case DPR_ERR_INVALID:
    case DPR_ERR_PARSE:
    case DPR_ERR_IO:
    case DPR_ERR_DATA:
    case DPR_ERR_PROGRAM:
    case DPR_ERR_DEADLOCK:
    case DPR_ERR_UNSUPPORTED:
        return PROGRAM_BAD_INPUT;
    default:
        return PROGRAM_FAILURE;
    }
}

bool program_has_launcher(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    return size != NULL && atoi(size) > 1;
}

bool program_is_first_rank(void)
{
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                            "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        if (value != NULL) {
            return atoi(value) == 0;
        }
    }
    return true;
}

const char *program_level_name(dpr_log_level_t level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return names[level];
}

dpr_status_t program_check_writable(const char *option, const char *path)
{
    if (path == NULL) {
        return DPR_OK;
    }
    const bool was_there = access(path, F_OK) == 0;
    FILE *file = fopen(path, "a");
    if (file == NULL) {
        return dpr_fail(DPR_ERR_IO, "--%s %s cannot be written: %m", option, path);
    }
    fclose(file);
    if (!was_there) {
        (void)remove(path);
    }
    return DPR_OK;
}
