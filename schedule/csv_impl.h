/*
 * What the files of the CSV reader share.
 *
 *     csv.c          the text: lines, cells, compute actions; reading and writing files
 *     csv_lowered.c  what a lowered file holds besides: sends, receives and what is passed over;
 *                    whether they are those that the compute actions need
 */
#ifndef DPR_SCHEDULE_CSV_IMPL_H
#define DPR_SCHEDULE_CSV_IMPL_H

#include "schedule/csv.h"

/* Walks the text once, byte by byte; every error can then say the line and the column. */
typedef struct parser {
    const char *text;
    size_t length;
    size_t at;
    size_t line_begin;
    int line; /* from 1, as editors count; the column likewise. Rank r stands on line r + 1 */
    const char *source;
    int32_t max_stage;
    int32_t max_micro_batch;
    size_t *action_at; /* where each compute action begins in the text */
    size_t action_capacity;
    size_t *post_at; /* and each send or receive */
    size_t post_capacity;
    size_t passed_over; /* UNSHARD, RESHARD and REDUCE_GRAD cells */
} parser_t;

enum { CSV_END_OF_TEXT = -1 };

/* The byte where the parser stands. */
static inline int csv_peek(const parser_t *parser)
{
    return parser->at < parser->length ? (unsigned char)parser->text[parser->at] : CSV_END_OF_TEXT;
}

/* Logs "source:line:column: expected ..., found ..." of where the parser stands. */
dpr_status_t csv_fail_expected(const parser_t *parser, const char *expected);

/* A number of 0 to max - 1. The error stands at its first digit. */
dpr_status_t csv_parse_number(parser_t *parser, const char *what, int32_t max, int32_t *number);

/* True, and behind it, where `word` stands here. */
bool csv_take_word(parser_t *parser, const char *word);

/* The same, and else an error. */
dpr_status_t csv_parse_word(parser_t *parser, const char *word, const char *expected);

/* Whether the cell that begins at `begin`, and whose stage has been read, is one of the lowered
 * form's own: a send, a receive, or one to pass over. */
bool csv_at_lowered(const parser_t *parser);

/* Reads the rest of such a cell, and appends a send or receive to the program. */
dpr_status_t csv_parse_lowered(parser_t *parser, dpr_program_t *program, int rank, int32_t stage,
                               size_t begin);

/* Judges the sends and receives of a program that is read: each is one that the compute actions
 * need, on its side of the action, and none is missing. Nothing is judged where there are none, or
 * where the compute actions themselves are not complete, which dpr_program_check is there to say.
 */
dpr_status_t csv_check_posts(parser_t *parser, const dpr_program_t *program);

/* Says once how many cells were passed over. */
void csv_notice_passed_over(const parser_t *parser);

#endif
