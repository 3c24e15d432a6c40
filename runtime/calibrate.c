/* Calibration of links and ops. */
#include "runtime/calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "runtime/measure.h"

enum { LINK_ROUNDS = 50 };

/* ---- Links ----------------------------------------------------------------------------------- */

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
                                 dpr_cost_table_t *table, double *offset_sec,
                                 double *offset_uncertainty_sec)
{
    const int ranks = table->ranks;
    const int rank = dpr_comm_rank(comm);
    *offset_sec = 0.0;
    *offset_uncertainty_sec = 0.0;
    for (int low = 0; low < ranks; low++) {
        for (int high = low + 1; high < ranks; high++) {
            const bool is_link = pair_has_channel(graph, low, high);
            if (!is_link && low > 0) {
                continue; /* pairs with rank 0 also carry the clock's offset */
            }
            dpr_link_measure_t measure = {0};
            DPR_TRY(measure_pair(comm, low, high, message_bytes, &measure));
            if (is_link && rank == low) {
                store_link(table, low, high, message_bytes, &measure);
            }
            if (low == 0 && rank == high) {
                *offset_sec = measure.offset_sec;
                *offset_uncertainty_sec = measure.small_sec;
            }
        }
    }
    return share_links(comm, table);
}

/* ---- Ops ------------------------------------------------------------------------------------- */

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

/* Mean of the middle half: as steady as the median, and nearer to what a sum of many will be. */
static double middle_mean(double *values, size_t count)
{
    (void)dpr_percentile(values, count, 0.5); /* sorts */
    const size_t cut = count / 4;
    double sum = 0.0;
    for (size_t i = cut; i < count - cut; i++) {
        sum += values[i];
    }
    return sum / (double)(count - 2 * cut);
}

/* durations[step * node_count + node]. Nodes with one entry of the table are averaged together. */
static dpr_status_t fill_ops(const dpr_graph_t *graph, int rank, const double *durations, int steps,
                             dpr_cost_table_t *table)
{
    const int32_t begin = graph->rank_begin[rank];
    const int32_t end = graph->rank_begin[rank + 1];
    double *values;
    DPR_TRY(dpr_calloc((size_t)(end - begin) * (size_t)steps, sizeof *values, &values));
    for (int32_t n = begin; n < end; n++) {
        double *entry = table_entry(table, &graph->nodes[n]);
        size_t count = 0;
        for (int32_t other = n; isnan(*entry) && other < end; other++) {
            if (table_entry(table, &graph->nodes[other]) != entry) {
                continue;
            }
            for (int k = 0; k < steps; k++) {
                values[count++] = durations[(size_t)k * (size_t)graph->node_count + (size_t)other];
            }
        }
        if (count > 0) {
            *entry = middle_mean(values, count);
        }
    }
    free(values);
    return DPR_OK;
}

/* Each rank measured its own rows; afterwards all ranks have all. */
static dpr_status_t share_ops(dpr_comm_t *comm, dpr_cost_table_t *table)
{
    const size_t stages = (size_t)table->stages;
    const size_t rank = (size_t)dpr_comm_rank(comm);
    const size_t row = 4 * stages;
    const size_t fb_row = stages * stages;
    double *mine;
    DPR_TRY(dpr_calloc(row > fb_row ? row : fb_row, sizeof *mine, &mine));
    for (size_t i = 0; i < row; i++) {
        mine[i] = table->compute[rank * row + i];
    }
    dpr_status_t status = dpr_comm_allgather(comm, mine, row * sizeof *mine, table->compute);
    for (size_t i = 0; i < fb_row; i++) {
        mine[i] = table->fb[rank * fb_row + i];
    }
    if (status == DPR_OK) {
        status = dpr_comm_allgather(comm, mine, fb_row * sizeof *mine, table->fb);
    }
    free(mine);
    return status;
}

/* Wall clock: what a transfer really took between ready and done, over its model, is added to the
 * link's latency (threads woken, progress polled). */
static dpr_status_t correct_links(const dpr_graph_t *graph, size_t message_bytes,
                                  const dpr_timeline_t *timelines, int steps,
                                  dpr_cost_table_t *table)
{
    double *values;
    size_t most = 0;
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const size_t count = (size_t)graph->channels[c].count * (size_t)steps;
        most = count > most ? count : most;
    }
    DPR_TRY(dpr_calloc(2 * most, sizeof *values, &values));
    for (int32_t c = 0; c < graph->channel_count; c++) {
        const dpr_channel_t *channel = &graph->channels[c];
        size_t count = 0;
        for (int k = 0; k < steps; k++) {
            for (int32_t i = 0; i < channel->count; i++) {
                const int32_t node = graph->send_messages[channel->first + i];
                values[count++] = timelines[k].end[node] - timelines[k].start[node];
            }
        }
        const size_t at =
            (size_t)channel->source * (size_t)table->ranks + (size_t)channel->destination;
        const double wire = (double)message_bytes / table->bandwidth_bytes_per_sec[at];
        table->latency_sec[at] = fmax(middle_mean(values, count) - wire, 0.0);
    }
    free(values);
    return DPR_OK;
}

static void keep_durations(const dpr_timeline_t *timeline, int step, double *durations)
{
    const size_t nodes = (size_t)timeline->graph->node_count;
    for (size_t n = 0; n < nodes; n++) {
        durations[(size_t)step * nodes + n] = timeline->end[n] - timeline->start[n];
    }
}

/* One step of which only the timeline is kept. */
static dpr_status_t play_step(dpr_pipeline_t *pipeline, dpr_comm_t *comm, dpr_device_t *device,
                              int slot, double offset_sec, dpr_timeline_t *timeline)
{
    if (dpr_device_clock(device) != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(device);
    }
    DPR_TRY(dpr_pipeline_forward_backward(pipeline, slot, 1.0f));
    DPR_TRY(dpr_pipeline_synchronize(pipeline));
    return dpr_measure_timeline(comm, dpr_pipeline_executor(pipeline), offset_sec, timeline);
}

dpr_status_t dpr_calibrate_ops(dpr_pipeline_t *pipeline, dpr_comm_t *comm, dpr_device_t *device,
                               int slot, int steps, double offset_sec, dpr_cost_table_t *table)
{
    const dpr_graph_t *graph = dpr_pipeline_graph(pipeline);
    const size_t message_bytes = dpr_pipeline_message_bytes(pipeline);
    dpr_timeline_t *timelines = NULL;
    double *durations = NULL;
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)steps, sizeof *timelines, &timelines), free_timelines);
    DPR_TRY_GOTO(
        dpr_calloc((size_t)steps * (size_t)graph->node_count, sizeof *durations, &durations),
        free_timelines);
    for (int k = -1; k < steps; k++) {
        dpr_timeline_t *timeline = &timelines[k < 0 ? 0 : k];
        if (timeline->graph == NULL) {
            DPR_TRY_GOTO(dpr_timeline_init(timeline, graph), free_timelines);
        }
        DPR_TRY_GOTO(play_step(pipeline, comm, device, slot, offset_sec, timeline), free_timelines);
        if (k >= 0) {
            keep_durations(timeline, k, durations);
        }
    }
    DPR_TRY_GOTO(fill_ops(graph, dpr_comm_rank(comm), durations, steps, table), free_timelines);
    DPR_TRY_GOTO(share_ops(comm, table), free_timelines);
    if (dpr_device_clock(device) == DPR_CLOCK_WALL) {
        DPR_TRY_GOTO(correct_links(graph, message_bytes, timelines, steps, table), free_timelines);
    }

free_timelines:
    for (int k = 0; timelines != NULL && k < steps; k++) {
        dpr_timeline_free(&timelines[k]);
    }
    free(timelines);
    free(durations);
    return status;
}
