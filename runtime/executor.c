/* Plays one rank's commands; how they are made is in executor_plan.c, and how one sees where they
 * stand in executor_watch.c. */
#include <math.h>
#include <time.h>

#include "runtime/executor_impl.h"

/* Waiting counts where it keeps the core busy: CUDA's driver does so in a launch that finds its
 * queue full. */
static double thread_cpu_sec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* All event waits are made here, so that a test can leave one out. */
static dpr_status_t wait_for(const dpr_executor_t *executor, dpr_stream_t *stream,
                             dpr_event_t *event, int32_t number)
{
    return number == executor->parts.drop_wait ? DPR_OK : dpr_stream_wait_event(stream, event);
}

/* The cell's buffers with what the batch adds for this step. */
static dpr_stage_buffers_t with_batch(const dpr_stage_buffers_t *fixed,
                                      const dpr_executor_batch_t *batch, int32_t micro_batch)
{
    dpr_stage_buffers_t buffers = *fixed;
    const size_t m = (size_t)micro_batch;
    if (batch->inputs != NULL) {
        buffers.input = batch->inputs + m * batch->input_stride;
    }
    if (batch->labels != NULL) {
        buffers.labels = batch->labels + m * batch->label_stride;
    }
    if (batch->results != NULL) {
        buffers.result = batch->results + 2 * m;
    }
    return buffers;
}

/* What the command's own waits hold back, they hold back for the second stream, too: it waits for
 * the command's start, which stands after them. */
static dpr_status_t enqueue_forward_backward(const dpr_executor_t *executor,
                                             const command_t *command,
                                             const dpr_executor_batch_t *batch)
{
    const dpr_node_t *node = &executor->parts.graph->nodes[command->node];
    const dpr_stage_buffers_t f_buffers = with_batch(&command->buffers, batch, node->micro_batch);
    const dpr_stage_buffers_t b_buffers =
        with_batch(&command->b_buffers, batch, node->b_micro_batch);
    dpr_stream_t *second = executor->parts.second;
    if (second != NULL) {
        DPR_TRY(wait_for(executor, second, command->start, command->fork_number));
    }
    DPR_TRY(dpr_stage_forward_backward(command->stage, &f_buffers, command->b_stage, &b_buffers,
                                       command->stream, second, batch->loss_scale));
    if (second == NULL) {
        return DPR_OK;
    }
    DPR_TRY(dpr_event_record(command->joined, second));
    return wait_for(executor, command->stream, command->joined, command->fork_number + 1);
}

static dpr_status_t enqueue_compute(const dpr_executor_t *executor, const command_t *command,
                                    const dpr_executor_batch_t *batch)
{
    const dpr_node_t *node = &executor->parts.graph->nodes[command->node];
    dpr_stream_t *stream = command->stream;
    const dpr_stage_buffers_t main_buffers =
        with_batch(&command->buffers, batch, node->micro_batch);
    switch ((dpr_node_kind_t)node->kind) {
    case DPR_NODE_F:
        return dpr_stage_forward(command->stage, stream, &main_buffers, batch->loss_scale);
    case DPR_NODE_B:
        return dpr_stage_backward(command->stage, stream, &main_buffers);
    case DPR_NODE_I:
        return dpr_stage_backward_input(command->stage, stream, &main_buffers);
    case DPR_NODE_W:
        return dpr_stage_backward_weight(command->stage, stream, &main_buffers);
    case DPR_NODE_FB:
        return enqueue_forward_backward(executor, command, batch);
    case DPR_NODE_SEND_ACT:
    case DPR_NODE_SEND_GRAD:
        break;
    }
    assert(!"a transfer is not a compute op");
    return DPR_ERR_INVALID;
}

static dpr_status_t enqueue_work(const dpr_executor_t *executor, const command_t *command,
                                 const dpr_executor_batch_t *batch)
{
    const double cost = executor->parts.cost[command->node];
    switch (command->role) {
    case ROLE_COMPUTE:
        DPR_TRY(enqueue_compute(executor, command, batch));
        return dpr_stream_charge(command->stream, cost);
    case ROLE_SEND:
        return dpr_channel_send(command->channel, command->message, executor->message_bytes, cost,
                                command->stream);
    case ROLE_RECV:
        return dpr_channel_recv(command->channel, command->message, executor->message_bytes, cost,
                                command->stream);
    }
    return DPR_OK;
}

/* Under a virtual clock the host takes no time. */
static double host_sec(const dpr_executor_t *executor)
{
    return dpr_device_clock(executor->parts.device) == DPR_CLOCK_WALL
               ? dpr_device_wall_sec(executor->parts.device)
               : NAN;
}

static dpr_status_t enqueue_command(const dpr_executor_t *executor, const command_t *command,
                                    const dpr_executor_batch_t *batch)
{
    for (int32_t i = 0; i < command->wait_count; i++) {
        const wait_t *wait = &executor->waits[command->wait_begin + i];
        DPR_TRY(wait_for(executor, command->stream, wait->event, wait->number));
    }
    DPR_TRY(dpr_event_record(command->start, command->stream));
    DPR_TRY(enqueue_work(executor, command, batch));
    for (int32_t i = 0; i < command->dying_count; i++) {
        DPR_TRY(dpr_stream_fill(command->stream, command->dying[i].memory, 0xff,
                                command->dying[i].bytes));
    }
    return dpr_event_record(command->end, command->stream);
}

dpr_status_t dpr_executor_enqueue(dpr_executor_t *executor, const dpr_executor_batch_t *batch)
{
    const double begin = thread_cpu_sec();
    for (int32_t i = 0; i < executor->command_count; i++) {
        command_t *command = &executor->commands[i];
        atomic_store_explicit(&executor->enqueued, i, memory_order_release);
        dpr_device_range_begin(executor->parts.device, command->name);
        command->enqueued_sec = host_sec(executor);
        const dpr_status_t status = enqueue_command(executor, command, batch);
        dpr_device_range_end(executor->parts.device);
        DPR_TRY(status);
    }
    atomic_store_explicit(&executor->enqueued, executor->command_count, memory_order_release);
    executor->scheduler_cpu_sec += thread_cpu_sec() - begin;
    executor->commands_enqueued += (uint64_t)executor->command_count;
    return DPR_OK;
}

dpr_status_t dpr_executor_enqueue_joined(dpr_executor_t *executor,
                                         const dpr_executor_batch_t *batch)
{
    DPR_TRY(dpr_event_record(executor->forked, executor->parts.compute));
    for (int32_t b = 0; b < executor->branch_count; b++) {
        const branch_t *branch = &executor->branches[b];
        if (branch->fork_number > 0) {
            DPR_TRY(wait_for(executor, branch->stream, executor->forked, branch->fork_number));
        }
    }
    DPR_TRY(dpr_executor_enqueue(executor, batch));
    for (int32_t b = 0; b < executor->branch_count; b++) {
        const branch_t *branch = &executor->branches[b];
        DPR_TRY(dpr_event_record(branch->joined, branch->stream));
        DPR_TRY(wait_for(executor, executor->parts.compute, branch->joined, branch->join_number));
    }
    return DPR_OK;
}

void dpr_executor_playing(dpr_executor_t *executor)
{
    const double now_sec = host_sec(executor);
    for (int32_t i = 0; i < executor->command_count; i++) {
        executor->commands[i].enqueued_sec = now_sec;
    }
}

int32_t dpr_executor_command_count(const dpr_executor_t *executor)
{
    return executor->command_count;
}

const char *dpr_executor_command_name(const dpr_executor_t *executor, int32_t command)
{
    return executor->commands[command].name;
}

void dpr_executor_collect(const dpr_executor_t *executor, dpr_record_t *records)
{
    for (int32_t i = 0; i < executor->command_count; i++) {
        const command_t *command = &executor->commands[i];
        records[i] = (dpr_record_t){
            .node = command->node,
            .is_receiver = command->role == ROLE_RECV,
            .ready_sec = dpr_event_sec(command->start),
            .end_sec = dpr_event_sec(command->end),
            .enqueued_sec = command->enqueued_sec,
        };
    }
}

void dpr_timeline_add(dpr_timeline_t *timeline, const dpr_record_t *records, int32_t count,
                      double offset_sec)
{
    for (int32_t i = 0; i < count; i++) {
        const dpr_record_t *record = &records[i];
        const int32_t node = record->node;
        const double ready = record->ready_sec + offset_sec;
        const bool is_transfer = dpr_node_is_transfer(&timeline->graph->nodes[node]);
        if (!is_transfer || record->is_receiver) {
            timeline->receiver_ready[node] = ready;
            timeline->end[node] = record->end_sec + offset_sec;
        }
        if (!is_transfer || !record->is_receiver) {
            timeline->sender_ready[node] = ready;
        }
    }
}

void dpr_timeline_join(dpr_timeline_t *timeline)
{
    for (int32_t node = 0; node < timeline->graph->node_count; node++) {
        const double sender = timeline->sender_ready[node];
        const double receiver = timeline->receiver_ready[node];
        timeline->start[node] = sender > receiver ? sender : receiver;
    }
}

void dpr_executor_scheduler_cost(const dpr_executor_t *executor, double *cpu_sec,
                                 uint64_t *commands)
{
    *cpu_sec = executor->scheduler_cpu_sec;
    *commands = executor->commands_enqueued;
}
