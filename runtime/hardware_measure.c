/* Rates of one core, through the seams that the runtime itself computes with. */
#include "runtime/hardware_measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "kernels/kernels.h"

enum {
    PRODUCT_SIZE = 1024,
    PRODUCT_ROUNDS = 7,
    COPY_BYTES = 1 << 27, /* beyond any cache */
    COPY_ROUNDS = 7,
    TINY_BYTES = 64,
    TINY_ROUNDS = 201,
    ROUNDS_MAX = 256,
};

const dpr_hardware_sources_t dpr_hardware_measured_sources = {
    .measured = "measured on this machine, one core at work, by dualpipe_plan --hardware measure",
    .assumed = "assumption: measured rates are achieved ones (fractions 1); latencies and network "
               "are not measured",
    .comment = "A device is one core. Cores that work at the same time share memory bandwidth, so "
               "with all of them at work each has less.",
};

typedef struct rig {
    dpr_device_t *device;
    dpr_stream_t *stream;
    dpr_kernels_t *kernels;
    void *from;
    void *to;
} rig_t;

typedef dpr_status_t (*work_fn_t)(const rig_t *rig);

static dpr_status_t product(const rig_t *rig)
{
    float *x = rig->from;
    float *w = x + PRODUCT_SIZE * PRODUCT_SIZE;
    float *b = w + PRODUCT_SIZE * PRODUCT_SIZE;
    return rig->kernels->linear_forward(rig->kernels, rig->stream, PRODUCT_SIZE, PRODUCT_SIZE,
                                        PRODUCT_SIZE, x, w, b, DPR_EPILOGUE_NONE, NULL, rig->to);
}

static dpr_status_t copy(const rig_t *rig)
{
    return dpr_stream_copy(rig->stream, rig->to, rig->from, COPY_BYTES);
}

static dpr_status_t tiny(const rig_t *rig)
{
    return dpr_stream_fill(rig->stream, rig->to, 0, TINY_BYTES);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of `work`, enqueued and waited for; the first round warms up. */
static dpr_status_t time_median(const rig_t *rig, work_fn_t work, int rounds, double *sec)
{
    double times[ROUNDS_MAX];
    for (int i = -1; i < rounds; i++) {
        const double start = dpr_device_wall_sec(rig->device);
        DPR_TRY(work(rig));
        DPR_TRY(dpr_stream_synchronize(rig->stream));
        if (i >= 0) {
            times[i] = dpr_device_wall_sec(rig->device) - start;
        }
    }
    qsort(times, (size_t)rounds, sizeof times[0], compare_doubles);
    *sec = times[rounds / 2];
    return DPR_OK;
}

static dpr_status_t measure_rates(const rig_t *rig, dpr_hardware_t *hardware)
{
    double product_sec;
    double copy_sec;
    double tiny_sec;
    DPR_TRY(dpr_stream_fill(rig->stream, rig->from, 0, COPY_BYTES));
    DPR_TRY(time_median(rig, product, PRODUCT_ROUNDS, &product_sec));
    DPR_TRY(time_median(rig, copy, COPY_ROUNDS, &copy_sec));
    DPR_TRY(time_median(rig, tiny, TINY_ROUNDS, &tiny_sec));
    const double flops = 2.0 * PRODUCT_SIZE * PRODUCT_SIZE * PRODUCT_SIZE;
    hardware->peak_flops_per_sec[DPR_PRECISION_FP32] = flops / product_sec;
    hardware->memory_bandwidth_bytes_per_sec = 2.0 * COPY_BYTES / copy_sec;
    hardware->node_link.bandwidth_bytes_per_sec = COPY_BYTES / copy_sec;
    hardware->op_overhead_sec = tiny_sec;
    return DPR_OK;
}

/* Everything that is not a rate. */
static void describe(dpr_device_t *device, dpr_hardware_t *hardware)
{
    dpr_device_info_t info;
    dpr_device_info(device, &info);
    const int cores = info.cores > 0 ? info.cores : 1;
    const double page_bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    const double bytes = info.memory_bytes > 0 ? (double)info.memory_bytes : page_bytes;
    strcpy(hardware->name, "one core of this machine");
    hardware->flops_fraction = hardware->memory_fraction = hardware->link_fraction = 1.0;
    hardware->memory_bytes = bytes / cores;
    hardware->devices_per_node = cores < 4096 ? cores : 4096;
    hardware->node_link.latency_sec = 1e-6;
    hardware->network_link = (dpr_hardware_link_t){2e-6, 1.25e9}; /* 10 Gb/s */
}

static dpr_status_t set_up(rig_t *rig)
{
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    DPR_TRY(dpr_host_device_create(&options, &rig->device));
    DPR_TRY(dpr_host_kernels_create(&rig->kernels));
    DPR_TRY(dpr_stream_create(rig->device, "measure", 0, &rig->stream));
    DPR_TRY(dpr_device_alloc(rig->device, DPR_MEMORY_DEVICE, COPY_BYTES, &rig->from));
    return dpr_device_alloc(rig->device, DPR_MEMORY_DEVICE, COPY_BYTES, &rig->to);
}

static void tear_down(rig_t *rig)
{
    dpr_stream_destroy(rig->stream);
    if (rig->from != NULL) {
        dpr_device_free(rig->device, DPR_MEMORY_DEVICE, rig->from);
    }
    if (rig->to != NULL) {
        dpr_device_free(rig->device, DPR_MEMORY_DEVICE, rig->to);
    }
    dpr_kernels_destroy(rig->kernels);
    dpr_device_destroy(rig->device);
}

dpr_status_t dpr_hardware_measure(dpr_hardware_t *hardware)
{
    rig_t rig = {0};
    dpr_hardware_t measured = {0};
    dpr_status_t status = set_up(&rig);
    if (status == DPR_OK) {
        describe(rig.device, &measured);
        status = measure_rates(&rig, &measured);
    }
    tear_down(&rig);
    DPR_TRY(status);
    DPR_TRY(dpr_hardware_check(&measured));
    *hardware = measured;
    return DPR_OK;
}
