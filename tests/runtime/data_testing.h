/*
 * What the tests of data share: a scratch folder of their own, files in it, IDX headers, and the
 * text of the errors that they provoke.
 */
#ifndef DPR_TESTS_RUNTIME_DATA_TESTING_H
#define DPR_TESTS_RUNTIME_DATA_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"

#define assert_ok(expr) assert_int_equal((expr), DPR_OK)

/* A new folder, and its removal with all the files in it. As cmocka's setup and teardown: *state is
 * the folder's path. */
int make_folder(void **state);
int remove_folder(void **state);

/* folder/name; valid until the next call but three. */
const char *path_in(const char *folder, const char *name);

/* Writes a file, as it is or gzip-compressed; returns its path, as path_in does. */
const char *write_file(const char *folder, const char *name, const void *bytes, size_t count);
const char *write_gzip(const char *folder, const char *name, const void *bytes, size_t count);

/* An IDX file's bytes: type 0x08, these extents (0 ends them), then `data`. Returns the length. */
size_t build_idx(uint8_t *to, const uint32_t *extents, const uint8_t *data, size_t count);

/* Runs `expr` with its messages captured, and checks its status and that they hold `text`. */
#define assert_fails(expr, expected_status, text)                                                  \
    do {                                                                                           \
        char captured_[2048];                                                                      \
        dpr_log_capture_t capture_;                                                                \
        dpr_log_capture_begin(&capture_, captured_, sizeof captured_);                             \
        const dpr_status_t status_ = (expr);                                                       \
        dpr_log_capture_end(&capture_);                                                            \
        assert_int_equal(status_, expected_status);                                                \
        assert_says(captured_, text);                                                              \
    } while (0)
void assert_says(const char *message, const char *text);

#endif
