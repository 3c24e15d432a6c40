/*
 * Reading JSON so that every complaint names the file, the line and the key. On jansson, which
 * parses but keeps no positions: where a message needs a line, the text is walked once more.
 *
 * `where` is the path of a value from the top: "", "link", "stages[3].F".
 */
#ifndef DPR_RUNTIME_JSON_READER_H
#define DPR_RUNTIME_JSON_READER_H

#include <jansson.h>
#include <stddef.h>

#include "base/log.h"

/* Borrowed for as long as it is read from. `text` is terminated. */
typedef struct dpr_json_source {
    const char *name; /* the file's, for messages */
    const char *text;
} dpr_json_source_t;

/* A path one step longer than `where`; what is too long is cut. */
typedef struct dpr_json_path {
    char text[128];
} dpr_json_path_t;
dpr_json_path_t dpr_json_key(const char *where, const char *key);
dpr_json_path_t dpr_json_index(const char *where, size_t index);

/*
 * Reads the whole file into a terminated text (release with free()). Errors: DPR_ERR_IO,
 * DPR_ERR_MEMORY, and DPR_ERR_PARSE where it holds a zero byte.
 */
dpr_status_t dpr_json_read_file(const char *path, char **text);

/* Parses the text; release *root with json_decref. Errors: DPR_ERR_PARSE, also for a key given
 * twice. */
dpr_status_t dpr_json_parse(const dpr_json_source_t *source, json_t **root);

/* Logs "file:line: where: message" and returns DPR_ERR_DATA. The line is that of the value at
 * `where`, or of the innermost value around it that is there. */
dpr_status_t dpr_json_fail(const dpr_json_source_t *source, const char *where, const char *format,
                           ...) DPR_PRINTF_LIKE(3, 4);

/* What follows checks and reads the value at `where`. Errors: DPR_ERR_DATA, by dpr_json_fail. */

/* An object with no other keys than those in `allowed`: "F, I, W". */
dpr_status_t dpr_json_check_object(const dpr_json_source_t *source, const char *where,
                                   json_t *value, const char *allowed);

/* An array; of `length` entries unless that is 0. */
dpr_status_t dpr_json_check_array(const dpr_json_source_t *source, const char *where,
                                  const json_t *value, size_t length);

/* A finite number of at least 0. */
dpr_status_t dpr_json_number(const dpr_json_source_t *source, const char *where,
                             const json_t *value, double *out);

/* The member `key` of an object: a whole number from `least` to `most`; it must be there. */
dpr_status_t dpr_json_integer(const dpr_json_source_t *source, const char *where,
                              const json_t *object, const char *key, int least, int most, int *out);

#endif
