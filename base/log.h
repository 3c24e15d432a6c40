/*
 * Logging. The library never prints: a message goes to the sink that a main installed, or, on a
 * thread that captures, into that thread's buffer. With neither it is dropped.
 *
 * Messages say what failed, on what, with which value, and what to do. They may hold several lines
 * (a counterexample); they carry no trailing newline.
 */
#ifndef DPR_BASE_LOG_H
#define DPR_BASE_LOG_H

#include <stddef.h>

#include "base/status.h"

typedef enum dpr_log_level {
    DPR_LOG_ERROR,
    DPR_LOG_WARNING,
    DPR_LOG_INFO,
    DPR_LOG_DEBUG,
} dpr_log_level_t;

/* Called with one whole message; must be safe to call from any thread. `user` is the one installed.
 */
typedef void (*dpr_log_sink_fn_t)(void *user, dpr_log_level_t level, const char *message);

/* Installs the process-wide sink; NULL drops messages. Call before other threads start. */
void dpr_log_set_sink(dpr_log_sink_fn_t sink, void *user);

#define DPR_PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

void dpr_log(dpr_log_level_t level, const char *format, ...) DPR_PRINTF_LIKE(2, 3);

/* Logs an error and returns `status`, so that a check reads `return dpr_fail(...)`. */
dpr_status_t dpr_fail(dpr_status_t status, const char *format, ...) DPR_PRINTF_LIKE(2, 3);

/*
 * Until the matching end, this thread's messages are appended to `buffer` (always terminated, one
 * per line, cut at `size`) instead of going to the sink. Captures nest; each end restores the
 * previous. For callers that try something which may be refused: a search, a test.
 */
typedef struct dpr_log_capture {
    char *buffer;
    size_t size;
    size_t used;
    struct dpr_log_capture *outer;
} dpr_log_capture_t;

void dpr_log_capture_begin(dpr_log_capture_t *capture, char *buffer, size_t size);
void dpr_log_capture_end(dpr_log_capture_t *capture);

#endif
