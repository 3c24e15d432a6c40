/*
 * Mutants: runs of the rig under the stand-in with one call that orders work left out (standin.h,
 * standin_watch). Each is a process of its own, so that one that crashes or hangs is a mutant that
 * was noticed and no more. The parent itself never enters the stand-in, for a process with threads
 * cannot be forked.
 */
#ifndef DPR_TESTS_RUNTIME_MUTANT_H
#define DPR_TESTS_RUNTIME_MUTANT_H

#include "cuda_testing.h"
#include "standin.h"

enum {
    MUTANT_RANKS = 2,
    MUTANT_CALLS = 4096,
    MUTANT_COMMANDS = 256, /* and waits, on one rank */
    MUTANT_NAME_BYTES = 64,
};

/* What a step of the right run did on the devices, the last, or, recorded, the first, in which all
 * calls are made; and what the run came to. */
typedef struct mutant_facts {
    uint64_t parameters_hash;
    double loss[RIG_MAX_STEPS];
    double evaluated_loss;
    int call_count;
    standin_call_t calls[MUTANT_CALLS];
    int command_count[MUTANT_RANKS];
    char commands[MUTANT_RANKS][MUTANT_COMMANDS][MUTANT_NAME_BYTES];
    int wait_count[MUTANT_RANKS];
    dpr_executor_wait_t waits[MUTANT_RANKS][MUTANT_COMMANDS];
} mutant_facts_t;

typedef enum mutant_verdict {
    MUTANT_RIGHT,    /* under every seed: nobody noticed */
    MUTANT_WRONG,    /* other bits, a misuse, an error, a deadlock that was reported */
    MUTANT_CRASHED,  /* a signal */
    MUTANT_HUNG,     /* did not end */
    MUTANT_NOT_MADE, /* the call to leave out never came: the test is wrong */
} mutant_verdict_t;
const char *mutant_verdict_name(mutant_verdict_t verdict);

/* One allocation of facts, shared with the processes to come; release with mutant_facts_free. */
mutant_facts_t *mutant_facts_new(void);
void mutant_facts_free(mutant_facts_t *facts);

/* Runs `config` (P = 2) in order and as it is; false where that went wrong. */
bool mutant_learn(const rig_config_t *config, mutant_facts_t *facts);

/*
 * Runs it with `omission` (NULL: nothing left out) under the seeds 1 to `seeds`, until one is not
 * `right`. *seed is the last one tried.
 */
mutant_verdict_t mutant_try(const rig_config_t *config, const mutant_facts_t *right,
                            const standin_omission_t *omission, uint64_t seeds, uint64_t *seed);

#endif
