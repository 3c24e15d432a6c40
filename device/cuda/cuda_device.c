/*
 * The CUDA device: one GPU behind the device seam. What it is made of:
 *
 *     cuda_device.c     the table, creation, what the machine is     cuda_memory.c   blocks
 *     cuda_stream.c     streams and their errors                     cuda_event.c    events
 *     cuda_host_op.c    operations that the CPU carries out          cuda_clock.c    times
 *     cuda_recording.c  CUDA graphs
 *
 * Errors. CUDA has no error of a stream: what fails on the GPU (an invalid access, say) breaks the
 * whole context, and every later call returns it. So the seam's rule, that a failed operation marks
 * its stream, is kept as far as CUDA lets us: such an error marks every stream at its next
 * synchronization, and an event of a broken context counts as passed, so that nothing hangs. Host
 * operations and communicators, whose errors are ours, mark their stream alone; copies, fills and
 * host operations that are enqueued (or reached) afterwards are skipped, and what had been enqueued
 * before still runs.
 */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_impl.h"

/* What cudaSetDevice was last told on this thread; -1 before the first time. */
static _Thread_local int current_ordinal = -1;

dpr_status_t dpr_cuda_check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) {
        return DPR_OK;
    }
    (void)cudaGetLastError(); /* else the next kernel launch would find it */
    return dpr_fail(error == cudaErrorMemoryAllocation ? DPR_ERR_MEMORY
                    : error == cudaErrorNotSupported   ? DPR_ERR_UNSUPPORTED
                                                       : DPR_ERR_DEVICE,
                    "%.*s failed: %s (%s)", (int)strcspn(call, "("), call,
                    cudaGetErrorString(error), cudaGetErrorName(error));
}

dpr_status_t dpr_cuda_enter(int ordinal)
{
    if (current_ordinal != ordinal) {
        DPR_TRY(DPR_CUDA(cudaSetDevice(ordinal)));
        current_ordinal = ordinal;
    }
    return DPR_OK;
}

dpr_status_t dpr_cuda_device_enter(const dpr_device_t *device)
{
    return dpr_cuda_enter(dpr_cuda_device(device)->ordinal);
}

int dpr_cuda_device_ordinal(const dpr_device_t *device)
{
    return dpr_cuda_device(device)->ordinal;
}

bool dpr_cuda_device_is(const dpr_device_t *device)
{
    return device->ops == &dpr_cuda_device_ops;
}

/* Versions are coded as 1000 * major + 10 * minor. */
static void driver_reason(char *reason, size_t size)
{
    int driver = 0;
    int runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) {
        snprintf(reason, size, "no NVIDIA driver is installed");
    } else {
        snprintf(reason, size,
                 "the NVIDIA driver is for CUDA %d.%d, this program for %d.%d; update the driver",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
}

/*
 * CUDA reads these when it starts, and a CUDA-aware MPI may start it.
 *
 * Queues: every channel has a stream of its own, and streams must not share work queues
 * (cuda_stream.c). Loading: a kernel that is loaded at its first launch may wait for all that the
 * device has to do ("Lazy loading" in the CUDA Programming Guide, potential hazards), among it a
 * receive whose sender waits in the same way.
 */
void dpr_cuda_environment(void)
{
    (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    (void)setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    (void)setenv("CUDA_MODULE_DATA_LOADING", "EAGER", 0);
}

int dpr_cuda_device_count(char *reason, size_t size)
{
    int count = 0;
    dpr_cuda_environment();
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
    }
    if (error == cudaErrorInsufficientDriver) {
        driver_reason(reason, size);
    } else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
        snprintf(reason, size, "no GPU is visible; look at CUDA_VISIBLE_DEVICES");
    } else if (error != cudaSuccess) {
        snprintf(reason, size, "CUDA does not start: %s", cudaGetErrorString(error));
    }
    return error == cudaSuccess ? count : 0;
}

static int numa_node_of(const char *pci)
{
    char path[128];
    int node = -1;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", pci);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%d", &node) != 1) {
            node = -1;
        }
        fclose(file);
    }
    return node;
}

/* The kernel writes PCI addresses in lower case, CUDA in upper. */
static void read_pci(int ordinal, char *pci, int size)
{
    if (cudaDeviceGetPCIBusId(pci, size, ordinal) != cudaSuccess) {
        (void)cudaGetLastError();
        pci[0] = '\0';
    }
    for (char *c = pci; *c != '\0'; c++) {
        if (*c >= 'A' && *c <= 'F') {
            *c = (char)(*c - 'A' + 'a');
        }
    }
}

void dpr_cuda_device_pci(int ordinal, char *pci, size_t size)
{
    read_pci(ordinal, pci, (int)size);
}

static void info(const dpr_device_t *device, dpr_device_info_t *info)
{
    const dpr_cuda_device_t *self = dpr_cuda_device(device);
    int driver = 0;
    int runtime = 0;
    size_t total = 0;
    *info = (dpr_device_info_t){.numa_node = -1};
    snprintf(info->name, sizeof info->name, "%s", self->name);
    dpr_cuda_ignore(dpr_cuda_device_enter(device));
    if (cudaMemGetInfo(&info->memory_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        info->memory_bytes = 0;
    }
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    snprintf(info->driver, sizeof info->driver, "driver %d.%d, runtime %d.%d", driver / 1000,
             driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    read_pci(self->ordinal, info->pci, sizeof info->pci);
    info->numa_node = numa_node_of(info->pci);
}

static void range_begin(dpr_device_t *device, const char *name)
{
    (void)device;
    (void)nvtxRangePushA(name);
}

static void range_end(dpr_device_t *device)
{
    (void)device;
    (void)nvtxRangePop();
}

static void destroy(dpr_device_t *device)
{
    dpr_cuda_device_t *self = dpr_cuda_device(device);
    const int objects = self->stream_count + atomic_load(&self->events);
    if (objects > 0 || self->memory_now > 0) {
        dpr_log(DPR_LOG_WARNING,
                "cuda device %d destroyed with %d streams and events and %zu bytes of its memory "
                "left",
                self->ordinal, objects, self->memory_now);
    }
    dpr_cuda_ignore(dpr_cuda_device_enter(device));
    dpr_cuda_clock_close(self);
    dpr_cuda_ignore(DPR_CUDA(cudaStreamDestroy(self->own_stream)));
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->clock_lock);
    free(self);
}

const dpr_device_ops_t dpr_cuda_device_ops = {
    .kind = "cuda",
    .destroy = destroy,
    .info = info,
    .clock_rebase = dpr_cuda_clock_rebase,
    .wall_sec = dpr_cuda_wall_sec,
    .alloc = dpr_cuda_alloc,
    .free = dpr_cuda_free,
    .memory_on_host = false,
    .memory_usage = dpr_cuda_memory_usage,
    .stream_create = dpr_cuda_stream_create,
    .stream_destroy = dpr_cuda_stream_destroy,
    .stream_synchronize = dpr_cuda_stream_synchronize,
    .stream_wait_event = dpr_cuda_stream_wait_event,
    .stream_copy = dpr_cuda_stream_copy,
    .stream_fill = dpr_cuda_stream_fill,
    .stream_charge = dpr_cuda_stream_charge,
    .stream_host_op = dpr_cuda_stream_host_op,
    .host_op_complete = dpr_cuda_host_op_complete,
    .stream_enqueued = dpr_cuda_stream_enqueued,
    .range_begin = range_begin,
    .range_end = range_end,
    .recording_begin = dpr_cuda_recording_begin,
    .recording_end = dpr_cuda_recording_end,
    .recording_play = dpr_cuda_recording_play,
    .recording_destroy = dpr_cuda_recording_destroy,
    .event_create = dpr_cuda_event_create,
    .event_destroy = dpr_cuda_event_destroy,
    .event_record = dpr_cuda_event_record,
    .event_query = dpr_cuda_event_query,
    .event_synchronize = dpr_cuda_event_synchronize,
    .event_sec = dpr_cuda_event_sec,
};

static dpr_status_t check_request(int ordinal, dpr_clock_t clock)
{
    char reason[128];
    const int count = dpr_cuda_device_count(reason, sizeof reason);
    if (clock != DPR_CLOCK_WALL) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "a cuda device knows only the wall clock, not the %s clock; use the host "
                        "device for that",
                        dpr_clock_name(clock));
    }
    if (count == 0) {
        return dpr_fail(DPR_ERR_UNSUPPORTED, "no cuda device: %s; or use the host device", reason);
    }
    if (ordinal < 0 || ordinal >= count) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "no cuda device %d: fewer GPUs (%d) than ranks on this node; start at most "
                        "%d here, let ranks share one (--comm mpi), or use the host device",
                        ordinal, count, count);
    }
    return DPR_OK;
}

static dpr_status_t open_device(dpr_cuda_device_t *device)
{
    struct cudaDeviceProp properties;
    dpr_status_t status;
    DPR_TRY(dpr_cuda_device_enter(&device->base));
    DPR_TRY(DPR_CUDA(cudaGetDeviceProperties(&properties, device->ordinal)));
    snprintf(device->name, sizeof device->name, "%.127s", properties.name);
    DPR_TRY(DPR_CUDA(cudaStreamCreateWithFlags(&device->own_stream, cudaStreamNonBlocking)));
    DPR_TRY_GOTO(dpr_cuda_host_ops_find(device), destroy_stream);
    DPR_TRY_GOTO(dpr_cuda_clock_open(device), destroy_stream);
    return DPR_OK;

destroy_stream:
    dpr_cuda_ignore(DPR_CUDA(cudaStreamDestroy(device->own_stream)));
    return status;
}

dpr_status_t dpr_cuda_device_create(int ordinal, dpr_clock_t clock, dpr_device_t **device)
{
    dpr_status_t status;
    dpr_cuda_device_t *created;
    DPR_TRY(check_request(ordinal, clock));
    DPR_TRY(dpr_calloc(1, sizeof *created, &created));
    created->base = (dpr_device_t){.ops = &dpr_cuda_device_ops, .clock = clock};
    created->ordinal = ordinal;
    pthread_mutex_init(&created->lock, NULL); /* with default attributes these cannot fail */
    pthread_mutex_init(&created->clock_lock, NULL);
    DPR_TRY_GOTO(open_device(created), free_device);
    *device = &created->base;
    return DPR_OK;

free_device:
    pthread_mutex_destroy(&created->lock);
    pthread_mutex_destroy(&created->clock_lock);
    free(created);
    return status;
}
