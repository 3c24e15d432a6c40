/* See lowering.h. */
#include "tests/schedule/lowering.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct lowering {
    const dpr_graph_t *graph;
    int32_t *received; /* [channel_count]: messages posted so far */
    FILE *out;
    const char *separator;
} lowering_t;

static void write_cell(lowering_t *lowering, const char *text)
{
    fprintf(lowering->out, "%s%s", lowering->separator, text);
    lowering->separator = ",";
}

static void write_post(lowering_t *lowering, const dpr_node_t *node, bool is_send)
{
    const bool is_act = node->kind == DPR_NODE_SEND_ACT;
    const dpr_post_t post = {
        .rank = is_send ? node->rank : node->peer,
        .kind = is_act ? (is_send ? DPR_POST_SEND_F : DPR_POST_RECV_F)
                       : (is_send ? DPR_POST_SEND_B : DPR_POST_RECV_B),
        .stage = node->stage + (is_send  ? 0
                                : is_act ? 1
                                         : -1),
        .micro_batch = node->micro_batch,
    };
    char text[32];
    write_cell(lowering, dpr_post_format(post, text, sizeof text));
}

/* Posts the channel's receives up to and with `transfer`, in the order of its messages. */
static void write_receives(lowering_t *lowering, int32_t transfer)
{
    const dpr_graph_t *graph = lowering->graph;
    const int32_t c = graph->nodes[transfer].channel;
    const dpr_channel_t *channel = &graph->channels[c];
    while (channel->first + lowering->received[c] <= transfer - graph->compute_count) {
        write_post(lowering,
                   &graph->nodes[graph->compute_count + channel->first + lowering->received[c]++],
                   false);
    }
}

static const dpr_cell_t *cell_at(const dpr_graph_t *graph, int stage, int micro_batch)
{
    return &graph->cells[stage * graph->micro_batches + micro_batch];
}

/* Receives what one half of an action takes, or sends what it makes. */
static void write_transfers(lowering_t *lowering, dpr_action_t half, bool is_send)
{
    const dpr_graph_t *graph = lowering->graph;
    const bool is_act = half.kind == DPR_ACTION_F;
    const int producer = half.stage + (is_send ? 0 : is_act ? -1 : 1);
    if (half.kind == DPR_ACTION_W || producer < 0 || producer == graph->stages) {
        return;
    }
    const dpr_cell_t *cell = cell_at(graph, producer, half.micro_batch);
    const int32_t transfer = is_act ? cell->send_act : cell->send_grad;
    if (transfer >= 0 && is_send) {
        write_post(lowering, &graph->nodes[transfer], true);
    } else if (transfer >= 0) {
        write_receives(lowering, transfer);
    }
}

static void write_action(lowering_t *lowering, dpr_action_t action)
{
    char text[48];
    dpr_action_t halves[2];
    const int count = dpr_action_halves(action, halves);
    for (int h = 0; h < count; h++) {
        write_transfers(lowering, halves[h], false);
    }
    write_cell(lowering, dpr_action_format(action, text, sizeof text));
    for (int h = 0; h < count; h++) {
        write_transfers(lowering, halves[h], true);
    }
}

char *write_lowered(const dpr_program_t *program, const dpr_graph_t *graph, size_t *length)
{
    char *text = NULL;
    lowering_t lowering = {.graph = graph,
                           .received = calloc((size_t)graph->channel_count + 1, sizeof(int32_t)),
                           .out = open_memstream(&text, length)};
    for (int rank = 0; rank < program->ranks; rank++) {
        lowering.separator = "";
        for (size_t i = program->begin[rank]; i < program->begin[rank + 1]; i++) {
            write_action(&lowering, program->actions[i]);
        }
        fputs("\r\n", lowering.out);
    }
    fclose(lowering.out);
    free(lowering.received);
    return text;
}
