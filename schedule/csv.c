/*
 * Programs as CSV text, in both directions.
 *
 *     text    = { line }                      one line per rank
 *     line    = [ cell { "," cell } ] end     a cell may be empty; blanks may stand around it
 *     cell    = number kind number            kind: F B I W
 *             | "(" number "F" number ";" number "B" number ")" "OVERLAP_F_B"
 *
 * The parser walks the text once, byte by byte, and knows nothing but where it stands: every error
 * can then say the line and the column.
 */
#include "schedule/csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

typedef struct parser {
    const char *text;
    size_t length;
    size_t at;
    size_t line_begin;
    int line; /* from 1, as editors count; the column likewise */
    const char *source;
    int32_t max_stage;
    int32_t max_micro_batch;
} parser_t;

enum { END_OF_TEXT = -1 };

static int peek(const parser_t *parser)
{
    return parser->at < parser->length ? (unsigned char)parser->text[parser->at] : END_OF_TEXT;
}

static bool is_line_end(const parser_t *parser)
{
    const int c = peek(parser);
    return c == END_OF_TEXT || c == '\n' ||
           (c == '\r' &&
            (parser->at + 1 == parser->length || parser->text[parser->at + 1] == '\n'));
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(parser_t *parser)
{
    while (peek(parser) == ' ' || peek(parser) == '\t') {
        parser->at++;
    }
}

/* Spells what stands at `at`: the run of printable characters up to the next separator. */
static void describe_found(const parser_t *parser, char *text, size_t size)
{
    const int c = peek(parser);
    if (c == END_OF_TEXT) {
        snprintf(text, size, "end of file");
        return;
    }
    if (is_line_end(parser)) {
        snprintf(text, size, "end of line");
        return;
    }
    if (c <= ' ' || c > '~') {
        snprintf(text, size, "byte 0x%02x", (unsigned)c);
        return;
    }
    int run = 1;
    while (run < 16 && parser->at + (size_t)run < parser->length) {
        const char next = parser->text[parser->at + (size_t)run];
        if (next <= ' ' || next > '~' || strchr(",;()", next) != NULL) {
            break;
        }
        run++;
    }
    snprintf(text, size, "'%.*s'", run, parser->text + parser->at);
}

static dpr_status_t fail_expected(const parser_t *parser, const char *expected)
{
    char found[32];
    describe_found(parser, found, sizeof found);
    return dpr_fail(DPR_ERR_PARSE, "%s:%d:%zu: expected %s, found %s", parser->source, parser->line,
                    parser->at - parser->line_begin + 1, expected, found);
}

/* A number of 0 to max - 1. The error stands at its first digit. */
static dpr_status_t parse_number(parser_t *parser, const char *what, int32_t max, int32_t *number)
{
    if (!is_digit(peek(parser))) {
        return fail_expected(parser, what);
    }
    int32_t value = 0;
    size_t at = parser->at;
    for (; at < parser->length && is_digit(parser->text[at]); at++) {
        value = value * 10 + (parser->text[at] - '0');
        if (value >= max) {
            char expected[64];
            snprintf(expected, sizeof expected, "%s of at most %d", what, max - 1);
            return fail_expected(parser, expected);
        }
    }
    parser->at = at;
    *number = value;
    return DPR_OK;
}

static dpr_status_t parse_word(parser_t *parser, const char *word, const char *expected)
{
    const size_t length = strlen(word);
    if (parser->length - parser->at < length ||
        memcmp(parser->text + parser->at, word, length) != 0) {
        return fail_expected(parser, expected);
    }
    parser->at += length;
    return DPR_OK;
}

/* Keeps the size of the program, S x M of which is bounded. The error stands at the cell. */
static dpr_status_t note_cell(parser_t *parser, size_t cell_begin, int32_t stage,
                              int32_t micro_batch)
{
    parser->max_stage = stage > parser->max_stage ? stage : parser->max_stage;
    parser->max_micro_batch =
        micro_batch > parser->max_micro_batch ? micro_batch : parser->max_micro_batch;
    if ((parser->max_stage + 1) * (int64_t)(parser->max_micro_batch + 1) > DPR_MAX_CELLS) {
        parser->at = cell_begin;
        char expected[96];
        snprintf(expected, sizeof expected, "a program of at most %d stages x micro-batches",
                 DPR_MAX_CELLS);
        return fail_expected(parser, expected);
    }
    return DPR_OK;
}

static const char stage_number[] = "a stage number";
static const char micro_batch_number[] = "a micro-batch number";

static dpr_status_t parse_single(parser_t *parser, dpr_action_t *action)
{
    int32_t stage = 0;
    DPR_TRY(parse_number(parser, stage_number, DPR_MAX_STAGES, &stage));
    dpr_action_kind_t kind;
    switch (peek(parser)) {
    case 'F':
        kind = DPR_ACTION_F;
        break;
    case 'B':
        kind = DPR_ACTION_B;
        break;
    case 'I':
        kind = DPR_ACTION_I;
        break;
    case 'W':
        kind = DPR_ACTION_W;
        break;
    default:
        return fail_expected(parser, "F, B, I or W");
    }
    parser->at++;
    int32_t micro_batch = 0;
    DPR_TRY(parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &micro_batch));
    *action = dpr_action(kind, stage, micro_batch);
    return DPR_OK;
}

static dpr_status_t parse_overlapped(parser_t *parser, dpr_action_t *action)
{
    int32_t f_stage = 0, f_micro_batch = 0, b_stage = 0, b_micro_batch = 0;
    DPR_TRY(parse_word(parser, "(", "'('"));
    DPR_TRY(parse_number(parser, stage_number, DPR_MAX_STAGES, &f_stage));
    DPR_TRY(parse_word(parser, "F", "F, the forward of an overlapped pair"));
    DPR_TRY(parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &f_micro_batch));
    DPR_TRY(parse_word(parser, ";", "';'"));
    DPR_TRY(parse_number(parser, stage_number, DPR_MAX_STAGES, &b_stage));
    DPR_TRY(parse_word(parser, "B", "B, the backward of an overlapped pair"));
    DPR_TRY(parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &b_micro_batch));
    DPR_TRY(parse_word(parser, ")", "')'"));
    DPR_TRY(parse_word(parser, "OVERLAP_F_B", "OVERLAP_F_B"));
    *action = dpr_action_fb(f_stage, f_micro_batch, b_stage, b_micro_batch);
    return DPR_OK;
}

static dpr_status_t parse_cell(parser_t *parser, dpr_program_t *program, int rank)
{
    const size_t begin = parser->at;
    dpr_action_t action;
    if (peek(parser) == '(') {
        DPR_TRY(parse_overlapped(parser, &action));
        DPR_TRY(note_cell(parser, begin, action.b_stage, action.b_micro_batch));
    } else {
        if (!is_digit(peek(parser))) {
            return fail_expected(parser, "an action such as 2F0 or (0F7;7B3)OVERLAP_F_B");
        }
        DPR_TRY(parse_single(parser, &action));
    }
    DPR_TRY(note_cell(parser, begin, action.stage, action.micro_batch));
    return dpr_program_append(program, rank, action);
}

static dpr_status_t parse_line(parser_t *parser, dpr_program_t *program, int rank)
{
    for (;;) {
        skip_blanks(parser);
        if (peek(parser) != ',' && !is_line_end(parser)) {
            DPR_TRY(parse_cell(parser, program, rank));
            skip_blanks(parser);
        }
        if (is_line_end(parser)) {
            return DPR_OK;
        }
        DPR_TRY(parse_word(parser, ",", "',' or the end of the line"));
    }
}

static void skip_line_end(parser_t *parser)
{
    if (peek(parser) == '\r') {
        parser->at++;
    }
    if (peek(parser) == '\n') {
        parser->at++;
    }
    parser->line++;
    parser->line_begin = parser->at;
}

/* Every newline ends a line, and so does the end of the text where something stands before it. */
static dpr_status_t count_lines(parser_t *parser, int *lines)
{
    int count = 0;
    size_t begin = 0;
    for (size_t i = 0; i <= parser->length; i++) {
        const bool newline = i < parser->length && parser->text[i] == '\n';
        if (!newline && (i < parser->length || i == begin)) {
            continue;
        }
        if (count == DPR_MAX_RANKS) {
            parser->line = count + 1;
            parser->at = parser->line_begin = begin;
            char expected[64];
            snprintf(expected, sizeof expected, "at most %d lines, one per rank", DPR_MAX_RANKS);
            return fail_expected(parser, expected);
        }
        count++;
        begin = i + 1;
    }
    *lines = count;
    return DPR_OK;
}

dpr_status_t dpr_csv_parse(const char *text, size_t length, const char *source,
                           dpr_program_t *program)
{
    parser_t parser = {.text = text,
                       .length = length,
                       .line = 1,
                       .source = source,
                       .max_stage = -1,
                       .max_micro_batch = -1};
    int lines = 0;
    DPR_TRY(count_lines(&parser, &lines));
    if (lines == 0) {
        return fail_expected(&parser, "one line of actions per rank");
    }
    dpr_program_t parsed;
    DPR_TRY(dpr_program_init(&parsed, "file", lines, 1, 1));
    dpr_status_t status = DPR_OK;
    for (int rank = 0; rank < lines && status == DPR_OK; rank++) {
        status = parse_line(&parser, &parsed, rank);
        if (status == DPR_OK) {
            skip_line_end(&parser);
        }
    }
    if (status == DPR_OK && parser.max_stage < 0) {
        status = fail_expected(&parser, "at least one action");
    }
    if (status != DPR_OK) {
        dpr_program_free(&parsed);
        return status;
    }
    dpr_program_finish(&parsed);
    parsed.stages = parser.max_stage + 1;
    parsed.micro_batches = parser.max_micro_batch + 1;
    *program = parsed;
    return DPR_OK;
}

static dpr_status_t read_all(FILE *file, const char *path, char **text, size_t *length)
{
    enum { BLOCK = 1 << 16 };
    size_t capacity = 0;
    *text = NULL;
    *length = 0;
    for (;;) {
        DPR_TRY(dpr_reserve(text, &capacity, *length + BLOCK, 1));
        const size_t got = fread(*text + *length, 1, BLOCK, file);
        *length += got;
        if (got < BLOCK) {
            break;
        }
    }
    if (ferror(file)) {
        return dpr_fail(DPR_ERR_IO, "cannot read %s: %s", path, strerror(errno));
    }
    return DPR_OK;
}

dpr_status_t dpr_csv_read(const char *path, dpr_program_t *program)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return dpr_fail(DPR_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    }
    char *text;
    size_t length;
    dpr_status_t status = read_all(file, path, &text, &length);
    if (status == DPR_OK) {
        status = dpr_csv_parse(text, length, path, program);
    }
    free(text);
    fclose(file);
    return status;
}

dpr_status_t dpr_csv_write(const dpr_program_t *program, FILE *out)
{
    for (int rank = 0; rank < program->ranks; rank++) {
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            char text[48];
            dpr_action_format(program->actions[i], text, sizeof text);
            if (i > program->begin[rank]) {
                putc(',', out);
            }
            fputs(text, out);
        }
        putc('\n', out);
    }
    if (fflush(out) != 0 || ferror(out)) {
        return dpr_fail(DPR_ERR_IO, "cannot write the program: %s", strerror(errno));
    }
    return DPR_OK;
}
