/*
 * Schedules without a pause: from its first F to its last W no rank waits, where F = I = W, no wire
 * time, and M >= 2P-1. Ranks still start one after the other, as the first micro-batch reaches
 * them, and end one after the other; the optimizer's step of a rank follows its own last W (Qi et
 * al. 2024, arXiv 2401.10241, 4: validation after the step instead of a barrier before it). That is
 * the papers' zero bubble, each rank's own span being busy time alone. Over the span of all ranks
 * (docs/schedules.md) the stagger remains:
 *
 *                 own span           span of all ranks     peak activations
 *     zb2p        0 (below)          (P-1) F               2P-1, the same on every rank
 *     zbv         0                  (P-1) F / 2           2P of one stage: P, as in 1f1b
 *
 * F being a whole rank's, which in zbv is two stages. With M below 2P-1 both run; then bubbles
 * come back, since the drain begins before the fill is over.
 *
 * zb2p (ZB-H2; 2401.10241, 2.2): stage s on rank s. The first I reaches rank r as late as 2(P-r)-1
 * forwards after its first F; so many fill the wait. Then I, W and F in turn, W lagging 2r
 * micro-batches behind I: a rank further down runs its I earlier and saves W for its end, which the
 * ranks above need for the way back. 2(P-r)-1 + 2r: every rank holds 2P-1. For other costs, where W
 * <= F and W <= I, the longest own span is (P-1) max(0, F+I-2W) more than busy time (table 1), and
 * the span of all ranks (P-1) (F + max(0, I-2W)) more; both exact.
 *
 * zbv (ZB-V; 2401.10241, and V-ZB of 2405.15362): stages r and 2P-1-r on rank r, so that a
 * micro-batch goes down the ranks and comes back to where it entered before it turns into its
 * backward; chunk 0 is the way down, chunk 1 the way up. On rank r:
 *
 *     1.  2(P-r)-1 times   F0                    until the first F1 comes back
 *     2.  r times          F1 F0
 *     3.  P-r times        F1 I1 W               now 2P sets are held: W frees one for each F
 *     4.  in turn          F0 I0 W F1 I1 W       until the forwards run out
 *     5.  r times          I0 I1
 *     6.  P-r times        I0 W
 *     7.  the rest         W
 *
 * W always takes the oldest I that still owes its W; what there is no micro-batch for is left out.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "schedule/families.h"

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static dpr_status_t append(dpr_program_t *program, int rank, dpr_action_kind_t kind, int m)
{
    return dpr_program_append(program, rank, dpr_action(kind, rank, m));
}

static dpr_status_t append_zb2p(dpr_program_t *program, int rank)
{
    const int M = program->micro_batches;
    const int warm = min_int(2 * (program->ranks - rank) - 1, M);
    const int lag = min_int(2 * rank, M);
    for (int m = 0; m < warm; m++) {
        DPR_TRY(append(program, rank, DPR_ACTION_F, m));
    }
    for (int m = 0; m < M; m++) {
        DPR_TRY(append(program, rank, DPR_ACTION_I, m));
        if (m >= lag) {
            DPR_TRY(append(program, rank, DPR_ACTION_W, m - lag));
        }
        if (warm + m < M) {
            DPR_TRY(append(program, rank, DPR_ACTION_F, warm + m));
        }
    }
    for (int m = M - lag; m < M; m++) {
        DPR_TRY(append(program, rank, DPR_ACTION_W, m));
    }
    return DPR_OK;
}

dpr_status_t dpr_generate_zb2p(int ranks, int micro_batches, dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, "zb2p", ranks, ranks, micro_batches));
    for (int rank = 0; rank < ranks; rank++) {
        const dpr_status_t status = append_zb2p(program, rank);
        if (status != DPR_OK) {
            dpr_program_free(program);
            return status;
        }
    }
    dpr_program_finish(program);
    return DPR_OK;
}

/* One rank of zbv; [2] counts by chunk. */
typedef struct player {
    dpr_program_t *program;
    int rank;
    int stage[2];
    int forwards[2];
    int backwards[2];
    dpr_action_t *owed; /* the W of every I so far, oldest first; room for 2M */
    int owed_begin;
    int owed_end;
} player_t;

static dpr_status_t play_f(player_t *p, int chunk)
{
    if (p->forwards[chunk] == p->program->micro_batches) {
        return DPR_OK;
    }
    return dpr_program_append(p->program, p->rank,
                              dpr_action(DPR_ACTION_F, p->stage[chunk], p->forwards[chunk]++));
}

static dpr_status_t play_i(player_t *p, int chunk)
{
    if (p->backwards[chunk] == p->forwards[chunk]) {
        return DPR_OK;
    }
    const int m = p->backwards[chunk]++;
    p->owed[p->owed_end++] = dpr_action(DPR_ACTION_W, p->stage[chunk], m);
    return dpr_program_append(p->program, p->rank, dpr_action(DPR_ACTION_I, p->stage[chunk], m));
}

static dpr_status_t play_w(player_t *p)
{
    if (p->owed_begin == p->owed_end) {
        return DPR_OK;
    }
    return dpr_program_append(p->program, p->rank, p->owed[p->owed_begin++]);
}

/* Steps 1 to 3. */
static dpr_status_t play_fill(player_t *p)
{
    const int P = p->program->ranks;
    for (int i = 0; i < 2 * (P - p->rank) - 1; i++) {
        DPR_TRY(play_f(p, 0));
    }
    for (int i = 0; i < p->rank; i++) {
        DPR_TRY(play_f(p, 1));
        DPR_TRY(play_f(p, 0));
    }
    for (int i = 0; i < P - p->rank; i++) {
        DPR_TRY(play_f(p, 1));
        DPR_TRY(play_i(p, 1));
        DPR_TRY(play_w(p));
    }
    return DPR_OK;
}

/* Step 4. */
static dpr_status_t play_steady(player_t *p)
{
    const int M = p->program->micro_batches;
    while (p->forwards[0] < M || p->forwards[1] < M) {
        for (int chunk = 0; chunk < 2; chunk++) {
            DPR_TRY(play_f(p, chunk));
            DPR_TRY(play_i(p, chunk));
            DPR_TRY(play_w(p));
        }
    }
    return DPR_OK;
}

/* Steps 5 to 7. */
static dpr_status_t play_drain(player_t *p)
{
    const int M = p->program->micro_batches;
    for (int i = 0; i < p->rank; i++) {
        DPR_TRY(play_i(p, 0));
        DPR_TRY(play_i(p, 1));
    }
    while (p->backwards[0] < M || p->backwards[1] < M) {
        DPR_TRY(play_i(p, 1)); /* only where M < P has left some */
        DPR_TRY(play_i(p, 0));
        DPR_TRY(play_w(p));
    }
    while (p->owed_begin < p->owed_end) {
        DPR_TRY(play_w(p));
    }
    return DPR_OK;
}

static dpr_status_t play_zbv(dpr_program_t *program, dpr_action_t *owed)
{
    for (int rank = 0; rank < program->ranks; rank++) {
        player_t player = {.program = program,
                           .rank = rank,
                           .stage = {rank, 2 * program->ranks - 1 - rank},
                           .owed = owed};
        DPR_TRY(play_fill(&player));
        DPR_TRY(play_steady(&player));
        DPR_TRY(play_drain(&player));
    }
    return DPR_OK;
}

dpr_status_t dpr_generate_zbv(int ranks, int micro_batches, dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, "zbv", ranks, 2 * ranks, micro_batches));
    dpr_action_t *owed = NULL;
    dpr_status_t status = dpr_calloc(2 * (size_t)micro_batches, sizeof *owed, &owed);
    if (status == DPR_OK) {
        status = play_zbv(program, owed);
    }
    free(owed);
    if (status != DPR_OK) {
        dpr_program_free(program);
        return status;
    }
    dpr_program_finish(program);
    return DPR_OK;
}
