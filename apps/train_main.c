/*
 * dualpipe_train: trains an MLP over pipeline ranks and measures the bubbles against their
 * prediction.
 *
 * Exit codes: 0 success; 1 the run failed; 2 bad input (options, files, a program that is not
 * valid); 3 a verification failed.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/program.h"
#include "apps/train_options.h"
#include "base/log.h"
#include "comm/comm.h"
#include "device/device.h"
#include "runtime/trainer.h"
#include "runtime/watchdog.h"

/* ---- Messages: held back while all ranks may find the same fault, then printed at once ---- */

typedef struct messages {
    int rank;
    bool quiet;
    bool live;
    char held[8192];
} messages_t;

static void print_message(const messages_t *messages, dpr_log_level_t level, const char *text)
{
    fprintf(stderr, "dualpipe_train: rank %d: %s: %s\n", messages->rank, program_level_name(level),
            text);
}

static void message_sink(void *user, dpr_log_level_t level, const char *text)
{
    messages_t *messages = user;
    if (messages->quiet && level != DPR_LOG_ERROR) {
        return;
    }
    if (messages->live || level != DPR_LOG_ERROR) {
        /* before the run a warning is about the input, which is the same on all ranks */
        const bool shared = level == DPR_LOG_INFO || (level == DPR_LOG_WARNING && !messages->live);
        if (!shared || messages->rank == 0) {
            print_message(messages, level, text);
        }
        return;
    }
    const size_t used = strlen(messages->held);
    snprintf(messages->held + used, sizeof messages->held - used, "%s%s", used > 0 ? "\n" : "",
             text);
}

static int exit_code_of(dpr_status_t status)
{
    if (status == DPR_ERR_MISMATCH) {
        return PROGRAM_NOT_CORRECT;
    }
    /* a model too large for the device was refused with the numbers */
    return status == DPR_ERR_MEMORY ? PROGRAM_BAD_INPUT : (int)program_exit_of(status);
}

/* The lowest rank that found a fault says so; returns the job's exit code. */
static int report_set_up_failure(dpr_comm_t *comm, const messages_t *messages, dpr_status_t status)
{
    int culprit = 0;
    const dpr_status_t held = messages->held[0] != '\0' ? status : DPR_OK;
    (void)dpr_comm_agree(comm, held, &culprit);
    if (culprit == messages->rank) {
        print_message(messages, DPR_LOG_ERROR,
                      messages->held[0] != '\0' ? messages->held : dpr_status_text(status));
    }
    return exit_code_of(status);
}

/* ---- Progress ---- */

typedef struct display {
    bool quiet;
    bool terminal;
    int evaluations; /* already shown */
    long line_step;  /* step of the last plain line */
} display_t;

static void show_evaluation(display_t *display, const dpr_progress_t *progress)
{
    display->evaluations = progress->evaluations;
    printf("%sepoch %d/%d  step %ld/%ld  loss %.4f  test accuracy %.2f %%\n",
           display->terminal ? "\r\033[K" : "", progress->evaluations, progress->epochs,
           progress->step, progress->steps, progress->loss, 100.0 * progress->test_accuracy);
    fflush(stdout);
}

static void show_line(display_t *display, const dpr_progress_t *progress)
{
    const bool training = progress->step > 0 && strcmp(progress->phase, "done") != 0;
    if (display->terminal && training) {
        printf("\r\033[Kepoch %d/%d  step %ld/%ld  loss %.4f  %.0f samples/s  %.0f s left  %s",
               progress->epoch, progress->epochs, progress->step, progress->steps, progress->loss,
               progress->samples_per_sec, progress->left_sec, progress->phase);
        fflush(stdout);
    } else if (!display->terminal && training &&
               progress->step >= display->line_step + progress->steps / 20 + 1) {
        display->line_step = progress->step;
        printf("epoch %d/%d  step %ld/%ld  loss %.4f  %.0f samples/s  %.0f s left\n",
               progress->epoch, progress->epochs, progress->step, progress->steps, progress->loss,
               progress->samples_per_sec, progress->left_sec);
        fflush(stdout);
    } else if (display->terminal) {
        printf("\r\033[K%s", strcmp(progress->phase, "done") == 0 ? "" : progress->phase);
        fflush(stdout);
    }
}

static void show_progress(void *user, const dpr_progress_t *progress)
{
    display_t *display = user;
    if (display->quiet) {
        return;
    }
    if (progress->evaluations > display->evaluations) {
        show_evaluation(display, progress);
    }
    show_line(display, progress);
}

/*
 * Whether a person's terminal is at the end of standard output. Open MPI's launcher gives every
 * rank a pseudo-terminal and passes on what comes out of it, so under a launcher it is the
 * launcher's own output that counts.
 */
static bool output_is_terminal(void)
{
    if (isatty(STDOUT_FILENO) == 0) {
        return false;
    }
    if (getenv("OMPI_COMM_WORLD_RANK") == NULL) {
        return true;
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    const int launcher_output = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (launcher_output < 0) {
        return false;
    }
    const bool terminal = isatty(launcher_output) != 0;
    close(launcher_output);
    return terminal;
}

/* ---- The job ---- */

/* After set-up nothing is bad input any more: what fails then has failed. */
static int exit_code_of_run(dpr_status_t status)
{
    return status != DPR_OK && status != DPR_ERR_MISMATCH ? PROGRAM_FAILURE : exit_code_of(status);
}

static int run(const train_options_t *options, dpr_comm_t *comm, messages_t *messages,
               dpr_trainer_t *trainer)
{
    display_t display = {
        .quiet = options->quiet || messages->rank != 0,
        .terminal = output_is_terminal(),
    };
    dpr_train_report_t report;
    messages->live = true;
    dpr_status_t status = dpr_trainer_run(trainer, show_progress, &display, &report);
    if (status != DPR_OK && status != DPR_ERR_MISMATCH) {
        print_message(messages, DPR_LOG_ERROR, "the run failed; ending the job on all ranks");
        dpr_comm_abort(comm, exit_code_of_run(status));
    }
    if (messages->rank == 0) {
        const dpr_status_t written =
            train_output_write(&options->output, options->quiet, display.terminal, &report);
        status = status == DPR_OK ? written : status;
    }
    dpr_train_report_free(&report);
    return exit_code_of_run(status);
}

/* Where only some ranks were asked for --help or --version the others must not wait for them. */
static dpr_status_t compare_shown(dpr_comm_t *comm, bool shown)
{
    const int size = dpr_comm_size(comm);
    bool *all = calloc((size_t)size, sizeof *all);
    if (all == NULL) {
        return DPR_ERR_MEMORY;
    }
    dpr_status_t status = dpr_comm_allgather(comm, &shown, sizeof shown, all);
    for (int r = 0; r < size && status == DPR_OK; r++) {
        if (all[r] != shown && shown) {
            status = dpr_fail(DPR_ERR_INVALID,
                              "ranks were started with different options: this one with --help or "
                              "--version, rank %d to train",
                              r);
        }
    }
    free(all);
    return dpr_comm_agree(comm, status, NULL);
}

/* Set-up and run over `comm`, which carries everything from here on. */
static int train(const train_options_t *options, const dpr_device_choice_t *choice,
                 dpr_comm_t *comm, messages_t *messages)
{
    dpr_trainer_t *trainer;
    const dpr_status_t status = dpr_trainer_create(&options->config, choice, comm, &trainer);
    if (status != DPR_OK) {
        return report_set_up_failure(comm, messages, status);
    }
    const int code = run(options, comm, messages, trainer);
    dpr_trainer_destroy(trainer);
    return code;
}

/* NCCL on top of `bootstrap`, which it borrows and which outlives it. */
static int train_over_nccl(const train_options_t *options, const dpr_device_choice_t *choice,
                           dpr_comm_t *bootstrap, messages_t *messages)
{
    dpr_comm_t *comm = NULL;
    const dpr_status_t status =
        dpr_comm_agree(bootstrap, dpr_comm_nccl_create(bootstrap, choice->comm_ctas, &comm), NULL);
    const int code = status == DPR_OK ? train(options, choice, comm, messages)
                                      : report_set_up_failure(bootstrap, messages, status);
    dpr_comm_destroy(comm);
    return code;
}

static int play(const train_options_t *options, dpr_status_t parsed, dpr_comm_t *bootstrap,
                messages_t *messages)
{
    dpr_device_choice_t choice;
    messages->rank = dpr_comm_rank(bootstrap);
    messages->quiet = options->quiet;
    dpr_status_t status = compare_shown(bootstrap, options->shown);
    if (status == DPR_OK && options->shown) {
        return PROGRAM_OK;
    }
    if (parsed == DPR_OK && status == DPR_OK && messages->rank == 0) {
        parsed = train_output_check(&options->output);
    }
    if (status == DPR_OK) {
        status = dpr_comm_agree(bootstrap, parsed, NULL);
    }
    if (status == DPR_OK) {
        status = dpr_device_choose(&options->config, bootstrap, &choice);
    }
    if (status != DPR_OK) {
        return report_set_up_failure(bootstrap, messages, status);
    }
    return choice.is_nccl ? train_over_nccl(options, &choice, bootstrap, messages)
                          : train(options, &choice, bootstrap, messages);
}

/* Says that a signal ended the job, leaves the live line, and ends as the signal would have. */
static void end_by_signal(int number)
{
    static const char text[] = "\ndualpipe_train: ended by a signal\n";
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (number == SIGTERM) { /* the launcher's, where another rank has ended the job */
        dpr_watchdog_report_all();
    }
    if (rank == NULL || (rank[0] == '0' && rank[1] == '\0')) {
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct sigaction action = {.sa_handler = end_by_signal};
        (void)sigaction(numbers[i], &action, NULL);
    }
}

int main(int argc, char **argv)
{
    static messages_t messages;
    train_options_t options;
    dpr_comm_t *comm;
    dpr_cuda_environment();
    dpr_log_set_sink(message_sink, &messages);
    const dpr_status_t parsed = train_options_parse(argc, argv, &options);
    if (options.config.cuda_graph) {
        dpr_comm_nccl_record_environment();
    }
    if (options.shown && !program_has_launcher()) {
        return fflush(stdout) == 0 ? PROGRAM_OK : PROGRAM_FAILURE;
    }
    if (dpr_comm_mpi_create(&comm) != DPR_OK) {
        print_message(&messages, DPR_LOG_ERROR, messages.held);
        return PROGRAM_FAILURE;
    }
    catch_signals(); /* MPI has set its own by now */
    const int code = play(&options, parsed, comm, &messages);
    dpr_comm_destroy(comm);
    return code;
}
