/* The table of schedules, and what each of them needs of P and M. */
#include "schedule/generators.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "schedule/families.h"

static int stages_one(int ranks)
{
    return ranks;
}

static int stages_two(int ranks)
{
    return 2 * ranks;
}

static int stages_interleaved(int ranks)
{
    return DPR_INTERLEAVED_STAGES_PER_RANK * ranks;
}

static int min_any(int ranks)
{
    return ranks >= 1 && ranks <= DPR_MAX_RANKS ? 1 : 0;
}

static int min_one_a_rank(int ranks)
{
    return ranks >= 1 && ranks <= DPR_MAX_RANKS ? ranks : 0;
}

static int min_two_a_rank(int ranks)
{
    return ranks >= 1 && ranks <= DPR_MAX_RANKS ? 2 * ranks : 0;
}

static int min_chimera(int ranks)
{
    return ranks % 2 == 0 && min_any(ranks) > 0 ? 2 : 0;
}

static int min_dualpipe(int ranks)
{
    return ranks % 2 == 0 ? min_two_a_rank(ranks) : 0;
}

/* Within the family's least M and the limits of any program; `min` is 0 where P is not allowed. */
static bool within(int ranks, int micro_batches, int min, int stages_per_rank)
{
    return min > 0 && micro_batches >= min && micro_batches <= DPR_MAX_MICRO_BATCHES &&
           (int64_t)stages_per_rank * ranks * micro_batches <= DPR_MAX_CELLS;
}

static bool allows_any(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_any(ranks), 1);
}

static bool allows_any_v(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_any(ranks), 2);
}

static bool allows_one_a_rank(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_one_a_rank(ranks), 1);
}

static bool allows_interleaved(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_one_a_rank(ranks), DPR_INTERLEAVED_STAGES_PER_RANK) &&
           micro_batches % ranks == 0;
}

static bool allows_chimera(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_chimera(ranks), 1) && micro_batches % 2 == 0;
}

static bool allows_dualpipe(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_dualpipe(ranks), 1) && micro_batches % 2 == 0;
}

static bool allows_dualpipev(int ranks, int micro_batches)
{
    return within(ranks, micro_batches, min_two_a_rank(ranks), 2);
}

static const dpr_schedule_t schedules[] = {
    {.name = "gpipe",
     .summary = "all forwards, then all backwards",
     .needs = "M >= 1",
     .stages = stages_one,
     .min_micro_batches = min_any,
     .allows = allows_any,
     .generate = dpr_generate_gpipe},
    {.name = "1f1b",
     .summary = "one forward, one backward in turn: gpipe's bubble, less memory",
     .needs = "M >= 1",
     .stages = stages_one,
     .min_micro_batches = min_any,
     .allows = allows_any,
     .generate = dpr_generate_1f1b},
    {.name = "interleaved-1f1b",
     .summary = "1f1b with v stages a rank (':v' behind the name, else 2): 1/v of its bubble",
     .needs = "M a multiple of P",
     .stages = stages_interleaved,
     .min_micro_batches = min_one_a_rank,
     .allows = allows_interleaved,
     .generate = dpr_generate_interleaved_1f1b,
     .generate_of = dpr_generate_interleaved_1f1b_of},
    {.name = "zb1p",
     .summary = "1f1b with the backward split, weight gradients fill the drain (ZB-H1)",
     .needs = "M >= P",
     .stages = stages_one,
     .min_micro_batches = min_one_a_rank,
     .allows = allows_one_a_rank,
     .generate = dpr_generate_zb1p},
    {.name = "zb2p",
     .summary = "zb1p with more forwards ahead: no rank waits, twice the memory (ZB-H2)",
     .needs = "M >= 1",
     .stages = stages_one,
     .min_micro_batches = min_any,
     .allows = allows_any,
     .generate = dpr_generate_zb2p},
    {.name = "zbv",
     .summary = "stages r and 2P-1-r on rank r: no rank waits, the memory of 1f1b (ZB-V)",
     .needs = "M >= 1",
     .stages = stages_two,
     .min_micro_batches = min_any,
     .allows = allows_any_v,
     .generate = dpr_generate_zbv},
    {.name = "v-half",
     .summary = "as zbv with half of 1f1b's activations, and about half of its bubble",
     .needs = "M >= 1",
     .stages = stages_two,
     .min_micro_batches = min_any,
     .allows = allows_any_v,
     .generate = dpr_generate_v_half},
    {.name = "v-min",
     .summary = "as zbv with a third of 1f1b's activations, and two thirds of its bubble",
     .needs = "M >= 1",
     .stages = stages_two,
     .min_micro_batches = min_any,
     .allows = allows_any_v,
     .generate = dpr_generate_v_min},
    {.name = "chimera",
     .summary = "two 1f1b pipelines in opposite directions, one in the other's holes",
     .needs = "P even, M even",
     .stages = stages_one,
     .min_micro_batches = min_chimera,
     .allows = allows_chimera,
     .generate = dpr_generate_chimera},
    {.name = "dualpipe",
     .summary = "micro-batches enter at both ends, forwards overlap backwards",
     .needs = "P even, M even, M >= 2P",
     .stages = stages_one,
     .min_micro_batches = min_dualpipe,
     .allows = allows_dualpipe,
     .generate = dpr_generate_dualpipe},
    {.name = "dualpipev",
     .summary = "dualpipe folded at its middle: stages r and 2P-1-r on rank r, one copy of each",
     .needs = "M >= 2P",
     .stages = stages_two,
     .min_micro_batches = min_two_a_rank,
     .allows = allows_dualpipev,
     .generate = dpr_generate_dualpipev},
};

const dpr_schedule_t *dpr_schedule_list(size_t *count)
{
    *count = sizeof schedules / sizeof schedules[0];
    return schedules;
}

/* The number behind the ':' of a name, or 0 where it is none that a program can have. */
static int parse_stages_per_rank(const char *text)
{
    int value = 0;
    for (; *text >= '0' && *text <= '9' && value <= DPR_MAX_STAGES; text++) {
        value = 10 * value + (*text - '0');
    }
    return *text == '\0' && value <= DPR_MAX_STAGES ? value : 0;
}

/* The schedule of "name" or "name:v"; v is 0 where it is not a number of stages. */
static const dpr_schedule_t *find(const char *name, int *stages_per_rank)
{
    const char *colon = strchr(name, ':');
    const size_t length = colon != NULL ? (size_t)(colon - name) : strlen(name);
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        const dpr_schedule_t *schedule = &schedules[i];
        if (strlen(schedule->name) == length && strncmp(schedule->name, name, length) == 0 &&
            (colon == NULL || schedule->generate_of != NULL)) {
            *stages_per_rank =
                colon != NULL ? parse_stages_per_rank(colon + 1) : schedule->stages(1);
            return schedule;
        }
    }
    return NULL;
}

const dpr_schedule_t *dpr_schedule_find(const char *name)
{
    int stages_per_rank = 0;
    const dpr_schedule_t *schedule = find(name, &stages_per_rank);
    return stages_per_rank > 0 ? schedule : NULL;
}

int dpr_schedule_stages_per_rank(const char *name)
{
    int stages_per_rank = 0;
    find(name, &stages_per_rank);
    return stages_per_rank;
}

static dpr_status_t fail_unknown(const char *name)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0] && used < sizeof names; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 schedules[i].name);
    }
    return dpr_fail(DPR_ERR_INVALID, "unknown schedule '%s': expected one of %s", name, names);
}

/* Anything beyond a range is as far out as its first neighbour; so no arithmetic overflows. */
static int clamp(int value, int most)
{
    return value < 0 ? 0 : value > most ? most + 1 : value;
}

static bool allows_ranks(const dpr_schedule_t *schedule, int ranks)
{
    const int min = schedule->min_micro_batches(ranks);
    return min > 0 && schedule->allows(ranks, min);
}

/* The allowed values next to `wanted`, below and above, in words; "" where there are none. */
static void nearest(const dpr_schedule_t *schedule, int ranks, bool of_ranks, int wanted, int max,
                    char *text, size_t size)
{
    int found[2] = {0, 0};
    int below = wanted - 1 < max ? wanted - 1 : max;
    for (; below >= 1 && found[0] == 0; below--) {
        if (of_ranks ? allows_ranks(schedule, below) : schedule->allows(ranks, below)) {
            found[0] = below;
        }
    }
    int above = wanted < 1 ? 1 : wanted + 1;
    for (; above <= max && found[1] == 0; above++) {
        if (of_ranks ? allows_ranks(schedule, above) : schedule->allows(ranks, above)) {
            found[1] = above;
        }
    }
    if (found[0] > 0 && found[1] > 0) {
        snprintf(text, size, "; nearest: %d or %d", found[0], found[1]);
    } else if (found[0] > 0 || found[1] > 0) {
        snprintf(text, size, "; nearest: %d", found[0] > 0 ? found[0] : found[1]);
    } else {
        text[0] = '\0';
    }
}

/* In range by themselves, but too large together: no program holds so many cells. */
static bool is_too_large(int ranks, int micro_batches, int stages_per_rank)
{
    const int64_t stages = (int64_t)stages_per_rank * ranks;
    return ranks >= 1 && ranks <= DPR_MAX_RANKS && micro_batches >= 1 &&
           micro_batches <= DPR_MAX_MICRO_BATCHES &&
           (stages > DPR_MAX_STAGES || stages * micro_batches > DPR_MAX_CELLS);
}

static dpr_status_t fail_too_large(const char *name, int ranks, int micro_batches)
{
    return dpr_fail(DPR_ERR_INVALID,
                    "schedule %s on %d ranks with %d micro-batches is too large: at most %d stages "
                    "and %d stages x micro-batches fit",
                    name, ranks, micro_batches, DPR_MAX_STAGES, DPR_MAX_CELLS);
}

static dpr_status_t fail_not_allowed(const dpr_schedule_t *schedule, int ranks, int micro_batches)
{
    char text[64];
    const int P = clamp(ranks, DPR_MAX_RANKS);
    const int M = clamp(micro_batches, DPR_MAX_MICRO_BATCHES);
    if (!allows_ranks(schedule, P)) {
        nearest(schedule, P, true, P, DPR_MAX_RANKS, text, sizeof text);
        return dpr_fail(DPR_ERR_INVALID, "schedule %s cannot run on %d rank%s: it needs %s%s",
                        schedule->name, ranks, ranks == 1 ? "" : "s", schedule->needs, text);
    }
    nearest(schedule, P, false, M, DPR_MAX_MICRO_BATCHES, text, sizeof text);
    return dpr_fail(DPR_ERR_INVALID,
                    "schedule %s on %d rank%s cannot run %d micro-batch%s: it needs %s%s",
                    schedule->name, ranks, ranks == 1 ? "" : "s", micro_batches,
                    micro_batches == 1 ? "" : "es", schedule->needs, text);
}

dpr_status_t dpr_schedule_check(const char *name, int ranks, int micro_batches)
{
    int v = 0;
    const dpr_schedule_t *schedule = find(name, &v);
    if (schedule == NULL) {
        return fail_unknown(name);
    }
    if (v == 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "schedule '%s': expected 1 to %d stages per rank behind the ':'", name,
                        DPR_MAX_STAGES);
    }
    if (is_too_large(ranks, micro_batches, v)) {
        return fail_too_large(name, ranks, micro_batches);
    }
    if (!schedule->allows(clamp(ranks, DPR_MAX_RANKS),
                          clamp(micro_batches, DPR_MAX_MICRO_BATCHES))) {
        return fail_not_allowed(schedule, ranks, micro_batches);
    }
    return DPR_OK;
}

bool dpr_schedule_allows(const char *name, int ranks, int micro_batches)
{
    int v = 0;
    const dpr_schedule_t *schedule = find(name, &v);
    return schedule != NULL && v > 0 && !is_too_large(ranks, micro_batches, v) &&
           schedule->allows(clamp(ranks, DPR_MAX_RANKS),
                            clamp(micro_batches, DPR_MAX_MICRO_BATCHES));
}

dpr_status_t dpr_schedule_generate(const char *name, int ranks, int micro_batches,
                                   dpr_program_t *program)
{
    DPR_TRY(dpr_schedule_check(name, ranks, micro_batches));
    int v = 0;
    const dpr_schedule_t *schedule = find(name, &v);
    if (schedule->generate_of != NULL) {
        return schedule->generate_of(ranks, micro_batches, v, program);
    }
    return schedule->generate(ranks, micro_batches, program);
}
