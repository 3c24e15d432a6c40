/*
 * The executor's own data: commands, and what they point to. Shared by executor.c and
 * executor_plan.c only.
 */
#ifndef DPR_RUNTIME_EXECUTOR_IMPL_H
#define DPR_RUNTIME_EXECUTOR_IMPL_H

#include <assert.h>

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

enum { DYING_MAX = 4 };

typedef struct command {
    int32_t node;
    role_t role;
    int32_t wait_begin; /* waits[wait_begin .. wait_begin + wait_count - 1] */
    int32_t wait_count;
    dpr_stream_t *stream;
    dpr_event_t *start;
    dpr_event_t *end;

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
    dpr_event_t **waits;
    double scheduler_cpu_sec;
    uint64_t commands_enqueued;
};

#endif
