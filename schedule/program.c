/* Programs as plain data: building, comparing, spelling out. The check is in program_check.c. */
#include "schedule/program.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

static dpr_status_t check_range(const char *what, int value, int max)
{
    if (value < 1 || value > max) {
        return dpr_fail(DPR_ERR_INVALID, "%d %s: expected 1 to %d", value, what, max);
    }
    return DPR_OK;
}

dpr_status_t dpr_program_init(dpr_program_t *program, const char *name, int ranks, int stages,
                              int micro_batches)
{
    DPR_TRY(check_range("ranks", ranks, DPR_MAX_RANKS));
    DPR_TRY(check_range("stages", stages, DPR_MAX_STAGES));
    DPR_TRY(check_range("micro-batches", micro_batches, DPR_MAX_MICRO_BATCHES));
    if ((int64_t)stages * micro_batches > DPR_MAX_CELLS) {
        return dpr_fail(DPR_ERR_INVALID,
                        "%d stages with %d micro-batches: at most %d stages x micro-batches fit",
                        stages, micro_batches, DPR_MAX_CELLS);
    }
    size_t *begin;
    DPR_TRY(dpr_calloc((size_t)ranks + 1, sizeof *begin, &begin));
    *program = (dpr_program_t){
        .ranks = ranks, .stages = stages, .micro_batches = micro_batches, .begin = begin};
    snprintf(program->name, sizeof program->name, "%s", name);
    return DPR_OK;
}

void dpr_program_free(dpr_program_t *program)
{
    free(program->begin);
    free(program->actions);
    free(program->posts);
    *program = (dpr_program_t){0};
}

/* Closes the lists before `rank`. While rank r is being built, begin[r + 1] is its end so far. */
static void open_rank(dpr_program_t *program, int rank)
{
    while (program->building < rank) {
        const size_t end = program->begin[program->building + 1];
        program->building++;
        program->begin[program->building + 1] = end;
    }
}

dpr_status_t dpr_program_append(dpr_program_t *program, int rank, dpr_action_t action)
{
    assert(rank >= program->building && rank < program->ranks);
    open_rank(program, rank);
    size_t *end = &program->begin[rank + 1];
    DPR_TRY(dpr_reserve(&program->actions, &program->capacity, *end + 1, sizeof *program->actions));
    program->actions[*end] = action;
    (*end)++;
    return DPR_OK;
}

dpr_status_t dpr_program_append_post(dpr_program_t *program, dpr_post_t post)
{
    assert(post.rank >= 0 && post.rank < program->ranks);
    DPR_TRY(dpr_reserve(&program->posts, &program->post_capacity, program->post_count + 1,
                        sizeof *program->posts));
    program->posts[program->post_count++] = post;
    return DPR_OK;
}

void dpr_program_finish(dpr_program_t *program)
{
    open_rank(program, program->ranks - 1);
}

dpr_action_t dpr_action(dpr_action_kind_t kind, int stage, int micro_batch)
{
    assert(kind != DPR_ACTION_FB);
    return (dpr_action_t){.kind = kind,
                          .stage = stage,
                          .micro_batch = micro_batch,
                          .b_stage = -1,
                          .b_micro_batch = -1};
}

dpr_action_t dpr_action_fb(int f_stage, int f_micro_batch, int b_stage, int b_micro_batch)
{
    return (dpr_action_t){.kind = DPR_ACTION_FB,
                          .stage = f_stage,
                          .micro_batch = f_micro_batch,
                          .b_stage = b_stage,
                          .b_micro_batch = b_micro_batch};
}

int dpr_action_halves(dpr_action_t action, dpr_action_t halves[2])
{
    if (action.kind != DPR_ACTION_FB) {
        halves[0] = action;
        return 1;
    }
    halves[0] = dpr_action(DPR_ACTION_F, action.stage, action.micro_batch);
    halves[1] = dpr_action(DPR_ACTION_B, action.b_stage, action.b_micro_batch);
    return 2;
}

size_t dpr_program_size(const dpr_program_t *program)
{
    return program->begin[program->ranks];
}

static bool action_equal(const dpr_action_t *a, const dpr_action_t *b)
{
    return a->kind == b->kind && a->stage == b->stage && a->micro_batch == b->micro_batch &&
           a->b_stage == b->b_stage && a->b_micro_batch == b->b_micro_batch;
}

static bool posts_equal(const dpr_program_t *a, const dpr_program_t *b)
{
    return a->post_count == b->post_count &&
           (a->post_count == 0 ||
            memcmp(a->posts, b->posts, a->post_count * sizeof *a->posts) == 0);
}

bool dpr_program_equal(const dpr_program_t *a, const dpr_program_t *b)
{
    if (a->ranks != b->ranks || a->stages != b->stages || a->micro_batches != b->micro_batches ||
        memcmp(a->begin, b->begin, ((size_t)a->ranks + 1) * sizeof *a->begin) != 0 ||
        !posts_equal(a, b)) {
        return false;
    }
    const size_t size = dpr_program_size(a);
    for (size_t i = 0; i < size; i++) {
        if (!action_equal(&a->actions[i], &b->actions[i])) {
            return false;
        }
    }
    return true;
}

bool dpr_program_is_forward_only(const dpr_program_t *program)
{
    const size_t size = dpr_program_size(program);
    for (size_t i = 0; i < size; i++) {
        if (program->actions[i].kind != DPR_ACTION_F) {
            return false;
        }
    }
    return true;
}

static dpr_status_t append_forwards(const dpr_program_t *program, dpr_program_t *out)
{
    for (int rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            const dpr_action_t *action = &program->actions[i];
            if (action->kind == DPR_ACTION_F || action->kind == DPR_ACTION_FB) {
                DPR_TRY(dpr_program_append(
                    out, rank, dpr_action(DPR_ACTION_F, action->stage, action->micro_batch)));
            }
        }
    }
    for (size_t i = 0; i < program->post_count; i++) {
        const dpr_post_t *post = &program->posts[i];
        if (post->kind == DPR_POST_SEND_F || post->kind == DPR_POST_RECV_F) {
            DPR_TRY(dpr_program_append_post(out, *post));
        }
    }
    dpr_program_finish(out);
    return DPR_OK;
}

dpr_status_t dpr_program_forward_only(const dpr_program_t *program, dpr_program_t *out)
{
    dpr_program_t forwards;
    DPR_TRY(dpr_program_init(&forwards, program->name, program->ranks, program->stages,
                             program->micro_batches));
    const dpr_status_t status = append_forwards(program, &forwards);
    if (status != DPR_OK) {
        dpr_program_free(&forwards);
        return status;
    }
    *out = forwards;
    return DPR_OK;
}

static dpr_status_t add_holder(int32_t *holders, int stage, int32_t rank)
{
    int32_t *held = &holders[2 * stage];
    if (held[0] == rank || held[1] == rank) {
        return DPR_OK;
    }
    if (held[0] < 0) {
        held[0] = rank;
    } else if (held[1] < 0) {
        held[1] = rank;
    } else {
        return dpr_fail(DPR_ERR_PROGRAM,
                        "stage %d is on ranks %d, %d and %d: a stage may live on at most two ranks",
                        stage, held[0], held[1], rank);
    }
    return DPR_OK;
}

dpr_status_t dpr_program_holders(const dpr_program_t *program, int32_t *holders)
{
    for (int i = 0; i < 2 * program->stages; i++) {
        holders[i] = -1;
    }
    for (int rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            const dpr_action_t *action = &program->actions[i];
            DPR_TRY(add_holder(holders, action->stage, rank));
            if (action->kind == DPR_ACTION_FB) {
                DPR_TRY(add_holder(holders, action->b_stage, rank));
            }
        }
    }
    return DPR_OK;
}

char *dpr_action_format(dpr_action_t action, char *text, size_t size)
{
    static const char letters[DPR_ACTION_KINDS] = {
        [DPR_ACTION_F] = 'F', [DPR_ACTION_B] = 'B', [DPR_ACTION_I] = 'I', [DPR_ACTION_W] = 'W'};
    if (action.kind == DPR_ACTION_FB) {
        snprintf(text, size, "(%dF%d;%dB%d)OVERLAP_F_B", action.stage, action.micro_batch,
                 action.b_stage, action.b_micro_batch);
    } else {
        const char letter = (unsigned)action.kind < DPR_ACTION_KINDS ? letters[action.kind] : '?';
        snprintf(text, size, "%d%c%d", action.stage, letter, action.micro_batch);
    }
    return text;
}

const char *dpr_post_kind_name(dpr_post_kind_t kind)
{
    static const char *const names[DPR_POST_KINDS] = {[DPR_POST_SEND_F] = "SEND_F",
                                                      [DPR_POST_RECV_F] = "RECV_F",
                                                      [DPR_POST_SEND_B] = "SEND_B",
                                                      [DPR_POST_RECV_B] = "RECV_B"};
    return (unsigned)kind < DPR_POST_KINDS ? names[kind] : "?";
}

char *dpr_post_format(dpr_post_t post, char *text, size_t size)
{
    snprintf(text, size, "%d%s%d", post.stage, dpr_post_kind_name((dpr_post_kind_t)post.kind),
             post.micro_batch);
    return text;
}
