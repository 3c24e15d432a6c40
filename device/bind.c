/*
 * Binding the process near its device: to the cores of the memory node that the device hangs on, so
 * that pinned buffers and the threads that feed the device lie close to it.
 */
#include <errno.h>
#include <hwloc.h>
#include <string.h>

#include "base/log.h"
#include "device/device.h"

/* Binds to those of the node's cores that the process may use already; to none more. */
static dpr_status_t bind_to_node(hwloc_topology_t topology, hwloc_bitmap_t set, int node)
{
    const hwloc_obj_t near = hwloc_get_numanode_obj_by_os_index(topology, (unsigned)node);
    if (near == NULL || hwloc_get_cpubind(topology, set, HWLOC_CPUBIND_PROCESS) != 0) {
        return DPR_OK; /* a container shows less than the machine has */
    }
    hwloc_bitmap_and(set, set, near->cpuset);
    if (hwloc_bitmap_iszero(set)) {
        dpr_log(DPR_LOG_WARNING,
                "the device hangs on NUMA node %d, but this process is bound to others' cores; let "
                "the launcher bind ranks near their GPUs, or not at all",
                node);
        return DPR_OK;
    }
    if (hwloc_set_cpubind(topology, set, HWLOC_CPUBIND_PROCESS) != 0) {
        return dpr_fail(DPR_ERR_SYSTEM, "cannot bind the process to NUMA node %d: %s", node,
                        strerror(errno));
    }
    return DPR_OK;
}

dpr_status_t dpr_device_bind_near(const dpr_device_t *device)
{
    dpr_device_info_t info;
    hwloc_topology_t topology;
    dpr_status_t status;
    dpr_device_info(device, &info);
    if (info.numa_node < 0) {
        return DPR_OK;
    }
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL || hwloc_topology_init(&topology) != 0) {
        status = dpr_fail(DPR_ERR_MEMORY, "cannot describe this machine's cores");
        goto free_set;
    }
    if (hwloc_topology_load(topology) != 0) {
        status = dpr_fail(DPR_ERR_SYSTEM, "cannot read this machine's cores");
        goto destroy_topology;
    }
    status = bind_to_node(topology, set, info.numa_node);
destroy_topology:
    hwloc_topology_destroy(topology);
free_set:
    hwloc_bitmap_free(set);
    return status;
}
