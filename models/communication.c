/* Communication: messages counted from the graph, their closed forms, gradient reductions. */
#include "models/communication.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "schedule/generators.h"

static dpr_status_t count_channels(const dpr_graph_t *graph, int64_t message_bytes,
                                   dpr_traffic_counts_t *counts)
{
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        dpr_traffic_t *const sums[] = {&counts->channel[c], &counts->sent[channel->source],
                                       &counts->received[channel->destination], &counts->total};
        for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
            sums[i]->messages += channel->count;
        }
    }
    int64_t all;
    if (__builtin_mul_overflow(counts->total.messages, message_bytes, &all)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "communication: %lld messages of %lld bytes exceed 2^63 - 1 bytes",
                        (long long)counts->total.messages, (long long)message_bytes);
    }
    counts->total.bytes = all;
    for (int32_t c = 0; c < counts->channels; c++) {
        counts->channel[c].bytes = counts->channel[c].messages * message_bytes;
    }
    for (int32_t r = 0; r < counts->ranks; r++) {
        counts->sent[r].bytes = counts->sent[r].messages * message_bytes;
        counts->received[r].bytes = counts->received[r].messages * message_bytes;
    }
    return DPR_OK;
}

dpr_status_t dpr_traffic_count(const dpr_graph_t *graph, int64_t message_bytes,
                               dpr_traffic_counts_t *counts)
{
    if (message_bytes < 0) {
        return dpr_fail(DPR_ERR_INVALID, "communication: a message has %lld bytes; 0 or more",
                        (long long)message_bytes);
    }
    const size_t ranks = (size_t)graph->ranks;
    const size_t channels = (size_t)graph->channel_count;
    dpr_traffic_counts_t made = {.ranks = graph->ranks, .channels = graph->channel_count};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(channels, sizeof *made.channel, &made.channel), free_counts);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.sent, &made.sent), free_counts);
    DPR_TRY_GOTO(dpr_calloc(ranks, sizeof *made.received, &made.received), free_counts);
    DPR_TRY_GOTO(count_channels(graph, message_bytes, &made), free_counts);
    *counts = made;
    return DPR_OK;
free_counts:
    dpr_traffic_free(&made);
    return status;
}

void dpr_traffic_free(dpr_traffic_counts_t *counts)
{
    free(counts->channel);
    free(counts->sent);
    free(counts->received);
    *counts = (dpr_traffic_counts_t){0};
}

/* ---- Closed forms: by placement ---- */

/* A channel: activations or gradients from `source` to `destination`, of P ranks. */
typedef struct link_query {
    int ranks;
    int stages;
    int64_t micro_batches;
    int source;
    int destination;
    bool is_act;
} link_query_t;

typedef int64_t (*placement_fn_t)(const link_query_t *link);

/* Activations go down by one rank, gradients up. */
static int64_t one_way(const link_query_t *link)
{
    const int step = link->is_act ? 1 : -1;
    return link->destination - link->source == step ? link->micro_batches : 0;
}

/* Half of the micro-batches go each way, with activations and gradients. */
static int64_t both_ways(const link_query_t *link)
{
    return abs(link->destination - link->source) == 1 ? link->micro_batches / 2 : 0;
}

/* Every micro-batch goes down and comes back, with activations and then with gradients. */
static int64_t in_a_v(const link_query_t *link)
{
    return abs(link->destination - link->source) == 1 ? link->micro_batches : 0;
}

/* Every micro-batch goes around v times; the last way around ends in the last rank. */
static int64_t in_a_loop(const link_query_t *link)
{
    if (link->ranks == 1) {
        return 0;
    }
    const int from = link->is_act ? link->source : link->destination;
    const int to = link->is_act ? link->destination : link->source;
    const int laps = link->stages / link->ranks;
    if (to != (from + 1) % link->ranks) {
        return 0;
    }
    return (from == link->ranks - 1 ? laps - 1 : laps) * link->micro_batches;
}

static const struct {
    const char *schedule; /* a name, or the part of it before a colon */
    placement_fn_t placement;
} placements[] = {
    {"gpipe", one_way},      {"1f1b", one_way},
    {"zb1p", one_way},       {"zb2p", one_way},
    {"dualpipe", both_ways}, {"dualpipev", in_a_v},
    {"zbv", in_a_v},         {"v-half", in_a_v},
    {"v-min", in_a_v},       {"interleaved-1f1b", in_a_loop},
    {"chimera", both_ways},
};

static dpr_status_t find_placement(const char *schedule, int ranks, int micro_batches,
                                   placement_fn_t *placement, int *stages)
{
    DPR_TRY(dpr_schedule_check(schedule, ranks, micro_batches));
    *stages = dpr_schedule_stages_per_rank(schedule) * ranks;
    const size_t length = strcspn(schedule, ":");
    for (size_t i = 0; i < sizeof placements / sizeof placements[0]; i++) {
        if (strlen(placements[i].schedule) == length &&
            strncmp(placements[i].schedule, schedule, length) == 0) {
            *placement = placements[i].placement;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED, "schedule %s: no closed form of its messages is known",
                    schedule);
}

dpr_status_t dpr_traffic_closed_form(const char *schedule, int ranks, int micro_batches, int source,
                                     int destination, dpr_node_kind_t kind, int64_t *messages)
{
    placement_fn_t placement;
    int stages;
    DPR_TRY(find_placement(schedule, ranks, micro_batches, &placement, &stages));
    const bool in_range = source >= 0 && source < ranks && destination >= 0 && destination < ranks;
    *messages = in_range && source != destination
                    ? placement(&(link_query_t){ranks, stages, micro_batches, source, destination,
                                                kind == DPR_NODE_SEND_ACT})
                    : 0;
    return DPR_OK;
}

dpr_status_t dpr_traffic_total_closed_form(const char *schedule, int ranks, int micro_batches,
                                           int64_t *messages)
{
    placement_fn_t placement;
    int stages;
    DPR_TRY(find_placement(schedule, ranks, micro_batches, &placement, &stages));
    const int64_t M = micro_batches;
    if (placement == in_a_loop) {
        *messages = ranks == 1 ? 0 : 2 * M * (stages - 1);
    } else {
        *messages = (placement == in_a_v ? 4 : 2) * M * (ranks - 1);
    }
    return DPR_OK;
}

/* ---- Gradient reductions ---- */

/* holders[2 s + i]: the ranks of stage s, -1 for none; a stage lives on at most two. */
static void find_holders(const dpr_graph_t *graph, int32_t *holders)
{
    memset(holders, -1, 2 * (size_t)graph->stages * sizeof *holders);
    const size_t M = (size_t)graph->micro_batches;
    for (size_t i = 0; i < M * (size_t)graph->stages; i++) {
        int32_t *of_stage = &holders[2 * (i / M)];
        const int32_t rank = graph->cells[i].rank;
        if (of_stage[0] < 0) {
            of_stage[0] = rank;
        } else if (of_stage[0] != rank) {
            of_stage[1] = rank;
        }
    }
}

/* What one member of a ring of n sends to reduce `bytes`. */
static void add_ring(int64_t n, int64_t bytes, dpr_reduction_t *reduction)
{
    if (n > 1) {
        reduction->stages++;
        reduction->messages += 2 * (n - 1);
        reduction->bytes += 2.0 * (double)(n - 1) / (double)n * (double)bytes;
    }
}

dpr_status_t dpr_reduction_count(const dpr_graph_t *graph, const int64_t *gradient_bytes,
                                 int replicas, dpr_reduction_t *replica, dpr_reduction_t *all)
{
    if (replicas < 1 || replicas > 1 << 20) {
        return dpr_fail(DPR_ERR_INVALID, "communication: %d replicas; expected 1 to %d", replicas,
                        1 << 20);
    }
    int32_t *holders;
    DPR_TRY(dpr_calloc(2 * (size_t)graph->stages, sizeof *holders, &holders));
    find_holders(graph, holders);
    memset(replica, 0, (size_t)graph->ranks * sizeof *replica);
    memset(all, 0, (size_t)graph->ranks * sizeof *all);
    for (int32_t s = 0; s < graph->stages; s++) {
        const int copies = holders[2 * s + 1] < 0 ? 1 : 2;
        for (int i = 0; i < copies; i++) {
            const int32_t rank = holders[2 * s + i];
            add_ring(copies, gradient_bytes[s], &replica[rank]);
            add_ring((int64_t)copies * replicas, gradient_bytes[s], &all[rank]);
        }
    }
    free(holders);
    return DPR_OK;
}
