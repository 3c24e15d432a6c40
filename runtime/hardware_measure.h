/*
 * Describes this machine by measuring it: `--hardware measure`. A device is one core, as in the
 * runtime on the host device, where a rank computes with one thread.
 */
#ifndef DPR_RUNTIME_HARDWARE_MEASURE_H
#define DPR_RUNTIME_HARDWARE_MEASURE_H

#include "models/hardware.h"
#include "runtime/hardware_file.h"

/*
 * Measures, about a second in all, on one core: the rate of an fp32 product of 1024 x 1024 x 1024
 * numbers through the host kernels; the memory bandwidth of a copy that no cache holds (bytes read
 * plus bytes written), and as node link the bytes of the same copy once; the time from enqueuing a
 * tiny operation to its end. Each figure is the median of several rounds. These are achieved rates,
 * so the fractions are 1. Memory is what is free, divided among the cores that this process may
 * use, which are the node's devices. Latencies and the network are assumptions.
 * Errors: DPR_ERR_MEMORY, DPR_ERR_SYSTEM, DPR_ERR_UNSUPPORTED (a BLAS that cannot be used).
 */
dpr_status_t dpr_hardware_measure(dpr_hardware_t *hardware);

/* What the figures of dpr_hardware_measure rest on, for dpr_hardware_write. */
extern const dpr_hardware_sources_t dpr_hardware_measured_sources;

#endif
