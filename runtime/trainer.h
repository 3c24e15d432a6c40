/*
 * The trainer: sets a run up from its options, calibrates, predicts, trains, evaluates and reports.
 *
 * Threads of a rank: the caller's, which only watches; the scheduler thread, which plays the
 * schedule; the loader's, which prepares batches; the device's streams; the communicator's.
 */
#ifndef DPR_RUNTIME_TRAINER_H
#define DPR_RUNTIME_TRAINER_H

#include "comm/comm.h"
#include "runtime/config.h"
#include "runtime/device_choice.h"
#include "runtime/report.h"

typedef struct dpr_trainer dpr_trainer_t;

/*
 * Sets up everything that `config` (borrowed; the ranks' compared by dpr_device_choose) asks for,
 * on the device of `choice` (copied), and checks it on all ranks; collective. `comm` (borrowed) is
 * what `choice` says, and carries everything. Either all ranks succeed or all return the same
 * status, and the ranks that found a fault have logged it. Errors: DPR_ERR_INVALID, _PARSE,
 * _PROGRAM, _DEADLOCK, _IO, _DATA (bad input), _MEMORY, _UNSUPPORTED.
 */
dpr_status_t dpr_trainer_create(const dpr_train_config_t *config, const dpr_device_choice_t *choice,
                                dpr_comm_t *comm, dpr_trainer_t **trainer);
void dpr_trainer_destroy(dpr_trainer_t *trainer); /* collective; NULL is allowed */

/* Where the run stands, the same on every rank up to a step. */
typedef struct dpr_progress {
    const char *phase; /* "calibrating", "training", "evaluating", "done" */
    int epoch;         /* from 1 */
    int epochs;
    long step; /* completed */
    long steps;
    double loss; /* of the last step */
    double samples_per_sec;
    double left_sec;
    int evaluations;      /* completed, one an epoch */
    double test_accuracy; /* of the last evaluation */
    double test_loss;
} dpr_progress_t;

/* Called on the caller's thread about ten times a second, and once at the end. */
typedef void (*dpr_progress_fn_t)(void *user, const dpr_progress_t *progress);

/*
 * Runs the training to its end; collective, once per trainer. Fills `report` on rank 0 (release
 * with dpr_train_report_free; zeroed elsewhere). Errors: DPR_ERR_MISMATCH where --verify or the
 * replicas' comparison fails (the report is filled all the same), DPR_ERR_COMM, DPR_ERR_DEVICE;
 * after one of the latter the other ranks may be stuck, so the job must be aborted.
 */
dpr_status_t dpr_trainer_run(dpr_trainer_t *trainer, dpr_progress_fn_t progress, void *user,
                             dpr_train_report_t *report);

#endif
