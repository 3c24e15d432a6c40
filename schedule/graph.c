/* Lowers a program: nodes, cells, channels, and how many slots each channel has. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/graph_impl.h"

static void place_action(dpr_graph_t *graph, int32_t rank, int32_t index, dpr_action_t action)
{
    dpr_node_t *node = &graph->nodes[index];
    *node = (dpr_node_t){.kind = (uint8_t)action.kind,
                         .rank = rank,
                         .peer = -1,
                         .channel = -1,
                         .stage = action.stage,
                         .micro_batch = action.micro_batch,
                         .b_stage = action.b_stage,
                         .b_micro_batch = action.b_micro_batch};
    node_part_t parts[2];
    const int count = node_parts(node, parts);
    for (int i = 0; i < count; i++) {
        dpr_cell_t *cell = graph_cell(graph, parts[i].stage, parts[i].micro_batch);
        switch (parts[i].kind) {
        case DPR_NODE_F:
            cell->rank = rank;
            cell->forward = index;
            break;
        case DPR_NODE_W:
            cell->weight = index;
            break;
        case DPR_NODE_I:
            cell->backward = index;
            break;
        default:
            cell->backward = cell->weight = index;
            break;
        }
    }
}

static void place_actions(dpr_graph_t *graph, const dpr_program_t *program)
{
    const size_t cells = (size_t)graph->stages * (size_t)graph->micro_batches;
    for (size_t i = 0; i < cells; i++) {
        dpr_cell_t *cell = &graph->cells[i];
        *cell = (dpr_cell_t){-1, -1, -1, -1, -1, -1, {{0, 0}}};
        for (int b = 0; b < DPR_BUFFER_KINDS; b++) {
            cell->buffer[b] = (dpr_buffer_t){-1, -1};
        }
    }
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        graph->rank_begin[rank + 1] = (int32_t)program->begin[rank + 1];
        for (int32_t i = graph->rank_begin[rank]; i < graph->rank_begin[rank + 1]; i++) {
            place_action(graph, rank, i, program->actions[i]);
        }
    }
}

/* The message that a part of a compute op sends; false where its output does not leave the rank. */
static bool part_message(const dpr_graph_t *graph, int32_t rank, const node_part_t *part,
                         dpr_node_t *message)
{
    const bool is_act = part->kind == DPR_NODE_F;
    const int32_t consumer = is_act ? part->stage + 1 : part->stage - 1;
    if (part->kind == DPR_NODE_W || consumer < 0 || consumer == graph->stages) {
        return false;
    }
    const int32_t peer = graph_cell(graph, consumer, part->micro_batch)->rank;
    *message = (dpr_node_t){.kind = is_act ? DPR_NODE_SEND_ACT : DPR_NODE_SEND_GRAD,
                            .rank = rank,
                            .peer = peer,
                            .stage = part->stage,
                            .micro_batch = part->micro_batch,
                            .b_stage = -1,
                            .b_micro_batch = -1};
    return peer != rank;
}

/* Calls `visit` for every message that `rank` sends, in program order. */
typedef dpr_status_t (*visit_fn_t)(void *context, const dpr_node_t *message);

static dpr_status_t visit_messages(const dpr_graph_t *graph, int32_t rank, visit_fn_t visit,
                                   void *context)
{
    for (int32_t n = graph->rank_begin[rank]; n < graph->rank_begin[rank + 1]; n++) {
        node_part_t parts[2];
        const int count = node_parts(&graph->nodes[n], parts);
        for (int i = 0; i < count; i++) {
            dpr_node_t message;
            if (part_message(graph, rank, &parts[i], &message)) {
                DPR_TRY(visit(context, &message));
            }
        }
    }
    return DPR_OK;
}

/* Groups one sender's messages into channels: count by (receiver, kind), then place. */
typedef struct grouping {
    dpr_graph_t *graph;
    size_t channel_capacity;
    int32_t *slot_of; /* [2 * ranks]: channel of (receiver, kind), -1 for none */
    int32_t first_channel;
    int32_t transfers;
} grouping_t;

static size_t group_key(int32_t peer, int32_t kind)
{
    return 2 * (size_t)peer + (kind == DPR_NODE_SEND_GRAD ? 1 : 0);
}

static dpr_status_t count_message(void *context, const dpr_node_t *message)
{
    grouping_t *grouping = context;
    dpr_graph_t *graph = grouping->graph;
    int32_t *channel = &grouping->slot_of[group_key(message->peer, message->kind)];
    if (*channel < 0) {
        DPR_TRY(dpr_reserve(&graph->channels, &grouping->channel_capacity,
                            (size_t)graph->channel_count + 1, sizeof *graph->channels));
        *channel = graph->channel_count++;
        graph->channels[*channel] = (dpr_channel_t){
            .source = message->rank, .destination = message->peer, .kind = message->kind};
    }
    graph->channels[*channel].count++;
    return DPR_OK;
}

static dpr_status_t place_message(void *context, const dpr_node_t *message)
{
    grouping_t *grouping = context;
    dpr_graph_t *graph = grouping->graph;
    const int32_t index = grouping->slot_of[group_key(message->peer, message->kind)];
    dpr_channel_t *channel = &graph->channels[index];
    const int32_t at = channel->first + channel->count++;
    const int32_t node = graph->compute_count + at;
    graph->nodes[node] = *message;
    graph->nodes[node].channel = index;
    graph->send_messages[at] = graph->recv_messages[at] = node;
    dpr_cell_t *cell = graph_cell(graph, message->stage, message->micro_batch);
    *(message->kind == DPR_NODE_SEND_ACT ? &cell->send_act : &cell->send_grad) = node;
    return DPR_OK;
}

static int compare_channels(const void *a, const void *b)
{
    const dpr_channel_t *left = a;
    const dpr_channel_t *right = b;
    if (left->destination != right->destination) {
        return left->destination < right->destination ? -1 : 1;
    }
    return left->kind - right->kind;
}

/* Finds the channels of every sender and counts their messages. */
static dpr_status_t find_channels(grouping_t *grouping)
{
    dpr_graph_t *graph = grouping->graph;
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        const int32_t first = graph->channel_count;
        DPR_TRY(visit_messages(graph, rank, count_message, grouping));
        const size_t count = (size_t)(graph->channel_count - first);
        if (count > 0) {
            qsort(&graph->channels[first], count, sizeof *graph->channels, compare_channels);
        }
        for (int32_t c = first; c < graph->channel_count; c++) {
            dpr_channel_t *channel = &graph->channels[c];
            channel->first = grouping->transfers;
            grouping->transfers += channel->count;
            grouping->slot_of[group_key(channel->destination, channel->kind)] = -1;
        }
    }
    return DPR_OK;
}

static dpr_status_t place_messages(grouping_t *grouping)
{
    dpr_graph_t *graph = grouping->graph;
    const size_t transfers = (size_t)grouping->transfers;
    const size_t computes = (size_t)graph->compute_count;
    size_t capacity = computes;
    DPR_TRY(dpr_reserve(&graph->nodes, &capacity, computes + transfers, sizeof *graph->nodes));
    graph->node_count = graph->compute_count + grouping->transfers;
    DPR_TRY(dpr_calloc(transfers, sizeof(int32_t), &graph->send_messages));
    DPR_TRY(dpr_calloc(transfers, sizeof(int32_t), &graph->recv_messages));
    int32_t c = 0;
    for (int32_t rank = 0; rank < graph->ranks; rank++) {
        for (; c < graph->channel_count && graph->channels[c].source == rank; c++) {
            dpr_channel_t *channel = &graph->channels[c];
            channel->count = 0; /* counted again while placing */
            grouping->slot_of[group_key(channel->destination, channel->kind)] = c;
        }
        DPR_TRY(visit_messages(graph, rank, place_message, grouping));
    }
    return DPR_OK;
}

static dpr_status_t create_channels(dpr_graph_t *graph)
{
    grouping_t grouping = {.graph = graph};
    DPR_TRY(dpr_calloc(2 * (size_t)graph->ranks, sizeof(int32_t), &grouping.slot_of));
    memset(grouping.slot_of, -1, 2 * (size_t)graph->ranks * sizeof(int32_t));
    dpr_status_t status = find_channels(&grouping);
    if (status == DPR_OK) {
        status = place_messages(&grouping);
    }
    free(grouping.slot_of);
    return status;
}

/* The pools of the compute stream and of the channels, as yet without slots; and which of the
 * latter each cell's inputs and outputs are in. */
static dpr_status_t create_pools(dpr_graph_t *graph)
{
    const int32_t of_compute = DPR_POOL_KINDS * graph->ranks;
    graph->pool_count = of_compute + 2 * graph->channel_count;
    DPR_TRY(dpr_calloc((size_t)graph->pool_count, sizeof *graph->pools, &graph->pools));
    for (int32_t i = 0; i < of_compute; i++) {
        graph->pools[i] = (dpr_pool_t){
            .rank = i / DPR_POOL_KINDS, .kind = i % DPR_POOL_KINDS, .channel = -1, .slots = 0};
    }
    for (int32_t c = 0; c < graph->channel_count; c++) {
        dpr_channel_t *channel = &graph->channels[c];
        const bool is_act = channel->kind == DPR_NODE_SEND_ACT;
        const int32_t kind = is_act ? DPR_POOL_ACT : DPR_POOL_GRAD;
        channel->send_pool = of_compute + 2 * c;
        channel->recv_pool = channel->send_pool + 1;
        graph->pools[channel->send_pool] = (dpr_pool_t){channel->source, kind, c, 0};
        graph->pools[channel->recv_pool] = (dpr_pool_t){channel->destination, kind, c, 0};
        for (int32_t i = channel->first; i < channel->first + channel->count; i++) {
            const dpr_node_t *node = &graph->nodes[graph->send_messages[i]];
            graph_cell(graph, node->stage, node->micro_batch)
                ->buffer[is_act ? DPR_BUFFER_ACT_OUT : DPR_BUFFER_GRAD_OUT]
                .pool = channel->send_pool;
            graph_consumer(graph, node)
                ->buffer[is_act ? DPR_BUFFER_ACT_IN : DPR_BUFFER_GRAD_IN]
                .pool = channel->recv_pool;
        }
    }
    return DPR_OK;
}

static int32_t min_int32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void set_send_slots(dpr_graph_t *graph, int32_t slots)
{
    for (int32_t c = 0; c < graph->channel_count; c++) {
        graph->channels[c].send_slots = min_int32(slots, graph->channels[c].count);
    }
}

static dpr_status_t set_recv_slots(dpr_graph_t *graph, const dpr_graph_options_t *options)
{
    for (int32_t c = 0; c < graph->channel_count; c++) {
        dpr_channel_t *channel = &graph->channels[c];
        int32_t slots = options->recv_slots;
        if (slots == 0) {
            DPR_TRY(dpr_graph_least_recv_slots(graph, channel, &slots));
            slots = min_int32(options->recv_ahead, channel->count - slots) + slots;
        }
        channel->recv_slots = min_int32(slots, channel->count);
    }
    return DPR_OK;
}

static dpr_status_t try_send_slots(dpr_graph_t *graph, int32_t slots, int32_t *order, bool *acyclic)
{
    set_send_slots(graph, slots);
    DPR_TRY(dpr_graph_connect(graph));
    int32_t placed = 0;
    DPR_TRY(dpr_graph_sort(graph, order, &placed));
    *acyclic = placed == graph->node_count;
    return DPR_OK;
}

/*
 * Two send buffers let a rank produce one message while the one before leaves, which is what the
 * stream needs. A schedule whose sender runs further ahead than its receiver takes needs more, and
 * only the whole graph shows whether. The receive buffers cannot be why: see graph_channels.c.
 */
static dpr_status_t find_send_slots(dpr_graph_t *graph, int32_t *order, bool *acyclic)
{
    int32_t most = 0;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        most = graph->channels[c].count > most ? graph->channels[c].count : most;
    }
    enum { FIRST = 2 };
    DPR_TRY(try_send_slots(graph, FIRST, order, acyclic));
    if (*acyclic || most <= FIRST) {
        return DPR_OK;
    }
    DPR_TRY(try_send_slots(graph, most, order, acyclic));
    if (!*acyclic) {
        return try_send_slots(graph, FIRST, order, acyclic);
    }
    *acyclic = false;
    for (int32_t slots = 2 * FIRST; !*acyclic; slots *= 2) {
        DPR_TRY(try_send_slots(graph, slots, order, acyclic));
    }
    return DPR_OK;
}

static dpr_status_t connect_first(dpr_graph_t *graph, const dpr_graph_options_t *options,
                                  int32_t **order)
{
    *order = NULL;
    DPR_TRY(set_recv_slots(graph, options));
    if (options->send_slots > 0) {
        set_send_slots(graph, options->send_slots);
        return dpr_graph_connect(graph);
    }
    int32_t *found;
    DPR_TRY(dpr_calloc((size_t)graph->node_count, sizeof *found, &found));
    bool acyclic = false;
    const dpr_status_t status = find_send_slots(graph, found, &acyclic);
    if (status == DPR_OK && acyclic) {
        *order = found;
    } else {
        free(found);
    }
    return status;
}

static dpr_status_t lower_into(dpr_graph_t *graph, const dpr_program_t *program,
                               const dpr_graph_options_t *options, int32_t **order)
{
    const size_t computes = (size_t)graph->compute_count;
    const size_t cells = (size_t)graph->stages * (size_t)graph->micro_batches;
    DPR_TRY(dpr_calloc(computes, sizeof *graph->nodes, &graph->nodes));
    DPR_TRY(dpr_calloc((size_t)graph->ranks + 1, sizeof(int32_t), &graph->rank_begin));
    DPR_TRY(dpr_calloc(cells, sizeof *graph->cells, &graph->cells));
    place_actions(graph, program);
    DPR_TRY(create_channels(graph));
    DPR_TRY(dpr_graph_apply_posts(graph, program));
    DPR_TRY(create_pools(graph));
    DPR_TRY(dpr_graph_assign_slots(graph));
    return connect_first(graph, options, order);
}

static dpr_status_t check_options(const dpr_graph_options_t *options)
{
    const struct {
        const char *name;
        int32_t value;
    } all[] = {{"recv_slots", options->recv_slots},
               {"recv_ahead", options->recv_ahead},
               {"send_slots", options->send_slots}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].value < 0) {
            return dpr_fail(DPR_ERR_INVALID, "%s is %d: expected 0 or more", all[i].name,
                            all[i].value);
        }
    }
    return DPR_OK;
}

dpr_status_t dpr_graph_lower(const dpr_program_t *program, const dpr_graph_options_t *options,
                             dpr_graph_t **graph, int32_t **order)
{
    const dpr_graph_options_t defaults = DPR_GRAPH_OPTIONS_DEFAULT;
    options = options != NULL ? options : &defaults;
    DPR_TRY(check_options(options));
    DPR_TRY(dpr_program_check(program));
    dpr_graph_t *lowered;
    DPR_TRY(dpr_calloc(1, sizeof *lowered, &lowered));
    lowered->ranks = program->ranks;
    lowered->stages = program->stages;
    lowered->micro_batches = program->micro_batches;
    lowered->forward_only = dpr_program_is_forward_only(program);
    lowered->compute_count = (int32_t)dpr_program_size(program);
    const dpr_status_t status = lower_into(lowered, program, options, order);
    if (status != DPR_OK) {
        dpr_graph_destroy(lowered);
        return status;
    }
    *graph = lowered;
    return DPR_OK;
}

dpr_status_t dpr_graph_build(const dpr_program_t *program, const dpr_graph_options_t *options,
                             dpr_graph_t **graph)
{
    int32_t *order;
    DPR_TRY(dpr_graph_lower(program, options, graph, &order));
    free(order);
    return DPR_OK;
}

void dpr_graph_destroy(dpr_graph_t *graph)
{
    if (graph == NULL) {
        return;
    }
    free(graph->nodes);
    free(graph->rank_begin);
    free(graph->edge_begin);
    free(graph->edges);
    free(graph->channels);
    free(graph->send_messages);
    free(graph->recv_messages);
    free(graph->pools);
    free(graph->cells);
    free(graph->order);
    free(graph);
}

int32_t dpr_graph_peak_activations(const dpr_graph_t *graph, int rank)
{
    return graph->pools[DPR_POOL_KINDS * rank + DPR_POOL_SAVED].slots;
}
