/*
 * Looks at an executor from outside: its waits, by number, and where the step under way stands.
 * Nothing here changes the executor; what another thread may call reads atomics and events alone.
 */
#include <math.h>
#include <stdio.h>

#include "runtime/executor_impl.h"

/* ---- Waits ---- */

int32_t dpr_executor_wait_count(const dpr_executor_t *executor)
{
    return executor->wait_count;
}

static dpr_executor_wait_t wait_of(const dpr_executor_t *executor, dpr_executor_wait_kind_t kind,
                                   int32_t command, int32_t source)
{
    return (dpr_executor_wait_t){
        .kind = kind,
        .command = command,
        .command_node = executor->commands[command].node,
        .source = source,
        .source_node = source >= 0 ? executor->commands[source].node : -1,
    };
}

static bool find_branch_wait(const dpr_executor_t *executor, int32_t number,
                             dpr_executor_wait_t *wait)
{
    for (int32_t b = 0; b < executor->branch_count; b++) {
        const branch_t *branch = &executor->branches[b];
        if (number == branch->fork_number || number == branch->join_number) {
            *wait = wait_of(executor,
                            number == branch->fork_number ? DPR_EXECUTOR_WAIT_ALL_FORK
                                                          : DPR_EXECUTOR_WAIT_ALL_JOIN,
                            branch->command, -1);
            return true;
        }
    }
    return false;
}

static bool find_command_wait(const dpr_executor_t *executor, int32_t i, int32_t number,
                              dpr_executor_wait_t *wait)
{
    const command_t *command = &executor->commands[i];
    for (int32_t w = command->wait_begin; w < command->wait_begin + command->wait_count; w++) {
        if (executor->waits[w].number == number) {
            *wait = wait_of(executor, DPR_EXECUTOR_WAIT_EDGE, i, executor->waits[w].source);
            return true;
        }
    }
    if (command->joined != NULL &&
        (number == command->fork_number || number == command->fork_number + 1)) {
        *wait = wait_of(executor,
                        number == command->fork_number ? DPR_EXECUTOR_WAIT_FORK
                                                       : DPR_EXECUTOR_WAIT_JOIN,
                        i, -1);
        return true;
    }
    return false;
}

void dpr_executor_wait(const dpr_executor_t *executor, int32_t number, dpr_executor_wait_t *wait)
{
    assert(number >= 1 && number <= executor->wait_count);
    bool found = find_branch_wait(executor, number, wait);
    for (int32_t i = 0; i < executor->command_count && !found; i++) {
        found = find_command_wait(executor, i, number, wait);
    }
    assert(found);
}

/* ---- Where a step stands ---- */

typedef struct text {
    char *to;
    size_t size;
    size_t used;
    int parts;
} text_t;

/* The first part stands with `first`, later ones after `later`. */
static void add(text_t *text, const char *first, const char *later, const char *name)
{
    const size_t room = text->used < text->size ? text->size - text->used : 0;
    const int length = snprintf(room > 0 ? text->to + text->used : NULL, room, "%s %s",
                                text->parts > 0 ? later : first, name);
    text->used += length > 0 ? (size_t)length : 0;
    text->parts++;
}

static bool reached(const dpr_event_t *event, double since_sec)
{
    return dpr_event_query(event) && (since_sec == -INFINITY || dpr_event_sec(event) >= since_sec);
}

/* The stream's first command that has not ended, of the `enqueued` first; NULL where all have. */
static const command_t *first_under_way(const dpr_executor_t *executor, const dpr_stream_t *stream,
                                        int32_t enqueued, double since_sec)
{
    for (int32_t i = 0; i < enqueued; i++) {
        const command_t *command = &executor->commands[i];
        if (command->stream == stream && !reached(command->end, since_sec)) {
            return command;
        }
    }
    return NULL;
}

/* Transfers that have begun come first: they are what everything else waits for. */
static void describe_transfers(const dpr_executor_t *executor, int32_t enqueued, double since_sec,
                               bool begun, text_t *text)
{
    for (int32_t b = 0; b < executor->branch_count; b++) {
        const command_t *command =
            first_under_way(executor, executor->branches[b].stream, enqueued, since_sec);
        if (command != NULL && reached(command->start, since_sec) == begun) {
            add(text, begun ? "waits in" : "not begun:", begun ? " and in" : "; not begun:",
                command->name);
        }
    }
}

const char *dpr_executor_enqueuing(const dpr_executor_t *executor)
{
    const int32_t enqueued = atomic_load_explicit(&executor->enqueued, memory_order_acquire);
    return enqueued < executor->command_count ? executor->commands[enqueued].name : NULL;
}

int dpr_executor_describe_waits(const dpr_executor_t *executor, double since_sec, char *text,
                                size_t size)
{
    const int32_t enqueued = atomic_load_explicit(&executor->enqueued, memory_order_acquire);
    const command_t *compute =
        first_under_way(executor, executor->parts.compute, enqueued, since_sec);
    text_t out = {.to = text, .size = size};
    if (size > 0) {
        text[0] = '\0';
    }
    describe_transfers(executor, enqueued, since_sec, true, &out);
    if (compute != NULL) {
        const bool begun = reached(compute->start, since_sec);
        add(&out, begun ? "compute is in" : "compute waits for",
            begun ? "; compute is in" : "; compute waits for", compute->name);
    }
    describe_transfers(executor, enqueued, since_sec, false, &out);
    if (enqueued < executor->command_count) {
        add(&out, "the scheduler is enqueuing", "; the scheduler is enqueuing",
            executor->commands[enqueued].name);
    }
    return out.parts;
}
