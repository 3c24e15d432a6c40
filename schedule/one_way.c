/*
 * The schedules in which stage s lives on rank s and every micro-batch goes down the ranks and
 * back.
 *
 *     gpipe   all F, then all B                           Huang et al. 2019
 *     1f1b    P-1-r F to warm up, then F and B in turn    Narayanan et al. 2021, 2.2
 *     zb1p    1f1b with B split: W fills the drain        Qi et al. 2024 (ZB-H1), 2.1
 */
#include "schedule/families.h"

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static dpr_status_t append(dpr_program_t *program, int rank, dpr_action_kind_t kind, int m)
{
    return dpr_program_append(program, rank, dpr_action(kind, rank, m));
}

static dpr_status_t append_run(dpr_program_t *program, int rank, dpr_action_kind_t kind, int begin,
                               int end)
{
    for (int m = begin; m < end; m++) {
        DPR_TRY(append(program, rank, kind, m));
    }
    return DPR_OK;
}

static dpr_status_t append_gpipe(dpr_program_t *program, int rank)
{
    DPR_TRY(append_run(program, rank, DPR_ACTION_F, 0, program->micro_batches));
    return append_run(program, rank, DPR_ACTION_B, 0, program->micro_batches);
}

/* The number of forwards after which a rank's first one has been down to the last rank and back. */
static int warm_up(const dpr_program_t *program, int rank)
{
    return min_int(program->ranks - 1 - rank, program->micro_batches);
}

static dpr_status_t append_1f1b(dpr_program_t *program, int rank)
{
    const int warm = warm_up(program, rank);
    DPR_TRY(append_run(program, rank, DPR_ACTION_F, 0, warm));
    for (int m = 0; m < program->micro_batches; m++) {
        if (warm + m < program->micro_batches) {
            DPR_TRY(append(program, rank, DPR_ACTION_F, warm + m));
        }
        DPR_TRY(append(program, rank, DPR_ACTION_B, m));
    }
    return DPR_OK;
}

/* W lags `rank` micro-batches behind I: a rank further down has more I to spare before its drain,
 * and with P - 1 - r forwards ahead each rank holds P saved sets, as rank 0 of 1f1b does. */
static dpr_status_t append_zb1p(dpr_program_t *program, int rank)
{
    const int warm = warm_up(program, rank);
    DPR_TRY(append_run(program, rank, DPR_ACTION_F, 0, warm));
    for (int m = 0; m < program->micro_batches; m++) {
        if (warm + m < program->micro_batches) {
            DPR_TRY(append(program, rank, DPR_ACTION_F, warm + m));
        }
        DPR_TRY(append(program, rank, DPR_ACTION_I, m));
        if (m >= rank) {
            DPR_TRY(append(program, rank, DPR_ACTION_W, m - rank));
        }
    }
    const int owed = min_int(rank, program->micro_batches);
    return append_run(program, rank, DPR_ACTION_W, program->micro_batches - owed,
                      program->micro_batches);
}

static dpr_status_t generate(const char *name, int ranks, int micro_batches,
                             dpr_status_t (*append_rank)(dpr_program_t *, int),
                             dpr_program_t *program)
{
    DPR_TRY(dpr_program_init(program, name, ranks, ranks, micro_batches));
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

dpr_status_t dpr_generate_gpipe(int ranks, int micro_batches, dpr_program_t *program)
{
    return generate("gpipe", ranks, micro_batches, append_gpipe, program);
}

dpr_status_t dpr_generate_1f1b(int ranks, int micro_batches, dpr_program_t *program)
{
    return generate("1f1b", ranks, micro_batches, append_1f1b, program);
}

dpr_status_t dpr_generate_zb1p(int ranks, int micro_batches, dpr_program_t *program)
{
    return generate("zb1p", ranks, micro_batches, append_zb1p, program);
}
