/* Channels of dualpipe_bench p2p: opened, filled, timed and checked. */
#include "apps/bench_lines.h"

#include <math.h>

#include "apps/bench_plain.h"
#include "base/log.h"

/* ---- Channels ---- */

static bool is_sender(const bench_lines_t *lines, const bench_line_t *line)
{
    return line->source == lines->self->rank;
}

static bool is_end(const bench_lines_t *lines, const bench_line_t *line)
{
    return is_sender(lines, line) || line->destination == lines->self->rank;
}

static char pattern_at(const bench_line_t *line, size_t i)
{
    return (char)(i * 7 + (size_t)line->source * 3 + (size_t)line->destination + 1);
}

static dpr_status_t line_fill(bench_lines_t *lines, bench_line_t *line)
{
    void *memory;
    DPR_TRY(
        dpr_device_alloc(lines->machine->device, DPR_MEMORY_DEVICE, lines->most_bytes, &memory));
    line->memory = memory;
    for (size_t i = 0; i < lines->most_bytes; i++) {
        lines->host[i] = is_sender(lines, line) ? pattern_at(line, i) : 0;
    }
    DPR_TRY(dpr_stream_copy(line->stream, line->memory, lines->host, lines->most_bytes));
    return dpr_stream_synchronize(line->stream);
}

dpr_status_t bench_line_open(bench_lines_t *lines, bench_line_t *line)
{
    dpr_device_t *device = lines->machine->device;
    DPR_TRY(dpr_channel_open(lines->machine->comm, line->source, line->destination,
                             lines->most_bytes, &line->channel));
    if (!is_end(lines, line)) {
        return DPR_OK;
    }
    DPR_TRY(
        dpr_stream_create(device, is_sender(lines, line) ? "send" : "receive", 1, &line->stream));
    DPR_TRY(dpr_event_create(device, &line->begin));
    DPR_TRY(dpr_event_create(device, &line->end));
    return line_fill(lines, line);
}

void bench_line_close(bench_lines_t *lines, bench_line_t *line)
{
    dpr_channel_close(line->channel);
    dpr_stream_destroy(line->stream);
    dpr_event_destroy(line->begin);
    dpr_event_destroy(line->end);
    if (line->memory != NULL) {
        dpr_device_free(lines->machine->device, DPR_MEMORY_DEVICE, line->memory);
    }
}

static dpr_status_t move_on(bench_lines_t *lines, bench_line_t *line, size_t bytes,
                            dpr_stream_t *stream)
{
    if (!is_end(lines, line)) {
        return DPR_OK;
    }
    return is_sender(lines, line)
               ? dpr_channel_send(line->channel, line->memory, bytes, 0.0, stream)
               : dpr_channel_recv(line->channel, line->memory, bytes, 0.0, stream);
}

/* What arrived is the sender's pattern; what is received next must be so again. */
dpr_status_t bench_line_check(bench_lines_t *lines, bench_line_t *line, size_t bytes)
{
    if (!is_end(lines, line) || is_sender(lines, line)) {
        return DPR_OK;
    }
    DPR_TRY(dpr_stream_copy(line->stream, lines->host, line->memory, bytes));
    DPR_TRY(dpr_stream_fill(line->stream, line->memory, 0, bytes));
    DPR_TRY(dpr_stream_synchronize(line->stream));
    for (size_t i = 0; i < bytes; i++) {
        if (lines->host[i] != pattern_at(line, i)) {
            return dpr_fail(DPR_ERR_MISMATCH,
                            "a message of %zu bytes from rank %d to rank %d: byte %zu is wrong",
                            bytes, line->source, line->destination, i);
        }
    }
    return DPR_OK;
}

/* ---- Measurements ---- */

/* Enqueues `count` messages after a first one, between the line's events. */
static dpr_status_t enqueue(bench_lines_t *lines, bench_line_t *line, size_t bytes, int count)
{
    if (!is_end(lines, line)) {
        return DPR_OK;
    }
    DPR_TRY(move_on(lines, line, bytes, line->stream));
    DPR_TRY(dpr_event_record(line->begin, line->stream));
    for (int i = 0; i < count; i++) {
        DPR_TRY(move_on(lines, line, bytes, line->stream));
    }
    return dpr_event_record(line->end, line->stream);
}

/* Seconds a message of one line, at the receiver; 0 elsewhere. Waits for the line. */
static dpr_status_t finish(bench_lines_t *lines, bench_line_t *line, int count, double *sec)
{
    *sec = 0.0;
    if (is_end(lines, line)) {
        DPR_TRY(dpr_stream_synchronize(line->stream));
    }
    if (is_end(lines, line) && !is_sender(lines, line)) {
        *sec = (dpr_event_sec(line->end) - dpr_event_sec(line->begin)) / count;
    }
    return DPR_OK;
}

/* Messages on `count_of_lines` lines at once: the slowest line's seconds a message. */
dpr_status_t bench_lines_play(bench_lines_t *lines, bench_line_t *line, int count_of_lines,
                              size_t bytes, double *secs, double *most)
{
    const int count = bench_messages_of(lines->messages, bytes);
    double slowest = 0.0;
    DPR_TRY(dpr_comm_barrier(lines->self->comm));
    for (int i = 0; i < count_of_lines; i++) {
        DPR_TRY(enqueue(lines, &line[i], bytes, count));
    }
    for (int i = 0; i < count_of_lines; i++) {
        DPR_TRY(finish(lines, &line[i], count, &secs[i]));
        slowest = fmax(slowest, secs[i]);
    }
    return bench_most_over_ranks(lines->self, slowest, most);
}

/* To and fro on one stream, so that each message waits for the one before. */
dpr_status_t bench_lines_play_latency(bench_lines_t *lines, bench_line_t *there, bench_line_t *back,
                                      size_t bytes, double *sec)
{
    const int count = bench_messages_of(lines->messages, bytes);
    double mine = 0.0;
    DPR_TRY(dpr_comm_barrier(lines->self->comm));
    if (is_end(lines, there)) {
        dpr_stream_t *stream = there->stream;
        bench_line_t *const first = is_sender(lines, there) ? there : back;
        bench_line_t *const second = is_sender(lines, there) ? back : there;
        const bool leads = is_sender(lines, there);
        for (int i = -1; i < count; i++) {
            DPR_TRY(move_on(lines, leads ? first : second, bytes, stream));
            DPR_TRY(move_on(lines, leads ? second : first, bytes, stream));
            if (i < 0) {
                DPR_TRY(dpr_event_record(there->begin, stream));
            }
        }
        DPR_TRY(dpr_event_record(there->end, stream));
        DPR_TRY(dpr_stream_synchronize(stream));
        mine = (dpr_event_sec(there->end) - dpr_event_sec(there->begin)) / (2.0 * count);
    }
    return bench_most_over_ranks(lines->self, mine, sec);
}
