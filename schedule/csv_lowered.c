/*
 * The cells that only a lowered file has, and whether its sends and receives are the right ones.
 *
 *     cell = number ("SEND_F" | "RECV_F" | "SEND_B" | "RECV_B") number
 *          | number ("UNSHARD" | "RESHARD" | "REDUCE_GRAD") [ number ]
 *
 * What is right follows from the compute actions: where stage s and stage s + 1 of a micro-batch
 * are on different ranks, the forward of s sends, after it, what that of s + 1 receives, before it;
 * and the backward of s + 1 sends what that of s receives. Each of these stands in the file once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/csv_impl.h"

/* ---- The text ---- */

bool csv_at_lowered(const parser_t *parser)
{
    const int c = csv_peek(parser);
    return c == 'S' || c == 'R' || c == 'U';
}

static bool take_post_kind(parser_t *parser, dpr_post_kind_t *kind)
{
    for (int k = 0; k < DPR_POST_KINDS; k++) {
        if (csv_take_word(parser, dpr_post_kind_name((dpr_post_kind_t)k))) {
            *kind = (dpr_post_kind_t)k;
            return true;
        }
    }
    return false;
}

static bool is_digit_here(const parser_t *parser)
{
    const int c = csv_peek(parser);
    return c >= '0' && c <= '9';
}

static dpr_status_t parse_micro_batch(parser_t *parser, int32_t *micro_batch)
{
    return csv_parse_number(parser, "a micro-batch number", DPR_MAX_MICRO_BATCHES, micro_batch);
}

dpr_status_t csv_parse_lowered(parser_t *parser, dpr_program_t *program, int rank, int32_t stage,
                               size_t begin)
{
    dpr_post_t post = {.rank = rank, .stage = stage};
    dpr_post_kind_t kind;
    if (take_post_kind(parser, &kind)) {
        DPR_TRY(parse_micro_batch(parser, &post.micro_batch));
        post.kind = (int32_t)kind;
        DPR_TRY(dpr_program_append_post(program, post));
        DPR_TRY(dpr_reserve(&parser->post_at, &parser->post_capacity, program->post_count,
                            sizeof *parser->post_at));
        parser->post_at[program->post_count - 1] = begin;
        return DPR_OK;
    }
    if (!csv_take_word(parser, "UNSHARD") && !csv_take_word(parser, "RESHARD") &&
        !csv_take_word(parser, "REDUCE_GRAD")) {
        return csv_fail_expected(parser, "F, B, I or W, SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, "
                                         "RESHARD or REDUCE_GRAD");
    }
    if (is_digit_here(parser)) {
        DPR_TRY(parse_micro_batch(parser, &post.micro_batch));
    }
    parser->passed_over++;
    return DPR_OK;
}

void csv_notice_passed_over(const parser_t *parser)
{
    if (parser->passed_over > 0) {
        dpr_log(DPR_LOG_WARNING,
                "%s: passed over %zu UNSHARD, RESHARD and REDUCE_GRAD cells: stages are never "
                "sharded here, and gradients are reduced after the schedule",
                parser->source, parser->passed_over);
    }
}

/* ---- The check ---- */

/* One (stage, micro-batch): on which rank, where in the text, and what has been posted of it. */
typedef struct lowered_cell {
    int32_t rank; /* -1: nowhere */
    bool posted[DPR_POST_KINDS];
    size_t forward_at;
    size_t backward_at;
} lowered_cell_t;

typedef struct checker {
    parser_t *parser;
    const dpr_program_t *program;
    lowered_cell_t *cells;
} checker_t;

static lowered_cell_t *cell_of(const checker_t *checker, int32_t stage, int32_t micro_batch)
{
    return &checker->cells[(size_t)stage * (size_t)checker->program->micro_batches +
                           (size_t)micro_batch];
}

static dpr_status_t fail_at(const checker_t *checker, int32_t rank, size_t at, const char *expected)
{
    parser_t *parser = checker->parser;
    parser->line = rank + 1;
    parser->at = parser->line_begin = at;
    while (parser->line_begin > 0 && parser->text[parser->line_begin - 1] != '\n') {
        parser->line_begin--;
    }
    return csv_fail_expected(parser, expected);
}

static bool is_gradient(dpr_post_kind_t kind)
{
    return kind == DPR_POST_SEND_B || kind == DPR_POST_RECV_B;
}

static bool is_receive(dpr_post_kind_t kind)
{
    return kind == DPR_POST_RECV_F || kind == DPR_POST_RECV_B;
}

/* The stage at the other end: activations go up, gradients down. */
static int32_t other_stage(dpr_post_kind_t kind, int32_t stage)
{
    return is_gradient(kind) == is_receive(kind) ? stage + 1 : stage - 1;
}

/* Whether the action of (stage, micro-batch) needs such a post: its other end is elsewhere. */
static bool is_needed(const checker_t *checker, dpr_post_kind_t kind, int32_t stage,
                      int32_t micro_batch)
{
    const int32_t other = other_stage(kind, stage);
    return other >= 0 && other < checker->program->stages &&
           cell_of(checker, other, micro_batch)->rank != cell_of(checker, stage, micro_batch)->rank;
}

static void note_actions(const checker_t *checker)
{
    const dpr_program_t *program = checker->program;
    for (int32_t rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            dpr_action_t halves[2];
            const int count = dpr_action_halves(program->actions[i], halves);
            for (int h = 0; h < count; h++) {
                lowered_cell_t *cell = cell_of(checker, halves[h].stage, halves[h].micro_batch);
                cell->rank = rank;
                if (halves[h].kind == DPR_ACTION_F) {
                    cell->forward_at = checker->parser->action_at[i];
                } else if (halves[h].kind != DPR_ACTION_W) {
                    cell->backward_at = checker->parser->action_at[i];
                }
            }
        }
    }
}

/* The compute action that a post belongs to, as a message names it. */
static void format_owner(const dpr_post_t *post, char *text, size_t size)
{
    const bool gradient = is_gradient((dpr_post_kind_t)post->kind);
    snprintf(text, size, "%d%s%d", post->stage, gradient ? "B" : "F", post->micro_batch);
}

static dpr_status_t check_post(const checker_t *checker, const dpr_post_t *post, size_t at)
{
    const dpr_program_t *program = checker->program;
    const dpr_post_kind_t kind = (dpr_post_kind_t)post->kind;
    char owner[32];
    char expected[160];
    format_owner(post, owner, sizeof owner);
    const bool exists = post->stage < program->stages && post->micro_batch < program->micro_batches;
    lowered_cell_t *cell = exists ? cell_of(checker, post->stage, post->micro_batch) : NULL;
    if (!exists || cell->rank != post->rank ||
        (is_gradient(kind) && dpr_program_is_forward_only(program))) {
        snprintf(expected, sizeof expected,
                 "only sends and receives of this line's actions (%s is not one)", owner);
        return fail_at(checker, post->rank, at, expected);
    }
    if (!is_needed(checker, kind, post->stage, post->micro_batch)) {
        snprintf(expected, sizeof expected, "no such %s: what %s %s does not %s",
                 is_receive(kind) ? "receive" : "send", owner, is_receive(kind) ? "takes" : "makes",
                 is_receive(kind) ? "come from another rank" : "go to another rank");
        return fail_at(checker, post->rank, at, expected);
    }
    if (cell->posted[kind]) {
        snprintf(expected, sizeof expected, "each send and receive once");
        return fail_at(checker, post->rank, at, expected);
    }
    const size_t owner_at = is_gradient(kind) ? cell->backward_at : cell->forward_at;
    if (is_receive(kind) ? at > owner_at : at < owner_at) {
        snprintf(expected, sizeof expected, "it %s %s", is_receive(kind) ? "before" : "after",
                 owner);
        return fail_at(checker, post->rank, at, expected);
    }
    cell->posted[kind] = true;
    return DPR_OK;
}

/* Every send and receive that one half of an action needs must have been posted. */
static dpr_status_t check_half_posted(const checker_t *checker, int32_t rank, dpr_action_t half,
                                      size_t at)
{
    static const dpr_post_kind_t of_forward[] = {DPR_POST_RECV_F, DPR_POST_SEND_F};
    static const dpr_post_kind_t of_backward[] = {DPR_POST_RECV_B, DPR_POST_SEND_B};
    const dpr_post_kind_t *kinds = half.kind == DPR_ACTION_F ? of_forward : of_backward;
    const lowered_cell_t *cell = cell_of(checker, half.stage, half.micro_batch);
    for (int i = 0; i < 2 && half.kind != DPR_ACTION_W; i++) {
        if (!is_needed(checker, kinds[i], half.stage, half.micro_batch) || cell->posted[kinds[i]]) {
            continue;
        }
        const dpr_post_t missing = {.rank = rank,
                                    .kind = (int32_t)kinds[i],
                                    .stage = half.stage,
                                    .micro_batch = half.micro_batch};
        char text[32];
        char expected[96];
        dpr_post_format(missing, text, sizeof text);
        snprintf(expected, sizeof expected, "%s on this line %s", text,
                 is_receive(kinds[i]) ? "before this action" : "after this action");
        return fail_at(checker, rank, at, expected);
    }
    return DPR_OK;
}

static dpr_status_t check_all_posted(const checker_t *checker)
{
    const dpr_program_t *program = checker->program;
    for (int32_t rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            dpr_action_t halves[2];
            const int count = dpr_action_halves(program->actions[i], halves);
            for (int h = 0; h < count; h++) {
                DPR_TRY(check_half_posted(checker, rank, halves[h], checker->parser->action_at[i]));
            }
        }
    }
    return DPR_OK;
}

static dpr_status_t check_posts(const checker_t *checker)
{
    note_actions(checker);
    for (size_t i = 0; i < checker->program->post_count; i++) {
        DPR_TRY(check_post(checker, &checker->program->posts[i], checker->parser->post_at[i]));
    }
    return check_all_posted(checker);
}

dpr_status_t csv_check_posts(parser_t *parser, const dpr_program_t *program)
{
    if (program->post_count == 0) {
        return DPR_OK;
    }
    char refused[512];
    dpr_log_capture_t capture; /* whoever uses the program will hear why it is not complete */
    dpr_log_capture_begin(&capture, refused, sizeof refused);
    const dpr_status_t complete = dpr_program_check(program);
    dpr_log_capture_end(&capture);
    if (complete != DPR_OK) {
        return complete == DPR_ERR_PROGRAM ? DPR_OK : complete;
    }
    checker_t checker = {.parser = parser, .program = program};
    DPR_TRY(dpr_calloc((size_t)program->stages * (size_t)program->micro_batches,
                       sizeof *checker.cells, &checker.cells));
    const dpr_status_t status = check_posts(&checker);
    free(checker.cells);
    return status;
}
