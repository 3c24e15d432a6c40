/*
 * A machine and a model with round numbers, for tests that compute by hand.
 */
#ifndef DPR_TESTS_MACHINE_H
#define DPR_TESTS_MACHINE_H

#include "models/throughput.h"

/* Arithmetic at 1e9 a second (half of its peak), everything else as good as free. */
static inline dpr_hardware_t plain_machine(void)
{
    return (dpr_hardware_t){
        .name = "plain",
        .peak_flops_per_sec = {2e9, 0.0, 4e9},
        .flops_fraction = 0.5,
        .memory_bytes = 1e12,
        .memory_bandwidth_bytes_per_sec = 1e21,
        .memory_fraction = 1.0,
        .devices_per_node = 4,
        .node_link = {0.0, 1e21},
        .network_link = {0.0, 1e21},
        .link_fraction = 1.0,
    };
}

/* A machine on which everything costs something. */
static inline dpr_hardware_t real_machine(void)
{
    return (dpr_hardware_t){
        .name = "real",
        .peak_flops_per_sec = {67e12, 494.5e12, 989.5e12},
        .flops_fraction = 0.5,
        .memory_bytes = 80e9,
        .memory_bandwidth_bytes_per_sec = 3.35e12,
        .memory_fraction = 0.8,
        .op_overhead_sec = 2e-5,
        .devices_per_node = 4,
        .node_link = {5e-6, 450e9},
        .network_link = {1e-5, 50e9},
        .link_fraction = 0.8,
    };
}

static inline dpr_workload_t small_workload(void)
{
    return (dpr_workload_t){
        .parameters = 1200,
        .layers = 1.0,
        .hidden = 4,
        .sequence = 8,
        .precision = DPR_PRECISION_FP32,
        .state = DPR_STATE_ADAMW,
        .fb_factor = 1.0,
    };
}

static inline dpr_workload_t real_workload(void)
{
    return (dpr_workload_t){
        .parameters = 10000000,
        .hidden = 1024,
        .sequence = 512,
        .precision = DPR_PRECISION_BF16,
        .state = DPR_STATE_ADAMW,
        .fb_factor = 1.0,
    };
}

#endif
