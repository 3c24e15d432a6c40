/* How long a worker under chaos dawdles before each command. */
#include "device/host/host_chaos.h"

#include <sched.h>
#include <time.h>

#include "base/random.h"

enum { TEMPER_COMMANDS = 32 };

/* Of all pauses: how many are none, a yield of the core, a short sleep; the rest are long sleeps.
 */
typedef struct temper {
    double none;
    double yield;
    double nap;
} temper_t;

static const temper_t tempers[] = {
    {.none = 0.95, .yield = 0.04, .nap = 0.01}, /* prompt */
    {.none = 0.60, .yield = 0.25, .nap = 0.14}, /* lazy */
    {.none = 0.10, .yield = 0.30, .nap = 0.57}, /* sluggish */
};

static const double nap_max_sec = 200e-6;
static const double sleep_min_sec = 1e-3;
static const double sleep_max_sec = 2e-3;

static void sleep_for(double sec)
{
    const struct timespec wait = {.tv_nsec = (long)(sec * 1e9)};
    (void)nanosleep(&wait, NULL); /* a signal may cut it short: any length will do */
}

void dpr_host_chaos_pause(dpr_host_chaos_t *chaos)
{
    if (chaos->seed == 0) {
        return;
    }
    /* Three independent sequences: one of tempers and, per pause, one of kinds and one of lengths.
     */
    const uint64_t draw = chaos->draws++;
    const uint64_t mood = dpr_random_bits(chaos->seed, 3 * chaos->stream, draw / TEMPER_COMMANDS);
    const temper_t *temper = &tempers[mood % (sizeof tempers / sizeof tempers[0])];
    const double kind = dpr_random_uniform(chaos->seed, 3 * chaos->stream + 1, draw);
    const double length = dpr_random_uniform(chaos->seed, 3 * chaos->stream + 2, draw);
    if (kind < temper->none) {
        return;
    }
    if (kind < temper->none + temper->yield) {
        (void)sched_yield();
    } else if (kind < temper->none + temper->yield + temper->nap) {
        sleep_for(length * nap_max_sec);
    } else {
        sleep_for(sleep_min_sec + length * (sleep_max_sec - sleep_min_sec));
    }
}
