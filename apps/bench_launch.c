/*
 * Ranks of dualpipe_bench: the launcher's processes, or threads of this one.
 *
 * Messages. While all ranks may find the same fault, a rank's own errors are held back, and then
 * the lowest rank that found one says so, once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/bench.h"
#include "apps/program.h"
#include "base/log.h"
#include "base/memory.h"

static const char *program_name;
static bool is_launched; /* before, all ranks read the same command line, and the first speaks */
static bool has_threads;
static bool is_quiet;

/* What a rank's thread knows of its messages; other threads print at once. */
typedef struct messages {
    bool active;
    int rank;
    char held[4096];
} messages_t;

static _Thread_local messages_t messages;

bool bench_ranks_are_threads(void)
{
    return has_threads;
}

static void message_sink(void *user, dpr_log_level_t level, const char *text)
{
    (void)user;
    const bool shared =
        level != DPR_LOG_ERROR && (is_quiet || (messages.active && messages.rank > 0));
    if (messages.active && level == DPR_LOG_ERROR) {
        const size_t used = strlen(messages.held);
        snprintf(messages.held + used, sizeof messages.held - used, "%s%s", used > 0 ? "\n" : "",
                 text);
    } else if (!shared && (is_launched || program_is_first_rank())) {
        fprintf(stderr, "%s: %s: %s\n", program_name, program_level_name(level), text);
    }
}

void bench_messages_start(const char *program)
{
    program_name = program;
    dpr_log_set_sink(message_sink, NULL);
}

static int exit_code_of(dpr_status_t status, bool live)
{
    if (status == DPR_ERR_MISMATCH) {
        return PROGRAM_NOT_CORRECT;
    }
    if (status == DPR_ERR_MEMORY && !live) {
        return PROGRAM_BAD_INPUT; /* a model too large, refused with the numbers */
    }
    return live && status != DPR_OK ? (int)PROGRAM_FAILURE : (int)program_exit_of(status);
}

static void print_held(const bench_rank_t *self, dpr_status_t status)
{
    fprintf(stderr, "%s: rank %d: error: %s\n", program_name, self->rank,
            messages.held[0] != '\0' ? messages.held : dpr_status_text(status));
}

/* The rank's part of the job's end. */
static int finish(bench_rank_t *self, dpr_status_t status)
{
    const int code = exit_code_of(status, self->live);
    if (status == DPR_OK) {
        return code;
    }
    if (self->live) {
        print_held(self, status);
        dpr_comm_abort(self->comm, code);
    }
    int culprit = 0;
    (void)dpr_comm_agree(self->comm, messages.held[0] != '\0' ? status : DPR_OK, &culprit);
    if (culprit == self->rank) {
        print_held(self, status);
    }
    return code;
}

/* Ranks that were asked for different things would wait for each other for ever. Collective. */
static dpr_status_t compare_command_lines(const bench_rank_t *self, uint64_t command_line)
{
    uint64_t *all;
    DPR_TRY(dpr_calloc((size_t)self->ranks, sizeof *all, &all));
    dpr_status_t status = dpr_comm_allgather(self->comm, &command_line, sizeof command_line, all);
    for (int r = 0; r < self->ranks && status == DPR_OK; r++) {
        if (all[r] != command_line) {
            status = dpr_fail(DPR_ERR_INVALID,
                              "ranks were started with different options: those of rank %d are not "
                              "those of rank %d; start all ranks with the same command line",
                              r, self->rank);
        }
    }
    free(all);
    return dpr_comm_agree(self->comm, status, NULL);
}

static dpr_status_t check_file(const char *option, const char *path)
{
    return path == NULL || strcmp(path, "-") == 0 ? DPR_OK : program_check_writable(option, path);
}

/* Known before anything is measured. Collective. */
static dpr_status_t check_outputs(const bench_rank_t *self, const bench_common_t *common)
{
    dpr_status_t status = DPR_OK;
    if (self->rank == 0) {
        status = program_first_error(check_file("json", common->json_path),
                                     check_file("csv", common->csv_path));
    }
    return dpr_comm_agree(self->comm, status, NULL);
}

static int play(const bench_command_t *command, const void *options, uint64_t command_line,
                dpr_comm_t *comm)
{
    bench_rank_t self = {.comm = comm, .rank = dpr_comm_rank(comm), .ranks = dpr_comm_size(comm)};
    messages = (messages_t){.active = true, .rank = self.rank};
    dpr_status_t status = compare_command_lines(&self, command_line);
    if (status == DPR_OK) {
        status = check_outputs(&self, options);
    }
    if (status == DPR_OK) {
        status = command->run(options, &self);
    }
    const int code = finish(&self, status);
    messages.active = false;
    return code;
}

/* ---- Threads as ranks ---- */

typedef struct thread_rank {
    const bench_command_t *command;
    const void *options;
    dpr_comm_t *comm;
    pthread_t thread;
    int code;
} thread_rank_t;

static void *thread_main(void *argument)
{
    thread_rank_t *rank = argument;
    rank->code = play(rank->command, rank->options, 0, rank->comm);
    dpr_comm_destroy(rank->comm);
    return NULL;
}

static int launch_threads(const bench_command_t *command, const void *options, int ranks)
{
    thread_rank_t *all = NULL;
    dpr_comm_t **comms = NULL;
    int code = PROGRAM_FAILURE;
    if (dpr_calloc((size_t)ranks, sizeof *all, &all) != DPR_OK ||
        dpr_calloc((size_t)ranks, sizeof *comms, &comms) != DPR_OK ||
        dpr_comm_local_create(ranks, comms) != DPR_OK) {
        goto free_ranks;
    }
    for (int r = 0; r < ranks; r++) {
        all[r] = (thread_rank_t){.command = command, .options = options, .comm = comms[r]};
        const int error = pthread_create(&all[r].thread, NULL, thread_main, &all[r]);
        if (error != 0) {
            fprintf(stderr, "%s: error: cannot start a thread for rank %d of %d: %s\n",
                    program_name, r, ranks, strerror(error));
            exit(PROGRAM_FAILURE); /* the ranks already started wait for this one */
        }
    }
    for (int r = 0; r < ranks; r++) {
        pthread_join(all[r].thread, NULL);
    }
    code = all[0].code;

free_ranks:
    free(comms);
    free(all);
    return code;
}

int bench_launch(const bench_command_t *command, void *options, uint64_t command_line)
{
    const bench_common_t *common = options;
    is_launched = true;
    is_quiet = common->quiet;
    if (!program_has_launcher() && common->ranks > 1) {
        has_threads = true;
        return launch_threads(command, options, common->ranks);
    }
    dpr_comm_t *comm;
    if (command->prepare != NULL) {
        command->prepare(options);
    }
    if (dpr_comm_mpi_create(&comm) != DPR_OK) {
        return PROGRAM_FAILURE;
    }
    const int code = play(command, options, command_line, comm);
    dpr_comm_destroy(comm);
    return code;
}
