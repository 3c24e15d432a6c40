/* What the files of the closed forms share. */
#ifndef DPR_MODELS_BUBBLES_IMPL_H
#define DPR_MODELS_BUBBLES_IMPL_H

#include "models/bubbles.h"

/* Costs with the defaults filled in, and how the schedule cuts the model. */
typedef struct costs {
    double f;
    double i;
    double w;
    double b;
    double fb;
    double wire;
    int stages_per_rank; /* S / P */
} costs_t;

/* A closed form: sets everything but the ratio, as if there were no wire time. */
typedef void (*form_fn_t)(int ranks, int micro_batches, const costs_t *costs, dpr_bubble_t *bubble);

/* The forms of bubbles_more.c by the name of the schedule, or NULL. */
form_fn_t dpr_bubble_more_form(const char *schedule);

/*
 * What is known of wire time: adds it to a form that was found without, and says what it is then.
 * `costs->wire` is above 0 and there is more than one rank.
 */
void dpr_bubble_add_wire(const char *schedule, int ranks, int micro_batches, const costs_t *costs,
                         dpr_bubble_t *bubble);

#endif
