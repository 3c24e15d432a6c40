/*
 * Programs as CSV text, in both directions.
 *
 *     text    = { line }                      one line per rank
 *     line    = [ cell { "," cell } ] end     a cell may be empty; blanks may stand around it
 *     cell    = number kind number            kind: F B I W
 *             | "(" number "F" number ";" number "B" number ")" "OVERLAP_F_B"
 *             | a cell of the lowered form: csv_lowered.c
 */
#include "schedule/csv_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

static bool is_line_end(const parser_t *parser)
{
    const int c = csv_peek(parser);
    return c == CSV_END_OF_TEXT || c == '\n' ||
           (c == '\r' &&
            (parser->at + 1 == parser->length || parser->text[parser->at + 1] == '\n'));
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(parser_t *parser)
{
    while (csv_peek(parser) == ' ' || csv_peek(parser) == '\t') {
        parser->at++;
    }
}

/* Spells what stands at `at`: the run of printable characters up to the next separator. */
static void describe_found(const parser_t *parser, char *text, size_t size)
{
    const int c = csv_peek(parser);
    if (c == CSV_END_OF_TEXT) {
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

dpr_status_t csv_fail_expected(const parser_t *parser, const char *expected)
{
    char found[32];
    describe_found(parser, found, sizeof found);
    return dpr_fail(DPR_ERR_PARSE, "%s:%d:%zu: expected %s, found %s", parser->source, parser->line,
                    parser->at - parser->line_begin + 1, expected, found);
}

dpr_status_t csv_parse_number(parser_t *parser, const char *what, int32_t max, int32_t *number)
{
    if (!is_digit(csv_peek(parser))) {
        return csv_fail_expected(parser, what);
    }
    int32_t value = 0;
    size_t at = parser->at;
    for (; at < parser->length && is_digit(parser->text[at]); at++) {
        value = value * 10 + (parser->text[at] - '0');
        if (value >= max) {
            char expected[64];
            snprintf(expected, sizeof expected, "%s of at most %d", what, max - 1);
            return csv_fail_expected(parser, expected);
        }
    }
    parser->at = at;
    *number = value;
    return DPR_OK;
}

bool csv_take_word(parser_t *parser, const char *word)
{
    const size_t length = strlen(word);
    if (parser->length - parser->at < length ||
        memcmp(parser->text + parser->at, word, length) != 0) {
        return false;
    }
    parser->at += length;
    return true;
}

dpr_status_t csv_parse_word(parser_t *parser, const char *word, const char *expected)
{
    return csv_take_word(parser, word) ? DPR_OK : csv_fail_expected(parser, expected);
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
        return csv_fail_expected(parser, expected);
    }
    return DPR_OK;
}

static const char stage_number[] = "a stage number";
static const char micro_batch_number[] = "a micro-batch number";

/* The rest of a single action, whose stage has been read. */
static dpr_status_t parse_single(parser_t *parser, int32_t stage, dpr_action_t *action)
{
    dpr_action_kind_t kind;
    switch (csv_peek(parser)) {
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
        return csv_fail_expected(parser, "F, B, I or W");
    }
    parser->at++;
    int32_t micro_batch = 0;
    DPR_TRY(csv_parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &micro_batch));
    *action = dpr_action(kind, stage, micro_batch);
    return DPR_OK;
}

static dpr_status_t parse_overlapped(parser_t *parser, dpr_action_t *action)
{
    int32_t f_stage = 0, f_micro_batch = 0, b_stage = 0, b_micro_batch = 0;
    DPR_TRY(csv_parse_word(parser, "(", "'('"));
    DPR_TRY(csv_parse_number(parser, stage_number, DPR_MAX_STAGES, &f_stage));
    DPR_TRY(csv_parse_word(parser, "F", "F, the forward of an overlapped pair"));
    DPR_TRY(csv_parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &f_micro_batch));
    DPR_TRY(csv_parse_word(parser, ";", "';'"));
    DPR_TRY(csv_parse_number(parser, stage_number, DPR_MAX_STAGES, &b_stage));
    DPR_TRY(csv_parse_word(parser, "B", "B, the backward of an overlapped pair"));
    DPR_TRY(csv_parse_number(parser, micro_batch_number, DPR_MAX_MICRO_BATCHES, &b_micro_batch));
    DPR_TRY(csv_parse_word(parser, ")", "')'"));
    DPR_TRY(csv_parse_word(parser, "OVERLAP_F_B", "OVERLAP_F_B"));
    *action = dpr_action_fb(f_stage, f_micro_batch, b_stage, b_micro_batch);
    return DPR_OK;
}

static dpr_status_t append_action(parser_t *parser, dpr_program_t *program, int rank,
                                  dpr_action_t action, size_t begin)
{
    DPR_TRY(note_cell(parser, begin, action.stage, action.micro_batch));
    DPR_TRY(dpr_program_append(program, rank, action));
    const size_t count = program->begin[rank + 1];
    DPR_TRY(dpr_reserve(&parser->action_at, &parser->action_capacity, count,
                        sizeof *parser->action_at));
    parser->action_at[count - 1] = begin;
    return DPR_OK;
}

static dpr_status_t parse_cell(parser_t *parser, dpr_program_t *program, int rank)
{
    const size_t begin = parser->at;
    dpr_action_t action;
    if (csv_peek(parser) == '(') {
        DPR_TRY(parse_overlapped(parser, &action));
        DPR_TRY(note_cell(parser, begin, action.b_stage, action.b_micro_batch));
        return append_action(parser, program, rank, action, begin);
    }
    if (!is_digit(csv_peek(parser))) {
        return csv_fail_expected(parser, "an action such as 2F0 or (0F7;7B3)OVERLAP_F_B");
    }
    int32_t stage = 0;
    DPR_TRY(csv_parse_number(parser, stage_number, DPR_MAX_STAGES, &stage));
    if (csv_at_lowered(parser)) {
        return csv_parse_lowered(parser, program, rank, stage, begin);
    }
    DPR_TRY(parse_single(parser, stage, &action));
    return append_action(parser, program, rank, action, begin);
}

static dpr_status_t parse_line(parser_t *parser, dpr_program_t *program, int rank)
{
    for (;;) {
        skip_blanks(parser);
        if (csv_peek(parser) != ',' && !is_line_end(parser)) {
            DPR_TRY(parse_cell(parser, program, rank));
            skip_blanks(parser);
        }
        if (is_line_end(parser)) {
            return DPR_OK;
        }
        DPR_TRY(csv_parse_word(parser, ",", "',' or the end of the line"));
    }
}

static void skip_line_end(parser_t *parser)
{
    if (csv_peek(parser) == '\r') {
        parser->at++;
    }
    if (csv_peek(parser) == '\n') {
        parser->at++;
    }
    parser->line++;
    parser->line_begin = parser->at;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Every newline ends a line, and so does the end of the text. Lines at the end that hold nothing
 * but blanks are not counted: an editor may have left them, and a rank without work at the end is
 * spelled with a comma. */
static dpr_status_t count_lines(parser_t *parser, int *lines)
{
    size_t length = parser->length;
    while (length > 0 && is_blank(parser->text[length - 1])) {
        length--;
    }
    int count = 0;
    size_t begin = 0;
    for (size_t i = 0; i <= length && length > 0; i++) {
        if (i < length && parser->text[i] != '\n') {
            continue;
        }
        if (count == DPR_MAX_RANKS) {
            parser->line = count + 1;
            parser->at = parser->line_begin = begin;
            char expected[64];
            snprintf(expected, sizeof expected, "at most %d lines, one per rank", DPR_MAX_RANKS);
            return csv_fail_expected(parser, expected);
        }
        count++;
        begin = i + 1;
    }
    *lines = count;
    return DPR_OK;
}

static dpr_status_t parse_lines(parser_t *parser, int lines, dpr_program_t *program)
{
    for (int rank = 0; rank < lines; rank++) {
        DPR_TRY(parse_line(parser, program, rank));
        skip_line_end(parser);
    }
    if (parser->max_stage < 0) {
        return csv_fail_expected(parser, "at least one action");
    }
    dpr_program_finish(program);
    program->stages = parser->max_stage + 1;
    program->micro_batches = parser->max_micro_batch + 1;
    return csv_check_posts(parser, program);
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
        return csv_fail_expected(&parser, "one line of actions per rank");
    }
    dpr_program_t parsed;
    DPR_TRY(dpr_program_init(&parsed, "file", lines, 1, 1));
    const dpr_status_t status = parse_lines(&parser, lines, &parsed);
    free(parser.action_at);
    free(parser.post_at);
    if (status != DPR_OK) {
        dpr_program_free(&parsed);
        return status;
    }
    csv_notice_passed_over(&parser);
    *program = parsed;
    return DPR_OK;
}

static dpr_status_t read_all(FILE *file, const char *path, char **text, size_t *length)
{
    enum { BLOCK = 1 << 16, FILE_MAX_BYTES = 1 << 30 };
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
        if (*length > FILE_MAX_BYTES) {
            return dpr_fail(DPR_ERR_DATA, "%s is larger than %d MiB, which no program is", path,
                            FILE_MAX_BYTES >> 20);
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
        if (program->begin[rank] == program->begin[rank + 1]) {
            putc(',', out); /* a rank without work; at the end, a blank line would not be one */
        }
        putc('\n', out);
    }
    if (fflush(out) != 0 || ferror(out)) {
        return dpr_fail(DPR_ERR_IO, "cannot write the program: %s", strerror(errno));
    }
    return DPR_OK;
}
