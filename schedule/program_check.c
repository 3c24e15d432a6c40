/*
 * dpr_program_check: is a program complete as data flow?
 *
 * One pass over the actions with a few bits per (stage, micro-batch), then one over those. Only
 * when something is wrong is the program searched for the action that the message must name.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/program.h"

enum { SEEN_F = 1, SEEN_B = 2, SEEN_I = 4, SEEN_W = 8 };

typedef struct seen {
    int32_t rank;
    uint8_t kinds;
} seen_t;

typedef struct check {
    const dpr_program_t *program;
    seen_t *cells;
    int rank;      /* where the pass stands */
    size_t index;  /* in the rank's list */
    char text[48]; /* the action there */
} check_t;

/* Where the first action of that kind (or half of an FB) stands; false where nowhere. */
static bool find_half(const dpr_program_t *program, dpr_action_kind_t kind, int stage,
                      int micro_batch, int *rank, size_t *index)
{
    for (int r = 0; r < program->ranks; r++) {
        for (size_t i = program->begin[r]; i < program->begin[r + 1]; i++) {
            dpr_action_t halves[2];
            const int count = dpr_action_halves(program->actions[i], halves);
            for (int h = 0; h < count; h++) {
                if (halves[h].kind == kind && halves[h].stage == stage &&
                    halves[h].micro_batch == micro_batch) {
                    *rank = r;
                    *index = i - program->begin[r];
                    return true;
                }
            }
        }
    }
    return false;
}

#define HERE_FORMAT "rank %d, action %zu (%s): "
#define HERE(check) (check)->rank, (check)->index, (check)->text

/* `half` needs `kind` of its cell before it on this rank, which is not there: say where it is. */
static dpr_status_t fail_missing(const check_t *check, dpr_action_t half, dpr_action_kind_t kind)
{
    char wanted[48];
    dpr_action_format(dpr_action(kind, half.stage, half.micro_batch), wanted, sizeof wanted);
    int rank;
    size_t index;
    if (!find_half(check->program, kind, half.stage, half.micro_batch, &rank, &index)) {
        return dpr_fail(DPR_ERR_PROGRAM, HERE_FORMAT "expected %s before it, found none",
                        HERE(check), wanted);
    }
    if (rank != check->rank) {
        return dpr_fail(DPR_ERR_PROGRAM,
                        HERE_FORMAT "expected %s before it on the same rank, found it on rank %d",
                        HERE(check), wanted, rank);
    }
    return dpr_fail(DPR_ERR_PROGRAM,
                    HERE_FORMAT "expected %s before it, found it after, action %zu", HERE(check),
                    wanted, index);
}

/* `half` must not follow `kind` of its cell, which was seen. */
static dpr_status_t fail_conflict(const check_t *check, dpr_action_t half, dpr_action_kind_t kind)
{
    char other[48];
    dpr_action_format(dpr_action(kind, half.stage, half.micro_batch), other, sizeof other);
    int rank = 0;
    size_t index = 0;
    find_half(check->program, kind, half.stage, half.micro_batch, &rank, &index);
    if (half.kind == kind) {
        return dpr_fail(DPR_ERR_PROGRAM,
                        HERE_FORMAT "duplicate: %s stands already on rank %d, action %zu; expected "
                                    "each once",
                        HERE(check), other, rank, index);
    }
    return dpr_fail(DPR_ERR_PROGRAM,
                    HERE_FORMAT "%s stands on rank %d, action %zu; expected either one B or one I "
                                "and one W",
                    HERE(check), other, rank, index);
}

static dpr_status_t check_forward(const check_t *check, dpr_action_t half, seen_t *seen)
{
    if (seen->kinds & SEEN_F) {
        return fail_conflict(check, half, DPR_ACTION_F);
    }
    seen->rank = check->rank;
    seen->kinds |= SEEN_F;
    return DPR_OK;
}

static dpr_status_t check_backward(const check_t *check, dpr_action_t half, seen_t *seen)
{
    if (!(seen->kinds & SEEN_F) || seen->rank != check->rank) {
        return fail_missing(check, half, DPR_ACTION_F);
    }
    if (half.kind == DPR_ACTION_W) {
        if (seen->kinds & SEEN_W) {
            return fail_conflict(check, half, DPR_ACTION_W);
        }
        if (seen->kinds & SEEN_B) {
            return fail_conflict(check, half, DPR_ACTION_B);
        }
        if (!(seen->kinds & SEEN_I)) {
            return fail_missing(check, half, DPR_ACTION_I);
        }
        seen->kinds |= SEEN_W;
        return DPR_OK;
    }
    if (seen->kinds & SEEN_B) {
        return fail_conflict(check, half, DPR_ACTION_B);
    }
    if (seen->kinds & SEEN_I) {
        return fail_conflict(check, half, DPR_ACTION_I);
    }
    seen->kinds |= half.kind == DPR_ACTION_B ? SEEN_B : SEEN_I;
    return DPR_OK;
}

static dpr_status_t check_half(const check_t *check, dpr_action_t half)
{
    const dpr_program_t *program = check->program;
    if (half.stage < 0 || half.stage >= program->stages || half.micro_batch < 0 ||
        half.micro_batch >= program->micro_batches) {
        return dpr_fail(DPR_ERR_PROGRAM,
                        HERE_FORMAT "expected a stage of 0 to %d and a micro-batch of 0 to %d",
                        HERE(check), program->stages - 1, program->micro_batches - 1);
    }
    seen_t *seen = &check->cells[(size_t)half.stage * (size_t)program->micro_batches +
                                 (size_t)half.micro_batch];
    return half.kind == DPR_ACTION_F ? check_forward(check, half, seen)
                                     : check_backward(check, half, seen);
}

static dpr_status_t check_actions(check_t *check)
{
    const dpr_program_t *program = check->program;
    for (check->rank = 0; check->rank < program->ranks; check->rank++) {
        const size_t begin = program->begin[check->rank];
        for (size_t i = begin; i < program->begin[check->rank + 1]; i++) {
            const dpr_action_t action = program->actions[i];
            check->index = i - begin;
            dpr_action_format(action, check->text, sizeof check->text);
            if ((unsigned)action.kind >= DPR_ACTION_KINDS) {
                return dpr_fail(DPR_ERR_PROGRAM, HERE_FORMAT "unknown kind of action %d",
                                HERE(check), (int)action.kind);
            }
            if (action.kind == DPR_ACTION_FB && action.micro_batch == action.b_micro_batch) {
                return dpr_fail(DPR_ERR_PROGRAM,
                                HERE_FORMAT "expected two different micro-batches to overlap",
                                HERE(check));
            }
            dpr_action_t halves[2];
            const int count = dpr_action_halves(action, halves);
            for (int h = 0; h < count; h++) {
                DPR_TRY(check_half(check, halves[h]));
            }
        }
    }
    return DPR_OK;
}

static dpr_status_t check_complete(const check_t *check)
{
    const dpr_program_t *program = check->program;
    const bool forward_only = dpr_program_is_forward_only(program);
    for (int stage = 0; stage < program->stages; stage++) {
        for (int m = 0; m < program->micro_batches; m++) {
            const seen_t seen =
                check->cells[(size_t)stage * (size_t)program->micro_batches + (size_t)m];
            if (!(seen.kinds & SEEN_F)) {
                return dpr_fail(DPR_ERR_PROGRAM,
                                "no rank runs %dF%d: expected one F of every stage (0 to %d) and "
                                "micro-batch (0 to %d)",
                                stage, m, program->stages - 1, program->micro_batches - 1);
            }
            if (!forward_only && !(seen.kinds & (SEEN_B | SEEN_I))) {
                return dpr_fail(
                    DPR_ERR_PROGRAM,
                    "rank %d: %dF%d has no backward: expected %dB%d, or %dI%d and %dW%d", seen.rank,
                    stage, m, stage, m, stage, m, stage, m);
            }
            if ((seen.kinds & (SEEN_I | SEEN_W)) == SEEN_I) {
                return dpr_fail(DPR_ERR_PROGRAM, "rank %d: %dI%d has no W: expected %dW%d after it",
                                seen.rank, stage, m, stage, m);
            }
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_program_check(const dpr_program_t *program)
{
    check_t check = {.program = program};
    DPR_TRY(dpr_calloc((size_t)program->stages * (size_t)program->micro_batches,
                       sizeof *check.cells, &check.cells));
    dpr_status_t status = check_actions(&check);
    if (status == DPR_OK) {
        status = check_complete(&check);
    }
    free(check.cells);
    return status;
}
