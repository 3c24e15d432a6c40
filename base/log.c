/* The sink, and the per-thread capture that stands in for it. */
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_MAX = 8192 };

static dpr_log_sink_fn_t process_sink;
static void *process_sink_user;
static _Thread_local dpr_log_capture_t *thread_capture;

void dpr_log_set_sink(dpr_log_sink_fn_t sink, void *user)
{
    process_sink = sink;
    process_sink_user = user;
}

static void capture_append(dpr_log_capture_t *capture, const char *message)
{
    const int written = snprintf(capture->buffer + capture->used, capture->size - capture->used,
                                 "%s%s", capture->used > 0 ? "\n" : "", message);
    const size_t room = capture->size - capture->used - 1;
    capture->used += (size_t)written < room ? (size_t)written : room;
}

static void log_va(dpr_log_level_t level, const char *format, va_list args)
{
    if (thread_capture == NULL && process_sink == NULL) {
        return;
    }
    char message[MESSAGE_MAX];
    vsnprintf(message, sizeof message, format, args);
    if (thread_capture != NULL) {
        capture_append(thread_capture, message);
    } else {
        process_sink(process_sink_user, level, message);
    }
}

void dpr_log(dpr_log_level_t level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_va(level, format, args);
    va_end(args);
}

dpr_status_t dpr_fail(dpr_status_t status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_va(DPR_LOG_ERROR, format, args);
    va_end(args);
    return status;
}

void dpr_log_capture_begin(dpr_log_capture_t *capture, char *buffer, size_t size)
{
    assert(size > 0);
    buffer[0] = '\0';
    *capture = (dpr_log_capture_t){.buffer = buffer, .size = size, .outer = thread_capture};
    thread_capture = capture;
}

void dpr_log_capture_end(dpr_log_capture_t *capture)
{
    assert(thread_capture == capture);
    thread_capture = capture->outer;
}
