/* Messages that move while dualpipe_bench overlap times an op. */
#include <string.h>

#include "apps/bench_pair.h"
#include "base/log.h"

enum { OUT, IN };

static unsigned char pattern_at(int rank, size_t i)
{
    return (unsigned char)(i * 7 + (size_t)rank + 1);
}

/* Every rank opens every pair's channels, in one order. */
static dpr_status_t open_channels(bench_machine_t *machine, const bench_rank_t *self,
                                  bench_traffic_t *traffic)
{
    for (int rank = 0; rank < self->ranks; rank++) {
        const int peer = rank ^ 1;
        dpr_comm_channel_t *channel;
        if (peer >= self->ranks) {
            continue;
        }
        DPR_TRY(dpr_channel_open(machine->comm, rank, peer, traffic->bytes, &channel));
        if (rank == self->rank) {
            traffic->out = channel;
        } else if (peer == self->rank) {
            traffic->in = channel;
        }
    }
    return DPR_OK;
}

dpr_status_t bench_traffic_open(bench_machine_t *machine, const bench_rank_t *self, size_t bytes,
                                bench_traffic_t *traffic)
{
    static const char *const names[] = {"send", "receive"};
    dpr_device_t *device = machine->device;
    void *memory;
    *traffic = (bench_traffic_t){.machine = machine, .bytes = bytes, .rank = self->rank};
    traffic->peer = (self->rank ^ 1) < self->ranks ? self->rank ^ 1 : -1;
    DPR_TRY(open_channels(machine, self, traffic));
    DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_PINNED, bytes, &memory));
    traffic->host = memory;
    for (int i = 0; i < 2; i++) {
        DPR_TRY(dpr_stream_create(device, names[i], 1, &traffic->streams[i]));
        DPR_TRY(dpr_device_alloc(device, DPR_MEMORY_DEVICE, bytes, &memory));
        traffic->memory[i] = memory;
        DPR_TRY(dpr_stream_fill(traffic->streams[i], memory, 0, bytes));
        DPR_TRY(dpr_stream_synchronize(traffic->streams[i]));
    }
    for (size_t i = 0; i < bytes; i++) {
        traffic->host[i] = pattern_at(self->rank, i);
    }
    DPR_TRY(dpr_stream_copy(traffic->streams[OUT], traffic->memory[OUT], traffic->host, bytes));
    return dpr_stream_synchronize(traffic->streams[OUT]);
}

void bench_traffic_close(bench_traffic_t *traffic)
{
    dpr_channel_close(traffic->out);
    dpr_channel_close(traffic->in);
    for (int i = 0; i < 2; i++) {
        dpr_stream_destroy(traffic->streams[i]);
        if (traffic->memory[i] != NULL) {
            dpr_device_free(traffic->machine->device, DPR_MEMORY_DEVICE, traffic->memory[i]);
        }
    }
    if (traffic->host != NULL) {
        dpr_device_free(traffic->machine->device, DPR_MEMORY_PINNED, traffic->host);
    }
}

dpr_status_t bench_traffic_enqueue(bench_traffic_t *traffic, int count)
{
    for (int i = 0; i < count; i++) {
        if (traffic->peer < 0) {
            DPR_TRY(dpr_stream_copy(traffic->streams[OUT], traffic->memory[IN],
                                    traffic->memory[OUT], traffic->bytes));
            continue;
        }
        DPR_TRY(dpr_channel_send(traffic->out, traffic->memory[OUT], traffic->bytes, 0.0,
                                 traffic->streams[OUT]));
        DPR_TRY(dpr_channel_recv(traffic->in, traffic->memory[IN], traffic->bytes, 0.0,
                                 traffic->streams[IN]));
    }
    return DPR_OK;
}

dpr_status_t bench_traffic_wait(bench_traffic_t *traffic)
{
    DPR_TRY(dpr_stream_synchronize(traffic->streams[OUT]));
    return dpr_stream_synchronize(traffic->streams[IN]);
}

dpr_status_t bench_traffic_check(bench_traffic_t *traffic)
{
    const int source = traffic->peer < 0 ? traffic->rank : traffic->peer;
    DPR_TRY(
        dpr_stream_copy(traffic->streams[IN], traffic->host, traffic->memory[IN], traffic->bytes));
    DPR_TRY(dpr_stream_synchronize(traffic->streams[IN]));
    for (size_t i = 0; i < traffic->bytes; i++) {
        if (traffic->host[i] != pattern_at(source, i)) {
            return dpr_fail(DPR_ERR_MISMATCH,
                            "a message of %zu bytes from rank %d arrived with byte %zu wrong",
                            traffic->bytes, source, i);
        }
    }
    return DPR_OK;
}
