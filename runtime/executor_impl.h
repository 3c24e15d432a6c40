/*
 * The executor's own data: commands, and what they point to. Shared by executor.c,
 * executor_plan.c and executor_watch.c only.
 */
#ifndef DPR_RUNTIME_EXECUTOR_IMPL_H
#define DPR_RUNTIME_EXECUTOR_IMPL_H

#include <assert.h>
#include <stdatomic.h>

#include "runtime/executor.h"

typedef enum role {
    ROLE_COMPUTE,
    ROLE_SEND,
    ROLE_RECV,
} role_t;

typedef struct dying_buffer {
    void *memory;
    size_t bytes;
} dying_buffer_t;

enum { DYING_MAX = 4, NAME_BYTES = 64 };

/* An event wait of a command, with its number (executor.h). */
typedef struct wait {
    dpr_event_t *event;
    int32_t source; /* the command whose end it is */
    int32_t number;
} wait_t;

/* A stream other than compute's, as dpr_executor_enqueue_joined forks and joins it. */
typedef struct branch {
    dpr_stream_t *stream;
    dpr_event_t *joined;
    int32_t command;     /* its first */
    int32_t fork_number; /* 0: its first command waits for one of another stream, which forks it */
    int32_t join_number;
} branch_t;

typedef struct command {
    int32_t node;
    role_t role;
    int32_t wait_begin; /* waits[wait_begin .. wait_begin + wait_count - 1] */
    int32_t wait_count;
    dpr_stream_t *stream;
    dpr_event_t *start;
    dpr_event_t *end;
    dpr_event_t *joined; /* F&B on two streams: the end of the backward; else NULL */
    int32_t fork_number; /* of its waits; the join's is the next */
    double enqueued_sec; /* of the latest step; NAN under a virtual clock */
    char name[NAME_BYTES];

    dpr_comm_channel_t *channel; /* transfers */
    void *message;

    dpr_stage_t *stage; /* compute: of the action; FB: of its forward */
    dpr_stage_t *b_stage;
    dpr_stage_buffers_t buffers;
    dpr_stage_buffers_t b_buffers;

    int32_t dying_count; /* buffers to poison after the command */
    dying_buffer_t dying[DYING_MAX];
} command_t;

struct dpr_executor {
    dpr_executor_parts_t parts;
    size_t message_bytes;
    int32_t command_count;
    command_t *commands;
    wait_t *waits;
    int32_t wait_count; /* all numbers, also those of forks and joins */
    int32_t branch_count;
    branch_t *branches;
    dpr_event_t *forked;      /* the start of a joined step */
    _Atomic int32_t enqueued; /* commands of the step under way, for executor_watch.c */
    double scheduler_cpu_sec;
    uint64_t commands_enqueued;
};

#endif
