/*
 * The host device: processor cores as the device, threads as its streams. What it is made of:
 *
 *     host_device.c   the table, creation, the clock's zero, what the machine is
 *     host_memory.c   blocks, and how much of them there is
 *     host_stream.c   a stream as seen by who enqueues       host_event.c   events
 *     host_worker.c   a stream as seen by its thread         host_chaos.c   delays for tests
 *     host_gate.c     what all of them wait at               host_cores.c   counting cores
 */
#include "device/host/host_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

static int64_t monotonic_nsec(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

double dpr_host_wall_sec(const dpr_device_t *device)
{
    const dpr_host_device_t *host = dpr_host_device(device);
    const int64_t nsec = monotonic_nsec() - atomic_load(&host->zero_nsec);
    return 1e-9 * (double)nsec * host->rate + host->skew_sec;
}

static void clock_rebase(dpr_device_t *device)
{
    atomic_fetch_add(&dpr_host_device(device)->epoch, 1);
    atomic_store(&dpr_host_device(device)->zero_nsec, monotonic_nsec());
}

/*
 * Finds the line "key...: value" in one of the kernel's text files and copies the value. Leaves
 * `value` empty where there is none.
 */
static void proc_value(const char *path, const char *key, char *value, size_t size)
{
    value[0] = '\0';
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (value[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, key, strlen(key)) == 0) {
            colon += 1 + strspn(colon + 1, " \t");
            snprintf(value, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        }
    }
    fclose(file);
}

/* Free memory and what the system would give up for us; failing that, what is free outright. */
static size_t memory_available(void)
{
    char text[64];
    proc_value("/proc/meminfo", "MemAvailable", text, sizeof text);
    const unsigned long long kib = strtoull(text, NULL, 10);
    if (kib > 0) {
        return (size_t)kib * 1024;
    }
    const long pages = sysconf(_SC_AVPHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (size_t)pages * (size_t)page_bytes : 0;
}

static void info(const dpr_device_t *device, dpr_device_info_t *info)
{
    (void)device;
    const int cores = dpr_host_cores_usable();
    char model[96];
    proc_value("/proc/cpuinfo", "model name", model, sizeof model);
    *info =
        (dpr_device_info_t){.memory_bytes = memory_available(), .cores = cores, .numa_node = -1};
    snprintf(info->name, sizeof info->name, "host (%d core%s%s%s)", cores, cores == 1 ? "" : "s",
             model[0] != '\0' ? ", " : "", model);
}

static void destroy(dpr_device_t *device)
{
    const int objects = atomic_load(&dpr_host_device(device)->objects);
    const size_t bytes = atomic_load(&dpr_host_device(device)->memory_now);
    if (objects > 0 || bytes > 0) {
        dpr_log(DPR_LOG_WARNING,
                "host device destroyed with %d streams and events and %zu bytes of its memory left",
                objects, bytes);
    }
    free(device);
}

const dpr_device_ops_t dpr_host_device_ops = {
    .kind = "host",
    .destroy = destroy,
    .info = info,
    .clock_rebase = clock_rebase,
    .wall_sec = dpr_host_wall_sec,
    .alloc = dpr_host_alloc,
    .free = dpr_host_free,
    .memory_on_host = true,
    .memory_usage = dpr_host_memory_usage,
    .stream_create = dpr_host_stream_create,
    .stream_destroy = dpr_host_stream_destroy,
    .stream_synchronize = dpr_host_stream_synchronize,
    .stream_wait_event = dpr_host_stream_wait_event,
    .stream_copy = dpr_host_stream_copy,
    .stream_fill = dpr_host_stream_fill,
    .stream_charge = dpr_host_stream_charge,
    .stream_host_op = dpr_host_stream_host_op,
    .host_op_complete = dpr_host_pending_op_complete,
    .stream_enqueued = dpr_host_stream_enqueued,
    .event_create = dpr_host_event_create,
    .event_destroy = dpr_host_event_destroy,
    .event_record = dpr_host_event_record,
    .event_query = dpr_host_event_query,
    .event_synchronize = dpr_host_event_synchronize,
    .event_sec = dpr_host_event_sec,
};

dpr_status_t dpr_host_device_create(const dpr_host_device_options_t *options, dpr_device_t **device)
{
    dpr_host_device_t *created;
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base = (dpr_device_t){.ops = &dpr_host_device_ops, .clock = options->clock};
    created->spins = options->spin ? DPR_HOST_SPINS : 0;
    created->chaos_seed = options->chaos_seed;
    created->skew_sec = options->skew_sec;
    created->rate = 1.0 + options->drift;
    atomic_store(&created->zero_nsec, monotonic_nsec());
    *device = &created->base;
    return DPR_OK;
}
