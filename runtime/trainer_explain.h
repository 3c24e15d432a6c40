/*
 * The trainer's explainer: keeps the last steps and the clocks' exchanges while the run goes on,
 * predicts anew from measured steps, and at the end puts the explanation together.
 */
#ifndef DPR_RUNTIME_TRAINER_EXPLAIN_H
#define DPR_RUNTIME_TRAINER_EXPLAIN_H

#include "runtime/explanation.h"
#include "runtime/history.h"
#include "runtime/trainer.h"

/* Steps kept op by op; exchanges kept of a clock (of more, the last takes the place of the one
 * before). */
enum { EXPLAINER_STEPS = 32, EXPLAINER_EXCHANGES = 64, EXPLAINER_FACTS = 8 };

typedef struct explainer {
    dpr_history_t *history;
    dpr_clock_sample_t exchanges[EXPLAINER_EXCHANGES];
    int exchange_count;
    dpr_clock_fit_t clock;   /* this rank's, by the exchanges so far */
    dpr_clock_fit_t *clocks; /* [P], after the run */

    long refresh_steps; /* a prediction every so many steps; 0: none */
    dpr_promise_t *promises;
    dpr_measurement_t *promised; /* rank 0: what each promise but the first predicts */
    int promise_count;
    int promise_room;

    dpr_durations_t measured; /* of the steps kept, after the run */
    dpr_timeline_t typical;
    double *measured_cost; /* [node_count] */
    double *enqueued_sec;  /* [node_count], of `typical` */
    dpr_run_link_t *links; /* [channel_count] */
    char texts[EXPLAINER_FACTS][160];
    dpr_run_fact_t facts[EXPLAINER_FACTS];
    dpr_run_t run;
    dpr_run_analysis_t analysis;
    dpr_explanation_t explanation;
    bool is_explained;
} explainer_t;

/* Needs the pipeline; allocates all that the steps will need. */
dpr_status_t trainer_explain_create(dpr_trainer_t *trainer);
void trainer_explain_destroy(dpr_trainer_t *trainer);

/* Exchanges clocks with rank 0 where the clock is real; collective, between steps. */
dpr_status_t trainer_explain_clock(dpr_trainer_t *trainer);

/* After the calibration's prediction: it becomes the first promise. */
void trainer_explain_predicted(dpr_trainer_t *trainer);

/* After step `step` is complete: keeps it, and returns its records. */
const dpr_record_t *trainer_explain_step(dpr_trainer_t *trainer, long step);

/* After that: predicts anew where it is time for it; collective. */
dpr_status_t trainer_explain_refresh(dpr_trainer_t *trainer, long step);

/* After the last step; collective. The explanation is then filled on rank 0, of the steps from the
 * first measured one on. Where there was no step nothing is explained. */
dpr_status_t trainer_explain(dpr_trainer_t *trainer);

#endif
