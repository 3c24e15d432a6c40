/* Runs of the rig in processes of their own. */
#include "mutant.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANG_SEC = 20 };

/* Of the process that runs the rig, whose count callback has no argument. */
static struct {
    mutant_facts_t *facts; /* NULL: nothing is written down */
    standin_omission_t omission;
    int counts; /* so far in this run */
    int first;  /* the one before the step that is watched; the next is behind it */
} child;

const char *mutant_verdict_name(mutant_verdict_t verdict)
{
    static const char *const names[] = {"right", "wrong", "crashed", "hung", "not made"};
    return names[verdict];
}

static void *shared_new(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        abort();
    }
    return memory;
}

mutant_facts_t *mutant_facts_new(void)
{
    return shared_new(sizeof(mutant_facts_t));
}

void mutant_facts_free(mutant_facts_t *facts)
{
    if (facts != NULL) {
        munmap(facts, sizeof *facts);
    }
}

/* ---- In the child ---- */

/* The rig counts before and after each step. */
static size_t watch_step(void)
{
    child.counts++;
    if (child.counts == child.first) {
        standin_watch(child.facts != NULL ? child.facts->calls : NULL,
                      child.facts != NULL ? MUTANT_CALLS : 0, &child.omission);
    } else if (child.counts == child.first + 1) {
        const int count = standin_watch_end();
        if (child.facts != NULL) {
            child.facts->call_count = count;
        }
    }
    return 0;
}

static void write_down(void *user, int rank, const dpr_pipeline_t *pipeline)
{
    mutant_facts_t *facts = user;
    const dpr_executor_t *executor = dpr_pipeline_executor(pipeline);
    facts->command_count[rank] = dpr_executor_command_count(executor);
    facts->wait_count[rank] = dpr_executor_wait_count(executor);
    for (int i = 0; i < facts->command_count[rank] && i < MUTANT_COMMANDS; i++) {
        strncpy(facts->commands[rank][i], dpr_executor_command_name(executor, i),
                MUTANT_NAME_BYTES - 1);
    }
    for (int i = 0; i < facts->wait_count[rank] && i < MUTANT_COMMANDS; i++) {
        dpr_executor_wait(executor, i + 1, &facts->waits[rank][i]);
    }
}

static bool went_well(const cuda_outcome_t *outcome)
{
    return outcome->result.status == DPR_OK && outcome->misuses == 0 &&
           outcome->result.replicas_equal;
}

static void run(const rig_config_t *config, uint64_t seed, cuda_outcome_t *outcome)
{
    rig_config_t watched = *config;
    watched.count = watch_step;
    child.counts = 0;
    child.first = config->record ? 1 : 2 * config->steps - 1;
    cuda_run(&watched, seed, true, 0.5, outcome);
}

static mutant_verdict_t learn(const rig_config_t *config, mutant_facts_t *facts)
{
    cuda_outcome_t outcome;
    rig_config_t told = *config;
    told.inspect = write_down;
    told.user = facts;
    child.facts = facts;
    run(&told, 0, &outcome);
    facts->parameters_hash = outcome.result.parameters_hash;
    memcpy(facts->loss, outcome.result.loss, sizeof facts->loss);
    facts->evaluated_loss = outcome.result.evaluated_loss;
    return went_well(&outcome) && outcome.leaks == 0 ? MUTANT_RIGHT : MUTANT_WRONG;
}

/* Under one seed. A mutant may die of its mutation before its verdict. */
static mutant_verdict_t try_seed(const rig_config_t *config, const mutant_facts_t *right,
                                 uint64_t seed)
{
    cuda_outcome_t outcome;
    run(config, seed, &outcome);
    const rig_result_t *result = &outcome.result;
    const bool same = went_well(&outcome) && result->parameters_hash == right->parameters_hash &&
                      result->evaluated_loss == right->evaluated_loss &&
                      memcmp(result->loss, right->loss, sizeof right->loss) == 0;
    rig_result_free(&outcome.result);
    if (child.omission.function != NULL && !standin_omitted()) {
        return MUTANT_NOT_MADE;
    }
    return same ? MUTANT_RIGHT : MUTANT_WRONG;
}

static void be_silent(void)
{
    const int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0) {
        (void)dup2(nowhere, STDERR_FILENO);
        (void)close(nowhere);
    }
}

/* ---- In the parent ---- */

static mutant_verdict_t await(pid_t process)
{
    int status;
    if (waitpid(process, &status, 0) != process) {
        abort();
    }
    if (WIFEXITED(status)) {
        return (mutant_verdict_t)WEXITSTATUS(status);
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? MUTANT_HUNG : MUTANT_CRASHED;
}

bool mutant_learn(const rig_config_t *config, mutant_facts_t *facts)
{
    memset(facts, 0, sizeof *facts);
    const pid_t process = fork();
    if (process == 0) {
        (void)alarm(HANG_SEC);
        _exit((int)learn(config, facts));
    }
    return await(process) == MUTANT_RIGHT;
}

mutant_verdict_t mutant_try(const rig_config_t *config, const mutant_facts_t *right,
                            const standin_omission_t *omission, uint64_t seeds, uint64_t *seed)
{
    volatile uint64_t *trying = shared_new(sizeof *trying);
    const pid_t process = fork();
    if (process == 0) {
        mutant_verdict_t verdict = MUTANT_RIGHT;
        be_silent();
        if (omission != NULL) {
            child.omission = *omission;
        }
        for (uint64_t s = 1; s <= seeds && verdict == MUTANT_RIGHT; s++) {
            *trying = s;
            (void)alarm(HANG_SEC);
            verdict = try_seed(config, right, s);
        }
        _exit((int)verdict);
    }
    const mutant_verdict_t verdict = await(process);
    *seed = *trying;
    munmap((void *)trying, sizeof *trying);
    return verdict;
}
