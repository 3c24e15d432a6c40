/*
 * v-min and v-half: the V placement (stages r and 2P-1-r on rank r) with a third and a half of
 * 1f1b's activations (Qi et al. 2024, Pipeline Parallelism with Controllable Memory, arXiv
 * 2405.15362: repeated building blocks, squeezed; V-Min and V-Half).
 *
 * A building block says when one micro-batch's six actions run on each rank; the m-th micro-batch
 * repeats it 6m units later, a unit being the time of one stage's F, I or W. Chunk 0 is the way
 * down, chunk 1 the way up; they turn at either end, where F1 follows F0, I1 F1 and I0 I1:
 *
 *     rank 0    F0                      F1 I1                         I0      W0 W1 in what is left
 *     ...           F0              F1        I1                 I0
 *     rank P-1           .. F0 F1 ..              .. I1 I0 ..
 *
 * Let u = P-1-r be the hops from rank r to the last, a(u) the time of these hops for F0, I1 and I0,
 * b(u) for F1, and t the three turns:
 *
 *     F0  a(P-1) - a(u)               I1  F1(0) + t[1] + a(P-1) - a(u)
 *     F1  F0(P-1) + t[0] + b(u)       I0  I1(P-1) + t[2] + a(u)
 *
 * Chunk 0 is held from F0 to its W, chunk 1 from F1 to its W. What one is held longer further up
 * the ranks, the other is held shorter: the time together is about the same on every rank, and one
 * unit in six is one saved set. No two actions of a rank may be congruent modulo 6:
 *
 *     v-min     a hop takes one unit: about 4P units, 4P/6 sets. With odd turns F0 and I1 have one
 *               parity and F1 and I0 the other; within either they differ by 2P-2+t[0]+t[1] and
 *               2P-2+t[1]+t[2], which 6 does not divide with t = 1 1 1, or, where 3 divides P, with
 *               t = 3 1 3.
 *     v-half    two hops take three units: about 6P units, P sets. From the last rank on, hops take
 *               2 1 2 1 .. units, for F1 1 2 1 2 ..; t = 1 1 1, for P even 1 4 1. Two hops move
 *               all by 3, which is -3 modulo 6, so two ranks stand for all. Modulo 6 and up to a
 *               common shift, F0 F1 I1 I0 are at 0 1 2 3 on the last rank, at 4 2 0 5 on the next.
 *
 * The two residues that are left are for W, in the order in which the pair ends sooner.
 *
 *     peak activations  at most, whatever M, in sets of one stage (1f1b's rank 0 holds 2P): the
 *                       paper's limits
 *                       v-min   2 ((P+4) div 3)
 *                       v-half  2 ((P+2) div 2)
 *     bubble            for F = I = W = u of one stage, no wire time, P >= 2; exact:
 *                       v-min   (4P-5)u, where 3 divides P (4P-4)u
 *                       v-half  (3P-3)u for P even, (3P-4)u for P odd; M >= P
 *
 * For other costs of one stage: in v-min each rank is on the next one's heels, a micro-batch takes
 * max(2(F+I+W), 6 max(F,I)), and where the latter is longer the bubble grows with M. v-half keeps a
 * distance: as long as W+2I >= 2F and W+2F >= 2I (the paper's condition) it does not grow.
 */
#include "schedule/families.h"
#include "schedule/grid.h"

enum { PERIOD = 6 };

/* A rank's queues. */
enum { F0, F1, I1, I0, W1, W0, QUEUES };

typedef struct block {
    int (*hops)(int count);    /* a(u) */
    int (*f1_hops)(int count); /* b(u) */
    int turns[3];
} block_t;

/* The first time after `after` that has the residue. */
static int next_at(int after, int residue)
{
    return after + 1 + (residue + PERIOD - (after + 1) % PERIOD) % PERIOD;
}

/* W1 and W0 take the residues that are left, the way round that ends the two sooner. */
static void place_weights(int *time)
{
    unsigned taken = 0;
    for (int q = F0; q <= I0; q++) {
        taken |= 1u << (time[q] % PERIOD);
    }
    int left[PERIOD];
    int count = 0;
    for (int residue = 0; residue < PERIOD; residue++) {
        if (!(taken & (1u << residue))) {
            left[count++] = residue;
        }
    }
    const int straight = next_at(time[I1], left[0]) + next_at(time[I0], left[1]);
    const int crossed = next_at(time[I1], left[1]) + next_at(time[I0], left[0]);
    time[W1] = next_at(time[I1], left[straight <= crossed ? 0 : 1]);
    time[W0] = next_at(time[I0], left[straight <= crossed ? 1 : 0]);
}

static void place_block(const block_t *block, int ranks, int rank, int *time)
{
    const int all = block->hops(ranks - 1);
    const int below = block->hops(ranks - 1 - rank);
    const int f1_top = all + block->turns[0] + block->f1_hops(ranks - 1);
    const int i1_end = f1_top + block->turns[1] + all;
    time[F0] = all - below;
    time[F1] = all + block->turns[0] + block->f1_hops(ranks - 1 - rank);
    time[I1] = i1_end - below;
    time[I0] = i1_end + block->turns[2] + below;
    place_weights(time);
}

static dpr_status_t append_rank(dpr_program_t *program, int rank, const block_t *block)
{
    const int down = rank;
    const int up = 2 * program->ranks - 1 - rank;
    int time[QUEUES];
    place_block(block, program->ranks, rank, time);
    const grid_queue_t queues[QUEUES] = {
        [F0] = {DPR_ACTION_F, down, 0, time[F0]}, [F1] = {DPR_ACTION_F, up, 0, time[F1]},
        [I1] = {DPR_ACTION_I, up, 0, time[I1]},   [I0] = {DPR_ACTION_I, down, 0, time[I0]},
        [W1] = {DPR_ACTION_W, up, 0, time[W1]},   [W0] = {DPR_ACTION_W, down, 0, time[W0]},
    };
    const grid_repeat_t repeat = {.burst = 1, .step = 0, .period = PERIOD};
    return dpr_grid_append(program, rank, queues, QUEUES, program->micro_batches, repeat);
}

static dpr_status_t generate(const char *name, int ranks, int micro_batches, const block_t *block,
                             dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, name, ranks, 2 * ranks, micro_batches));
    for (int rank = 0; rank < ranks; rank++) {
        const dpr_status_t status = append_rank(program, rank, block);
        if (status != DPR_OK) {
            dpr_program_free(program);
            return status;
        }
    }
    dpr_program_finish(program);
    return DPR_OK;
}

static int hops_of_one(int count)
{
    return count;
}

static int hops_of_two_and_one(int count)
{
    return count + (count + 1) / 2;
}

static int hops_of_one_and_two(int count)
{
    return count + count / 2;
}

dpr_status_t dpr_generate_v_min(int ranks, int micro_batches, dpr_program_t *program)
{
    const int outer = ranks % 3 == 0 ? 3 : 1;
    const block_t block = {hops_of_one, hops_of_one, {outer, 1, outer}};
    return generate("v-min", ranks, micro_batches, &block, program);
}

dpr_status_t dpr_generate_v_half(int ranks, int micro_batches, dpr_program_t *program)
{
    const int top = ranks % 2 == 0 ? 4 : 1;
    const block_t block = {hops_of_two_and_one, hops_of_one_and_two, {1, top, 1}};
    return generate("v-half", ranks, micro_batches, &block, program);
}
