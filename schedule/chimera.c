/*
 * chimera: two 1f1b pipelines in opposite directions over the same ranks, one in the other's holes
 * (Li and Hoefler 2021, arXiv 2107.06925, 3.1; more than P micro-batches by direct
 * concatenation). The placement is DualPipe's: rank r holds stages r and P-1-r, every stage lives
 * on two ranks, micro-batches 0 .. M/2-1 go down (stage s on rank s), M/2 .. M-1 go up.
 *
 * On a grid of slots in which F and B are equally long, the i-th micro-batch of the P/2 that one
 * direction has in a unit enters its pipeline in slot 2i and goes on by a stage a slot:
 *
 *                  stage s          down, rank r      up, rank r
 *     F            s + 2i           r + 2i            P-1-r + 2i
 *     B            2P-1-s + 2i      2P-1-r + 2i       P+r + 2i
 *
 * P is even, so F down and B up fall into slots of r's parity and the other two into the others; F
 * down meets B up only if two i differ by P/2, which they do not. Units follow each other 2P slots
 * apart, again without a collision: 2P slots of 2P are then busy.
 *
 *     bubble            (P-2) (max(F,B) + (M/P-1) |B-F|), exact where P divides M, no wire time:
 *                       the paper's (P-2) F where F = B; else each further unit adds a hole
 *     peak activations  at most P saved sets on every rank, at least P/2 + 1 (where M >= P)
 *     parameters        two stages on a rank: twice those of 1f1b
 *     messages          as in 1f1b, half of them each way; and the two copies of a stage add up
 *                       their gradients once a step
 */
#include "schedule/families.h"
#include "schedule/grid.h"

static dpr_status_t append_rank(dpr_program_t *program, int rank)
{
    const int P = program->ranks;
    const int count = program->micro_batches / 2;
    const grid_queue_t queues[] = {
        {DPR_ACTION_F, rank, 0, rank},
        {DPR_ACTION_B, rank, 0, 2 * P - 1 - rank},
        {DPR_ACTION_F, P - 1 - rank, count, P - 1 - rank},
        {DPR_ACTION_B, P - 1 - rank, count, P + rank},
    };
    const grid_repeat_t units = {.burst = P / 2, .step = 2, .period = 2 * P};
    return dpr_grid_append(program, rank, queues, 4, count, units);
}

dpr_status_t dpr_generate_chimera(int ranks, int micro_batches, dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, "chimera", ranks, ranks, micro_batches));
    for (int rank = 0; rank < ranks; rank++) {
        const dpr_status_t status = append_rank(program, rank);
        if (status != DPR_OK) {
            dpr_program_free(program);
            return status;
        }
    }
    dpr_program_finish(program);
    return DPR_OK;
}
