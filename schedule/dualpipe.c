/*
 * DualPipe and DualPipeV: micro-batches enter at both of a rank's stages, and in the steady state
 * the forward of one overlaps the backward of the other (DeepSeek-V3 report, 3.2.1; DualPipeV
 * halves the ranks by folding the pipeline at its middle).
 *
 * Both play the same eight steps. DualPipe mirrors the ranks: rank r and rank P-1-r do the same
 * with the directions exchanged, and the ranks in the middle are the turning point. DualPipeV is
 * the upper half of a DualPipe of 2P ranks in which the lower half is played by the same ranks.
 *
 *     H     ranks from an end of the pipeline to its middle
 *     h     this rank's distance from the end, 0 .. H-1
 *     0, 1  direction 0 enters at the rank's own end of the pipeline, direction 1 comes from the
 * other m     micro-batches of one direction
 */
#include <stdlib.h>

#include "base/memory.h"
#include "schedule/families.h"

typedef struct player {
    dpr_program_t *program;
    int rank;
    int H;
    int h;
    int m;
    int stage[2];
    int first[2]; /* the direction's first micro-batch */
    int forwards[2];
    int backwards[2];   /* B and I */
    dpr_action_t *owed; /* the W of every I so far, oldest first */
    int owed_begin;
    int owed_end;
} player_t;

static int next_f(player_t *p, int direction)
{
    return p->first[direction] + p->forwards[direction]++;
}

static int next_b(player_t *p, int direction)
{
    return p->first[direction] + p->backwards[direction]++;
}

static dpr_status_t play_f(player_t *p, int direction)
{
    return dpr_program_append(p->program, p->rank,
                              dpr_action(DPR_ACTION_F, p->stage[direction], next_f(p, direction)));
}

static dpr_status_t play_b(player_t *p, int direction)
{
    return dpr_program_append(p->program, p->rank,
                              dpr_action(DPR_ACTION_B, p->stage[direction], next_b(p, direction)));
}

static dpr_status_t play_i(player_t *p, int direction)
{
    const int micro_batch = next_b(p, direction);
    p->owed[p->owed_end++] = dpr_action(DPR_ACTION_W, p->stage[direction], micro_batch);
    return dpr_program_append(p->program, p->rank,
                              dpr_action(DPR_ACTION_I, p->stage[direction], micro_batch));
}

static dpr_status_t play_w(player_t *p)
{
    return dpr_program_append(p->program, p->rank, p->owed[p->owed_begin++]);
}

static dpr_status_t play_fb(player_t *p, int f_direction)
{
    const int b_direction = 1 - f_direction;
    const int f_micro_batch = next_f(p, f_direction);
    const int b_micro_batch = next_b(p, b_direction);
    return dpr_program_append(
        p->program, p->rank,
        dpr_action_fb(p->stage[f_direction], f_micro_batch, p->stage[b_direction], b_micro_batch));
}

/* Steps 1 to 3: fill the pipeline from both ends. */
static dpr_status_t play_fill(player_t *p)
{
    for (int i = 0; i < 2 * (p->H - p->h - 1); i++) {
        DPR_TRY(play_f(p, 0));
    }
    for (int i = 0; i < p->h + 1; i++) {
        DPR_TRY(play_f(p, 0));
        DPR_TRY(play_f(p, 1));
    }
    for (int i = 0; i < p->H - p->h - 1; i++) {
        DPR_TRY(play_i(p, 1));
        DPR_TRY(play_w(p));
        DPR_TRY(play_f(p, 1));
    }
    return DPR_OK;
}

/* Steps 4 and 5: the steady state, until the forwards run out. */
static dpr_status_t play_steady(player_t *p)
{
    for (int i = 0; i < p->m - 2 * p->H + p->h + 1; i++) {
        if (i == 0 && p->h == p->H - 1) {
            /* Apart, not overlapped: F0 then ends sooner, and so does the wait of the ranks beyond
             * the middle for its output. */
            DPR_TRY(play_f(p, 0));
            DPR_TRY(play_b(p, 1));
        } else {
            DPR_TRY(play_fb(p, 0));
        }
        DPR_TRY(play_fb(p, 1));
    }
    for (int i = 0; i < p->H - p->h - 1; i++) {
        DPR_TRY(play_b(p, 1));
        DPR_TRY(play_fb(p, 1));
    }
    return DPR_OK;
}

/* Step 6: h+1 times B1 B0, the second half of these 2(h+1) as I, which lets the next rank go on
 * sooner. */
static dpr_status_t play_last_backwards(player_t *p)
{
    const int pairs = p->h + 1;
    for (int k = 0; k < 2 * pairs; k++) {
        const int direction = k % 2 == 0 ? 1 : 0;
        DPR_TRY(k < pairs ? play_b(p, direction) : play_i(p, direction));
    }
    return DPR_OK;
}

/* Steps 6 to 8: drain. */
static dpr_status_t play_drain(player_t *p)
{
    DPR_TRY(play_last_backwards(p));
    for (int i = 0; i < p->H - p->h - 1; i++) {
        DPR_TRY(play_w(p));
        DPR_TRY(play_i(p, 0));
    }
    for (int i = 0; i < p->h + 1; i++) {
        DPR_TRY(play_w(p));
    }
    return DPR_OK;
}

static dpr_status_t play(player_t *p)
{
    p->owed_begin = p->owed_end = 0;
    p->forwards[0] = p->forwards[1] = p->backwards[0] = p->backwards[1] = 0;
    DPR_TRY(play_fill(p));
    DPR_TRY(play_steady(p));
    return play_drain(p);
}

static dpr_status_t play_dualpipe(player_t *p, int ranks)
{
    for (p->rank = 0; p->rank < ranks; p->rank++) {
        const bool upper = p->rank < ranks / 2;
        p->h = upper ? p->rank : ranks - 1 - p->rank;
        p->stage[0] = p->h;
        p->stage[1] = ranks - 1 - p->h;
        p->first[0] = upper ? 0 : p->m;
        p->first[1] = upper ? p->m : 0;
        DPR_TRY(play(p));
    }
    return DPR_OK;
}

static dpr_status_t play_dualpipev(player_t *p, int ranks)
{
    for (p->rank = 0; p->rank < ranks; p->rank++) {
        p->h = p->rank;
        p->stage[0] = p->rank;
        p->stage[1] = 2 * ranks - 1 - p->rank;
        p->first[0] = p->first[1] = 0;
        DPR_TRY(play(p));
    }
    return DPR_OK;
}

/* Both, once the sizes are known: H, and the micro-batches of one direction. */
static dpr_status_t generate(const char *name, int ranks, int stages, int micro_batches, int H,
                             int m, dpr_status_t (*play_ranks)(player_t *, int),
                             dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, name, ranks, stages, micro_batches));
    player_t player = {.program = program, .H = H, .m = m};
    dpr_status_t status = dpr_calloc(2 * (size_t)m, sizeof *player.owed, &player.owed);
    if (status == DPR_OK) {
        status = play_ranks(&player, ranks);
    }
    free(player.owed);
    if (status != DPR_OK) {
        dpr_program_free(program);
        return status;
    }
    dpr_program_finish(program);
    return DPR_OK;
}

dpr_status_t dpr_generate_dualpipe(int ranks, int micro_batches, dpr_program_t *program)
{
    return generate("dualpipe", ranks, ranks, micro_batches, ranks / 2, micro_batches / 2,
                    play_dualpipe, program);
}

dpr_status_t dpr_generate_dualpipev(int ranks, int micro_batches, dpr_program_t *program)
{
    return generate("dualpipev", ranks, 2 * ranks, micro_batches, ranks, micro_batches,
                    play_dualpipev, program);
}
