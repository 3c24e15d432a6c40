/* Parses JSON, checks values, and finds the lines that messages name. */
#include "runtime/json_reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { READ_CHUNK_BYTES = 1 << 16 };

/* ---- Text ---- */

static dpr_status_t read_stream(FILE *file, const char *path, char **text)
{
    char *buffer = NULL;
    size_t capacity = 0;
    size_t used = 0;
    size_t got;
    do {
        const dpr_status_t status =
            dpr_reserve(&buffer, &capacity, used + READ_CHUNK_BYTES + 1, sizeof *buffer);
        if (status != DPR_OK) {
            free(buffer);
            return status;
        }
        got = fread(buffer + used, 1, READ_CHUNK_BYTES, file);
        used += got;
    } while (got > 0);
    if (ferror(file)) {
        free(buffer);
        return dpr_fail(DPR_ERR_IO, "cannot read %s: %s", path, strerror(errno));
    }
    buffer[used] = '\0';
    if (strlen(buffer) != used) {
        free(buffer);
        return dpr_fail(DPR_ERR_PARSE, "%s is not JSON: it holds a zero byte", path);
    }
    *text = buffer;
    return DPR_OK;
}

dpr_status_t dpr_json_read_file(const char *path, char **text)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return dpr_fail(DPR_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    }
    const dpr_status_t status = read_stream(file, path, text);
    fclose(file);
    return status;
}

dpr_status_t dpr_json_parse(const dpr_json_source_t *source, json_t **root)
{
    json_error_t error;
    json_t *parsed = json_loads(source->text, JSON_REJECT_DUPLICATES, &error);
    if (parsed == NULL) {
        return dpr_fail(DPR_ERR_PARSE, "%s:%d:%d: malformed JSON: %s", source->name, error.line,
                        error.column, error.text);
    }
    *root = parsed;
    return DPR_OK;
}

/* ---- Where a value stands. The text is valid JSON here. ---- */

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++) {
        at += *at == '\\';
    }
    return at + 1;
}

/* Beyond the value that starts at `at`, be it string, number, word, object or array. */
static const char *skip_value(const char *at)
{
    int depth = 0;
    do {
        switch (*at) {
        case '"':
            at = skip_string(at);
            break;
        case '{':
        case '[':
            depth++;
            at++;
            break;
        case '}':
        case ']':
            depth--;
            at++;
            break;
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case ',':
        case ':':
            at++;
            break;
        default:
            at += strcspn(at, "\"{}[],: \t\r\n");
        }
    } while (depth > 0);
    return at;
}

/* The member `key` (of `length` bytes) of the object at `at`: where its key stands; or NULL. */
static const char *find_key(const char *at, const char *key, size_t length)
{
    at = skip_space(at + 1);
    while (*at == '"') {
        if (strncmp(at + 1, key, length) == 0 && at[length + 1] == '"') {
            return at;
        }
        at = skip_space(skip_string(at));                /* at ':' */
        at = skip_space(skip_value(skip_space(at + 1))); /* at ',' or '}' */
        at = *at == ',' ? skip_space(at + 1) : at;
    }
    return NULL;
}

/* Element `index` of the array at `at`, or NULL. */
static const char *find_element(const char *at, long index)
{
    at = skip_space(at + 1);
    for (; *at != ']'; index--) {
        if (index == 0) {
            return at;
        }
        at = skip_space(skip_value(at));
        at = *at == ',' ? skip_space(at + 1) : at;
    }
    return NULL;
}

static long find_line(const char *text, const char *where)
{
    const char *found = skip_space(text);
    const char *value = found;
    while (*where != '\0' && (*value == '{' || *value == '[')) {
        const bool is_index = *where == '[';
        where += is_index || *where == '.';
        const size_t length = strcspn(where, ".[]");
        const char *next = is_index ? find_element(value, strtol(where, NULL, 10))
                                    : find_key(value, where, length);
        if (next == NULL) {
            break;
        }
        found = next;
        value = is_index ? next : skip_space(skip_space(skip_string(next)) + 1);
        where += length + is_index;
    }
    long line = 1;
    for (const char *at = text; at < found; at++) {
        line += *at == '\n';
    }
    return line;
}

dpr_status_t dpr_json_fail(const dpr_json_source_t *source, const char *where, const char *format,
                           ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return dpr_fail(DPR_ERR_DATA, "%s:%ld: %s%s%s", source->name, find_line(source->text, where),
                    where, *where != '\0' ? ": " : "", message);
}

dpr_json_path_t dpr_json_key(const char *where, const char *key)
{
    dpr_json_path_t path;
    snprintf(path.text, sizeof path.text, "%s%s%s", where, *where != '\0' ? "." : "", key);
    return path;
}

dpr_json_path_t dpr_json_index(const char *where, size_t index)
{
    dpr_json_path_t path;
    snprintf(path.text, sizeof path.text, "%s[%zu]", where, index);
    return path;
}

/* ---- Values ---- */

/* Whether `key` is one of the names in "F, I, W". */
static bool is_allowed(const char *key, const char *allowed)
{
    const size_t length = strlen(key);
    const char *at = allowed;
    for (;;) {
        const size_t name_length = strcspn(at, ",");
        if (name_length == length && memcmp(at, key, length) == 0) {
            return true;
        }
        if (at[name_length] == '\0') {
            return false;
        }
        at += name_length + strlen(", ");
    }
}

dpr_status_t dpr_json_check_object(const dpr_json_source_t *source, const char *where,
                                   json_t *value, const char *allowed)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value)) {
        return dpr_json_fail(source, where, "expected an object of %s", allowed);
    }
    json_object_foreach(value, key, member)
    {
        if (!is_allowed(key, allowed)) {
            return dpr_json_fail(source, dpr_json_key(where, key).text, "unknown key; expected %s",
                                 allowed);
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_json_check_array(const dpr_json_source_t *source, const char *where,
                                  const json_t *value, size_t length)
{
    if (!json_is_array(value)) {
        return dpr_json_fail(source, where, "expected an array");
    }
    if (length > 0 && json_array_size(value) != length) {
        return dpr_json_fail(source, where, "%zu entries, expected %zu", json_array_size(value),
                             length);
    }
    return DPR_OK;
}

dpr_status_t dpr_json_number(const dpr_json_source_t *source, const char *where,
                             const json_t *value, double *out)
{
    if (!json_is_number(value) || json_number_value(value) < 0.0) {
        return dpr_json_fail(source, where, "expected a number of at least 0");
    }
    *out = json_number_value(value);
    return DPR_OK;
}

dpr_status_t dpr_json_integer(const dpr_json_source_t *source, const char *where,
                              const json_t *object, const char *key, int least, int most, int *out)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL) {
        return dpr_json_fail(source, where, "'%s' is missing", key);
    }
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most) {
        return dpr_json_fail(source, dpr_json_key(where, key).text,
                             "expected a whole number from %d to %d", least, most);
    }
    *out = (int)json_integer_value(value);
    return DPR_OK;
}
