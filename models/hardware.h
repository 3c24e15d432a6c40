/*
 * A machine as numbers, and the times that follow from them. Where the numbers come from, a data
 * sheet or a measurement, is the file's matter (runtime/hardware_file.h).
 *
 * An op takes as long as the slower of its arithmetic and its memory traffic, each at the part of
 * the peak that is assumed to be achieved (the roofline of Williams, Waterman and Patterson, CACM
 * 52(4), 2009), and a fixed overhead. A transfer takes latency + bytes / bandwidth.
 */
#ifndef DPR_MODELS_HARDWARE_H
#define DPR_MODELS_HARDWARE_H

#include <stdbool.h>

#include "base/status.h"

/* What matrix products are computed in; tf32 is kept in memory as fp32. */
typedef enum dpr_precision {
    DPR_PRECISION_FP32,
    DPR_PRECISION_TF32,
    DPR_PRECISION_BF16,
} dpr_precision_t;

enum { DPR_PRECISIONS = 3 };

typedef struct dpr_hardware_link {
    double latency_sec;
    double bandwidth_bytes_per_sec; /* one direction, peak */
} dpr_hardware_link_t;

typedef struct dpr_hardware {
    char name[64];
    double peak_flops_per_sec[DPR_PRECISIONS]; /* dense; 0: the machine does not have it */
    double flops_fraction;                     /* of the peaks that is achieved, 0 < .. <= 1 */
    double memory_bytes;
    double memory_bandwidth_bytes_per_sec;
    double memory_fraction;
    double op_overhead_sec; /* of every compute op, whatever its size */
    int devices_per_node;
    dpr_hardware_link_t node_link;    /* between devices of one node */
    dpr_hardware_link_t network_link; /* between nodes, for each device */
    double link_fraction;             /* of both bandwidths */
} dpr_hardware_t;

/* "fp32", "tf32", "bf16". Parsing errors: DPR_ERR_INVALID, logged with the choices. */
const char *dpr_precision_name(dpr_precision_t precision);
dpr_status_t dpr_precision_parse(const char *text, dpr_precision_t *precision);

/*
 * Every field within its range: rates 1 .. 1e21, memory 1 .. 1e18, latencies and overhead 0 .. 10,
 * fractions above 0 up to 1, devices a node 1 .. 4096, at least one precision. Errors:
 * DPR_ERR_INVALID, logged with the field and its range.
 */
dpr_status_t dpr_hardware_check(const dpr_hardware_t *hardware);

/* That it has a peak for this precision. Errors: DPR_ERR_UNSUPPORTED, logged with those it has. */
dpr_status_t dpr_hardware_has(const dpr_hardware_t *hardware, dpr_precision_t precision);

/* Seconds of an op, without its overhead: max(flops / rate, bytes / bandwidth). */
double dpr_hardware_work_sec(const dpr_hardware_t *hardware, dpr_precision_t precision,
                             double flops, double bytes);

/* Seconds of moving `bytes` over a link. */
double dpr_hardware_transfer_sec(const dpr_hardware_t *hardware, const dpr_hardware_link_t *link,
                                 double bytes);

/* The link between two devices, numbered so that devices_per_node follow each other on a node. */
const dpr_hardware_link_t *dpr_hardware_link_between(const dpr_hardware_t *hardware, int a, int b);

/*
 * Seconds of a ring all-reduce of `bytes` among `members`: 2 (n - 1) messages of bytes / n, one
 * after the other (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
 * workstations", JPDC 69(2), 2009). 0 for one member.
 */
double dpr_hardware_all_reduce_sec(const dpr_hardware_t *hardware, const dpr_hardware_link_t *link,
                                   int members, double bytes);

#endif
