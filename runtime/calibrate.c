/* Calibration of links and ops. */
#include "runtime/calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "runtime/history.h"

enum { LINK_ROUNDS = 50, CLOCK_ROUNDS = 20, WARM_UP_STEPS = 2 };

/* ---- Links ---- */

static bool pair_has_channel(const dpr_graph_t *graph, int low, int high)
{
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const int32_t source = graph->channels[c].source;
        const int32_t destination = graph->channels[c].destination;
        if ((source == low && destination == high) || (source == high && destination == low)) {
            return true;
        }
    }
    return false;
}

/* One pair measures while everybody else waits for it. */
static dpr_status_t measure_pair(dpr_comm_t *comm, int low, int high, size_t bytes,
                                 dpr_link_measure_t *measure)
{
    const int rank = dpr_comm_rank(comm);
    DPR_TRY(dpr_comm_barrier(comm));
    if (rank != low && rank != high) {
        return DPR_OK;
    }
    return dpr_comm_measure_link(comm, rank == low ? high : low, bytes, LINK_ROUNDS, measure);
}

static void store_link(dpr_cost_table_t *table, int low, int high, size_t bytes,
                       const dpr_link_measure_t *measure)
{
    const double wire = fmax(measure->large_sec - measure->small_sec, 1e-9);
    const int ends[2][2] = {{low, high}, {high, low}};
    for (int i = 0; i < 2; i++) {
        const size_t at = (size_t)ends[i][0] * (size_t)table->ranks + (size_t)ends[i][1];
        table->latency_sec[at] = measure->small_sec;
        table->bandwidth_bytes_per_sec[at] = (double)bytes / wire;
    }
}

/* Every rank takes each row of the table from the lower rank of the pair. */
static dpr_status_t share_links(dpr_comm_t *comm, dpr_cost_table_t *table)
{
    const size_t ranks = (size_t)table->ranks;
    const size_t cells = ranks * ranks;
    double *all;
    DPR_TRY(dpr_calloc(2 * cells * ranks, sizeof *all, &all));
    double *mine;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(2 * cells, sizeof *mine, &mine), free_all);
    for (size_t i = 0; i < cells; i++) {
        mine[i] = table->latency_sec[i];
        mine[cells + i] = table->bandwidth_bytes_per_sec[i];
    }
    DPR_TRY_GOTO(dpr_comm_allgather(comm, mine, 2 * cells * sizeof *mine, all), free_mine);
    for (size_t s = 0; s < ranks; s++) {
        for (size_t d = 0; d < ranks; d++) {
            const double *row = all + 2 * cells * (s < d ? s : d);
            table->latency_sec[s * ranks + d] = row[s * ranks + d];
            table->bandwidth_bytes_per_sec[s * ranks + d] = row[cells + s * ranks + d];
        }
    }

free_mine:
    free(mine);
free_all:
    free(all);
    return status;
}

dpr_status_t dpr_calibrate_links(dpr_comm_t *comm, const dpr_graph_t *graph, size_t message_bytes,
                                 dpr_cost_table_t *table)
{
    const int ranks = table->ranks;
    for (int low = 0; low < ranks; low++) {
        for (int high = low + 1; high < ranks; high++) {
            dpr_link_measure_t measure = {0};
            if (!pair_has_channel(graph, low, high)) {
                continue;
            }
            DPR_TRY(measure_pair(comm, low, high, message_bytes, &measure));
            if (dpr_comm_rank(comm) == low) {
                store_link(table, low, high, message_bytes, &measure);
            }
        }
    }
    return share_links(comm, table);
}

/* ---- Ops ---- */

/* Which entry of the table a compute node's cost belongs to. */
static double *table_entry(dpr_cost_table_t *table, const dpr_node_t *node)
{
    const size_t stages = (size_t)table->stages;
    const size_t row = (size_t)node->rank * stages + (size_t)node->stage;
    if (node->kind == DPR_NODE_FB) {
        return &table->fb[row * stages + (size_t)node->b_stage];
    }
    return &table->compute[row * 4 + (size_t)node->kind];
}

/* Adds a value to an entry that is NAN before its first. */
static void add_to(double *entry, double value)
{
    *entry = isnan(*entry) ? value : *entry + value;
}

/* Each entry of the table is the mean over its nodes and steps; entries without a node stay NAN. */
static dpr_status_t fill_ops(const dpr_durations_t *durations, dpr_cost_table_t *table)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    const size_t rows = (size_t)table->ranks * (size_t)table->stages;
    dpr_cost_table_t counts;
    DPR_TRY(dpr_cost_table_init(&counts, table->ranks, table->stages));
    for (size_t n = 0; n < (size_t)graph->compute_count; n++) {
        for (int k = 0; k < durations->steps; k++) {
            add_to(table_entry(table, &graph->nodes[n]), durations->sec[(size_t)k * nodes + n]);
            add_to(table_entry(&counts, &graph->nodes[n]), 1.0);
        }
    }
    for (size_t i = 0; i < 4 * rows; i++) {
        table->compute[i] /= counts.compute[i];
    }
    for (size_t i = 0; i < rows * (size_t)table->stages; i++) {
        table->fb[i] /= counts.fb[i];
    }
    dpr_cost_table_free(&counts);
    return DPR_OK;
}

/* Wall clock: what a transfer really took between ready and done, over its model, is added to the
 * link's latency (threads woken, progress polled). */
static dpr_status_t correct_links(const dpr_durations_t *durations, size_t message_bytes,
                                  dpr_cost_table_t *table)
{
    const dpr_graph_t *graph = durations->graph;
    const size_t nodes = (size_t)graph->node_count;
    double *values;
    DPR_TRY(dpr_calloc(nodes * (size_t)durations->steps, sizeof *values, &values));
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        size_t count = 0;
        for (int k = 0; k < durations->steps; k++) {
            for (int32_t i = 0; i < channel->count; i++) {
                const int32_t node = graph->send_messages[channel->first + i];
                values[count++] = durations->sec[(size_t)k * nodes + (size_t)node];
            }
        }
        const size_t at =
            (size_t)channel->source * (size_t)table->ranks + (size_t)channel->destination;
        const double wire = (double)message_bytes / table->bandwidth_bytes_per_sec[at];
        table->latency_sec[at] = fmax(dpr_percentile(values, count, 0.5) - wire, 0.0);
    }
    free(values);
    return DPR_OK;
}

/* One step of which only the records are kept; the update belongs to it for what it does to caches.
 */
static dpr_status_t play_step(dpr_pipeline_t *pipeline, dpr_device_t *device, int slot,
                              float loss_scale)
{
    if (dpr_device_clock(device) != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(device);
    }
    DPR_TRY(dpr_pipeline_forward_backward(pipeline, slot, loss_scale));
    DPR_TRY(dpr_pipeline_rehearse_update(pipeline));
    return dpr_pipeline_synchronize(pipeline);
}

static dpr_status_t compare_clocks(dpr_comm_t *comm, const dpr_device_t *device,
                                   dpr_clock_sample_t *exchange)
{
    *exchange = (dpr_clock_sample_t){0};
    return dpr_device_clock(device) == DPR_CLOCK_WALL
               ? dpr_clock_sample_take(comm, device, CLOCK_ROUNDS, exchange)
               : DPR_OK;
}

static dpr_status_t play_steps(dpr_pipeline_t *pipeline, dpr_comm_t *comm, dpr_device_t *device,
                               int slot, float loss_scale, int steps, dpr_history_t *history,
                               dpr_clock_sample_t exchanges[2])
{
    for (int k = -WARM_UP_STEPS; k < steps; k++) {
        if (k == 0) {
            DPR_TRY(compare_clocks(comm, device, &exchanges[0]));
        }
        DPR_TRY(play_step(pipeline, device, slot, loss_scale));
        if (k >= 0) {
            (void)dpr_history_take(history, k);
        }
    }
    return compare_clocks(comm, device, &exchanges[1]);
}

dpr_status_t dpr_calibrate_ops(dpr_pipeline_t *pipeline, dpr_comm_t *comm, dpr_device_t *device,
                               int slot, float loss_scale, int steps, dpr_cost_table_t *table,
                               dpr_durations_t *out, dpr_clock_sample_t exchanges[2])
{
    const bool is_wall = dpr_device_clock(device) == DPR_CLOCK_WALL;
    dpr_clock_fit_t clock = {0}; /* virtual clocks of all ranks start each step together */
    dpr_history_t *history = NULL;
    dpr_durations_t durations = {0};
    dpr_status_t status = dpr_history_create(dpr_pipeline_executor(pipeline), steps, &history);
    DPR_TRY(dpr_comm_agree(comm, status, NULL));
    DPR_TRY_GOTO(play_steps(pipeline, comm, device, slot, loss_scale, steps, history, exchanges),
                 free_history);
    if (is_wall) {
        clock = dpr_clock_fit(exchanges, 2);
    }
    DPR_TRY_GOTO(dpr_history_gather(history, comm, dpr_pipeline_graph(pipeline), &clock, steps,
                                    &durations, NULL, NULL, NULL),
                 free_history);
    DPR_TRY_GOTO(fill_ops(&durations, table), free_history);
    if (is_wall) {
        DPR_TRY_GOTO(correct_links(&durations, dpr_pipeline_message_bytes(pipeline), table),
                     free_history);
    }
    *out = durations;
    durations = (dpr_durations_t){0};

free_history:
    dpr_durations_free(&durations);
    dpr_history_destroy(history);
    return status;
}

dpr_status_t dpr_calibrate_from_durations(const dpr_durations_t *durations, dpr_cost_table_t *table)
{
    const dpr_graph_t *graph = durations->graph;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        const size_t at =
            (size_t)channel->source * (size_t)table->ranks + (size_t)channel->destination;
        table->bandwidth_bytes_per_sec[at] = INFINITY;
    }
    DPR_TRY(fill_ops(durations, table));
    return correct_links(durations, 0, table);
}
